"""Mistakes in what stands beside the RayService: policies, claims, Secrets, Redis, budgets, monitors, namespaces, routes."""

import copy
from typing import Any

from kuberay.doctor.finding import NOTE, WARNING
from kuberay.profiles import SPOT
from testing.manifests import Manifests
from tests.kuberay.mistakes import Mistake

HEAD = {"matchLabels": {"ray.io/node-type": "head"}}
RAY = {"matchLabels": {"ray.io/is-ray-node": "yes"}}
OPTIONS = "gcsFaultToleranceOptions"


def add(m: Manifests, kind: str, version: str, name: str = "another", **fields: Any) -> dict[str, Any]:
    """Add an object, and return it."""
    made = {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": "sonograph"}, **fields}
    m.beside.append(made)
    return made


def policy(m: Manifests, selector: dict[str, Any], **fields: Any) -> dict[str, Any]:
    name = f"another-{len(m.beside)}"
    return add(m, "NetworkPolicy", "networking.k8s.io/v1", name, spec={"podSelector": selector, **fields})


def alone(m: Manifests, selector: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Make this the only policy."""
    m.beside = [one for one in m.beside if one["kind"] != "NetworkPolicy"]
    return policy(m, selector, **fields)


def without(m: Manifests, kind: str, name: str = "") -> None:
    m.beside.remove(m.object(kind, name))


def secret(m: Manifests, name: str, *keys: str, kind: str = "Secret") -> dict[str, Any]:
    return add(m, kind, "v1", name, **{"stringData" if kind == "Secret" else "data": dict.fromkeys(keys, "a")})


def env(m: Manifests, reference: dict[str, Any]) -> None:
    m.container("whisper")["env"] = [*m.container("whisper")["env"], {"name": "A_KEY", "valueFrom": reference}]


def ingress(m: Manifests, name: str = "sonograph-serve-svc", port: Any = 8000, **annotations: str) -> dict[str, Any]:
    backend = {"service": {"name": name, "port": {"number": port} if isinstance(port, int) else {"name": port}}}
    paths = [{"path": "/", "pathType": "Prefix", "backend": backend}]
    made = add(m, "Ingress", "networking.k8s.io/v1", spec={"rules": [{"http": {"paths": paths}}]})
    made["metadata"]["annotations"] = {
        f"nginx.ingress.kubernetes.io/{key.replace('_', '-')}": one for key, one in annotations.items()
    }
    return made


def budget(m: Manifests, selector: dict[str, Any], **bounds: Any) -> None:
    m.add_the_rest()
    add(m, "PodDisruptionBudget", "policy/v1", spec={"selector": selector, **bounds})


def service_monitor(m: Manifests, selector: dict[str, Any], port: str) -> None:
    spec = {"selector": {"matchLabels": selector}, "endpoints": [{"port": port}]}
    add(m, "ServiceMonitor", "monitoring.coreos.com/v1", spec=spec)


def as_deployment(m: Manifests, replicas: int, claim: bool = False) -> None:
    """Make Redis a Deployment."""
    one = m.object("StatefulSet")
    one["kind"] = "Deployment"
    one["spec"] = {key: value for key, value in one["spec"].items() if key in ("selector", "template")} | {"replicas": replicas}
    volume = {"persistentVolumeClaim": {"claimName": "state"}} if claim else {"emptyDir": {}}
    one["spec"]["template"]["spec"]["volumes"] = [{"name": "data", **volume}]
    if claim:
        wanted = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
        add(m, "PersistentVolumeClaim", "v1", "state", spec=wanted)


def volume(m: Manifests, group: str) -> dict[str, Any]:
    return next(one for one in m.pod(group)["volumes"] if one["name"] == "weights")["persistentVolumeClaim"]


def job_pod(m: Manifests) -> dict[str, Any]:
    return m.spec("Job")["template"]["spec"]


def to_another_namespace(m: Manifests) -> None:
    m.add_the_rest()
    m.service["metadata"]["namespace"] = "pictures"


def route(m: Manifests) -> dict[str, Any]:
    m.gateway()
    return next(one for one in m.beside if one["kind"] == "HTTPRoute" and one["metadata"]["name"] == "sonograph")["spec"]


def hpa(m: Manifests, kind: str, name: str) -> None:
    target = {"apiVersion": "apps/v1", "kind": kind, "name": name}
    add(m, "HorizontalPodAutoscaler", "autoscaling/v2", spec={"scaleTargetRef": target, "maxReplicas": 3})


def rename(m: Manifests, kind: str, name: str) -> None:
    m.object(kind)["metadata"]["name"] = name


def binding(m: Manifests, account: str, role: str) -> None:
    made = add(m, "RoleBinding", "rbac.authorization.k8s.io/v1")
    made["subjects"] = [{"kind": "ServiceAccount", "name": account, "namespace": "sonograph"}]
    made["roleRef"] = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role}


ANYWHERE: dict[str, Any] = {}
UDP = {"protocol": "UDP", "port": 53}
TCP = {"protocol": "TCP", "port": 53}

POLICIES = [
    Mistake("no policy for the operator", "SG742", lambda m: without(m, "NetworkPolicy", "-head"), "KubeRay cannot deploy"),
    Mistake(
        "operator at another port",
        "SG742",
        lambda m: m.spec("NetworkPolicy", "-head")["ingress"][0]["ports"][0].update(port=8266),
        "reaches port 8265",
    ),
    Mistake(
        "operator at UDP",
        "SG742",
        lambda m: m.spec("NetworkPolicy", "-head")["ingress"][0]["ports"][0].update(protocol="UDP"),
        "reaches port 8265",
    ),
    Mistake(
        "operator misspelt",
        "SG742",
        lambda m: m.spec("NetworkPolicy", "-head")["ingress"][0]["from"][0].update(
            podSelector={"matchLabels": {"app.kubernetes.io/name": "kuberay-operater"}}
        ),
        "KubeRay cannot deploy",
    ),
    Mistake("the head closed alone", "SG742", lambda m: alone(m, HEAD), "KubeRay cannot deploy", also=("SG744",)),
    Mistake(
        "the head open to its namespace alone",
        "SG742",
        lambda m: alone(m, HEAD, ingress=[{"from": [{"podSelector": {}}]}]),
        "operator has to be there",
        WARNING,
    ),
    Mistake("no DNS", "SG743", lambda m: m.spec("NetworkPolicy", "-ray")["egress"].__delitem__(slice(2, 4)), "UDP 53 and TCP 53"),
    Mistake(
        "DNS by TCP alone",
        "SG743",
        lambda m: [
            one["ports"].__delitem__(0)
            for one in m.spec("NetworkPolicy", "-ray")["egress"]
            if one.get("ports", [{}])[0].get("protocol") == "UDP"
        ],
        "UDP 53 is not let out",
    ),
    Mistake(
        "DNS without a protocol",
        "SG743",
        lambda m: alone(
            m, {}, policyTypes=["Egress"], egress=[{"to": [{"podSelector": {}}]}, {"ports": [{"port": 53}, {"port": 443}]}]
        ),
        "UDP 53 is not let out",
    ),
    Mistake(
        "DNS by UDP alone",
        "SG743",
        lambda m: alone(m, {}, egress=[{"to": [{"podSelector": {}}]}, {"ports": [UDP, {"port": 443}]}], ingress=[ANYWHERE]),
        "TCP 53 is not let out",
        WARNING,
    ),
    Mistake(
        "DNS of a misspelt namespace",
        "SG743",
        lambda m: alone(
            m,
            {},
            policyTypes=["Egress"],
            egress=[
                {"to": [{"podSelector": {}}]},
                {
                    "to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-sytem"}}}],
                    "ports": [UDP, TCP],
                },
                {"ports": [{"port": 443}]},
            ],
        ),
        "UDP 53 and TCP 53",
    ),
    Mistake(
        "DNS of misspelt pods",
        "SG743",
        lambda m: m.spec("NetworkPolicy", "-ray")["egress"].__setitem__(
            slice(2, 4),
            [
                {
                    "to": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"k8s-app": "kubedns"}}}],
                    "ports": [UDP, TCP],
                }
            ],
        ),
        "UDP 53 and TCP 53",
    ),
    Mistake(
        "no DNS for the Job",
        "SG743",
        lambda m: m.spec("NetworkPolicy", "-weights")["egress"].__delitem__(slice(0, 2)),
        "the weights are not fetched",
        WARNING,
    ),
    Mistake(
        "no way in among Ray's pods", "SG744", lambda m: m.spec("NetworkPolicy", "-ray")["ingress"].pop(0), "cuts Ray's pods"
    ),
    Mistake(
        "no way out among Ray's pods", "SG744", lambda m: m.spec("NetworkPolicy", "-ray")["egress"].pop(0), "cuts Ray's pods"
    ),
    Mistake(
        "only some of Ray's ports",
        "SG744",
        lambda m: m.spec("NetworkPolicy", "-ray")["ingress"][0].update(ports=[{"port": 6379}, {"port": 10001}]),
        "Ray's nodes do not join",
    ),
    Mistake(
        "Ray's pods with a misspelt label",
        "SG741",
        lambda m: m.spec("NetworkPolicy", "-ray")["ingress"][0].update(
            {"from": [{"podSelector": {"matchLabels": {"app.kubernetes.io/instance": "sonogrpah"}}}]}
        ),
        "Did you mean app.kubernetes.io/instance=sonograph?",
        WARNING,
        also=("SG744",),
    ),
    Mistake(
        "no way out to Redis", "SG745", lambda m: m.spec("NetworkPolicy", "-ray")["egress"].pop(1), "the head out to port 6379"
    ),
    Mistake("no policy for Redis", "SG745", lambda m: without(m, "NetworkPolicy", "-redis"), "the head in at port 6379"),
    Mistake(
        "Redis closed at its port",
        "SG745",
        lambda m: m.spec("NetworkPolicy", "-redis")["ingress"][0]["ports"][0].update(port=6380),
        "the head in at port 6379",
    ),
    Mistake(
        "Redis open to the workers alone",
        "SG745",
        lambda m: m.spec("NetworkPolicy", "-redis")["ingress"][0].update(
            {"from": [{"podSelector": {"matchLabels": {"ray.io/node-type": "worker"}}}]}
        ),
        "the head in at port 6379",
    ),
    Mistake("no clients", "SG746", lambda m: m.spec("NetworkPolicy", "-ray")["ingress"].pop(2), "let no client reach port 8000"),
    Mistake(
        "clients at another port",
        "SG746",
        lambda m: m.spec("NetworkPolicy", "-ray")["ingress"][2]["ports"][0].update(port=80),
        "let no client reach port 8000",
    ),
    Mistake(
        "clients at a misspelt port",
        "SG746",
        lambda m: m.spec("NetworkPolicy", "-ray")["ingress"][2]["ports"][0].update(port="server"),
        "let no client reach port 8000",
    ),
    Mistake(
        "Serve at a port that no policy opens",
        "SG746",
        lambda m: m.config["http_options"].update(port=8001),
        "let no client reach port 8001",
        also=("SG220",),
    ),
    Mistake(
        "the Job cut from its hub",
        "SG747",
        lambda m: m.spec("NetworkPolicy", "-weights")["egress"].pop(),
        "from the internet",
        WARNING,
    ),
    Mistake(
        "the Job let to private addresses alone",
        "SG747",
        lambda m: m.spec("NetworkPolicy", "-weights")["egress"][-1].update(to=[{"ipBlock": {"cidr": "10.0.0.0/8"}}]),
        "from the internet",
        WARNING,
    ),
    Mistake("no policy for the Job", "SG747", lambda m: without(m, "NetworkPolicy", "-weights"), "from the internet", WARNING),
    Mistake(
        "the head cut from the API",
        "SG748",
        lambda m: m.spec("NetworkPolicy", "-head").pop("egress"),
        "no group grows",
        WARNING,
    ),
    Mistake(
        "Prometheus cut from the metrics",
        "SG749",
        lambda m: (m.add_the_rest(), m.spec("NetworkPolicy", "-ray")["ingress"].pop(1)),
        "lets Prometheus reach",
        WARNING,
    ),
    Mistake(
        "a policy of no pod",
        "SG740",
        lambda m: policy(m, {"matchLabels": {"app.kubernetes.io/instance": "sonogaph"}}),
        "Did you mean app.kubernetes.io/instance=sonograph?",
        WARNING,
    ),
    Mistake(
        "a policy of a misspelt label",
        "SG740",
        lambda m: policy(m, {"matchLabels": {"ray.io/node-typ": "head"}}),
        "Did you mean ray.io/node-type?",
        WARNING,
    ),
    Mistake(
        "pods of another instance than the policies",
        "SG740",
        lambda m: [
            group["template"]["metadata"]["labels"].update({"app.kubernetes.io/instance": "pictures"})
            for group in (m.head, *m.cluster["workerGroupSpecs"])
        ],
        "which no pod of the folder has",
        WARNING,
        also=("SG745",),
    ),
    Mistake(
        "a namespace by its name",
        "SG750",
        lambda m: m.spec("NetworkPolicy", "-ray")["ingress"][2].update(
            {"from": [{"namespaceSelector": {"matchLabels": {"name": "clients"}}}]}
        ),
        "gives no namespace the label name",
        NOTE,
    ),
]

CLAIMS = [
    Mistake(
        "a misspelt claim",
        "SG730",
        lambda m: volume(m, "whisper").update(claimName="sonograph-wieghts"),
        "did you mean sonograph-weights?",
    ),
    Mistake(
        "a claim of another name",
        "SG730",
        lambda m: rename(m, "PersistentVolumeClaim", "weights"),
        "did you mean weights?",
    ),
    Mistake(
        "a claim that is nowhere",
        "SG730",
        lambda m: without(m, "PersistentVolumeClaim"),
        "it has to be in the namespace",
        NOTE,
    ),
    Mistake(
        "a claim of one node",
        "SG731",
        lambda m: m.spec("PersistentVolumeClaim").update(accessModes=["ReadWriteOnce"]),
        "2 pods at the start",
    ),
    Mistake(
        "a claim of one pod",
        "SG731",
        lambda m: m.spec("PersistentVolumeClaim").update(accessModes=["ReadWriteOncePod"]),
        "stay Pending",
    ),
    Mistake(
        "a claim of one node for a Redis that an update doubles",
        "SG731",
        lambda m: as_deployment(m, 1, claim=True),
        "an update starts beside the first",
        WARNING,
    ),
    Mistake(
        "a claim to read only",
        "SG732",
        lambda m: m.spec("PersistentVolumeClaim").update(accessModes=["ReadOnlyMany"]),
        "nothing can be written",
    ),
    Mistake(
        "a Job that may not write",
        "SG732",
        lambda m: job_pod(m)["volumes"][0]["persistentVolumeClaim"].update(readOnly=True),
        "which is to fill it",
    ),
    Mistake(
        "a Job that fills another claim", "SG733", lambda m: volume(m, "whisper").update(claimName="models"), "Name one claim"
    ),
    Mistake(
        "a claim that nobody mounts",
        "SG734",
        lambda m: add(m, "PersistentVolumeClaim", "v1", "cache", spec={**m.spec("PersistentVolumeClaim")}),
        "no pod of the folder mounts cache",
        NOTE,
    ),
]

REFERENCES = [
    Mistake(
        "a misspelt Secret of Redis",
        "SG720",
        lambda m: (
            secret(m, "sonograph-redis", "password"),
            m.cluster[OPTIONS]["redisPassword"]["valueFrom"]["secretKeyRef"].update(name="sonograph-reddis"),
        ),
        "did you mean sonograph-redis?",
        also=("SG724",),
    ),
    Mistake(
        "a misspelt optional Secret",
        "SG720",
        lambda m: secret(m, "sonograph-key", "a"),
        "left out silently",
        WARNING,
    ),
    Mistake(
        "a misspelt ConfigMap",
        "SG720",
        lambda m: (secret(m, "settings", "a", kind="ConfigMap"), env(m, {"configMapKeyRef": {"name": "setings", "key": "a"}})),
        "CreateContainerConfigError",
    ),
    Mistake(
        "a misspelt ServiceAccount",
        "SG720",
        lambda m: (add(m, "ServiceAccount", "v1", "puller"), m.pod("whisper").update(serviceAccountName="pullers")),
        "no pod of it is made",
        cluster='pod: serviceaccount "pullers" not found',
    ),
    Mistake(
        "a misspelt PriorityClass",
        "SG720",
        lambda m: (
            m.beside.append(
                {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "serving-high"}, "value": 10}
            ),
            m.pod("whisper").update(priorityClassName="serving-hihg"),
        ),
        "did you mean serving-high?",
        cluster="pod: no PriorityClass with name",
    ),
    Mistake(
        "a misspelt secret of the registry",
        "SG720",
        lambda m: (
            secret(m, "registry-pull", ".dockerconfigjson"),
            m.pod("whisper").update(imagePullSecrets=[{"name": "registry-pul"}]),
        ),
        "private images",
    ),
    Mistake(
        "a misspelt ConfigMap as a volume",
        "SG720",
        lambda m: (
            secret(m, "settings", "a", kind="ConfigMap"),
            m.pod("whisper")["volumes"].append({"name": "b", "configMap": {"name": "setting"}}),
        ),
        "did you mean settings?",
    ),
    Mistake(
        "a key that a Secret lacks",
        "SG721",
        lambda m: secret(m, "sonograph-redis", "passwrd"),
        "did you mean passwrd?",
    ),
    Mistake(
        "a key that a ConfigMap lacks",
        "SG721",
        lambda m: (
            secret(m, "settings", "a", kind="ConfigMap"),
            env(m, {"configMapKeyRef": {"name": "settings", "key": "mode"}}),
        ),
        "it has a",
    ),
    Mistake(
        "a subject that is nowhere", "SG722", lambda m: binding(m, "runner", "reader"), "only where it is in the namespace", NOTE
    ),
    Mistake(
        "a subject misspelt",
        "SG722",
        lambda m: (add(m, "ServiceAccount", "v1", "runner"), binding(m, "runer", "reader")),
        "Did you mean runner?",
        WARNING,
    ),
]

REDIS = [
    Mistake(
        "no such Redis",
        "SG723",
        lambda m: m.cluster[OPTIONS].update(redisAddress="sonograph-reddis:6379"),
        "did you mean sonograph-redis?",
    ),
    Mistake(
        "another Redis", "SG723", lambda m: m.cluster[OPTIONS].update(redisAddress="cache:6379"), "did you mean sonograph-redis?"
    ),
    Mistake(
        "no such Redis by its long name",
        "SG723",
        lambda m: m.cluster[OPTIONS].update(redisAddress="redis://sonograph-redi.sonograph.svc.cluster.local:6379"),
        "did you mean sonograph-redis?",
    ),
    Mistake(
        "Redis at another port",
        "SG723",
        lambda m: m.cluster[OPTIONS].update(redisAddress="sonograph-redis:6380"),
        "and not on 6380",
    ),
    Mistake(
        "Redis of another namespace",
        "SG723",
        lambda m: m.cluster[OPTIONS].update(redisAddress="sonograph-redis.state.svc:6379"),
        "of the namespace state",
    ),
    Mistake(
        "a Redis left out with its folder's Service renamed",
        "SG723",
        lambda m: rename(m, "Service", "redis"),
        "did you mean redis?",
    ),
    Mistake(
        "two passwords",
        "SG724",
        lambda m: m.cluster[OPTIONS]["redisPassword"]["valueFrom"]["secretKeyRef"].update(name="state-store"),
        "Name one Secret",
    ),
    Mistake(
        "another key of the password",
        "SG724",
        lambda m: m.cluster[OPTIONS]["redisPassword"]["valueFrom"]["secretKeyRef"].update(key="redis-password"),
        "Name one Secret",
    ),
    Mistake("no password", "SG724", lambda m: m.cluster[OPTIONS].pop("redisPassword"), "the head has none"),
    Mistake("two Redis", "SG725", lambda m: m.spec("StatefulSet").update(replicas=2), "a state of its own"),
    Mistake("three Redis of a Deployment", "SG725", lambda m: as_deployment(m, 3), "a state of its own"),
    Mistake("Redis that is scaled", "SG725", lambda m: hpa(m, "StatefulSet", "sonograph-redis"), "a state of its own"),
    Mistake(
        "a Service of no pod",
        "SG726",
        lambda m: m.spec("Service")["selector"].update({"app.kubernetes.io/component": "reddis"}),
        "connections to sonograph-redis are refused",
        also=("SG745",),
    ),
    Mistake(
        "another Service of no pod",
        "SG726",
        lambda m: add(m, "Service", "v1", spec={"selector": {"app": "whisper"}, "ports": [{"port": 80}]}),
        "which no pod",
        WARNING,
    ),
    Mistake(
        "a misspelt port of a Service",
        "SG727",
        lambda m: m.spec("Service")["ports"][0].update(targetPort="reddis"),
        "did you mean redis?",
    ),
    Mistake(
        "a port that no container names",
        "SG727",
        lambda m: m.spec("Service")["ports"][0].update(targetPort=6380),
        "only 6379",
        WARNING,
    ),
    Mistake("Ray scaled from outside", "SG728", lambda m: hpa(m, "RayService", "sonograph"), "no scale subresource", WARNING),
    Mistake("nothing to scale", "SG728", lambda m: hpa(m, "Deployment", "whisper"), "this scales nothing", WARNING),
]

BUDGETS = [
    Mistake(
        "a budget of no pod",
        "SG760",
        lambda m: m.spec("PodDisruptionBudget")["selector"]["matchLabels"].update({"app.kubernetes.io/instance": "sonogram"}),
        "which no pod of the folder has",
        WARNING,
    ),
    Mistake(
        "a budget without selector", "SG760", lambda m: m.spec("PodDisruptionBudget").pop("selector"), "selects nothing", WARNING
    ),
    Mistake(
        "a budget of two bounds",
        "SG761",
        lambda m: m.spec("PodDisruptionBudget").update(maxUnavailable=1),
        "exclude each other",
        cluster="kubectl: cannot be both set",
    ),
    Mistake(
        "a budget of every pod",
        "SG762",
        lambda m: m.spec("PodDisruptionBudget").update(minAvailable=2),
        "let one pod go",
        WARNING,
    ),
    Mistake(
        "a budget of all", "SG762", lambda m: m.spec("PodDisruptionBudget").update(minAvailable="100%"), "let one pod go", WARNING
    ),
    Mistake(
        "a budget that none leaves",
        "SG762",
        lambda m: budget(m, {"matchLabels": {"app.kubernetes.io/component": "redis"}}, maxUnavailable=0),
        "let one pod go",
        WARNING,
    ),
    Mistake(
        "a budget of the one Redis",
        "SG762",
        lambda m: budget(m, {"matchLabels": {"app.kubernetes.io/component": "redis"}}, minAvailable=1),
        "1 pods at the least",
        WARNING,
    ),
    Mistake("a budget of the head", "SG762", lambda m: budget(m, HEAD, minAvailable=1), "let one pod go", WARNING),
    Mistake(
        "a budget in percent", "SG763", lambda m: m.spec("PodDisruptionBudget").update(minAvailable="50%"), "RayCluster", WARNING
    ),
    Mistake(
        "a budget of those that are away",
        "SG763",
        lambda m: budget(m, {"matchLabels": {"ray.io/group": "whisper"}}, maxUnavailable=1),
        "RayCluster",
        WARNING,
    ),
    Mistake("two budgets", "SG764", lambda m: budget(m, RAY, minAvailable=1), "two budgets", WARNING, profile=SPOT),
]

MONITORS = [
    Mistake(
        "a monitor of no pod",
        "SG770",
        lambda m: m.spec("PodMonitor")["selector"]["matchLabels"].update({"app.kubernetes.io/instance": "sonogram"}),
        "nothing is scraped",
        WARNING,
    ),
    Mistake(
        "a monitor of another namespace",
        "SG770",
        lambda m: m.object("PodMonitor")["metadata"].update(namespace="monitoring"),
        "it looks into monitoring",
        WARNING,
    ),
    Mistake(
        "a monitor that looks elsewhere",
        "SG770",
        lambda m: m.spec("PodMonitor").update(namespaceSelector={"matchNames": ["ray"]}),
        "it looks into ray",
        WARNING,
    ),
    Mistake(
        "a monitor of Services with a pod's label",
        "SG770",
        lambda m: service_monitor(m, {"ray.io/group": "whisper"}, "metrics"),
        "Service",
        WARNING,
    ),
    Mistake(
        "a port that no container has",
        "SG771",
        lambda m: m.spec("PodMonitor")["podMetricsEndpoints"][0].update(port="metric"),
        "did you mean metrics?",
        WARNING,
    ),
    Mistake(
        "a port that no Service has",
        "SG771",
        lambda m: service_monitor(m, {"ray.io/node-type": "head"}, "prometheus"),
        "no Service",
        WARNING,
    ),
    Mistake(
        "a scrape longer than its interval",
        "SG772",
        lambda m: m.spec("PodMonitor")["podMetricsEndpoints"][0].update(interval="10s", scrapeTimeout="1m"),
        "refuses the whole monitor",
        WARNING,
    ),
]

NAMESPACES = [
    Mistake(
        "two objects of one name",
        "SG712",
        lambda m: m.beside.append(copy.deepcopy(m.object("Service"))),
        "twice",
        also=("SG725",),
    ),
    Mistake("the RayService elsewhere", "SG713", to_another_namespace, "in the namespace pictures"),
    Mistake(
        "Redis elsewhere", "SG713", lambda m: m.object("Service")["metadata"].update(namespace="state"), "in the namespace state"
    ),
    Mistake(
        "the claim elsewhere",
        "SG713",
        lambda m: m.object("PersistentVolumeClaim")["metadata"].update(namespace="data"),
        "PersistentVolumeClaim sonograph-weights is in the namespace data",
    ),
    Mistake(
        "a budget elsewhere",
        "SG713",
        lambda m: m.object("PodDisruptionBudget")["metadata"].update(namespace="default"),
        "PodDisruptionBudget sonograph-ingress",
    ),
    Mistake(
        "a route elsewhere",
        "SG713",
        lambda m: (m.split(), m.object("HTTPRoute")["metadata"].update(namespace="edge")),
        "HTTPRoute sonograph is in the namespace edge",
    ),
    Mistake(
        "a Secret elsewhere",
        "SG713",
        lambda m: secret(m, "sonograph-redis", "password")["metadata"].update(namespace="default"),
        "Secret sonograph-redis is in the namespace default",
    ),
    Mistake(
        "a claim without namespace",
        "SG714",
        lambda m: m.object("PersistentVolumeClaim")["metadata"].pop("namespace"),
        "context",
        WARNING,
    ),
    Mistake("the RayService without namespace", "SG714", lambda m: m.service["metadata"].pop("namespace"), "context", WARNING),
    Mistake(
        "a Namespace of another name",
        "SG715",
        lambda m: m.beside.append({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "sonografh"}}),
        "did you mean sonograph?",
        WARNING,
    ),
]

ROUTES = [
    Mistake(
        "a misspelt Gateway", "SG780", lambda m: route(m)["parentRefs"][0].update(name="sonogaph"), "did you mean sonograph?"
    ),
    Mistake(
        "a Gateway of another namespace",
        "SG780",
        lambda m: route(m)["parentRefs"][0].update(namespace="infra"),
        "name its namespace",
    ),
    Mistake(
        "a misspelt listener", "SG781", lambda m: route(m)["parentRefs"][0].update(sectionName="htps"), "did you mean https?"
    ),
    Mistake("another port of the Gateway", "SG781", lambda m: route(m)["parentRefs"][0].update(port=8443), "no listener on 8443"),
    Mistake("another host", "SG782", lambda m: route(m).update(hostnames=["picture.example.org"]), "its requests get 404"),
    Mistake(
        "a wildcard of another domain",
        "SG782",
        lambda m: (route(m), m.spec("Gateway")["listeners"][1].update(hostname="*.example.com")),
        "only *.example.com",
    ),
    Mistake(
        "a Gateway that takes no routes of others",
        "SG783",
        lambda m: (
            route(m)["parentRefs"][0].update(namespace="infra"),
            m.object("Gateway")["metadata"].update(namespace="infra"),
        ),
        "allowedRoutes.namespaces.from",
        also=("SG780",),
    ),
    Mistake("an Ingress to the RayService's name", "SG784", lambda m: ingress(m, "sonograph"), "did you mean"),
    Mistake(
        "an Ingress to a misspelt Service",
        "SG784",
        lambda m: ingress(m, "sonograph-server-svc"),
        "did you mean sonograph-serve-svc?",
    ),
    Mistake("an Ingress to another port", "SG784", lambda m: ingress(m, port=80), "has no port 80"),
    Mistake("an Ingress to a port of another name", "SG784", lambda m: ingress(m, port="http"), "has no port http"),
    Mistake(
        "an Ingress with the default timeout", "SG785", lambda m: ingress(m, proxy_body_size="64m"), "nginx waits 60 s", WARNING
    ),
    Mistake("an Ingress with a short timeout", "SG785", lambda m: ingress(m, proxy_read_timeout="100"), "it is 100", WARNING),
    Mistake("an Ingress for small bodies", "SG786", lambda m: ingress(m, proxy_read_timeout="300"), "nginx takes 1m", WARNING),
    Mistake("an Ingress for bodies of 8 MiB", "SG786", lambda m: ingress(m, proxy_body_size="8m"), "it is 8m", WARNING),
]

MISTAKES = [*POLICIES, *CLAIMS, *REFERENCES, *REDIS, *BUDGETS, *MONITORS, *NAMESPACES, *ROUTES]
