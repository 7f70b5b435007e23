"""The Dockerfiles and the bake file, as text: what they copy exists, what they pin agrees, and what ships is what is needed."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from images.requirements import EXTRAS
from kuberay.manifest.rayservice import UID
from kuberay.profiles import PROFILES, PYTHON, RAY, TAG, TRITON, TRITON_WHEEL

ROOT = Path(__file__).parents[2]
DOCKERFILES = sorted((ROOT / "images").glob("*.Dockerfile"))
POD_IMAGES = {group.name for profile in PROFILES.values() for group in profile.groups}
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


def shipped(image: str) -> list[tuple[str, str]]:
    """The instructions of the last stage, which is what an image is."""
    found = lines(dockerfile(image))
    return found[max(at for at, (word, _) in enumerate(found) if word == "FROM") :]


def dockerfile(image: str) -> Path:
    return ROOT / "images" / f"{image}.Dockerfile"


def test_there_is_an_image_for_every_group_of_every_profile() -> None:
    assert {path.stem for path in DOCKERFILES} == POD_IMAGES | {"base", "wheel"}
    assert set(EXTRAS) == POD_IMAGES | {"base"}


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_hadolint_has_nothing_to_say(path: Path) -> None:
    hadolint = BIN / "hadolint"
    if not hadolint.exists():
        pytest.skip("hadolint is not in this environment")
    result = subprocess.run([hadolint, path], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, "")


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_what_an_image_copies_is_there_and_in_the_builds_context(path: Path) -> None:
    for copied in instructions(path, "COPY"):
        if copied.startswith("--from="):
            continue
        *sources, _ = copied.split()
        for source in sources:
            assert (ROOT / source).exists(), f"{path.name} copies {source}"
            assert in_context(source), f"{source} is not in the build's context"


def in_context(source: str) -> bool:
    """Whether .dockerignore, which leaves out all but what it lists, lists the path or a folder above it."""
    kept = {line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    path = Path(source)
    return bool({str(one) for one in (path, *path.parents)} & kept)


def test_the_builds_context_leaves_out_what_is_no_part_of_an_image() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in lines
    for path in (".git", ".venv", "testing/speech", "benchmarks"):
        assert not in_context(path)


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_a_foreign_base_is_one_digest(path: Path) -> None:
    for source in instructions(path, "FROM"):
        image = source.split()[0]
        assert image in ("scratch", "${BASE}") or re.fullmatch(r"\S+:\S+@\$\{[A-Z]+_DIGEST\}", image), image


@pytest.mark.parametrize("image", sorted(POD_IMAGES | {"base"}))
def test_an_image_ends_as_the_user_that_the_manifests_name(image: str) -> None:
    assert instructions(dockerfile(image), "USER")[-1] == f"{UID}:{UID}"


@pytest.mark.parametrize("image", sorted(POD_IMAGES))
def test_an_image_says_what_it_is(image: str) -> None:
    (labels,) = instructions(dockerfile(image), "LABEL")
    for label in ("title", "description", "licenses", "version", "revision"):
        assert f"org.opencontainers.image.{label}=" in labels


@pytest.mark.parametrize("image", ["base", "ingress"])
def test_an_image_has_what_kuberay_calls_in_it(image: str) -> None:
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
    assert 'variable "TAG" { default = "' + TAG + '" }' in BAKE
    assert "compression=zstd,force-compression=true,oci-mediatypes=true" in BAKE
    assert set(TARGETS) == {path.stem for path in DOCKERFILES} | {"common"}
    for image in POD_IMAGES:
        assert 'inherits   = ["common"]' in TARGETS[image]
        assert f'dockerfile = "images/{image}.Dockerfile"' in TARGETS[image]
        assert f'"${{REGISTRY}}/{image}:${{TAG}}"' in TARGETS[image]
    (default,) = re.findall(r'group "default" \{ targets = \[(.*)\] \}', BAKE)
    assert set(re.findall(r"\w+", default)) == POD_IMAGES
    arguments = {argument for path in DOCKERFILES for argument in instructions(path, "ARG")}
    given = {argument.split("=")[0] for argument in arguments if "=" not in argument or "_DIGEST=" in argument}
    assert given <= set(re.findall(r"\b([A-Z_]+) += [A-Z_]+", BAKE)), "the bake file has to give a value that no default can be"


@pytest.mark.parametrize("image", EXTRAS)
def test_an_image_installs_its_own_packages_by_the_lock(image: str) -> None:
    install = packages_run(image)
    assert f"requirements.py {image} " in install
    assert "--constraints /source/requirements.lock" in install
    copied = instructions(dockerfile(image), "COPY")
    for extra in EXTRAS[image]:
        folder = "graphs" if extra == "ingress" else f"deployments/{extra}"
        assert f"{folder}/requirements.txt /{folder}/" in copied


def packages_run(image: str) -> str:
    (install,) = (run for run in instructions(dockerfile(image), "RUN") if "-r /dev/stdin" in run)
    return install


@pytest.mark.parametrize("image", ["base", "ingress"])
def test_no_folder_outside_the_environment_gives_python_packages(image: str) -> None:
    variables = dict(word.split("=", 1) for words in instructions(dockerfile(image), "ENV") for word in words.split())
    remedy = f'{image}.Dockerfile has to say ENV PYTHONPATH="" PYTHONNOUSERSITE=1: NVIDIA\'s PYTHONPATH leads to another numpy'
    assert (variables.get("PYTHONPATH"), variables.get("PYTHONNOUSERSITE")) == ('""', "1"), remedy


@pytest.mark.parametrize("image", EXTRAS)
def test_a_build_ends_where_python_would_load_other_versions_than_the_locked(image: str) -> None:
    remedy = f"the RUN of {image}.Dockerfile that installs packages has to end with check_versions.py"
    assert packages_run(image).endswith("&& python /source/images/check_versions.py"), remedy


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


@pytest.mark.parametrize("image", sorted(POD_IMAGES | {"base"}))
def test_what_changes_with_every_build_stands_below_all_that_is_run(image: str) -> None:
    words = [word for word, _ in shipped(image)]
    last_run = max(at for at, word in enumerate(words) if word in ("RUN", "COPY"))
    above = [f"{word} {rest}" for word, rest in shipped(image)[:last_run] if word == "LABEL" or rest in ("VERSION", "REVISION")]
    assert above == [], f"move it to the end of {image}.Dockerfile: another value makes every layer below it anew"


@pytest.mark.parametrize("image", sorted(POD_IMAGES | {"base"}))
def test_an_image_ships_no_file_that_only_its_build_needs(image: str) -> None:
    copied = [rest for word, rest in shipped(image) if word in ("COPY", "ADD")]
    assert copied == [], (
        "a stage copies it, and RUN --mount=type=bind,from=STAGE reads it: a file copied here ships, even if removed"
    )


@pytest.mark.parametrize("image", sorted(POD_IMAGES | {"base"}))
def test_no_cache_of_an_installer_ships(image: str) -> None:
    for run in instructions(dockerfile(image), "RUN"):
        if "uv pip" in run:
            kept = "type=cache,target=/var/cache/uv " in run or all("--no-cache " in one for one in run.split("uv pip")[1:])
            assert kept, f"uv's cache would ship, with a second copy of what this installs; say --no-cache: {run}"
        elif "pip install" in run:
            assert "--no-cache-dir" in run, f"pip's cache would ship; say --no-cache-dir: {run}"


@pytest.mark.parametrize("image", sorted(POD_IMAGES))
def test_the_product_is_installed_without_a_cache_that_could_hold_an_older_one(image: str) -> None:
    last = instructions(dockerfile(image), "RUN")[-1]
    assert "/wheel/*.whl" in last, "the product is the last layer: a change of the code moves it alone"
    assert "--no-cache " in last, "say --no-cache"
    assert "type=cache" not in last, "a cache can serve an older wheel of the same version"


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_a_dockerfile_names_valid_images_even_without_arguments(path: Path) -> None:
    defaults = dict(argument.split("=", 1) for argument in instructions(path, "ARG") if "=" in argument)
    for source in instructions(path, "FROM"):
        image = re.sub(r"\$\{(\w+)\}", lambda name: defaults.get(name[1], ""), source.split()[0])
        assert re.fullmatch(r"[\w./-]+(:[\w.-]+@sha256:[0-9a-f]{64})?", image), f"BuildKit warns: {source} is {image} by default"


def test_the_bake_file_builds_for_the_platform_of_tritons_package() -> None:
    for image in {path.stem for path in DOCKERFILES} - POD_IMAGES | {"common"}:
        assert 'platforms  = ["linux/amd64"]' in re.sub(" +=", "  =", TARGETS[image]), (
            f"target {image} builds for the machine it runs on"
        )


def test_the_readme_gives_the_bake_file_what_it_has_no_default_for() -> None:
    readme = (ROOT / "kuberay" / "README.md").read_text(encoding="utf-8")
    (commands,) = (block for block in re.findall(r"```console\n(.*?)```", readme, re.DOTALL) if "docker buildx bake" in block)
    for variable in ("REGISTRY", "TRITON_DIGEST", "UBUNTU_DIGEST", "REVISION"):
        assert f'variable "{variable}"' in BAKE
        assert f" {variable}=" in commands, f"Install in kuberay/README.md has to export {variable}"
