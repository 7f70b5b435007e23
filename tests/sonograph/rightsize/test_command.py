"""`sonograph rightsize` as it is typed: over a service, a dashboard and metrics on loopback, and over results."""

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from typer.testing import CliRunner, Result

from sonograph.cli import cli
from sonograph.rightsize import bounded, sources
from testing.serving import serving
from tests.sonograph.rightsize.figures import MIB
from tests.sonograph.rightsize.test_replicas import requested
from tests.sonograph.rightsize.test_results import kept, measured
from tests.sonograph.test_status import replica, stage, topology

pytestmark = pytest.mark.slow

GIB = 2**30
ADDRESS = "192.0.2.1"


@dataclass
class FakeService:
    """A service of one whisper on a pod of its own, with Ray's dashboard and the pod's metrics at one address."""

    url: str = ""
    cpu_percent: float = 45
    memory_bytes: float = 1.5 * GIB
    answers: dict[str, Callable[[], Response]] = field(default_factory=dict)
    """Answers of other kinds, by path."""

    async def graph(self, _: Request) -> Response:
        pod = {**replica("a1", host="pod"), "labels": {"image": "whisper"}}
        return JSONResponse(topology(stage("whisper", "tiny.en", pod, **requested(CPU=1))))

    async def rollouts(self, _: Request) -> Response:
        return JSONResponse({"rollouts": {}, "application": "sonograph", "serve_api": self.url})

    async def details(self, _: Request) -> Response:
        return JSONResponse({"applications": {}})

    async def nodes(self, _: Request) -> Response:
        node = {"state": "ALIVE", "node_ip": ADDRESS, "resources_total": {"CPU": 1}}
        return JSONResponse({"data": {"result": {"result": [node]}}})

    async def discovered(self, _: Request) -> Response:
        return JSONResponse([{"targets": [self.url.removeprefix("http://")]}])

    async def metrics(self, _: Request) -> Response:
        figures = {"cpu_utilization": self.cpu_percent, "cpu_count": 2, "mem_used": self.memory_bytes, "mem_total": 3 * GIB}
        return PlainTextResponse("".join(f'ray_node_{name}{{ip="{ADDRESS}"}} {value}\n' for name, value in figures.items()))

    def route(self, path: str, own: Callable[[Request], Any]) -> Route:
        async def answer(request: Request) -> Response:
            return self.answers[path]() if path in self.answers else await own(request)

        return Route(path, answer)


PATHS = ("/graph", "/graph/rollouts", "/api/serve/applications/", "/api/v0/nodes", "/api/prometheus/sd", "/metrics")


@contextlib.contextmanager
def running(fake: FakeService) -> Iterator[FakeService]:
    owns = (fake.graph, fake.rollouts, fake.details, fake.nodes, fake.discovered, fake.metrics)
    app = Starlette(routes=[fake.route(path, own) for path, own in zip(PATHS, owns, strict=True)])
    with serving(app) as fake.url:
        yield fake


@pytest.fixture
def service() -> Iterator[FakeService]:
    with running(FakeService()) as fake:
        yield fake


def run(*words: str | Path, columns: int = 200) -> Result:
    return CliRunner().invoke(cli, ["rightsize", *map(str, words)], env={"COLUMNS": str(columns), "SONOGRAPH_KEY": ""})


def sampled(service: FakeService, *words: str | Path, columns: int = 200) -> Result:
    """Run over the service for the shortest time, without Ray's token."""
    return run("--url", service.url, "--seconds", "1", "--ray-token-file", "/nonexistent", *words, columns=columns)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    story = [measured(f"s{n}", "small, openai-whisper", threads=8, cpu_s=3.8, peak_bytes=2300 * MIB) for n in range(6)]
    fine = [measured(f"t{n}", cpu_s=1.9) for n in range(6)]
    return kept(tmp_path / "results", *fine, *story, measured("x", error="x.wav is no sound"))


def test_a_service_under_load_is_judged_by_its_pods_metrics(service: FakeService) -> None:
    result = sampled(service, "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    (whisper,) = document["subjects"]
    assert whisper["used"]["cpus"] == {"p50": 0.9, "p95": 0.9, "max": 0.9}
    assert whisper["used"]["threads"] is None
    assert any("threads are not among" in sentence for sentence in whisper["missing"])
    assert whisper["advised"] == {"cpus": 0.9, "memory_bytes": 29 * 64 * MIB}
    assert document["packing"]["nodes"][0]["cpus"] == 2
    assert document["rule"]["memory_margin"] == 1.2


def test_more_than_it_asks_for_is_status_1_and_a_values_file_says_what_to_ask_for(service: FakeService, tmp_path: Path) -> None:
    service.cpu_percent = 95
    result = sampled(service, "--write", tmp_path / "values.yaml")
    assert result.exit_code == 1, result.output
    assert "error  whisper asks for 1 CPU and used 1.9 CPUs (p95): ask for 2." in result.stdout
    assert yaml.safe_load((tmp_path / "values.yaml").read_text()) == {"groups": {"whisper": {"cpus": 2, "memory_gib": 2}}}
    rendered = CliRunner().invoke(cli, ["render", "cpu", "--values", str(tmp_path / "values.yaml"), "--out", str(tmp_path)])
    assert rendered.exit_code == 0, rendered.output


def test_an_idle_service_is_said_to_be_idle_and_gets_no_advice_on_cpus(service: FakeService) -> None:
    service.cpu_percent = 0.5
    result = sampled(service)
    assert result.exit_code == 0
    assert "so there is no advice on CPUs" in result.stdout
    assert "The service was idle: send it the load" in result.stdout


@pytest.mark.parametrize("columns", [80, 120])
def test_the_table_fits_a_terminal(service: FakeService, results: Path, columns: int) -> None:
    for result in (
        sampled(service, columns=columns),
        run(results, "--node", "cpus=8,memory=32Gi", "--node", "cpus=2,memory=4Gi,count=3", columns=columns),
    ):
        lines = result.stdout.splitlines()[1:]  # the first has the results' path
        assert max(map(len, lines)) <= columns
        figures = [line for line in lines if re.match(r"  (CPUs|memory|threads) ", line)]
        assert figures
        assert len({line.index(cell) + len(cell) for line in figures for cell in [line.split()[1]]}) == 1, "columns are aligned"


ENDS: dict[str, tuple[Callable[[], Response], str]] = {
    "404": (lambda: Response("nothing", 404), "does not answer as Sonograph does|has no rollouts|is it its address"),
    "500": (lambda: JSONResponse({"detail": "out of order", "code": "internal"}, 500), "out of order"),
    "garbage": (lambda: Response(bytes(range(256))), "does not answer as Sonograph does"),
    "a list": (lambda: JSONResponse([1, 2]), "no rollouts|tells only operators"),
}


@pytest.mark.parametrize("path", ["/graph", "/graph/rollouts"])
@pytest.mark.parametrize("name", ENDS)
def test_a_service_that_answers_something_else_is_status_2_with_a_sentence(service: FakeService, path: str, name: str) -> None:
    answer, says = ENDS[name]
    service.answers[path] = answer
    result = sampled(service)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("sonograph rightsize: ")
    assert re.search(says, result.stderr), result.stderr


@pytest.mark.parametrize("path", ["/api/serve/applications/", "/api/v0/nodes"])
@pytest.mark.parametrize(
    "answer",
    [lambda: Response("x", 404), lambda: Response("x", 500), lambda: Response(b"\xff"), lambda: JSONResponse(7)],
    ids=["404", "500", "garbage", "a number"],
)
def test_a_dashboard_that_answers_something_else_is_status_2(
    service: FakeService, path: str, answer: Callable[[], Response]
) -> None:
    service.answers[path] = answer
    result = sampled(service)
    assert result.exit_code == 2, result.output
    assert "dashboard" in result.stderr


@pytest.mark.parametrize(
    "answer",
    [lambda: Response("x", 404), lambda: Response(b"\xff"), lambda: JSONResponse({"targets": 5})],
    ids=["404", "garbage", "other"],
)
def test_without_metrics_ports_the_answer_says_what_it_does_not_see(service: FakeService, answer: Callable[[], Response]) -> None:
    service.answers["/api/prometheus/sd"] = answer
    result = sampled(service)
    assert result.exit_code == 0, result.output
    assert "names no metrics ports" in result.stdout
    assert "shows no metrics" in result.stdout


def test_a_service_without_replicas_is_status_2(service: FakeService) -> None:
    service.answers["/graph"] = lambda: JSONResponse(topology(stage("whisper", "tiny.en", replica("a1", "STARTING"))))
    result = sampled(service)
    assert result.exit_code == 2
    assert "no replica of" in result.stderr
    assert "a1 is STARTING" in result.stderr


def test_a_text_from_a_service_steers_no_terminal(service: FakeService) -> None:
    evil = stage("whis\x1b[31mper", "m", {**replica("a\x1b]0;x\x07", host="pod"), "labels": {"image": "x"}}, **requested(CPU=1))
    service.answers["/graph"] = lambda: JSONResponse(topology(evil))
    result = sampled(service)
    assert result.exit_code == 0, result.output
    assert "\x1b" not in result.stdout
    assert "\x07" not in result.stdout
    assert r"whis\x1b[31mper" in result.stdout


def test_a_service_that_never_answers_ends_in_a_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    silent = httpx.MockTransport(lambda request: (_ for _ in ()).throw(httpx.ReadTimeout("", request=request)))
    monkeypatch.setattr(sources, "Bounded", lambda: bounded.Bounded(silent))
    result = run("--url", "http://192.0.2.1:8000")
    assert result.exit_code == 2
    assert "silent for too long" in result.stderr


def test_an_answer_without_end_ends_in_a_sentence(service: FakeService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "Bounded", lambda: bounded.Bounded(most_bytes=2**10))
    service.answers["/graph/rollouts"] = lambda: Response(b" " * 2**16)
    result = sampled(service)
    assert result.exit_code == 2
    assert "sends more than" in result.stderr


def test_a_dashboard_on_another_machine_is_asked_only_if_the_user_names_it(service: FakeService) -> None:
    named = {"rollouts": {}, "application": "sonograph", "serve_api": "http://192.0.2.77:8265"}
    service.answers["/graph/rollouts"] = lambda: JSONResponse(named)
    result = sampled(service)
    assert result.exit_code == 2
    assert "add --dashboard http://192.0.2.77:8265" in result.stderr
    assert sampled(service, "--dashboard", service.url).exit_code == 0


def test_nothing_at_the_address_is_status_2() -> None:
    for url, says in (("http://127.0.0.1:9", "nothing answers"), ("nonsense", "not the address")):
        result = run("--url", url)
        assert (result.exit_code, result.stdout) == (2, "")
        assert says in result.stderr


def test_the_story_in_results_is_status_1_with_what_follows_for_a_node(results: Path) -> None:
    result = run(results, "--node", "cpus=8,memory=32Gi")
    assert result.exit_code == 1, result.output
    printed = " ".join(result.stdout.split())  # lines end anywhere
    assert "error small, openai-whisper asked for 1 CPU and ran 8 threads at the same time" in printed
    assert "a node of 8 CPUs takes 8 of small, openai-whisper as requested, which keep 64 CPUs busy" in printed
    assert "1 task failed" in printed


def test_results_without_nodes_ask_for_one(results: Path) -> None:
    assert "No node is known to pack onto: name one, such as --node cpus=8,memory=32Gi" in run(results).stdout


def test_results_write_values_of_the_candidate_that_is_named(results: Path, tmp_path: Path) -> None:
    file = tmp_path / "values.yaml"
    refused = run(results, "--write", file)
    assert (refused.exit_code, file.exists()) == (2, False)
    assert "--candidate" in refused.stderr
    done = run(results, "--write", file, "--candidate", "tiny.en, faster-whisper")
    assert done.exit_code == 1, "another candidate asks for less than it uses"
    assert yaml.safe_load(file.read_text())["groups"]["whisper"]["cpus"] == 1
    assert "sonograph render cpu --values" in done.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--node", "cpu=8"], "no part of a node"),
        (["--window", "soon", "--prometheus", "http://127.0.0.1:9"], "is no time"),
        (["--window", "1s", "--prometheus", "http://127.0.0.1:9"], "not between 1m and 366d"),
        (["--profile", "cpus"], "there is no cpus"),
        (["--seconds", "0"], "--seconds"),
        ([".", "--prometheus", "http://127.0.0.1:9"], "give RESULTS or --prometheus"),
        (["/nonexistent"], "no results of `sonograph compare`"),
    ],
    ids=lambda one: " ".join(one) if isinstance(one, list) else "",
)
def test_a_wrong_option_is_status_2_and_says_which(words: list[str], says: str) -> None:
    result = run(*words)
    assert result.exit_code == 2
    assert says in re.sub(r"[│\s]+", " ", result.stderr)


def test_prometheus_is_asked_for_the_pods_of_the_service(service: FakeService) -> None:
    async def query(request: Request) -> Response:
        series = {"metric": {"ip": ADDRESS}, "values": [[60 * n, "0.5"] for n in range(20)]}
        return JSONResponse(
            {"status": "success", "data": {"result": [series] if "cpu_utilization" in request.query_params["query"] else []}}
        )

    with serving(Starlette(routes=[Route("/api/v1/{kind}", query)])) as url:
        result = sampled(service, "--prometheus", url, "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["subjects"][0]["used"]["cpus"]["p95"] == 0.5
    assert document["seconds"] == 86_400
