"""The configuration of the diffusion engine. Its request and results are those of the role, `deployments.roles.text_to_image`."""

from dataclasses import dataclass

from deployments.paths import model_name


@dataclass(frozen=True)
class EngineConfig:
    """The engine's configuration, from the replica to the process that computes."""

    model: str
    """A diffusers pipeline's folder or hub id."""
    device: str = "auto"
    """auto, cpu or cuda."""
    precision: str = "auto"
    """auto, fp32, bf16 or fp16."""
    threads: int = 1
    """torch's, in the engine's process."""
    safety_checker: bool = False
    max_batch: int = 1
    """Most images that share a denoising step."""
    max_queue_delay_s: float = 0.0
    """Longest time that an image waits for others before an idle model's first step."""

    @property
    def model_name(self) -> str:
        """The model's name in answers and in a PNG's text chunks."""
        return model_name(self.model)
