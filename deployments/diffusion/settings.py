"""Settings of the diffusion model. Loads neither Ray nor torch."""

from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from deployments.diffusion.types import EngineConfig
from deployments.model_spec import ModelSettings
from deployments.roles.text_to_image import GenerateRequest


class DiffusionSettings(ModelSettings):
    RENAMED: ClassVar = {"max_queue_delay_ms": "diffusion.max_queue_delay_s (seconds)"}

    model: str = str(Path(__file__).parent / "small-stable-diffusion")
    """A diffusers pipeline's folder or hub id: Stable Diffusion 1.x, 2.x, SD-Turbo or SDXL, in safetensors."""
    aliases: tuple[str, ...] = ("stable-diffusion",)
    """Further ids by which `/v1` takes the model."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the model runs; `auto` takes a GPU if there is one."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Numbers the model computes in; `auto` is fp16 on a GPU and fp32 on a CPU."""
    steps: int = Field(default=12, ge=1, le=150)
    """Denoising steps where a request names none. SD-Turbo: 1 to 4; SD 1.5: 20 to 30."""
    guidance_scale: float = Field(default=3.0, ge=0, le=30, allow_inf_nan=False)
    """Weight of the prompt where a request names none. SD-Turbo: 0; SD 1.5: 7.5. Up to 1, the negative prompt has no effect."""
    max_side_px: int = Field(default=256, ge=8, multiple_of=8)
    """Largest width and height that a request may ask for, in pixels."""
    max_batch: int = Field(default=8, ge=1, le=16)
    """Most images that share a denoising step; fewer of a size of which half of the free memory does not hold so many."""
    max_queue_delay_s: float = Field(default=0.0, ge=0, le=10, allow_inf_nan=False)
    """Longest time that an image waits for others to share its steps, while none is drawn and fewer wait than fit a step, in
    seconds. Fewer and larger calls of the UNet take less time each; a request that comes alone waits all of it."""
    safety_checker: bool = False
    """Run the pipeline's own safety checker and refuse a flagged image; a pipeline without one is then refused at start."""

    def engine_config(self, threads: int = 1) -> EngineConfig:
        """Options of the engine. `threads`: the CPUs that the replica declares."""
        return EngineConfig(
            model=self.model,
            device=self.device,
            precision=self.precision,
            threads=threads,
            safety_checker=self.safety_checker,
            max_batch=self.max_batch,
            max_queue_delay_s=self.max_queue_delay_s,
        )

    def with_defaults(self, request: GenerateRequest) -> GenerateRequest:
        """The request, with these settings' steps and guidance scale where it names none."""
        return replace(
            request,
            steps=self.steps if request.steps is None else request.steps,
            guidance_scale=self.guidance_scale if request.guidance_scale is None else request.guidance_scale,
        )

    def card(self) -> str:
        """The model's name and, where its folder has a model card, the card's title."""
        card = Path(self.model) / "README.md"
        lines = card.read_text(encoding="utf-8").splitlines() if card.is_file() else []
        title = next((line.lstrip("# ") for line in lines if line.startswith("# ")), "")
        return f"{self.model_name} ({title})" if title else self.model_name
