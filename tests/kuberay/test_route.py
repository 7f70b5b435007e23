"""The way in, rendered from values: an HTTPRoute, a Gateway, and two RayServices that share requests. What makes no sense is refused."""

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from typer.testing import CliRunner, Result

from graphs import ingress
from graphs.http.routes import graph
from graphs.http.settings import HttpSettings
from graphs.http.upload import OVERHEAD_BYTES
from graphs.settings import GRAPHS
from graphs.voice_to_image import VoiceToImage
from kuberay import render
from kuberay.doctor.rules.route import PRIVATE
from kuberay.images import Images
from kuberay.manifest.rayservice import ray_service
from kuberay.manifest.route import GRAPHS as PATHS
from kuberay.manifest.route import Split, parse_shares, route
from kuberay.profiles import CPU, NAME, PROFILES, Profile
from kuberay.values_file import applied
from kuberay.versions import TAG
from sonograph import events, service
from sonograph.cli import cli
from testing.envoy_config import IDLE_S
from testing.fakes import FakeService
from testing.manifests import load, load_all
from tests.kuberay.test_manifests import KUBERNETES, SCHEMAS, schema

SPLIT = Split({"stable": 80, "candidate": 20})
PAGE = (Path(__file__).parents[2] / "docs" / "kubernetes" / "networking.md").read_text(encoding="utf-8")
SECTION = PAGE.split("## The way in\n")[1].split("\n## ")[0]
EACH = pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda profile: profile.name)


def documents(profile: Profile = CPU) -> list[dict[str, Any]]:
    return [one for text in render.manifests(profile, Images(), split=SPLIT).values() for one in load_all(text)]


def of_kind(kind: str) -> dict[str, dict[str, Any]]:
    return {one["metadata"]["name"]: one["spec"] for one in documents() if one["kind"] == kind}


def way_in(split: Split | None = None, profile: Profile = CPU, **values: Any) -> list[dict[str, Any]]:
    """Return the objects of route.yaml that these values make."""
    return route(profile.changed({"route": values}), split)


def rule(profile: Profile = CPU, split: Split | None = SPLIT) -> dict[str, Any]:
    """Return the one rule of the route to services."""
    (one,) = route(profile, split)[-1]["spec"]["rules"]
    return dict(one)


def run(out: Path, *options: str, values: dict[str, Any] | None = None) -> Result:
    if values is not None:
        (file := out.parent / "my.yaml").write_text(yaml.safe_dump(values))
        options = ("--values", str(file), *options)
    return CliRunner().invoke(cli, ["render", "cpu", "--out", str(out), *options], env={"TERMINAL_WIDTH": "100"})


def sentences(result: Result) -> str:
    return " ".join(line.strip("│ ") for line in result.output.splitlines())


def test_the_command_writes_both_services_and_their_shares(tmp_path: Path) -> None:
    out = tmp_path / "out"
    values = {"route": {"gateway": "gateways/edge", "listener": "https", "hostnames": ["pictures.example.org"]}}
    result = run(out, "--split", "candidate=20, stable=80", values=values)
    assert result.exit_code == 0, result.output
    assert {path.name for path in (out / "cpu").iterdir()} == {
        *render.manifests(CPU, Images()),
        "rayservice-candidate.yaml",
        "route.yaml",
    }
    text = (out / "cpu" / "route.yaml").read_text()
    assert "`sonograph render cpu --values my.yaml --split stable=80,candidate=20`" in text.splitlines()[0]
    spec = load(text)["spec"]
    assert spec["parentRefs"] == [{"name": "edge", "namespace": "gateways", "sectionName": "https"}]
    assert spec["hostnames"] == ["pictures.example.org"]
    (rule,) = spec["rules"]
    assert rule["backendRefs"] == [
        {"name": "sonograph-serve-svc", "port": 8000, "weight": 80},
        {"name": "sonograph-candidate-serve-svc", "port": 8000, "weight": 20},
    ]


def test_no_share_is_kept_out_of_the_route() -> None:
    """A patch that sets the weights needs both backends to be there."""
    shares = rule(split=Split({"stable": 100, "candidate": 0}))["backendRefs"]
    assert [backend["weight"] for backend in shares] == [100, 0]


def test_without_values_and_without_a_split_there_is_no_route() -> None:
    assert route(CPU) == []
    assert "route.yaml" not in render.manifests(CPU, Images())
    assert "route.yaml" not in render.manifests(CPU.changed({"route": {"hostnames": ["a.example.org"]}}), Images())


def test_a_gateway_alone_gets_one_route_to_one_service() -> None:
    (made,) = way_in(gateway="edge")
    assert (made["kind"], made["metadata"]) == ("HTTPRoute", {"name": "sonograph", "namespace": "sonograph"})
    assert made["spec"]["parentRefs"] == [{"name": "edge"}]
    assert "hostnames" not in made["spec"]
    (one,) = made["spec"]["rules"]
    assert one["backendRefs"] == [{"name": "sonograph-serve-svc", "port": 8000, "weight": 100}]
    assert one["matches"] == rule()["matches"]


def test_another_name_and_namespace_are_those_of_the_route() -> None:
    profile = CPU.changed(
        {"name": "pictures", "namespace": "team", "route": {"gateway_class": "envoy", "hostnames": ["a.example"]}}
    )
    gateway, redirect, routed = route(profile)
    assert {one["metadata"]["namespace"] for one in (gateway, redirect, routed)} == {"team"}
    assert [one["metadata"]["name"] for one in (gateway, redirect, routed)] == ["pictures", "pictures-redirect", "pictures"]
    assert rule(profile, None)["backendRefs"][0]["name"] == "pictures-serve-svc"
    assert gateway["spec"]["listeners"][1]["tls"]["certificateRefs"] == [{"name": "pictures-tls"}]


def test_a_class_gets_a_gateway_with_tls_a_redirect_and_the_route() -> None:
    hosts = ["pictures.example.org", "*.example.net"]
    issuer = {"cert-manager.io/cluster-issuer": "letsencrypt"}
    gateway, redirect, routed = way_in(SPLIT, gateway_class="envoy", hostnames=hosts, tls_secret="edge", annotations=issuer)
    assert (gateway["kind"], gateway["metadata"]["annotations"]) == ("Gateway", issuer)
    assert gateway["spec"]["gatewayClassName"] == "envoy"
    tls = {"mode": "Terminate", "certificateRefs": [{"name": "edge"}]}
    assert gateway["spec"]["listeners"] == [
        {"name": "http", "protocol": "HTTP", "port": 80},
        {"name": "https", "protocol": "HTTPS", "port": 443, "hostname": hosts[0], "tls": tls},
        {"name": "https-1", "protocol": "HTTPS", "port": 443, "hostname": hosts[1], "tls": tls},
    ]
    assert redirect["spec"]["parentRefs"] == [{"name": "sonograph", "sectionName": "http"}]
    (one,) = redirect["spec"]["rules"]
    assert one == {"filters": [{"type": "RequestRedirect", "requestRedirect": {"scheme": "https", "statusCode": 301}}]}
    assert routed["spec"]["parentRefs"] == [{"name": "sonograph", "sectionName": name} for name in ("https", "https-1")]
    assert redirect["spec"]["hostnames"] == routed["spec"]["hostnames"] == hosts
    assert routed["spec"]["rules"] == [rule()]


@EACH
def test_the_gateway_waits_longer_than_the_deadline_and_repeats_no_request(profile: Profile) -> None:
    assert rule(profile)["timeouts"] == {"request": f"{profile.times.request_timeout_s}s"}
    assert profile.times.request_timeout_s > profile.times.deadline_s
    assert "retry" not in rule(profile)


def test_the_gateways_wait_follows_the_deadline() -> None:
    assert rule(CPU.changed({"settings": {"http": {"deadline_s": 30}}}))["timeouts"] == {"request": "90s"}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("stable=80,candidate=30", "the shares are percent, and 80 + 30 is 110: make them add up to 100"),
        ("stable=0,candidate=0", "the shares are percent, and 0 + 0 is 0: make them add up to 100"),
        ("stable=120,candidate=-20", "the share of stable is 120: give whole percent from 0 to 100"),
        ("candidate=-20,stable=120", "the share of candidate is -20: give whole percent from 0 to 100"),
        ("stable=79.5,candidate=20.5", "the share of stable is 79.5: give whole percent from 0 to 100"),
        ("stable,candidate=20", "the share of stable is missing: give whole percent from 0 to 100"),
        ("stable=80,canary=20", "there is no 'canary', only stable and candidate: give both"),
        ("80,20", "there is no '80', only stable and candidate: give both"),
        ("stable=100", "candidate has no share: give both, such as stable=80,candidate=20"),
        ("stable=50,stable=50", "stable is named twice: give each its share once"),
    ],
)
def test_what_makes_no_split_is_refused_with_a_sentence(text: str, sentence: str, tmp_path: Path) -> None:
    result = run(tmp_path, "--split", text)
    assert result.exit_code == 2
    assert "--split" in result.output
    assert sentence in sentences(result)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"gateway": "Edge"}, "route.gateway: 'Edge' names no Gateway: give NAME, or NAMESPACE/NAME"),
        ({"gateway": "a/b/c"}, "route.gateway: 'a/b/c' names no Gateway"),
        ({"hostnames": ["https://a.example.org"]}, "is no hostname: give a name such as pictures.example.org"),
        ({"hostnames": ["a.example.org", "10.0.0.1"]}, "'10.0.0.1' is no hostname"),
        (
            {"gateway": "edge", "gateway_class": "envoy", "hostnames": ["a.example.org"]},
            "route: gateway and gateway_class exclude",
        ),
        ({"gateway_class": "envoy"}, "route: a rendered Gateway needs hostnames: its certificate is for them"),
        ({"gatewayclass": "envoy"}, "route.gatewayclass: there is no such key; did you mean gateway_class?"),
    ],
)
def test_values_that_make_no_route_are_refused_with_a_sentence(values: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    result = run(tmp_path / "out", values={"route": values})
    assert result.exit_code == 2
    assert "--values" in result.output
    assert sentence in sentences(result)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", ["--candidate-tag", "--candidate-digests"])
def test_an_option_of_a_split_is_refused_without_one(option: str, tmp_path: Path) -> None:
    result = run(tmp_path, option, "images.json")
    assert result.exit_code == 2
    assert option in result.output
    assert "it is for two RayServices: give --split stable=80,candidate=20 too" in sentences(result)
    assert list(tmp_path.iterdir()) == []


def test_the_candidate_has_images_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "new.json").write_text(f'{{"whisper": {{"containerimage.digest": "sha256:{"b" * 64}"}}}}')
    candidate = ["--candidate-tag", "0.2.0-ray2.60.0-py3.12.3", "--candidate-digests", str(tmp_path / "new.json")]
    result = run(tmp_path, "--registry", "registry.internal/team", "--split", "stable=80,candidate=20", *candidate)
    assert result.exit_code == 0, result.output
    new = f"registry.internal/team/whisper:0.2.0-ray2.60.0-py3.12.3@sha256:{'b' * 64}"
    old = f"registry.internal/team/whisper:{TAG}\n"
    stable, second = ((tmp_path / "cpu" / name).read_text() for name in ("rayservice.yaml", "rayservice-candidate.yaml"))
    assert (new in second, old in second) == (True, False)
    assert (new in stable, old in stable) == (False, True)
    job = (tmp_path / "cpu" / "weights.yaml").read_text()
    assert (new in job, old in job) == (False, True), "the Job is the first service's"


@EACH
def test_two_services_of_one_namespace_do_not_share_a_name(profile: Profile) -> None:
    names = [(one["kind"], one["metadata"]["name"]) for one in documents(profile)]
    assert len(names) == len(set(names))
    assert {name for kind, name in names if kind == "RayService"} == {NAME, CPU.candidate}


def test_the_first_service_is_what_it_is_without_a_second() -> None:
    """A change of its cluster would start another."""
    assert of_kind("RayService")[NAME] == ray_service(CPU, Images())["spec"]
    assert "sonograph/revision" not in str(of_kind("RayService")[NAME])


def test_the_services_share_the_volume_of_the_weights_redis_and_the_api_keys() -> None:
    first, second = (str(spec) for spec in of_kind("RayService").values())
    for shared in (
        "'claimName': 'sonograph-weights'",
        "'redisAddress': 'sonograph-redis:6379'",
        "'secretName': 'sonograph-keys'",
    ):
        assert first.count(shared) == second.count(shared) > 0
    # Ray's state is kept under each cluster's own id.
    assert "externalStorageNamespace" not in first + second


def test_the_metrics_and_the_alerts_tell_the_services_apart() -> None:
    applications = [load(spec["serveConfigV2"])["applications"][0]["name"] for spec in of_kind("RayService").values()]
    assert sorted(applications) == [NAME, CPU.candidate]
    rules = [rule for group in of_kind("PrometheusRule")[NAME]["groups"] for rule in group["rules"]]
    assert sum("ray_sonograph" in rule["expr"] for rule in rules) > 10
    for rule in rules:
        if "ray_sonograph" in rule["expr"]:
            assert rule["expr"].count("sum by (application") == rule["expr"].count("sum")
        if "annotations" in rule and "sonograph_" in rule["expr"].replace("sonograph_revision", ""):
            assert "{{ $labels.application }}" in rule["annotations"]["summary"]
    watched = [rule["labels"]["application"] for rule in rules if rule.get("alert") == "SonographDown"]
    assert watched == [NAME, CPU.candidate]


def test_a_pod_is_counted_by_the_budget_of_its_own_service_alone() -> None:
    budgets = of_kind("PodDisruptionBudget")
    assert set(budgets) == {"sonograph-ingress", "sonograph-ingress-candidate"}
    for name, spec in of_kind("RayService").items():
        (group,) = (one for one in spec["rayClusterConfig"]["workerGroupSpecs"] if one["groupName"] == "ingress")
        labels = {"ray.io/group": "ingress", **group["template"]["metadata"]["labels"]}
        counting = [budget for budget, stated in budgets.items() if selects(stated["selector"], labels)]
        assert counting == [name.replace(NAME, "sonograph-ingress")]


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    exist = {"Exists": True, "DoesNotExist": False}
    return selector["matchLabels"].items() <= labels.items() and all(
        (one["key"] in labels) == exist[one["operator"]] for one in selector["matchExpressions"]
    )


def test_every_pod_of_the_candidate_is_labelled() -> None:
    cluster = of_kind("RayService")[CPU.candidate]["rayClusterConfig"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert group["template"]["metadata"]["labels"]["sonograph/revision"] == "candidate"


def test_every_path_of_the_service_is_for_clients_or_for_operators() -> None:
    async def topology() -> dict[str, str]:
        return {}

    app = FakeService(HttpSettings(show_graph=True), topology=topology).app()
    routes = [one for part in app.routes for one in (part.original_router.routes if hasattr(part, "original_router") else [part])]
    assert {"/", "/graph", "/listen", "/v1/models", "/docs", "/openapi.json", "/healthz"} <= {one.path for one in routes}
    for one in routes:
        for method in one.methods or {"GET"}:
            private = f"{one.path}/".startswith("/graph/") and (method == "GET" or one.path != "/graph")
            taken = any(takes(match, method, one.path) for match in rule()["matches"])
            assert taken != private, f"{method} {one.path}: name it in kuberay/manifest/route.py, or keep it from clients"


@pytest.mark.parametrize("path", ["/graph", "/graph/", "/listen", "/listen/"])
def test_a_recording_is_posted_with_and_without_a_slash_and_another_origins_page_asks_before(path: str) -> None:
    taken = {method for method in ("GET", "POST", "OPTIONS", "PUT") if any(takes(one, method, path) for one in rule()["matches"])}
    assert taken == {"POST", "OPTIONS"}


def takes(match: dict[str, Any], method: str, path: str) -> bool:
    value = match["path"]["value"]
    same = path == value if match["path"]["type"] == "Exact" else f"{path}/".startswith(f"{value}/")
    return same and match.get("method", method) == method


@EACH
def test_kubernetes_own_objects_have_only_fields_that_it_knows(profile: Profile) -> None:
    for document in documents(profile):
        if document["apiVersion"] in ("v1", "apps/v1", "batch/v1", "policy/v1", "networking.k8s.io/v1"):
            kubernetes_validate.validate(document, KUBERNETES, strict=True)


WAYS_IN: dict[str, dict[str, Any]] = {
    "none": {},
    "a Gateway of one's own": {"gateway": "gateways/edge", "listener": "https", "hostnames": ["*.example.org", "a.example.org"]},
    "a rendered Gateway": {
        "gateway_class": "envoy",
        "hostnames": ["pictures.example.org", "*.example.net"],
        "annotations": {"cert-manager.io/cluster-issuer": "letsencrypt"},
    },
}
FILES = {
    "Gateway": "gateway.networking.k8s.io_gateways.yaml",
    "HTTPRoute": "gateway.networking.k8s.io_httproutes.yaml",
    "RayService": "ray.io_rayservices.yaml",
}


@pytest.mark.slow
@pytest.mark.skipif(not SCHEMAS.is_dir(), reason="the CustomResourceDefinitions are not on this machine")
@pytest.mark.parametrize("values", WAYS_IN.values(), ids=WAYS_IN)
def test_the_way_in_and_the_candidate_fit_their_definitions(values: dict[str, Any]) -> None:
    texts = render.manifests(CPU.changed({"route": values}), Images(), split=Split(parse_shares("stable=80,candidate=20")))
    made = [one for name in ("route", "rayservice-candidate") for one in load_all(texts[f"{name}.yaml"])]
    assert len(made) == (4 if "gateway_class" in values else 2)
    for document in made:
        definition = schema(FILES[document["kind"]], "v1")
        assert [f"{error.json_path}: {error.message}" for error in definition.iter_errors(document)] == []
        document["spec"]["wieght"] = 1
        assert list(definition.iter_errors(document))


def test_the_documented_values_make_the_way_in() -> None:
    own, class_ = (load(text) for text in re.findall(r"```yaml\n(.*?)```", SECTION, re.DOTALL))
    (routed,) = route(applied(own, CPU))
    assert routed["spec"]["parentRefs"] == [{"name": "edge", "namespace": "gateways", "sectionName": "https"}]
    gateway, _, _ = route(applied(class_, CPU))
    (_, listener) = gateway["spec"]["listeners"]
    (certificate,) = listener["tls"]["certificateRefs"]
    assert f"is the Secret `{certificate['name']}` of the namespace" in SECTION
    assert f"create secret tls {certificate['name']} --cert" in SECTION


def test_the_page_names_the_services_own_limit_of_a_body() -> None:
    limit = HttpSettings().max_upload_bytes
    (mib,) = re.findall(r"above `http.max_upload_bytes`, (\d+) MiB, with 413", SECTION)
    assert int(mib) << 20 == limit
    (allowed,) = re.findall(r"`body.maxSize: (\d+)m`", SECTION)
    assert limit + OVERHEAD_BYTES <= int(allowed) << 20


def test_the_gateways_idle_time_of_the_tests_is_the_documented_one() -> None:
    assert f"close its idle connections to the services after {IDLE_S} s" in SECTION.replace("\n  ", " ")


def test_the_paths_are_those_of_the_graphs() -> None:
    assert {ingress.load(name).path for name in GRAPHS} == set(PATHS)
    assert VoiceToImage.path == events.GRAPH == graph.PATH
    assert {events.GRAPH, service.PATH} < set(PRIVATE)
