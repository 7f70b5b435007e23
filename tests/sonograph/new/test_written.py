"""Models and graphs by `sonograph new` in a copy of the repository: they pass its laws and their own tests, and a service runs them."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from testing.checkouts import checkout, serving
from testing.service import ROOT, Service

pytestmark = [pytest.mark.slow, pytest.mark.triton, pytest.mark.serve]
LONG = "z" * 30
MODELS = {"mirror": "image_to_image", "a": "speech_to_text", LONG: "text_to_image"}
"""Each model's role, by its name."""
GRAPH, LONG_GRAPH = "speech_to_words", f"v_to_{'z' * 25}"
SETTINGS = {"mirror": {"enabled": True}, "models": {role: name for name, role in MODELS.items() if name != "mirror"}}
TESTS = (
    *("tests/laws", "tests/kuberay/test_models.py", "tests/kuberay/test_manifests.py", "tests/images/test_dockerfiles.py"),
    *("tests/deployments/test_candidate.py", "tests/graphs/test_settings.py", "tests/graphs/http/test_metric_labels.py"),
    *("tests/sonograph/rightsize/test_results.py", "tests/sonograph/rollouts/test_serve_config.py"),
    *(f"tests/graphs/test_{name}.py" for name in (GRAPH, LONG_GRAPH)),
)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy with a model of each role and two graphs; the picture's model is a stage of the first graph, and all is rendered."""
    root = checkout(tmp_path_factory.mktemp("copy"), paths=())
    (root / ".venv").symlink_to(sys.prefix)
    git(root, "init", "--quiet")
    printed = "".join(run(root, "sonograph", "new", "model", name, "--role", role) for name, role in MODELS.items())
    for name in (GRAPH, LONG_GRAPH):
        run(root, "sonograph", "new", "graph", name)
    (declaration,) = re.findall(r"among the stages: (.+)$", printed, re.MULTILINE)
    (call,) = re.findall(r"in _draw: (.+)$", printed, re.MULTILINE)
    graph = root / "graphs" / "voice_to_image.py"
    text = graph.read_text()
    for line, new in {'.of("text_to_image")\n': f"    {declaration}\n", "compute_time.units\n": f"        {call}\n"}.items():
        assert text.count(line) == 1
        text = text.replace(line, line + new)
    graph.write_text(text)
    run(root, "sonograph", "render")
    git(root, "add", "--all")  # laws read the files that git knows
    return root


@pytest.fixture(scope="module")
def service(copy: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Run a service of nothing but new models, with the first graph and a new one."""
    graphs = ["voice_to_image", GRAPH]
    with serving(tmp_path_factory.mktemp("service"), copy, dict.fromkeys(MODELS, 0.5), graphs=graphs, **SETTINGS) as service:
        yield service


def run(root: Path, program: str, *words: str) -> str:
    """Run a program of this environment over the copy's code, and return what it prints."""
    command = [str(Path(sys.prefix) / "bin" / program), *words]
    variables = os.environ | {"PYTHONPATH": str(root)}
    done = subprocess.run(command, cwd=root, env=variables, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def git(root: Path, *words: str) -> None:
    subprocess.run(["git", *words], cwd=root, check=True)


def test_they_are_written_as_the_code_is_and_are_typed(copy: Path) -> None:
    new = [*(f"deployments/{name}" for name in MODELS), *(f"graphs/{name}.py" for name in (GRAPH, LONG_GRAPH))]
    run(copy, "ruff", "check")
    run(copy, "ruff", "format", "--check")
    run(copy, "mypy", "--follow-imports", "silent", "--exclude", "/repository/", *new)
    for name in MODELS:
        run(copy, "mypy", "--follow-imports", "silent", f"deployments/{name}/repository/{name}/1/model.py")


def test_they_pass_the_laws_and_the_tests_of_the_repository(copy: Path) -> None:
    assert " passed" in run(copy, "pytest", "--quick", "-q", "-p", "no:schemathesis", *TESTS)


def test_they_answer_in_a_real_triton(copy: Path) -> None:
    passed = run(copy, "pytest", "-q", "-p", "no:schemathesis", *(f"tests/deployments/{name}" for name in MODELS))
    assert not re.search("skipped|deselected", passed)


def test_the_tutorial_has_the_lines_and_the_settings_of_a_new_model_and_a_new_graph(copy: Path) -> None:
    tutorial = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    for line in re.findall(r"```python\n(.*)\n```", tutorial):
        assert f"\n{line}\n" in (copy / "graphs" / "voice_to_image.py").read_text()
    settings = [yaml.safe_load(block)["args"] for block in re.findall(r"```yaml\n(.*?)```", tutorial, re.DOTALL)]
    assert settings[-1]["graphs"][-1] == GRAPH
    assert settings[-1]["mirror"] == SETTINGS["mirror"]
    for args in settings:
        run(copy, "python", "-c", f"from graphs.settings import Settings; Settings(**{args})")


def test_manifests_with_the_new_models_have_no_error(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "values.yaml").write_text(yaml.safe_dump({"settings": SETTINGS}))
    run(copy, "sonograph", "render", "cpu", "--values", str(tmp_path / "values.yaml"), "--out", str(tmp_path))
    rendered = (tmp_path / "cpu" / "rayservice.yaml").read_text()
    assert all(f"groupName: {name}\n" in rendered for name in MODELS)
    assert "No errors" in run(copy, "sonograph", "doctor", str(tmp_path / "cpu"))


def test_a_service_answers_with_all_of_them(service: Service) -> None:
    recording = (ROOT / "graphs" / "samples" / "red-apple.wav").read_bytes()
    drawn = service.draw(recording, seed="1", width="32")
    assert re.fullmatch(r"\d\.\d seconds of sound", drawn["transcript"])
    assert drawn["models"] == {"a": "a", LONG: LONG, "mirror": "mirror"}
    assert (drawn["image"]["width"], drawn["image"]["height"]) == (32, 64)
    counted = service.client.post(f"/{GRAPH.replace('_', '-')}", files={"file": recording})
    assert counted.status_code == 200, counted.text
    assert (counted.json()["transcript"], counted.json()["words"]) == (drawn["transcript"], 4)
