"""`python -m training.small_stable_diffusion.evaluate`: measure whether images show the prompt's thing. Needs the training pictures."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import typer
from diffusers import AutoencoderKL, StableDiffusionPipeline
from tqdm import tqdm

from training.small_stable_diffusion.common import sheet
from training.small_stable_diffusion.concepts import CACHE, PIPELINE, Concept, load_concepts
from training.small_stable_diffusion.data import load_pictures
from training.small_stable_diffusion.similarity import distances, rank, visual_features
from training.small_stable_diffusion.vae import encode

PHRASES = (
    "Could you paint the {} for us, please?",
    "My favourite thing in the world is the {}.",
    "Let me have a look at your {}.",
    "Would you kindly put one {} on the screen?",
)
"""One for each seed; none is a template of the training captions."""
SAMPLES = {
    "A cat.": "cat",
    "Draw me a red apple, please.": "apple",
    "I want to see a rocket.": "rocket",
    "A dog.": "dog",
    "Please draw a house.": "house",
    "A slice of pizza.": "pizza",
    "An elephant.": "elephant",
    "Show me a guitar.": "guitar",
    "A big yellow sunflower.": "sunflower",
    "A bicycle.": "bicycle",
    "Two penguins.": "penguin",
    "A blue car.": "car",
    "The Statue of Liberty.": "statue of liberty",
    "A butterfly in the garden.": "butterfly",
    "Can you draw a castle?": "castle",
    "A birthday cake for my daughter.": "birthday cake",
    "A green umbrella.": "umbrella",
    "A steam train.": "steam train",
    "A robot.": "robot",
    "A snowman.": "snowman",
}
"""The prompts of the sheet of twenty, and the thing that each names; chosen before any image was generated."""
STEPS, GUIDANCE, SEED = 12, 3.0, 1
BATCH = 32


@dataclass(frozen=True)
class Gallery:
    """The features of every training picture, with mirror images and turned hues, for both distances."""

    vae: AutoencoderKL
    latents: torch.Tensor
    """float32 [n, 512]."""
    visual: torch.Tensor
    """float32 [n, features]."""
    concept: torch.Tensor
    """int64 [n]."""


def new_gallery(vae: AutoencoderKL, rgb: torch.Tensor, concept: torch.Tensor) -> Gallery:
    both = torch.cat([rgb, rgb.flip(-1)])
    return Gallery(vae, encode(vae, both).flatten(1), visual_features(both), concept.repeat(2))


def ranks(gallery: Gallery, rgb: torch.Tensor, wanted: torch.Tensor) -> dict[str, torch.Tensor]:
    """The rank (0 is nearest) of each image's wanted concept: by each distance, and by the worse. `rgb`: [n, 3, 64, 64]."""
    by_distance = {
        "latent": rank(distances(encode(gallery.vae, rgb).flatten(1), gallery.latents, gallery.concept), wanted),
        "looks": rank(distances(visual_features(rgb), gallery.visual, gallery.concept), wanted),
    }
    return by_distance | {"both": torch.maximum(by_distance["latent"], by_distance["looks"])}


def generate(pipeline: StableDiffusionPipeline, prompts: Sequence[str], seeds: Sequence[int], progress: str = "") -> torch.Tensor:
    """The stock pipeline's images at the default options: float32 [n, 3, 64, 64] in [-1, 1]."""
    pipeline.set_progress_bar_config(disable=True)
    parts = []
    for first in tqdm(range(0, len(prompts), BATCH), desc=progress, disable=not progress, mininterval=5):
        generators = [torch.Generator().manual_seed(seed) for seed in seeds[first : first + BATCH]]
        part = pipeline(
            list(prompts[first : first + BATCH]),
            generator=generators,
            num_inference_steps=STEPS,
            guidance_scale=GUIDANCE,
            output_type="pt",
        ).images
        parts.append(part * 2 - 1)
    return torch.cat(parts)


def shares(rank: torch.Tensor) -> dict[str, float]:
    """The shares of ranks below 1 and below 5."""
    return {f"top{k}": round((rank < k).float().mean().item(), 4) for k in (1, 5)}


def evaluate(
    pipeline: StableDiffusionPipeline, concepts: list[Concept], gallery: Gallery, seeds: int
) -> tuple[dict[str, Any], torch.Tensor, torch.Tensor]:
    """The results, the images [seeds * concepts, 3, 64, 64] (seed by seed), and each one's rank by the worse distance."""
    count = len(concepts)
    own = torch.arange(count)
    prompts = [phrase.format(concept.name) for phrase in PHRASES[:seeds] for concept in concepts]
    images = generate(pipeline, prompts, [seed for seed in range(seeds) for _ in concepts], "named")
    empty = ranks(gallery, generate(pipeline, [""] * count, range(count), "empty"), own)["both"]
    by_distance = ranks(gallery, images, own.repeat(seeds))
    shuffled = ranks(gallery, images, own.roll(count // 2).repeat(seeds))["both"]

    def row(members: torch.Tensor) -> dict[str, Any]:
        """The results of some concepts. `members`: bool [concepts]."""
        chosen = members.repeat(seeds)
        named = {"concepts": int(members.sum()), **shares(by_distance["both"][chosen])}
        return named | {"shuffled": shares(shuffled[chosen]), "empty": shares(empty[members])}

    categories = [concept.category for concept in concepts]
    results = row(own >= 0) | {
        "seeds": seeds,
        "latent": shares(by_distance["latent"]),
        "looks": shares(by_distance["looks"]),
        "categories": {name: row(torch.tensor([name == other for other in categories])) for name in dict.fromkeys(categories)},
        "wrong": {concepts[i].name: n for i in range(count) if (n := int((by_distance["both"][i::count] > 0).sum()))},
    }
    return results, images, by_distance["both"]


def main(pipeline: Path = PIPELINE, cache: Path = CACHE, out: Path = CACHE / "evaluation", seeds: int = len(PHRASES)) -> None:
    """Print and write the results; write labelled sheets: twenty samples, every fifth thing, and the twenty worst."""
    concepts = load_concepts()
    loaded = StableDiffusionPipeline.from_pretrained(pipeline, dtype=torch.float32, local_files_only=True)
    pictures = load_pictures(cache / "data", concepts)
    gallery = new_gallery(loaded.vae, pictures.rgb, pictures.concept)
    results, images, rank = evaluate(loaded, concepts, gallery, seeds)
    out.mkdir(parents=True, exist_ok=True)
    (out / "evaluation.json").write_text(json.dumps(results, indent=1) + "\n")
    names = [concept.name for concept in concepts]
    worst = rank.argsort(descending=True)[:20].tolist()
    sheet(images[worst], 5, [names[i % len(names)] for i in worst], scale=2).save(out / "worst.png", optimize=True)
    sheet(images[: len(names) : 5], 13, names[::5], font_px=9).save(out / "every-fifth.png", optimize=True)
    samples = generate(loaded, list(SAMPLES), [SEED] * len(SAMPLES))
    sheet(samples, 5, list(SAMPLES), scale=2).save(out / "samples.png", optimize=True)
    print(table(results))


def table(results: dict[str, Any]) -> str:
    """A Markdown table with a row for each category and one for all."""
    rows = ["| category | concepts | top-1 | top-5 | top-1, shuffled | top-1, empty |", "|---|---|---|---|---|---|"]
    for name, row in [*results["categories"].items(), ("**all**", results)]:
        rates = [row["top1"], row["top5"], row["shuffled"]["top1"], row["empty"]["top1"]]
        rows.append(f"| {name} | {row['concepts']} | " + " | ".join(f"{100 * rate:.1f}%" for rate in rates) + " |")
    return "\n".join(rows)


if __name__ == "__main__":
    typer.run(main)
