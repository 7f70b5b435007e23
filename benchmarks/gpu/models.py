"""The real models' shapes with seeded random weights, made on the device: nothing is downloaded, nothing is on disk.

Weights: a matrix or kernel is drawn from N(0, 1 / inputs), so that a layer keeps the scale of its input; biases are 0, norms 1. The last
layer of each residual branch is divided by the square root of twice the number of such branches, so that the stream they add to
stays at about 1 at any depth. Whisper's queries and keys are twice as large: its attention then depends on the sound. The embeddings
of Whisper's timestamps and of the end of the text are 0, and those of words give logits with a standard deviation of 2.5: words
follow until a window's bound, as no random text would otherwise. Its learned positions
are drawn from N(0, 1), so that words differ, and the layers that carry the sound (the encoder's convolutions, the output of the
cross-attention) are four times as large, so that transcripts do.

Shapes: the models' config.json (openai/whisper-large-v3 and -turbo, stable-diffusion-v1-5, stabilityai/sd-turbo,
stabilityai/stable-diffusion-xl-base-1.0).
"""

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import whisper
from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from diffusers.utils import logging as diffusers_logging
from tokenizers.pre_tokenizers import ByteLevel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer
from whisper.tokenizer import get_tokenizer

SEED = 20
WORD_LOGITS_STD = 2.5
BRANCH_ENDS = re.compile(r"(attn\.out|mlp\.2|out_proj|fc2|to_out\.0|ff\.net\.2|conv2|proj_out)\.weight$")
"""Last layers of residual branches, by openai-whisper's, transformers' and diffusers' names."""
SOUND = re.compile(r"encoder\.conv[12]\.weight$|cross_attn\.out\.weight$")
SHARPENED = re.compile(r"attn\.(query|key)\.weight$")

WHISPER = {
    "large-v3": whisper.ModelDimensions(128, 1500, 1280, 20, 32, 51866, 448, 1280, 20, 32),
    "turbo": whisper.ModelDimensions(128, 1500, 1280, 20, 32, 51866, 448, 1280, 20, 4),
}
TINY_WHISPER = whisper.ModelDimensions(128, 1500, 32, 2, 2, 51866, 448, 32, 2, 2)

CLIP_L = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
OPENCLIP_H = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 23,
    "num_attention_heads": 16,
    "hidden_act": "gelu",
}
OPENCLIP_G = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "hidden_act": "gelu",
    "projection_dim": 1280,
}
VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
}
SD_BLOCKS = {
    "down_block_types": (*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
    "up_block_types": ("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
}
TRAINING = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}


@dataclass(frozen=True)
class Shape:
    """A pipeline's shape, and how it is used."""

    unet: dict[str, Any]
    text: dict[str, Any]
    text_2: dict[str, Any] | None = None
    """SDXL's second text encoder."""
    vae: dict[str, Any] = field(default_factory=lambda: dict(VAE))
    scaling_factor: float = 0.18215
    force_upcast: bool = False
    scheduler: Callable[[], Any] = lambda: PNDMScheduler(**TRAINING, skip_prk_steps=True)
    side_px: int = 512
    steps: int = 20
    guidance_scale: float = 7.5


SHAPES = {
    "sd15": Shape({"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8, **SD_BLOCKS}, CLIP_L),
    "sd-turbo": Shape(
        {
            "sample_size": 64,
            "cross_attention_dim": 1024,
            "attention_head_dim": (5, 10, 20, 20),
            "use_linear_projection": True,
            **SD_BLOCKS,
        },
        OPENCLIP_H,
        scheduler=lambda: EulerDiscreteScheduler(**TRAINING, timestep_spacing="trailing"),
        steps=1,
        guidance_scale=0.0,
    ),
    "sdxl": Shape(
        {
            "sample_size": 128,
            "block_out_channels": (320, 640, 1280),
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            "transformer_layers_per_block": (1, 2, 10),
            "attention_head_dim": (5, 10, 20),
            "cross_attention_dim": 2048,
            "use_linear_projection": True,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 2816,
        },
        CLIP_L,
        OPENCLIP_G,
        scaling_factor=0.13025,
        force_upcast=True,
        scheduler=lambda: EulerDiscreteScheduler(**TRAINING, timestep_spacing="leading"),
        side_px=1024,
        guidance_scale=5.0,
    ),
}


def tiny(shape: Shape) -> Shape:
    """The same pipeline with few and narrow layers, for 64 x 64 pixels."""
    text = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "projection_dim": 32}
    unet = {
        **shape.unet,
        "sample_size": 8,
        "block_out_channels": (32, 64),
        "layers_per_block": 1,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "norm_num_groups": 8,
        "attention_head_dim": 4,
        "cross_attention_dim": 64 if shape.text_2 else 32,
    }
    if shape.text_2:
        unet |= {"transformer_layers_per_block": 1, "addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 80}
    vae = {**VAE, "block_out_channels": (16, 32, 32, 32), "layers_per_block": 1, "norm_num_groups": 8}
    return replace(
        shape, unet=unet, text=text, text_2=text if shape.text_2 else None, vae=vae, side_px=64, steps=min(shape.steps, 4)
    )


def random_whisper(dims: whisper.ModelDimensions, device: str) -> whisper.Whisper:
    """An openai-whisper model in float32."""
    with torch.device(device):
        model = whisper.Whisper(dims)
    draw(model, device)
    embedding = model.decoder.token_embedding.weight.data
    tokenizer = get_tokenizer(True, num_languages=model.num_languages, language="en", task="transcribe")
    embedding.mul_(WORD_LOGITS_STD)
    embedding[tokenizer.timestamp_begin :] = 0
    embedding[tokenizer.eot] = 0
    return model.eval()


def random_pipeline(shape: Shape, device: str, dtype: torch.dtype) -> Any:
    """A diffusers pipeline."""
    diffusers_logging.set_verbosity_error()
    tokenizer = byte_tokenizer(tiny="num_hidden_layers" in shape.text and shape.text["num_hidden_layers"] < 4)

    def text(own: dict[str, Any]) -> CLIPTextConfig:
        return CLIPTextConfig(
            vocab_size=len(tokenizer) if own["num_hidden_layers"] < 4 else 49408,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            **own,
        )

    def made(build: Callable[[], nn.Module]) -> Any:
        with torch.device("meta"):
            module = build()
        module = module.to(dtype).to_empty(device=device)
        draw(module, device)
        for part in module.modules():
            if isinstance(ids := getattr(part, "position_ids", None), Tensor):
                part.position_ids = torch.arange(ids.shape[-1], device=device)[None]
        return module.eval()

    parts = {
        "vae": made(
            lambda: AutoencoderKL(
                **shape.vae, sample_size=shape.side_px, scaling_factor=shape.scaling_factor, force_upcast=shape.force_upcast
            )
        ),
        "text_encoder": made(lambda: CLIPTextModel(text(shape.text))),
        "tokenizer": tokenizer,
        "unet": made(lambda: UNet2DConditionModel(**shape.unet)),
        "scheduler": shape.scheduler(),
    }
    if shape.text_2 is None:
        options = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
        pipeline: Any = StableDiffusionPipeline(**parts, **options)
    else:
        second = {"text_encoder_2": made(lambda: CLIPTextModelWithProjection(text(shape.text_2 or {}))), "tokenizer_2": tokenizer}
        pipeline = StableDiffusionXLPipeline(**parts, **second, add_watermarker=False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def byte_tokenizer(tiny: bool = False) -> Any:
    """CLIP's byte-level alphabet without merges, with its control tokens at their own numbers where the vocabulary is CLIP's."""
    alphabet = sorted(ByteLevel.alphabet())
    tokens = [*alphabet, *(f"{character}</w>" for character in alphabet)]
    filler = [] if tiny else [f"<|{number}|>" for number in range(len(tokens), 49406)]
    vocabulary = {token: number for number, token in enumerate([*tokens, *filler, "<|startoftext|>", "<|endoftext|>"])}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77)


@torch.no_grad()
def draw(module: nn.Module, device: str) -> None:
    """Fill the module's parameters with seeded random numbers, as this file's text says."""
    generator = torch.Generator(device).manual_seed(SEED)
    branches = sum(bool(BRANCH_ENDS.search(name)) for name, _ in module.named_parameters())
    for name, parameter, is_norm in _parameters(module):
        if parameter.dim() < 2:
            parameter.fill_(1.0 if is_norm and name.endswith("weight") else 0.0)
            continue
        scale = 1 / math.sqrt(parameter[0].numel())
        if name.endswith("positional_embedding"):
            scale = 1.0
        if BRANCH_ENDS.search(name):
            scale /= math.sqrt(2 * branches)
        if SHARPENED.search(name):
            scale *= 2
        if SOUND.search(name):
            scale *= 4
        drawn = torch.empty_like(parameter, dtype=torch.float32).normal_(0.0, scale, generator=generator)
        parameter.copy_(drawn)  # the same numbers in each precision, rounded


def _parameters(module: nn.Module) -> Iterator[tuple[str, nn.Parameter, bool]]:
    """Each parameter, its name, and whether it is a norm's."""
    for place, part in module.named_modules():
        for name, parameter in part.named_parameters(recurse=False):
            yield f"{place}.{name}", parameter, isinstance(part, (nn.LayerNorm, nn.GroupNorm))
