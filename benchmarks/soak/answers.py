"""Good requests, and whether their answers are those of the models of known cost (testing/known_cost) for exactly these requests."""

import base64
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import httpx_sse

from graphs.audio.decode import decode
from testing import known_cost, media
from testing.examples import APPLE, EVENTS, JSON, Request

FORMATS = ("wav", "wav 44.1 kHz stereo", "mp3", "flac", "ogg/opus", "webm as browsers record", "m4a")
STEPS = "12"
Check = Callable[[httpx.Response], bool]


@dataclass(frozen=True)
class Spoken:
    recording: bytes
    text: str
    """The transcript that the model of known cost makes of it."""


@dataclass(frozen=True)
class Good:
    request: Request
    is_right: Check
    """Whether this answer, whose status is 200, is the request's."""


def spoken(recordings: Sequence[bytes]) -> list[Spoken]:
    """The recordings, and the shipped sample in each format."""
    samples = decode(APPLE, 60.0)
    made = [media.FORMATS[name](samples) for name in FORMATS]
    return [Spoken(one, known_cost.text(decode(one, 60.0))) for one in (*recordings, *made)]


def events(answer: httpx.Response) -> list[httpx_sse.ServerSentEvent]:
    return [event for event in httpx_sse.EventSource(answer).iter_sse() if event.data]


def good(chance: random.Random, sounds: Sequence[Spoken]) -> Good:
    """A request by chance."""
    makers = (graph_image, graph_json, graph_events, transcription, transcription_events, image, listen)
    if chance.random() < 0.05:
        return Good((chance.choice(["/healthz", "/v1/models"]), {"method": "GET"}), lambda answer: bool(answer.json()))
    return chance.choice(makers)(chance.choice(sounds), chance.randrange(2**32))


def graph_image(sound: Spoken, seed: int) -> Good:
    return Good(
        _graph(sound, seed, {"Accept": "image/png"}), lambda answer: answer.content == known_cost.picture(sound.text, seed)
    )


def graph_json(sound: Spoken, seed: int) -> Good:
    def is_right(answer: httpx.Response) -> bool:
        content = answer.json()
        return content["transcript"] == sound.text and _decoded(content["image"]["base64"]) == known_cost.picture(
            sound.text, seed
        )

    return Good(_graph(sound, seed, JSON), is_right)


def graph_events(sound: Spoken, seed: int) -> Good:
    def is_right(answer: httpx.Response) -> bool:
        found = {event.event: event.json() for event in events(answer)}
        drawn = _decoded(found["image"]["image"]["base64"])
        return "done" in found and found["transcript"]["text"] == sound.text and drawn == known_cost.picture(sound.text, seed)

    return Good(_graph(sound, seed, EVENTS), is_right)


def listen(sound: Spoken, seed: int) -> Good:
    request = "/listen", {"files": {"file": sound.recording}, "headers": JSON}
    return Good(request, lambda answer: answer.json()["transcript"] == sound.text)


def transcription(sound: Spoken, seed: int) -> Good:
    request = "/v1/audio/transcriptions", {"files": {"file": sound.recording}}
    return Good(request, lambda answer: answer.json()["text"] == sound.text)


def transcription_events(sound: Spoken, seed: int) -> Good:
    def is_right(answer: httpx.Response) -> bool:
        *deltas, done = (event.json() for event in events(answer))
        return "".join(one["delta"] for one in deltas) == done["text"] == sound.text

    return Good(("/v1/audio/transcriptions", {"files": {"file": sound.recording}, "data": {"stream": "true"}}), is_right)


def image(sound: Spoken, seed: int) -> Good:
    content = {"prompt": sound.text, "seed": seed, "steps": int(STEPS)}
    return Good(
        ("/v1/images/generations", {"json": content}),
        lambda answer: _decoded(answer.json()["data"][0]["b64_json"]) == known_cost.picture(sound.text, seed),
    )


def _graph(sound: Spoken, seed: int, headers: dict[str, str]) -> Request:
    fields: dict[str, Any] = {"seed": str(seed), "steps": STEPS}
    return "/graph", {"files": {"file": sound.recording}, "data": fields, "headers": headers}


def _decoded(content: str) -> bytes:
    return base64.b64decode(content)
