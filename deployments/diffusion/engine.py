"""Stable Diffusion in torch, without Triton or Ray: the denoising loop over the parts of a diffusers pipeline.

The loop is the one of `StableDiffusionPipeline` and `StableDiffusionXLPipeline` (diffusers 0.42) taken apart, so that a
caller sees and can end each step, and pictures at different steps share one call of the UNet; for the same seed a picture
that is drawn alone equals theirs (laid out `channels_last`, as here).
"""

import time
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionXLPipeline
from diffusers.utils import logging as diffusers_logging
from diffusers.utils.torch_utils import randn_tensor
from numpy.typing import NDArray
from transformers.utils import logging as transformers_logging

from deployments.diffusion.encode import encode
from deployments.diffusion.pipeline import load
from deployments.diffusion.types import Denoising, Picture, Prompt
from deployments.errors import InvalidInput, ModelUnavailable
from deployments.torch_runtime import dtype, set_threads

PREVIEW_PX = 256
TEXTS = 32
"""Prompts whose encodings are kept: half a megabyte each at most."""


class DiffusionEngine:
    def __init__(
        self, model: str, device: str = "auto", precision: str = "auto", threads: int = 1, safety_checker: bool = False
    ) -> None:
        """`model`: a pipeline's folder or hub id. `threads`: torch's, in this process. Raises ValueError with a sentence."""
        self.threads = threads
        set_threads(threads)
        for logging in (diffusers_logging, transformers_logging):
            logging.set_verbosity_error()
            logging.disable_progress_bar()
        self.device = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        if precision == "fp16" and self.device == "cpu":
            raise ValueError("diffusion.precision is fp16, which needs a GPU: set it to fp32 or bf16")
        computes = dtype(precision, self.device)
        self._pipeline = load(model, computes, safety_checker).to(self.device)
        if computes == torch.float16 and self._pipeline.vae.config.force_upcast:
            self._pipeline.vae.to(torch.float32)  # its own config says that it overflows in fp16
        for part in (self._pipeline.unet, self._pipeline.vae):
            part.to(memory_format=torch.channels_last)  # as convolutions compute; 8 pictures in 1.2 times less CPU
        self._text = lru_cache(TEXTS)(self._encode)

    def generate(self, prompt: Prompt, notes: dict[str, str]) -> Picture:
        """One picture alone. Some schedulers (PNDM) take more steps than were asked for.

        `notes` become a PNG's text chunks. Raises InvalidInput for a size that the model cannot do, ModelUnavailable when
        memory does not suffice.
        """
        started_s = time.perf_counter()
        try:
            denoising = self.begin(prompt)
            begun_s = time.perf_counter()
            while denoising.done < denoising.of:
                self.step([denoising])
            denoised_s = time.perf_counter()
            ((pixels, flagged),) = self.decode([denoising])
        except torch.OutOfMemoryError as error:
            raise known(error) from error
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
            steps=denoising.of,
            denoise_s=denoised_s - begun_s,
            compute_s=ended_s - started_s,
        )

    def size(self, prompt: Prompt) -> tuple[int, int]:
        """Width and height in pixels. Raises InvalidInput."""
        scale = self._pipeline.vae_scale_factor
        own = self._pipeline.unet.config.sample_size
        own_height, own_width = (own, own) if isinstance(own, int) else own
        width, height = prompt.width or own_width * scale, prompt.height or own_height * scale
        if width % scale or height % scale:
            raise InvalidInput(f"width and height must be multiples of {scale} for this model")
        return width, height

    @torch.inference_mode()
    def begin(self, prompt: Prompt) -> Denoising:
        """Encodes the prompt and draws the noise."""
        pipeline = self._pipeline
        scale = pipeline.vae_scale_factor
        width, height = self.size(prompt)
        guided = prompt.guidance_scale > 1 and pipeline.unet.config.time_cond_proj_dim is None
        embeddings, added = self._embeddings(prompt, guided, width, height)
        generator = torch.Generator("cpu").manual_seed(prompt.seed)
        scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config)
        try:
            scheduler.set_timesteps(prompt.steps, device=self.device)
        except ValueError as error:
            raise InvalidInput(f"this model's scheduler cannot do {prompt.steps} steps: ask for more") from error
        shape = (1, pipeline.unet.config.in_channels, height // scale, width // scale)
        noise = randn_tensor(shape, generator=generator, device=torch.device(self.device), dtype=embeddings.dtype)
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

    def step(self, rows: Sequence[Denoising]) -> None:
        """The next denoising step of each; all are of one kind."""
        for row, predicted in zip(rows, self.predict(rows), strict=True):
            self.advance(row, predicted)

    @torch.inference_mode()
    def predict(self, rows: Sequence[Denoising]) -> list[torch.Tensor]:
        """One call of the UNet, with two rows of it for what is guided. Changes nothing."""
        halves = [len(row.embeddings) for row in rows]
        timesteps = [row.scheduler.timesteps[row.done] for row in rows]
        latents = [row.scheduler.scale_model_input(row.latents, step) for row, step in zip(rows, timesteps, strict=True)]
        added = [row.added for row in rows if row.added is not None]
        guidance = [self._guidance_embedding(row) for row in rows]
        predicted = self._pipeline.unet(
            torch.cat([one.expand(half, -1, -1, -1) for one, half in zip(latents, halves, strict=True)]),
            torch.stack(timesteps).repeat_interleave(torch.tensor(halves, device=self.device)),
            encoder_hidden_states=torch.cat([row.embeddings for row in rows]),
            timestep_cond=torch.cat([one for one in guidance if one is not None]) if guidance[0] is not None else None,
            added_cond_kwargs={name: torch.cat([one[name] for one in added]) for name in added[0]} if added else None,
            return_dict=False,
        )[0]
        return [_guide(row, both) for row, both in zip(rows, predicted.split(halves), strict=True)]

    @torch.inference_mode()
    def advance(self, row: Denoising, predicted: torch.Tensor) -> None:
        """Its scheduler's step."""
        done = row.scheduler.step(predicted, row.scheduler.timesteps[row.done], row.latents, **row.step_kwargs)
        row.latents = done.prev_sample
        row.estimate = _estimate(row.scheduler, done)
        row.done += 1

    @torch.inference_mode()
    def decode(self, rows: Sequence[Denoising]) -> list[tuple[NDArray[Any], bool]]:
        """uint8 [height, width, 3], RGB, of each, and whether the safety checker flagged it. All are of one kind."""
        pipeline = self._pipeline
        images = self._pixels([row.latents for row in rows])
        flags: Sequence[bool] = [False] * len(rows)
        if getattr(pipeline, "safety_checker", None) is not None:
            images, flags = pipeline.run_safety_checker(images, self.device, rows[0].embeddings.dtype)
        pictures = pipeline.image_processor.postprocess(images.float(), output_type="pil")
        return [(np.asarray(picture), bool(flag)) for picture, flag in zip(pictures, flags, strict=True)]

    @torch.inference_mode()
    def preview(self, rows: Sequence[Denoising]) -> list[tuple[bytes, int, int]]:
        """The pictures as the last step foresees them: JPEGs with no side above PREVIEW_PX, their width and height."""
        images = self._pixels([row.latents if row.estimate is None else row.estimate for row in rows])
        pictures = self._pipeline.image_processor.postprocess(images.float(), output_type="pil")
        for picture in pictures:
            picture.thumbnail((PREVIEW_PX, PREVIEW_PX))
        return [(encode(np.asarray(picture), "jpeg", {}), *picture.size) for picture in pictures]

    def _pixels(self, rows: list[torch.Tensor]) -> torch.Tensor:
        """[rows, 3, height, width], about -1 to 1."""
        vae = self._pipeline.vae
        latents = torch.cat(rows).to(vae.dtype)
        if getattr(vae.config, "latents_mean", None) is not None and getattr(vae.config, "latents_std", None) is not None:
            mean, std = (
                torch.tensor(values).view(1, -1, 1, 1).to(latents) for values in (vae.config.latents_mean, vae.config.latents_std)
            )
            latents = latents * std / vae.config.scaling_factor + mean
        else:
            latents = latents / vae.config.scaling_factor
        decoded: torch.Tensor = vae.decode(latents, return_dict=False)[0]
        return decoded

    def _embeddings(
        self, prompt: Prompt, guided: bool, width: int, height: int
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor] | None]:
        texts = (prompt.negative, prompt.text) if guided else (prompt.text,)
        embeddings, pooled = zip(*map(self._text, texts), strict=True)
        if pooled[0] is None:
            return torch.cat(embeddings), None
        size = (height, width)
        projection = self._pipeline.text_encoder_2.config.projection_dim
        ids = self._pipeline._get_add_time_ids(
            size, (0, 0), size, dtype=embeddings[0].dtype, text_encoder_projection_dim=projection
        ).to(self.device)
        return torch.cat(embeddings), {"text_embeds": torch.cat(pooled), "time_ids": torch.cat([ids] * len(texts))}

    def _encode(self, text: str) -> tuple[torch.Tensor, torch.Tensor | None]:
        """[1, tokens, channels], and SDXL's pooled embedding [1, channels]. A negative prompt is encoded like any other."""
        encoded = self._pipeline.encode_prompt(
            prompt=text, device=self.device, num_images_per_prompt=1, do_classifier_free_guidance=False
        )
        if not isinstance(self._pipeline, StableDiffusionXLPipeline):
            return encoded[0], None
        return encoded[0], encoded[2]

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


def _guide(row: Denoising, predicted: torch.Tensor) -> torch.Tensor:
    if not row.guided:
        return predicted
    negative, positive = predicted.chunk(2)
    return negative + row.guidance_scale * (positive - negative)


def known(error: Exception) -> Exception:
    """What a torch error is to the caller."""
    if isinstance(error, torch.OutOfMemoryError):
        return ModelUnavailable("the picture does not fit the GPU's memory: ask for a smaller width and height")
    return error
