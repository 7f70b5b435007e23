"""Kept samples: a mirrored request, both results and scores, bounded in number, bytes and age, in a folder or by fsspec."""

import io
import json
import stat
import wave
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from deployments.roles.speech_to_text import TranscribeRequest
from deployments.roles.text_to_image import GenerateRequest
from graphs.core.policies.rollout import Outcome
from graphs.rollouts.observations import Pair
from graphs.rollouts.samples import Samples
from graphs.rollouts.settings import RolloutSettings
from testing.fakes import PNG, image, transcript
from testing.rollouts import APPLICATION, Cluster, Ingress
from tests.graphs.rollouts.test_store import rollout

SOUND = np.arange(1600, dtype=np.int16)


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


@pytest.fixture(params=["folder", "fsspec"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "folder":
        yield str(tmp_path / "samples")
        return
    fsspec = pytest.importorskip("fsspec")
    yield f"memory://{tmp_path.name}"
    fsspec.filesystem("memory").store.clear()


def made(place: str, clock: Clock | None = None, **bounds: Any) -> Samples:
    return Samples(RolloutSettings(samples_folder=place, **bounds), clock or Clock())


def keep(samples: Samples, most: int = 10, stage: str = "whisper") -> None:
    one = TranscribeRequest(SOUND, "en")
    stable, candidate = Outcome("stable", 0.5, transcript()), Outcome("candidate", 0.25, transcript("a green pear"))
    samples.keep(rollout(samples=most, stage=stage), one, stable, candidate, Pair(words=3, word_errors=2))


def stored(samples: Samples, stage: str = "whisper") -> list[str]:
    return sorted(one.name for one in samples._folder.list(stage))


def test_a_sample_has_the_recording_both_outputs_and_the_scores(tmp_path: Path) -> None:
    samples = made(str(tmp_path))
    keep(samples)
    (path,) = (tmp_path / "whisper").iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    archive = zipfile.ZipFile(path)
    with wave.open(io.BytesIO(archive.read("request.wav"))) as sound:
        assert (sound.getframerate(), sound.getnchannels()) == (16_000, 1)
        assert np.array_equal(np.frombuffer(sound.readframes(2000), np.int16), SOUND)
    assert json.loads(archive.read("request.json"))["language"] == "en"
    assert json.loads(archive.read("stable.json"))["text"] == "a red apple"
    assert json.loads(archive.read("candidate.json"))["text"] == "a green pear"
    scores = json.loads(archive.read("scores.json"))
    assert scores["took_s"] == {"stable": 0.5, "candidate": 0.25}
    assert (scores["words"], scores["word_errors"]) == (3, 2)


def test_pictures_are_kept_as_they_are(tmp_path: Path) -> None:
    samples = made(str(tmp_path))
    both = Outcome("stable", 1.0, image()), Outcome("candidate", 1.0, image(b"\xff\xd8 a JPEG"))
    samples.keep(rollout(samples=5, stage="diffusion"), GenerateRequest("a red apple", seed=7), *both, Pair(pixels=0.1))
    archive = zipfile.ZipFile(next((tmp_path / "diffusion").iterdir()))
    assert archive.read("stable.png") == PNG
    assert archive.read("candidate.jpeg") == b"\xff\xd8 a JPEG"
    assert json.loads(archive.read("request.json"))["seed"] == 7


def test_the_number_is_bounded_and_the_newest_stay(place: str) -> None:
    samples = made(place)
    for _ in range(7):
        keep(samples, most=3)
    assert [int(name.partition("-")[0]) for name in stored(samples)] == [name_s * 1000 for name_s in newest(samples, 3)]


def newest(samples: Samples, number: int) -> list[int]:
    times = [int(name.partition("-")[0]) // 1000 for name in stored(samples)]
    assert len(times) == number
    assert min(times) > 1_006  # of 1,001 on
    return times


def test_the_bytes_are_bounded(place: str) -> None:
    keep(made(place, max_samples_bytes=10**9))
    size = made(place)._folder.list("whisper")[0].size
    samples = made(place, max_samples_bytes=int(2.5 * size))
    for _ in range(5):
        keep(samples)
    assert len(stored(samples)) == 2
    keep(made(place, max_samples_bytes=size // 2))  # one alone is too large
    assert stored(samples) == []


def test_old_ones_are_removed(place: str) -> None:
    clock = Clock()
    samples = made(place, clock, max_samples_age_s=100)
    keep(samples)
    clock.now += 200
    keep(samples)
    assert len(stored(samples)) == 1


def test_one_call_removes_a_stages_samples(place: str) -> None:
    samples = made(place)
    keep(samples)
    keep(samples)
    keep(samples, stage="diffusion")
    assert samples.remove("whisper") == 2
    assert stored(samples) == []
    assert len(stored(samples, "diffusion")) == 1
    assert samples.remove("whisper") == 0


def test_other_files_of_the_folder_are_left_alone(tmp_path: Path) -> None:
    samples = made(str(tmp_path))
    (tmp_path / "whisper").mkdir()
    note = tmp_path / "whisper" / "note.txt"
    note.write_text("mine")
    for _ in range(3):
        keep(samples, most=1)
    samples.remove("whisper")
    assert note.read_text() == "mine"


def test_a_folder_that_cannot_be_written_costs_the_sample_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("no folder")
    samples = made(str(tmp_path / "file"))
    keep(samples)
    assert "not kept" in caplog.text


def test_a_url_whose_package_is_missing_is_refused_with_the_remedy() -> None:
    with pytest.raises(ValueError, match=r"sonograph\[s3\]"):
        made("gs://bucket/folder")


def test_a_relative_folder_is_refused() -> None:
    with pytest.raises(ValidationError, match="whole path"):
        RolloutSettings(samples_folder="samples")


def archives(folder: Path) -> int:
    return len(list(folder.rglob("*.zip")))


@pytest.mark.parametrize(("asked", "kept"), [(0, 0), (4, 4)])
async def test_samples_are_kept_where_the_rollout_asks_for_them_and_removed_by_an_operator(
    tmp_path: Path, asked: int, kept: int
) -> None:
    ingress = Ingress(Cluster(), samples=made(str(tmp_path)))
    async with ingress.client() as client:
        await client.put("/graph/rollouts/whisper", json={"application": APPLICATION, "mirror": 100, "samples": asked})
        await ingress.look()
        ingress.service.whisper.result = transcript()
        for _ in range(6):
            assert (await client.post("/listen", files={"file": b"sound"})).status_code == 200
            await ingress.finish()
        assert archives(tmp_path) == kept
        answer = await client.delete("/graph/rollouts/whisper/samples")
        assert answer.json() == {"removed": kept}
        assert archives(tmp_path) == 0


async def test_without_a_folder_there_are_no_samples_to_remove() -> None:
    async with Ingress(Cluster()).client() as client:
        assert (await client.delete("/graph/rollouts/whisper/samples")).status_code == 404
