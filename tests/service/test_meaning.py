"""What is said into the whole service is what its picture shows."""

import base64
import io
import json

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


def shown(picture: bytes) -> str:
    """The thing of the list whose training picture is nearest."""
    pixels = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"), np.float32)
    rgb = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 127.5 - 1
    return NAMES[int(Fingerprints().distances(rgb).argmin())]


def test_the_recordings_are_the_thirty_that_the_lot_drew() -> None:
    things = speech.things()
    assert len({thing.name for thing in things}) == 30
    assert {thing.voice for thing in things} == set(speech.VOICES)
    folder = speech.HERE / "things"
    assert json.loads((folder / "said.json").read_text()) == {thing.path.name: thing.text for thing in things}
    assert {path.name for path in folder.iterdir()} == {"said.json", *(thing.path.name for thing in things)}


def test_the_readmes_picture_is_an_apple_by_the_model_that_ships() -> None:
    path = ROOT / "graphs" / "samples" / "red-apple.png"
    notes = Image.open(path).text
    assert (notes["model"], notes["seed"]) == ("small-stable-diffusion", "1")
    assert shown(path.read_bytes()) == "apple"


@pytest.mark.serve
def test_the_sample_recording_gives_an_apple(service: Service) -> None:
    recording = (ROOT / "graphs" / "samples" / "red-apple.wav").read_bytes()
    assert shown(base64.b64decode(service.draw(recording, seed="1")["image"]["base64"])) == "apple"


@pytest.mark.serve
def test_thirty_spoken_things_are_drawn(service: Service) -> None:
    wrong, things = [], speech.things()
    for thing in things:
        answer = service.draw(thing.path.read_bytes(), seed="0")
        if (seen := shown(base64.b64decode(answer["image"]["base64"]))) != thing.name:
            wrong.append(f"{thing.name} ({thing.voice}): heard {answer['transcript']!r}, drew {seen}")
    print(*wrong, sep="\n")
    assert len(wrong) <= 0.15 * len(things), wrong
