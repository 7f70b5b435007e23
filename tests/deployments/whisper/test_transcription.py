"""The loop over a recording's windows, by a stand-in for the model: the text of the segments in languages with and without spaces."""

from collections.abc import Generator
from itertools import pairwise
from typing import Any

import pytest
import torch
from whisper.tokenizer import Tokenizer, get_tokenizer

from deployments.roles.speech_to_text import Segment, text_of
from deployments.whisper.chunked import ChunkedGroup
from deployments.whisper.sequence import run_step
from deployments.whisper.transcription import (
    DecodingResult,
    ModelDims,
    Thresholds,
    WindowRequest,
    decode_windows,
    initial_state,
)

pytestmark = pytest.mark.torch

DIMS = ModelDims(mels=80, multilingual=True, languages=99)
THRESHOLDS = Thresholds(no_speech=0.6, logprob=-1.0)
SPANS = [(0, 3000), (3000, 6000)]
AUDIO = torch.zeros(SPANS[-1][1] * 160)
"""A minute: two windows."""
WINDOWS = {
    "ja": (("こんにちは。", "元気ですか。"), ("はい、", "元気です。")),
    "zh": (("你好，",), ("世界。", " ")),
    "th": (("สวัสดี", "ชาวโลก"), ("ลาก่อน",)),
    "de": ((" Guten Tag.", " Wie geht's?"), (" ", " Gut, danke.")),
}
"""By language, the segments of each window; one of a space is empty."""
LANGUAGES = pytest.mark.parametrize("language", WINDOWS)


def result(tokenizer: Tokenizer, texts: tuple[str, ...]) -> DecodingResult:
    """A window of 30 s in segments of equal length, each between two timestamps."""
    marks = [tokenizer.timestamp_begin + 1500 * number // len(texts) for number in range(len(texts) + 1)]
    parts = [(begin, *tokenizer.encode(text), end) for (begin, end), text in zip(pairwise(marks), texts, strict=True)]
    return DecodingResult([token for part in parts for token in part], -0.25, 0.0, 0.0)


def texts(language: str) -> list[str]:
    """Of the segments."""
    return [text if text.strip() else "" for window in WINDOWS[language] for text in window]


def transcribed(language: str, prompt: str) -> list[Segment]:
    """The segments of a recording whose windows the stand-in decodes one after the other."""
    tokenizer = get_tokenizer(True, num_languages=99, language=language)
    state = returned(initial_state(DIMS, AUDIO, language, "transcribe", prompt))
    emitted: list[Segment] = []
    requests = decode_windows(DIMS, state, THRESHOLDS, emitted.extend)
    next(requests)
    *windows, last = WINDOWS[language]
    for window in windows:
        requests.send(result(tokenizer, window))
    with pytest.raises(StopIteration):
        requests.send(result(tokenizer, last))
    return emitted


def returned(generator: Generator[WindowRequest, Any, Any]) -> Any:
    """Result of a generator that makes no request."""
    with pytest.raises(StopIteration) as end:
        next(generator)
    return end.value.value


@LANGUAGES
@pytest.mark.parametrize("prompt", ["", "りんご apple"])
def test_the_segments_are_the_text_with_the_spaces_of_its_language(language: str, prompt: str) -> None:
    segments = transcribed(language, prompt)
    assert [segment.text for segment in segments] == texts(language)
    assert text_of(segments) == "".join(texts(language)).strip()


@LANGUAGES
def test_so_are_those_of_a_recording_in_chunks(language: str) -> None:
    tokenizer, (first, second) = get_tokenizer(True, num_languages=99, language=language), WINDOWS[language]
    emitted: list[Segment] = []
    group = ChunkedGroup(
        SPANS,
        initial_state(DIMS, AUDIO, language, "transcribe", "りんご apple"),
        lambda state, emit: decode_windows(DIMS, state, THRESHOLDS, emit),
        "cpu",
        emitted.append,
        lambda: None,
        lambda group: None,
    )
    one, other = group.sequences
    run_step([one, other], lambda: other.resume(result(tokenizer, second)))
    assert emitted == [], "the first chunk's come first"
    run_step([one], lambda: one.resume(result(tokenizer, first)))
    assert group.transcript is not None
    assert tuple(emitted) == group.transcript.segments
    assert group.transcript.text == text_of(emitted) == "".join(texts(language)).strip()
