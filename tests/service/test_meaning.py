"""The image shows the concept that the recording names."""

import base64
import io
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

from testing import speech
from testing.service import ROOT, Service
from training.small_stable_diffusion.concepts import load_concepts
from training.small_stable_diffusion.similarity import Fingerprints

pytestmark = pytest.mark.torch

NAMES = [concept.name for concept in load_concepts()]


def nearest_concept(picture: bytes) -> str:
    """Return the concept whose training image is nearest."""
    pixels = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"), np.float32)
    rgb = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 127.5 - 1
    return NAMES[int(Fingerprints().distances(rgb).argmin())]


def test_the_recordings_are_the_thirty_sampled_concepts() -> None:
    things = speech.things()
    assert len({thing.name for thing in things}) == 30
    assert {thing.voice for thing in things} == set(speech.VOICES)
    folder = speech.HERE / "things"
    assert json.loads((folder / "transcripts.json").read_text()) == {thing.path.name: thing.text for thing in things}
    assert {path.name for path in folder.iterdir()} == {"transcripts.json", *(thing.path.name for thing in things)}


def test_the_readmes_image_is_an_apple_by_the_model_that_ships() -> None:
    path = ROOT / "graphs" / "samples" / "red-apple.png"
    notes = Image.open(path).text
    assert (notes["model"], notes["seed"]) == ("small-stable-diffusion", "1")
    assert nearest_concept(path.read_bytes()) == "apple"


@pytest.mark.serve
def test_the_sample_recording_gives_an_image_of_an_apple(service: Service) -> None:
    recording = (ROOT / "graphs" / "samples" / "red-apple.wav").read_bytes()
    assert nearest_concept(base64.b64decode(service.draw(recording, seed="1")["image"]["base64"])) == "apple"


@pytest.mark.serve
def test_thirty_spoken_things_are_drawn(service: Service) -> None:
    wrong, things = [], speech.things()
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda thing: service.draw(thing.path.read_bytes(), seed="0"), things))
    for thing, answer in zip(things, answers, strict=True):
        if (found := nearest_concept(base64.b64decode(answer["image"]["base64"]))) != thing.name:
            wrong.append(f"{thing.name} ({thing.voice}): transcript {answer['transcript']!r}, image of {found}")
    print(*wrong, sep="\n")
    assert len(wrong) <= 0.15 * len(things), wrong
