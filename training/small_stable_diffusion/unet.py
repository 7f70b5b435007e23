"""Train the UNet and the text encoder together on the autoencoder's latents."""

import json
import random
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, StableDiffusionPipeline, UNet2DConditionModel
from tqdm import tqdm
from transformers import CLIPTextModel, CLIPTokenizer

from training.small_stable_diffusion import captions
from training.small_stable_diffusion.common import average_gradients, cosine, load_checkpoint, save_checkpoint, sheet
from training.small_stable_diffusion.concepts import Concept
from training.small_stable_diffusion.evaluate import PHRASES, Gallery, generate, ranks
from training.small_stable_diffusion.text import LONGEST, new_text_encoder

BATCH = 64
LEARNING_RATE = 1.5e-3
WIDTH = 128
EMA_DECAY = 0.997
EMPTY = 0.1
TURNED = 0.35
"""Share of a colourable concept's samples with a turned hue."""
HIGHEST_SNR = 5.0


@dataclass(frozen=True)
class Pool:
    """Captions as token ids: int16 [pictures, captions, LONGEST]."""

    ids: torch.Tensor
    empty: torch.Tensor


def new_unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=8,
        out_channels=8,
        block_out_channels=(64, 128, 192),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=16,
    )


def new_scheduler() -> DPMSolverMultistepScheduler:
    return DPMSolverMultistepScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        steps_offset=1,  # unused by trailing spacing; diffusers warns without it
    )


def new_pipeline(
    vae: AutoencoderKL, tokenizer: CLIPTokenizer, text_encoder: CLIPTextModel, unet: UNet2DConditionModel
) -> StableDiffusionPipeline:
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=new_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def new_pool(
    concepts: list[Concept], owners: list[int], colours: list[str], tokenizer: CLIPTokenizer, words: list[str], each: int
) -> Pool:
    """Sample `each` captions of each picture. `words`: English words, for sentences."""
    rng = random.Random(0)
    pictures = zip(owners, colours, strict=True)
    others = captions.unrelated_words(words, concepts)
    texts = [captions.sentence(rng, concepts[i], concepts, colour, others)[0] for i, colour in pictures for _ in range(each)]
    ids = tokenizer(texts, padding="max_length", max_length=LONGEST, truncation=True, return_tensors="pt").input_ids
    empty = tokenizer("", padding="max_length", max_length=LONGEST, return_tensors="pt").input_ids[0]
    return Pool(ids.to(torch.int16).view(len(owners), each, LONGEST), empty)


def _timesteps(count: int, generator: torch.Generator) -> torch.Tensor:
    """Sample timesteps: more noisy ones, where the prompt decides the image; an eighth are pure noise, where inference starts."""
    t = torch.randint(1000, (count,), generator=generator)
    draw = torch.rand(count, generator=generator)
    t = torch.where(draw < 0.6, 550 + t * 450 // 1000, t)
    return torch.where(draw < 0.125, 999, t)


class Training:
    """The state of a run. A later run continues from `folder`/unet.pt alone."""

    def __init__(self, tokenizer: CLIPTokenizer, folder: Path) -> None:
        torch.manual_seed(0)
        self.folder = folder
        self.unet = new_unet()
        self.text_encoder = new_text_encoder(tokenizer, WIDTH)
        self.model = torch.nn.ModuleDict({"unet": self.unet, "text_encoder": self.text_encoder})
        self.parameters = list(self.model.parameters())
        self.optimizer = torch.optim.AdamW(self.parameters, lr=LEARNING_RATE, betas=(0.9, 0.99), weight_decay=1e-3, fused=True)
        self.ema = [parameter.detach().clone() for parameter in self.parameters]
        self.step = 0
        self.cpu_s = 0.0
        state = load_checkpoint(folder / "unet.pt")
        if state:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.ema, self.step, self.cpu_s = state["ema"], state["step"], state["cpu_s"]

    def save(self) -> None:
        state = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        save_checkpoint(self.folder / "unet.pt", state | {"ema": self.ema, "step": self.step, "cpu_s": self.cpu_s})

    def swap_in_ema(self) -> None:
        """Exchange the weights and their moving average; a second call undoes it."""
        for i, parameter in enumerate(self.parameters):
            parameter.data, self.ema[i] = self.ema[i], parameter.data

    def update(
        self,
        latents: torch.Tensor,
        ids: torch.Tensor,
        scheduler: DPMSolverMultistepScheduler,
        rate: float,
        generator: torch.Generator,
    ) -> float:
        """Train one step, and return the loss. `latents` [n, 8, 8, 8] and `ids` [n, LONGEST]: this process's part of the batch."""
        self.model.train()
        t = _timesteps(len(latents), generator)
        noise = torch.randn(latents.shape, generator=generator)
        signal = scheduler.alphas_cumprod[t].view(-1, 1, 1, 1)
        noisy = signal.sqrt() * latents + (1 - signal).sqrt() * noise
        target = signal.sqrt() * noise - (1 - signal).sqrt() * latents
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        predicted = self.unet(noisy, t, self.text_encoder(ids).last_hidden_state).sample
        snr_plus_one = 1 / (1 - signal.flatten())
        # min-SNR (Hang et al. 2023), on SNR + 1: with zero terminal SNR the original would give the first sampling step no weight
        weight = snr_plus_one.clamp(max=HIGHEST_SNR) / snr_plus_one
        loss = (weight * (predicted - target).square().mean(dim=(1, 2, 3))).mean()
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        average_gradients(self.parameters)
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        decay = min(EMA_DECAY, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(self.ema, [parameter.detach() for parameter in self.parameters], 1 - decay)
        self.step += 1
        return float(loss)


def train(
    rank: int,
    folder: Path,
    vae: AutoencoderKL,
    concepts: list[Concept],
    gallery: Gallery,
    latents: torch.Tensor,
    pool: Pool,
    steps: int,
) -> None:
    """Train, from `folder`/unet.pt on. `latents`: [pictures, 8, 8, 8], the concepts' plain pictures first."""
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    training, scheduler, workers = Training(tokenizer, folder), new_scheduler(), dist.get_world_size()
    count, owners = len(concepts), gallery.concept[: len(latents)].tolist()
    turned = [[i for i in range(count, len(owners)) if owners[i] == concept] for concept in range(count)]
    bar = tqdm(range(training.step, steps), initial=training.step, total=steps, desc="unet", mininterval=30, disable=rank > 0)
    mean_loss = 0.0
    for step in bar:
        started = time.process_time()
        rng = random.Random(step)
        chosen = rng.sample(range(count), BATCH)[rank::workers]
        rng.seed(step * workers + rank)
        chosen = [rng.choice(turned[i]) if turned[i] and rng.random() < TURNED else i for i in chosen]
        batch = latents[chosen]
        ids = [pool.empty if rng.random() < EMPTY else pool.ids[i, rng.randrange(pool.ids.shape[1])].long() for i in chosen]
        generator = torch.Generator().manual_seed(step * workers + rank)
        rate = LEARNING_RATE * cosine(step, steps, warm_up=300)
        loss = training.update(batch, torch.stack(ids), scheduler, rate, generator)
        training.cpu_s += (time.process_time() - started) * workers
        mean_loss = 0.98 * mean_loss + 0.02 * loss if mean_loss else loss
        if rank > 0:
            continue
        bar.set_postfix(loss=f"{mean_loss:.4f}", refresh=False)
        if training.step % 250 == 0 or training.step == steps:
            training.save()
        if training.step % 1000 == 0 or training.step == steps:
            training.swap_in_ema()
            report(training, new_pipeline(vae, tokenizer, training.text_encoder, training.unet), concepts, gallery, mean_loss)
            training.swap_in_ema()


def report(training: Training, pipeline: StableDiffusionPipeline, concepts: list[Concept], gallery: Gallery, loss: float) -> None:
    """Write a sheet, and append to `folder`/progress.jsonl: top-1 and top-5 of every fifth concept, by phrases and seeds in turn."""
    wanted = list(range(0, len(concepts), 5))
    turns = [turn % len(PHRASES) for turn in range(len(wanted))]
    prompts = [PHRASES[turn].format(concepts[i].name) for turn, i in zip(turns, wanted, strict=True)]
    pictures = generate(pipeline, prompts, turns)
    place = ranks(gallery, pictures, torch.tensor(wanted))
    line = {"step": training.step, "loss": round(loss, 4), "cpu_s": round(training.cpu_s)}
    line |= {f"top{k}_{name}": round((rank < k).float().mean().item(), 3) for name, rank in place.items() for k in (1, 5)}
    with (training.folder / "progress.jsonl").open("a") as progress:
        progress.write(json.dumps(line) + "\n")
    sheet(pictures, columns=16).save(training.folder / f"unet-{training.step:05}.png")
