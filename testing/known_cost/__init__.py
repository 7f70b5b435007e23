"""Models of known cost in the real stack: each sleeps in its Triton stub instead of computing, and its answer follows from the request.

So an answer that belongs to another request, or that was changed on its way, is found. Loads neither Ray nor torch.
"""

import random
import zlib

import numpy as np
from numpy.typing import NDArray

from deployments.roles.speech_to_text import SAMPLE_RATE_HZ, Segment

SEGMENT_S = 0.004
"""Time that each of a recording's segments takes."""
STEP_S = 0.002
"""Time of a denoising step."""
SIDE_PX = 64
"""Side of a picture whose size is not requested."""
PNG_BYTES = 20_000
DIGITS = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "alpha",
    "bravo",
    "charlie",
    "delta",
    "echo",
    "foxtrot",
]


def segments(audio: NDArray[np.int16]) -> tuple[Segment, ...]:
    """The transcript of a recording, int16 [samples] at 16 kHz: two segments of five words, whose digits are the samples' checksum."""
    middle_s, end_s = audio.size / SAMPLE_RATE_HZ / 2, audio.size / SAMPLE_RATE_HZ
    digits = [DIGITS[int(digit, 16)] for digit in f"{zlib.crc32(audio.tobytes()):08x}"]
    first, second = " ".join(["sound", "number", *digits[:3]]), " ".join(["", *digits[3:]])
    return Segment(0.0, middle_s, first, -0.25, 0.125), Segment(middle_s, end_s, second, -0.25, 0.125)


def text(audio: NDArray[np.int16]) -> str:
    return "".join(segment.text for segment in segments(audio))


def picture(prompt: str, seed: int) -> bytes:
    """The image of this prompt and seed: a PNG's signature, and bytes that no other prompt or seed has."""
    return b"\x89PNG\r\n\x1a\n" + random.Random(f"{seed} {prompt}").randbytes(PNG_BYTES)
