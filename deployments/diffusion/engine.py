"""Stable Diffusion in torch, without Triton or Ray: the denoising loop over the parts of a diffusers pipeline.

The loop is that of `StableDiffusionPipeline` and `StableDiffusionXLPipeline` (diffusers 0.42) in parts, so that a caller
observes and can end each step, and images at different steps share one call of the UNet. For the same seed, an image
that is generated alone equals theirs (with their tensors laid out `channels_last`, as here).
"""

import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import batched
from typing import Any

import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionXLPipeline
from diffusers.utils import logging as diffusers_logging
from diffusers.utils.torch_utils import randn_tensor
from numpy.typing import NDArray
from transformers.utils import logging as transformers_logging

from deployments.compute_time import ComputeTime
from deployments.diffusion.denoising import Decoded, Denoising, Generated
from deployments.diffusion.encode import encode
from deployments.diffusion.pipeline import load
from deployments.diffusion.preview import encode_preview
from deployments.diffusion.types import EngineConfig
from deployments.errors import InvalidInput, ModelUnavailable
from deployments.roles.text_to_image import GenerateRequest, Image, Preview
from deployments.torch_runtime import dtype, resolve_device, set_threads, upload

CACHED_PROMPTS = 32
"""Prompts with cached embeddings: half a megabyte each at most."""
DECODED_PIXELS = 1024 * 1024
"""Most pixels in a call of the decoder, if of several images. They fill a GPU, and the decoder needs the most memory a pixel: with
all of a batch at once it, and not the UNet, would bound the batch."""


class DiffusionEngine:
    """A pipeline in memory. Its requests name their steps and their guidance scale (`DiffusionSettings.with_defaults`)."""

    def __init__(self, config: EngineConfig, pipeline: Any = None) -> None:
        """`pipeline`: loaded by the configuration unless it is given. Raises ValueError for a configuration or pipeline that cannot run."""
        self.threads = config.threads
        self._model_name = config.model_name
        set_threads(config.threads)
        for logging in (diffusers_logging, transformers_logging):
            logging.set_verbosity_error()
            logging.disable_progress_bar()
        self.device = resolve_device(config.device)
        if config.precision == "fp16" and self.device == "cpu":
            raise ValueError("diffusion.precision is fp16, which needs a GPU: set it to fp32 or bf16")
        compute_dtype = dtype(config.precision, self.device)
        pipeline = pipeline or load(config.model, compute_dtype, config.safety_checker)
        self._pipeline = pipeline.to(self.device)
        if compute_dtype == torch.float16 and self._pipeline.vae.config.force_upcast:
            self._pipeline.vae.to(torch.float32)  # by its own config, it overflows in fp16
        for part in (self._pipeline.unet, self._pipeline.vae):
            part.to(memory_format=torch.channels_last)  # the convolutions' own layout; 8 images take 1.2 times less CPU
        self._embed = lru_cache(CACHED_PROMPTS)(self._encode_prompt)
        self._check_steps = lru_cache(self._scheduler)

    def generate(self, request: GenerateRequest, metadata: Mapping[str, str]) -> Generated:
        """Generate one image alone. `metadata` becomes a PNG's text chunks.

        Raises InvalidInput for a size or a number of steps that the model cannot do, ModelUnavailable when memory does not suffice.
        """
        started_s = time.perf_counter()
        try:
            state = self.begin(request)
            denoising_s = time.perf_counter()
            while state.step < state.steps:
                self.step([state])
            self.wait()
            decoding_s = time.perf_counter()
            ((pixels, flagged),) = self.decode([state])
        except torch.OutOfMemoryError as error:
            raise translate_error(error) from error
        encoding_s = time.perf_counter()
        encoded = encode(pixels, request.format, metadata)
        ended_s = time.perf_counter()
        denoise_s = decoding_s - denoising_s
        compute_time = ComputeTime(ended_s - started_s - denoise_s, denoise_s / state.steps, state.steps)
        encode_ms = (ended_s - encoding_s) * 1000
        image = Image(
            encoded,
            state.width,
            state.height,
            state.prompt_truncated,
            encode_ms,
            model=self._model_name,
            compute_time=compute_time,
        )
        return Generated(image, flagged)

    def size(self, request: GenerateRequest) -> tuple[int, int]:
        """Width and height in pixels. Raises InvalidInput for a size, or a number of steps, that the model cannot do."""
        scale = self._pipeline.vae_scale_factor
        own = self._pipeline.unet.config.sample_size
        own_height, own_width = (own, own) if isinstance(own, int) else own
        width, height = request.width or own_width * scale, request.height or own_height * scale
        if width % scale or height % scale:
            raise InvalidInput(f"width and height must be multiples of {scale} for this model")
        if request.steps:
            self._check_steps(request.steps)
        return width, height

    @torch.inference_mode()
    def begin(self, request: GenerateRequest) -> Denoising:
        """Encode the prompt and sample the noise. Raises InvalidInput."""
        steps, guidance_scale = request.steps, request.guidance_scale
        if steps is None or guidance_scale is None:
            raise ValueError(
                "the engine needs a request's steps and guidance_scale: fill them in by DiffusionSettings.with_defaults"
            )
        pipeline = self._pipeline
        scale = pipeline.vae_scale_factor
        width, height = self.size(request)
        guided = guidance_scale > 1 and pipeline.unet.config.time_cond_proj_dim is None
        embeddings, added_conditions = self._conditions(request, guided, width, height)
        generator = torch.Generator("cpu").manual_seed(request.seed)
        scheduler = self._scheduler(steps)
        shape = (1, pipeline.unet.config.in_channels, height // scale, width // scale)
        noise = upload(randn_tensor(shape, generator=generator, dtype=embeddings.dtype), self.device)
        return Denoising(
            width=width,
            height=height,
            guidance_scale=guidance_scale,
            prompt_truncated=self._is_truncated(request.prompt),
            scheduler=scheduler,
            step_kwargs=pipeline.prepare_extra_step_kwargs(generator, 0.0),
            latents=noise * scheduler.init_noise_sigma,
            timesteps=upload(scheduler.timesteps, self.device),
            embeddings=embeddings,
            added_conditions=added_conditions,
            guidance_embedding=self._guidance_embedding(guidance_scale, embeddings),
        )

    def step(self, states: Sequence[Denoising]) -> None:
        """Run the next denoising step of each; all have one `batch_key`."""
        for state, predicted in zip(states, self.predict(states), strict=True):
            self.advance(state, predicted)

    @torch.inference_mode()
    def predict(self, states: Sequence[Denoising]) -> list[torch.Tensor]:
        """The UNet's prediction for each, by one call, in whose batch a guided image takes two places. Changes no state."""
        places = [len(state.embeddings) for state in states]
        latents = [state.scheduler.scale_model_input(state.latents, state.timestep) for state in states]
        added = [state.added_conditions for state in states if state.added_conditions is not None]
        guidance = [state.guidance_embedding for state in states if state.guidance_embedding is not None]
        outputs = self._pipeline.unet(
            torch.cat([one.expand(count, -1, -1, -1) for one, count in zip(latents, places, strict=True)]),
            torch.cat([state.timesteps[state.step].expand(count) for state, count in zip(states, places, strict=True)]),
            encoder_hidden_states=torch.cat([state.embeddings for state in states]),
            timestep_cond=torch.cat(guidance) if guidance else None,
            added_cond_kwargs={name: torch.cat([one[name] for one in added]) for name in added[0]} if added else None,
            return_dict=False,
        )[0]
        return [_apply_guidance(state, output) for state, output in zip(states, outputs.split(places), strict=True)]

    @torch.inference_mode()
    def advance(self, state: Denoising, predicted: torch.Tensor) -> None:
        """Take the scheduler's step by the UNet's prediction."""
        output = state.scheduler.step(predicted, state.timestep, state.latents, **state.step_kwargs)
        state.latents = output.prev_sample
        state.predicted_latents = _predicted_latents(state.scheduler, output)
        state.step += 1

    def wait(self) -> None:
        """Wait until the GPU has done what it was given. The host would else run ahead of it, and end a cancelled image late."""
        if self.device != "cpu":
            torch.cuda.synchronize(self.device)

    @torch.inference_mode()
    def decode(self, states: Sequence[Denoising]) -> list[Decoded]:
        """The pixels of each, after the safety checker where it is on; all have one `batch_key`."""
        together = decoded_together(states[0].width * states[0].height)
        return [image for some in batched(states, together) for image in self._decode(some)]

    def _decode(self, states: Sequence[Denoising]) -> list[Decoded]:
        pipeline = self._pipeline
        images = self._decode_latents([state.latents for state in states])
        flags: Sequence[bool] = [False] * len(states)
        if getattr(pipeline, "safety_checker", None) is not None:
            images, flags = pipeline.run_safety_checker(images, self.device, states[0].embeddings.dtype)
        return [Decoded(one, bool(flag)) for one, flag in zip(self._pixels(images), flags, strict=True)]

    @torch.inference_mode()
    def preview(self, states: Sequence[Denoising]) -> list[Preview]:
        """The images as the last step predicts them."""
        latents = [state.latents if state.predicted_latents is None else state.predicted_latents for state in states]
        together = decoded_together(states[0].width * states[0].height)
        pictures = (self._pixels(self._decode_latents(list(some))) for some in batched(latents, together))
        return [encode_preview(pixels) for some in pictures for pixels in some]

    def _pixels(self, images: torch.Tensor) -> NDArray[Any]:
        """uint8 [images, height, width, 3] on the host, of [images, 3, height, width], about -1 to 1: as diffusers rounds them."""
        shares = self._pipeline.image_processor.postprocess(images.float(), output_type="pt")
        pixels: NDArray[Any] = (shares * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy()
        return pixels

    def _decode_latents(self, each: list[torch.Tensor]) -> torch.Tensor:
        """[images, 3, height, width], about -1 to 1."""
        vae = self._pipeline.vae
        latents = torch.cat(each).to(vae.dtype)
        if getattr(vae.config, "latents_mean", None) is not None and getattr(vae.config, "latents_std", None) is not None:
            mean, std = (
                torch.tensor(values).view(1, -1, 1, 1).to(latents) for values in (vae.config.latents_mean, vae.config.latents_std)
            )
            latents = latents * std / vae.config.scaling_factor + mean
        else:
            latents = latents / vae.config.scaling_factor
        decoded: torch.Tensor = vae.decode(latents, return_dict=False)[0]
        return decoded

    def _conditions(
        self, request: GenerateRequest, guided: bool, width: int, height: int
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor] | None]:
        """The prompts' embeddings, and SDXL's added conditions."""
        texts = (request.negative_prompt, request.prompt) if guided else (request.prompt,)
        embeddings, pooled = map(list, zip(*map(self._embed, texts), strict=True))
        if guided and not request.negative_prompt and self._pipeline.config.get("force_zeros_for_empty_prompt"):
            # SDXL was trained with zeros where there is no prompt; an empty text has other embeddings.
            embeddings[0], pooled[0] = torch.zeros_like(embeddings[0]), torch.zeros_like(pooled[0])
        if pooled[0] is None:
            return torch.cat(embeddings), None
        size = (height, width)
        projection = self._pipeline.text_encoder_2.config.projection_dim
        ids = upload(
            self._pipeline._get_add_time_ids(
                size, (0, 0), size, dtype=embeddings[0].dtype, text_encoder_projection_dim=projection
            ),
            self.device,
        )
        return torch.cat(embeddings), {"text_embeds": torch.cat(pooled), "time_ids": torch.cat([ids] * len(texts))}

    def _encode_prompt(self, text: str) -> tuple[torch.Tensor, torch.Tensor | None]:
        """[1, tokens, channels], and SDXL's pooled embedding [1, channels]. A negative prompt is encoded like any other."""
        encoded = self._pipeline.encode_prompt(
            prompt=text, device=self.device, num_images_per_prompt=1, do_classifier_free_guidance=False
        )
        if not isinstance(self._pipeline, StableDiffusionXLPipeline):
            return encoded[0], None
        return encoded[0], encoded[2]

    def _scheduler(self, steps: int) -> Any:
        """A scheduler for one image. Raises InvalidInput for a number of steps that it cannot do."""
        own = self._pipeline.scheduler
        scheduler = type(own).from_config(own.config)
        try:
            scheduler.set_timesteps(steps)  # its tables stay on the host, which looks up each step's numbers in them
        except ValueError as error:
            most = own.config.get("original_inference_steps")  # of a distilled model: LCM, TCD
            advice = f"ask for at most {most}" if most is not None and steps > most else "ask for more"
            raise InvalidInput(f"this model's scheduler cannot do {steps} steps: {advice}") from error
        return scheduler

    def _guidance_embedding(self, guidance_scale: float, embeddings: torch.Tensor) -> torch.Tensor | None:
        """[1, width] of a model distilled with the guidance as an input (LCM: Luo et al. 2023); None for any other."""
        width = self._pipeline.unet.config.time_cond_proj_dim
        if width is None:
            return None
        scale = torch.tensor([guidance_scale - 1])
        embedding: torch.Tensor = self._pipeline.get_guidance_scale_embedding(scale, embedding_dim=width)
        return upload(embedding.to(embeddings.dtype), self.device)

    def _is_truncated(self, text: str) -> bool:
        tokenizer = self._pipeline.tokenizer
        return len(tokenizer(text).input_ids) > int(tokenizer.model_max_length)


def decoded_together(pixels: int) -> int:
    """Images of so many pixels each in a call of the decoder, at most."""
    return max(1, DECODED_PIXELS // pixels)


def _predicted_latents(scheduler: Any, output: Any) -> torch.Tensor | None:
    """The finished latents as a step predicts them: most schedulers return them with it, DPM-Solver++ keeps them for the next one."""
    predicted: torch.Tensor | None = getattr(output, "pred_original_sample", None)
    if (
        predicted is None
        and isinstance(scheduler, DPMSolverMultistepScheduler)
        and scheduler.config.algorithm_type.endswith("++")
    ):
        predicted = scheduler.model_outputs[-1]
    return predicted


def _apply_guidance(state: Denoising, predicted: torch.Tensor) -> torch.Tensor:
    """Classifier-free guidance, where the image has it."""
    if not state.guided:
        return predicted
    negative, positive = predicted.chunk(2)
    return negative + state.guidance_scale * (positive - negative)


def translate_error(error: Exception) -> Exception:
    """A torch error as an error of the deployment; any other as it is."""
    if isinstance(error, torch.OutOfMemoryError):
        return ModelUnavailable("the picture does not fit the GPU's memory: ask for a smaller width and height")
    return error
