"""Whisper's rows: correctness, then figures against openai-whisper's own loop, `whisper.decode`, on the same weights."""

from collections.abc import Callable, Generator, Sequence
from functools import cache, partial
from typing import Any

import torch
import whisper
from torch import Tensor
from whisper.audio import N_FRAMES, N_SAMPLES, SAMPLE_RATE, pad_or_trim
from whisper.tokenizer import get_tokenizer

from benchmarks.gpu import measuring
from benchmarks.gpu.models import TINY_WHISPER, WHISPER, random_whisper
from benchmarks.gpu.options import Options, rounding_error
from benchmarks.gpu.report import Part, Row
from deployments.roles.speech_to_text import Transcript
from deployments.whisper import adaptive_padding
from deployments.whisper.backends import torch_model
from deployments.whisper.backends.kv_cache import BLOCK_TOKENS, EncodedAudio
from deployments.whisper.backends.torch import TorchBackend
from deployments.whisper.sequence import Sequence as Recording
from deployments.whisper.transcription import DecodeRequest, DecodingResult, Window, WindowRequest, initial_state

WINDOW_S = N_SAMPLES / SAMPLE_RATE
ROUNDINGS_A_LAYER = 12
"""Matrix products, norms and sums in a row, in a layer of the encoder or of the decoder."""
IDLE_TOKENS = 20
"""Of a profiled window: a profile holds each kernel."""
SHORT_S, SHORT_TOKENS = 4.7, 20
"""A spoken sentence, as in SeedTTS."""


class Transcriber:
    """One model in one precision: this project's loop, and openai-whisper's."""

    def __init__(self, dims: whisper.ModelDimensions, options: Options, dtype: torch.dtype) -> None:
        self.model = random_whisper(dims, options.device)
        self.backend = TorchBackend(self.model, dtype)
        self.device, self.dtype = options.device, dtype

    def ours(self, sounds: Sequence[Tensor], tokens: int, adaptive: bool = False) -> list[list[int]]:
        """Tokens of each recording, in one batch. `sounds`: float32 [samples] on the device."""
        found: list[list[int]] = [[] for _ in sounds]

        def transcription(row: int) -> Generator[WindowRequest, Any, Transcript]:
            state = yield from initial_state(self.backend.dims, sounds[row], "en", "transcribe")
            frames = adaptive_padding.padded_frames(state.mel.shape[-1]) if adaptive else N_FRAMES
            result: DecodingResult = yield DecodeRequest(
                Window(pad_or_trim(state.mel, frames)), state.tokenizer.sot_sequence, 0, tokens
            )
            found[row] = result.tokens
            return Transcript("", "en", ())

        recordings = [Recording(transcription(row), self.device) for row in range(len(sounds))]
        while running := [one for one in recordings if not one.done]:
            self.backend.run_step(running)
        for one in recordings:
            if one.error is not None:
                raise one.error
        return found

    def theirs(self, sounds: Sequence[Tensor], tokens: int) -> list[list[int]]:
        mels = [pad_or_trim(whisper.log_mel_spectrogram(sound, self.model.dims.n_mels), N_FRAMES) for sound in sounds]
        options = whisper.DecodingOptions(language="en", sample_len=tokens, fp16=self.dtype == torch.float16)
        return [result.tokens for result in whisper.decode(self.model, torch.stack(mels), options)]

    @torch.inference_mode()
    def encoded(self, sounds: Sequence[Tensor]) -> Tensor:
        """[windows, positions, state]"""
        mels = [pad_or_trim(whisper.log_mel_spectrogram(sound, self.model.dims.n_mels), N_FRAMES) for sound in sounds]
        mel = torch.stack(mels).to(self.dtype)
        return torch_model.encode(self.model.encoder, mel, lambda: [True] * len(mel))

    @torch.inference_mode()
    def logits(self, sound: Tensor, tokens: Sequence[int]) -> Tensor:
        """[tokens, vocabulary] after the initial tokens and each of these."""
        tokenizer = get_tokenizer(True, num_languages=self.model.num_languages, language="en", task="transcribe")
        whole = [*tokenizer.sot_sequence, *tokens]
        decoder = self.model.decoder
        cache = self.backend._cache(decoder, [EncodedAudio(decoder, self.encoded([sound])[0])], [len(whole)])
        hidden = torch_model.forward(decoder, cache, *cache.begin([whole]))
        return torch_model.logits(decoder, hidden.flatten(end_dim=-2))[len(tokenizer.sot_sequence) - 1 :]


def sounds(count: int, device: str, seconds: float = WINDOW_S) -> list[Tensor]:
    """Seeded noise whose loudness and pitch change, float32 [samples] in [-1, 1]."""
    found = []
    for number in range(count):
        generator = torch.Generator().manual_seed(number)
        length = int(seconds * SAMPLE_RATE)
        loudness = torch.rand(length // 1600 + 1, generator=generator).repeat_interleave(1600)[:length]
        found.append((torch.randn(length, generator=generator) * 0.2 * loudness).clamp(-1, 1).to(device))
    return found


def measure(name: str, part: Part, options: Options) -> None:
    """Measure the rows of the model of this name in WHISPER."""
    dims = TINY_WHISPER if options.tiny else WHISPER[name]
    part.row("precision", lambda: precision(dims, options), expected_s=20)
    transcriber = cache(lambda: Transcriber(dims, options, options.dtype))  # made by the first row that needs it
    bound = part.rows["precision"].get("logits", {}).get("engine", {}).get("error", 0.0)
    part.row("a transcript in a batch against alone", lambda: together(transcriber(), options, bound), expected_s=10)
    for batch in options.windows:
        part.row(f"batch {batch}", partial(_by_batch, throughput, transcriber, options, batch), expected_s=10)
    for batch in (1, options.windows[-1]):
        part.row(f"idle and waits, batch {batch}", partial(_by_batch, idle, transcriber, options, batch), expected_s=10)
    part.row("memory", lambda: memory(transcriber(), options), expected_s=10)
    part.row("short recordings", lambda: short(transcriber(), options), expected_s=10)
    part.row("compiled", lambda: compiled(transcriber(), options), expected_s=60)


def _by_batch(
    row: Callable[[Transcriber, Options, int], Row], transcriber: Callable[[], Transcriber], options: Options, batch: int
) -> Row:
    return row(transcriber(), options, batch)


def precision(dims: whisper.ModelDimensions, options: Options) -> Row:
    """fp16 and bf16 against fp32: the encoder's output, and the decoder's logits after the same tokens."""
    some = sounds(2, options.device)
    tokens = torch.randint(0, 50000, (options.tokens,), generator=torch.Generator().manual_seed(0)).tolist()
    tf32, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, False
    found: dict[torch.dtype, tuple[Tensor, Tensor]] = {}
    for dtype in (torch.float32, *options.precisions):
        one = Transcriber(dims, options, dtype)
        found[dtype] = one.encoded(some).float().cpu(), one.logits(some[0], tokens).cpu()
        del one
        measuring.release()
    torch.backends.cudnn.allow_tf32 = tf32
    row: Row = {"encoder": {}, "logits": {}}
    holds = True
    for dtype in options.precisions:
        layers = (dims.n_audio_layer, dims.n_audio_layer + dims.n_text_layer)
        for place, (what, depth) in enumerate(zip(row, layers, strict=True)):
            tolerance = rounding_error(dtype, ROUNDINGS_A_LAYER * depth)
            distance = measuring.error(found[dtype][place], found[torch.float32][place])
            row[what][str(dtype).removeprefix("torch.")] = {"error": distance, "tolerance": tolerance}
            holds &= distance <= tolerance
    for rows in list(row.values()):
        rows["engine"] = rows[str(options.precisions[-1]).removeprefix("torch.")]
    return {**row, "holds": holds}


def together(transcriber: Transcriber, options: Options, bound: float) -> Row:
    """A transcript in a batch against alone: where the words part, the two words were equally likely within `bound`.

    `bound`: the error of rounding by the row before, as a share of the logits' length. Batched products sum in another order.
    """
    some = sounds(max(options.windows[1:3]), options.device)
    alone = [transcriber.ours([sound], options.tokens)[0] for sound in some]
    batched = transcriber.ours(some, options.tokens)
    gaps = []
    for sound, one, other in zip(some, alone, batched, strict=True):
        if one != other:
            at = next(n for n, pair in enumerate(zip(one, other, strict=True)) if pair[0] != pair[1])
            logits = transcriber.logits(sound, one[:at])[-1]
            gaps.append(float((logits[one[at]] - logits[other[at]]).abs() / logits.std()))
    theirs = transcriber.theirs(some[:1], options.tokens)[0]
    distinct = len({tuple(one) for one in alone})
    lengths = sorted({len(one) for one in alone})
    return {
        "transcripts": len(some),
        "equal": len(some) - len(gaps),
        "distinct": distinct,
        "tokens": lengths,
        "largest gap": max(gaps, default=0.0),
        "tolerance": 4 * bound,
        "equal to openai-whisper's": sum(a == b for a, b in zip(alone[0], theirs, strict=False)) / len(alone[0]),
        "holds": max(gaps, default=0.0) <= 4 * bound and distinct > 1 and lengths == [options.tokens],
    }


def throughput(transcriber: Transcriber, options: Options, batch: int) -> Row:
    """Seconds of sound for a second: mel, encoder and `tokens` of each window of 30 s."""
    some = sounds(batch, options.device)
    for side in (transcriber.ours, transcriber.theirs):
        side(some, 4)
    took_s = measuring.alternate(
        {
            "ours": lambda: transcriber.ours(some, options.tokens),
            "openai-whisper": lambda: transcriber.theirs(some, options.tokens),
        },
        options.repeats,
        options.device,
    )
    return {"tokens": options.tokens, "times real time": measuring.rates(took_s, batch * WINDOW_S)}


def idle(transcriber: Transcriber, options: Options, batch: int) -> Row:
    some = sounds(batch, options.device)

    tokens = min(IDLE_TOKENS, options.tokens)

    def work() -> list[list[int]]:
        return transcriber.ours(some, tokens)

    work()
    return {"tokens": tokens, "gpu busy": measuring.busy(work, options.device), "waits": measuring.waits(work, options.device)}


def memory(transcriber: Transcriber, options: Options) -> Row:
    """Peak by batch, and the part of a window's that its keys and values have, by their sizes."""
    dims = transcriber.model.dims
    size = torch.finfo(transcriber.dtype).bits // 8
    capacity = -(-(options.tokens + 3) // BLOCK_TOKENS) * BLOCK_TOKENS
    kv = 2 * dims.n_text_layer * (dims.n_audio_ctx + capacity) * dims.n_text_state * size
    peaks = {}
    for batch in options.windows:
        some = sounds(batch, options.device)
        peaks[str(batch)] = measuring.peak_bytes(partial(transcriber.ours, some, options.tokens), options.device)
    return {"peak bytes": peaks, "keys and values of a window": kv}


def short(transcriber: Transcriber, options: Options) -> Row:
    """Recordings of a sentence for a second, in the largest batch: windows padded to 30 s, and to 15 s (`padding: adaptive`)."""
    some = sounds(options.windows[-1], options.device, SHORT_S)
    tokens = min(SHORT_TOKENS, options.tokens)
    for adaptive in (False, True):
        transcriber.ours(some, 4, adaptive)
    took_s = measuring.alternate(
        {
            "always": lambda: transcriber.ours(some, tokens),
            "adaptive": lambda: transcriber.ours(some, tokens, adaptive=True),
        },
        options.repeats,
        options.device,
    )
    return {"seconds": SHORT_S, "tokens": tokens, "recordings a second": measuring.rates(took_s, len(some))}


def compiled(transcriber: Transcriber, options: Options) -> Row:
    """The largest batch with the encoder's blocks compiled, which both loops call."""
    blocks = transcriber.model.encoder.blocks
    for block in blocks:
        block.compile(backend=options.compiler)
    try:
        return throughput(transcriber, options, options.windows[-1])
    finally:
        for block in blocks:
            block._compiled_call_impl = None
