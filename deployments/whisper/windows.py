"""Whisper's walk over a recording, window by window: the loop of `whisper.transcribe` (openai-whisper 20250625) taken apart.

A caller sees each window's segments as they are decoded, and for the same input gets the same ones as from that function
at its defaults.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import whisper
from whisper.audio import HOP_LENGTH, N_FRAMES, N_SAMPLES, SAMPLE_RATE, pad_or_trim
from whisper.decoding import DecodingOptions, DecodingResult
from whisper.tokenizer import Tokenizer, get_tokenizer

TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
"""Tried in turn while a window's text is too repetitive or too improbable."""
COMPRESSION_RATIO = 2.4
"""Text that gzip shrinks more than this is too repetitive."""


@dataclass(frozen=True)
class Segment:
    start_s: float
    end_s: float
    text: str
    avg_logprob: float
    """Mean natural logarithm of the tokens' probabilities."""
    no_speech_prob: float


@dataclass
class Walk:
    """One recording on its way: where the next window starts, and what was said so far."""

    mel: torch.Tensor
    """[mels, frames]; 30 s longer than the recording."""
    options: dict[str, Any]
    """For `whisper.DecodingOptions`: language, task, fp16."""
    tokenizer: Tokenizer
    frame: int = 0
    tokens: list[int] = field(default_factory=list)
    prompt_from: int = 0
    """What was said before this token is no prompt for the next window."""
    prompted: int = 0
    """Tokens at the beginning that are the caller's prompt, and were not said."""
    temperatures: tuple[float, ...] = TEMPERATURES

    @property
    def frames(self) -> int:
        return int(self.mel.shape[-1] - N_FRAMES)

    @property
    def text(self) -> str:
        return str(self.tokenizer.decode(self.tokens[self.prompted :]))


def begin(
    model: whisper.Whisper, audio: torch.Tensor, language: str, task: str, fp16: bool, prompt: str = "", temperature: float = 0.0
) -> Walk:
    """`audio`: float32 [samples] in [-1, 1], mono 16 kHz. `language`: a code; empty to detect it in the first window.

    `prompt`: what is taken to have been said before. `temperature`: the only one that is tried; 0 tries TEMPERATURES.
    """
    mel = whisper.log_mel_spectrogram(audio, model.dims.n_mels, padding=N_SAMPLES)
    if not language:
        first = pad_or_trim(mel, N_FRAMES).to(model.device).to(torch.float16 if fp16 else torch.float32)
        _, chances = model.detect_language(first)
        language = max(chances, key=chances.get)
    tokenizer = get_tokenizer(model.is_multilingual, num_languages=model.num_languages, language=language, task=task)
    # A client's text may spell a special token; it is text all the same.
    tokens = tokenizer.encode(f" {prompt.strip()}", disallowed_special=()) if prompt.strip() else []
    path = Walk(mel, {"language": language, "task": task, "fp16": fp16}, tokenizer, tokens=tokens, prompted=len(tokens))
    if temperature > 0:
        path.temperatures = (temperature,)
    return path


def walk(model: whisper.Whisper, path: Walk, no_speech_threshold: float, logprob_threshold: float) -> Iterator[list[Segment]]:
    """Each window's segments."""
    while path.frame < path.frames:
        size = min(N_FRAMES, path.frames - path.frame)
        mel = path.mel[:, path.frame : path.frame + size]
        mel = pad_or_trim(mel, N_FRAMES).to(model.device).to(torch.float16 if path.options["fp16"] else torch.float32)
        result = _decode(model, mel, path, no_speech_threshold, logprob_threshold)
        if result.no_speech_prob > no_speech_threshold and not result.avg_logprob > logprob_threshold:
            path.frame += size  # silence
            yield []
        else:
            yield _take(model, path, result, size)


def _decode(
    model: whisper.Whisper, mel: torch.Tensor, path: Walk, no_speech_threshold: float, logprob_threshold: float
) -> DecodingResult:
    result: DecodingResult
    for temperature in path.temperatures:
        options = DecodingOptions(**path.options, temperature=temperature, prompt=path.tokens[path.prompt_from :])
        result = model.decode(mel, options)
        improbable = result.avg_logprob < logprob_threshold
        silent = result.no_speech_prob > no_speech_threshold and improbable
        if silent or not (improbable or result.compression_ratio > COMPRESSION_RATIO):
            break
    return result


def _take(model: whisper.Whisper, path: Walk, result: DecodingResult, size: int) -> list[Segment]:
    """The window's segments by its timestamp tokens; the next window starts where the last whole segment ends."""
    tokens, first_timestamp = result.tokens, path.tokenizer.timestamp_begin
    frames_each = N_FRAMES // model.dims.n_audio_ctx
    token_s = frames_each * HOP_LENGTH / SAMPLE_RATE
    offset_s = path.frame * HOP_LENGTH / SAMPLE_RATE
    is_timestamp = [token >= first_timestamp for token in tokens]
    ends = [i for i in range(1, len(tokens)) if is_timestamp[i - 1] and is_timestamp[i]]
    ends_with_one = is_timestamp[-2:] == [False, True]
    spans: list[tuple[float, float, list[int]]] = []
    if ends:
        if ends_with_one:
            ends.append(len(tokens))
        for start, end in zip([0, *ends[:-1]], ends, strict=True):
            part = tokens[start:end]
            times = [offset_s + (part[i] - first_timestamp) * token_s for i in (0, -1)]
            spans.append((times[0], times[1], part))
        path.frame += size if ends_with_one else (tokens[ends[-1] - 1] - first_timestamp) * frames_each
    else:
        length_s = size * HOP_LENGTH / SAMPLE_RATE
        timestamps = [token for token in tokens if token >= first_timestamp]
        if timestamps and timestamps[-1] != first_timestamp:
            length_s = (timestamps[-1] - first_timestamp) * token_s
        spans.append((offset_s, offset_s + length_s, tokens))
        path.frame += size
    segments = []
    for start_s, end_s, part in spans:
        text = path.tokenizer.decode([token for token in part if token < path.tokenizer.eot])
        if start_s == end_s or not text.strip():
            text, part = "", []
        path.tokens += part
        segments.append(Segment(start_s, end_s, text.strip(), result.avg_logprob, result.no_speech_prob))
    if result.temperature > 0.5:
        path.prompt_from = len(path.tokens)
    return segments
