"""The images without a GPU's libraries, built: their content, their user, and the layers that a new version rebuilds."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from images.requirements import models, requirements
from kuberay.manifest.objects import UID
from kuberay.versions import TRITON_WHEEL
from testing.buildah import Buildah, buildah
from testing.stand_ins import FOREIGN, FOREIGN_NUMPY

ROOT = Path(__file__).parents[2]
(LOCKED_NUMPY,) = re.findall(r"^numpy==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
NUMPY = "import numpy; print(numpy.__version__)"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Buildah]:
    """wheel, base, ingress, and the list of packages of a model's image: the whole image is 7 GB, and adds only these packages to base."""
    with buildah(tmp_path_factory.mktemp("buildah")) as images:
        images.make_stand_ins()
        images.build("wheel")
        images.build("base")
        images.build("ingress", VERSION="1", REVISION="one")
        images.build("model", stage="requirements", MODELS=" ".join(models()))
        yield images


@pytest.mark.parametrize("image", ["base", "ingress"])
def test_an_image_runs_as_the_user_that_the_manifests_name(built: Buildah, image: str) -> None:
    assert built.run(image, "id", "-u").strip() == str(UID)


def test_the_ingress_has_the_command_and_the_app(built: Buildah) -> None:
    assert "doctor" in built.run("ingress", "sonograph", "--help")
    program = "import importlib.util, graphs.voice_to_image; print(importlib.util.find_spec('torch'))"
    assert built.run("ingress", "python", "-c", program).strip() == "None"


def test_base_has_the_locked_numpy_though_the_external_image_puts_another_first(built: Buildah) -> None:
    assert built.run("base", "env", f"PYTHONPATH={FOREIGN}", "python", "-c", NUMPY).strip() == FOREIGN_NUMPY
    assert built.run("base", "python", "-c", NUMPY).strip() == LOCKED_NUMPY
    assert built.run("ingress", "python", "-c", NUMPY).strip() == LOCKED_NUMPY


def test_an_image_of_several_models_installs_the_packages_of_each_and_can_fetch_their_weights(built: Buildah) -> None:
    listed = built.run("model", "cat", "/requirements/requirements.txt").splitlines()
    assert listed == requirements(*models())
    hooks = built.run("model", "find", "/requirements/deployments", "-type", "f").split()
    assert set(hooks) == {f"/requirements/{path.relative_to(ROOT)}" for path in ROOT.glob("deployments/*/fetch_weights.sh")}


def test_base_has_tritons_package(built: Buildah) -> None:
    program = "import importlib.metadata; print(importlib.metadata.version('tritonserver'))"
    assert built.run("base", "python", "-c", program).strip() == TRITON_WHEEL


@pytest.mark.parametrize("image", ["base", "ingress"])
def test_no_layer_holds_files_that_only_the_build_needs(built: Buildah, image: str) -> None:
    folders = ("source", "wheel", "requirements", "tmp", "var/cache/uv", "root/.cache")
    left = [str(path) for layer in built.layers(image) for folder in folders for path in (layer / folder).glob("*")]
    assert left == [], "bind it into the RUN that needs it (--mount) instead of copying it, and let uv and pip keep no cache"


def test_the_ingress_holds_the_product_once(built: Buildah) -> None:
    places = [path for layer in built.layers("ingress") for path in layer.rglob("voice_to_image.py")]
    assert len(places) == 1, f"the RUN that installs the wheel has to use --no-cache: {places}"


def test_the_wheel_is_about_as_large_as_its_dockerfile_states(built: Buildah) -> None:
    (wheel,) = (path for layer in built.layers("wheel") for path in layer.glob("*.whl"))
    stated_mb = re.search(r"about (\d+) MB", (ROOT / "images" / "wheel.Dockerfile").read_text())
    size_mb = wheel.stat().st_size / 1e6
    assert stated_mb, "images/wheel.Dockerfile has to state how much a change of the code moves"
    assert abs(size_mb - int(stated_mb[1])) < 5, (
        f"a change of the code moves {size_mb:.0f} MB, and images/wheel.Dockerfile states {stated_mb[1]}"
    )


def test_an_image_is_labelled_with_its_version_and_revision(built: Buildah) -> None:
    labels = built.labels("ingress")
    assert (labels["org.opencontainers.image.version"], labels["org.opencontainers.image.revision"]) == ("1", "one")


def test_another_version_rebuilds_no_layer(built: Buildah) -> None:
    """Leave out the labels: buildah 1.28 takes a LABEL from its cache even with other arguments."""
    before = built.digests("ingress")
    built.build("ingress", VERSION="2", REVISION="two")
    assert built.digests("ingress") == before, "ARG VERSION and ARG REVISION belong below every RUN of images/ingress.Dockerfile"
