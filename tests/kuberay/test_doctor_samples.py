"""RayServices of others: the doctor judges each without a crash, and names nothing wrong that their authors would dispute."""

import os
from pathlib import Path

import pytest

from kuberay.doctor.examine import examine
from kuberay.doctor.finding import ERROR

pytestmark = pytest.mark.slow

SAMPLES = sorted((Path(__file__).parent / "samples").glob("*.yaml"))
KUBERAY = "github.com/ray-project/kuberay/ray-operator@v1.6.0/config/samples"


def of_kuberay() -> list[Path]:
    """KubeRay's own samples, where Go's module cache has them."""
    cache = Path(os.environ.get("GOMODCACHE", Path.home() / "go/pkg/mod"))
    return sorted((cache / KUBERAY).glob("ray-service*.yaml"))


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda one: one.stem)
def test_a_ray_service_of_others_has_no_error(sample: Path) -> None:
    found = examine([sample])
    wrong = [str(one) for one in found if one.severity is ERROR or one.number == "SG003"]
    assert wrong == []


def test_there_are_ten_samples() -> None:
    assert len(SAMPLES) >= 10


def test_kuberays_own_samples_have_no_error() -> None:
    samples = of_kuberay()
    if not samples:
        pytest.skip("Go's module cache has no KubeRay: tests/kubernetes downloads it")
    found = [finding for sample in samples for finding in examine([sample])]
    assert [str(one) for one in found if one.severity is ERROR or one.number == "SG003"] == []
