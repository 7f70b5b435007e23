"""openai-whisper's network in torch as a backend: one step serves the pending requests of many sequences."""

from dataclasses import dataclass, field
from itertools import batched

import torch
import whisper
from torch import nn
from whisper.tokenizer import get_tokenizer

from deployments.whisper import adaptive_padding, logit_filters
from deployments.whisper.backends import torch_model
from deployments.whisper.backends.torch_model import EncodedAudio, KVCache
from deployments.whisper.sequence import Sequence, run_step
from deployments.whisper.transcription import DecodeRequest, DecodingResult, DetectLanguage, ModelDims, Window

ENCODER_BATCH = 4
"""Windows of one length, at most, in a call of the encoder. On a CPU fp32 takes a tenth longer in fours, bf16 a tenth less."""


@dataclass
class _Decoding:
    """A decode request in the decoder."""

    sequence: Sequence
    request: DecodeRequest
    cache: KVCache
    tokens: list[int] = field(default_factory=list)
    logprob: float = 0.0
    no_speech_prob: float = 0.0

    @property
    def new_tokens(self) -> list[int] | tuple[int, ...]:
        """Tokens that the decoder has not read yet."""
        return self.tokens[-1:] or self.request.initial

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
        self._filters = logit_filters.LogitFilters(model)
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
        rows: list[tuple[Sequence, KVCache]] = []
        for sequence in sequences:
            assert isinstance(sequence.request, DetectLanguage)
            if encoded := self._encoded(sequence, sequence.request.window):
                rows.append((sequence, KVCache(self._model.decoder, encoded, max_tokens=1)))
        if not rows:
            return
        hidden = torch_model.forward(self._model.decoder, [cache for _, cache in rows], [[tokenizer.sot]] * len(rows))
        logits = torch_model.logits(self._model.decoder, hidden)[:, list(tokenizer.all_language_tokens)]
        for (sequence, _), best in zip(rows, logits.argmax(dim=-1).tolist(), strict=True):
            sequence.resume(tokenizer.all_language_codes[best])

    def _begin(self, sequence: Sequence) -> _Decoding | None:
        request = sequence.request
        if not isinstance(request, DecodeRequest) or not (encoded := self._encoded(sequence, request.window)):
            return None
        max_tokens = min(self.dims.text_context, len(request.initial) + request.max_tokens)
        return _Decoding(sequence, request, KVCache(self._model.decoder, encoded, max_tokens))

    def _decode(self, decodings: list[_Decoding]) -> None:
        """Token by token, each time with the decodings that go on."""
        decoder = self._model.decoder
        while decodings := [one for one in decodings if one.sequence.check_active()]:
            hidden = torch_model.forward(decoder, [one.cache for one in decodings], [one.new_tokens for one in decodings])
            if not all(one.tokens for one in decodings):
                self._measure_no_speech(decodings, hidden)
                last = torch.tensor([len(one.new_tokens) for one in decodings]).cumsum(0) - 1
                hidden = hidden[last]
            logits = torch_model.logits(decoder, hidden)
            self._filters.apply(logits, [one.tokens for one in decodings])
            next_tokens = logits.argmax(dim=-1)
            for row, one in enumerate(decodings):
                if one.request.temperature > 0:
                    try:
                        next_tokens[row] = logit_filters.sample(logits[row], one.request.temperature, one.sequence.generator)
                    except RuntimeError as error:
                        one.sequence.fail(error)
            logprobs = logits.gather(1, next_tokens[:, None])[:, 0] - logits.logsumexp(dim=-1)
            for one, logprob in zip(decodings, logprobs.tolist(), strict=True):
                one.logprob += logprob
            decodings = [one for one, token in zip(decodings, next_tokens.tolist(), strict=True) if self._append(one, token)]

    def _measure_no_speech(self, decodings: list[_Decoding], hidden: torch.Tensor) -> None:
        """The probability of no speech is that of its token right after `<|startoftranscript|>`."""
        rows, start = [], 0
        for one in decodings:
            rows.append(start + one.request.sot)
            start += len(one.new_tokens)
        probs = torch_model.logits(self._model.decoder, hidden[rows]).softmax(dim=-1)[:, self._filters.no_speech]
        for one, prob in zip(decodings, probs.tolist(), strict=True):
            one.no_speech_prob = prob

    def _append(self, decoding: _Decoding, token: int) -> bool:
        """Whether the decoding goes on after this token; where not, its sequence has the result."""
        sequence, request, tokens = decoding.sequence, decoding.request, decoding.tokens
        if sequence.done:
            return False
        if token == self._filters.eot:
            sequence.resume(decoding.result())
            return False
        tokens.append(token)
        if request.stop_repeats and adaptive_padding.is_repeating(tokens):
            sequence.resume(None)
            return False
        if len(tokens) == request.max_tokens or len(request.initial) + len(tokens) > self.dims.text_context:
            sequence.resume(decoding.result())
            return False
        return True
