"""The examples of docs/examples: each applies to this code, costs as many lines as the documents say, and works."""

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from testing.checkouts import EXAMPLES, checkout, serving
from testing.service import ROOT, Service, environment

RECORDING = (ROOT / "graphs" / "samples" / "red-apple.wav").read_bytes()

TWO_SEEDS = """
import asyncio, json
from testing.fakes import FakeService

async def main():
    service = FakeService()
    async with service.client() as client:
        answer = await client.post("/graph", files={"file": b"sound"}, data={"seed": "6"}, headers={"Accept": "application/json"})
        print(json.dumps([answer.status_code, answer.json(), sorted(request.seed for request, _ in service.diffusion.calls)]))

asyncio.run(main())
"""

CACHED = """
import asyncio, json
from testing.fakes import FakeService

async def main():
    service = FakeService()
    async with service.client() as client:
        answers = [await client.post("/graph", files={"file": b"sound"}, data={"seed": seed}) for seed in ("6", "6", "7")]
        print(json.dumps([[answer.status_code for answer in answers], [request.seed for request, _ in service.diffusion.calls]]))

asyncio.run(main())
"""


def lines(example: str) -> dict[str, tuple[int, int]]:
    """Return the lines that an example adds and removes, by file."""
    numbers = subprocess.run(
        ["git", "apply", "--numstat", str(EXAMPLES / f"{example}.patch")], cwd=ROOT, capture_output=True, text=True, check=True
    )
    rows = [line.split("\t") for line in numbers.stdout.splitlines()]
    return {name: (int(added), int(removed)) for added, removed, name in rows}


def test_a_third_model_is_its_folder_and_three_lines(tmp_path: Path) -> None:
    elsewhere = {name: count for name, count in lines("upscale").items() if not name.startswith("deployments/upscale/")}
    assert elsewhere == {"graphs/voice_to_image.py": (2, 0), "pyproject.toml": (1, 0)}
    folder = checkout(tmp_path, "upscale") / "deployments" / "upscale"
    beside = [path for path in folder.rglob("*") if path.is_file() and path.name not in ("engine.py", "README.md")]
    assert sum(bool(line.strip()) for path in beside for line in path.read_text().splitlines()) <= 100


def test_a_second_graph_is_a_file_of_at_most_fifty_lines() -> None:
    assert list(lines("words")) == ["graphs/voice_to_words.py"]
    assert lines("words")["graphs/voice_to_words.py"][0] <= 50


def test_two_seeds_at_once_take_ten_lines() -> None:
    assert lines("two-seeds") == {"graphs/voice_to_image.py": (10, 3)}


def test_a_policy_is_a_file_and_two_lines() -> None:
    assert lines("cache") == {"graphs/core/policies/cache.py": (23, 0), "graphs/voice_to_image.py": (2, 0)}


def test_a_stub_is_one_file() -> None:
    assert list(lines("parrot")) == ["deployments/parrot/spec.py"]


@pytest.mark.parametrize("example", sorted(path.stem for path in EXAMPLES.glob("*.patch")))
def test_an_example_is_written_as_the_code_is(example: str, tmp_path: Path) -> None:
    changed = [name for name in lines(example) if name.endswith(".py")]
    folder = checkout(tmp_path, example)
    for command in (["check"], ["format", "--check"]):
        ruff = subprocess.run([sys.executable, "-m", "ruff", *command, *changed], cwd=folder, capture_output=True, text=True)
        assert ruff.returncode == 0, ruff.stdout


@pytest.mark.slow
def test_two_seeds_are_drawn_at_once_and_answered_together(tmp_path: Path) -> None:
    folder = checkout(tmp_path, "two-seeds")
    command = [sys.executable, "-c", TWO_SEEDS]
    done = subprocess.run(
        command, cwd=folder, env=environment() | {"PYTHONPATH": str(folder)}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    status, answer, seeds = json.loads(done.stdout.splitlines()[-1])
    assert (status, seeds) == (200, [6, 7])
    assert answer["second"]


@pytest.mark.slow
def test_a_cached_picture_is_drawn_once(tmp_path: Path) -> None:
    folder = checkout(tmp_path, "cache")
    done = subprocess.run(
        [sys.executable, "-c", CACHED],
        cwd=folder,
        env=environment() | {"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [[200, 200, 200], [6, 7]]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Run a service of the checkout with three examples: a stub that hears, the real painter, the upscaler, and two graphs."""
    folder = tmp_path_factory.mktemp("examples")
    settings: dict[str, Any] = {
        "graphs": ["voice_to_image", "voice_to_words"],
        "models": {"speech_to_text": "parrot"},
        "parrot": {"text": "a blue boat"},
        "upscale": {"enabled": True, "factor": 4},
    }
    copy = checkout(folder / "checkout", "upscale", "words", "parrot")
    with serving(folder, copy, {"parrot": 0, "diffusion": 1, "upscale": 1}, **settings) as service:
        yield service


@pytest.mark.serve
def test_the_upscaler_enlarges_the_picture_of_the_graph(service: Service) -> None:
    answer = service.post(RECORDING, accept="image/png", seed="1")
    assert answer.status_code == 200, answer.text
    assert Image.open(io.BytesIO(answer.content)).size == (256, 256)
    drawn = service.draw(RECORDING, seed="1")
    assert drawn["transcript"] == "a blue boat"
    assert drawn["models"]["upscale"] == "lanczos"
    assert drawn["timings_ms"]["upscale"] > 0


@pytest.mark.serve
def test_the_second_graph_counts_words_by_the_stub(service: Service) -> None:
    answer = service.client.post("/words", files={"file": RECORDING})
    assert answer.status_code == 200, answer.text
    assert answer.json()["words"] == 3


@pytest.mark.serve
def test_the_examples_models_are_served_as_any(service: Service) -> None:
    assert {"parrot", "lanczos"} <= {model["id"] for model in service.client.get("/v1/models").json()["data"]}
    service.wait_until(
        lambda: service.metric("ray_sonograph_requests_total", stage="upscale") >= 1, "the upscaler's requests are counted"
    )
