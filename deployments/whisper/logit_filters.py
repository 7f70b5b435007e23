"""Which token is next, for many rows at once: openai-whisper's rules at its defaults (`whisper.decoding` of 20250625)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
import whisper
from torch import Tensor
from whisper.audio import CHUNK_LENGTH
from whisper.tokenizer import Tokenizer, get_tokenizer

MOST_INITIAL_S = 1.0
"""The first words begin no later in a window."""
NEVER = -float("inf")


def suppressed(tokenizer: Tokenizer) -> tuple[int, ...]:
    """What is never said: signs for other sounds than words, and what only the caller may say."""
    special = (
        tokenizer.transcribe,
        tokenizer.translate,
        tokenizer.sot,
        tokenizer.sot_prev,
        tokenizer.sot_lm,
        tokenizer.no_speech,
    )
    return (*tokenizer.non_speech_tokens, *special)


def not_first(tokenizer: Tokenizer) -> tuple[int, ...]:
    """What no text begins with."""
    return (*tokenizer.encode(" "), tokenizer.eot)


class Rules:
    """A model's: they are the same for every language and task."""

    def __init__(self, model: whisper.Whisper) -> None:
        tokenizer = get_tokenizer(model.is_multilingual, num_languages=model.num_languages, language="en", task="transcribe")
        self._never = torch.tensor([*suppressed(tokenizer), tokenizer.no_timestamps], device=model.device)
        self._not_first = torch.tensor(not_first(tokenizer), device=model.device)
        self._first = tokenizer.timestamp_begin
        self._last_initial = self._first + round(MOST_INITIAL_S / (CHUNK_LENGTH / model.dims.n_audio_ctx))
        self.eot = tokenizer.eot
        self.no_speech = tokenizer.no_speech

    def apply(self, logits: Tensor, said: Sequence[Sequence[int]]) -> None:
        """Puts what may not follow on `said` out of the question, in place. `logits`: float32 [rows, vocabulary]."""
        logits[:, self._never] = NEVER
        for row, tokens in zip(logits, said, strict=True):
            self._keep_order(row, tokens)
        # If it is likelier that time passes than any one word, it does.
        passes = logits[:, self._first :].logsumexp(dim=-1) > logits[:, : self._first].max(dim=-1).values
        for row, must in zip(logits, passes.tolist(), strict=True):
            if must:
                row[: self._first] = NEVER

    def _keep_order(self, logits: Tensor, said: Sequence[int]) -> None:
        """Timestamps come in pairs, but at the beginning and the end, and never go back."""
        if not said:
            logits[self._not_first] = NEVER
            logits[: self._first] = NEVER
            logits[self._last_initial + 1 :] = NEVER
            return
        last, before = said[-1] >= self._first, len(said) < 2 or said[-2] >= self._first
        if last and before:
            logits[self._first :] = NEVER
        elif last:
            logits[: self.eot] = NEVER
        times = [token for token in said if token >= self._first]
        if times:
            logits[self._first : times[-1] + (0 if last and not before else 1)] = NEVER


def draw(logits: Tensor, temperature: float, lots: torch.Generator) -> int:
    """Of [vocabulary], by lot, as `torch.distributions.Categorical` does. Raises RuntimeError where nothing is possible."""
    warm = logits / temperature
    chances = F.softmax(warm - warm.logsumexp(dim=-1, keepdim=True), dim=-1)
    return int(torch.multinomial(chances[None], 1, True, generator=lots))
