"""Stable Diffusion in torch, without Triton or Ray: the denoising loop over the parts of a diffusers pipeline.

The loop is the one of `StableDiffusionPipeline` and `StableDiffusionXLPipeline` (diffusers 0.42) taken apart, so that a
caller sees and can end each step; for the same seed its pictures equal theirs.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline, DPMSolverMultistepScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline
from diffusers.utils import logging as diffusers_logging
from diffusers.utils.torch_utils import randn_tensor
from numpy.typing import NDArray
from transformers.utils import logging as transformers_logging

from deployments.diffusion.encode import encode
from deployments.errors import InvalidInput, ModelUnavailable

PIPELINES = {kind.__name__: kind for kind in (StableDiffusionPipeline, StableDiffusionXLPipeline)}
"""The pipeline classes whose loop this is."""
PREVIEW_PX = 256
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Prompt:
    text: str
    negative: str = ""
    steps: int = 12
    guidance_scale: float = 3.0
    """Up to 1 there is no guidance, and the negative prompt has no effect (Ho & Salimans 2022; diffusers' convention)."""
    width: int = 0
    """Pixels; 0 is the model's own size."""
    height: int = 0
    seed: int = 0
    """0 to 4294967295. Noise is drawn on the CPU: a seed means the same noise on any device."""
    format: str = "png"
    """png, jpeg or webp."""


@dataclass(frozen=True)
class Picture:
    encoded: bytes
    width: int
    height: int
    prompt_truncated: bool
    """The text encoder reads a fixed number of tokens (77 for CLIP); what was beyond is not in the picture."""
    flagged: bool
    """By the safety checker, where it is on."""
    encode_ms: float
    steps: int
    """That were taken: some schedulers take one more than was asked for."""
    denoise_s: float
    """All denoising steps."""
    compute_s: float
    """All of it."""


@dataclass
class Denoising:
    """One picture on its way."""

    width: int
    height: int
    guidance_scale: float
    truncated: bool
    scheduler: Any
    """Its own copy: a scheduler keeps the state of one picture."""
    step_kwargs: dict[str, Any]
    latents: torch.Tensor
    """[1, channels, height / scale, width / scale]"""
    embeddings: torch.Tensor
    """[2, tokens, channels] with guidance, the negative prompt's first; [1, tokens, channels] without."""
    added: dict[str, torch.Tensor] | None
    """SDXL's pooled embeddings and sizes; None for SD."""
    estimate: torch.Tensor | None = None
    """The finished latents as the last step foresaw them."""

    @property
    def guided(self) -> bool:
        return self.embeddings.shape[0] == 2


class DiffusionEngine:
    def __init__(
        self, model: str, device: str = "auto", precision: str = "auto", threads: int = 1, safety_checker: bool = False
    ) -> None:
        """`model`: a pipeline's folder or hub id. `threads`: torch's, in this process. Raises ValueError with a sentence."""
        torch.set_num_threads(threads)
        for logging in (diffusers_logging, transformers_logging):
            logging.set_verbosity_error()
            logging.disable_progress_bar()
        self._device = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        if precision == "auto":
            precision = "fp16" if self._device == "cuda" else "fp32"
        if precision == "fp16" and self._device == "cpu":
            raise ValueError("diffusion.precision is fp16, which needs a GPU: set it to fp32 or bf16")
        self._pipeline = load(model, PRECISIONS[precision], safety_checker).to(self._device)
        if precision == "fp16" and self._pipeline.vae.config.force_upcast:
            self._pipeline.vae.to(torch.float32)  # its own config says that it overflows in fp16

    def generate(
        self,
        prompt: Prompt,
        notes: dict[str, str],
        before_step: Callable[[int, int], None] = lambda step, of: None,
        after_step: Callable[[int, int, Denoising], None] = lambda step, of, denoising: None,
    ) -> Picture:
        """`before_step(step, of)` is called before each denoising step, from 0; what it raises ends the picture.

        `after_step(step, of, denoising)` is called after it. Some schedulers (PNDM) take more steps than were asked for.

        `notes` become a PNG's text chunks. Raises InvalidInput for a size that the model cannot do, ModelUnavailable when
        memory does not suffice.
        """
        started_s = time.perf_counter()
        try:
            with torch.inference_mode():
                denoising = self.begin(prompt)
                begun_s = time.perf_counter()
                of = len(denoising.scheduler.timesteps)
                for step in range(of):
                    before_step(step, of)
                    self.step(denoising, step)
                    after_step(step, of, denoising)
                denoised_s = time.perf_counter()
                pixels, flagged = self.decode(denoising)
        except torch.OutOfMemoryError as error:
            raise ModelUnavailable("the picture does not fit the GPU's memory: ask for a smaller width and height") from error
        decoded_s = time.perf_counter()
        encoded = encode(pixels, prompt.format, notes)
        ended_s = time.perf_counter()
        return Picture(
            encoded,
            denoising.width,
            denoising.height,
            denoising.truncated,
            flagged,
            encode_ms=(ended_s - decoded_s) * 1000,
            steps=of,
            denoise_s=denoised_s - begun_s,
            compute_s=ended_s - started_s,
        )

    def begin(self, prompt: Prompt) -> Denoising:
        """Encodes the prompt and draws the noise."""
        pipeline = self._pipeline
        scale = pipeline.vae_scale_factor
        own = pipeline.unet.config.sample_size
        own_height, own_width = (own, own) if isinstance(own, int) else own
        width, height = prompt.width or own_width * scale, prompt.height or own_height * scale
        if width % scale or height % scale:
            raise InvalidInput(f"width and height must be multiples of {scale} for this model")
        guided = prompt.guidance_scale > 1 and pipeline.unet.config.time_cond_proj_dim is None
        embeddings, added = self._encode(prompt, guided, width, height)
        generator = torch.Generator("cpu").manual_seed(prompt.seed)
        scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config)
        try:
            scheduler.set_timesteps(prompt.steps, device=self._device)
        except ValueError as error:
            raise InvalidInput(f"this model's scheduler cannot do {prompt.steps} steps: ask for more") from error
        shape = (1, pipeline.unet.config.in_channels, height // scale, width // scale)
        noise = randn_tensor(shape, generator=generator, device=torch.device(self._device), dtype=embeddings.dtype)
        return Denoising(
            width=width,
            height=height,
            guidance_scale=prompt.guidance_scale,
            truncated=self._truncated(prompt.text),
            scheduler=scheduler,
            step_kwargs=pipeline.prepare_extra_step_kwargs(generator, 0.0),
            latents=noise * scheduler.init_noise_sigma,
            embeddings=embeddings,
            added=added,
        )

    def step(self, denoising: Denoising, step: int) -> None:
        """One call of the UNet, and the scheduler's step."""
        scheduler = denoising.scheduler
        timestep = scheduler.timesteps[step]
        latents = torch.cat([denoising.latents] * 2) if denoising.guided else denoising.latents
        predicted = self._pipeline.unet(
            scheduler.scale_model_input(latents, timestep),
            timestep,
            encoder_hidden_states=denoising.embeddings,
            timestep_cond=self._guidance_embedding(denoising),
            added_cond_kwargs=denoising.added,
            return_dict=False,
        )[0]
        if denoising.guided:
            negative, positive = predicted.chunk(2)
            predicted = negative + denoising.guidance_scale * (positive - negative)
        done = scheduler.step(predicted, timestep, denoising.latents, **denoising.step_kwargs)
        denoising.latents = done.prev_sample
        denoising.estimate = _estimate(scheduler, done)

    def decode(self, denoising: Denoising) -> tuple[NDArray[Any], bool]:
        """uint8 [height, width, 3], RGB, and whether the safety checker flagged it."""
        pipeline = self._pipeline
        image = self._pixels(denoising.latents)
        flagged = False
        if getattr(pipeline, "safety_checker", None) is not None:
            image, flags = pipeline.run_safety_checker(image, self._device, denoising.embeddings.dtype)
            flagged = bool(flags[0])
        (picture,) = pipeline.image_processor.postprocess(image.float(), output_type="pil")
        return np.asarray(picture), flagged

    def preview(self, denoising: Denoising) -> tuple[bytes, int, int]:
        """The picture as the last step foresees it: a JPEG with no side above PREVIEW_PX, its width and height."""
        latents = denoising.latents if denoising.estimate is None else denoising.estimate
        (picture,) = self._pipeline.image_processor.postprocess(self._pixels(latents).float(), output_type="pil")
        picture.thumbnail((PREVIEW_PX, PREVIEW_PX))
        return encode(np.asarray(picture), "jpeg", {}), *picture.size

    def _pixels(self, latents: torch.Tensor) -> torch.Tensor:
        """[1, 3, height, width], about -1 to 1."""
        vae = self._pipeline.vae
        latents = latents.to(vae.dtype)
        if getattr(vae.config, "latents_mean", None) is not None and getattr(vae.config, "latents_std", None) is not None:
            mean, std = (
                torch.tensor(values).view(1, -1, 1, 1).to(latents) for values in (vae.config.latents_mean, vae.config.latents_std)
            )
            latents = latents * std / vae.config.scaling_factor + mean
        else:
            latents = latents / vae.config.scaling_factor
        decoded: torch.Tensor = vae.decode(latents, return_dict=False)[0]
        return decoded

    def _encode(
        self, prompt: Prompt, guided: bool, width: int, height: int
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor] | None]:
        pipeline = self._pipeline
        asked = {"device": self._device, "num_images_per_prompt": 1, "do_classifier_free_guidance": guided}
        encoded = pipeline.encode_prompt(prompt=prompt.text, negative_prompt=prompt.negative, **asked)
        if not isinstance(pipeline, StableDiffusionXLPipeline):
            positive, negative = encoded
            return torch.cat([negative, positive]) if guided else positive, None
        positive, negative, pooled, negative_pooled = encoded
        second = pipeline.text_encoder_2
        size = (height, width)
        ids = pipeline._get_add_time_ids(
            size, (0, 0), size, dtype=positive.dtype, text_encoder_projection_dim=second.config.projection_dim
        ).to(self._device)
        if not guided:
            return positive, {"text_embeds": pooled, "time_ids": ids}
        added = {"text_embeds": torch.cat([negative_pooled, pooled]), "time_ids": torch.cat([ids, ids])}
        return torch.cat([negative, positive]), added

    def _guidance_embedding(self, denoising: Denoising) -> torch.Tensor | None:
        """For models distilled with the guidance as an input (LCM: Luo et al. 2023)."""
        width = self._pipeline.unet.config.time_cond_proj_dim
        if width is None:
            return None
        scale = torch.tensor([denoising.guidance_scale - 1])
        embedding: torch.Tensor = self._pipeline.get_guidance_scale_embedding(scale, embedding_dim=width)
        return embedding.to(denoising.latents)

    def _truncated(self, text: str) -> bool:
        tokenizer = self._pipeline.tokenizer
        return len(tokenizer(text).input_ids) > int(tokenizer.model_max_length)


def _estimate(scheduler: Any, done: Any) -> torch.Tensor | None:
    """What the schedulers tell of the finished latents: most say it with the step, DPM-Solver++ keeps it for the next one."""
    said: torch.Tensor | None = getattr(done, "pred_original_sample", None)
    if said is None and isinstance(scheduler, DPMSolverMultistepScheduler) and scheduler.config.algorithm_type.endswith("++"):
        said = scheduler.model_outputs[-1]
    return said


def load(model: str, dtype: torch.dtype, safety_checker: bool) -> Any:
    """The pipeline by its parts, safetensors only. Raises ValueError for another pipeline class, or a missing safety checker."""
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
