"""Kubernetes' and its extensions' schemas, pruned for the doctor: `python -m testing.schemas SWAGGER CRD...` writes them.

SWAGGER is `api/openapi-spec/swagger.json` of the Go module k8s.io/kubernetes (Apache-2.0). CRD are the definitions of KubeRay, of Gateway
API and of the Prometheus operator (all Apache-2.0). Descriptions and status are left out; what holds a pod, as KubeRay's groups do, refers
to Kubernetes' own.
"""

import json
import sys
from pathlib import Path
from typing import Any

import yaml

OUT = Path(__file__).parents[1] / "kuberay/doctor/schemas.json"
SOURCE = "Kubernetes 1.36.3, KubeRay 1.7.0, Gateway API 1.6.1 and the Prometheus operator's definitions; all Apache-2.0"
KINDS = (
    *("v1 Namespace", "v1 ConfigMap", "v1 Secret", "v1 Service", "v1 ServiceAccount", "v1 Pod", "v1 PersistentVolumeClaim"),
    *("v1 PersistentVolume", "v1 ResourceQuota", "v1 LimitRange", "v1 Endpoints", "v1 Node"),
    *("apps/v1 Deployment", "apps/v1 StatefulSet", "apps/v1 DaemonSet", "batch/v1 Job", "batch/v1 CronJob"),
    *("networking.k8s.io/v1 NetworkPolicy", "networking.k8s.io/v1 Ingress", "policy/v1 PodDisruptionBudget"),
    *("rbac.authorization.k8s.io/v1 Role", "rbac.authorization.k8s.io/v1 RoleBinding"),
    *("rbac.authorization.k8s.io/v1 ClusterRole", "rbac.authorization.k8s.io/v1 ClusterRoleBinding"),
    *("scheduling.k8s.io/v1 PriorityClass", "storage.k8s.io/v1 StorageClass", "autoscaling/v2 HorizontalPodAutoscaler"),
    *("node.k8s.io/v1 RuntimeClass", "apps/v1 ReplicaSet", "networking.k8s.io/v1 IngressClass"),
)
VERSIONS = "v1"
"""Of the definitions: older ones have the same fields or fewer."""
_CORE, _TAINTS = "io.k8s.api.core.v1", ["NoSchedule", "PreferNoSchedule", "NoExecute"]
VALUES = {
    f"{_CORE}.PodSpec": {
        "restartPolicy": ["Always", "OnFailure", "Never"],
        "dnsPolicy": ["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"],
        "preemptionPolicy": ["Never", "PreemptLowerPriority"],
    },
    f"{_CORE}.Container": {"imagePullPolicy": ["Always", "IfNotPresent", "Never"]},
    f"{_CORE}.ContainerPort": {"protocol": ["TCP", "UDP", "SCTP"]},
    f"{_CORE}.Toleration": {"effect": ["", *_TAINTS], "operator": ["", "Exists", "Equal", "Gt", "Lt"]},
    f"{_CORE}.EmptyDirVolumeSource": {"medium": ["", "Memory", "HugePages", "HugePages-2Mi", "HugePages-1Gi"]},
    f"{_CORE}.HTTPGetAction": {"scheme": ["HTTP", "HTTPS"]},
    f"{_CORE}.TopologySpreadConstraint": {"whenUnsatisfiable": ["DoNotSchedule", "ScheduleAnyway"]},
    f"{_CORE}.SeccompProfile": {"type": ["RuntimeDefault", "Unconfined", "Localhost"]},
    f"{_CORE}.ServiceSpec": {
        "type": ["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"],
        "sessionAffinity": ["ClientIP", "None"],
    },
    f"{_CORE}.ServicePort": {"protocol": ["TCP", "UDP", "SCTP"]},
    f"{_CORE}.NodeSelectorRequirement": {"operator": ["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"]},
    f"{_CORE}.VolumeMount": {"mountPropagation": ["None", "HostToContainer", "Bidirectional"]},
    "io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelectorRequirement": {"operator": ["In", "NotIn", "Exists", "DoesNotExist"]},
    "io.k8s.api.networking.v1.NetworkPolicyPort": {"protocol": ["TCP", "UDP", "SCTP"]},
    "io.k8s.api.batch.v1.CronJobSpec": {"concurrencyPolicy": ["Allow", "Forbid", "Replace"]},
}
"""Values that Kubernetes' validation takes, by definition and field: its OpenAPI does not have them."""
VALUES_OF_LISTS = {
    (f"{_CORE}.PersistentVolumeClaimSpec", "accessModes"): ["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"],
    ("io.k8s.api.networking.v1.NetworkPolicySpec", "policyTypes"): ["Ingress", "Egress"],
}
PORT, NOT_NEGATIVE, ONE_OR_MORE = {"minimum": 1, "maximum": 65535}, {"minimum": 0}, {"minimum": 1}
NUMBERS = {
    f"{_CORE}.ContainerPort": {"containerPort": PORT},
    f"{_CORE}.ServicePort": {"port": PORT},
    f"{_CORE}.Probe": {
        **dict.fromkeys(("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "failureThreshold"), NOT_NEGATIVE),
    },
    f"{_CORE}.PodSpec": {"terminationGracePeriodSeconds": NOT_NEGATIVE, "activeDeadlineSeconds": ONE_OR_MORE},
    "io.k8s.api.batch.v1.JobSpec": dict.fromkeys(
        ("backoffLimit", "parallelism", "completions", "ttlSecondsAfterFinished"), NOT_NEGATIVE
    ),
    "io.k8s.api.apps.v1.DeploymentSpec": {"replicas": NOT_NEGATIVE},
    "io.k8s.api.apps.v1.StatefulSetSpec": {"replicas": NOT_NEGATIVE},
}
"""Bounds of Kubernetes' validation."""
KEPT = ("type", "required", "enum", "pattern", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems")
POD, TEMPLATE = "io.k8s.api.core.v1.PodSpec", "io.k8s.api.core.v1.PodTemplateSpec"
META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
ANY: dict[str, Any] = {}
SCALAR = {"type": ["string", "integer"]}
AS_THEY_ARE = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": {"type": ["string", "number"], "format": "quantity"},
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": SCALAR,
    "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1": ANY,
}


def pruned(schema: dict[str, Any]) -> dict[str, Any]:
    """Return what jsonschema needs of a schema of OpenAPI: objects take their own fields alone."""
    if "$ref" in schema:
        return {"$ref": f"#/definitions/{schema['$ref'].rpartition('/')[2]}"}
    if len(schema.get("allOf", [])) == 1 and "$ref" in schema["allOf"][0]:
        return pruned(schema["allOf"][0])
    if schema.get("x-kubernetes-int-or-string"):
        return {**SCALAR, "format": "quantity"} if "pattern" in schema else SCALAR
    properties = schema.get("properties", {})
    if {"containers", "initContainers", "volumes"} <= properties.keys():
        return {"$ref": f"#/definitions/{POD}"}
    if properties.keys() == {"metadata", "spec"} and "containers" in properties["spec"].get("properties", {}):
        return {"$ref": f"#/definitions/{TEMPLATE}"}
    made = {name: schema[name] for name in KEPT if name in schema}
    if "required" in made:  # the API server fills a default in before it looks for what is missing
        made["required"] = [name for name in made["required"] if "default" not in properties.get(name, {})]
    if properties:
        made["properties"] = {name: pruned(one) for name, one in properties.items() if name != "status"}
        if "status" in properties:
            made["properties"]["status"] = ANY
    beyond = schema.get("additionalProperties")
    if isinstance(beyond, dict):
        made["additionalProperties"] = pruned(beyond)
    elif properties and not schema.get("x-kubernetes-preserve-unknown-fields"):
        made["additionalProperties"] = False
    if "items" in schema:
        made["items"] = pruned(schema["items"])
    return made


def of_kubernetes(swagger: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the definitions of KINDS and of all that they refer to, and the name of each kind's."""
    names: dict[str, str] = {}
    for name, definition in swagger["definitions"].items():
        for one in definition.get("x-kubernetes-group-version-kind", ()):
            kind = f"{one['group']}/{one['version']} {one['kind']}".removeprefix("/")
            if kind in KINDS:
                names[kind] = name
    if missing := set(KINDS) - names.keys():
        raise SystemExit(f"Kubernetes has no {sorted(missing)}")
    definitions: dict[str, Any] = {}
    waiting = [*names.values(), POD, TEMPLATE, META]
    while waiting:
        name = waiting.pop()
        if name not in definitions:
            found = swagger["definitions"][name]
            body = {key: value for key, value in found.items() if key != "properties"}
            fields = {key: pruned(value) for key, value in found.get("properties", {}).items()}
            definitions[name] = AS_THEY_ARE.get(name) or {**pruned(body), **({"properties": fields} if fields else {})}
            if fields and name not in AS_THEY_ARE:
                definitions[name]["additionalProperties"] = False
                if "status" in fields:
                    fields["status"] = ANY
                for field, values in VALUES.get(name, {}).items():
                    fields[field]["enum"] = values
                for field, bounds in NUMBERS.get(name, {}).items():
                    fields[field] |= bounds
                for (of, field), values in VALUES_OF_LISTS.items():
                    if of == name:
                        fields[field]["items"] = {"enum": values}
            waiting += _references(definitions[name])
    return definitions, names


def _references(value: Any) -> list[str]:
    if isinstance(value, list):
        return [name for one in value for name in _references(one)]
    if not isinstance(value, dict):
        return []
    found = [value["$ref"].rpartition("/")[2]] if isinstance(value.get("$ref"), str) else []
    return found + [name for one in value.values() for name in _references(one)]


def of_definition(crd: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the schema of each version of a CustomResourceDefinition, by its kind."""
    group, kind = crd["spec"]["group"], crd["spec"]["names"]["kind"]
    found = {}
    for version in (one for one in crd["spec"]["versions"] if one["name"] == VERSIONS):
        made = pruned(version["schema"]["openAPIV3Schema"])
        made["properties"]["metadata"] = {"$ref": f"#/definitions/{META}"}
        found[f"{group}/{version['name']} {kind}"] = made
    return found


def _add_experimental(route: dict[str, Any]) -> None:
    """Take the fields of Gateway API's experimental channel too, whatever they hold."""
    rules = route["properties"]["spec"]["properties"]["rules"]["items"]["properties"]
    rules |= dict.fromkeys(("retry", "sessionPersistence"), ANY)


def main(swagger: str, *crds: str) -> None:
    """Write the schemas."""
    definitions, names = of_kubernetes(json.loads(Path(swagger).read_text(encoding="utf-8")))
    for crd in crds:
        for kind, schema in of_definition(yaml.safe_load(Path(crd).read_text(encoding="utf-8"))).items():
            name = kind.replace("/", ".").replace(" ", ".")
            definitions[name] = schema
            if kind.endswith(" HTTPRoute"):
                _add_experimental(schema)
            names[kind] = name
    kept, waiting = set[str](), list(names.values())
    while waiting:
        name = waiting.pop()
        if name not in kept:
            kept.add(name)
            waiting += _references(definitions[name])
    written = {
        "source": SOURCE,
        "kinds": dict(sorted(names.items())),
        "definitions": {name: definitions[name] for name in sorted(kept)},
    }
    OUT.write_text(f"{json.dumps(written, separators=(',', ':'))}\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
