"""openai-whisper's network in torch as a backend: one step serves the pending requests of many sequences."""

import math
from dataclasses import dataclass, field
from itertools import batched

import torch
import whisper
from torch import Tensor, nn
from whisper.tokenizer import get_tokenizer

from deployments.torch_runtime import upload
from deployments.whisper import adaptive_padding
from deployments.whisper.backends import torch_model
from deployments.whisper.backends.kv_cache import EncodedAudio, KVCache, PaddedCache, RaggedCache
from deployments.whisper.logit_filters import LogitFilters, Sampler
from deployments.whisper.sequence import Sequence, run_step
from deployments.whisper.transcription import DecodeRequest, DecodingResult, DetectLanguage, ModelDims, Window

ENCODER_BATCH = 4
"""Windows of one length, at most, in a call of the encoder. On a CPU fp32 takes a tenth longer in fours, bf16 a tenth less."""


@dataclass
class _Decoding:
    """A decode request in the decoder."""

    sequence: Sequence
    request: DecodeRequest
    audio: EncodedAudio
    max_tokens: int
    """With the initial ones."""
    tokens: list[int] = field(default_factory=list)
    logprob: float = 0.0
    no_speech_prob: float = 0.0
    ended: bool = False

    def check_active(self) -> bool:
        """Whether it needs a further token; a cancelled sequence ends here."""
        if not self.ended:
            self.ended = not self.sequence.check_active()
        return not self.ended

    @property
    def sampler(self) -> Sampler | None:
        """None where the likeliest token is taken."""
        temperature = self.request.temperature
        return Sampler(temperature, self.sequence.generator) if temperature > 0 and not self.ended else None

    def result(self) -> DecodingResult:
        avg_logprob = self.logprob / (len(self.tokens) + 1)
        return DecodingResult(self.tokens, avg_logprob, self.no_speech_prob, self.request.temperature)


class TorchBackend:
    """A model of openai-whisper, which computes in `dtype`."""

    def __init__(self, model: whisper.Whisper, dtype: torch.dtype = torch.float32) -> None:
        self._model = model
        self._dtype = dtype
        for module in model.modules():
            if isinstance(module, (nn.Linear, nn.Conv1d, nn.Embedding)):  # norms stay fp32, as in openai-whisper
                module.to(dtype)
        self._encoder_batch = 1 if dtype == torch.float32 and model.device.type == "cpu" else ENCODER_BATCH
        self._cache: type[KVCache] = RaggedCache if model.device.type == "cpu" else PaddedCache
        self._filters = LogitFilters(model)
        self.dims = ModelDims.of(model)

    @torch.inference_mode()
    def run_step(self, sequences: list[Sequence]) -> None:
        """Serve each sequence's pending request, after which it has ended or made its next one. Never raises for one's failure."""
        run_step(sequences, lambda: self._compute(sequences))

    def _compute(self, sequences: list[Sequence]) -> None:
        self._encode(sequences)
        self._detect([sequence for sequence in sequences if isinstance(sequence.request, DetectLanguage)])
        self._decode([decoding for sequence in sequences if (decoding := self._begin(sequence))])

    def _encode(self, sequences: list[Sequence]) -> None:
        """Encode each window once, together with those of its length."""
        by_length: dict[int, list[tuple[Sequence, Window]]] = {}
        for window, sequence in {sequence.request.window: sequence for sequence in sequences if sequence.request}.items():
            if window.encoded is None:
                by_length.setdefault(window.mel.shape[-1], []).append((sequence, window))
        for pairs in by_length.values():
            for some in batched(pairs, self._encoder_batch):
                self._encode_batch(list(some))

    def _encode_batch(self, pairs: list[tuple[Sequence, Window]]) -> None:
        """Windows of one length; after a failure each alone. The window of a cancelled sequence stays without its encoding."""
        remaining = list(pairs)

        def keep_rows() -> list[bool]:
            kept = [sequence.check_active() for sequence, _ in remaining]
            remaining[:] = [pair for pair in remaining if not pair[0].done]
            return kept

        try:
            mel = torch.stack([window.mel for _, window in pairs]).to(self._model.device, self._dtype)
            encoded = torch_model.encode(self._model.encoder, mel, keep_rows)
            for (_, window), row in zip(remaining, encoded, strict=True):
                window.encoded = EncodedAudio(self._model.decoder, row)
        except Exception as error:
            if len(pairs) == 1:
                pairs[0][0].fail(error)
                return
            for pair in remaining:
                self._encode_batch([pair])

    def _encoded(self, sequence: Sequence, window: Window) -> EncodedAudio | None:
        """The window's encoding; None when the sequence has ended."""
        if window.encoded is None and not sequence.done:
            self._encode_batch([(sequence, window)])
        encoded: EncodedAudio | None = window.encoded
        return None if sequence.done else encoded

    def _detect(self, sequences: list[Sequence]) -> None:
        tokenizer = get_tokenizer(self._model.is_multilingual, num_languages=self._model.num_languages)
        rows: list[tuple[Sequence, EncodedAudio]] = []
        for sequence in sequences:
            assert isinstance(sequence.request, DetectLanguage)
            if encoded := self._encoded(sequence, sequence.request.window):
                rows.append((sequence, encoded))
        if not rows:
            return
        decoder = self._model.decoder
        cache = self._cache(decoder, [encoded for _, encoded in rows], [1] * len(rows))
        hidden = torch_model.forward(decoder, cache, *cache.begin([[tokenizer.sot]] * len(rows)))
        logits = torch_model.logits(decoder, cache.take(hidden, [0] * len(rows)))
        languages = logits.index_select(1, upload(list(tokenizer.all_language_tokens), logits.device))
        for (sequence, _), best in zip(rows, languages.argmax(dim=-1).tolist(), strict=True):
            sequence.resume(tokenizer.all_language_codes[best])

    def _begin(self, sequence: Sequence) -> _Decoding | None:
        request = sequence.request
        if not isinstance(request, DecodeRequest) or not (encoded := self._encoded(sequence, request.window)):
            return None
        return _Decoding(sequence, request, encoded, min(self.dims.text_context, len(request.initial) + request.max_tokens))

    def _decode(self, rows: list[_Decoding]) -> None:
        """Token by token, each time with the rows that go on. The host waits for the GPU once a token, to read them."""
        rows = [one for one in rows if one.check_active()]
        if not rows:
            return
        decoder = self._model.decoder
        cache = self._cache(decoder, [one.audio for one in rows], [one.max_tokens for one in rows])
        placed = cache.begin([one.request.initial for one in rows])
        last = [len(one.request.initial) - 1 for one in rows]
        no_speech: Tensor | None = None
        while True:
            hidden = torch_model.forward(decoder, cache, *placed)
            if no_speech is None:
                no_speech = self._no_speech(cache.take(hidden, [one.request.sot for one in rows]))
            logits = torch_model.logits(decoder, cache.take(hidden, last))
            tokens, logprobs = self._filters.pick(
                logits, [self._filters.allowed(one.tokens) for one in rows], [one.sampler for one in rows]
            )
            # In float32 each token is exact, and they come in one copy.
            for one, token, logprob, prob in zip(rows, *torch.stack([tokens.float(), logprobs, no_speech]).tolist(), strict=True):
                self._append(one, int(token), logprob, prob)
            if not (active := [row for row, one in enumerate(rows) if one.check_active()]):
                return
            if len(active) < len(rows) and len(kept := cache.keep(active)) < len(rows):
                rows = [rows[row] for row in kept]
                index = upload(list(kept), tokens.device)
                tokens, no_speech = tokens.index_select(0, index), no_speech.index_select(0, index)
            placed, last = cache.go_on(tokens), [0] * len(rows)

    def _no_speech(self, hidden: Tensor) -> Tensor:
        """The probability of no speech is that of its token right after `<|startoftranscript|>`."""
        return torch_model.logits(self._model.decoder, hidden).softmax(dim=-1)[:, self._filters.no_speech]

    def _append(self, decoding: _Decoding, token: int, logprob: float, no_speech_prob: float) -> None:
        """Add a token; where it is the last one, the sequence has the result."""
        sequence, request, tokens = decoding.sequence, decoding.request, decoding.tokens
        if decoding.ended:
            return
        if math.isnan(logprob):
            decoding.ended = True
            sequence.fail(RuntimeError("the model gives no token a probability"))
            return
        decoding.no_speech_prob = no_speech_prob
        decoding.logprob += logprob
        repeats = False
        if token != self._filters.eot:
            tokens.append(token)
            repeats = request.stop_repeats and adaptive_padding.is_repeating(tokens)
        full = len(tokens) == request.max_tokens or len(request.initial) + len(tokens) > self.dims.text_context
        if repeats or full or token == self._filters.eot:
            decoding.ended = True
            sequence.resume(None if repeats else decoding.result())
