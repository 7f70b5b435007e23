"""`python -m training.small_stable_diffusion.evaluate`: does the pipeline draw what was said? Needs the training pictures."""

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
from training.small_stable_diffusion.meaning import distances, looks, rank
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
"""What is said for the sheet of twenty, and the thing that each names; chosen before any of them was drawn."""
STEPS, GUIDANCE, SEED = 12, 3.0, 1
BATCH = 32


@dataclass(frozen=True)
class Gallery:
    """Every training picture, mirror images and turned hues too, as the two distances see it."""

    vae: AutoencoderKL
    latents: torch.Tensor
    """float32 [n, 512]."""
    looks: torch.Tensor
    """float32 [n, features]."""
    concept: torch.Tensor
    """int64 [n]."""


def new_gallery(vae: AutoencoderKL, rgb: torch.Tensor, concept: torch.Tensor) -> Gallery:
    both = torch.cat([rgb, rgb.flip(-1)])
    return Gallery(vae, encode(vae, both).flatten(1), looks(both), concept.repeat(2))


def ranks(gallery: Gallery, rgb: torch.Tensor, wanted: torch.Tensor) -> dict[str, torch.Tensor]:
    """For each picture [n, 3, 64, 64], the place (0 is nearest) of the wanted concept: by each distance, and by the worse."""
    place = {
        "latent": rank(distances(encode(gallery.vae, rgb).flatten(1), gallery.latents, gallery.concept), wanted),
        "looks": rank(distances(looks(rgb), gallery.looks, gallery.concept), wanted),
    }
    return place | {"both": torch.maximum(place["latent"], place["looks"])}


def generate(pipeline: StableDiffusionPipeline, prompts: Sequence[str], seeds: Sequence[int], progress: str = "") -> torch.Tensor:
    """float32 [n, 3, 64, 64] in [-1, 1], as the stock pipeline draws them at the defaults."""
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


def shares(place: torch.Tensor) -> dict[str, float]:
    return {f"top{k}": round((place < k).float().mean().item(), 4) for k in (1, 5)}


def evaluate(
    pipeline: StableDiffusionPipeline, concepts: list[Concept], gallery: Gallery, seeds: int
) -> tuple[dict[str, Any], torch.Tensor, torch.Tensor]:
    """The figures, the pictures [seeds * concepts, 3, 64, 64] (seed by seed), and each one's rank by the worse distance."""
    count = len(concepts)
    own = torch.arange(count)
    prompts = [phrase.format(concept.name) for phrase in PHRASES[:seeds] for concept in concepts]
    pictures = generate(pipeline, prompts, [seed for seed in range(seeds) for _ in concepts], "said")
    empty = ranks(gallery, generate(pipeline, [""] * count, range(count), "empty"), own)["both"]
    place = ranks(gallery, pictures, own.repeat(seeds))
    shuffled = ranks(gallery, pictures, own.roll(count // 2).repeat(seeds))["both"]

    def row(members: torch.Tensor) -> dict[str, Any]:
        """`members`: bool [concepts]."""
        drawn = members.repeat(seeds)
        said = {"concepts": int(members.sum()), **shares(place["both"][drawn])}
        return said | {"shuffled": shares(shuffled[drawn]), "empty": shares(empty[members])}

    categories = [concept.category for concept in concepts]
    figures = row(own >= 0) | {
        "seeds": seeds,
        "latent": shares(place["latent"]),
        "looks": shares(place["looks"]),
        "categories": {name: row(torch.tensor([name == other for other in categories])) for name in dict.fromkeys(categories)},
        "wrong": {concepts[i].name: n for i in range(count) if (n := int((place["both"][i::count] > 0).sum()))},
    }
    return figures, pictures, place["both"]


def main(pipeline: Path = PIPELINE, cache: Path = CACHE, out: Path = CACHE / "evaluation", seeds: int = len(PHRASES)) -> None:
    """Prints the figures; writes them, and sheets: twenty samples, every fifth thing, and the twenty worst, labelled with what was said."""
    concepts = load_concepts()
    loaded = StableDiffusionPipeline.from_pretrained(pipeline, dtype=torch.float32, local_files_only=True)
    pictures = load_pictures(cache / "data", concepts)
    gallery = new_gallery(loaded.vae, pictures.rgb, pictures.concept)
    figures, drawn, place = evaluate(loaded, concepts, gallery, seeds)
    out.mkdir(parents=True, exist_ok=True)
    (out / "evaluation.json").write_text(json.dumps(figures, indent=1) + "\n")
    names = [concept.name for concept in concepts]
    worst = place.argsort(descending=True)[:20].tolist()
    sheet(drawn[worst], 5, [names[i % len(names)] for i in worst], scale=2).save(out / "worst.png", optimize=True)
    sheet(drawn[: len(names) : 5], 13, names[::5], font_px=9).save(out / "every-fifth.png", optimize=True)
    samples = generate(loaded, list(SAMPLES), [SEED] * len(SAMPLES))
    sheet(samples, 5, list(SAMPLES), scale=2).save(out / "samples.png", optimize=True)
    print(table(figures))


def table(figures: dict[str, Any]) -> str:
    """Markdown: a row for each category and one for all."""
    rows = ["| category | concepts | top-1 | top-5 | top-1, shuffled | top-1, empty |", "|---|---|---|---|---|---|"]
    for name, row in [*figures["categories"].items(), ("**all**", figures)]:
        rates = [row["top1"], row["top5"], row["shuffled"]["top1"], row["empty"]["top1"]]
        rows.append(f"| {name} | {row['concepts']} | " + " | ".join(f"{100 * rate:.1f}%" for rate in rates) + " |")
    return "\n".join(rows)


if __name__ == "__main__":
    typer.run(main)
