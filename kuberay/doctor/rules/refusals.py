"""Rules: what KubeRay's validation.go refuses of annotations, upgrades, fault tolerance and authentication, and what it ignores."""

import re
from collections import Counter
from collections.abc import Iterator

from deployments.nearest import question
from kuberay.doctor.finding import ERROR, WARNING, Finding, rule
from kuberay.doctor.manifest import Service
from kuberay.doctor.pod_templates import CLUSTER
from kuberay.doctor.rules.operator import ray_start_params_survive_every_parser
from kuberay.doctor.rules.pods import every_amount_is_a_quantity
from kuberay.ray_autoscaler import HEAD

TIMEOUT, FAULT_TOLERANCE, STORAGE = "ray.io/initializing-timeout", "ray.io/ft-enabled", "ray.io/external-storage-namespace"
ANNOTATIONS = (TIMEOUT, FAULT_TOLERANCE, STORAGE, "ray.io/gcs-ft-deletion-timeout", "ray.io/overwrite-container-cmd")
"""Annotations that KubeRay reads of a RayService."""
UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ns": 1e-9}
AMOUNT = r"(\d+\.?\d*|\.\d+)(h|ms|m|s|us|µs|μs|ns)"
SHORTEST_START_S = 300
"""Seconds that pulling the images and loading the models takes at least, where both are large."""
UPGRADES = ("NewCluster", "NewClusterWithIncrementalUpgrade", "None")
OPERATOR, MULTIKUEUE = "ray.io/kuberay-operator", "kueue.x-k8s.io/multikueue"
LEAST_RAY = (2, 52, 0)
"""The first Ray with tokens, by KubeRay."""


@rule(
    "SG109",
    "KubeRay takes the strategy of upgrades",
    "Use `NewCluster`, `None`, or `NewClusterWithIncrementalUpgrade` with all of its options.",
)
def an_upgrade_is_one_that_kuberay_knows(service: Service) -> Iterator[Finding]:
    own, strategy = an_upgrade_is_one_that_kuberay_knows, service.parsed.spec.upgrade_strategy
    kind = strategy.get("type", "NewCluster")
    if kind not in UPGRADES:
        yield service.finding(own, "spec.upgradeStrategy.type", f"KubeRay knows no {kind}, only {', '.join(UPGRADES)}")
    options = strategy.get("clusterUpgradeOptions")
    if kind == UPGRADES[1]:
        for field, sentence in _wrong_options(service, options if isinstance(options, dict) else {}):
            yield service.finding(own, f"spec.upgradeStrategy.clusterUpgradeOptions{field}", sentence)
    elif options:
        sentence = f"KubeRay reads them with {UPGRADES[1]} alone, and the type is {kind}: change the type, or leave them out"
        yield service.finding(own, "spec.upgradeStrategy.clusterUpgradeOptions", sentence, WARNING)
    if service.cluster.upgrade_strategy.get("type"):
        sentence = "KubeRay refuses it in the cluster of a RayService: spec.upgradeStrategy is the service's"
        yield service.finding(own, f"{CLUSTER}.upgradeStrategy", sentence)
    if service.parsed.spec.ray_cluster_deletion_delay_seconds < 0:
        yield service.finding(own, "spec.rayClusterDeletionDelaySeconds", "KubeRay refuses a negative number")


def _wrong_options(service: Service, options: dict[str, object]) -> Iterator[tuple[str, str]]:
    """Yield the field below the options, and what KubeRay says of it."""
    lacking = [name for name in ("gatewayClassName", "intervalSeconds", "stepSizePercent") if options.get(name) in (None, "")]
    if lacking:
        yield "", f"{UPGRADES[1]} needs {', '.join(lacking)}"
    if not service.cluster.enable_in_tree_autoscaling:
        yield "", f"KubeRay refuses {UPGRADES[1]} without Ray's autoscaler: set enableInTreeAutoscaling to true"
    surge, step, interval = (
        _whole(options.get(name, default))
        for name, default in (("maxSurgePercent", 100), ("stepSizePercent", None), ("intervalSeconds", None))
    )
    if surge is not None and not 0 <= surge <= 100:
        yield (
            ".maxSurgePercent",
            f"it is {surge}, and KubeRay takes 0 to 100: it is the part of the new cluster that starts at a time",
        )
    if step is not None and not 0 <= step <= 100:
        yield ".stepSizePercent", f"it is {step}, and KubeRay takes 0 to 100: it is the part of the traffic that moves at a time"
    elif step == 0:
        yield ".stepSizePercent", "it is 0, so no traffic would ever move to the new cluster, and no upgrade end"
    elif step is not None and surge is not None and step > surge:
        yield ".stepSizePercent", "stepSizePercent is above maxSurgePercent, and KubeRay refuses that"
    if interval is not None and interval <= 0:
        yield ".intervalSeconds", f"it is {interval}, and KubeRay refuses all but positive numbers: 60, for example"


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


@rule(
    "SG112",
    "the annotation for the time of the start is a duration",
    f"Write `{TIMEOUT}: 45m`: a number with h, m or s behind it, or seconds alone.",
)
def the_time_of_the_start_is_a_duration(service: Service) -> Iterator[Finding]:
    own, field = the_time_of_the_start_is_a_duration, f"metadata.annotations.{TIMEOUT}"
    text = service.parsed.metadata.annotations.get(TIMEOUT)
    if not text:
        return
    seconds = duration_s(text)
    if seconds is None:
        sentence = f"KubeRay refuses {text}: it takes a number with h, m or s behind it, such as 45m or 1h30m, or seconds alone"
        yield service.finding(own, field, sentence)
    elif seconds <= 0:
        yield service.finding(own, field, f"KubeRay refuses {text}: the time has to be positive")
    elif seconds < SHORTEST_START_S:
        sentence = (
            f"{text} is {seconds:g} s, in which no node can start, pull its images and load its models: KubeRay would give the "
            "service up, and not try again: allow 45m"
        )
        yield service.finding(own, field, sentence, WARNING)


def duration_s(text: str) -> float | None:
    """Return the seconds of a duration as Go writes it, or of a whole number; None for any other text."""
    sign = -1 if text.startswith("-") else 1
    bare = text[1:] if text[:1] in "+-" else text
    if re.fullmatch(r"[0-9]+", bare):
        return sign * float(bare)
    if not re.fullmatch(f"({AMOUNT})+", bare):
        return None
    return sign * sum(float(number) * UNITS[unit] for number, unit in re.findall(AMOUNT, bare))


@rule(
    "SG113",
    "an annotation of KubeRay's has a name that it reads",
    "Write the name as KubeRay has it.",
)
def an_annotation_has_a_name_that_kuberay_reads(service: Service) -> Iterator[Finding]:
    for name in service.parsed.metadata.annotations:
        like = question(name, ANNOTATIONS)
        if name not in ANNOTATIONS and like:
            sentence = f"KubeRay reads no {name}, and would drop it silently{like}"
            field = f"metadata.annotations.{name}"
            yield service.finding(an_annotation_has_a_name_that_kuberay_reads, field, sentence, WARNING)


@rule(
    "SG114",
    "fault tolerance is set in one way",
    "Leave the annotations out, and name the Redis in `gcsFaultToleranceOptions`.",
)
def fault_tolerance_is_set_in_one_way(service: Service) -> Iterator[Finding]:
    own, options = fault_tolerance_is_set_in_one_way, service.cluster.gcs_fault_tolerance_options
    annotations = service.parsed.metadata.annotations
    if options is None:
        return
    for name in (FAULT_TOLERANCE, STORAGE):
        if annotations.get(name):
            sentence = f"KubeRay refuses the annotation {name} beside gcsFaultToleranceOptions: leave it out"
            yield service.finding(own, f"metadata.annotations.{name}", sentence)
    field = f"{CLUSTER}.gcsFaultToleranceOptions"
    if options.get("backend", "redis") != "rocksdb":
        if options.get("storage") is not None:
            sentence = "KubeRay refuses it with Redis: it is a volume for the backend rocksdb alone: leave it out"
            yield service.finding(own, f"{field}.storage", sentence)
        return
    for name in ("redisAddress", "redisUsername", "redisPassword"):
        if options.get(name):
            yield service.finding(
                own, f"{field}.{name}", "KubeRay refuses it with the backend rocksdb: leave it or the backend out"
            )


@rule(
    "SG115",
    "each group has a name of its own",
    "Rename one of them.",
)
def a_group_has_a_name_of_its_own(service: Service) -> Iterator[Finding]:
    own = a_group_has_a_name_of_its_own
    names = Counter(group.group_name for group in service.groups)
    seen = set[str]()
    for group in service.groups:
        name = group.group_name
        if name in seen:
            sentence = (
                f"two groups are named {name}: KubeRay counts the pods of both for each, and the autoscaler knows one of them"
            )
            yield service.finding(own, service.field(group, "groupName"), sentence)
        elif name == HEAD and names[name] == 1:
            sentence = f"{HEAD} is the name of the head's own group in KubeRay and in the autoscaler: take another"
            yield service.finding(own, service.field(group, "groupName"), sentence)
        seen.add(name)


@rule(
    "SG116",
    "nothing is suspended",
    "Leave `suspend` out.",
)
def nothing_is_suspended(service: Service) -> Iterator[Finding]:
    own = nothing_is_suspended
    for where, suspended in (("spec", service.parsed.spec.suspend), (CLUSTER, service.cluster.suspend)):
        if suspended:
            sentence = "KubeRay would delete every pod, or start none, until it is false: nobody is served"
            yield service.finding(own, f"{where}.suspend", sentence)
    for group in service.groups:
        if group.suspend and not service.cluster.enable_in_tree_autoscaling:  # another rule has what KubeRay refuses
            sentence = f"the group {group.group_name} would have no pods: its replicas would wait forever"
            yield service.finding(own, service.field(group, "suspend"), sentence)


@rule(
    "SG117",
    "KubeRay itself looks after the service",
    f"Leave `managedBy` out, or write {OPERATOR}.",
)
def kuberay_looks_after_the_service(service: Service) -> Iterator[Finding]:
    for where, name in (("spec", service.parsed.spec.managed_by), (CLUSTER, service.cluster.managed_by)):
        if name and name != OPERATOR:
            known = name == MULTIKUEUE
            sentence = (
                f"with {name} KubeRay leaves it alone, and MultiKueue has to run it in another cluster"
                if known
                else f"KubeRay takes {OPERATOR} or {MULTIKUEUE}, and refuses {name}"
            )
            severity = WARNING if known else ERROR
            yield service.finding(kuberay_looks_after_the_service, f"{where}.managedBy", sentence, severity)


@rule(
    "SG118",
    "no field is one that KubeRay ignores",
    "Leave it out.",
)
def no_field_is_ignored(service: Service) -> Iterator[Finding]:
    own, spec = no_field_is_ignored, service.parsed.spec
    thresholds = {
        "serviceUnhealthySecondThreshold": spec.service_unhealthy_second_threshold,
        "deploymentUnhealthySecondThreshold": spec.deployment_unhealthy_second_threshold,
    }
    for name, seconds in thresholds.items():
        if seconds is not None:
            sentence = "KubeRay ignores it: it starts no new cluster for an app that is unhealthy. Leave it out"
            yield service.finding(own, f"spec.{name}", sentence, WARNING)
    for group in service.groups:
        if group.scale_strategy.get("workersToDelete"):
            sentence = "it is the autoscaler's list of pods to delete: a manifest that names some deletes them at each apply"
            yield service.finding(own, service.field(group, "scaleStrategy.workersToDelete"), sentence, WARNING)


@rule(
    "SG119",
    "some pod can hold replicas",
    "Add a group to `workerGroupSpecs`, with `maxReplicas` above 0.",
)
def some_pod_can_hold_replicas(service: Service) -> Iterator[Finding]:
    own = some_pod_can_hold_replicas
    head = service.node_types[HEAD].resources
    if head.get("CPU") or any(group.max_replicas > 0 for group in service.groups):
        return
    what = "every group has 0 pods at most" if service.groups else "there is no worker group"
    sentence = f"{what}, and the head takes no work: no replica would ever start, so nobody is served"
    yield service.finding(own, f"{CLUSTER}.workerGroupSpecs", sentence)


@rule(
    "SG120",
    "the Ray of the manifest has tokens, where they are asked for",
    "State the images' version in `rayVersion`, at least 2.52.0.",
)
def the_ray_has_tokens(service: Service) -> Iterator[Finding]:
    if service.cluster.auth_options.get("mode") != "token":
        return
    version, least = service.cluster.ray_version, ".".join(map(str, LEAST_RAY))
    numbers = re.match(r"v?(\d+(?:\.\d+)+)", version)
    sentence = ""
    if not version:
        sentence = f"KubeRay refuses tokens without it: state the images' version, at least {least}"
    elif numbers is None:
        sentence = f"KubeRay refuses {version} beside tokens: it is no version, such as {least}"
    elif tuple(int(one) for one in numbers[1].split(".")) < LEAST_RAY:
        sentence = f"KubeRay refuses {version} beside tokens: Ray has them since {least}"
    if sentence:
        yield service.finding(the_ray_has_tokens, f"{CLUSTER}.rayVersion", sentence)


@rule(
    "SG121",
    "Ray's autoscaler knows the CPUs of each group",
    "Request CPUs of Kubernetes in Ray's container, or state the group's own `resources`.",
)
def the_autoscaler_knows_each_groups_cpus(service: Service) -> Iterator[Finding]:
    """Without the autoscaler Ray takes all CPUs of the node, each pod of them."""
    for group in service.pods if service.cluster.enable_in_tree_autoscaling else ():
        if not group.states_cpus:
            sentence = "neither the group nor its container states CPUs, and Ray's autoscaler then ends: no group would ever grow"
            field = service.field(group, "template.spec.containers[0].resources")
            yield service.finding(the_autoscaler_knows_each_groups_cpus, field, sentence)


@rule(
    "SG122",
    "Ray's autoscaler can read the groups",
    'Write amounts as whole numbers in text: `num-cpus: "2"`.',
    first=True,
)
def the_autoscaler_can_read_the_groups(service: Service) -> Iterator[Finding]:
    """A rule before others, which read the groups as the autoscaler does. `ray start` fails with most such amounts too."""
    if any((*ray_start_params_survive_every_parser(service), *every_amount_is_a_quantity(service))):
        return  # they say which amount it is
    try:
        service.node_types  # noqa: B018
    except Exception as error:  # of Ray's own functions
        sentence = f"neither Ray nor its autoscaler can read them: {' '.join(str(error).split())}"
        yield service.finding(the_autoscaler_can_read_the_groups, f"{CLUSTER}.workerGroupSpecs", sentence)
