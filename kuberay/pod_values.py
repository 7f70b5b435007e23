"""Values of pods: where they run, and the GPU that they have."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from deployments.settings import Section

type Cpus = Annotated[int | float, Field(gt=0, le=1000)]
type Gibibytes = Annotated[int, Field(ge=1, le=100_000)]
type ObjectName = Annotated[str, Field(pattern=r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$", max_length=253)]
"""A name in Kubernetes, or none."""
type LabelName = Annotated[str, Field(pattern=r"^([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$")]
type LabelValue = Annotated[str, Field(pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$")]
GPU = "nvidia.com/gpu"


class Toleration(Section):
    """A toleration as Kubernetes writes it."""

    model_config = ConfigDict(alias_generator=to_camel)

    key: str = ""
    operator: Literal["Exists", "Equal", "Lt", "Gt"] = "Equal"
    value: str = ""
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = ""
    toleration_seconds: int | None = None

    @model_validator(mode="after")
    def _one_that_kubernetes_takes(self) -> "Toleration":
        if self.operator == "Exists" and self.value:
            raise ValueError("Exists takes no value: leave it out, or give operator: Equal")
        if not self.key and self.operator != "Exists":
            raise ValueError("without a key the operator has to be Exists")
        if self.toleration_seconds is not None and self.effect != "NoExecute":
            raise ValueError("tolerationSeconds is for the effect NoExecute alone")
        return self


class Affinity(Section):
    """Rules of affinity as Kubernetes writes them."""

    model_config = ConfigDict(alias_generator=to_camel)

    node_affinity: dict[str, Any] | None = None
    pod_affinity: dict[str, Any] | None = None
    pod_anti_affinity: dict[str, Any] | None = None


class PodValues(Section):
    """Where pods run. What `pods` says is for all; the head, Redis, the weights' Job and each group may say otherwise."""

    node_selector: dict[LabelName, LabelValue] = Field(default_factory=dict)
    """Labels of the nodes."""
    affinity: Affinity | None = None
    """`nodeAffinity`, `podAffinity` and `podAntiAffinity`, as Kubernetes writes them; `{}` for none where `pods` has some."""
    tolerations: list[Toleration] | None = None
    """Taints that the pods tolerate, as Kubernetes writes them, beside those of NVIDIA's GPUs; `[]` for none where `pods` has some."""
    priority_class: ObjectName = ""
    """Name of a PriorityClass."""
    runtime_class: ObjectName = ""
    """Name of a RuntimeClass, such as `nvidia` where that is not the nodes' default."""
    annotations: dict[str, str] = Field(default_factory=dict)
    """Annotations of the pods."""
    labels: dict[LabelName, LabelValue] = Field(default_factory=dict)
    """Further labels of the pods."""


class Gpu(Section):
    """The GPU of a pod, or a part of one."""

    count: int = Field(default=1, ge=0, le=64)
    """GPUs of a pod; 0 for none."""
    resource: str = Field(default=GPU, pattern=r"^[a-z0-9.-]+/[a-zA-Z0-9._-]+$")
    """Kubernetes' name of a GPU."""
    mig_profile: str = Field(default="", pattern=r"^([1-7]g\.[0-9]+gb)?$")
    """Part of a GPU by MIG, such as `1g.10gb`: the pod's resource is then `nvidia.com/mig-1g.10gb`."""
    time_slicing_replicas: int | None = Field(default=None, ge=2, le=48)
    """Pods that share a GPU by time slicing: the pod's resource is then `nvidia.com/gpu.shared`."""

    @model_validator(mode="after")
    def _one_way_to_share(self) -> "Gpu":
        if self.mig_profile and self.time_slicing_replicas:
            raise ValueError("mig_profile and time_slicing_replicas exclude each other: a GPU is shared in one way")
        if self.mig_profile and self.resource != GPU:
            raise ValueError("resource follows from mig_profile: leave it out")
        return self

    @property
    def name(self) -> str:
        """Kubernetes' name of what a pod requests; empty for none."""
        if not self.count:
            return ""
        if self.mig_profile:
            return f"nvidia.com/mig-{self.mig_profile}"
        return f"{self.resource}.shared" if self.time_slicing_replicas else self.resource
