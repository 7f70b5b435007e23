"""Refusal of what other sites' pages send.

A service without API keys relies on its address, and any page that a browser on the same machine or network opens can send a form to
that address. Browsers say where a request comes from (Fetch Metadata, and Origin); programs such as curl say nothing. A connection over
loopback may have only loopback's names as Host: a name that another site lets point to 127.0.0.1 would make that site's page
of the same origin (DNS rebinding).
"""

from ipaddress import ip_address

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from deployments.errors import DeploymentError
from graphs.http.errors import CrossSiteRequest, UnknownHost
from graphs.http.problems import problem
from graphs.http.request_id import HEADER, request_id
from graphs.http.settings import HttpSettings

LINKS = ("GET", "HEAD")
"""Methods of a request that follows a link from another site, which is not refused: its answer stays hidden from that site."""


class BrowserMiddleware:
    def __init__(self, app: ASGIApp, settings: HttpSettings) -> None:
        self._app = app
        self._origins = {origin.rstrip("/").lower() for origin in settings.cors_origins}
        self._hosts = {host.lower() for host in settings.trusted_hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        error = self._refusal(scope) if scope["type"] == "http" else None
        if error is None:
            await self._app(scope, receive, send)
            return
        id = request_id(Request(scope))
        response = problem(error, id, scope["path"])
        response.headers[HEADER] = id
        await response(scope, receive, send)

    def _refusal(self, scope: Scope) -> DeploymentError | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "").lower()
        if host and is_loopback((scope.get("server") or ("",))[0]) and not self._is_known(_name(host)):
            return UnknownHost(
                "the request came over loopback, and Host names another machine: use localhost or 127.0.0.1, or, where a proxy on "
                "this machine forwards the name, set http.trusted_hosts to it"
            )
        origin = headers.get("origin", "").lower()
        if "*" in self._origins or origin in self._origins:
            return None
        follows_link = scope["method"] in LINKS and headers.get("sec-fetch-mode") == "navigate"
        other_origin = origin not in ("", f"http://{host}", f"https://{host}")
        if other_origin or (headers.get("sec-fetch-site") == "cross-site" and not follows_link):
            return CrossSiteRequest(
                "a page of another site sent this request: name the page's origin in http.cors_origins to allow it"
            )
        return None

    def _is_known(self, name: str) -> bool:
        return name == "localhost" or name.endswith(".localhost") or is_loopback(name) or bool({name, "*"} & self._hosts)


def _name(host: str) -> str:
    """The host without its port, and an IPv6 address without its brackets."""
    return host[1:].split("]")[0] if host.startswith("[") else host.rsplit(":", 1)[0]


def is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False
