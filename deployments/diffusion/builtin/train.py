"""`python -m deployments.diffusion.builtin.train data|vae|unet|export`: makes the small pipeline; each step goes on from its last checkpoint."""
from pathlib import Path

import torch
import typer

from deployments.diffusion.builtin import vae as autoencoder
from deployments.diffusion.builtin.common import sheet
from deployments.diffusion.builtin.concepts import load_concepts
from deployments.diffusion.builtin.data import load_pictures

app = typer.Typer(no_args_is_help=True, add_completion=False)
CACHE = Path.home() / ".cache" / "sonograph-training"


@app.command()
def data(cache: Path = CACHE) -> None:
    """Download the pictures; write a sheet of all that training sees."""
    pictures = load_pictures(cache / "data", load_concepts())
    sheet(pictures.rgb, columns=32).save(cache / "data" / "pictures.png")
    print(f"{len(load_concepts())} concepts, {len(pictures.rgb)} pictures with turned hues, twice that with mirror images")


@app.command()
def vae(cache: Path = CACHE, steps: int = 2200, threads: int = 2) -> None:
    """Train the autoencoder; write it, and every picture's latents, with the latents' mean 0 and deviation 1."""
    pictures = load_pictures(cache / "data", load_concepts())
    model = autoencoder.train(pictures.rgb, cache / "vae", steps, threads)
    model.save_pretrained(cache / "vae" / "model")
    latents = torch.stack([autoencoder.encode(model, pictures.rgb), autoencoder.encode(model, pictures.rgb.flip(-1))], dim=1)
    torch.save(latents, cache / "vae" / "latents.pt")


if __name__ == "__main__":
    app()
