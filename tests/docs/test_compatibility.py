"""docs/compatibility.md: the versions of its table are those that are pinned."""

import re
from pathlib import Path

import pytest

from kuberay.part_values import REDIS_IMAGE
from kuberay.versions import PYTHON, RAY, TRITON, TRITON_WHEEL
from testing.schemas import SOURCE
from tests.kubernetes.programs import KUBERNETES

ROOT = Path(__file__).parents[2]
TABLE = dict(re.findall(r"^\| (\w[^|]*) \| ([^|]*\d[^|]*) \|", (ROOT / "docs" / "compatibility.md").read_text(), re.MULTILINE))
LOCKED = dict(re.findall(r"^([\w.-]+)==([\w.]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
(KUBERAY,) = re.findall(r"KubeRay ([\d.]+)", SOURCE)


PINNED = {
    "Python": (PYTHON,),
    "Ray": (RAY, LOCKED["ray"]),
    "KubeRay": (KUBERAY,),
    "Kubernetes": (KUBERNETES,),
    "Triton": (TRITON, TRITON_WHEEL),
    "torch": (LOCKED["torch"],),
    "openai-whisper": (LOCKED["openai-whisper"],),
    "diffusers": (LOCKED["diffusers"],),
    "CTranslate2": (LOCKED["ctranslate2"],),
    "FastAPI, uvicorn": (LOCKED["fastapi"], LOCKED["uvicorn"]),
    "Redis": re.findall(r":([\d.]+)-", REDIS_IMAGE),
    "CUDA and NVIDIA's driver": (),  # the nodes' own
}


@pytest.mark.parametrize("what", PINNED)
def test_a_version_of_the_table_is_the_pinned_one(what: str) -> None:
    for version in PINNED[what]:
        assert version in re.findall(r"[\d.]+\d", TABLE[what]), f"docs/compatibility.md: {what} is {version}"


def test_the_table_has_no_other_row() -> None:
    assert TABLE.keys() == PINNED.keys()
