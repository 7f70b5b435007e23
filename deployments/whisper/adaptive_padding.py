"""Whisper without the padding to 30 s: what is short is encoded as long as it is, or as 15 s. What it costs and gives: benchmarks.hearing.

The model was trained on 30 s alone. On less it may repeat itself, or doubt; then there is no result, and the window is to be decoded
padded. Now and then it mishears a word without either. The idea is whisper.cpp's `audio_ctx`.
"""

from collections.abc import Sequence

from whisper.audio import FRAMES_PER_SECOND, N_FRAMES

LEAST_FRAMES = 15 * FRAMES_PER_SECOND
"""Of 101 recordings the model doubted, or repeated itself, in 11 with 10 s, and in 4 with 15 s."""
MARGIN_FRAMES = FRAMES_PER_SECOND
"""Silence after what is spoken, without which the last word is cut."""
LEFT_FRAMES = FRAMES_PER_SECOND // 10
"""What is left after the last timestamp holds no word if it is shorter; the model would make one up. So does whisper.cpp."""
TOKENS, TOKENS_A_SECOND = 24, 8
"""More than anybody says; timestamps count too."""
REPEATS, LONGEST = 3, 12
"""So many times the same tokens in a row, up to so many of them, are a model that repeats itself."""


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


def cap(spoken: int) -> int:
    """How many tokens so many frames of mel may become."""
    return TOKENS + TOKENS_A_SECOND * spoken // int(FRAMES_PER_SECOND)
