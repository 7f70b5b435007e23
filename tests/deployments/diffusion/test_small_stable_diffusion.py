"""The small pipeline that ships with the product: it loads like any other, and its images show the prompt's thing."""

import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

from deployments.diffusion.engine import DiffusionEngine
from deployments.diffusion.settings import DiffusionSettings
from deployments.diffusion.types import EngineConfig
from testing import speech
from testing.pipelines import StockPipeline, pixels, request
from training.small_stable_diffusion.concepts import FINGERPRINTS, PIPELINE, load_concepts
from training.small_stable_diffusion.evaluate import PHRASES, SAMPLES, generate, table
from training.small_stable_diffusion.similarity import Fingerprints, rank
from training.small_stable_diffusion.templates import REQUESTS, SCENES, SHORT

pytestmark = pytest.mark.torch

CONCEPTS = load_concepts()
NAMES = [concept.name for concept in CONCEPTS]
SENTENCES = {
    "It was the day our rocket finally left the ground.": "rocket",
    "In her hands she carried one sunflower.": "sunflower",
    "Nobody expected a penguin at this hour.": "penguin",
    "Every morning an elephant walks by.": "elephant",
    "Grandfather repaired that bicycle himself.": "bicycle",
    "Far away someone played the guitar.": "guitar",
    "Yesterday the cat slept until noon.": "cat",
    "You will never guess how old this castle is.": "castle",
    "His favourite breakfast has always been an apple.": "apple",
    "Slowly the butterfly opened its wings.": "butterfly",
}
"""Sentences that training did not use, and the thing that each names."""
ISSUE = {"A small orange cat sitting on a sofa.": "cat", "Please draw a rocket flying to the moon.": "rocket"}
"""Sentences with a second thing beside the main one."""
OFFLINE = """
import sys

def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"):
        raise PermissionError(f"{event} {arguments}")

sys.addaudithook(refuse)
from diffusers import StableDiffusionPipeline

print(type(StableDiffusionPipeline.from_pretrained(sys.argv[1])).__name__)
"""


@pytest.fixture(scope="module")
def pipeline() -> StableDiffusionPipeline:
    return StableDiffusionPipeline.from_pretrained(PIPELINE, dtype=torch.float32, local_files_only=True)


def share_shown(pipeline: StableDiffusionPipeline, wanted: list[str], prompts: list[str], seeds: list[int]) -> float:
    """The share of prompts whose image shows the wanted thing."""
    place = rank(
        Fingerprints().distances(generate(pipeline, prompts, seeds)), torch.tensor([NAMES.index(name) for name in wanted])
    )
    return float((place == 0).float().mean())


def sample_names(count: int) -> list[str]:
    return random.Random(0).sample(NAMES, count)


def test_the_list_is_long_and_names_each_thing_once() -> None:
    assert len(CONCEPTS) >= 492
    assert len(set(NAMES)) == len({concept.code for concept in CONCEPTS}) == len(CONCEPTS)


def test_the_sheet_of_twenty_shows_things_of_the_list() -> None:
    assert len(SAMPLES) == 20
    assert set(SAMPLES.values()) <= set(NAMES)
    for prompt, name in SAMPLES.items():
        assert name in prompt.lower()


def test_the_small_model_is_the_default() -> None:
    assert Path(DiffusionSettings().model) == PIPELINE


def test_the_card_describes_a_small_model_of_some_hundred_things() -> None:
    card = f"small-stable-diffusion (A small Stable Diffusion of {len(CONCEPTS)} things, at 64x64)"
    assert DiffusionSettings().card() == card


def test_the_folder_is_a_plain_pipeline_of_at_most_30_mb_without_training_data() -> None:
    files = [path for path in PIPELINE.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 30e6
    assert {path.suffix for path in files} <= {".json", ".safetensors", ".txt", ".md", ".png"}
    assert {path.name for path in files if path.suffix == ".png"} == {"samples.png", "every-fifth.png", "worst.png"}
    assert not list(FINGERPRINTS.parent.rglob("*.webp"))
    assert list(FINGERPRINTS.parent.rglob("*.safetensors")) == [FINGERPRINTS]


def test_no_file_contains_the_path_where_it_was_made() -> None:
    for path in PIPELINE.rglob("*.json"):
        text = path.read_text()
        assert "name_or_path" not in text, path
        assert str(Path.home()) not in text, path


def test_the_card_has_the_results_of_the_evaluation() -> None:
    evaluation = json.loads((PIPELINE / "evaluation.json").read_text())
    assert evaluation["concepts"] == len(CONCEPTS)
    assert evaluation["seeds"] == 4
    assert evaluation["top1"] >= 0.9
    assert evaluation["top5"] >= 0.97
    assert table(evaluation) in (PIPELINE / "README.md").read_text()


def test_the_small_model_loads_with_stock_diffusers_and_without_a_network(tmp_path: Path) -> None:
    environment = {**os.environ, "HF_HOME": str(tmp_path)}  # nothing downloaded before can help
    command = [sys.executable, "-c", OFFLINE, str(PIPELINE)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.stdout == "StableDiffusionPipeline\n", result.stderr


def test_the_default_image_equals_the_stock_pipelines() -> None:
    asked = request("Draw me a red apple, please.", seed=1)
    image = pixels(DiffusionEngine(EngineConfig(str(PIPELINE))).generate(asked, {}).image)
    assert image.shape == (64, 64, 3)
    assert np.array_equal(image, StockPipeline(PIPELINE).generate(asked))


@pytest.mark.parametrize("phrase", [*PHRASES, *speech.PHRASES, *SENTENCES])
def test_no_phrase_of_the_evaluation_is_in_the_training(phrase: str) -> None:
    starts = {template.partition("{x}")[0].strip() for template in SHORT + REQUESTS + SCENES} - {""}
    inside = {part.strip() for template in SCENES for part in re.split(r"\{\w+\}", template)}
    assert not any(phrase.lower().startswith(f"{start} ") for start in starts)
    assert not any(f" {part} " in phrase.lower() for part in inside if part.count(" ") > 1)


@pytest.mark.slow
def test_images_of_forty_sampled_things_show_them(pipeline: StableDiffusionPipeline) -> None:
    wanted = sample_names(40)
    prompts = [PHRASES[turn % len(PHRASES)].format(name) for turn, name in enumerate(wanted)]
    assert share_shown(pipeline, wanted, prompts, [0] * 40) >= 0.85


@pytest.mark.slow
def test_images_of_empty_prompts_do_not_show_them(pipeline: StableDiffusionPipeline) -> None:
    assert share_shown(pipeline, sample_names(40), [""] * 40, [0] * 40) <= 0.1


@pytest.mark.slow
@pytest.mark.parametrize("sentences", [SENTENCES, ISSUE], ids=["other phrasing", "a second thing"])
def test_a_sentence_around_the_noun_gives_the_noun(pipeline: StableDiffusionPipeline, sentences: dict[str, str]) -> None:
    seeds = [seed for seed in range(4) for _ in sentences]
    assert share_shown(pipeline, list(sentences.values()) * 4, list(sentences) * 4, seeds) >= 0.8


@pytest.mark.parametrize("prompt", ["quixotic zymurgy", "日本", "", "word " * 200])
def test_unknown_words_give_some_image(pipeline: StableDiffusionPipeline, prompt: str) -> None:
    image = generate(pipeline, [prompt], [0])
    assert image.shape == (1, 3, 64, 64)
    assert bool(image.isfinite().all())


def test_an_unknown_word_is_split_into_known_tokens(pipeline: StableDiffusionPipeline) -> None:
    tokenizer = pipeline.tokenizer
    assert tokenizer.tokenize("Apple") == ["apple</w>"]
    assert tokenizer.unk_token_id not in tokenizer("quixotic zymurgy 日本").input_ids[1:-1]
