"""Small Stable Diffusion pipelines of seeded random weights: the same classes as the real ones, with noise as images."""

import json
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import (
    AutoencoderKL,
    DPMSolverMultistepScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPConfig, CLIPImageProcessor, CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

KINDS = ("sd", "sdxl")


def write(folder: Path, kind: str = "sd", seed: int = 0, side_px: int = 64, safety_checker: bool = False) -> None:
    """Write a pipeline of `kind` (sd or sdxl) whose images are `side_px` x `side_px`."""
    _pipeline(kind, seed, side_px, safety_checker).save_pretrained(folder, safe_serialization=True)


def set_scheduler(folder: Path, name: str) -> None:
    """Replace the scheduler of the pipeline in `folder` by another one of diffusers."""
    own = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    kind = getattr(diffusers, name)
    kind.from_config(own, clip_sample=False, skip_prk_steps=True).save_pretrained(folder / "scheduler")
    index = json.loads((folder / "model_index.json").read_text())
    index["scheduler"] = ["diffusers", name]
    (folder / "model_index.json").write_text(json.dumps(index))


def _pipeline(kind: str, seed: int, side_px: int, safety_checker: bool) -> Any:
    torch.manual_seed(seed)
    tokenizer = _tokenizer()
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        projection_dim=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    vae = AutoencoderKL(
        block_out_channels=(16, 32, 32, 32),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=side_px,
    )
    scheduler = DPMSolverMultistepScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1)
    unet: dict[str, Any] = {
        "sample_size": side_px // 8,
        "block_out_channels": (32, 64),
        "layers_per_block": 1,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "norm_num_groups": 8,
        "attention_head_dim": 4,
    }
    if kind == "sd":
        return StableDiffusionPipeline(
            vae=vae,
            text_encoder=CLIPTextModel(text),
            tokenizer=tokenizer,
            unet=UNet2DConditionModel(cross_attention_dim=32, **unet),
            scheduler=scheduler,
            safety_checker=_safety_checker() if safety_checker else None,
            feature_extractor=_feature_extractor() if safety_checker else None,
            requires_safety_checker=safety_checker,
        )
    return StableDiffusionXLPipeline(
        vae=vae,
        text_encoder=CLIPTextModel(text),
        text_encoder_2=CLIPTextModelWithProjection(text),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=UNet2DConditionModel(
            cross_attention_dim=64,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + 32,
            **unet,
        ),
        scheduler=scheduler,
        add_watermarker=False,
    )


def _tokenizer() -> Any:
    """CLIP's byte-level alphabet without merges: every character is one or more tokens."""
    alphabet = sorted(ByteLevel.alphabet())
    tokens = [*alphabet, *(f"{character}</w>" for character in alphabet), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={token: number for number, token in enumerate(tokens)}, merges=[], model_max_length=77)


def _safety_checker() -> Any:
    layer = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = {**layer, "image_size": 224, "patch_size": 32, "projection_dim": 16}
    config = CLIPConfig(text_config={**layer, "vocab_size": 16, "projection_dim": 16}, vision_config=vision, projection_dim=16)
    return StableDiffusionSafetyChecker(config)


def _feature_extractor() -> Any:
    return CLIPImageProcessor()
