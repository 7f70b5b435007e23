"""Load a diffusers pipeline of a class that the engine can run."""

from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline, StableDiffusionPipeline, StableDiffusionXLPipeline

PIPELINES = {kind.__name__: kind for kind in (StableDiffusionPipeline, StableDiffusionXLPipeline)}
"""Pipeline classes whose denoising loop the engine implements, by their names."""


def load(model: str, dtype: torch.dtype, safety_checker: bool) -> Any:
    """Load the pipeline from safetensors only. Raises ValueError for another pipeline class, or a missing safety checker."""
    if model.startswith(("/", ".")) and not (Path(model) / "model_index.json").is_file():
        raise ValueError(f"diffusion.model is {model!r}, where there is no diffusers pipeline (no model_index.json)")
    index = DiffusionPipeline.load_config(model)
    kind = PIPELINES.get(index["_class_name"])
    if kind is None:
        raise ValueError(f"diffusion.model is a {index['_class_name']}; this service runs {' and '.join(PIPELINES)}")
    has_checker = index.get("safety_checker", [None])[0] is not None
    if safety_checker and not has_checker:
        raise ValueError("diffusion.safety_checker is on, and the pipeline of diffusion.model has no safety checker")
    options: dict[str, Any] = {"add_watermarker": False}
    if kind is StableDiffusionPipeline:
        options = {"requires_safety_checker": safety_checker}
        if not safety_checker:
            options |= {"safety_checker": None, "feature_extractor": None}
    pipeline = kind.from_pretrained(model, dtype=dtype, use_safetensors=True, **options)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
