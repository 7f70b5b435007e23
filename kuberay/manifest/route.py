"""route.yaml: the way in from outside, an HTTPRoute of Gateway API; it may split requests between two RayServices."""

import re
from dataclasses import dataclass, field

from kuberay.images import Images
from kuberay.manifest.objects import Object, kubernetes_object
from kuberay.profiles import PORT, Profile

REVISIONS = ("stable", "candidate")
"""Names of the shares."""
GRAPHS = ("/graph", "/listen")
"""Paths that take a recording. `GET /graph`, and all below it, name nodes and models: they are not for clients."""
PREFIXES = ("/v1", "/page", "/samples", "/docs", "/openapi.json", "/healthz", "/readyz")
"""Paths for clients, each with all below it."""
FORM = "such as stable=80,candidate=20"
VERSION = "gateway.networking.k8s.io/v1"


@dataclass(frozen=True)
class Split:
    shares: dict[str, int]
    """Percent of the requests, by the names of REVISIONS."""
    images: Images = field(default_factory=Images)
    """Images of the candidate."""

    @property
    def option(self) -> str:
        """The option of `sonograph render` that made this split."""
        return f"--split {','.join(f'{name}={percent}' for name, percent in self.shares.items())}"


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


def route(profile: Profile, split: Split | None = None) -> list[Object]:
    """The HTTPRoute, and the Gateway where it is ours; nothing where the values name neither and no requests are split."""
    values = profile.values.route
    if not (values.gateway or values.gateway_class or split):
        return []
    if values.gateway_class:
        parents = [{"name": profile.service, "sectionName": _listener(number)} for number in range(len(values.hostnames))]
        return [_gateway(profile), _redirect(profile), _routed(profile, parents, split)]
    namespace, _, name = (values.gateway or profile.service).rpartition("/")
    listener = {"sectionName": values.listener} if values.listener else {}
    return [_routed(profile, [{"name": name, **({"namespace": namespace} if namespace else {}), **listener}], split)]


def _routed(profile: Profile, parents: list[Object], split: Split | None) -> Object:
    """An HTTPRoute of one rule, so that a change of its weights is one patch.

    It names the paths that are for clients. It states no retries: a request that a service has begun is not sent again.
    """
    names = {"stable": profile.service, "candidate": profile.candidate}
    shares = split.shares if split else {"stable": 100}
    rule = {
        "matches": _matches(),
        "timeouts": {"request": f"{profile.times.request_timeout_s}s"},
        "backendRefs": [{"name": serve_service(names[one]), "port": PORT, "weight": percent} for one, percent in shares.items()],
    }
    spec = {"parentRefs": parents, **_hosts(profile), "rules": [rule]}
    return kubernetes_object(profile, VERSION, "HTTPRoute", profile.service, spec=spec)


def _hosts(profile: Profile) -> Object:
    names = profile.values.route.hostnames
    return {"hostnames": names} if names else {}


def _gateway(profile: Profile) -> Object:
    """A Gateway with a listener for each host: cert-manager makes one certificate for those of one Secret."""
    values = profile.values.route
    certificate = {"mode": "Terminate", "certificateRefs": [{"name": values.tls_secret or f"{profile.service}-tls"}]}
    listeners = [
        {"name": "http", "protocol": "HTTP", "port": 80},
        *(
            {"name": _listener(number), "protocol": "HTTPS", "port": 443, "hostname": name, "tls": certificate}
            for number, name in enumerate(values.hostnames)
        ),
    ]
    gateway = kubernetes_object(
        profile, VERSION, "Gateway", profile.service, spec={"gatewayClassName": values.gateway_class, "listeners": listeners}
    )
    if values.annotations:
        gateway["metadata"]["annotations"] = values.annotations
    return gateway


def _listener(number: int) -> str:
    return f"https-{number}" if number else "https"


def _redirect(profile: Profile) -> Object:
    """A route of plain HTTP, whose answer is the address with TLS."""
    spec = {
        "parentRefs": [{"name": profile.service, "sectionName": "http"}],
        **_hosts(profile),
        "rules": [{"filters": [{"type": "RequestRedirect", "requestRedirect": {"scheme": "https", "statusCode": 301}}]}],
    }
    return kubernetes_object(profile, VERSION, "HTTPRoute", f"{profile.service}-redirect", spec=spec)


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
