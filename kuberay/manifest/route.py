"""route.yaml: the Gateway API HTTPRoute that splits requests between two RayServices."""

import re
from dataclasses import dataclass, field

from kuberay.images import Images
from kuberay.manifest.objects import Object, kubernetes_object
from kuberay.profiles import NAME, PORT, Profile

REVISIONS = ("stable", "candidate")
"""Names of the shares."""
GRAPHS = ("/graph", "/listen")
"""Paths that take a recording. `GET /graph`, and all below it, name nodes and models: they are not for clients."""
PREFIXES = ("/v1", "/page", "/samples", "/docs", "/openapi.json", "/healthz", "/readyz")
"""Paths for clients, each with all below it."""
FORM = "such as stable=80,candidate=20"
LABEL = "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"


@dataclass(frozen=True)
class Split:
    shares: dict[str, int]
    """Percent of the requests, by the names of REVISIONS."""
    images: Images = field(default_factory=Images)
    """Images of the candidate."""
    gateway: str = NAME
    """[NAMESPACE/]NAME of the Gateway that the route is attached to."""
    hostnames: tuple[str, ...] = ()

    @property
    def options(self) -> tuple[str, ...]:
        """Options of `sonograph render` that made this route."""
        shares = ",".join(f"{name}={percent}" for name, percent in self.shares.items())
        return f"--split {shares}", f"--gateway {self.gateway}", *(f"--hostname {name}" for name in self.hostnames)


def parse_shares(text: str) -> dict[str, int]:
    """Percent by name, from `stable=80,candidate=20`. Raises ValueError, whose sentence says what to change."""
    found: dict[str, int] = {}
    for part in text.split(","):
        name, _, percent = (word.strip() for word in part.partition("="))
        if name not in REVISIONS:
            raise ValueError(f"there is no {name or 'name'!r}, only {' and '.join(REVISIONS)}: give both, {FORM}")
        if name in found:
            raise ValueError(f"{name} is named twice: give each its share once, {FORM}")
        if not re.fullmatch("[0-9]{1,3}", percent) or int(percent) > 100:
            raise ValueError(f"the share of {name} is {percent or 'missing'}: give whole percent from 0 to 100, {FORM}")
        found[name] = int(percent)
    lacking = [name for name in REVISIONS if name not in found]
    if lacking:
        raise ValueError(f"{lacking[0]} has no share: give both, {FORM}")
    if sum(found.values()) != 100:
        added = " + ".join(map(str, found.values()))
        raise ValueError(f"the shares are percent, and {added} is {sum(found.values())}: make them add up to 100")
    return {name: found[name] for name in REVISIONS}


def parse_gateway(text: str) -> str:
    """The [NAMESPACE/]NAME of a Gateway. Raises ValueError."""
    if not re.fullmatch(rf"({LABEL}/)?{LABEL}(\.{LABEL})*", text):
        raise ValueError(f"{text!r} names no Gateway: give NAME, or NAMESPACE/NAME, of a-z, 0-9 and -")
    return text


def parse_hostname(text: str) -> str:
    """A host that the route is for. Raises ValueError."""
    if not re.fullmatch(rf"(\*\.)?{LABEL}(\.{LABEL})*", text) or re.fullmatch("[0-9.]+", text):
        raise ValueError(f"{text!r} is no hostname: give a name such as pictures.example.org, without scheme, port or path")
    return text


def route(profile: Profile, split: Split) -> Object:
    """An HTTPRoute of one rule, so that a change of its weights is one patch.

    It names the paths that are for clients. It states no retries: a request that a service has begun is not sent again.
    """
    namespace, _, name = split.gateway.rpartition("/")
    rule = {
        "matches": _matches(),
        "timeouts": {"request": f"{profile.times.request_timeout_s}s"},
        "backendRefs": [
            {
                "name": serve_service(profile.candidate if revision == "candidate" else profile.service),
                "port": PORT,
                "weight": percent,
            }
            for revision, percent in split.shares.items()
        ],
    }
    spec = {
        "parentRefs": [{"name": name, **({"namespace": namespace} if namespace else {})}],
        **({"hostnames": list(split.hostnames)} if split.hostnames else {}),
        "rules": [rule],
    }
    return kubernetes_object("gateway.networking.k8s.io/v1", "HTTPRoute", profile.service, spec=spec)


def serve_service(name: str) -> str:
    """The Service that KubeRay makes for a RayService: the same through all its clusters."""
    return f"{name}-serve-svc"


def _matches() -> list[Object]:
    """A graph's path with and without the slash that the service ignores; OPTIONS asks for CORS before a POST."""
    graphs = [
        {"path": {"type": "Exact", "value": path}, "method": method}
        for graph in GRAPHS
        for path in (graph, f"{graph}/")
        for method in ("POST", "OPTIONS")
    ]
    prefixes = [{"path": {"type": "PathPrefix", "value": prefix}} for prefix in PREFIXES]
    return [{"path": {"type": "Exact", "value": "/"}}, *graphs, *prefixes]
