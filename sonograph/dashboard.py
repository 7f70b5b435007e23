"""Ray's dashboard over HTTP: Serve's REST API and the state API. Loads no Ray and joins no cluster."""

from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import httpx

from sonograph.addresses import is_loopback
from sonograph.errors import Failed

APPLICATIONS = "/api/serve/applications/"
ANSWER_S = 30.0
ROWS = 10_000
"""Most rows of a list of the state API."""


def address(given: str | None, named: str | None) -> str:
    """Return the address of the dashboard: the given one, or that which the service names, on this machine alone. Raises Failed."""
    url = given or named
    if url is None:
        raise Failed("the service does not know Ray's dashboard: name it, as in --dashboard http://127.0.0.1:8265")
    if not given and not is_loopback(urlsplit(url).hostname or ""):  # Ray's token goes there, and its holder can run code
        raise Failed(
            f"the service names {url} as Ray's dashboard, on another machine: if that is right, add --dashboard {url}; "
            "in Kubernetes use --rayservice, or a port-forward of the head's port 8265"
        )
    return url


class DashboardError(Exception):
    """One sentence on why the dashboard did not do what it was asked."""


class Dashboard:
    """The dashboard of one cluster. Every method raises DashboardError."""

    def __init__(self, url: str, token: str | None = None, transport: httpx.BaseTransport | None = None) -> None:
        """`token`: Ray's, for a cluster that asks for it: its holder can run code in the cluster."""
        self.url = url.rstrip("/")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        # No proxy of the environment's gets the token.
        self._client = httpx.Client(base_url=self.url, headers=headers, timeout=ANSWER_S, transport=transport, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._client.close()

    def details(self) -> dict[str, Any]:
        """The state of Serve: its options, and each application's config, status, deployments and replicas."""
        return dict(self._ask("GET", APPLICATIONS).json())

    def deploy(self, config: dict[str, Any]) -> None:
        """Make this the whole config of Serve: an application that it does not name is removed."""
        self._ask("PUT", APPLICATIONS, json=config)

    def nodes(self) -> list[dict[str, Any]]:
        """The nodes, dead ones included: `node_id`, `state`, `resources_total`, `labels`."""
        return self._rows("nodes")

    def actors(self) -> list[dict[str, Any]]:
        """The living actors: `node_id`, `class_name`, `required_resources`."""
        return self._rows("actors", filter_keys="state", filter_predicates="=", filter_values="ALIVE")

    def discovered(self) -> Any:
        """The addresses of the nodes' metrics, as Prometheus' service discovery takes them."""
        return self._ask("GET", "/api/prometheus/sd").json()

    def _rows(self, kind: str, **filters: str) -> list[dict[str, Any]]:
        parameters = {"detail": "1", "limit": str(ROWS), "timeout": str(int(ANSWER_S)), **filters}
        answer = self._ask("GET", f"/api/v0/{kind}", params=parameters).json()
        return list(answer["data"]["result"]["result"])

    def _ask(self, method: str, path: str, **content: Any) -> httpx.Response:
        try:
            answer = self._client.request(method, path, **content)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise DashboardError(f"Ray's dashboard does not answer at {self.url}: {error}") from error
        if answer.status_code in (401, 403):
            raise DashboardError(
                f"Ray's dashboard at {self.url} takes only its cluster's token, which the head has: {answer.text}"
            )
        if answer.status_code != 200:
            raise DashboardError(f"Ray's dashboard refuses ({answer.status_code}): {answer.text.strip()[-2000:]}")
        return answer
