"""Everything that the routes of one ingress replica need, in one object."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from deployments.model_spec import Role
from graphs.audio.settings import AudioSettings
from graphs.core.graph import Graph
from graphs.core.metrics import INGRESS, Metrics
from graphs.core.readiness import Readiness
from graphs.core.stage import Stage
from graphs.http.dependencies import Decode, Dependencies
from graphs.http.errors import NotFound
from graphs.http.settings import HttpSettings
from graphs.rollouts.manager import Rollouts
from graphs.tracing.traces import Traces
from graphs.tracing.view import view

ROLES = {"speech_to_text": "speech to text", "text_to_image": "text to image", "image_to_image": "image to image"}

FindTraces = Callable[[str], Awaitable[list[dict[str, Any] | None]]]
"""A trace by its id, its request's, `last` or `slowest`: the answer of each ingress replica, as `graphs.tracing.view` makes it."""


@dataclass(frozen=True)
class Services:
    settings: HttpSettings
    audio: AudioSettings
    graphs: tuple[Graph[Any, Any], ...]
    stages: Mapping[str, Stage[Any, Any]]
    """The deployed models' stages by name, in the order of the graphs."""
    readiness: Readiness
    metrics: Metrics
    decode: Decode
    traces: Traces
    topology: Callable[[], Awaitable[dict[str, Any]]]
    """The answer of `GET /graph`."""
    rollouts: Rollouts | None = None
    """None outside of Ray Serve."""
    all_traces: FindTraces | None = None
    """Search of every ingress replica; None outside of Ray Serve, where there is one."""
    serve_api: str | None = None
    """Address of Ray's dashboard, which has Serve's REST API."""
    may_keep_content: bool = False
    """Whether recordings, words or images of requests may be kept: `Settings.may_keep_content`."""
    logs_transcripts: bool = False
    """The setting `logging.transcripts`."""

    @cached_property
    def dependencies(self) -> Dependencies:
        return Dependencies(
            self.settings, self.stages, self.readiness, self.metrics, self.decode, self.traces, self.logs_transcripts
        )

    def stage(self, role: Role) -> Stage[Any, Any]:
        """The stage of a role. Raises NotFound where no model of that role is deployed."""
        found = self.find(role)
        if found is None:
            raise NotFound(f"this service runs no model for {ROLES[role]}: its routes are listed at /docs")
        return found

    def find(self, role: Role) -> Stage[Any, Any] | None:
        return next((stage for stage in self.stages.values() if stage.spec.role == role), None)

    async def find_traces(self, id: str) -> list[dict[str, Any] | None]:
        """The trace as each ingress replica has it; None for one that does not keep it."""
        if self.all_traces is not None:
            return await self.all_traces(id)
        found = await self.traces.find_soon(id)
        return [None if found is None else view(found, self.traces, INGRESS)]
