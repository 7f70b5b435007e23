"""Rules: a running RayService is well, and KubeRay has applied all of it.

KubeRay starts a new RayCluster when a hash of `rayClusterConfig` changes. The hash leaves out a group's bounds, and the tolerations and
scheduling gates of its pods (KubeRay's GenerateHashWithoutReplicasAndWorkersToDelete): these go into new RayClusters only, without an
event, and a RayCluster keeps what it is patched to. The hash leaves out `replicas` and `workersToDelete` too, which are the autoscaler's.
"""

import json
import shlex
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from kuberay.doctor.cluster import Live, one_line
from kuberay.doctor.documents import SERVE_CONFIG
from kuberay.doctor.finding import ERROR, REGISTRY, WARNING, Finding, Severity, rule
from kuberay.doctor.pod_templates import CLUSTER
from kuberay.manifest import objects
from kuberay.ray_autoscaler import HEAD

BOUNDS = ("minReplicas", "maxReplicas")
"""KubeRay's name of the head's group, in labels."""
FAILED = ("DEPLOY_FAILED", "UNHEALTHY")

type LiveRule = Callable[[Live], Iterator[Finding]]


@dataclass(frozen=True)
class Pair:
    """A group as the RayService asks for it, and as one of its RayClusters has it."""

    cluster: str
    name: str
    field: str
    """In the RayService."""
    pointer: str
    """JSON pointer in the RayCluster."""
    wanted: dict[str, Any]
    running: dict[str, Any]

    def described(self) -> str:
        group = f"the group {self.name}" if self.is_named else "the head"
        return f"{group} of the RayCluster {self.cluster}"

    @property
    def is_named(self) -> bool:
        return "groupName" in self.running


def diagnose(live: Live) -> list[Finding]:
    return [finding for one in REGISTRY.values() if one.examine.__module__ == __name__ for finding in one.examine(live)]


@rule(
    "SG901",
    "KubeRay has read the RayService",
    "Look at the operator's log.",
)
def kuberay_has_read_the_service(live: Live) -> Iterator[Finding]:
    own, status = kuberay_has_read_the_service, live.service.status
    if not status.conditions:
        sentence = "KubeRay has not read it: does its operator run, and watch this namespace?"
        yield _finding(live, own, "status.conditions", sentence)
    elif status.observed_generation < live.service.metadata.generation:
        yield _finding(live, own, "status.observedGeneration", "KubeRay has not read the last change yet: ask again", WARNING)


@rule(
    "SG902",
    "the RayService is ready",
    "Read the reason, and see docs/runbooks.md.",
)
def the_service_is_ready(live: Live) -> Iterator[Finding]:
    """An upgrade is no error."""
    for condition in live.service.status.conditions:
        ready = condition.type == "Ready"
        if (condition.status == "True") != ready:
            sentence = one_line(f"{condition.status}, {condition.reason}: {condition.message}")
            yield _finding(
                live, the_service_is_ready, f"status.conditions.{condition.type}", sentence, WARNING if not ready else ERROR
            )


@rule(
    "SG903",
    "each application of Serve runs",
    "Fix the reason, and deploy again.",
)
def each_application_runs(live: Live) -> Iterator[Finding]:
    status = live.service.status
    for cluster in (status.active_service_status, status.pending_service_status):
        for name, application in cluster.application_statuses.items():
            if application.status in FAILED:
                reasons = [application.message or "no message"]
                reasons += [
                    f"{one}: {found.message}" for one, found in application.serve_deployment_statuses.items() if found.message
                ]
                sentence = one_line(f"{application.status} in the RayCluster {cluster.ray_cluster_name}: {' '.join(reasons)}")
                yield _finding(live, each_application_runs, f"the application {name}", sentence)


@rule(
    "SG904",
    "the running cluster has the bounds of the manifest",
    "Run the printed command.",
)
def a_group_has_its_bounds(live: Live) -> Iterator[Finding]:
    for pair in _pairs(live):
        changed = [name for name in BOUNDS if name in pair.wanted and pair.wanted[name] != pair.running.get(name)]
        if changed:
            differences = " and ".join(f"{name} {_json(pair.running.get(name))}, not {pair.wanted[name]}" for name in changed)
            sentence = f"{pair.described()} has {differences}: KubeRay gives a group's bounds to new RayClusters only"
            steps = [_set(f"{pair.pointer}/{name}", pair.running, name, pair.wanted[name]) for name in changed]
            fields = f"{pair.field}.{', '.join(changed)}"
            yield _of_a_group(live, a_group_has_its_bounds, pair, fields, sentence, [_patch(live, pair, steps)])


@rule(
    "SG905",
    "the running cluster has the tolerations of the manifest",
    "Run the printed commands.",
)
def a_groups_pods_have_their_tolerations(live: Live) -> Iterator[Finding]:
    """Tolerations that a RayCluster has beyond the RayService's may be another controller's, such as Kueue's: a patch keeps them first."""
    yield from _lists(live, a_groups_pods_have_their_tolerations, "tolerations")


@rule(
    "SG906",
    "the running cluster has the scheduling gates of the manifest",
    "Run the printed commands.",
)
def a_groups_pods_have_their_scheduling_gates(live: Live) -> Iterator[Finding]:
    yield from _lists(live, a_groups_pods_have_their_scheduling_gates, "schedulingGates")


def _lists(live: Live, own: LiveRule, name: str) -> Iterator[Finding]:
    for pair in _pairs(live):
        pod = pair.running["template"]["spec"]
        wanted, running = _stated(pair.wanted["template"]["spec"].get(name)), _stated(pod.get(name))
        missing, others = _beyond(wanted, running), _beyond(running, wanted)
        if not missing and not others:
            continue
        if missing:
            sentence = f"{pair.described()} lacks the {name} {_json(missing)}: KubeRay gives them to new RayClusters only"
        else:
            sentence = f"{pair.described()} has the {name} {_json(others)}, which another controller may have set: the RayService has not"
        sentence += ". Pods keep those with which they were made, so its pending ones have to be deleted too"
        below = f"template.spec.{name}"
        step = _set(f"{pair.pointer}/{below.replace('.', '/')}", pod, name, [*running, *missing] if missing else wanted)
        labels = f"{objects.CLUSTER}={pair.cluster},{objects.GROUP}={pair.name}"
        delete = _command(live, "delete", "pods", "-l", labels, "--field-selector=status.phase=Pending")
        commands = [_patch(live, pair, [step]), delete]
        yield _of_a_group(live, own, pair, f"{pair.field}.{below}", sentence, commands, ERROR if missing else WARNING)


@rule(
    "SG907",
    "Serve runs with the options of the manifest",
    "Run the printed command.",
)
def serve_runs_with_its_options(live: Live) -> Iterator[Finding]:
    """Only options that the config states: the others are Serve's defaults, or its environment's."""
    own = serve_runs_with_its_options
    try:
        config = dict(yaml.safe_load(live.service.spec["serveConfigV2"]))
        wanted = _options(config)
    except (yaml.YAMLError, AttributeError, LookupError, TypeError, ValueError) as error:
        yield _finding(live, own, SERVE_CONFIG, one_line(f"cannot be read, so KubeRay cannot apply it: {error}"))
        return
    if live.active not in live.clusters:
        return
    if live.serve is None:
        sentence = one_line(f"what Serve runs with is not known: {live.unread}")
        yield _finding(live, own, f"{SERVE_CONFIG}: http_options", sentence, WARNING)
        return
    running = _options(live.serve)
    changed = [name for name, value in wanted.items() if name in running and running[name] != value]
    if not changed:
        return
    differences = " and ".join(f"{name} {_shown(name, running[name])}, not {_shown(name, wanted[name])}" for name in changed)
    sentence = f"Serve of the RayCluster {live.active} runs with {differences}: it reads them only when it starts. "
    field = f"{SERVE_CONFIG}: {', '.join(changed)}"
    if live.pending:
        sentence += f"The RayCluster {live.pending}, which KubeRay prepares, starts with the config's"
        yield _finding(live, own, field, sentence, WARNING)
    else:
        more, commands = _next_cluster(live)
        yield _finding(live, own, field, sentence + more, commands=commands)


def _next_cluster(live: Live) -> tuple[str, tuple[str, ...]]:
    """A sentence and commands that start the next RayCluster, by a change that counts in the hash and changes nothing else."""
    name = live.service.metadata.name
    if (live.service.spec.get("upgradeStrategy") or {}).get("type") == "None":
        sentence = "Without upgrades (upgradeStrategy) that takes an outage: delete the RayService, and apply its manifest"
        return sentence, (_command(live, "delete", "rayservice", name),)
    annotated: Any = {"sonograph/replaces": live.active}
    for key in reversed(f"{CLUSTER}.headGroupSpec.template.metadata.annotations".split(".")):
        annotated = {key: annotated}
    patch = _command(live, "patch", "rayservice", name, "--type=merge", "-p", _json(annotated))
    return "An annotation of the head's pod starts a second RayCluster beside it, which needs nodes for both", (patch,)


def _options(found: dict[str, Any]) -> dict[str, Any]:
    http = {f"http_options.{name}": value for name, value in (found.get("http_options") or {}).items()}
    location = found.get("proxy_location")
    return http if location is None else {**http, "proxy_location": location}


def _shown(name: str, value: object) -> str:
    return "another" if "password" in name else one_line(_json(value))


def _pairs(live: Live) -> Iterator[Pair]:
    """The groups of the RayService in each of its RayClusters. A group that a RayCluster lacks is a reason for the next one."""
    config = live.service.spec["rayClusterConfig"]
    for cluster in (live.active, live.pending):
        spec = live.clusters.get(cluster)
        if spec is None:
            continue
        yield Pair(
            cluster, HEAD, f"{CLUSTER}.headGroupSpec", "/spec/headGroupSpec", config["headGroupSpec"], spec["headGroupSpec"]
        )
        running = {group["groupName"]: (number, group) for number, group in enumerate(spec.get("workerGroupSpecs") or [])}
        for index, wanted in enumerate(config.get("workerGroupSpecs") or []):
            if wanted["groupName"] in running:
                number, group = running[wanted["groupName"]]
                field, pointer = f"{CLUSTER}.workerGroupSpecs[{index}]", f"/spec/workerGroupSpecs/{number}"
                yield Pair(cluster, wanted["groupName"], field, pointer, wanted, group)


def _stated(values: Iterable[dict[str, Any]] | None) -> list[dict[str, Any]]:
    """These without empty fields, which KubeRay drops."""
    return [{key: value for key, value in one.items() if value not in ("", None)} for one in values or ()]


def _beyond(these: list[dict[str, Any]], others: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one for one in these if one not in others]


def _set(path: str, place: dict[str, Any], name: str, value: object) -> dict[str, Any]:
    return {"op": "replace" if name in place else "add", "path": path, "value": value}


def _patch(live: Live, pair: Pair, steps: list[dict[str, Any]]) -> str:
    """The command that patches the RayCluster, if its group of this number still has its name."""
    tests = [{"op": "test", "path": f"{pair.pointer}/groupName", "value": pair.name}] if pair.is_named else []
    return _command(live, "patch", "raycluster", pair.cluster, "--type=json", "-p", _json([*tests, *steps]))


def _command(live: Live, *words: str) -> str:
    return shlex.join([*live.kubectl, *words])


def _of_a_group(
    live: Live, own: LiveRule, pair: Pair, field: str, sentence: str, commands: list[str], severity: Severity = ERROR
) -> Finding:
    if live.pending and pair.cluster == live.active:
        sentence += f". It serves until the upgrade to {live.pending} is through"
        severity = WARNING
    return _finding(live, own, field, one_line(sentence), severity, tuple(commands))


def _finding(
    live: Live, own: LiveRule, field: str, sentence: str, severity: Severity = ERROR, commands: tuple[str, ...] = ()
) -> Finding:
    return Finding(Path("rayservice", live.service.metadata.name), field, sentence, own.__name__, severity, commands)


def _json(value: object) -> str:
    return json.dumps(value, default=str)
