"""Train the text encoder to find the thing in any sentence, without the UNet, by self-distillation.

The UNet learns its things from few sentences, and the encoder with it learns only those. Here the trained encoder is the teacher: from a
thing's last token on, the student's states for a whole sentence are trained to equal the teacher's for the bare caption.
"""

import json
import random
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from tqdm import tqdm
from transformers import CLIPTextModel, CLIPTokenizer

from training.small_stable_diffusion import captions
from training.small_stable_diffusion.common import average_gradients, cosine, load_checkpoint, save_checkpoint
from training.small_stable_diffusion.concepts import HUES_DEGREES, Concept
from training.small_stable_diffusion.evaluate import PHRASES
from training.small_stable_diffusion.templates import REQUESTS
from training.small_stable_diffusion.text import LONGEST, new_text_encoder
from training.small_stable_diffusion.unet import EMPTY, WIDTH, Training

BATCH = 256
LEARNING_RATE = 2e-3
UNNAMED_WEIGHT = 1.0
"""Weight of the states before the thing is named."""


@dataclass(frozen=True)
class DistillationBatch:
    """Sentences as token ids, and the target states."""

    ids: torch.Tensor
    """int64 [n, LONGEST]."""
    targets: torch.Tensor
    """float32 [n, LONGEST, WIDTH]."""
    weight: torch.Tensor
    """float32 [n, LONGEST]."""


class Teacher:
    """The target states: of every bare caption, and of words before a thing is named."""

    def __init__(self, encoder: CLIPTextModel, tokenizer: CLIPTokenizer, concepts: list[Concept], words: list[str]) -> None:
        self.tokenizer, self.concepts = tokenizer, concepts
        self.words = captions.unrelated_words(words, concepts)
        self.things = [(i, "") for i in range(len(concepts))]
        self.things += [
            (i, hue) for i, thing in enumerate(concepts) if thing.colour for hue in HUES_DEGREES if hue != thing.colour
        ]
        bare = [f"{colour} {concepts[i].name}".strip() for i, colour in self.things]
        self.named = encode(encoder, tokenizer, [*bare, ""])
        starts = [request.partition("{x}")[0] for request in REQUESTS]
        openings = encode(encoder, tokenizer, [start for start in starts if start.count(" ") > 1])
        self.unnamed = openings[:, 1:3].mean(dim=(0, 1))

    def sample(self, rng: random.Random, count: int) -> DistillationBatch:
        """Sample a batch. Every thing is equally likely, in any colour; some captions are empty."""
        texts, ends, rows = [], [], []
        for _ in range(count):
            row = rng.randrange(len(self.concepts)) if rng.random() < 0.6 else rng.randrange(len(self.things))
            i, colour = self.things[row]
            text, end = captions.sentence(rng, self.concepts[i], self.concepts, colour, self.words)
            if rng.random() < EMPTY / 4:
                text, end, row = "", 0, len(self.things)
            texts.append(text)
            ends.append(end)
            rows.append(row)
        read = self.tokenizer(
            texts, padding="max_length", max_length=LONGEST, truncation=True, return_tensors="pt", return_offsets_mapping=True
        )
        # a token that ends before its thing does names nothing yet; the start token and padding have no characters
        offsets = read.offset_mapping
        named = (offsets[..., 1] >= torch.tensor(ends)[:, None]).cummax(dim=1).values
        named[:, 0] = False
        start = torch.arange(LONGEST) == 0
        states = torch.where(named[..., None], self.named[rows], self.unnamed)
        states = torch.where(start[:, None], self.named[-1], states)
        return DistillationBatch(read.input_ids, states, torch.where(named, 1.0, UNNAMED_WEIGHT))


@torch.no_grad()
def encode(encoder: CLIPTextModel, tokenizer: CLIPTokenizer, texts: list[str]) -> torch.Tensor:
    """The encoder's last states: float32 [n, LONGEST, WIDTH]."""
    ids = tokenizer(texts, padding="max_length", max_length=LONGEST, truncation=True, return_tensors="pt").input_ids
    states: torch.Tensor = encoder(ids).last_hidden_state
    return states


def train(rank: int, folder: Path, concepts: list[Concept], words: list[str], steps: int) -> None:
    """Train, from `folder`/text.pt on; at the end `folder`/unet.pt has the student, also as the averaged weights."""
    tokenizer, workers = CLIPTokenizer.from_pretrained(folder / "tokenizer"), dist.get_world_size()
    training = Training(tokenizer, folder)
    training.swap_in_ema()
    teacher = Teacher(training.text_encoder.eval(), tokenizer, concepts, words)
    student = new_text_encoder(tokenizer, WIDTH)
    student.load_state_dict(training.text_encoder.state_dict())
    parameters = list(student.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, betas=(0.9, 0.99), weight_decay=1e-3, fused=True)
    done = 0
    if state := load_checkpoint(folder / "text.pt"):
        student.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        teacher.named, teacher.unnamed, done = state["named"], state["unnamed"], state["step"]
    bar = tqdm(range(done, steps), initial=done, total=steps, desc="text", mininterval=15, disable=rank > 0)
    mean_loss = 0.0
    for step in bar:
        batch = teacher.sample(random.Random(step * workers + rank), BATCH // workers)
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * cosine(step, steps, warm_up=200)
        error = (student(batch.ids).last_hidden_state - batch.targets).square().mean(dim=2)
        loss = (error * batch.weight).mean()
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        average_gradients(parameters)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        mean_loss = 0.98 * mean_loss + 0.02 * float(loss) if mean_loss else float(loss)
        if rank > 0:
            continue
        bar.set_postfix(loss=f"{mean_loss:.4f}", refresh=False)
        if (step + 1) % 500 == 0 or step + 1 == steps:
            state = {"model": student.state_dict(), "optimizer": optimizer.state_dict()}
            save_checkpoint(folder / "text.pt", state | {"named": teacher.named, "unnamed": teacher.unnamed, "step": step + 1})
            shares = {phrase: round(recognised(student, teacher, phrase), 3) for phrase in PHRASES}
            with (folder / "text.jsonl").open("a") as progress:
                progress.write(json.dumps({"step": step + 1, "loss": round(mean_loss, 4)} | shares) + "\n")
    if rank == 0 and done < steps:
        training.text_encoder.load_state_dict(student.state_dict())
        training.ema = [parameter.detach().clone() for parameter in training.parameters]
        training.save()


def recognised(student: CLIPTextModel, teacher: Teacher, phrase: str) -> float:
    """The share of things whose states after the phrase's end are nearest to those of their own bare caption."""
    count = len(teacher.concepts)
    states = encode(student, teacher.tokenizer, [phrase.format(concept.name) for concept in teacher.concepts])
    distance = torch.cdist(states[:, -4:].flatten(1), teacher.named[:count, -4:].flatten(1))
    return (distance.argmin(dim=1) == torch.arange(count)).float().mean().item()
