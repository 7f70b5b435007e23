"""Whisper's walk over a recording, window by window: the loop of `whisper.transcribe` (openai-whisper 20250625) taken apart.

It asks for one window at a time to be heard, and is told what was; who answers may hear the windows of many recordings together.
For the same input it gives the same segments as that function at its defaults.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any

import torch
import whisper
from torch import Tensor
from whisper.audio import HOP_LENGTH, N_FRAMES, SAMPLE_RATE, pad_or_trim
from whisper.tokenizer import Tokenizer, get_tokenizer
from whisper.utils import compression_ratio

from deployments.whisper import adaptive_padding

TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
"""Tried in turn while a window's text is too repetitive or too improbable."""
SILENCE = SAMPLE_RATE // 10
"""Samples of silence behind a recording for its last frames; openai-whisper puts 30 s there."""
COMPRESSION_RATIO = 2.4
"""Text that gzip shrinks more than this is too repetitive."""


@dataclass(frozen=True)
class Traits:
    """What the walk has to know of a model, whoever computes it."""

    mels: int
    multilingual: bool
    languages: int
    positions: int = 1500
    """What the encoder makes of 30 s."""
    context: int = 448
    """Tokens that the decoder attends to."""

    @classmethod
    def of(cls, model: whisper.Whisper) -> "Traits":
        dims = model.dims
        return cls(dims.n_mels, model.is_multilingual, model.num_languages, dims.n_audio_ctx, dims.n_text_ctx)


@dataclass(frozen=True)
class Segment:
    start_s: float
    end_s: float
    text: str
    avg_logprob: float
    """Mean natural logarithm of the tokens' probabilities."""
    no_speech_prob: float


@dataclass(eq=False)
class Window:
    """What the encoder is given: [mels, frames]; once it has been, what came of it."""

    mel: Tensor
    sound: Any = None


@dataclass(frozen=True)
class Language:
    """Asks in which language a window is spoken; the answer is a code."""

    window: Window


@dataclass(frozen=True)
class Attempt:
    """Asks for a window's text; the answer is `Heard`, or None where `strict` and the model repeats itself."""

    window: Window
    initial: tuple[int, ...]
    """Tokens that it begins with."""
    begin: int
    """The token of the beginning, `<|startoftranscript|>`, among them: what is before it is a prompt."""
    most: int
    """Tokens that it may become."""
    temperature: float = 0.0
    strict: bool = False


@dataclass(frozen=True)
class Heard:
    tokens: list[int]
    avg_logprob: float
    no_speech_prob: float
    temperature: float


Ask = Language | Attempt


@dataclass
class Walk:
    """One recording on its way: where the next window starts, and what was said so far."""

    mel: Tensor
    """[mels, frames] of the recording."""
    end: int
    """The frame at which it ends."""
    language: str
    tokenizer: Tokenizer
    frame: int = 0
    """Where the next window starts."""
    tokens: list[int] = field(default_factory=list)
    prompt_from: int = 0
    """What was said before this token is no prompt for the next window."""
    prompted: int = 0
    """Tokens at the beginning that are the caller's prompt, and were not said."""
    temperatures: tuple[float, ...] = TEMPERATURES
    fitted: bool = False
    """A window is padded to 30 s only where the model doubts what it hears without."""

    @property
    def text(self) -> str:
        return str(self.tokenizer.decode(self.tokens[self.prompted :]))


@dataclass(frozen=True)
class Thresholds:
    no_speech: float
    logprob: float


def begin(
    traits: Traits, audio: Tensor, language: str, task: str, prompt: str = "", temperature: float = 0.0
) -> Generator[Ask, Any, Walk]:
    """`audio`: float32 [samples] in [-1, 1], mono 16 kHz. `language`: a code; empty to detect it in the first window.

    `prompt`: what is taken to have been said before. `temperature`: the only one that is tried; 0 tries TEMPERATURES.
    """
    mel, silence = _mel(audio, traits.mels)
    if not language:
        language = yield Language(Window(torch.cat([mel, silence.expand(-1, N_FRAMES)], dim=1)[:, :N_FRAMES]))
    tokenizer = get_tokenizer(traits.multilingual, num_languages=traits.languages, language=language, task=task)
    # A client's text may spell a special token; it is text all the same.
    tokens = tokenizer.encode(f" {prompt.strip()}", disallowed_special=()) if prompt.strip() else []
    path = Walk(mel, mel.shape[-1], language, tokenizer, tokens=tokens, prompted=len(tokens))
    if temperature > 0:
        path.temperatures = (temperature,)
    return path


def _mel(audio: Tensor, mels: int) -> tuple[Tensor, Tensor]:
    """[mels, frames] of it, and [mels, 1] of silence."""
    mel = whisper.log_mel_spectrogram(audio, mels, padding=SILENCE)
    frames = audio.shape[-1] // HOP_LENGTH
    return mel[:, :frames], mel[:, -1:]


def walk(
    traits: Traits, path: Walk, thresholds: Thresholds, tell: Callable[[list[Segment]], None]
) -> Generator[Ask, Heard | None, None]:
    """Asks for window after window to be heard, and tells each one's segments."""
    least = 1
    while path.end - path.frame >= least:
        size = min(N_FRAMES, path.end - path.frame)
        mel = path.mel[:, path.frame : path.frame + size]
        heard = yield from _hear(traits, mel, path, thresholds)
        if heard.no_speech_prob > thresholds.no_speech and not heard.avg_logprob > thresholds.logprob:
            path.frame += size  # silence
        else:
            tell(_take(traits, path, heard, size))
        least = adaptive_padding.LEFT_FRAMES if path.fitted else 1


def _hear(traits: Traits, mel: Tensor, path: Walk, thresholds: Thresholds) -> Generator[Ask, Heard | None, Heard]:
    """`mel`: [mels, frames] of one window, no longer than it is."""
    sot, context = path.tokenizer.sot_sequence, traits.context
    prompt = path.tokens[path.prompt_from :][-(context // 2 - 1) :]
    initial = ((path.tokenizer.sot_prev, *prompt, *sot) if prompt else sot, len(prompt) + 1 if prompt else 0)
    spoken = mel.shape[-1]
    if path.fitted and path.temperatures[0] == 0 and adaptive_padding.frames(spoken) < N_FRAMES:
        most = adaptive_padding.cap(spoken)
        heard = yield Attempt(Window(pad_or_trim(mel, adaptive_padding.frames(spoken))), *initial, most, strict=True)
        if (
            heard is not None
            and len(heard.tokens) < most
            and _text(path, heard)
            and heard.avg_logprob >= thresholds.logprob
            and heard.no_speech_prob <= thresholds.no_speech
            and compression_ratio(_text(path, heard)) <= COMPRESSION_RATIO
        ):
            return heard
    window = Window(pad_or_trim(mel, N_FRAMES))
    for temperature in path.temperatures:
        answer = yield Attempt(window, *initial, context // 2, temperature)
        assert answer is not None, "it is not strict"
        improbable = answer.avg_logprob < thresholds.logprob
        silent = answer.no_speech_prob > thresholds.no_speech and improbable
        if silent or not (improbable or compression_ratio(_text(path, answer)) > COMPRESSION_RATIO):
            break
    assert answer is not None
    return answer


def _text(path: Walk, heard: Heard) -> str:
    return str(path.tokenizer.decode(heard.tokens)).strip()


def _take(traits: Traits, path: Walk, result: Heard, size: int) -> list[Segment]:
    """The window's segments by its timestamp tokens; the next window starts where the last whole segment ends."""
    tokens, first_timestamp = result.tokens, path.tokenizer.timestamp_begin
    frames_each = N_FRAMES // traits.positions
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
