"""Train the autoencoder, 64x64x3 <-> 8x8x8, and scale its latents to mean 0 and deviation 1."""

import time
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from diffusers import AutoencoderKL
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from tqdm import tqdm

from training.small_stable_diffusion.common import average_gradients, cosine, load_checkpoint, save_checkpoint, sheet

BATCH = 32
LEARNING_RATE = 2e-3
KL_WEIGHT = 1e-6
LATENT_NOISE = 0.03
"""Noise on the latents in training, in units of their deviation, so that the decoder tolerates the UNet's small errors."""


def new_vae() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(16, 32, 64, 128),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=8,
        norm_num_groups=2,
        mid_block_add_attention=False,
        sample_size=64,
        scaling_factor=1.0,
    )


def train(rank: int, pictures: torch.Tensor, folder: Path, steps: int) -> None:
    """Train, from `folder`/vae.pt on. `pictures`: float32 [n, 3, 64, 64] in [-1, 1]."""
    torch.manual_seed(0)
    vae = new_vae()
    optimizer = torch.optim.AdamW(vae.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.99), weight_decay=1e-4, fused=True)
    state = load_checkpoint(folder / "vae.pt") or {"step": 0, "cpu_s": 0.0}
    if "model" in state:
        vae.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
    cpu_s, workers = state["cpu_s"], dist.get_world_size()
    bar = tqdm(range(state["step"], steps), initial=state["step"], total=steps, desc="vae", mininterval=10, disable=rank > 0)
    for step in bar:
        started = time.process_time()
        generator = torch.Generator().manual_seed(step * workers + rank)
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * cosine(step, steps, warm_up=100)
        batch = pictures[torch.randint(len(pictures), (BATCH // workers,), generator=generator)]
        batch = torch.where(torch.rand(len(batch), 1, 1, 1, generator=generator) < 0.5, batch.flip(-1), batch)
        loss, pixel = _loss(vae, batch, generator)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        average_gradients(vae.parameters())
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        cpu_s += (time.process_time() - started) * workers
        if step % 20 == 0:
            bar.set_postfix(l1=f"{pixel:.4f}", refresh=False)
        if rank == 0 and ((step + 1) % 100 == 0 or step + 1 == steps):
            state = {"model": vae.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1, "cpu_s": cpu_s}
            save_checkpoint(folder / "vae.pt", state)
            samples = pictures[:: max(1, len(pictures) // 32)][:32]
            sheet(torch.cat([samples, decode(vae, encode(vae, samples))]), columns=16).save(folder / "vae.png")


def load_standardised(pictures: torch.Tensor, folder: Path) -> AutoencoderKL:
    """The trained model, with standardised latents."""
    vae = new_vae()
    state = load_checkpoint(folder / "vae.pt")
    assert state, "run the command vae first"
    vae.load_state_dict(state["model"])
    vae.eval().requires_grad_(False)
    _standardise(vae, pictures)
    return vae


def encode(vae: AutoencoderKL, rgb: torch.Tensor) -> torch.Tensor:
    """The posterior's mean, float32 [n, 8, 8, 8]."""
    with torch.no_grad():
        return torch.cat([vae.encode(part).latent_dist.mean for part in torch.split(rgb, 64)])


def decode(vae: AutoencoderKL, latents: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat([vae.decode(part).sample for part in torch.split(latents, 64)])


def _loss(vae: AutoencoderKL, batch: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, float]:
    with torch.autocast("cpu", torch.bfloat16):
        moments = vae.quant_conv(vae.encoder(batch))
    posterior = DiagonalGaussianDistribution(moments.float())
    spread = posterior.mean.detach().std(dim=(0, 2, 3), keepdim=True)
    noise = torch.randn(posterior.mean.shape, generator=generator)
    with torch.autocast("cpu", torch.bfloat16):
        decoded = vae.decode(posterior.mean + (posterior.std + LATENT_NOISE * spread) * noise).sample.float()
    pixel = F.l1_loss(decoded, batch)
    edges = F.l1_loss(decoded.diff(dim=-1), batch.diff(dim=-1)) + F.l1_loss(decoded.diff(dim=-2), batch.diff(dim=-2))
    return pixel + edges + KL_WEIGHT * posterior.kl().mean(), pixel.item()


@torch.no_grad()
def _standardise(vae: AutoencoderKL, pictures: torch.Tensor) -> None:
    """Fold each latent channel's mean and deviation into the adjacent 1x1 convolutions, so that the pipeline scales nothing."""
    latents = encode(vae, torch.cat([pictures, pictures.flip(-1)]))
    mean, deviation = latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3))
    channels = len(mean)
    into, out = vae.quant_conv, vae.post_quant_conv
    into.weight[:channels] /= deviation.view(-1, 1, 1, 1)
    into.bias[:channels] = (into.bias[:channels] - mean) / deviation
    into.bias[channels:] -= 2 * deviation.log()
    out.bias += out.weight[:, :, 0, 0] @ mean
    out.weight *= deviation.view(1, -1, 1, 1)
