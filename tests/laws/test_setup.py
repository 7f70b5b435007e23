"""Set-up: locks, the wheel, hooks and CI, and the Makefile's sentence about a missing tool."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
LOCKS = [ROOT / "requirements.lock", *ROOT.glob("images/*.lock"), *ROOT.glob("deployments/*/*.lock")]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_every_line_of_a_lock_is_one_version_with_hashes_and_no_address(lock: Path) -> None:
    lines = [line for line in lock.read_text().replace("\\\n", "").splitlines() if not line.startswith("#")]
    assert lines
    for line in lines:
        assert re.fullmatch(r"[\w.\[\],-]+==[\w.+]+( ; [^/]+?)?( +--hash=sha256:[0-9a-f]{64})+", line), line


def test_the_lock_holds_every_requirement_of_the_project_and_of_its_build() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["tool"]["setuptools"]["dynamic"]["optional-dependencies"]
    wanted = [*project["build-system"]["requires"], *project["project"]["dependencies"]]
    for extra in extras.values():
        for path in extra["file"]:
            wanted += [line for line in (ROOT / path).read_text().splitlines() if line.strip() and not line.startswith("#")]
    locked = set(re.findall(r"^([a-z0-9-]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    assert {normalised(requirement) for requirement in wanted} <= locked


def test_the_wheel_ships_the_small_pipeline_and_nothing_of_its_training(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for folder in ("graphs", "deployments", "sonograph", "training"):
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__", "small-stable-diffusion"))
    for file in ("pyproject.toml", "README.md", "LICENSE", "NOTICE", "tests/requirements.txt", "images/triton-requirements.txt"):
        (source / file).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / file, source / file)
    builtin = "deployments/diffusion/small-stable-diffusion"
    files = {
        "README.md",
        "model_index.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "tokenizer/merges.txt",
    }
    pipeline = {f"{builtin}/{file}" for file in files}
    for name in pipeline:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).touch()
    program = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"
    command = [sys.executable, "-c", program, tmp_path]
    wheel = subprocess.run(command, cwd=source, capture_output=True, text=True, check=True).stdout.split()[-1]
    shipped = set(zipfile.ZipFile(tmp_path / wheel).namelist())
    assert {name for name in shipped if name.startswith(builtin)} == pipeline
    page = {str(file.relative_to(ROOT)) for folder in ("http/static", "samples") for file in (ROOT / "graphs" / folder).iterdir()}
    assert "graphs/http/static/index.html" in page
    assert page <= shipped
    assert not {name for name in shipped if name.startswith("training")}
    for package in ("deployments", "graphs", "sonograph"):
        for path in (*ROOT.glob(f"{package}/**/*.py"), *ROOT.glob(f"{package}/**/*.tmpl")):
            assert str(path.relative_to(ROOT)) in shipped


def normalised(requirement: str) -> str:
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", requirement)[0]).lower()


@pytest.mark.parametrize(
    ("folder", "tools", "missing"),
    [
        ("checkout", ["uname", "git", "curl"], "Python 3.12"),
        ("checkout", ["uname", "git"], "curl"),
        ("checkout", ["uname", "curl"], "git"),
        ("check out", ["uname", "git", "curl"], "a folder without a space"),
    ],
)
def test_make_names_a_missing_part_in_one_sentence(tmp_path: Path, folder: str, tools: list[str], missing: str) -> None:
    for tool in tools:
        found = shutil.which(tool)
        if not found:
            pytest.skip(f"{tool} is not on this machine")
        (tmp_path / tool).symlink_to(found)
    for python in ("python3", "python3.12"):  # pyenv's shims exit like this
        (tmp_path / python).write_text("#!/bin/sh\nexit 127\n")
        (tmp_path / python).chmod(0o755)
    checkout = tmp_path / folder
    (checkout / "images").mkdir(parents=True)
    for path in ("Makefile", "images/uv-requirements.lock"):
        shutil.copy(ROOT / path, checkout / path)
    make = shutil.which("make")
    assert make
    environment = {"PATH": str(tmp_path), "HOME": str(tmp_path)}
    result = subprocess.run([make, ".venv/.done/environment"], cwd=checkout, env=environment, capture_output=True, text=True)
    assert result.returncode != 0
    assert re.fullmatch(rf"Makefile:\d+: \*\*\* Sonograph needs {missing}[^\n]*\.  Stop\.\n", result.stderr)
    assert not (checkout / ".venv").exists()


def test_help_names_the_targets_and_sets_nothing_up(tmp_path: Path) -> None:
    result = subprocess.run(["make", "-f", ROOT / "Makefile"], cwd=tmp_path, capture_output=True, text=True, check=True)
    (phony,) = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for target in set(phony.split()) - {"help", "moved"}:
        assert f"make {target} " in result.stdout
    assert not os.listdir(tmp_path)


def test_the_hooks_before_a_commit_run_what_make_lint_runs() -> None:
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local"
    assert {hook["language"] for hook in repository["hooks"]} == {"system"}, "the versions of requirements.lock"
    entries = [hook["entry"].removesuffix(" --force-exclude") for hook in repository["hooks"]]
    (recipe,) = re.findall(r"^lint: setup\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    linted = [f".venv/bin/python {line}" for line in re.findall(r"@\$\(PYTHON\) (-m ruff .*) \.$", recipe, re.MULTILINE)]
    assert entries == [*linted, "make types"]


def test_ci_runs_the_script_and_may_only_read() -> None:
    text = (ROOT / ".github" / "workflows" / "ci.yaml").read_text()
    workflow = yaml.safe_load(text)
    assert workflow["permissions"] == {"contents": "read"}
    assert "secrets." not in text
    (job,) = workflow["jobs"].values()
    assert "permissions" not in job
    assert [step["run"] for step in job["steps"] if "run" in step][-1] == ".ci/run"
    assert all(re.fullmatch(r"actions/[a-z-]+@v\d+", step["uses"]) for step in job["steps"] if "uses" in step)
