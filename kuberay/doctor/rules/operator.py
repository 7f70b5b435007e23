"""Rules: names, resources, labels, replicas, the autoscaler and Redis as KubeRay 1.7 takes them (its validation.go); and what it
passes on unchecked. The other refusals are in refusals.py."""

import json
import re
from collections.abc import Iterator

from kuberay.doctor.finding import ERROR, WARNING, Finding, rule
from kuberay.doctor.manifest import Group, Service, WorkerGroup
from kuberay.doctor.pod_templates import CLUSTER
from kuberay.ray_autoscaler import UNBOUNDED

DNS_1123 = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
DNS_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
LABEL_KEY = re.compile(r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
AUTOSCALER_ENV = "RAY_enable_autoscaler_v2"


@rule(
    "SG101",
    "the shell, KubeRay and Ray's autoscaler read `rayStartParams.resources` alike",
    "State the amounts in the group's own `resources`.",
    first=True,
)
def ray_start_params_survive_every_parser(service: Service) -> Iterator[Finding]:
    """A shell, KubeRay and Ray's autoscaler each parse `resources` there, and agree on one way of quoting only."""
    for group in _groups(service):
        text = group.ray_start_params.get("resources")
        if text is not None and not _survives(text):
            sentence = (
                f"{text} is not read alike by the shell, KubeRay and the autoscaler: state it in the group's own `resources`"
            )
            field = service.field(group, "rayStartParams.resources")
            yield service.finding(ray_start_params_survive_every_parser, field, sentence)


def _survives(text: str) -> bool:
    try:
        counted = json.loads(text[1:-1])
    except ValueError:
        return False
    return text[:2] == "'{" and text.endswith("}'") and all(type(value) is int for value in counted.values())


@rule(
    "SG102",
    "names become parts of pods' and Services' names",
    "Use at most 47 of a-z, 0-9 and -, a letter first.",
)
def a_name_is_a_dns_label(service: Service) -> Iterator[Finding]:
    name = service.parsed.metadata.name
    if not DNS_1035.fullmatch(name) or len(name) > 47:
        sentence = f"KubeRay refuses {name}: at most 47 of a-z, 0-9 and -, a letter first"
        yield service.finding(a_name_is_a_dns_label, "metadata.name", sentence)
    for group in service.groups:
        if not DNS_1123.fullmatch(group.group_name.lower()):  # KubeRay writes pods' names small
            sentence = f"{group.group_name} becomes part of its pods' names, and KubeRay does not check it: a-z, 0-9 and - only"
            yield service.finding(a_name_is_a_dns_label, service.field(group, "groupName"), sentence)


@rule(
    "SG103",
    "a group states what Ray counts in one place",
    "Leave only the group's `resources`: KubeRay refuses both.",
)
def a_group_says_its_resources_once(service: Service) -> Iterator[Finding]:
    for group in _groups(service):
        twice = sorted({"num-cpus", "num-gpus", "memory", "resources"} & set(group.ray_start_params))
        if group.resources and twice:
            sentence = f"{' and '.join(twice)} is set beside the group's `resources`, and KubeRay refuses both: leave only those"
            yield service.finding(a_group_says_its_resources_once, service.field(group, "rayStartParams"), sentence)


@rule(
    "SG104",
    "Ray's labels are labels of Kubernetes",
    "Write them into the group's `labels`: at most 63 letters, digits, -, _ and a dot.",
)
def a_label_is_well_formed(service: Service) -> Iterator[Finding]:
    for group in _groups(service):
        if "labels" in group.ray_start_params:
            sentence = "KubeRay refuses labels there: state them in the group's own `labels`"
            yield service.finding(a_label_is_well_formed, service.field(group, "rayStartParams.labels"), sentence)
        for key, value in group.labels.items():
            if not LABEL_KEY.fullmatch(key) or not LABEL_VALUE.fullmatch(value):
                sentence = f"{key}: {value} is no Kubernetes label, and KubeRay refuses it"
                yield service.finding(a_label_is_well_formed, service.field(group, "labels"), sentence)


@rule(
    "SG105",
    "a group has bounds in order, and the autoscaler alone decides between them",
    "State `minReplicas` and `maxReplicas`, and leave `replicas` and `suspend` out.",
)
def replicas_are_in_order(service: Service) -> Iterator[Finding]:
    autoscaled = service.cluster.enable_in_tree_autoscaling
    for group in service.groups:
        if not 0 <= group.min_replicas <= group.max_replicas:
            sentence = f"{group.min_replicas} is not between 0 and maxReplicas ({group.max_replicas}): KubeRay refuses that"
            yield service.finding(replicas_are_in_order, service.field(group, "minReplicas"), sentence)
        if group.max_replicas == UNBOUNDED:
            sentence = f"the group {group.group_name} may grow without bound: state it"
            yield service.finding(replicas_are_in_order, service.field(group, "maxReplicas"), sentence, WARNING)
        if autoscaled and group.replicas is not None:
            sentence = "the autoscaler owns it, and each `kubectl apply` would set it back: leave it out"
            yield service.finding(replicas_are_in_order, service.field(group, "replicas"), sentence, WARNING)
        if autoscaled and group.suspend:
            sentence = "KubeRay refuses to suspend a group that is autoscaled"
            yield service.finding(replicas_are_in_order, service.field(group, "suspend"), sentence)


@rule(
    "SG106",
    "Ray's autoscaler runs, in version 2, and nothing works against it",
    "Set `enableInTreeAutoscaling: true` and `autoscalerOptions.version: v2`.",
)
def the_autoscaler_is_v2(service: Service) -> Iterator[Finding]:
    """With v1 KubeRay refuses a group's idle time and priority, and RayServices scale by other rules."""
    own, options = the_autoscaler_is_v2, service.cluster.autoscaler_options
    if not service.cluster.enable_in_tree_autoscaling:
        sentence = "groups would keep their pods however many replicas Serve needs: set it to true"
        yield service.finding(own, f"{CLUSTER}.enableInTreeAutoscaling", sentence, service.of_house(ERROR))
        if (service.cluster.head_group_spec.ray.value(AUTOSCALER_ENV) or "") in ("1", "true"):
            sentence = f"KubeRay refuses {AUTOSCALER_ENV} without the autoscaler: set enableInTreeAutoscaling to true"
            yield service.finding(
                own, service.field(service.cluster.head_group_spec, "template.spec.containers[0].env"), sentence
            )
        return
    head = service.cluster.head_group_spec
    is_v2 = options.version == "v2" or (not options.version and (head.ray.value(AUTOSCALER_ENV) or "") in ("1", "true"))
    if options.version != "v2":
        sentence = f"it is {options.version or 'not stated'}, and KubeRay then takes the old autoscaler: set v2"
        yield service.finding(own, f"{CLUSTER}.autoscalerOptions.version", sentence, service.of_house(ERROR))
    for worker in service.groups if not is_v2 else ():
        for name, value in (("idleTimeoutSeconds", worker.idle_timeout_seconds), ("priority", worker.priority)):
            if value is not None:
                sentence = "KubeRay refuses it with the old autoscaler: set autoscalerOptions.version to v2"
                yield service.finding(own, service.field(worker, name), sentence)
    if options.version and AUTOSCALER_ENV in _env(head):
        sentence = f"KubeRay refuses {AUTOSCALER_ENV} beside autoscalerOptions.version"
        yield service.finding(own, service.field(head, "template.spec.containers[0].env"), sentence)
    if "KUBERAY_GEN_AUTOSCALER_START_CMD" in {one.name for one in options.env}:
        yield service.finding(own, f"{CLUSTER}.autoscalerOptions.env", "KUBERAY_GEN_AUTOSCALER_START_CMD is KubeRay's own")
    for where, idle_s in _idle_times(service):
        if idle_s < 0:
            yield service.finding(own, where, f"KubeRay refuses {idle_s}: it is a number of seconds")
    for group in _groups(service):
        if is_v2 and group.template.spec.restart_policy not in ("", "Never"):
            sentence = (
                f"KubeRay refuses {group.template.spec.restart_policy} with the autoscaler v2, which replaces pods: leave it out"
            )
            yield service.finding(own, service.field(group, "template.spec.restartPolicy"), sentence)


def _idle_times(service: Service) -> Iterator[tuple[str, int]]:
    idle_s = service.cluster.autoscaler_options.idle_timeout_seconds
    if idle_s is not None:
        yield f"{CLUSTER}.autoscalerOptions.idleTimeoutSeconds", idle_s
    for group in service.groups:
        if group.idle_timeout_seconds is not None:
            yield service.field(group, "idleTimeoutSeconds"), group.idle_timeout_seconds


@rule(
    "SG107",
    "Redis stands in `gcsFaultToleranceOptions` alone, as KubeRay wants it",
    "Name address, user and password there, and nowhere else.",
)
def redis_is_named_once(service: Service) -> Iterator[Finding]:
    head, options = service.cluster.head_group_spec, service.cluster.gcs_fault_tolerance_options
    refused = {"REDIS_USERNAME", "redis-username"}
    if options is not None:
        refused |= {"RAY_REDIS_ADDRESS", "REDIS_PASSWORD", "redis-password"}
    elif service.parsed.metadata.annotations.get("ray.io/ft-enabled", "").lower() != "true":  # the older way
        refused |= {"RAY_REDIS_ADDRESS"}
    env, params = sorted(refused & _env(head)), sorted(refused & set(head.ray_start_params))
    if env or params:
        sentence = f"{' and '.join(env + params)} belongs in gcsFaultToleranceOptions, and KubeRay refuses it here"
        yield service.finding(redis_is_named_once, service.field(head), sentence)
    if options is None:
        sentence = "without it a head that dies takes every replica with it: name a Redis"
        yield service.finding(redis_is_named_once, f"{CLUSTER}.gcsFaultToleranceOptions", sentence, service.of_house(WARNING))
        return
    if options.get("backend", "redis") == "rocksdb":
        sentence = "KubeRay 1.7 refuses rocksdb unless its feature gate GCSFaultToleranceEmbeddedStorage is on"
        yield service.finding(redis_is_named_once, f"{CLUSTER}.gcsFaultToleranceOptions.backend", sentence)
    elif not options.get("redisAddress"):
        sentence = "there is no address of a Redis"
        yield service.finding(redis_is_named_once, f"{CLUSTER}.gcsFaultToleranceOptions.redisAddress", sentence)
    if options.get("externalStorageNamespace"):
        sentence = "two clusters of one upgrade would share their state: leave it out, KubeRay then takes each cluster's own id"
        yield service.finding(redis_is_named_once, f"{CLUSTER}.gcsFaultToleranceOptions.externalStorageNamespace", sentence)


@rule(
    "SG108",
    "Ray asks its clients for a token",
    "Set `authOptions: {mode: token}`.",
)
def tokens_are_required(service: Service) -> Iterator[Finding]:
    options = service.cluster.auth_options
    if options.get("enableK8sTokenAuth"):
        yield service.finding(
            tokens_are_required, f"{CLUSTER}.authOptions.enableK8sTokenAuth", "KubeRay refuses it for a RayService"
        )
    if options.get("mode") != "token":
        sentence = "every client that reaches the head could run code there: set it to token"
        yield service.finding(tokens_are_required, f"{CLUSTER}.authOptions.mode", sentence, WARNING)


@rule(
    "SG110",
    "KubeRay names the head's Service",
    "Leave `headService.metadata.name` out.",
)
def the_head_service_has_no_name(service: Service) -> Iterator[Finding]:
    head = service.cluster.head_group_spec
    if (head.head_service.get("metadata") or {}).get("name"):
        sentence = "KubeRay names it itself, one for each cluster, and refuses a name"
        yield service.finding(the_head_service_has_no_name, service.field(head, "headService.metadata.name"), sentence)


@rule(
    "SG111",
    "no field needs a feature gate of KubeRay that is off by default",
    "Leave the field out, or turn the gate on in KubeRay's operator and ignore this rule.",
)
def a_gated_field_is_left_out(service: Service) -> Iterator[Finding]:
    gates = {
        "networkPolicy": (service.cluster.network_policy, "RayClusterNetworkPolicy"),
        "tlsOptions": (service.cluster.tls_options, "RayClusterMTLS"),
        "historyServerOptions": (service.cluster.history_server_options, "RayClusterHistoryServer"),
    }
    for field, (value, gate) in gates.items():
        if value is not None:
            sentence = f"KubeRay 1.7 refuses it unless its feature gate {gate} is on"
            yield service.finding(a_gated_field_is_left_out, f"{CLUSTER}.{field}", sentence)


def _groups(service: Service) -> list[Group | WorkerGroup]:
    return [service.cluster.head_group_spec, *service.groups]


def _env(group: Group) -> set[str]:
    return {one.name for one in group.ray.env}
