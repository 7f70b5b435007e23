"""The diffusion room's settings."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from deployments.paths import model_name
from deployments.settings import Section


class DiffusionSettings(Section):
    model: str = str(Path(__file__).parent / "small-stable-diffusion")
    """A diffusers pipeline's folder or hub id: Stable Diffusion 1.x, 2.x, SD-Turbo or SDXL, in safetensors."""
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
    """Most pictures that share a denoising step; fewer of a size of which half of the free memory does not hold so many."""
    safety_checker: bool = False
    """Run the pipeline's own safety checker and refuse a flagged picture; a pipeline without one is then refused at start."""
    stall_s: float = Field(default=300.0, gt=0)
    """A replica that has worked for so many seconds without one answer counts as dead and is replaced."""

    def card(self) -> str:
        """The model's name and, where its folder has a model card, the card's title."""
        card = Path(self.model) / "README.md"
        lines = card.read_text(encoding="utf-8").splitlines() if card.is_file() else []
        title = next((line.lstrip("# ") for line in lines if line.startswith("# ")), "")
        return f"{model_name(self.model)} ({title})" if title else model_name(self.model)
