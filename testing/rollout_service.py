"""A service and a Ray dashboard over HTTP, as `sonograph rollout` sees them: they keep what they are told, and compute nothing."""

import contextlib
import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from graphs.rollouts.state import Rollout
from testing.serving import serving

TOKEN = "ray-token"
KEY = "operator-key"
STABLE = {
    "name": "sonograph",
    "route_prefix": "/",
    "import_path": "graphs.voice_to_image:app",
    "args": {"whisper": {"model": "tiny.en", "max_batch": 4}},
    "deployments": [
        {"name": "ingress"},
        {"name": "whisper", "ray_actor_options": {"num_cpus": 1.0}},
        {"name": "diffusion", "ray_actor_options": {"num_cpus": 1.0}},
    ],
}


def figures() -> dict[str, Any]:
    one = {"requests": 0, "errors": {}, "p50_s": None, "p95_s": None, "cpu_s": None, "empty": None, "repetitive": None}
    drifts = dict.fromkeys(("word_drift", "pixel_drift", "picture_drift"))
    return {"stable": {**one, "logprob": None}, "candidate": {**one, "logprob": None}, "pairs": {"count": 0, **drifts}}


@dataclass
class FakeCluster:
    """`asked` holds the changes in their order: of Serve's config, and of the rollout."""

    cpus: float = 3.0
    applications: dict[str, dict[str, Any]] = field(default_factory=lambda: {"sonograph": copy.deepcopy(STABLE)})
    failing: str = ""
    """Message of every candidate's application, which fails by it."""
    rollouts: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: list[tuple[str, Any]] = field(default_factory=list)
    heard: list[str] = field(default_factory=list)
    """`X-Rollout` of each transcription."""
    transcripts: dict[str, str] = field(default_factory=dict)
    """By the model: `whisper=stable`, `whisper=candidate`."""
    dashboard: str = ""
    knows_dashboard: bool = True
    service: str = ""

    @property
    def names(self) -> list[str]:
        return list(self.applications)

    def details(self) -> dict[str, Any]:
        def status(name: str) -> str:
            return "DEPLOY_FAILED" if self.failing and name != "sonograph" else "RUNNING"

        applications = {
            name: {
                "status": status(name),
                "message": self.failing if status(name) != "RUNNING" else "",
                "deployed_app_config": one,
            }
            for name, one in self.applications.items()
        }
        options = {"host": "127.0.0.1", "port": 8000}
        return {"proxy_location": "EveryNode", "http_options": options, "target_capacity": None, "applications": applications}

    async def serve(self, request: Request) -> Response:
        if request.method == "PUT":
            config = await request.json()
            self.applications = {one["name"]: one for one in config["applications"]}
            self.asked.append(("serve", config))
        return JSONResponse(self.details())

    async def nodes(self, _: Request) -> Response:
        node = {"node_id": "n", "state": "ALIVE", "resources_total": {"CPU": self.cpus}, "labels": {"image": "all"}}
        return JSONResponse({"data": {"result": {"result": [node]}}})

    async def actors(self, request: Request) -> Response:
        assert request.query_params["filter_values"] == "ALIVE"
        actors = [
            {"node_id": "n", "class_name": f"ServeReplica:{name}:{one['name']}", "required_resources": {"CPU": cpus}}
            for name, application in self.applications.items()
            for one in application["deployments"]
            if (cpus := one.get("ray_actor_options", {}).get("num_cpus", 0))
        ]
        return JSONResponse({"data": {"result": {"result": actors}}})

    def view(self, stage: str) -> dict[str, Any]:
        rollout = self.rollouts[stage]
        ready = rollout["application"] in self.applications and not self.failing
        candidate = {"ready": ready, "reason": "" if ready else "no replica serves yet"}
        return {"rollout": rollout, "figures": figures(), "verdicts": [], "candidate": candidate, "history": []}

    async def all_rollouts(self, request: Request) -> Response:
        if request.headers.get("authorization") != f"Bearer {KEY}":
            return JSONResponse({"detail": "this needs an operator's key", "code": "forbidden"}, 403)
        address = self.dashboard if self.knows_dashboard else None
        views = {stage: self.view(stage) for stage in self.rollouts}
        return JSONResponse({"rollouts": views, "application": "sonograph", "serve_api": address})

    async def rollout(self, request: Request) -> Response:
        stage = request.path_params["stage"]
        present = self.rollouts.get(stage)
        if request.method == "DELETE":
            self.asked.append(("rollout", "removed"))
            return Response(status_code=204) if self.rollouts.pop(stage, None) else JSONResponse({"detail": "none"}, 404)
        content = await request.json()
        self.asked.append(("rollout", content))
        if "application" in content and present and present["status"] != "aborted":
            return JSONResponse({"detail": f"{stage} has a rollout", "code": "rollout_active"}, 409)
        if "application" in content:
            found = Rollout.model_validate(
                {"stage": stage, "id": "r", "started_at": 0.0, "changed_at": 0.0, "written_at": 0.0, **content}
            )
        else:
            found = Rollout.model_validate(present).changed(0.0, **content)
        self.rollouts[stage] = found.model_dump(mode="json")
        return JSONResponse(self.view(stage))

    async def listen(self, request: Request) -> Response:
        async with request.form():
            self.heard.append(request.headers["x-rollout"])
        return JSONResponse({"transcript": self.transcripts[self.heard[-1]]})


class _Guarded:
    """An app that takes only the cluster's token."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        allowed = (b"authorization", f"Bearer {TOKEN}".encode()) in scope["headers"]
        await (self._app if allowed else Response("Unauthorized", 401))(scope, receive, send)


@contextlib.contextmanager
def running(cluster: FakeCluster) -> Iterator[FakeCluster]:
    """Serve both on loopback, and set their addresses."""
    dashboard = Starlette(
        routes=[
            Route("/api/serve/applications/", cluster.serve, methods=["GET", "PUT"]),
            Route("/api/v0/nodes", cluster.nodes),
            Route("/api/v0/actors", cluster.actors),
        ]
    )
    service = Starlette(
        routes=[
            Route("/graph/rollouts", cluster.all_rollouts),
            Route("/graph/rollouts/{stage}", cluster.rollout, methods=["PUT", "DELETE"]),
            Route("/listen", cluster.listen, methods=["POST"]),
        ]
    )
    with serving(_Guarded(dashboard)) as cluster.dashboard, serving(service) as cluster.service:
        yield cluster
