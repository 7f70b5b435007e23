"""The next token of many rows at once: openai-whisper's logit filters at its defaults (`whisper.decoding` of 20250625), and sampling.

What may follow depends on a row's tokens, which the host knows; what follows depends on the logits, which the GPU has. So the host
sends four numbers for each row, and no filter waits for the GPU.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import whisper
from torch import Tensor
from whisper.audio import CHUNK_LENGTH
from whisper.tokenizer import Tokenizer, get_tokenizer

from deployments.torch_runtime import upload

MAX_INITIAL_TIMESTAMP_S = 1.0
"""Latest beginning of the first words in a window."""
NEG_INF = -float("inf")


def suppressed_tokens(tokenizer: Tokenizer) -> tuple[int, ...]:
    """Tokens that never follow: signs for sounds other than words, and control tokens of the caller's."""
    control = (
        tokenizer.transcribe,
        tokenizer.translate,
        tokenizer.sot,
        tokenizer.sot_prev,
        tokenizer.sot_lm,
        tokenizer.no_speech,
    )
    return (*tokenizer.non_speech_tokens, *control)


def blank_tokens(tokenizer: Tokenizer) -> tuple[int, ...]:
    """Tokens that no text begins with."""
    return (*tokenizer.encode(" "), tokenizer.eot)


class Allowed(NamedTuple):
    """Tokens that may follow a row's tokens, beside those that never do."""

    words: bool
    control: bool
    """The end of the text, and the other tokens between the words and the timestamps."""
    first: int
    end: int
    """Timestamps from `first` up to `end`, as tokens."""


class Sampler:
    """Draws tokens of one row as `torch.distributions.Categorical` does, without waiting for the GPU."""

    def __init__(self, temperature: float, generator: torch.Generator) -> None:
        self._temperature = temperature
        self._generator = generator

    def __call__(self, logits: Tensor) -> Tensor:
        """A token of [vocabulary]. This is how `torch.multinomial` draws one, less its check of the probabilities, which waits."""
        scaled = logits / self._temperature
        probs = (scaled - scaled.logsumexp(dim=-1)).softmax(dim=-1)
        return (probs / torch.empty_like(probs).exponential_(1, generator=self._generator)).argmax()


@dataclass
class _Best:
    """The best token of each row in a part of the vocabulary, [rows]."""

    token: Tensor
    logit: Tensor
    total: Tensor
    """Logarithm of the sum of the exponentials of the part's logits."""

    @classmethod
    def of(cls, logits: Tensor, allowed: Tensor | None = None) -> "_Best":
        """`allowed`: [rows], 0 where the part may not follow."""
        logit, token = logits.max(dim=-1)
        total = logits.logsumexp(dim=-1)
        if allowed is not None:
            logit, total = (one.masked_fill(allowed == 0, NEG_INF) for one in (logit, total))
        return cls(token, logit, total)

    def or_better(self, other: "_Best") -> "_Best":
        """The better of the two, of equal ones this; `total` is this one's."""
        better = other.logit > self.logit
        return _Best(torch.where(better, other.token, self.token), torch.where(better, other.logit, self.logit), self.total)


class LogitFilters:
    """A model's filters, which are the same for every language and task."""

    def __init__(self, model: whisper.Whisper) -> None:
        tokenizer = get_tokenizer(model.is_multilingual, num_languages=model.num_languages, language="en", task="transcribe")
        self._suppressed = upload([*suppressed_tokens(tokenizer), tokenizer.no_timestamps], model.device)
        self._begin = tokenizer.timestamp_begin
        self._end = model.dims.n_vocab
        self._timestamps = torch.arange(self._begin, self._end, device=model.device)
        max_initial = round(MAX_INITIAL_TIMESTAMP_S / (CHUNK_LENGTH / model.dims.n_audio_ctx))
        self._last_initial = self._begin + max_initial
        self.eot = tokenizer.eot
        self.no_speech = tokenizer.no_speech

    def allowed(self, tokens: Sequence[int]) -> Allowed:
        """Tokens that may follow these: timestamps come in pairs, but at the beginning and the end, and never go back."""
        begin = self._begin
        if not tokens:
            return Allowed(words=False, control=False, first=begin, end=self._last_initial + 1)
        last, before_last = tokens[-1] >= begin, len(tokens) < 2 or tokens[-2] >= begin
        latest = next((token for token in reversed(tokens) if token >= begin), None)
        first = begin if latest is None else latest + (0 if last and not before_last else 1)
        if last and before_last:
            return Allowed(words=True, control=True, first=begin, end=begin)
        return Allowed(words=not last, control=True, first=first, end=self._end)

    def pick(self, logits: Tensor, allowed: Sequence[Allowed], samplers: Sequence[Sampler | None]) -> tuple[Tensor, Tensor]:
        """The next token of each row, [rows], and its log probability; NaN where no token is possible.

        `logits`: float32 [rows, vocabulary], changed. The likeliest token, or the sampler's choice. Where all timestamps together are
        likelier than any one other token, one of them follows.
        """
        logits.index_fill_(1, self._suppressed, NEG_INF)
        words_ok, control_ok, first, end = upload([[int(one) for one in row] for row in allowed], logits.device).T
        words, control, timestamps = torch.split(logits, [self.eot, self._begin - self.eot, self._end - self._begin], dim=-1)
        banned = (self._timestamps < first[:, None]) | (self._timestamps >= end[:, None])
        timestamps.masked_fill_(banned, NEG_INF)
        parts = [_Best.of(words, words_ok), _Best.of(control, control_ok), _Best.of(timestamps)]
        word, sign, time = parts
        sign.token += self.eot
        time.token += self._begin
        text = word.or_better(sign)
        time_follows = time.total > text.logit
        best = text.or_better(time)
        tokens = torch.where(time_follows, time.token, best.token)
        chosen = torch.where(time_follows, time.logit, best.logit)
        total = torch.where(time_follows, time.total, torch.stack([part.total for part in parts]).logsumexp(dim=0))
        for row, sampler in enumerate(samplers):
            if sampler is not None:
                masked = self._masked(logits[row], allowed[row], time_follows[row])
                tokens[row] = sampler(masked)
                chosen[row] = masked.gather(0, tokens[row : row + 1])[0]
        return tokens, chosen - total

    def _masked(self, logits: Tensor, allowed: Allowed, time_follows: Tensor) -> Tensor:
        """A copy of a row's logits, with -inf for each token that may not follow."""
        masked = logits.clone()
        if not allowed.words:
            masked[: self.eot] = NEG_INF
        if not allowed.control:
            masked[self.eot : self._begin] = NEG_INF
        masked[: self._begin].masked_fill_(time_follows, NEG_INF)
        return masked
