"""One client of the run, which sends one request after another and compares each answer with what it should be."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import httpx

from benchmarks.load import client
from benchmarks.measure import recordings
from benchmarks.soak.answers import STEPS, Spoken, events, good, spoken
from graphs.audio.errors import REFUSALS
from graphs.http.schemas.examples import ANSWERS
from testing import examples, hostile, media
from testing.examples import EVENTS, JSON, Request

MIX = {"good": 0.55, "bad": 0.2, "cancelled": 0.15, "hostile": 0.1}
ANSWER_S = 90.0
"""Without an answer for so long a request is lost."""
PAUSE_S = 3.0
"""Of a body that stops, beyond `http.body_idle_timeout_s` of the run's settings."""
HEADER_BYTES = 40_000
LATE = {"deadline_exceeded", "deadline_unreachable"}
"""Codes of one refusal: which of them it is depends on what the service has measured."""
SMALL: dict[str, Callable[[], bytes]] = {
    **{
        name: hostile.KINDS[name]
        for name in ("large indexes", "bounded indexes", "FLAC comments", "laced at 384 kHz", "long silence")
    },
    **{name: hostile.KINDS[name] for name in ("long blocks", "2 GB comment", "flipped bits", "noise")},
    "damaged packets": lambda: hostile.aac_of_damaged_packets(2000),
    "64 channels": lambda: hostile.wav_of_channels(64, 1.0),
    "Ogg links": lambda: media.encode(media.sweep(0.2), "ogg", "libopus", rate_hz=48_000) * 100,
    "cut": lambda: hostile.flipped(lambda: examples.APPLE[: len(examples.APPLE) // 3], 997),
}
"""The hostile recordings of the run, small enough for thousands of them."""


@dataclass
class Outcome:
    """Results of all requests."""

    answers: Counter[str] = field(default_factory=Counter)
    """By kind, status and, of a refusal, code."""
    wrong: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    retried: int = 0
    """Answers 503 with Retry-After while a model was down, after which the client sent the request again."""
    done: int = 0


@cache
def sounds() -> list[Spoken]:
    return spoken(recordings(4))


@cache
def hostile_recordings() -> dict[str, bytes]:
    return {name: make() for name, make in SMALL.items()}


def code(content: Mapping[str, Any]) -> str:
    """The code in a refusal, of whichever API."""
    return str(content.get("error", content.get("problem", content)).get("code", ""))


def is_unavailable(answer: httpx.Response) -> bool:
    """Whether a model was down, which the client may try again. Raises KeyError for a 503 that does not say when."""
    if answer.headers.get("content-type", "").startswith("text/event-stream"):
        last = events(answer)[-1]
        return last.event == "error" and code(last.json()) == "model_unavailable"
    if answer.status_code != 503 or answer.request.url.path == "/readyz":
        return False
    return int(answer.headers["retry-after"]) > 0 and code(answer.json()) == "model_unavailable"


async def send(http: httpx.AsyncClient, request: Request) -> httpx.Response:
    path, options = request
    return await http.request(**{"method": "POST", "url": path, **options})


async def refusals(http: httpx.AsyncClient) -> list[tuple[int, str]]:
    """Status and code of each of examples.REFUSED, sent once. Raises ValueError for one that is not documented."""
    found = []
    for request in examples.REFUSED:
        answer = await send(http, request)
        found.append((answer.status_code, code(answer.json())))
        api = "openai" if request[0].startswith("/v1/") else "problem"
        if f"{api} {found[-1][1]}" not in ANSWERS:
            raise ValueError(f"{request[0]} answers {found[-1]}, which is in no example: python -m testing.examples")
    return found


class Caller:
    def __init__(
        self, http: httpx.AsyncClient, chance: random.Random, outcome: Outcome, refused: Sequence[tuple[int, str]]
    ) -> None:
        """`refused`: the result of `refusals`."""
        self._http = http
        self._chance = chance
        self._outcome = outcome
        self._refused = refused

    async def send(self) -> None:
        kind = self._chance.choices(list(MIX), list(MIX.values()))[0]
        requests = {"good": self._good, "bad": self._bad, "cancelled": self._cancelled, "hostile": self._hostile}
        try:
            async with asyncio.timeout(ANSWER_S):
                await requests[kind]()
        except (TimeoutError, httpx.TransportError) as error:
            self._outcome.lost.append(f"{kind}: {type(error).__name__} {error}")
        except (ValueError, LookupError) as error:  # an answer without what it should have
            self._outcome.wrong.append(f"{kind}: {type(error).__name__} {error}")
        self._outcome.done += 1

    async def _answer(self, request: Request) -> httpx.Response:
        """The answer, after as many tries as deaths make necessary."""
        while True:
            answer = await send(self._http, request)
            if not is_unavailable(answer):
                return answer
            self._outcome.retried += 1
            await asyncio.sleep(int(answer.headers.get("retry-after", 1)))

    def _count(self, kind: str, answer: httpx.Response, is_right: bool) -> None:
        refusal = f" {code(answer.json())}" if answer.status_code >= 400 else ""
        self._outcome.answers[f"{kind} {answer.status_code}{refusal}"] += 1
        if not is_right:
            self._outcome.wrong.append(f"{kind}: {answer.request.url.path} {answer.status_code} {answer.text[:300]}")

    async def _good(self) -> None:
        one = good(self._chance, sounds())
        answer = await self._answer(one.request)
        self._count("good", answer, answer.status_code == 200 and one.is_right(answer))

    async def _bad(self) -> None:
        number = self._chance.randrange(len(examples.REFUSED))
        answer = await self._answer(examples.REFUSED[number])
        found, expected = (answer.status_code, code(answer.json())), self._refused[number]
        self._count("bad", answer, found == expected or {found[1], expected[1]} <= LATE)

    async def _hostile(self) -> None:
        if self._chance.random() < 0.1:
            await self._hostile_request()
            return
        recording = self._chance.choice(list(hostile_recordings().values()))
        path = self._chance.choice(["/graph", "/listen", "/v1/audio/transcriptions"])
        answer = await self._answer((path, {"files": {"file": recording}}))
        self._count("hostile", answer, answer.status_code == 200 or code(answer.json()) in REFUSALS)

    async def _hostile_request(self) -> None:
        """Send huge headers, a body that stops, or a slow body that arrives."""
        sound = self._chance.choice(sounds())
        headers = {"Content-Type": "audio/wav", **JSON}
        name = self._chance.choice(["headers", "stops", "slow"])
        if name == "headers":
            answer = await self._answer(("/listen", {"content": b"", "headers": {"X-Filler": "x" * HEADER_BYTES}}))
            self._count("hostile", answer, answer.status_code == 431)
            return
        pauses_s = [PAUSE_S] if name == "stops" else [0.1] * 5

        async def body() -> AsyncIterator[bytes]:
            size = len(sound.recording) // (len(pauses_s) + 1) + 1
            for number, pause_s in enumerate([*pauses_s, 0.0]):
                yield sound.recording[number * size : (number + 1) * size]
                await asyncio.sleep(pause_s)

        while is_unavailable(answer := await send(self._http, ("/listen", {"content": body(), "headers": headers}))):
            self._outcome.retried += 1
        is_right = answer.status_code == 408 if name == "stops" else answer.status_code == 200 and sound.text in answer.text
        self._count("hostile", answer, is_right)

    async def _cancelled(self) -> None:
        """Leave during the upload, the decoding, a model's work, or a stream, by a client of its own.

        httpx keeps the connections of some requests that are cancelled until the client is closed.
        """
        recording = self._chance.choice([*(sound.recording for sound in sounds()), hostile_recordings()["FLAC comments"]])
        pause_s = 0.02 if self._chance.random() < 0.3 else 0.0

        async def body() -> AsyncIterator[bytes]:
            for at in range(0, len(recording), 4000):
                yield recording[at : at + 4000]
                await asyncio.sleep(pause_s)

        after_s, lines = self._chance.choice([0.0, 0.002, 0.02, 0.05, 0.1]), self._chance.choice([0, 0, 1, 5, 10])
        headers = {"Content-Type": "audio/wav", **(EVENTS if lines or self._chance.random() < 0.5 else JSON)}
        options: dict[str, Any] = {"content": body(), "params": {"steps": STEPS}, "headers": headers}

        async def leave() -> None:
            async with http.stream("POST", "/graph", **options) as answer:
                if answer.status_code >= 500 and answer.status_code != 503:
                    self._outcome.wrong.append(f"cancelled: {answer.status_code}")
                read = 0
                async for _ in answer.aiter_lines():
                    read += 1
                    if read == lines:
                        return

        async with client(str(self._http.base_url)) as http:
            request = asyncio.create_task(leave())
            await asyncio.wait({request}, timeout=None if lines else after_s)
            request.cancel()
            await asyncio.wait({request})
        if not request.cancelled() and (error := request.exception()):
            raise error
        self._outcome.answers["cancelled"] += 1
