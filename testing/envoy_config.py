"""Files of an Envoy that does what objects of Gateway API say: as much of it as this project renders, and KubeRay makes."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

type Object = dict[str, Any]
TYPES = "type.googleapis.com/envoy"
MANAGER = f"{TYPES}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
TLS = f"{TYPES}.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
OPTIONS = f"{TYPES}.extensions.upstreams.http.v3.HttpProtocolOptions"
PLAIN = {"name": "http", "protocol": "HTTP", "port": 80}
"""Listener in the place of a Gateway that is not rendered."""
IDLE_S = 60
"""Time after which a connection to a service is closed that has no request: below Serve's own, as docs/kubernetes/networking.md advises."""


class Configuration:
    """The files of one Envoy. A new file of routes or clusters is moved to its place, where Envoy takes it without a restart."""

    def __init__(self, folder: Path, gateway: Object | None = None, certificate: Sequence[Path] = ()) -> None:
        """`certificate`: the files in the place of the Gateway's Secret, the certificate and its key."""
        self.bootstrap = folder / "bootstrap.json"
        self.versions: dict[str, str] = {}
        """Version by listener of the routes that Envoy is to have."""
        self._folder, self._certificate = folder, certificate
        self._gateway = gateway["metadata"]["name"] if gateway else ""
        self._listeners: Sequence[Object] = gateway["spec"]["listeners"] if gateway else [PLAIN]
        self._written: dict[str, Object] = {}

    def begin(self, address: str, ports: Mapping[int, int], admin: int) -> None:
        """Write the bootstrap. `ports`: the port by that of the Gateway."""
        listeners = [self._listener(_address(address, ports[port]), port) for port in sorted(self.ports)]
        source = {"path_config_source": {"path": str(self._folder / "clusters.json")}, "resource_api_version": "V3"}
        content = {
            "node": {"id": "test", "cluster": "test"},  # Envoy watches no file without them
            "admin": {"address": _address(address, admin)},
            "dynamic_resources": {"cds_config": source},
            "static_resources": {"listeners": listeners},
        }
        self.bootstrap.write_text(json.dumps(content))

    @property
    def ports(self) -> set[int]:
        """Ports of the Gateway."""
        return {one["port"] for one in self._listeners}

    def serve(self, services: Mapping[str, str]) -> None:
        """Write the URL in the place of each Service."""
        found = [{"@type": f"{TYPES}.config.cluster.v3.Cluster", **_cluster(name, url)} for name, url in services.items()]
        self._move("clusters", found)

    def route(self, documents: Sequence[Object]) -> None:
        """Write the routes of each listener from the HTTPRoutes among these documents."""
        for listener in self._listeners:
            made = _routes(listener, [one for one in documents if self._is_attached(one, listener)])
            made = {"@type": f"{TYPES}.config.route.v3.RouteConfiguration", **made}
            self.versions[listener["name"]] = self._move(_file(listener), [made])

    def _move(self, name: str, resources: list[Object]) -> str:
        """The version of this file, which is another only where its content is: else Envoy would keep the former one."""
        before = self._written.get(name, {"version_info": "0", "resources": None})
        if before["resources"] != resources:
            self._written[name] = {"version_info": str(int(before["version_info"]) + 1), "resources": resources}
            file = self._folder / f"{name}.json"
            file.with_suffix(".new").write_text(json.dumps(self._written[name]))
            file.with_suffix(".new").replace(file)  # Envoy watches for a move; a file that is written in place could be read half
        return str(self._written[name]["version_info"])

    def _is_attached(self, document: Object, listener: Object) -> bool:
        if document["kind"] != "HTTPRoute":
            return False
        parents = [one for one in document["spec"]["parentRefs"] if self._gateway in ("", one["name"])]
        return any(not self._gateway or one.get("sectionName", listener["name"]) == listener["name"] for one in parents)

    def _listener(self, address: Object, port: int) -> Object:
        chains = [self._chain(one) for one in self._listeners if one["port"] == port]
        inspector = {"@type": f"{TYPES}.extensions.filters.listener.tls_inspector.v3.TlsInspector"}
        filters = [{"name": "tls", "typed_config": inspector}] if any("transport_socket" in one for one in chains) else []
        return {"address": address, "listener_filters": filters, "filter_chains": chains}

    def _chain(self, listener: Object) -> Object:
        source = {
            "path_config_source": {"path": str(self._folder / f"{_file(listener)}.json")},
            "resource_api_version": "V3",
        }
        manager = {
            "@type": MANAGER,
            "stat_prefix": "ingress",
            "normalize_path": True,
            "rds": {"route_config_name": listener["name"], "config_source": source},
            "http_filters": [{"name": "router", "typed_config": {"@type": f"{TYPES}.extensions.filters.http.router.v3.Router"}}],
        }
        chain: Object = {"filters": [{"name": "http", "typed_config": manager}]}
        if listener["protocol"] == "HTTPS":
            assert self._certificate, "a listener with TLS needs a certificate"
            certificate, key = ({"filename": str(file)} for file in self._certificate)
            common = {
                "tls_certificates": [{"certificate_chain": certificate, "private_key": key}],
                "alpn_protocols": ["h2", "http/1.1"],
            }
            chain["transport_socket"] = {"name": "tls", "typed_config": {"@type": TLS, "common_tls_context": common}}
            if "hostname" in listener:
                chain["filter_chain_match"] = {"server_names": [listener["hostname"]]}
        return chain


def _file(listener: Object) -> str:
    return f"routes-{listener['name']}"


def _cluster(name: str, url: str) -> Object:
    address = _address(httpx.URL(url).host, httpx.URL(url).port)
    http = {
        "@type": OPTIONS,
        "common_http_protocol_options": {"idle_timeout": f"{IDLE_S}s"},
        "explicit_http_config": {"http_protocol_options": {}},
    }
    return {
        "name": name,
        "connect_timeout": "5s",
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http},
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}]},
    }


def _routes(listener: Object, documents: Iterable[Object]) -> Object:
    """The routes of a listener: for each HTTPRoute its hosts, of which no two may have the same here."""
    hosts = []
    for document in documents:
        domains = [name for name in document["spec"].get("hostnames", ["*"]) if listener.get("hostname", name) == name]
        found = sorted(_matched(document["spec"]["rules"]), key=lambda one: _rank(one[0]))
        made = [{"match": _match(match), **_action(rule)} for match, rule in found]
        hosts.append({"name": document["metadata"]["name"], "domains": domains, "routes": made})
    return {"name": listener["name"], "ignore_port_in_host_matching": True, "virtual_hosts": hosts}


def _matched(rules: Iterable[Object]) -> Iterator[tuple[Object, Object]]:
    """Each match, and its rule. A rule without matches, and a match without a path, takes every path."""
    for rule in rules:
        for match in rule.get("matches", [{}]):
            yield {"path": {"type": "PathPrefix", "value": "/"}, **match}, rule


def _rank(match: Object) -> tuple[bool, int, bool]:
    """Gateway API's order, since Envoy takes the first match: an exact path, the longest path, a method."""
    return match["path"]["type"] != "Exact", -len(match["path"]["value"]), "method" not in match


def _match(match: Object) -> Object:
    kind, value = match["path"]["type"], match["path"]["value"]
    name = "path" if kind == "Exact" else "prefix" if value == "/" else "path_separated_prefix"
    methods = [{"name": ":method", "string_match": {"exact": match["method"]}}] if "method" in match else []
    return {name: value, "headers": methods}


def _action(rule: Object) -> Object:
    """The action for a request. Without a stated timeout Envoy ends it after 15 s."""
    for one in rule.get("filters", []):
        redirect = one["requestRedirect"]
        code = {301: "MOVED_PERMANENTLY", 302: "FOUND"}[redirect["statusCode"]]
        return {"redirect": {"scheme_redirect": redirect["scheme"], "response_code": code}}
    weighted = [{"name": backend["name"], "weight": backend.get("weight", 1)} for backend in rule["backendRefs"]]
    action: Object = {"weighted_clusters": {"clusters": weighted}}
    if timeout := rule.get("timeouts", {}).get("request"):
        action["timeout"] = timeout
    if retry := rule.get("retry"):
        codes = retry.get("codes", [500, 502, 503, 504])
        action["retry_policy"] = {
            "retry_on": "connect-failure,retriable-status-codes",
            "retriable_status_codes": codes,
            "num_retries": retry["attempts"],
        }
    return {"route": action}


def _address(host: str, port: int | None) -> Object:
    return {"socket_address": {"address": host, "port_value": port}}
