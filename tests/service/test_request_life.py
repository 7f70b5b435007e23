"""A request's whole life on a real service: it shows itself, stops when nobody wants it, keeps to its time, and leaves metrics."""

import asyncio
import base64
import io
import itertools
import json
import re
import signal
import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from graphs.audio.decode import decode
from graphs.core.metrics import RETRIES
from testing import media, speech
from testing.client import EVENTS, Call
from testing.service import ROOT, Service

pytestmark = pytest.mark.serve
CAT = (speech.HERE / "cat-slt.ogg").read_bytes()
LARGE = {"width": "512", "height": "512"}
"""So large that a step takes a good part of a second."""


def serves_as_before(service: Service) -> None:
    assert "cat" in service.draw(CAT, seed="1")["transcript"].lower()


def step_of(event: dict[str, Any]) -> int:
    return int(event["step"]) if event["type"] == "image.step" else 0


def busy(service: Service, deployment: str) -> float:
    """Requests that in the deployment's replicas."""
    return service.metric("ray_serve_replica_processing_queries", deployment=deployment)


class Steps:
    """The model's own count of denoising steps: those that ran, and those that cancelling saved."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._before = 0.0, 0.0
        checked = self._checks()
        # The model's metrics are taken at its health checks; one may be on its way here, so the third is surely a new one.
        service.wait_until(lambda: self._checks() >= checked + 3, "health checks")
        self._before = self.now()

    def now(self) -> tuple[float, float]:
        """Ran and saved since this object was made."""
        names = "ray_sonograph_denoising_steps_total", "ray_sonograph_denoising_steps_saved_total"
        ran, saved = (self._service.metric(name) - before for name, before in zip(names, self._before, strict=True))
        return ran, saved

    def begun(self) -> None:
        self._service.wait_until(lambda: self.now()[0] > 0, "a denoising step")

    def of(self, asked: int) -> tuple[float, float]:
        """Ran and saved, once these account for all steps that were asked for."""
        self._service.wait_until(lambda: sum(self.now()) >= asked, f"an account of {asked} steps")
        assert sum(self.now()) == asked
        return self.now()

    def _checks(self) -> float:
        return self._service.metric("ray_serve_health_check_latency_ms_count", deployment="diffusion")


def times_ms(service: Service, **size: str) -> tuple[float, float]:
    """What decoding and Whisper take of a lone request, and what a denoising step takes, as this machine does them now."""
    timings = service.draw(CAT, steps="4", **size)["timings_ms"]
    return timings["decode"] + timings["whisper"], timings["diffusion"] / 4


@pytest.fixture
def steps(service: Service) -> Steps:
    return Steps(service)


# Progress


def test_a_stream_tells_each_stage_in_order_and_ends_with_the_picture_of_the_plain_answer(service: Service) -> None:
    asked = {"seed": "7", "steps": "9", "previews": "3", "width": "72", "height": "80"}
    plain = service.post(CAT, seed="7", steps="9", width="72", height="80")
    with service.events(CAT, {"X-Request-ID": "shown-1"}, **asked) as events:
        told = list(events)
    kinds = [kind for kind, _ in itertools.groupby(event["type"] for event in told if event["type"] != "image.preview")]
    assert kinds == ["accepted", "transcript.delta", "transcript", "image.step", "image", "done"]
    assert [event["sequence"] for event in told] == list(range(len(told)))
    for event in told:
        assert (event["event"], event["id"], event["request_id"]) == (event["type"], str(event["sequence"]), "shown-1")
    of = {kind: [event for event in told if event["type"] == kind] for kind in {event["type"] for event in told}}

    assert of["accepted"][0]["deadline_ms"] == 30_000
    (transcript,) = of["transcript"]
    said = [{"text": one["text"], "start": one["start"], "end": one["end"]} for one in of["transcript.delta"]]
    assert said == [{"text": one["text"], "start": one["start"], "end": one["end"]} for one in transcript["segments"]]
    assert "cat sleeping" in said[0]["text"]
    assert transcript["language"] == "en"

    assert [(event["step"], event["steps"]) for event in of["image.step"]] == [(step, 9) for step in range(1, 10)]
    assert [event["eta_ms"] > 0 for event in of["image.step"]] == 8 * [True] + [False]
    assert len(of["image.preview"]) == 3
    for preview in of["image.preview"]:
        picture = Image.open(io.BytesIO(base64.b64decode(preview["base64"], validate=True)))
        picture.load()
        assert (picture.format, picture.size) == ("JPEG", (preview["width"], preview["height"])) == ("JPEG", (72, 80))
        assert preview["media_type"] == "image/jpeg"
        assert told[preview["sequence"] - 1]["step"] == preview["step"]  # the step that it shows has just been told

    (image,), (done,) = of["image"], of["done"]
    streamed = {key: image[key] for key in ("prompt", "prompt_truncated", "seed", "image", "models")}
    assert streamed == {key: plain.json()[key] for key in streamed}
    assert transcript["text"] == plain.json()["transcript"]
    assert list(done["timings_ms"]) == ["decode", "whisper", "diffusion", "encode"]


REFUSED: list[tuple[str, dict[str, Any], int, str]] = [
    ("undecodable", {"files": {"file": b"RIFF" + bytes(range(256)) * 40}}, 422, "audio_undecodable"),
    ("too large", {"files": {"file": bytes(30 << 20)}}, 413, "audio_too_large"),
    ("too long", {"files": {"file": media.silence_flac(3)}}, 413, "audio_too_long"),
    ("another type", {"content": b"hello", "headers": {"Content-Type": "text/plain"}}, 415, "unsupported_media_type"),
    ("a parameter", {"files": {"file": CAT}, "data": {"previews": "51"}}, 422, "invalid_parameter"),
    ("no time", {"files": {"file": CAT}, "headers": {"X-Timeout-Ms": "0"}}, 422, "invalid_parameter"),
]


@pytest.mark.parametrize(("request_", "status", "code"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_what_is_refused_before_work_begins_is_no_stream(
    service: Service, request_: dict[str, Any], status: int, code: str
) -> None:
    headers = {"Accept": EVENTS, **request_.get("headers", {})}
    answer = service.client.post("/graph", **{**request_, "headers": headers})
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, answer.json()["status"], answer.json()["code"]) == (status, status, code)


def test_what_fails_later_is_an_event_that_ends_the_stream(service: Service) -> None:
    with service.events(CAT, language="fr") as events:
        told = list(events)
    assert [event["type"] for event in told] == ["accepted", "error"]
    problem = told[-1]["problem"]
    assert (problem["status"], problem["code"], problem["stage"]) == (422, "invalid_parameter", "whisper")
    assert problem["request_id"] == told[-1]["request_id"]


# Cancel


@pytest.mark.parametrize(
    "headers",
    [{}, {"x-request-disconnect-disabled": "?1", "x-request-timeout-seconds": "0"}],
    ids=["as it is", "with Serve's own headers against it"],
)
async def test_clients_that_leave_free_the_model_within_one_step_which_they_shared(
    service: Service, steps: Steps, headers: dict[str, str]
) -> None:
    running = await Call(service, CAT, headers=headers, steps="150", **LARGE).until("image.step")
    other = await Call(service, CAT, headers=headers, steps="149", **LARGE).until("transcript")
    plain = Call(service, CAT, streaming=False, headers=headers, steps="148", **LARGE)
    await asyncio.to_thread(service.wait_until, lambda: busy(service, "diffusion") == 3, "three requests at the model")
    await other.leave()
    await plain.leave()
    seen = running.step
    await running.leave()
    ran, _ = await asyncio.to_thread(steps.of, 150 + 149 + 148)
    assert seen <= ran <= 3 * (seen + 2), "no step runs after those that the first has seen, and none without it"
    serves_as_before(service)


async def test_a_client_without_a_stream_that_leaves_frees_the_model_too(service: Service, steps: Steps) -> None:
    call = Call(service, CAT, streaming=False, steps="150", **LARGE)
    await asyncio.to_thread(steps.begun)
    await call.leave()
    _, saved = await asyncio.to_thread(steps.of, 150)
    assert saved > 75
    serves_as_before(service)


def test_sonograph_draw_that_is_interrupted_frees_the_model_too(service: Service, steps: Steps, tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    with sonograph_draw(service, "-o", str(picture), "--steps", "150", "--width", "512", "--height", "512") as client:
        steps.begun()
        client.send_signal(signal.SIGINT)
        said, _ = client.communicate(timeout=30)
    assert client.returncode == 130
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []
    _, saved = steps.of(150)
    assert saved > 75
    serves_as_before(service)


def test_time_that_runs_out_frees_the_model_too(service: Service) -> None:
    heard_ms, step_ms = times_ms(service, **LARGE)
    steps = Steps(service)
    with service.events(CAT, steps="150", timeout_ms=f"{3 * heard_ms + 15 * step_ms:.0f}", **LARGE) as events:
        told = list(events)
    problem = told[-1]["problem"]
    assert (problem["status"], problem["code"], problem["stage"]) == (504, "deadline_exceeded", "diffusion")
    seen = max(map(step_of, told))
    ran, _ = steps.of(150)
    assert 1 <= seen <= ran <= seen + 2
    serves_as_before(service)


def sonograph_draw(service: Service, *options: str) -> subprocess.Popen[str]:
    command = [str(Path(sys.prefix) / "bin" / "sonograph"), "draw", str(speech.HERE / "cat-slt.ogg"), "--url", service.url]
    return subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_sonograph_draw_writes_what_the_service_answers(service: Service, tmp_path: Path) -> None:
    picture = tmp_path / "picture.webp"
    with sonograph_draw(service, "-o", str(picture), "--seed", "3", "--json") as client:
        said, _ = client.communicate(timeout=60)
    assert client.returncode == 0, said
    plain = service.draw(CAT, seed="3", output_format="webp")
    assert picture.read_bytes() == base64.b64decode(plain["image"]["base64"])
    assert plain["transcript"] in said


# Deadline


async def test_time_that_runs_out_is_a_504_that_names_the_stage_that_ran(service: Service) -> None:
    heard_ms, step_ms = await asyncio.to_thread(times_ms, service, **LARGE)
    ahead = [Call(service, media.minute()) for _ in range(6)]
    await asyncio.gather(*(call.until("accepted") for call in ahead))
    # Alone it would fit, so it is not refused; behind these it does not.
    in_form = await asyncio.to_thread(service.post, CAT, timeout_ms=f"{2.5 * heard_ms:.0f}")
    for call in ahead:
        await call.leave()
    assert (in_form.json()["code"], in_form.json()["stage"]) == ("deadline_exceeded", "whisper")
    asked = {"files": {"file": CAT}, "data": {"steps": "150", **LARGE}}
    enough_to_hear = f"{3 * heard_ms + 15 * step_ms:.0f}"
    in_query = await asyncio.to_thread(service.client.post, f"/graph?timeout_ms={enough_to_hear}", **asked)
    headers = {"X-Timeout-Ms": enough_to_hear, "x-request-timeout-seconds": "0"}
    in_header = await asyncio.to_thread(service.client.post, "/graph", headers=headers, **asked)
    for answer in (in_query, in_header):
        assert (answer.json()["code"], answer.json()["stage"]) == ("deadline_exceeded", "diffusion")
    for answer in (in_form, in_query, in_header):
        assert answer.status_code == answer.json()["status"] == 504
    serves_as_before(service)


@pytest.mark.parametrize(
    ("headers", "fields", "deadline_ms"),
    [
        ({}, {"timeout_ms": "600000"}, 30_000),
        ({"X-Timeout-Ms": "600000"}, {}, 30_000),
        ({"x-request-timeout-seconds": "0"}, {}, 30_000),
        ({"X-Timeout-Ms": "25000"}, {"timeout_ms": "600000"}, 25_000),
    ],
)
def test_the_deadline_is_lowered_and_never_raised(
    service: Service, headers: dict[str, str], fields: dict[str, str], deadline_ms: int
) -> None:
    with service.events(CAT, headers, steps="1", **fields) as events:
        told = list(events)
    assert (told[0]["type"], told[0]["deadline_ms"]) == ("accepted", deadline_ms)
    assert told[-1]["type"] == "done"


def test_what_cannot_be_in_time_is_refused_before_the_model_begins(service: Service) -> None:
    size = {"width": "256", "height": "248"}
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda seed: service.draw(CAT, seed=str(seed), steps="1", **size), range(20)))
    heard_ms, _ = times_ms(service, **size)
    steps = Steps(service)
    problem = service.post(CAT, steps="150", timeout_ms=f"{4 * heard_ms:.0f}", **size).json()
    assert (problem["status"], problem["code"], problem["stage"]) == (504, "deadline_unreachable", "diffusion")
    service.draw(CAT, steps="3", timeout_ms="20000", **size)
    assert steps.of(3) == (3, 0)


# Figures


def test_every_metric_of_the_documents_is_on_rays_metrics_port(service: Service) -> None:
    readme = (ROOT / "docs" / "metrics.md").read_text()
    named = re.findall(r"^\| `(ray_sonograph_\w+)` \| (.*?) \|", readme, re.MULTILINE)
    assert len(named) >= 10
    service.draw(CAT)
    assert service.post(CAT, language="fr").status_code == 422
    with service.events(CAT, steps="150", **LARGE) as events:
        assert any(step_of(event) for event in events)

    def missing() -> set[str]:
        families = {sample.name: sample.labels for family in service.scrape() for sample in family.samples}
        found = {name.removesuffix("_count") for name in families}
        lacking = {
            name
            for name, labels in named
            if name not in found
            or not {"deployment", "replica", "application", *re.findall(r"`(\w+)`", labels)}
            <= families.get(name, families.get(f"{name}_count", {})).keys()
        }
        return lacking - {RETRIES.exported}  # in the tests of death

    service.wait_until(lambda: not missing(), "every metric")
    for stage in ("decode", "whisper", "diffusion"):
        assert service.metric("ray_sonograph_requests_total", stage=stage, deployment="ingress") >= 1
        assert service.metric("ray_sonograph_compute_duration_seconds_count", stage=stage) >= 1
    assert service.metric("ray_sonograph_errors_total", stage="whisper", code="invalid_parameter") >= 1
    for deployment in ("whisper", "diffusion"):
        assert service.metric("ray_nv_inference_count_total", deployment=deployment, model=deployment) >= 1


def test_each_request_is_one_json_line_in_the_ingress_log_without_its_words(service: Service) -> None:
    drawn, refused, streamed, *left = (f"line-{uuid.uuid4().hex}" for _ in range(13))
    files = {"file": CAT}
    service.client.post("/graph", headers={"X-Request-ID": drawn}, files=files, data={"seed": "5", "steps": "3"})
    service.client.post("/graph", headers={"X-Request-ID": refused}, files=files, data={"language": "fr"})
    with service.events(CAT, {"X-Request-ID": streamed}, language="fr") as events:
        list(events)
    for id in left:  # several, for Serve tells the ingress in more than one way
        with service.events(CAT, {"X-Request-ID": id}, steps="150", **LARGE) as events:
            assert any(step_of(event) for event in events)

    def lines() -> dict[str, list[dict[str, Any]]]:
        found = [json.loads(said) for said in re.findall(r'\{"event": "request".*\}', service.logs("ingress"))]
        return {id: [line for line in found if line["request_id"] == id] for id in (drawn, refused, streamed, *left)}

    service.wait_until(lambda: all(lines().values()), "a line for each request")
    said = {id: line for id, (line,) in lines().items()}
    assert {"status": 200, "code": None, "steps": 3, "seed": 5, "cancelled": False}.items() <= said[drawn].items()
    assert list(said[drawn]["timings_ms"]) == ["decode", "whisper", "diffusion", "encode"]
    assert said[drawn]["took_ms"] >= sum(said[drawn]["timings_ms"].values()) > 0
    assert said[drawn]["audio_s"] == pytest.approx(decode(CAT, 60).size / 16_000)
    for id in (refused, streamed):
        assert {"status": 422, "code": "invalid_parameter", "stage": "whisper"}.items() <= said[id].items()
    for id in left:
        assert (said[id]["status"], said[id]["code"], said[id]["cancelled"]) == (499, None, True)
        assert "steps" not in said[id], "none of its pictures was finished"
    assert "cat" not in json.dumps([said[id] for id in said]).lower()
    assert "sleeping" not in service.logs("ingress").lower()
