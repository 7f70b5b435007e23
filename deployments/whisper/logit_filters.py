"""The next token of many rows at once: openai-whisper's logit filters at its defaults (`whisper.decoding` of 20250625), and sampling."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
import whisper
from torch import Tensor
from whisper.audio import CHUNK_LENGTH
from whisper.tokenizer import Tokenizer, get_tokenizer

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


class LogitFilters:
    """A model's filters, which are the same for every language and task."""

    def __init__(self, model: whisper.Whisper) -> None:
        tokenizer = get_tokenizer(model.is_multilingual, num_languages=model.num_languages, language="en", task="transcribe")
        self._suppressed = torch.tensor([*suppressed_tokens(tokenizer), tokenizer.no_timestamps], device=model.device)
        self._blank = torch.tensor(blank_tokens(tokenizer), device=model.device)
        self._timestamp_begin = tokenizer.timestamp_begin
        max_initial = round(MAX_INITIAL_TIMESTAMP_S / (CHUNK_LENGTH / model.dims.n_audio_ctx))
        self._last_initial = self._timestamp_begin + max_initial
        self.eot = tokenizer.eot
        self.no_speech = tokenizer.no_speech

    def apply(self, logits: Tensor, tokens: Sequence[Sequence[int]]) -> None:
        """Set the logits of tokens that may not follow a row's `tokens` to -inf, in place. `logits`: float32 [rows, vocabulary]."""
        logits[:, self._suppressed] = NEG_INF
        for row, before in zip(logits, tokens, strict=True):
            self._order_timestamps(row, before)
        # A timestamp follows where all of them together are likelier than any one other token.
        timestamp_likelier = (
            logits[:, self._timestamp_begin :].logsumexp(dim=-1) > logits[:, : self._timestamp_begin].max(dim=-1).values
        )
        for row, likelier in zip(logits, timestamp_likelier.tolist(), strict=True):
            if likelier:
                row[: self._timestamp_begin] = NEG_INF

    def _order_timestamps(self, logits: Tensor, tokens: Sequence[int]) -> None:
        """Timestamps come in pairs, but at the beginning and the end, and never go back."""
        begin = self._timestamp_begin
        if not tokens:
            logits[self._blank] = NEG_INF
            logits[:begin] = NEG_INF
            logits[self._last_initial + 1 :] = NEG_INF
            return
        last, before_last = tokens[-1] >= begin, len(tokens) < 2 or tokens[-2] >= begin
        if last and before_last:
            logits[begin:] = NEG_INF
        elif last:
            logits[: self.eot] = NEG_INF
        timestamps = [token for token in tokens if token >= begin]
        if timestamps:
            logits[begin : timestamps[-1] + (0 if last and not before_last else 1)] = NEG_INF


def sample(logits: Tensor, temperature: float, generator: torch.Generator) -> int:
    """A token of [vocabulary], drawn as `torch.distributions.Categorical` does. Raises RuntimeError where no token is possible."""
    scaled = logits / temperature
    probs = F.softmax(scaled - scaled.logsumexp(dim=-1, keepdim=True), dim=-1)
    return int(torch.multinomial(probs[None], 1, True, generator=generator))
