"""The small pipeline that ships with the product: it loads like any other, and draws what was said."""

import json
import random
from pathlib import Path

import pytest

pytest.importorskip("diffusers")

import torch
from diffusers import StableDiffusionPipeline

from deployments.diffusion.builtin.captions import REQUESTS, SCENES, SHORT
from deployments.diffusion.builtin.concepts import PIPELINE, load_concepts
from deployments.diffusion.builtin.evaluate import PHRASES, generate, table
from deployments.diffusion.builtin.meaning import Fingerprints, rank

CONCEPTS = load_concepts()
needs_pipeline = pytest.mark.skipif(not PIPELINE.is_dir(), reason="the pipeline is not committed yet")


@pytest.fixture(scope="module")
def pipeline() -> StableDiffusionPipeline:
    return StableDiffusionPipeline.from_pretrained(PIPELINE, dtype=torch.float32, local_files_only=True)


def share_shown(pipeline: StableDiffusionPipeline, wanted: list[int], prompts: list[str]) -> float:
    """Of the prompts, how many picture the wanted concept."""
    place = rank(Fingerprints().distances(generate(pipeline, prompts, [0] * len(prompts))), torch.tensor(wanted))
    return float((place == 0).float().mean())


def test_the_list_is_long_and_names_each_thing_once() -> None:
    assert len(CONCEPTS) >= 492
    assert len({concept.name for concept in CONCEPTS}) == len({concept.code for concept in CONCEPTS}) == len(CONCEPTS)


@needs_pipeline
def test_the_folder_is_a_plain_pipeline_of_at_most_30_mb_without_training_data() -> None:
    files = [path for path in PIPELINE.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 30e6
    assert {path.suffix for path in files} <= {".json", ".safetensors", ".txt", ".md", ".png"}
    assert {path.name for path in files if path.suffix == ".png"} == {"samples.png", "worst.png"}
    assert not list(PIPELINE.parent.rglob("*.webp"))


@needs_pipeline
def test_no_file_tells_where_it_was_made() -> None:
    for path in PIPELINE.rglob("*.json"):
        text = path.read_text()
        assert "name_or_path" not in text, path
        assert str(Path.home()) not in text, path


@needs_pipeline
def test_the_card_says_what_the_evaluation_measured() -> None:
    figures = json.loads((PIPELINE / "evaluation.json").read_text())
    assert figures["concepts"] == len(CONCEPTS)
    assert figures["seeds"] == 4
    assert figures["top1"] >= 0.9
    assert figures["top5"] >= 0.97
    assert table(figures) in (PIPELINE / "README.md").read_text()


def test_no_phrase_of_the_evaluation_is_a_template_of_training() -> None:
    starts = {template.partition("{x}")[0].strip() for template in SHORT + REQUESTS + SCENES} - {""}
    for phrase in PHRASES:
        assert not any(phrase.lower().startswith(start) for start in starts), phrase


@needs_pipeline
@pytest.mark.slow
def test_forty_things_drawn_by_seeded_lot_show_what_was_said(pipeline: StableDiffusionPipeline) -> None:
    wanted = random.Random(0).sample(range(len(CONCEPTS)), 40)
    assert share_shown(pipeline, wanted, [PHRASES[0].format(CONCEPTS[i].name) for i in wanted]) >= 0.85


@needs_pipeline
@pytest.mark.slow
def test_the_words_decide_not_the_noise(pipeline: StableDiffusionPipeline) -> None:
    wanted = random.Random(0).sample(range(len(CONCEPTS)), 40)
    assert share_shown(pipeline, wanted, [""] * 40) <= 0.1


@needs_pipeline
@pytest.mark.slow
def test_a_sentence_around_the_noun_gives_the_noun(pipeline: StableDiffusionPipeline) -> None:
    said = {
        "A small orange cat sitting on a sofa.": "cat",
        "Please draw a rocket flying to the moon.": "rocket",
        "Draw me a red apple, please.": "apple",
        "Two dogs playing in the park.": "dog",
        "I'd like to see a big yellow sunflower in the garden.": "sunflower",
        "A penguin eating an ice cream.": "penguin",
    }
    names = [concept.name for concept in CONCEPTS]
    assert share_shown(pipeline, [names.index(name) for name in said.values()], list(said)) >= 5 / 6


@needs_pipeline
@pytest.mark.parametrize("prompt", ["quixotic zymurgy", "日本", "", "word " * 200])
def test_unknown_words_give_some_picture(pipeline: StableDiffusionPipeline, prompt: str) -> None:
    picture = generate(pipeline, [prompt], [0])
    assert picture.shape == (1, 3, 64, 64)
    assert bool(picture.isfinite().all())


@needs_pipeline
def test_an_unknown_word_becomes_known_pieces(pipeline: StableDiffusionPipeline) -> None:
    tokenizer = pipeline.tokenizer
    assert tokenizer.tokenize("Apple") == ["apple</w>"]
    assert tokenizer.unk_token_id not in tokenizer("quixotic zymurgy 日本").input_ids[1:-1]
