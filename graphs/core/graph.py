"""The base of a graph: stages composed in plain asyncio, from a recording's samples to an answer."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from deployments.model_spec import ModelSpec, Role
from graphs.core.context import RequestContext
from graphs.core.parameters import GraphAnswer, GraphParameters
from graphs.core.policies.policy import Policy
from graphs.core.stage import Stage


class Graph[Parameters: GraphParameters, Result](ABC):
    """One graph of the service. `run` composes the stages; all else describes its route, which the HTTP edge makes from it.

    Sequence, branch and loop are Python's; a fan-out is `context.fan_out`, a soft stage `context.soft`. An optional model that is not
    deployed is None in its attribute.
    """

    path: ClassVar[str]
    """Of its route, which takes a recording."""
    summary: ClassVar[str]
    stages: ClassVar[Mapping[str, Role | ModelSpec]]
    """The attributes that hold its stages: each a role, which a setting gives to a model, or one certain model."""
    soft: ClassVar[frozenset[str]] = frozenset()
    """Those of `stages` whose failure only degrades the answer: a request starts without them."""
    policies: ClassVar[Mapping[str, tuple[Policy, ...]]] = {}
    """Further policies of its stages' calls, by attribute."""
    parameters: ClassVar[type[GraphParameters]]
    answer: ClassVar[type[GraphAnswer]]
    formats: ClassVar[Mapping[str, str]] = {}
    """Media types of an answer that is no JSON, and the format's name; the first is the default."""
    headers: ClassVar[Mapping[str, str]] = {}
    """Response headers that `response_headers` gives, and their meaning."""
    events: ClassVar[tuple[str, ...]] = ()
    """Types of the server-sent events of `result_events`."""

    def __init__(self, **stages: Stage[Any, Any] | None) -> None:
        """`stages`: by attribute."""
        for attribute in self.stages:
            stage = stages.get(attribute)
            further = self.policies.get(attribute, ())
            setattr(self, attribute, stage.with_policies(*further) if stage and further else stage)

    def check(self, parameters: Parameters) -> None:
        """Raises InvalidInput for a bound that the settings set, and ModelUnavailable where a stage of this request does not serve.

        It is asked before the first stage starts, so that no model works in vain.
        """
        for stage in self.required(parameters):
            stage.require_ready()

    def required(self, parameters: Parameters) -> list[Stage[Any, Any]]:
        """The stages that a request needs: all that are deployed and not soft."""
        found = [getattr(self, attribute) for attribute in self.stages if attribute not in self.soft]
        return [stage for stage in found if stage is not None]

    def required_models(self) -> list[str]:
        """Names of the deployed models that the graph cannot answer without."""
        stages = [getattr(self, attribute) for attribute in self.stages if attribute not in self.soft]
        return [stage.name for stage in stages if stage is not None]

    @abstractmethod
    async def run(self, audio: NDArray[np.int16], parameters: Parameters, context: RequestContext) -> Result:
        """`audio`: int16 [samples], mono 16 kHz, with speech in it. Raises a DeploymentError that names its stage."""

    @abstractmethod
    def to_answer(self, result: Result, parameters: Parameters, context: RequestContext) -> GraphAnswer:
        """The JSON answer."""

    def encoded(self, result: Result) -> bytes:
        """The answer in the format that was asked for; only where there are `formats`."""
        raise NotImplementedError

    def response_headers(self, result: Result) -> dict[str, str]:
        """Text for each of `headers`, which is percent-encoded when it is sent."""
        return {}

    def result_events(self, answer: GraphAnswer) -> Iterator[tuple[str, dict[str, Any]]]:
        """Server-sent events of the result, before `done`."""
        return iter(())
