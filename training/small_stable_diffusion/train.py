"""`python -m training.small_stable_diffusion.train data|vae|unet|text|export`: train the small pipeline, from its checkpoints on."""

import random
from pathlib import Path

import typer
from diffusers import AutoencoderKL
from transformers import CLIPTokenizer

from training.small_stable_diffusion import captions, sentences
from training.small_stable_diffusion import unet as diffuser
from training.small_stable_diffusion import vae as autoencoder
from training.small_stable_diffusion.common import in_parallel, sheet
from training.small_stable_diffusion.concepts import CACHE, Concept, load_concepts
from training.small_stable_diffusion.data import load_pictures
from training.small_stable_diffusion.evaluate import new_gallery
from training.small_stable_diffusion.export import export as write
from training.small_stable_diffusion.text import english_words, new_tokenizer

app = typer.Typer(no_args_is_help=True, add_completion=False)


@app.command()
def data(cache: Path = CACHE) -> None:
    """Download the pictures; write a sheet of all training pictures."""
    pictures = load_pictures(cache / "data", load_concepts())
    sheet(pictures.rgb, columns=32).save(cache / "data" / "pictures.png")
    print(f"{len(load_concepts())} concepts, {len(pictures.rgb)} pictures with turned hues, twice that with mirror images")


@app.command()
def vae(cache: Path = CACHE, steps: int = 1700, processes: int = 2) -> None:
    """Train the autoencoder; write it, with latents of mean 0 and deviation 1."""
    pictures = load_pictures(cache / "data", load_concepts())
    in_parallel(autoencoder.train, processes, pictures.rgb, cache / "vae", steps)
    model = autoencoder.load_standardised(pictures.rgb, cache / "vae")
    model.save_pretrained(cache / "vae" / "model")


@app.command()
def unet(cache: Path = CACHE, steps: int = 3600, processes: int = 2) -> None:
    """Train the UNet and the text encoder on the latents; a progress line and a sheet every 1000 steps."""
    concepts = load_concepts()
    pictures = load_pictures(cache / "data", concepts)
    tokenizer = _tokenizer(concepts, cache)
    pool = diffuser.new_pool(
        concepts, pictures.concept.tolist(), pictures.colour, tokenizer, english_words(cache / "data" / "words"), each=60
    )
    model = AutoencoderKL.from_pretrained(cache / "vae" / "model")
    gallery = new_gallery(model, pictures.rgb, pictures.concept)
    latents = gallery.latents[: len(pictures.rgb)].view(-1, 8, 8, 8)
    in_parallel(diffuser.train, processes, cache / "unet", model, concepts, gallery, latents, pool, steps)


@app.command()
def text(cache: Path = CACHE, steps: int = 3000, processes: int = 2) -> None:
    """Train the text encoder to find the thing in any sentence; a progress line every 500 steps."""
    words = english_words(cache / "data" / "words")
    in_parallel(sentences.train, processes, cache / "unet", load_concepts(), words, steps)


@app.command()
def export(cache: Path = CACHE, out: Path = CACHE / "pipeline", seeds: int = 4) -> None:
    """Write the pipeline, its evaluation and its model card; `--out deployments/diffusion/small-stable-diffusion` replaces what ships."""
    write(cache, out, seeds)


def _tokenizer(concepts: list[Concept], cache: Path) -> CLIPTokenizer:
    """The tokenizer, learnt once: the checkpoints' embeddings belong to its vocabulary, even if the captions change."""
    folder = cache / "unet" / "tokenizer"
    if folder.is_dir():
        return CLIPTokenizer.from_pretrained(folder)
    rng = random.Random(0)
    texts = [captions.sample(rng, concept, concepts) for concept in concepts for _ in range(40)]
    return new_tokenizer(texts, english_words(cache / "data" / "words"), folder)


if __name__ == "__main__":
    app()
