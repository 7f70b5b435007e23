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
from graphs.core.stage import Declared, SoftStage, Stage


class Graph[Parameters: GraphParameters, Result](ABC):
    """One graph of the service. `run` composes the stages; all else describes its route, which the HTTP edge makes from it.

    A stage is an attribute: `transcribe = Stage[TranscribeRequest, Transcript].of("speech_to_text")`. Sequence, branch and loop are
    Python's; a fan-out is `context.fan_out`, and a stage that the answer can do without is declared with `Stage[...].soft`.
    """

    path: ClassVar[str]
    """Of its route, which takes a recording."""
    summary: ClassVar[str]
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

    stages: ClassVar[Mapping[str, Role | ModelSpec]] = {}
    """The declared stages: the role or the model of each, by attribute."""
    soft: ClassVar[frozenset[str]] = frozenset()
    """Stages whose failure only degrades the answer: a request starts without them."""

    def __init_subclass__(cls) -> None:
        declared = {attribute: value for attribute, value in vars(cls).items() if isinstance(value, Declared)}
        cls.stages = {**cls.stages, **{attribute: one.target for attribute, one in declared.items()}}
        cls.soft = (cls.soft - set(declared)) | {attribute for attribute, one in declared.items() if one.soft}

    def __init__(self, **stages: Stage[Any, Any] | None) -> None:
        """`stages`: by attribute; those of models that are not deployed are None or left out."""
        found = {attribute: stage for attribute in self.stages if (stage := stages.get(attribute)) is not None}
        self._deployed = {attribute: self._extended(attribute, stage) for attribute, stage in found.items()}
        for attribute in self.stages:
            stage = self._deployed.get(attribute)
            setattr(self, attribute, SoftStage(stage) if attribute in self.soft else stage)

    def _extended(self, attribute: str, stage: Stage[Any, Any]) -> Stage[Any, Any]:
        further = self.policies.get(attribute)
        return stage.with_policies(*further) if further else stage

    @property
    def models(self) -> list[ModelSpec]:
        """The descriptions of its deployed models, in the order of the stages."""
        return [stage.spec for stage in self._deployed.values()]

    def check(self, parameters: Parameters) -> None:
        """Raise InvalidInput for a bound that the settings set, and ModelUnavailable where a stage of this request does not serve.

        It is asked before the first stage starts, so that no model works in vain.
        """
        for stage in self.required(parameters):
            stage.require_ready()

    def required(self, parameters: Parameters) -> list[Stage[Any, Any]]:
        """The stages that a request needs: all that are deployed and not soft."""
        return [stage for attribute, stage in self._deployed.items() if attribute not in self.soft]

    def required_models(self) -> list[str]:
        """Names of the deployed models that the graph cannot answer without."""
        return [stage.name for attribute, stage in self._deployed.items() if attribute not in self.soft]

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
        """Server-sent events of the result, before `done`: each of `events`, with the answer's own fields."""
        own = answer.model_dump(exclude=set(GraphAnswer.model_fields), exclude_none=True)
        return iter([(type, own) for type in self.events])
