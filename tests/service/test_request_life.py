"""Lifecycle of a request on the real service: progress, cancellation, deadline, metrics and access log."""

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
from graphs.core.metrics import ERRORS, SERVER_ERRORS
from testing import media, speech
from testing.client import EVENTS, Call
from testing.service import ROOT, Service

pytestmark = pytest.mark.serve
CAT = (speech.HERE / "cat-slt.ogg").read_bytes()
LARGE = {"width": "512", "height": "512"}
"""Size of which a step takes a large part of a second."""


def serves_as_before(service: Service) -> None:
    assert "cat" in service.draw(CAT, seed="1")["transcript"].lower()


def step_of(event: dict[str, Any]) -> int:
    return int(event["step"]) if event["type"] == "image.step" else 0


def busy(service: Service, deployment: str) -> float:
    """Return the number of requests in the deployment's replicas."""
    return service.metric("ray_serve_replica_processing_queries", deployment=deployment)


class Steps:
    """The model's own count of denoising steps: steps run, and steps saved by cancellation."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._before = 0.0, 0.0
        checked = self._checks()
        # Serve collects the model's metrics at its health checks. One may be in transit, so the third is certainly a new one.
        service.wait_until(lambda: self._checks() >= checked + 3, "health checks")
        self._before = self.counts()

    def counts(self) -> tuple[float, float]:
        """Return the steps run and saved since this object was made."""
        names = "ray_sonograph_denoising_steps_total", "ray_sonograph_denoising_steps_saved_total"
        ran, saved = (self._service.metric(name) - before for name, before in zip(names, self._before, strict=True))
        return ran, saved

    def wait_for_first(self) -> None:
        self._service.wait_until(lambda: self.counts()[0] > 0, "a denoising step")

    def wait_for_total(self, requested: int) -> tuple[float, float]:
        """Wait until the steps run and saved account for all requested steps, and return them."""
        self._service.wait_until(lambda: sum(self.counts()) >= requested, f"an account of {requested} steps")
        assert sum(self.counts()) == requested
        return self.counts()

    def _checks(self) -> float:
        return self._service.metric("ray_serve_health_check_latency_ms_count", deployment="diffusion")


def times_ms(service: Service, **size: str) -> tuple[float, float]:
    """Measure decoding plus Whisper of a lone request, and one denoising step, on this machine at this time."""
    timings = service.draw(CAT, steps="4", **size)["timings_ms"]
    return timings["decode"] + timings["whisper"], timings["diffusion"] / 4


@pytest.fixture
def steps(service: Service) -> Steps:
    return Steps(service)


# Progress


def test_a_stream_reports_each_stage_in_order_and_ends_with_the_image_of_the_plain_answer(service: Service) -> None:
    fields = {"seed": "7", "steps": "9", "previews": "3", "width": "72", "height": "80"}
    plain = service.post(CAT, seed="7", steps="9", width="72", height="80")
    with service.events(CAT, {"X-Request-ID": "shown-1"}, **fields) as events:
        received = list(events)
    event_types = [
        event_type for event_type, _ in itertools.groupby(event["type"] for event in received if event["type"] != "image.preview")
    ]
    assert event_types == ["accepted", "transcript.delta", "transcript", "image.step", "image", "done"]
    assert [event["sequence"] for event in received] == list(range(len(received)))
    for event in received:
        assert (event["event"], event["id"], event["request_id"]) == (event["type"], str(event["sequence"]), "shown-1")
    of = {name: [event for event in received if event["type"] == name] for name in {event["type"] for event in received}}

    assert of["accepted"][0]["deadline_ms"] == 30_000
    (transcript,) = of["transcript"]
    deltas = [{"text": one["text"], "start": one["start"], "end": one["end"]} for one in of["transcript.delta"]]
    assert deltas == [{"text": one["text"], "start": one["start"], "end": one["end"]} for one in transcript["segments"]]
    assert "cat sleeping" in deltas[0]["text"]
    assert transcript["language"] == "en"

    assert [(event["step"], event["steps"]) for event in of["image.step"]] == [(step, 9) for step in range(1, 10)]
    assert [event["eta_ms"] > 0 for event in of["image.step"]] == 8 * [True] + [False]
    assert len(of["image.preview"]) == 3
    for preview in of["image.preview"]:
        picture = Image.open(io.BytesIO(base64.b64decode(preview["base64"], validate=True)))
        picture.load()
        assert (picture.format, picture.size) == ("JPEG", (preview["width"], preview["height"])) == ("JPEG", (72, 80))
        assert preview["media_type"] == "image/jpeg"
        assert received[preview["sequence"] - 1]["step"] == preview["step"]  # the previous event reports the same step

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
def test_a_request_refused_before_work_starts_gets_no_stream(
    service: Service, request_: dict[str, Any], status: int, code: str
) -> None:
    headers = {"Accept": EVENTS, **request_.get("headers", {})}
    answer = service.client.post("/graph", **{**request_, "headers": headers})
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, answer.json()["status"], answer.json()["code"]) == (status, status, code)


def test_a_later_error_is_the_last_event_of_the_stream(service: Service) -> None:
    with service.events(CAT, language="fr") as events:
        received = list(events)
    assert [event["type"] for event in received] == ["accepted", "error"]
    problem = received[-1]["problem"]
    assert (problem["status"], problem["code"], problem["stage"]) == (422, "invalid_parameter", "whisper")
    assert problem["request_id"] == received[-1]["request_id"]


# Cancel


SERVES_OWN_HEADERS = {"x-request-disconnect-disabled": "?1", "x-request-timeout-seconds": "0"}
"""Serve's own headers, which would disable cancellation."""


async def test_clients_that_disconnect_free_the_model_within_the_step_that_they_share(service: Service, steps: Steps) -> None:
    """A stream with Serve's own headers, a stream without and a plain request with them; the next test has a plain one without."""
    running = await Call(service, CAT, headers=SERVES_OWN_HEADERS, steps="150", **LARGE).wait_for("image.step")
    other = await Call(service, CAT, steps="149", **LARGE).wait_for("transcript")
    plain = Call(service, CAT, streaming=False, headers=SERVES_OWN_HEADERS, steps="148", **LARGE)
    await asyncio.to_thread(service.wait_until, lambda: busy(service, "diffusion") == 3, "three requests in the model")
    await other.disconnect()
    await plain.disconnect()
    seen = running.step
    await running.disconnect()
    ran, _ = await asyncio.to_thread(steps.wait_for_total, 150 + 149 + 148)
    assert seen <= ran <= 3 * (seen + 2), "no step runs after those that the first client received, and none without it"
    serves_as_before(service)


async def test_a_plain_client_that_disconnects_frees_the_model(service: Service, steps: Steps) -> None:
    call = Call(service, CAT, streaming=False, steps="150", **LARGE)
    await asyncio.to_thread(steps.wait_for_first)
    await call.disconnect()
    _, saved = await asyncio.to_thread(steps.wait_for_total, 150)
    assert saved > 75
    serves_as_before(service)


def test_an_interrupted_sonograph_draw_frees_the_model(service: Service, steps: Steps, tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    with sonograph_draw(service, "-o", str(picture), "--steps", "150", "--width", "512", "--height", "512") as client:
        steps.wait_for_first()
        client.send_signal(signal.SIGINT)
        output, _ = client.communicate(timeout=30)
    assert client.returncode == 130
    assert "Traceback" not in output
    assert list(tmp_path.iterdir()) == []
    _, saved = steps.wait_for_total(150)
    assert saved > 75
    serves_as_before(service)


def test_an_exceeded_deadline_frees_the_model(service: Service) -> None:
    transcription_ms, step_ms = times_ms(service, **LARGE)
    steps = Steps(service)
    with service.events(CAT, steps="150", timeout_ms=f"{3 * transcription_ms + 8 * step_ms:.0f}", **LARGE) as events:
        received = list(events)
    problem = received[-1]["problem"]
    assert (problem["status"], problem["code"], problem["stage"]) == (504, "deadline_exceeded", "diffusion")
    seen = max(map(step_of, received))
    ran, _ = steps.wait_for_total(150)
    assert 1 <= seen <= ran <= seen + 2
    serves_as_before(service)


def sonograph_draw(service: Service, *options: str) -> subprocess.Popen[str]:
    command = [str(Path(sys.prefix) / "bin" / "sonograph"), "draw", str(speech.HERE / "cat-slt.ogg"), "--url", service.url]
    return subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_sonograph_draw_writes_the_services_answer(service: Service, tmp_path: Path) -> None:
    picture = tmp_path / "picture.webp"
    with sonograph_draw(service, "-o", str(picture), "--seed", "3", "--json") as client:
        output, _ = client.communicate(timeout=60)
    assert client.returncode == 0, output
    plain = service.draw(CAT, seed="3", output_format="webp")
    assert picture.read_bytes() == base64.b64decode(plain["image"]["base64"])
    assert plain["transcript"] in output


# Deadline


async def test_an_exceeded_deadline_is_a_504_that_names_the_running_stage(service: Service) -> None:
    transcription_ms, step_ms = await asyncio.to_thread(times_ms, service, **LARGE)
    ahead = [Call(service, media.minute()) for _ in range(6)]
    await asyncio.gather(*(call.wait_for("accepted") for call in ahead))
    # Alone the request would fit its deadline, so it is not refused; behind these it does not.
    in_form = await asyncio.to_thread(service.post, CAT, timeout_ms=f"{2.5 * transcription_ms:.0f}")
    for call in ahead:
        await call.disconnect()
    assert (in_form.json()["code"], in_form.json()["stage"]) == ("deadline_exceeded", "whisper")
    options = {"files": {"file": CAT}, "data": {"steps": "150", **LARGE}}
    enough_to_transcribe = f"{3 * transcription_ms + 8 * step_ms:.0f}"
    headers = {"X-Timeout-Ms": enough_to_transcribe, "x-request-timeout-seconds": "0"}
    in_query, in_header = await asyncio.gather(
        asyncio.to_thread(service.client.post, f"/graph?timeout_ms={enough_to_transcribe}", **options),
        asyncio.to_thread(service.client.post, "/graph", headers=headers, **options),
    )
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
        received = list(events)
    assert (received[0]["type"], received[0]["deadline_ms"]) == ("accepted", deadline_ms)
    assert received[-1]["type"] == "done"


def test_an_unreachable_deadline_is_refused_before_the_model_starts(service: Service) -> None:
    size = {"width": "256", "height": "248"}
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda seed: service.draw(CAT, seed=str(seed), steps="1", **size), range(20)))
    transcription_ms, _ = times_ms(service, **size)
    steps = Steps(service)
    problem = service.post(CAT, steps="150", timeout_ms=f"{4 * transcription_ms:.0f}", **size).json()
    assert (problem["status"], problem["code"], problem["stage"]) == (504, "deadline_unreachable", "diffusion")
    service.draw(CAT, steps="3", timeout_ms="20000", **size)
    assert steps.wait_for_total(3) == (3, 0)


# Metrics and access log


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
        return lacking - elsewhere

    elsewhere = {name for name, _ in named if name.startswith("ray_sonograph_rollout_")}  # test_rollouts.py
    service.wait_until(lambda: not missing(), "every metric")
    for stage in ("decode", "whisper", "diffusion"):
        assert service.metric("ray_sonograph_requests_total", stage=stage, deployment="ingress") >= 1
        assert service.metric("ray_sonograph_compute_duration_seconds_count", stage=stage) >= 1
    assert service.metric("ray_sonograph_errors_total", stage="whisper", code="invalid_parameter") >= 1
    for deployment in ("whisper", "diffusion"):
        assert service.metric("ray_nv_inference_count_total", deployment=deployment, model=deployment) >= 1


def test_a_failures_counter_is_exported_before_its_first_increase(service: Service) -> None:
    """No rate() sees an increase from nothing, and Ray's own method refuses to add 0."""
    expected = {(stage, code) for stage in ("ingress", "decode", "whisper", "diffusion") for code in SERVER_ERRORS}

    def found() -> dict[tuple[str, str], float]:
        samples = [sample for family in service.scrape() for sample in family.samples if sample.name == ERRORS.exported]
        return {(one.labels["stage"], one.labels["code"]): one.value for one in samples}

    service.wait_until(lambda: expected <= found().keys(), "the errors of each stage")
    assert {value for (_, code), value in found().items() if code == "internal"} == {0.0}


def test_each_request_is_one_json_line_in_the_ingress_log_without_its_transcript(service: Service) -> None:
    drawn, refused, streamed, *disconnected = (f"line-{uuid.uuid4().hex}" for _ in range(13))
    files = {"file": CAT}
    service.client.post("/graph", headers={"X-Request-ID": drawn}, files=files, data={"seed": "5", "steps": "3"})
    service.client.post("/graph", headers={"X-Request-ID": refused}, files=files, data={"language": "fr"})
    with service.events(CAT, {"X-Request-ID": streamed}, language="fr") as events:
        list(events)
    for id in disconnected:  # several, since Serve reports a disconnect in more than one way
        with service.events(CAT, {"X-Request-ID": id}, steps="150", **LARGE) as events:
            assert any(step_of(event) for event in events)

    def lines() -> dict[str, list[dict[str, Any]]]:
        found = [json.loads(line) for line in re.findall(r'\{"event": "request".*\}', service.logs("ingress"))]
        return {id: [line for line in found if line["request_id"] == id] for id in (drawn, refused, streamed, *disconnected)}

    service.wait_until(lambda: all(lines().values()), "a log entry for each request")
    entries = {id: line for id, (line,) in lines().items()}
    assert {"status": 200, "code": None, "steps": 3, "seed": 5, "cancelled": False}.items() <= entries[drawn].items()
    assert list(entries[drawn]["timings_ms"]) == ["decode", "whisper", "diffusion", "encode"]
    assert entries[drawn]["took_ms"] >= sum(entries[drawn]["timings_ms"].values()) > 0
    assert entries[drawn]["audio_s"] == pytest.approx(decode(CAT, 60).size / 16_000)
    for id in (refused, streamed):
        assert {"status": 422, "code": "invalid_parameter", "stage": "whisper"}.items() <= entries[id].items()
    for id in disconnected:
        entry = entries[id]
        assert (entry["status"], entry["code"], entry["cancelled"]) == (499, None, True)
        assert "steps" not in entry, "the request's image was not finished"
    assert "cat" not in json.dumps([entries[id] for id in entries]).lower()
    assert "sleeping" not in service.logs("ingress").lower()
