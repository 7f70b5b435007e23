"""Several pictures of one request: drawn together, cancelled together, and answered as JSON, as events, or not at all."""

import asyncio
import json
import logging
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from deployments.diffusion.spec import SPEC
from deployments.errors import DeploymentError, InvalidInput, ModelUnavailable
from deployments.roles.text_to_image import GenerateRequest, Preview, Step
from deployments.time_left import TimeLeft
from graphs.core.context import RequestContext
from graphs.core.policies.policy import Call
from graphs.core.policies.rollout import Split
from graphs.core.progress import Queued
from graphs.http.settings import HttpSettings
from graphs.pictures import Finished, OfPicture, draw, requests
from testing.fakes import PNG, FakeService, FakeStage, access_log, image

JSON = {"accept": "application/json"}
EVENTS = {"accept": "text/event-stream"}
LAST = 2**32 - 1
OPENAI = "/v1/images/generations"


class Together(FakeStage):
    """Stage that answers nobody before `count` calls have come, in the opposite order; a seed of `failures` fails then."""

    def __init__(self, count: int, **more: Any) -> None:
        super().__init__(SPEC, image(), **more)
        self.count = count
        self.failures: dict[int, Exception] = {}
        self.ended: list[int] = []
        self.cancelled_seeds: list[int] = []
        self.full, self.all_cancelled = asyncio.Event(), asyncio.Event()

    async def _run(self, call: Call) -> Any:
        seed, place = call.request.seed, len(self.calls)
        self.calls.append((call.request, call.context))
        if len(self.calls) == self.count:
            self.full.set()
        try:
            async with asyncio.timeout(10):
                await self.full.wait()
                if self.endless:
                    await asyncio.sleep(3600)
            if seed in self.failures:
                raise self.failures[seed]
            for _ in range(3 * (self.count - place)):
                await asyncio.sleep(0)
            if self.failures:
                await asyncio.sleep(3600)
        except asyncio.CancelledError:
            self.cancelled_seeds.append(seed)
            if len(self.cancelled_seeds) == self.count:
                self.all_cancelled.set()
            raise
        for one in self.progress:
            call.context.report(one)
        self.ended.append(seed)
        call.context.took(**{self.name: 30.0 + place, "encode": 2.0})
        call.context.models[self.name] = "tiny"
        return replace(self.result, encoded=PNG + bytes([place]))

    @property
    def seeds(self) -> list[int]:
        return [request.seed for request, _ in self.calls]


def service_of(count: int, http: HttpSettings | None = None, **more: Any) -> tuple[FakeService, Together]:
    stage = Together(count, **more)
    return FakeService(http or HttpSettings(), diffusion=stage), stage


async def post(client: httpx.AsyncClient, headers: dict[str, str], **fields: Any) -> httpx.Response:
    data = {name: str(value) for name, value in fields.items()}
    return await client.post("/graph", files={"file": b"sound"}, data=data, headers=headers)


async def generate(client: httpx.AsyncClient, **parameters: Any) -> httpx.Response:
    return await client.post(OPENAI, json={"prompt": "a red apple", **parameters})


def events(answer: httpx.Response) -> Iterator[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    for block in answer.text.removesuffix("\n\n").split("\n\n"):
        yield json.loads(block.split("\n")[-1].removeprefix("data: "))


def context(emit: Any = None) -> RequestContext:
    return RequestContext("id-1", TimeLeft(60), emit)


def test_seeds_follow_each_other_and_0_follows_the_last() -> None:
    first = GenerateRequest("a red apple", steps=4, seed=LAST - 1, format="webp")
    assert requests(first, 4) == [replace(first, seed=seed) for seed in (LAST - 1, LAST, 0, 1)]


async def test_pictures_are_drawn_at_once_and_keep_their_order() -> None:
    stage, one = Together(8), context()
    images = await draw(stage, requests(GenerateRequest("x", seed=5), 8), one)
    assert stage.seeds == list(range(5, 13))
    assert stage.ended == list(range(12, 4, -1))
    assert [found.encoded[-1] for found in images] == list(range(8))
    assert one.timings_ms == {"diffusion": 37.0, "encode": 2.0}, "the longest, and no sum"
    assert one.models == {"diffusion": "tiny"}
    assert one.notes == {"n": 8}


async def test_a_picture_alone_is_the_stages_call_itself() -> None:
    stage, seen = Together(1, progress=(Queued("diffusion", 1),)), list[Any]()
    one = context(seen.append)
    (found,) = await draw(stage, requests(GenerateRequest("x", seed=5), 1), one)
    assert stage.calls[0][1] is one
    assert (found.encoded, seen, one.notes) == (PNG + b"\0", [Queued("diffusion", 1)], {"n": 1})


async def test_progress_names_its_picture_which_is_sent_when_it_is_finished() -> None:
    seen = list[Any]()
    first, second = requests(GenerateRequest("x", seed=5), 2)
    images = await draw(Together(2, progress=(Queued("diffusion", 3),)), [first, second], context(seen.append))
    queued = Queued("diffusion", 3)
    assert seen == [
        OfPicture(1, queued),
        OfPicture(1, Finished(second, images[1], {"diffusion": "tiny"})),
        OfPicture(0, queued),
        OfPicture(0, Finished(first, images[0], {"diffusion": "tiny"})),
    ]
    assert list(seen[0].events()) == [("queued", {"index": 1, "stage": "diffusion", "position": 3})]


@pytest.mark.parametrize("error", [ModelUnavailable("gone"), InvalidInput("too large"), DeploymentError("defect")])
async def test_the_first_failure_cancels_the_others_and_is_raised_as_it_is(error: DeploymentError) -> None:
    stage = Together(4)
    stage.failures = {2: error}
    with pytest.raises(type(error)) as raised:
        await draw(stage, requests(GenerateRequest("x"), 4), context())
    assert raised.value is error
    assert sorted(stage.cancelled_seeds) == [0, 1, 3]


async def test_a_cancelled_request_cancels_every_picture() -> None:
    stage = Together(4)
    stage.endless = True
    task = asyncio.create_task(draw(stage, requests(GenerateRequest("x"), 4), context()))
    await stage.full.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(stage.cancelled_seeds) == [0, 1, 2, 3]


async def test_json_has_every_picture_with_its_seed(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ray.serve")
    service, stage = service_of(3)
    async with service.client() as client:
        answer = await post(client, JSON, n=3, seed=LAST, output_format="webp")
    body = answer.json()
    assert answer.status_code == 200, body
    common = {"media_type": "image/webp", "width": 64, "height": 64}
    assert body["images"] == [
        {**common, "base64": b64encode(PNG + bytes([index])).decode(), "seed": seed} for index, seed in enumerate((LAST, 0, 1))
    ]
    assert "image" not in body
    assert (body["seed"], answer.headers["x-seed"]) == (LAST, str(LAST))
    assert (body["timings_ms"]["diffusion"], body["timings_ms"]["encode"]) == (32.0, 2.0)
    assert stage.seeds == [LAST, 0, 1]
    (line,) = access_log(caplog.records)
    assert (line["seed"], line["n"], line["steps"]) == (LAST, 3, 36)


async def test_one_picture_is_answered_as_ever(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ray.serve")
    service, _ = service_of(1)
    async with service.client() as client:
        body = (await post(client, JSON, n=1, seed=7)).json()
        plain = list(events(await post(client, EVENTS, seed=7)))
    assert body["image"]["base64"] == b64encode(PNG + b"\0").decode()
    assert "images" not in body
    assert [one["type"] for one in plain] == ["accepted", "transcript", "image", "done"]
    assert not any("index" in one for one in plain)
    assert [line["n"] for line in access_log(caplog.records)] == [1, 1]


async def test_each_picture_is_an_event_as_soon_as_it_is_finished() -> None:
    service, stage = service_of(2, progress=(Queued("diffusion", 1), Step(1, 1, 0.0, Preview(b"jpeg", 8, 8))))
    async with service.client() as client:
        several = list(events(await post(client, EVENTS, n=2, seed=5)))
    assert [(one["type"], one.get("index")) for one in several] == [
        ("accepted", None), ("transcript", None), ("queued", 1), ("image.step", 1), ("image.preview", 1), ("image", 1),
        ("queued", 0), ("image.step", 0), ("image.preview", 0), ("image", 0), ("done", None),
    ]  # fmt: skip
    assert [one["sequence"] for one in several] == list(range(len(several)))
    second, first = (one for one in several if one["type"] == "image")
    assert (first["seed"], second["seed"]) == (5, 6)
    assert second["image"]["base64"] == b64encode(PNG + b"\1").decode()
    stage.full.clear()
    stage.count = 3
    async with service.client() as client:
        (alone,) = (one for one in events(await post(client, EVENTS)) if one["type"] == "image")
    assert set(first) - {"index"} == set(alone), "the fields of a picture alone"
    assert several[-1]["timings_ms"]["diffusion"] == 31.0


@pytest.mark.parametrize("headers", [{}, {"accept": "*/*"}, {"accept": "image/webp"}, {"accept": "image/png, application/json"}])
async def test_several_pictures_are_no_image(headers: dict[str, str]) -> None:
    service, stage = service_of(2)
    async with service.client() as client:
        answer = await post(client, headers, n=2)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_parameter")
    assert answer.json()["detail"].endswith("for several pictures ask for application/json or text/event-stream in Accept")
    assert service.recordings == []
    assert stage.calls == []


@pytest.mark.parametrize(("n", "bound"), [(0, "greater than or equal to 1"), (9, "less than or equal to 8"), ("two", "integer")])
async def test_n_has_bounds(n: Any, bound: str) -> None:
    service, _ = service_of(1)
    async with service.client() as client:
        answer = await post(client, JSON, n=n)
    assert answer.status_code == 422
    assert bound in answer.json()["detail"]


async def test_an_error_of_one_picture_is_the_requests_own(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ray.serve")
    service, stage = service_of(3)
    stage.failures = {1: ModelUnavailable("gone")}
    async with service.client() as client:
        answer = await post(client, JSON, n=3, seed=0)
        assert (answer.status_code, answer.json()["code"], answer.json()["detail"]) == (503, "model_unavailable", "gone")
        answer = await post(client, EVENTS, n=3, seed=0)
        assert list(events(answer))[-1]["problem"]["code"] == "model_unavailable"
        answer = await generate(client, n=3, seed=0)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "model_unavailable")
    assert sorted(stage.cancelled_seeds) == [0, 0, 0, 2, 2, 2]
    assert [line["code"] for line in access_log(caplog.records)] == ["model_unavailable"] * 3


@pytest.mark.parametrize("headers", [JSON, EVENTS])
async def test_a_client_that_leaves_cancels_every_picture_and_frees_its_places(headers: dict[str, str]) -> None:
    service, stage = service_of(4, HttpSettings(max_concurrent_requests=4))
    stage.endless = True
    async with service.client() as client:
        leaving = asyncio.create_task(post(client, headers, n=4, seed=0))
        await stage.full.wait()
        full = await post(client, JSON)
        assert (full.status_code, full.json()["code"]) == (503, "overloaded")
        assert "all 4 requests" in full.json()["detail"]
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        async with asyncio.timeout(10):
            await stage.all_cancelled.wait()
        stage.endless = False
        assert (await post(client, JSON, n=4)).status_code == 200


async def test_pictures_that_do_not_fit_beside_others_are_refused_as_one() -> None:
    service, stage = service_of(3, HttpSettings(max_concurrent_requests=4))
    stage.endless = True
    async with service.client() as client:
        running = asyncio.create_task(post(client, JSON, n=3, seed=0))
        await stage.full.wait()
        for answer in (await post(client, JSON, n=2), await generate(client, n=2)):
            assert answer.status_code == 503
            assert "has 3 of the 4 requests that it takes at the same time" in answer.text
            assert "or ask for fewer pictures" in answer.text
            assert int(answer.headers["retry-after"]) >= 1
        assert stage.seeds == [0, 1, 2]
        for answer in (await post(client, JSON, n=5), await generate(client, n=5)):
            assert answer.status_code == 422
            assert "n must be at most 4" in answer.text
            assert "http.max_concurrent_requests" in answer.text
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_openais_ten_pictures_are_drawn_at_once() -> None:
    service, stage = service_of(10)
    async with service.client() as client:
        answer = await generate(client, n=10, seed=LAST)
    assert [one["seed"] for one in answer.json()["data"]] == [LAST, *range(9)]
    assert stage.seeds == [LAST, *range(9)]
    assert answer.headers["server-timing"] == "diffusion;dur=39.0, encode;dur=2.0"


async def test_a_rollout_sends_all_pictures_of_a_request_to_one_model() -> None:
    unused: Any = None  # what is called once it has chosen
    split = Split("rollout-1", 50, 0, unused, unused, unused, 5)

    async def chosen(request: GenerateRequest, context: RequestContext) -> Any:
        return split.chooses(context)

    each = requests(GenerateRequest("x"), 8)
    found = [set(await draw(chosen, each, RequestContext(f"id-{number}", TimeLeft(60)))) for number in range(40)]
    assert {len(one) for one in found} == {1}
    assert len(set.union(*found)) == 2
