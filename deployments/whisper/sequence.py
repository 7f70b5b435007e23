"""Many recordings heard together: each asks for its next window, and a pass of the model answers what all of them ask."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from itertools import batched

import torch
import whisper
from torch import nn
from whisper.tokenizer import get_tokenizer

from deployments.whisper import adaptive_padding, logit_filters
from deployments.whisper.backends import torch_model
from deployments.whisper.backends.torch_model import Row, Sound
from deployments.whisper.transcription import Ask, Attempt, Heard, Language, Segment, Traits, Window

SEED = 0
"""Lots are drawn anew for each recording, so that the same one gives the same text whatever it is heard with."""

ENCODED_TOGETHER = 4
"""Windows of one length, at most, in a call of the encoder. On a CPU fp32 takes a tenth longer in fours, bf16 a tenth less."""


@dataclass(frozen=True)
class Spoken:
    text: str
    language: str
    """ISO 639-1 code, as openai-whisper names it."""
    segments: tuple[Segment, ...]


class Recording(ABC):
    """One on its way through passes. It ends once, with `answer` or `error`."""

    def __init__(self) -> None:
        self.answer: Spoken | None = None
        self.error: Exception | None = None
        self.computed_s = 0.0
        """In passes that it took part in, from their beginning until it had its answer."""
        self.shared_s = 0.0
        """The same, but of each pass its share alone."""

    @property
    @abstractmethod
    def rows(self) -> Sequence["Voice"]:
        """What of it may be heard in the next pass, all or some; at least one until it is done."""

    @property
    def done(self) -> bool:
        return self.answer is not None or self.error is not None

    @property
    def heard(self) -> bool:
        """Whether it took part in a pass."""
        return self.done or self.computed_s > 0

    @property
    def batch_size(self) -> int:
        """Recordings like it in its passes, on average over their time."""
        return max(1, round(self.computed_s / self.shared_s)) if self.shared_s else 1


class Voice(Recording):
    """One row of a pass: a recording that is heard window by window, or a piece of one. It leaves the pass in which it ends."""

    def __init__(
        self,
        work: Generator[Ask, object, Spoken],
        device: torch.device | str = "cpu",
        poll: Callable[[], None] = lambda: None,
        ended: Callable[["Voice"], None] = lambda voice: None,
    ) -> None:
        """`work`: what it asks, in order. `poll`: called while it is heard, see `WhisperEngine.voice`; what it raises ends it."""
        super().__init__()
        self.asks: Ask | None = None
        self.lots = torch.Generator(device).manual_seed(SEED)
        self.poll = poll
        self._work = work
        self._ended = ended
        self._entered_s, self._together = 0.0, 1

    @property
    def rows(self) -> Sequence["Voice"]:
        return [self]

    def enter(self, together: int) -> None:
        """A pass of so many begins."""
        self._entered_s, self._together = time.perf_counter(), together
        if self.asks is None:
            self.tell(None)

    def leave(self) -> None:
        took_s = time.perf_counter() - self._entered_s
        self.computed_s += took_s
        self.shared_s += took_s / self._together

    def tell(self, heard: str | Heard | None) -> None:
        """What it asked for; it asks the next, or ends."""
        self._step(lambda: self._work.send(heard))

    def fail(self, error: Exception) -> None:
        self._step(lambda: self._work.throw(error))

    def listens(self) -> bool:
        """Whether it still is there to be heard."""
        try:
            self.poll()
        except Exception as error:
            self.fail(error)
        return not self.done

    def _step(self, step: Callable[[], Ask]) -> None:
        try:
            self.asks = step()
            return
        except StopIteration as end:
            self.answer = end.value
        except Exception as error:
            self.error = error
        self.asks = None
        self.leave()
        self._ended(self)
        if self.error is not None:
            # Its frames hold the whole pass and this voice, and would wait with them for Python's collector.
            self.error.__traceback__ = None


def take_part(voices: Sequence[Voice], hear: Callable[[], None]) -> None:
    """One pass, which `hear` makes: what it fails with ends those that have not ended before."""
    for voice in voices:
        voice.enter(len(voices))
    try:
        hear()
    except Exception as error:
        for voice in voices:
            if not voice.done:
                voice.fail(error)
    for voice in voices:
        if not voice.done:
            voice.leave()


@dataclass
class _Line:
    """A voice's attempt on its way through the decoder."""

    voice: Voice
    attempt: Attempt
    row: Row
    said: list[int] = field(default_factory=list)
    logprob: float = 0.0
    no_speech_prob: float = 0.0

    @property
    def new(self) -> Sequence[int]:
        return self.said[-1:] or self.attempt.initial

    def heard(self, tokens: list[int]) -> Heard:
        return Heard(tokens, self.logprob / (len(tokens) + 1), self.no_speech_prob, self.attempt.temperature)


class Listener:
    """A model, and how it hears what voices ask. `dtype`: what it computes in."""

    def __init__(self, model: whisper.Whisper, dtype: torch.dtype = torch.float32) -> None:
        self._model = model
        self._dtype = dtype
        for module in model.modules():
            if isinstance(module, (nn.Linear, nn.Conv1d, nn.Embedding)):  # norms stay fp32, as in openai-whisper
                module.to(dtype)
        self._encoded_together = 1 if dtype == torch.float32 and model.device.type == "cpu" else ENCODED_TOGETHER
        self._rules = logit_filters.Rules(model)
        self.traits = Traits.of(model)

    @torch.inference_mode()
    def listen(self, voices: Sequence[Voice]) -> None:
        """One pass: each voice is told what it asked for, and has ended or asks the next. Never raises for what one of them fails with."""
        take_part(voices, lambda: self._hear(voices))

    def _hear(self, voices: Sequence[Voice]) -> None:
        self._encode(voices)
        self._detect([voice for voice in voices if isinstance(voice.asks, Language)])
        self._decode([line for voice in voices if (line := self._line(voice))])

    def _encode(self, voices: Sequence[Voice]) -> None:
        """Each window once, with those that are as long."""
        alike: dict[int, list[tuple[Voice, Window]]] = {}
        for window, voice in {voice.asks.window: voice for voice in voices if voice.asks}.items():
            if window.sound is None:
                alike.setdefault(window.mel.shape[-1], []).append((voice, window))
        for pairs in alike.values():
            for some in batched(pairs, self._encoded_together):
                self._encode_some(some)

    def _encode_some(self, pairs: Sequence[tuple[Voice, Window]]) -> None:
        """Of the same length. Where that fails, each alone; a window whose voice has left has no sound."""
        still = list(pairs)

        def stay() -> list[bool]:
            stays = [voice.listens() for voice, _ in still]
            still[:] = [pair for pair in still if not pair[0].done]
            return stays

        try:
            mel = torch.stack([window.mel for _, window in pairs]).to(self._model.device, self._dtype)
            encoded = torch_model.encode(self._model.encoder, mel, stay)
            for (_, window), one in zip(still, encoded, strict=True):
                window.sound = Sound(self._model.decoder, one)
        except Exception as error:
            if len(pairs) == 1:
                pairs[0][0].fail(error)
                return
            for pair in still:
                self._encode_some([pair])

    def _sound(self, voice: Voice, window: Window) -> Sound | None:
        """None when the voice has left."""
        if window.sound is None and not voice.done:
            self._encode_some([(voice, window)])
        sound: Sound | None = window.sound
        return None if voice.done else sound

    def _detect(self, voices: Sequence[Voice]) -> None:
        tokenizer = get_tokenizer(self._model.is_multilingual, num_languages=self._model.num_languages)
        rows: list[tuple[Voice, Row]] = []
        for voice in voices:
            assert isinstance(voice.asks, Language)
            if sound := self._sound(voice, voice.asks.window):
                rows.append((voice, Row(self._model.decoder, sound, most=1)))
        if not rows:
            return
        ahead = torch_model.advance(self._model.decoder, [row for _, row in rows], [[tokenizer.sot]] * len(rows))
        chances = torch_model.logits(self._model.decoder, ahead)[:, list(tokenizer.all_language_tokens)]
        for (voice, _), best in zip(rows, chances.argmax(dim=-1).tolist(), strict=True):
            voice.tell(tokenizer.all_language_codes[best])

    def _line(self, voice: Voice) -> _Line | None:
        attempt = voice.asks
        if not isinstance(attempt, Attempt) or not (sound := self._sound(voice, attempt.window)):
            return None
        most = min(self.traits.context, len(attempt.initial) + attempt.most)
        return _Line(voice, attempt, Row(self._model.decoder, sound, most))

    def _decode(self, lines: list[_Line]) -> None:
        """Step by step, each with the lines that are still open."""
        network = self._model.decoder
        while lines := [line for line in lines if line.voice.listens()]:
            ahead = torch_model.advance(network, [line.row for line in lines], [line.new for line in lines])
            if not all(line.said for line in lines):
                self._hear_silence(lines, ahead)
                ends = torch.tensor([len(line.new) for line in lines]).cumsum(0) - 1
                ahead = ahead[ends]
            logits = torch_model.logits(network, ahead)
            self._rules.apply(logits, [line.said for line in lines])
            next_tokens = logits.argmax(dim=-1)
            for number, line in enumerate(lines):
                if line.attempt.temperature > 0:
                    try:
                        next_tokens[number] = logit_filters.draw(logits[number], line.attempt.temperature, line.voice.lots)
                    except RuntimeError as error:
                        line.voice.fail(error)
            logprobs = logits.gather(1, next_tokens[:, None])[:, 0] - logits.logsumexp(dim=-1)
            for line, logprob in zip(lines, logprobs.tolist(), strict=True):
                line.logprob += logprob
            lines = [line for line, token in zip(lines, next_tokens.tolist(), strict=True) if self._go_on(line, token)]

    def _hear_silence(self, lines: Sequence[_Line], ahead: torch.Tensor) -> None:
        """The chance that nothing is said is what follows on the token of the beginning."""
        begins, start = [], 0
        for line in lines:
            begins.append(start + line.attempt.begin)
            start += len(line.new)
        chances = torch_model.logits(self._model.decoder, ahead[begins]).softmax(dim=-1)[:, self._rules.no_speech]
        for line, chance in zip(lines, chances.tolist(), strict=True):
            line.no_speech_prob = chance

    def _go_on(self, line: _Line, token: int) -> bool:
        """Whether the line is still open after this token; where not, its voice is told."""
        if line.voice.done:
            return False
        if token == self._rules.eot:
            line.voice.tell(line.heard(line.said))
            return False
        line.said.append(token)
        if line.attempt.strict and adaptive_padding.repeats(line.said):
            line.voice.tell(None)
            return False
        if len(line.said) == line.attempt.most or len(line.attempt.initial) + len(line.said) > self.traits.context:
            line.voice.tell(line.heard(line.said))
            return False
        return True
