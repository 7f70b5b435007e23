"""The service's API for operators: rollouts, traces, and what runs where."""

from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

from sonograph.connection import client, translated
from sonograph.errors import Failed
from sonograph.events import GRAPH

ANSWER_S = 30.0
TRANSCRIPT_S = 180.0
"""Longest wait for a transcript."""
PATH = f"{GRAPH}/rollouts"


class Service:
    """A running service. Every method raises Failed with the service's own sentence."""

    def __init__(self, url: str, key: str | None = None, transport: httpx.BaseTransport | None = None) -> None:
        """`key`: of an operator."""
        self.url = url.rstrip("/")
        with translated(self.url):
            self._client = client(key, transport, base_url=self.url, timeout=ANSWER_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._client.close()

    def all(self) -> dict[str, Any]:
        """`rollouts` by stage, the service's `application`, and the address of Ray's dashboard, `serve_api`, or None."""
        found = self._ask("GET", PATH, empty=(404,))
        if not isinstance(found, dict) or "rollouts" not in found:
            raise Failed(f"{self.url} has no rollouts: it is a service of an older version, or not Sonograph's")
        return dict(found)

    def view(self, stage: str) -> dict[str, Any] | None:
        """The stage's rollout with its figures and verdicts; None where it has none."""
        found: dict[str, Any] | None = self.all()["rollouts"].get(stage)
        return found

    def change(self, stage: str, **content: Any) -> None:
        """Begin a rollout, or change the present one."""
        self._ask("PUT", f"{PATH}/{stage}", json=content)

    def remove(self, stage: str) -> None:
        """Remove the stage's rollout, where it has one: the stable model answers every request at once."""
        self._ask("DELETE", f"{PATH}/{stage}", empty=(404,))

    def remove_samples(self, stage: str) -> int:
        """Remove the samples that the service has kept of the stage, and return their number."""
        return int(self._ask("DELETE", f"{PATH}/{stage}/samples")["removed"])

    def trace(self, id: str) -> dict[str, Any]:
        """A kept trace by its id, its request's id, `last` or `slowest`."""
        found: dict[str, Any] = self._ask("GET", f"{GRAPH}/traces/{quote(id, safe='')}")
        return found

    def topology(self) -> dict[str, Any]:
        """Each stage's deployment, with its replicas and their nodes."""
        found = self._ask("GET", GRAPH, empty=(405,))
        if not isinstance(found, dict) or "stages" not in found:
            raise Failed(
                f"{self.url} tells only operators what runs where: give an operator's API key (--key-file, or SONOGRAPH_KEY), "
                "or, where the service has no keys, ask on its own machine"
            )
        return dict(found)

    def transcribe(self, recording: bytes, stage: str, model: str) -> str:
        """The transcript by one of the stage's two models: `stable` or `candidate`."""
        answer = self._ask(
            "POST", "/listen", files={"file": recording}, headers={"X-Rollout": f"{stage}={model}"}, timeout=TRANSCRIPT_S
        )
        return str(answer["transcript"])

    def _ask(self, method: str, path: str, empty: tuple[int, ...] = (), **content: Any) -> Any:
        """The answer's JSON. `empty`: statuses that are as good as success without content."""
        headers = {"Accept": "application/json", **content.pop("headers", {})}
        try:
            with translated(self.url):
                answer = self._client.request(method, path, headers=headers, **content)
            if answer.status_code in empty:
                return {}
            document = answer.json() if answer.content else {}
        except ValueError as error:
            raise Failed(
                f"{self.url}{path} does not answer as Sonograph does ({answer.status_code}): is this its address?"
            ) from error
        if answer.is_success:
            return document
        if isinstance(document, dict) and document.get("detail"):
            raise Failed(f"{document['detail']} ({document.get('code', answer.status_code)})")
        raise Failed(f"{self.url}{path} answers {answer.status_code}: is this the address of a service of this version?")
