"""A CLIP tokenizer with a small vocabulary, and an untrained CLIP text encoder that fits it."""

import json
import subprocess
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

VOCABULARY = 4096
LONGEST = 32
"""Tokens of a prompt, with the two at its ends; a longer prompt is truncated."""
WORDS_PACKAGE = "wamerican-small"


def english_words(cache: Path) -> list[str]:
    """Debian's small list of American English words, by which the tokenizer splits unknown words into common parts."""
    words = cache / "usr" / "share" / "dict" / "american-english-small"
    if not words.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        subprocess.run(["apt-get", "download", WORDS_PACKAGE], cwd=cache, check=True)
        subprocess.run(["dpkg", "-x", str(next(cache.glob(f"{WORDS_PACKAGE}*.deb"))), str(cache)], check=True)
    return [word.lower() for word in words.read_text().split() if word.isalpha()]


def new_tokenizer(captions: Iterable[str], words: list[str], folder: Path) -> CLIPTokenizer:
    """Learn the merges on text split as by CLIP, write `folder`, and load it as a pipeline does."""
    blank = CLIPTokenizer()
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>", continuing_subword_prefix=""))
    learner.normalizer = blank.backend_tokenizer.normalizer
    learner.pre_tokenizer = blank.backend_tokenizer.pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - 2,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    learner.train_from_iterator([*captions, *words * 4], trainer)
    model = json.loads(learner.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    missing = [letter + "</w>" for letter in sorted(pre_tokenizers.ByteLevel.alphabet()) if letter + "</w>" not in model["vocab"]]
    tokens = tokens[: VOCABULARY - 2 - len(missing)] + missing
    vocabulary = {token: i for i, token in enumerate([*tokens, "<|startoftext|>", "<|endoftext|>"])}
    merges = [(left, right) for left, right in model["merges"] if left + right in vocabulary]
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=LONGEST)
    tokenizer.save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{left} {right}\n" for left, right in merges))
    return CLIPTokenizer.from_pretrained(folder)


def new_text_encoder(tokenizer: CLIPTokenizer, width: int) -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=VOCABULARY,
            hidden_size=width,
            intermediate_size=4 * width,
            projection_dim=width,
            num_hidden_layers=2,
            num_attention_heads=width // 32,
            max_position_embeddings=LONGEST,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
