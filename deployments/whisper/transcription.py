"""Transcription of a recording window by window: the loop of `whisper.transcribe` (openai-whisper 20250625) as a generator.

It yields a request for each window and is sent the result, so that a backend can serve the windows of many recordings together.
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

from deployments.roles.speech_to_text import Segment
from deployments.whisper import adaptive_padding

TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
"""Tried in turn while a window's text is too repetitive or too improbable."""
PADDING_SAMPLES = SAMPLE_RATE // 10
"""Silence after a recording for its last frames; openai-whisper puts 30 s there."""
MAX_COMPRESSION_RATIO = 2.4
"""Text that gzip shrinks more than this is too repetitive."""


@dataclass(frozen=True)
class ModelDims:
    """The model's properties that transcription depends on, in either backend."""

    mels: int
    multilingual: bool
    languages: int
    audio_context: int = 1500
    """Positions that the encoder makes of 30 s."""
    text_context: int = 448
    """Tokens that the decoder attends to."""

    @classmethod
    def of(cls, model: whisper.Whisper) -> "ModelDims":
        dims = model.dims
        return cls(dims.n_mels, model.is_multilingual, model.num_languages, dims.n_audio_ctx, dims.n_text_ctx)


@dataclass(eq=False)
class Window:
    """Input of the encoder, [mels, frames], and later its output."""

    mel: Tensor
    encoded: Any = None
    """In the backend's own form."""


@dataclass(frozen=True)
class DetectLanguage:
    """Request for the language of a window; the result is its code."""

    window: Window


@dataclass(frozen=True)
class DecodeRequest:
    """Request for the text of a window; the result is a DecodingResult, or None where `stop_repeats` and the model repeats itself."""

    window: Window
    initial: tuple[int, ...]
    """Tokens that the text continues: the prompt, then `<|startoftranscript|>` and its options."""
    sot: int
    """Index of `<|startoftranscript|>` among them."""
    max_tokens: int
    """Most new tokens."""
    temperature: float = 0.0
    stop_repeats: bool = False


@dataclass(frozen=True)
class DecodingResult:
    tokens: list[int]
    avg_logprob: float
    no_speech_prob: float
    temperature: float


WindowRequest = DetectLanguage | DecodeRequest


@dataclass(frozen=True)
class Thresholds:
    no_speech: float
    logprob: float


@dataclass
class TranscriptionState:
    """Progress in one recording, or in one chunk of it."""

    mel: Tensor
    """[mels, frames] of the recording."""
    end: int
    """Frame after the last one to decode."""
    language: str
    tokenizer: Tokenizer
    frame: int = 0
    """Start of the next window."""
    tokens: list[int] = field(default_factory=list)
    """The caller's prompt, then the text so far."""
    prompt_begin: int = 0
    """First of the tokens that may prompt the next window."""
    temperatures: tuple[float, ...] = TEMPERATURES
    adaptive: bool = False
    """A window is padded to 30 s only where the shorter one gives a doubtful text."""

    @property
    def prompt(self) -> list[int]:
        return self.tokens[self.prompt_begin :]


def initial_state(
    dims: ModelDims, audio: Tensor, language: str, task: str, prompt: str = "", temperature: float = 0.0
) -> Generator[WindowRequest, Any, TranscriptionState]:
    """State before the first window. `audio`: float32 [samples] in [-1, 1], mono 16 kHz.

    `language`: a code; empty to detect it in the first window. `prompt`: text that counts as the transcript before the recording.
    `temperature`: the only one to try; 0 tries TEMPERATURES.
    """
    mel, silence = _mel(audio, dims.mels)
    if not language:
        language = yield DetectLanguage(Window(torch.cat([mel, silence.expand(-1, N_FRAMES)], dim=1)[:, :N_FRAMES]))
    tokenizer = get_tokenizer(dims.multilingual, num_languages=dims.languages, language=language, task=task)
    # A client's text may spell a special token; it is text all the same.
    tokens = tokenizer.encode(f" {prompt.strip()}", disallowed_special=()) if prompt.strip() else []
    state = TranscriptionState(mel, mel.shape[-1], language, tokenizer, tokens=tokens)
    if temperature > 0:
        state.temperatures = (temperature,)
    return state


def decode_windows(
    dims: ModelDims, state: TranscriptionState, thresholds: Thresholds, emit: Callable[[list[Segment]], None]
) -> Generator[WindowRequest, DecodingResult | None, None]:
    """Requests window after window until the state's end, and emits the segments of each."""
    min_frames = 1
    while state.end - state.frame >= min_frames:
        frames = min(N_FRAMES, state.end - state.frame)
        mel = state.mel[:, state.frame : state.frame + frames]
        result = yield from _decode_window(dims, mel, state, thresholds)
        if result.no_speech_prob > thresholds.no_speech and not result.avg_logprob > thresholds.logprob:
            state.frame += frames  # silence
        else:
            emit(_take_segments(dims, state, result, frames))
        min_frames = adaptive_padding.MIN_REMAINDER_FRAMES if state.adaptive else 1


def _mel(audio: Tensor, mels: int) -> tuple[Tensor, Tensor]:
    """[mels, frames] of the audio, and [mels, 1] of silence."""
    mel = whisper.log_mel_spectrogram(audio, mels, padding=PADDING_SAMPLES)
    frames = audio.shape[-1] // HOP_LENGTH
    return mel[:, :frames], mel[:, -1:]


def _decode_window(
    dims: ModelDims, mel: Tensor, state: TranscriptionState, thresholds: Thresholds
) -> Generator[WindowRequest, DecodingResult | None, DecodingResult]:
    """`mel`: [mels, frames] of one window, without padding."""
    sot_sequence, half = state.tokenizer.sot_sequence, dims.text_context // 2
    prompt = state.prompt[-(half - 1) :]
    initial = ((state.tokenizer.sot_prev, *prompt, *sot_sequence) if prompt else sot_sequence, len(prompt) + 1 if prompt else 0)
    frames = mel.shape[-1]
    if state.adaptive and state.temperatures[0] == 0 and adaptive_padding.padded_frames(frames) < N_FRAMES:
        max_tokens = adaptive_padding.max_tokens(frames)
        short = Window(pad_or_trim(mel, adaptive_padding.padded_frames(frames)))
        result = yield DecodeRequest(short, *initial, max_tokens, stop_repeats=True)
        if (
            result is not None
            and len(result.tokens) < max_tokens
            and _text(state, result)
            and result.avg_logprob >= thresholds.logprob
            and result.no_speech_prob <= thresholds.no_speech
            and compression_ratio(_text(state, result)) <= MAX_COMPRESSION_RATIO
        ):
            return result
    window = Window(pad_or_trim(mel, N_FRAMES))
    for temperature in state.temperatures:
        result = yield DecodeRequest(window, *initial, half, temperature)
        assert result is not None, "only a request with stop_repeats has no result"
        improbable = result.avg_logprob < thresholds.logprob
        silent = result.no_speech_prob > thresholds.no_speech and improbable
        if silent or not (improbable or compression_ratio(_text(state, result)) > MAX_COMPRESSION_RATIO):
            break
    assert result is not None
    return result


def _text(state: TranscriptionState, result: DecodingResult) -> str:
    return str(state.tokenizer.decode(result.tokens)).strip()


def _take_segments(dims: ModelDims, state: TranscriptionState, result: DecodingResult, frames: int) -> list[Segment]:
    """The window's segments by its timestamp tokens; the next window starts where the last whole segment ends."""
    tokens, timestamp_begin = result.tokens, state.tokenizer.timestamp_begin
    frames_per_token = N_FRAMES // dims.audio_context
    token_s = frames_per_token * HOP_LENGTH / SAMPLE_RATE
    offset_s = state.frame * HOP_LENGTH / SAMPLE_RATE
    is_timestamp = [token >= timestamp_begin for token in tokens]
    ends = [i for i in range(1, len(tokens)) if is_timestamp[i - 1] and is_timestamp[i]]
    ends_with_one = is_timestamp[-2:] == [False, True]
    spans: list[tuple[float, float, list[int]]] = []
    if ends:
        if ends_with_one:
            ends.append(len(tokens))
        for start, end in zip([0, *ends[:-1]], ends, strict=True):
            part = tokens[start:end]
            times = [offset_s + (part[i] - timestamp_begin) * token_s for i in (0, -1)]
            spans.append((times[0], times[1], part))
        state.frame += frames if ends_with_one else (tokens[ends[-1] - 1] - timestamp_begin) * frames_per_token
    else:
        length_s = frames * HOP_LENGTH / SAMPLE_RATE
        timestamps = [token for token in tokens if token >= timestamp_begin]
        if timestamps and timestamps[-1] != timestamp_begin:
            length_s = (timestamps[-1] - timestamp_begin) * token_s
        spans.append((offset_s, offset_s + length_s, tokens))
        state.frame += frames
    segments = []
    for start_s, end_s, part in spans:
        text = state.tokenizer.decode([token for token in part if token < state.tokenizer.eot])
        if start_s == end_s or not text.strip():
            text, part = "", []
        state.tokens += part
        segments.append(Segment(start_s, end_s, text, result.avg_logprob, result.no_speech_prob))
    if result.temperature > 0.5:
        state.prompt_begin = len(state.tokens)
    return segments
