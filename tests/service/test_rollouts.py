"""Rollouts on the real service: candidates with faults, processes killed in the middle of a plan, shares on two ingress replicas.

The models are of known cost (testing/known_cost): a transcript follows from its recording, and the answer names the model.
"""

import contextlib
import itertools
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from deployments.span import TraceContext, new_id
from graphs.audio.decode import decode
from sonograph.dashboard import Dashboard
from sonograph.rollouts import serve_config
from sonograph.rollouts.serve_config import Candidate
from sonograph.rollouts.targets import RunningServe
from testing import known_cost, speech
from testing.collector import Collector, wait_for
from testing.jaeger import Jaeger
from testing.service import ROOT, Service, config, environment, free_port, running

pytestmark = pytest.mark.serve
RECORDINGS = [(speech.HERE / f"{name}.ogg").read_bytes() for name in ("cat-slt", "boat-rms", "tree-slt")]
SPOKEN = [(recording, known_cost.text(decode(recording, 60))) for recording in RECORDINGS]
STABLE, OTHER = "tiny.en", "small.en"
IMPORT_PATH = "testing.known_cost.app:candidate"
SETTINGS: dict[str, Any] = {"graphs": ["voice_to_text"], "http": {"deadline_s": 30}}
OPTIONS = {"ingress": {"num_replicas": 2}, "whisper": {"ray_actor_options": {"num_cpus": 0.5}, "health_check_period_s": 1}}
FAULTS: dict[str, dict[str, Any]] = {
    "never-starts": {"never_starts": True},
    "fails": {"fails": 0.3},
    "other-shape": {"other_shape": True},
    "slower": {"slower": 400},
    "dies": {"dies_after": 60},
}
"""Faults by the candidate's application. Health checks count as requests: one of less would die before it is tried."""
GOOD = "good"
NO_BUDGETS = {"max_errors": None}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[Service]:
    """A service of Whisper alone, with two ingress replicas, and all candidates, which start at the same time."""
    folder, port = tmp_path_factory.mktemp("rollouts"), free_port()
    content = yaml.safe_load(config(port, OPTIONS, **SETTINGS, tracing={"endpoint": collector.url}))
    (application,) = content["applications"]
    application["import_path"] = "testing.known_cost.app:app"
    application["deployments"] = [one for one in application["deployments"] if one["name"] in OPTIONS]
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(content))
    command = [str(Path(sys.prefix) / "bin" / "sonograph"), "serve", "--config", str(path), "--port", str(port)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        with running(folder, command, port) as service:
            deploy_faulty(service)
            sonograph(
                service, "start", "--name", GOOD, "--set", f"model={OTHER}", "--import-path", IMPORT_PATH, "--num-cpus", "0.1"
            )
            remove(service)
            yield service


def deploy_faulty(service: Service) -> None:
    """Add a candidate for each fault to Serve's config: the command line gives a candidate no fault."""
    token = Path("~/.ray/auth_token").expanduser().read_text().strip()
    with Dashboard(service.client.get("/graph/rollouts").json()["serve_api"], token) as dashboard:
        target = RunningServe(dashboard)
        content = target.config()
        for name, fault in FAULTS.items():
            candidate = Candidate("whisper", name, {"model": OTHER}, {"num_cpus": 0.1}, import_path=IMPORT_PATH)
            content = serve_config.with_candidate(content, "sonograph", candidate)
            content["applications"][-1]["args"]["fault"] = fault
        target.apply(content)


def sonograph(service: Service, command: str, *options: str) -> str:
    words = [str(Path(sys.prefix) / "bin" / "sonograph"), "rollout", command, "whisper", "--url", service.url, *options]
    done = subprocess.run(words, env=environment(), capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def change(service: Service, **content: Any) -> dict[str, Any]:
    answer = service.client.put("/graph/rollouts/whisper", json=content)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def view(service: Service) -> dict[str, Any]:
    """The rollout as one of the two ingress replicas knows it. Waits while an ingress is replaced."""
    while (answer := service.client.get("/graph/rollouts/whisper")).status_code == 503:
        time.sleep(0.2)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def remove(service: Service) -> None:
    assert service.client.delete("/graph/rollouts/whisper").status_code == 204


def status(service: Service) -> str:
    return str(view(service)["rollout"]["status"])


@pytest.fixture
def good(service: Service) -> Iterator[str]:
    """The candidate without a fault, ready. No rollout is left."""
    change(service, application=GOOD)
    service.wait_until(lambda: view(service)["candidate"]["ready"], "the candidate is ready")
    remove(service)
    yield GOOD
    remove(service)


@dataclass(frozen=True)
class Answer:
    status: int
    is_right: bool
    """Whether the transcript is the recording's."""
    model: str
    took_s: float
    retry_after: str | None = None
    detail: str = ""


def listen(client: httpx.Client, number: int, headers: dict[str, str] | None = None) -> Answer:
    recording, text = SPOKEN[number % len(SPOKEN)]
    started_s = time.monotonic()
    answer = client.post("/listen", files={"file": recording}, headers={"Accept": "application/json", **(headers or {})})
    took_s = time.monotonic() - started_s
    if answer.status_code != 200:
        return Answer(answer.status_code, False, "", took_s, answer.headers.get("retry-after"), answer.text)
    content = answer.json()
    return Answer(200, content["transcript"] == text, content["models"]["whisper"], took_s)


@dataclass
class Load:
    answers: list[Answer] = field(default_factory=list)
    ended: bool = False

    def wait_for(self, more: int) -> None:
        """Wait for further answers to requests of now on."""
        wanted = len(self.answers) + more
        while len(self.answers) < wanted:
            time.sleep(0.05)

    def wrong(self) -> list[Answer]:
        return [one for one in self.answers if not one.is_right]


@contextlib.contextmanager
def load(service: Service, clients: int = 4, headers: dict[str, str] | None = None) -> Iterator[Load]:
    """Clients that send one request after the other until the context ends."""
    found = Load()

    def send(first: int) -> None:
        with httpx.Client(base_url=service.url, timeout=60) as client:
            for number in itertools.count(first):
                if found.ended:
                    return
                found.answers.append(listen(client, number, headers))
                time.sleep(0.05)

    with ThreadPoolExecutor(clients) as pool:
        sent = [pool.submit(send, number) for number in range(clients)]
        try:
            yield found
        finally:
            found.ended = True
    for one in sent:
        one.result()


def pids(service: Service) -> set[int]:
    return {one.pid for name in OPTIONS for one in service.replicas(name)}


DEAD = "the candidate does not serve: .*health check failed|no replica of the candidate serves any more|share of failed requests"
REASONS = {
    "never-starts": "the candidate does not serve: .*this candidate never starts",
    "fails": "share of failed requests",
    "other-shape": "share of failed requests",
    "slower": "share of failed requests",
    "dies": DEAD,
}
CODES = {"fails": "internal", "other-shape": "wrong_shape", "slower": "deadline_exceeded"}
"""Code of the candidate's failures, by its application."""


@pytest.mark.parametrize("application", FAULTS)
def test_the_stable_model_answers_everything_where_the_candidate_has_a_fault(service: Service, application: str) -> None:
    before = pids(service)
    timeout_ms = "2500" if application == "slower" else "30000"
    with load(service, clients=6, headers={"X-Timeout-Ms": timeout_ms}) as sent:
        change(service, application=application, plan={"steps": [50, 100], "every_s": 20, "min_requests": 500})
        service.wait_until(lambda: status(service) == "aborted", "the plan aborts", 120)
        sent.wait_for(12)
    assert sent.wrong() == []
    if application not in ("fails", "dies"):  # which answer some requests
        assert {one.model for one in sent.answers} == {STABLE}
    assert {one.model for one in sent.answers[-6:]} == {STABLE}
    ended = view(service)["rollout"]
    assert (ended["share"], ended["mirror"]) == (0, 0)
    assert re.search(REASONS[application], ended["reason"]), ended["reason"]
    if code := CODES.get(application):
        service.wait_until(lambda: code in view(service)["figures"]["candidate"]["errors"], f"{code} in the figures")
    assert pids(service) == before
    remove(service)


def test_both_ingress_replicas_follow_a_share_without_a_restart(service: Service, good: str) -> None:
    before = pids(service) | {one.pid for one in service.replicas("whisper", GOOD)}
    change(service, application=good)
    service.wait_until(lambda: view(service)["candidate"]["ready"], "the candidate is ready")
    for share, model in ((100, OTHER), (0, STABLE), (100, OTHER)):
        change(service, share=share)
        changed_s, last_s = time.monotonic(), 0.0
        answers: list[Answer] = []
        while not answers or {one.model for one in answers[-40:]} != {model} or len(answers) < 40:
            answers.append(listen(service.client, len(answers)))
            if answers[-1].model != model:
                last_s = time.monotonic() - changed_s
            assert time.monotonic() - changed_s < 20
        print(f"share {share}: the last request to the other model was sent {last_s:.2f} s after the change")
        assert [one for one in answers if not one.is_right] == []
    assert pids(service) | {one.pid for one in service.replicas("whisper", GOOD)} == before


def test_a_request_id_always_gets_the_same_model(service: Service, good: str) -> None:
    change(service, application=good, share=50)
    service.wait_until(lambda: listen(service.client, 0, {"X-Rollout": "whisper=candidate"}).model == OTHER, "it answers")
    time.sleep(1)  # both ingress replicas know the share
    models = {
        id: {listen(service.client, 0, {"X-Request-ID": id}).model for _ in range(4)} for id in (f"id-{n}" for n in range(16))
    }
    assert all(len(found) == 1 for found in models.values()), models
    assert {model for found in models.values() for model in found} == {STABLE, OTHER}


def test_mirrored_requests_change_no_answer_and_are_compared(service: Service, good: str) -> None:
    change(service, application=good, mirror=100)
    with load(service, clients=1) as sent:
        service.wait_until(lambda: view(service)["figures"]["pairs"]["count"] >= 20, "twenty pairs")
    assert sent.wrong() == []
    assert {one.model for one in sent.answers} == {STABLE}
    figures = view(service)["figures"]
    assert figures["pairs"]["word_drift"]["value"] == 0
    assert figures["candidate"]["errors"] == {}
    mirrored = {"stage": "whisper", "dropped": "false"}
    service.wait_until(lambda: service.metric("ray_sonograph_rollout_mirrors_total", **mirrored) >= 20, "they are counted")


def test_a_mirrored_requests_trace_reaches_down_to_the_candidates_model(service: Service, good: str) -> None:
    change(service, application=good, mirror=100)
    service.wait_until(lambda: view(service)["candidate"]["ready"], "the candidate is ready")
    time.sleep(1)  # both ingress replicas know the mirror
    assert listen(service.client, 0, {"X-Request-ID": "traced-mirror"}).model == STABLE

    def trace(id: str) -> dict[str, Any]:
        return dict(service.client.get(f"/graph/traces/{id}").json())

    service.wait_until(lambda: trace("traced-mirror").get("mirrors"), "the mirrored request has ended")
    request = trace("traced-mirror")
    (id,) = request["mirrors"]
    mirror = trace(id)
    assert (mirror["mirror_of"], mirror["request_id"]) == (request["trace_id"], "traced-mirror")
    assert mirror["at"] >= request["at"] + request["took_ms"] / 1000, "no client waits for it"
    spans = {span["name"]: span for span in mirror["spans"]}
    way = ["mirror whisper", "whisper-candidate", "call whisper-candidate", "FaultyWhisper", "triton whisper", "compute"]
    for above, below in itertools.pairwise(way):
        assert spans[below]["parent_id"] == spans[above]["id"]
    assert not {span["id"] for span in mirror["spans"]} & {span["id"] for span in request["spans"]}


def test_a_candidates_and_a_mirrored_requests_trace_reach_a_collector(
    service: Service, good: str, receiver: Collector | Jaeger
) -> None:
    def trace(id: str) -> dict[str, Any]:
        return dict(service.client.get(f"/graph/traces/{id}").json())

    change(service, application=good, share=100, mirror=100)
    service.wait_until(lambda: view(service)["candidate"]["ready"], "the candidate is ready")
    time.sleep(1)  # both ingress replicas know the share
    caller = TraceContext(new_id(32), new_id(16), True, "congo=t61rcWkgMzE")
    assert listen(service.client, 0, {"traceparent": str(caller), "tracestate": caller.state}).model == OTHER
    service.wait_until(lambda: trace(caller.trace_id).get("mirrors"), "the mirrored request has ended")
    request = trace(caller.trace_id)
    (id,) = request["mirrors"]
    mirror = trace(id)
    for kept, name in ((request, "whisper-candidate"), (mirror, "whisper")):
        received = wait_for(receiver.received, kept["trace_id"], len(kept["spans"]))
        assert received.as_kept() == {span["id"]: span for span in kept["spans"]}
        assert {"FaultyWhisper" if kept is request else "KnownCostWhisper", name, f"call {name}"} <= {
            span.name for span in received.spans
        }
        links = {(span.name, link.trace_id.hex(), link.span_id.hex()) for span in received.spans for link in span.links}
        assert links == (set() if kept is request else {("mirror whisper", caller.trace_id, request["spans"][0]["id"])})
        if isinstance(receiver, Jaeger):
            assert receiver.orphans(kept["trace_id"]) == (
                ["POST /listen"] if kept is request else []
            )  # its parent is the client's


def test_every_metric_of_rollouts_is_on_rays_metrics_port(service: Service, good: str) -> None:
    """All of the documents, with their labels: a mirrored request, a fallback, a share and a score."""
    rows = re.findall(r"^\| `(ray_sonograph_rollout_\w+)` \| (.*?) \|", (ROOT / "docs" / "metrics.md").read_text(), re.MULTILINE)
    change(service, application="fails", share=50, mirror=100)
    service.wait_until(lambda: view(service)["candidate"]["ready"], "the candidate is ready")

    def missing() -> set[str]:
        assert listen(service.client, 0).is_right
        found = {sample.name: sample.labels for family in service.scrape() for sample in family.samples}
        return {name for name, labels in rows if not set(re.findall(r"`(\w+)`", labels)) <= found.get(name, {}).keys()}

    assert len(rows) == 4
    service.wait_until(lambda: not missing(), "every metric of rollouts")


def test_a_killed_ingress_and_controller_change_no_plan(service: Service, good: str) -> None:
    steps = [10, 20, 40, 60, 80]
    change(service, application=good, plan={"steps": steps, "every_s": 4, "min_requests": 0, "budgets": NO_BUDGETS})
    service.wait_until(lambda: view(service)["rollout"]["step"] == 1, "the second step")
    time.sleep(1)  # its line is written right after it; the next step is 3 s away
    victims = [service.replicas("ingress")[0], service.controller]
    with load(service, clients=2) as sent:
        for victim in victims:
            victim.kill()
        found = view(service)["rollout"]
        assert found["share"] in steps[1:3]
        service.wait_until(lambda: status(service) == "finished", "the plan's end")
    for one in sent.wrong():  # was in the ingress that died
        assert one.status == 503
        assert one.retry_after is not None
    history = view(service)["history"]
    first = history[0]["revision"]
    assert [one["revision"] for one in history] == list(range(first, first + len(steps) + 2))
    assert [one["share"] for one in history] == [0, *steps, steps[-1]]

    def logged() -> list[int]:
        lines = [json.loads(line) for line in re.findall(r'\{"event": "rollout".*\}', service.logs("ingress"))]
        return sorted(one["revision"] for one in lines if one["revision"] >= first)

    # The replica that makes a change logs it after the store has it, and another may have told of it by then.
    service.wait_until(lambda: logged() == [one["revision"] for one in history], "one line for each change")
    service.wait_until(lambda: len(service.replicas("ingress")) == 2 and service.controller.pid != victims[1].pid, "replacements")
    service.wait_until_ready()


@pytest.mark.parametrize("victim", ["stub", "replica"])
def test_a_candidate_killed_under_load_aborts_the_plan(service: Service, good: str, victim: str) -> None:
    change(service, application=good, plan={"steps": [50], "every_s": 600})
    before = pids(service)
    with load(service) as sent:
        service.wait_until(lambda: any(one.model == OTHER for one in sent.answers), "the candidate answers")
        (service.stub if victim == "stub" else service.replica)("whisper", GOOD).kill()
        service.wait_until(lambda: status(service) == "aborted", "the plan aborts")
        sent.wait_for(8)
    print(f"longest wait of a client while the candidate died: {max(one.took_s for one in sent.answers):.1f} s")
    assert sent.wrong() == []
    ended = view(service)["rollout"]
    assert ended["share"] == 0
    assert re.search(DEAD, ended["reason"]), ended["reason"]
    assert pids(service) == before


def test_a_promotion_loses_no_request(service: Service, good: str) -> None:
    service.wait_until(lambda: len(service.replicas("ingress")) == 2, "two ingress replicas")
    before = pids(service)
    change(service, application=good, share=50)
    service.wait_until(lambda: view(service)["candidate"]["ready"], "the candidate is ready")
    unready: list[str] = []
    with load(service, clients=2) as sent, ThreadPoolExecutor(1) as pool:
        promoted = pool.submit(sonograph, service, "promote")
        while not promoted.done():
            if (answer := service.client.get("/readyz")).status_code != 200:
                unready.append(answer.text)
            time.sleep(0.2)
        promoted.result()
        sent.wait_for(10)
    print(f"longest wait of a client during the promotion: {max(one.took_s for one in sent.answers):.1f} s; /readyz: {unready}")
    assert sent.wrong() == []
    assert unready == []
    assert {one.model for one in sent.answers[-4:]} == {OTHER}
    assert before.isdisjoint(pids(service))
    assert service.client.get("/graph/rollouts/whisper").status_code == 404
    service.wait_until(lambda: service.replicas("whisper", GOOD) == [], "the candidate's application ends")
