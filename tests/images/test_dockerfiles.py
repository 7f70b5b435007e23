"""The Dockerfiles and the bake file, as text: copied files exist, pinned versions agree, and only needed files ship."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from deployments.model_spec import specs
from images.requirements import images, models, requirements
from kuberay.manifest.objects import UID
from kuberay.profiles import PROFILES
from kuberay.versions import PYTHON, RAY, TAG, TRITON, TRITON_WHEEL

ROOT = Path(__file__).parents[2]
DOCKERFILES = sorted((ROOT / "images").glob("*.Dockerfile"))
POD_IMAGES = {group.name for profile in PROFILES.values() for group in profile.groups}
BUILT = ["base", "ingress", "model"]
"""The Dockerfiles of images that run."""
BAKE = (ROOT / "images" / "docker-bake.hcl").read_text()
TARGETS = dict(re.findall(r'^target "(\w+)" \{\n(.*?)^\}', BAKE, re.MULTILINE | re.DOTALL))
BIN = Path(sys.prefix) / "bin"


def instructions(dockerfile: Path, name: str) -> list[str]:
    """The arguments of each instruction of this name."""
    return [arguments for word, arguments in lines(dockerfile) if word == name]


def lines(dockerfile: Path) -> list[tuple[str, str]]:
    """Each instruction's name and arguments."""
    text = dockerfile.read_text().replace("\\\n", " ")
    return [(word, arguments) for word, arguments in re.findall(r"^([A-Z]+) +(.*)$", text, re.MULTILINE)]


def shipped(name: str) -> list[tuple[str, str]]:
    """The instructions of the last stage, which makes the image."""
    found = lines(dockerfile(name))
    return found[max(at for at, (word, _) in enumerate(found) if word == "FROM") :]


def dockerfile(name: str) -> Path:
    return ROOT / "images" / f"{name}.Dockerfile"


def test_every_model_has_an_extra_and_an_image() -> None:
    remedy = "pyproject.toml has to name deployments/<model>/requirements.txt as an extra of the model's name"
    in_triton = {name for name, spec in specs().items() if spec.in_triton}
    assert set(models()) == in_triton, remedy
    assert set(images()) >= POD_IMAGES
    assert set(images()["all"]) == in_triton


def test_an_image_of_a_model_that_does_not_exist_is_refused() -> None:
    with pytest.raises(SystemExit, match="no extra of a model named wisper, only "):
        requirements("wisper")


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_hadolint_reports_nothing(path: Path) -> None:
    hadolint = BIN / "hadolint"
    if not hadolint.exists():
        pytest.skip("hadolint is not in this environment")
    result = subprocess.run([hadolint, path], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, "")


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_copied_files_exist_and_are_in_the_builds_context(path: Path) -> None:
    for copied in instructions(path, "COPY"):
        if copied.startswith("--from="):
            continue
        *sources, _ = copied.split()
        for source in sources:
            assert (ROOT / source).exists(), f"{path.name} copies {source}"
            assert in_context(source), f"{source} is not in the build's context"


def in_context(source: str) -> bool:
    """True if .dockerignore, which excludes everything else, lists the path or a folder above it."""
    kept = {line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    path = Path(source)
    return bool({str(one) for one in (path, *path.parents)} & kept)


def test_the_builds_context_excludes_files_that_no_image_needs() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in lines
    for path in (".git", ".venv", "testing/speech", "benchmarks"):
        assert not in_context(path)


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_an_external_base_image_is_one_digest(path: Path) -> None:
    for source in instructions(path, "FROM"):
        image = source.split()[0]
        assert image in ("scratch", "${BASE}") or re.fullmatch(r"\S+:\S+@\$\{[A-Z]+_DIGEST\}", image), image


def test_what_an_image_fetches_from_the_hub_is_a_commit() -> None:
    scripts = [*DOCKERFILES, *ROOT.glob("deployments/*/fetch_weights.sh"), *ROOT.glob("images/*.py")]
    commands = [line for path in scripts for line in path.read_text().replace("\\\n", " ").splitlines()]
    fetched = [line for line in commands if re.search(r"hf download|from_pretrained|snapshot_download", line)]
    assert fetched
    for line in fetched:
        assert re.search(r"--revision |revision=", line), f"name a commit, since what a branch holds can change: {line}"


@pytest.mark.parametrize("image", BUILT)
def test_an_image_ends_as_the_user_that_the_manifests_name(image: str) -> None:
    assert instructions(dockerfile(image), "USER")[-1] == f"{UID}:{UID}"


@pytest.mark.parametrize("image", ["ingress", "model"])
def test_an_image_is_labelled(image: str) -> None:
    (labels,) = instructions(dockerfile(image), "LABEL")
    for label in ("title", "description", "licenses", "version", "revision"):
        assert f"org.opencontainers.image.{label}=" in labels


@pytest.mark.parametrize("image", ["base", "ingress"])
def test_an_image_has_the_programs_that_kuberay_calls(image: str) -> None:
    installed = " ".join(instructions(dockerfile(image), "RUN"))
    assert {"bash", "wget"} <= set(installed.split())
    assert "/opt/sonograph/bin/ray /opt/sonograph/bin/serve /opt/sonograph/bin/sonograph /usr/local/bin/" in installed


def test_versions_are_those_of_the_locks() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert f"\nray=={RAY} " in lock
    assert f"ray[serve]=={RAY}" in (ROOT / "pyproject.toml").read_text()
    assert f"tritonserver=={TRITON_WHEEL} " in (ROOT / "images" / "triton.lock").read_text()
    assert f"tritonserver:{TRITON}-py3@" in instructions(dockerfile("base"), "FROM")[-1]
    assert f"TRITON_WHEEL={TRITON_WHEEL}" in instructions(dockerfile("base"), "ARG")
    for image in ("base", "ingress"):
        assert f"PYTHON_VERSION={PYTHON}" in instructions(dockerfile(image), "ARG")
    assert PYTHON.startswith("3.12.")


def test_the_bake_file_builds_every_image_with_zstd_layers() -> None:
    assert 'variable "TAG" { default = "' + TAG + '" }' in BAKE  # `sonograph render` writes it
    assert "compression=zstd,force-compression=true,oci-mediatypes=true" in BAKE
    pod_images = set(images()) - {"base"}
    assert set(TARGETS) == pod_images | {"base", "wheel", "common"}
    for image in pod_images:
        assert 'inherits   = ["common"]' in TARGETS[image]
        assert f'dockerfile = "images/{"ingress" if image == "ingress" else "model"}.Dockerfile"' in TARGETS[image]
        assert f'"${{REGISTRY}}/{image}:${{TAG}}"' in TARGETS[image]
        if image != "ingress":
            (named,) = re.findall(r'MODELS = "([^"]*)"', TARGETS[image])
            assert set(named.split()) == set(images()[image])
    (default,) = re.findall(r'group "default" \{ targets = \[(.*)\] \}', BAKE)
    assert set(re.findall(r"\w+", default)) == pod_images
    arguments = {argument for path in DOCKERFILES for argument in instructions(path, "ARG")}
    needed = {argument.split("=")[0] for argument in arguments if "=" not in argument or "_DIGEST=" in argument}
    assert needed <= set(re.findall(r"\b([A-Z_]+) += [\"A-Z_]+", BAKE)), (
        "the bake file has to set an argument without a usable default"
    )


@pytest.mark.parametrize("image", BUILT)
def test_an_image_installs_its_own_packages_by_the_lock(image: str) -> None:
    assert "--constraints /source/requirements.lock" in packages_run(image)
    if image == "model":
        assert any(
            "requirements.py ${MODELS} > /requirements/requirements.txt" in run for run in instructions(dockerfile(image), "RUN")
        )
    else:
        assert "requirements.py | uv pip" in re.sub(" +", " ", packages_run(image))
        assert "graphs/requirements.txt /graphs/" in instructions(dockerfile(image), "COPY")


def packages_run(image: str) -> str:
    (install,) = (
        run for run in instructions(dockerfile(image), "RUN") if " -r /dev/stdin " in run or "requirements.txt --con" in run
    )
    return install


def test_the_packages_of_a_model_are_installed_from_a_stage_that_a_change_of_the_code_leaves_unchanged() -> None:
    """A RUN that bound deployments/ itself would install gigabytes again after each change of the code."""
    bound = [run for word, run in shipped("model") if word == "RUN" and "--mount=type=bind" in run]
    assert bound
    for run in bound:
        assert re.search(r"--mount=type=bind,from=(requirements|wheel),", run), run


@pytest.mark.parametrize("image", ["base", "ingress"])
def test_no_folder_outside_the_environment_gives_python_packages(image: str) -> None:
    variables = dict(word.split("=", 1) for words in instructions(dockerfile(image), "ENV") for word in words.split())
    remedy = f'{image}.Dockerfile has to set ENV PYTHONPATH="" PYTHONNOUSERSITE=1: NVIDIA\'s PYTHONPATH leads to another numpy'
    assert (variables.get("PYTHONPATH"), variables.get("PYTHONNOUSERSITE")) == ('""', "1"), remedy


@pytest.mark.parametrize("image", BUILT)
def test_a_build_fails_where_python_would_load_other_versions_than_the_locked(image: str) -> None:
    remedy = f"the RUN of {image}.Dockerfile that installs packages has to end with check_versions.py"
    assert packages_run(image).endswith("&& python /source/images/check_versions.py"), remedy


@pytest.mark.slow
@pytest.mark.parametrize("metadata", [False, True], ids=["code", "metadata"])
def test_another_version_earlier_on_pythons_path_is_found(metadata: bool, tmp_path: Path) -> None:
    name = "packaging" if metadata else "numpy"
    folder = tmp_path / ("packaging-0.1.dist-info" if metadata else "numpy")
    folder.mkdir()
    file, text = ("METADATA", "Name: packaging\nVersion: 0.1\n") if metadata else ("__init__.py", '__version__ = "0.1"\n')
    (folder / file).write_text(text)

    def check(path: str) -> subprocess.CompletedProcess[str]:
        script = ROOT / "images" / "check_versions.py"
        return subprocess.run([sys.executable, script], env={"PYTHONPATH": path}, capture_output=True, text=True, timeout=60)

    assert (check("").returncode, check("").stderr) == (0, "")
    found = check(str(tmp_path))
    assert found.returncode == 1
    assert f"{name} is 0.1 in {tmp_path}" in found.stderr


@pytest.mark.parametrize("image", BUILT)
def test_arguments_of_every_build_stand_below_every_run(image: str) -> None:
    words = [word for word, _ in shipped(image)]
    last_run = max(at for at, word in enumerate(words) if word in ("RUN", "COPY"))
    above = [f"{word} {rest}" for word, rest in shipped(image)[:last_run] if word == "LABEL" or rest in ("VERSION", "REVISION")]
    assert above == [], f"move it to the end of {image}.Dockerfile: another value rebuilds every layer below it"


@pytest.mark.parametrize("image", BUILT)
def test_an_image_ships_no_file_that_only_its_build_needs(image: str) -> None:
    copied = [rest for word, rest in shipped(image) if word in ("COPY", "ADD")]
    assert copied == [], (
        "a stage copies it, and RUN --mount=type=bind,from=STAGE reads it: a file copied here ships, even if removed"
    )


@pytest.mark.parametrize("image", BUILT)
def test_no_cache_of_an_installer_ships(image: str) -> None:
    for run in instructions(dockerfile(image), "RUN"):
        if "uv pip" in run:
            kept = "type=cache,target=/var/cache/uv " in run or all("--no-cache " in one for one in run.split("uv pip")[1:])
            assert kept, f"uv's cache would ship, with a second copy of these packages; use --no-cache: {run}"
        elif "pip install" in run:
            assert "--no-cache-dir" in run, f"pip's cache would ship; use --no-cache-dir: {run}"


@pytest.mark.parametrize("image", ["ingress", "model"])
def test_the_product_is_installed_without_a_cache_that_could_hold_an_older_one(image: str) -> None:
    last = instructions(dockerfile(image), "RUN")[-1]
    assert "/wheel/*.whl" in last, "the product is the last layer: a change of the code moves it alone"
    assert "--no-cache " in last, "use --no-cache"
    assert "type=cache" not in last, "a cache can serve an older wheel of the same version"


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_a_dockerfile_names_valid_images_even_without_arguments(path: Path) -> None:
    defaults = dict(argument.split("=", 1) for argument in instructions(path, "ARG") if "=" in argument)
    for source in instructions(path, "FROM"):
        image = re.sub(r"\$\{(\w+)\}", lambda name: defaults.get(name[1], ""), source.split()[0])
        assert re.fullmatch(r"[\w./-]+(:[\w.-]+@sha256:[0-9a-f]{64})?", image), f"BuildKit warns: {source} is {image} by default"


def test_the_bake_file_builds_for_the_platform_of_tritons_package() -> None:
    for image in ("base", "wheel", "common"):
        assert 'platforms  = ["linux/amd64"]' in re.sub(" +=", "  =", TARGETS[image]), (
            f"target {image} builds for the machine it runs on"
        )


def test_the_installation_sets_the_variables_of_the_bake_file_without_a_usable_default() -> None:
    page = (ROOT / "docs" / "kubernetes" / "index.md").read_text(encoding="utf-8")
    (commands,) = (block for block in re.findall(r"```console\n(.*?)```", page, re.DOTALL) if "docker buildx bake" in block)
    for variable in ("REGISTRY", "TRITON_DIGEST", "UBUNTU_DIGEST", "REVISION"):
        assert f'variable "{variable}"' in BAKE
        assert f" {variable}=" in commands, f"Install in docs/kubernetes/index.md has to export {variable}"
