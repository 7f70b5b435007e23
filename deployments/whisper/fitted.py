"""Whisper without the padding to 30 s: what is short is encoded as long as it is, or as 15 s. What it costs and gives: benchmarks.hearing.

The model was trained on 30 s alone. On less it may repeat itself, or doubt; then there is no result, and the window is to be decoded
padded. Now and then it mishears a word without either. The idea is whisper.cpp's `audio_ctx`.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
import whisper
from torch import Tensor
from whisper.audio import FRAMES_PER_SECOND, N_FRAMES, pad_or_trim
from whisper.decoding import DecodingOptions, DecodingResult, DecodingTask, LogitFilter
from whisper.model import AudioEncoder

LEAST_FRAMES = 15 * FRAMES_PER_SECOND
"""Of 101 recordings the model doubted, or repeated itself, in 11 with 10 s, and in 4 with 15 s."""
MARGIN_FRAMES = FRAMES_PER_SECOND
"""Silence after what is spoken, without which the last word is cut."""
TOKENS, TOKENS_A_SECOND = 24, 8
"""More than anybody says; timestamps count too."""
COMPRESSION_RATIO = 2.4
"""Text that gzip shrinks more than this is too repetitive."""
REPEATS, LONGEST = 3, 12
"""So many times the same tokens in a row, up to so many of them, are a model that repeats itself."""


class AnyLength(AudioEncoder):  # type: ignore[misc]
    """openai-whisper's encoder for any number of frames up to 30 s: [batch, mels, frames] -> [batch, frames / 2, state]."""

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.conv1(x))
        x = F.gelu(self.conv2(x)).permute(0, 2, 1)
        x = (x + self.positional_embedding[: x.shape[1]]).to(x.dtype)
        for block in self.blocks:
            x = block(x)
        encoded: Tensor = self.ln_post(x)
        return encoded


class Repeats(Exception):
    """The model says the same again and again."""


class NoRepeats(LogitFilter):  # type: ignore[misc]
    def __init__(self, begin: int) -> None:
        self._begin = begin

    def apply(self, logits: Tensor, tokens: Tensor) -> None:
        if repeats(tokens[0, self._begin :].tolist()):
            raise Repeats


class Task(DecodingTask):  # type: ignore[misc]
    """openai-whisper's decoding, which gives up as soon as the model repeats itself."""

    def __init__(self, model: whisper.Whisper, options: DecodingOptions) -> None:
        super().__init__(model, options)
        self.logit_filters.append(NoRepeats(self.sample_begin))


def repeats(tokens: Sequence[int]) -> bool:
    """Whether they end with the same ones several times in a row."""
    return any(
        len(tokens) >= REPEATS * size
        and all(tokens[-size:] == tokens[-size * n : -size * (n - 1)] for n in range(2, REPEATS + 1))
        for size in range(1, LONGEST + 1)
    )


def frames(spoken: int) -> int:
    """How many the encoder is given for so many frames of mel."""
    return int(min(N_FRAMES, max(LEAST_FRAMES, spoken + MARGIN_FRAMES)))


@torch.no_grad()
def decode(model: whisper.Whisper, mel: Tensor, options: DecodingOptions) -> DecodingResult | None:
    """`mel`: [mels, frames] of what is spoken. None where that is as long as Whisper's window, or the model repeats itself."""
    spoken = mel.shape[-1]
    if frames(spoken) == N_FRAMES:
        return None
    cap = TOKENS + TOKENS_A_SECOND * spoken // FRAMES_PER_SECOND
    task = Task(model, DecodingOptions(**{**vars(options), "sample_len": cap}))
    try:
        (result,) = task.run(pad_or_trim(mel, frames(spoken))[None])
    except Repeats:
        return None
    return result if len(result.tokens) < cap else None
