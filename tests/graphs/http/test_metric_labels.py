"""Labels of the metrics: nothing that a client sends becomes one, so the number of series has a bound."""

import asyncio
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from deployments.diffusion.spec import SPEC as DIFFUSION
from deployments.errors import DeploymentError
from deployments.model_spec import ModelSpec, specs
from deployments.whisper.spec import SPEC as WHISPER
from graphs.core.metrics import INGRESS, METRICS, Metrics
from graphs.core.readiness import Readiness
from graphs.core.stage import Stage
from graphs.http.dependencies import DECODE
from graphs.http.schemas.openapi import ERRORS
from graphs.http.settings import HttpSettings
from graphs.rollouts.state import Budgets
from testing.fakes import FakeService, deployment_status, image, serve_status, transcript
from testing.metrics import Recorder

MARK = "label-of-a-client"
KEY = "alice-has-a-long-key"
STAGES = {INGRESS, DECODE, *specs()}
CODES = {error.code for error in ERRORS}


class Handle:
    """Handle of a deployment that answers each call with `result`, or raises it."""

    def __init__(self, result: Any) -> None:
        self.result = result
        self.run = self.stream = self

    def options(self, **options: Any) -> "Handle":
        return self

    def remote(self, *arguments: Any) -> "Handle":
        return self

    def cancel(self) -> None:
        pass

    def __await__(self) -> Any:
        return self._answer().__await__()

    async def __aiter__(self) -> Any:
        yield await self._answer()

    async def _answer(self) -> Any:
        await asyncio.sleep(0)
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


def stage(spec: ModelSpec, result: Any, metrics: Metrics) -> Any:
    """A real stage over a handle that answers at once."""
    status = serve_status(whisper=deployment_status(), diffusion=deployment_status())
    handle: Any = Handle(result)
    return Stage[Any, Any](spec, spec.settings(), handle, Readiness("sonograph", (spec.name,), lambda: status), metrics)


def service(recorder: Recorder, keys: Path) -> FakeService:
    metrics = recorder.metrics()
    return FakeService(
        HttpSettings(api_keys_file=keys, key_requests_per_minute=10_000),
        whisper=stage(WHISPER, transcript(f"{MARK} spoken"), metrics),
        diffusion=stage(DIFFUSION, image(), metrics),
        metrics=metrics,
    )


def hostile() -> Iterator[dict[str, Any]]:
    """Requests without end, each with a word of its own in every place that a client fills."""
    for number in itertools.count():
        word = f"{MARK}-{number}"
        keyed = {"Authorization": f"Bearer {KEY}"}
        named = {
            **keyed,
            "X-Request-ID": word,
            "User-Agent": word,
            "Traceparent": word,
            "X-Forwarded-For": word,
            "Referer": word,
            "Cookie": word,
        }
        sound = {"file": (f"{word}.wav", word.encode(), f"audio/{word}")}
        yield {"method": "POST", "url": "/graph", "headers": named, "files": sound, "data": {"prompt_prefix": word}}
        yield {"method": "POST", "url": "/listen", "headers": named | {"Accept": "text/event-stream"}, "files": sound}
        yield {"method": "POST", "url": f"/graph?{word}=1", "headers": keyed, "files": sound}
        yield {"method": "POST", "url": "/graph", "headers": keyed, "files": sound, "data": {"language": word[:32]}}
        yield {"method": "POST", "url": "/graph", "headers": {"Authorization": f"Bearer {word}"}, "files": sound}
        yield {"method": "POST", "url": "/graph", "headers": keyed | {"X-Rollout": f"{word}=candidate"}, "files": sound}
        yield {"method": "POST", "url": "/graph", "headers": keyed | {"X-Timeout-Ms": word}, "files": sound}
        yield {"method": "POST", "url": "/graph", "headers": keyed | {"Accept": f"{word}/{word}"}, "files": sound}
        yield {"method": "POST", "url": "/graph", "headers": keyed | {"Content-Type": word}, "content": word.encode()}
        yield {"method": "POST", "url": "/v1/audio/transcriptions", "headers": keyed, "files": sound, "data": {"model": word}}
        yield {"method": "POST", "url": "/v1/images/generations", "headers": keyed, "json": {"model": word, "prompt": word}}
        yield {"method": "POST", "url": "/v1/images/generations", "headers": keyed, "json": {"prompt": word, "user": word}}
        yield {"method": "PUT", "url": f"/graph/rollouts/{word}", "headers": keyed, "json": {"application": word}}
        yield {"method": "GET", "url": f"/v1/models/{word}", "headers": keyed}
        yield {"method": word.upper(), "url": f"/{word}", "headers": keyed}


async def send(client: httpx.AsyncClient, requests: Iterator[dict[str, Any]], number: int) -> set[int]:
    return {(await client.request(**request)).status_code for request in itertools.islice(requests, number)}


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_text(f"alice {KEY} operator\n")
    return path


async def test_nothing_that_a_client_sends_becomes_a_label_and_the_series_have_a_bound(keys: Path) -> None:
    recorder = Recorder()
    requests = hostile()
    async with service(recorder, keys).client() as client:
        assert await send(client, requests, 45) >= {200, 401, 404, 406, 415, 422}, (
            "the requests reach the models and the refusals"
        )
        before = set(recorder.seen)
        await send(client, requests, 150)
    assert set(recorder.seen) == before, "further clients made further series"
    assert {labels[0] for name, *labels in before} == {"ingress", "decode", "whisper", "diffusion"}
    for name, *labels in before:
        assert set(labels) <= STAGES | CODES, f"{name} has a label that is neither a stage nor a code"
        assert MARK not in str(labels)


@pytest.mark.parametrize(
    "failure", [DeploymentError(MARK), ValueError(MARK), KeyError(MARK)], ids=lambda failure: type(failure).__name__
)
async def test_a_failure_with_the_clients_words_counts_under_its_code_alone(keys: Path, failure: Exception) -> None:
    recorder = Recorder()
    broken = service(recorder, keys)
    broken.whisper = stage(WHISPER, failure, broken.metrics)
    async with broken.client() as client:
        answer = await client.post("/graph", files={"file": b"sound"}, headers={"Authorization": f"Bearer {KEY}"})
    assert answer.status_code == 500
    assert [labels for name, *labels in recorder.seen if name == "sonograph_errors"] == [["whisper", "internal"]]


def test_each_code_belongs_to_a_class_so_none_is_made_from_a_request() -> None:
    def below(kind: type[DeploymentError]) -> list[type[DeploymentError]]:
        return [kind, *(one for child in kind.__subclasses__() for one in below(child))]

    classes = [kind for kind in below(DeploymentError) if kind.__module__.split(".")[0] in ("deployments", "graphs")]
    assert len(classes) > 20
    assert {kind.code for kind in classes} - CODES <= {"wrong_shape"}, "a code that the documents do not have"
    assert all(isinstance(kind.code, str) and "code" not in kind("message").__dict__ for kind in classes)


def test_the_series_of_an_ingress_replica_have_a_bound() -> None:
    """Every stage, code and bucket at once, and every score of a rollout of each stage."""
    values = {
        "stage": len(STAGES) + len(specs()),  # candidates too
        "code": len(CODES) + 1,
        "dropped": 2,
        "score": len(Budgets.model_fields),
        "bound": 3,
    }
    series = 0
    for metric in METRICS:
        count = 1
        for label in metric.labels:
            count *= values[label]
        series += count * (len(metric.bounds) + 3 if metric.bounds else 1)
    assert series < 330 * values["stage"], "Prometheus keeps each of these for each replica that there ever was"
