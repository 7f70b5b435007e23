"""Whisper without the padding to 30 s: a short window is encoded at its own length, or at 15 s. Measured by `benchmarks.padding`.

The model was trained on 30 s alone. On less it may repeat itself or be unsure; that result is dropped, and the window is decoded
again, padded. Now and then it mishears a word without either sign. The idea is whisper.cpp's `audio_ctx`.
"""

from collections.abc import Sequence

from whisper.audio import FRAMES_PER_SECOND, N_FRAMES

MIN_FRAMES = 15 * FRAMES_PER_SECOND
"""Of 101 recordings the model was unsure, or repeated itself, in 11 with 10 s, and in 4 with 15 s."""
MARGIN_FRAMES = FRAMES_PER_SECOND
"""Silence after the speech, without which the last word is cut."""
MIN_REMAINDER_FRAMES = FRAMES_PER_SECOND // 10
"""A shorter remainder after the last timestamp holds no word; the model would make one up. whisper.cpp drops it as well."""
BASE_TOKENS, TOKENS_PER_SECOND = 24, 8
"""More than the fastest speech; timestamps count too."""
MIN_REPEATS, MAX_REPEATED_TOKENS = 3, 12
"""The same tokens so many times in a row, up to so many of them, count as a repetition."""


def is_repeating(tokens: Sequence[int]) -> bool:
    """Whether the tokens end with the same ones several times in a row."""
    return any(
        len(tokens) >= MIN_REPEATS * size
        and all(tokens[-size:] == tokens[-size * n : -size * (n - 1)] for n in range(2, MIN_REPEATS + 1))
        for size in range(1, MAX_REPEATED_TOKENS + 1)
    )


def padded_frames(frames: int) -> int:
    """Frames of mel for the encoder, of a window of so many."""
    return int(min(N_FRAMES, max(MIN_FRAMES, frames + MARGIN_FRAMES)))


def max_tokens(frames: int) -> int:
    """Most tokens of a window of so many frames of mel."""
    return BASE_TOKENS + TOKENS_PER_SECOND * frames // int(FRAMES_PER_SECOND)
