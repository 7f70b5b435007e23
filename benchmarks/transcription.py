"""The gain of transcribing many recordings in one batch: `python -m benchmarks.transcription`, or one `--part` of it.

engine: 16 recordings of 3 to 12 s one by one by openai-whisper's own `transcribe`, all in one batch of the same weights in fp32
(exact), with adaptive padding and bf16 where the CPU has it (tuned), by faster-whisper in int8 (int8), and that with
adaptive padding (int8 tuned): in this process, in turns, the order reversed every other time.
engines: both engines with their default settings, alone and eight at a time, in turns too.
accuracy: word error rates of the same five over all test speech. batches: CPU by batch size.
triton: over a real Triton server, the mean batch with 16 clients, and the cost of batching for a client that is alone.
long: recordings of 60 to 120 s alone, chunked and sequential, in turns: CPU, wall time, and word error rates.
"""

import argparse
import asyncio
import functools
import os
import re
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import whisper
from rich.console import Console
from rich.table import Table

from benchmarks.chart import Panel, draw
from benchmarks.measure import cpu_s, interval, record, tree
from benchmarks.padding import POINTS, Audio, normal, references, transcribe, word_errors
from deployments.roles.speech_to_text import SAMPLE_RATE_HZ, TranscribeRequest
from deployments.time_left import TimeLeft
from deployments.torch_runtime import cpu_has_bf16
from deployments.whisper.deployment import Whisper
from deployments.whisper.engine import WhisperEngine
from deployments.whisper.settings import WhisperSettings
from deployments.whisper.types import LongRecordings
from graphs.audio.decode import decode

RESULTS = Path(__file__).parent / "results"
COUNT = 16
LENGTHS_S = (3, 12)
BATCHES = (1, 2, 4, 8, 16)
AT_ONCE = 8
ALONE = 1.02
FULL = 0.8
LONG, LONG_S, PAUSE_S = 10, (64, 120), (0.2, 0.6)
BACKGROUND = 30
"""Amplitude of the noise behind all of a long recording, of 32768."""
Transcriber = Callable[[Sequence[Audio]], list[str]]
console = Console()


def sentences() -> list[tuple[Audio, list[str]]]:
    """Return the test speech that is no single word, and its words."""
    return [(decode(path.read_bytes(), 60), normal(text)) for path, text in references().items() if path.parent.name != "words"]


def recordings() -> list[tuple[Audio, list[str]]]:
    """Return 16 of 3 to 12 s, and their words: sentences of the test speech, alone or one after the other."""
    remaining = sentences()
    found: list[tuple[Audio, list[str]]] = []
    for wanted in np.linspace(LENGTHS_S[0] + 0.5, LENGTHS_S[1] - 1, COUNT) * SAMPLE_RATE_HZ:
        audio, words = np.zeros(0, np.int16), list[str]()
        while (short := wanted - audio.size) > 1.2 * SAMPLE_RATE_HZ:
            more, text = remaining.pop(min(range(len(remaining)), key=lambda n: abs(remaining[n][0].size - short)))
            audio, words = np.concatenate([audio, more]), words + text
        found.append((audio, words))
    return found


class Sides:
    """The compared ways to transcribe: each takes recordings and returns their texts."""

    def __init__(self) -> None:
        settings = {
            "exact": WhisperSettings(),
            "tuned": WhisperSettings(padding="adaptive", precision="bf16" if cpu_has_bf16() else "fp32"),
            "int8": WhisperSettings(engine="faster-whisper"),
            "int8 tuned": WhisperSettings(padding="adaptive", engine="faster-whisper"),
        }
        self.engines = {name: WhisperEngine(one.engine_config()) for name, one in settings.items()}
        self.transcribers: dict[str, Transcriber] = {"one by one": self._one_by_one}
        self.transcribers |= {name: functools.partial(transcribe, one, max_batch=COUNT) for name, one in self.engines.items()}

    def _one_by_one(self, audios: Sequence[Audio]) -> list[str]:
        stock, options = self.engines["exact"]._model, {"language": "en", "fp16": False}
        return [whisper.transcribe(stock, audio.astype(np.float32) / 32768, **options)["text"].strip() for audio in audios]


def word_error_rate(texts: Sequence[str], words: Sequence[list[str]]) -> float:
    """Return the errors of the texts, for each word of all recordings."""
    found = sum(word_errors(reference, normal(text)) for reference, text in zip(words, texts, strict=True))
    return found / sum(map(len, words))


def engine(pairs: int) -> dict[str, Any]:
    return compared(Sides().transcribers, pairs)


def engines(pairs: int) -> dict[str, Any]:
    found = Sides().engines
    both = {"openai": found["exact"], "faster": found["int8"]}
    transcribers: dict[str, Transcriber] = {}
    for name, one in both.items():
        transcribers[f"{name}, alone"] = functools.partial(transcribe, one, max_batch=1)
        transcribers[f"{name}, {AT_ONCE} at once"] = functools.partial(transcribe, one, max_batch=AT_ONCE)
    return compared(transcribers, pairs)


def compared(sides: dict[str, Transcriber], pairs: int) -> dict[str, Any]:
    """Measure each side over the same recordings, and compare it with the first one."""
    audios, words = zip(*recordings(), strict=True)
    for transcriber in sides.values():
        transcriber(audios[:2])
    took_s: dict[str, list[float]] = {name: [] for name in sides}
    texts: dict[str, list[str]] = {}
    for number in range(pairs):
        for name in list(sides)[:: 1 if number % 2 else -1]:
            began_s = time.process_time()
            texts[name] = sides[name](audios)
            took_s[name].append((time.process_time() - began_s) / COUNT)
    lengths_s = [audio.size / SAMPLE_RATE_HZ for audio in audios]
    result: dict[str, Any] = {"pairs": pairs, "lengths_s": [min(lengths_s), max(lengths_s)]}
    table = Table("", "CPU s a recording", "times less CPU (95% interval)", "word error rate", "texts that differ")
    first = next(iter(sides))
    for name in sides:
        ratios = [one / other for one, other in zip(took_s[first], took_s[name], strict=True)]
        differ = sum(a != b for a, b in zip(texts[first], texts[name], strict=True))
        low, high = interval(ratios)
        row = {
            "cpu_s": statistics.median(took_s[name]),
            "ratio": statistics.median(ratios),
            "interval": [low, high],
            "word_error_rate": word_error_rate(texts[name], words),
            "differ": differ,
        }
        result[name] = row
        gained = f"{row['ratio']:.2f} ({low:.2f} to {high:.2f})" if name != first else ""
        table.add_row(name, f"{row['cpu_s']:.2f}", gained, f"{row['word_error_rate']:.1%}", str(differ))
    console.print(f"{COUNT} recordings of {min(lengths_s):.1f} to {max(lengths_s):.1f} s, {pairs} rounds", table)
    return result


def accuracy(pairs: int) -> dict[str, Any]:
    audios, words = zip(*((decode(path.read_bytes(), 60), normal(text)) for path, text in references().items()), strict=True)
    texts = {name: transcriber(audios) for name, transcriber in Sides().transcribers.items()}
    rates = {name: word_error_rate(found, words) for name, found in texts.items()}
    differ = {name: sum(a != b for a, b in zip(texts["one by one"], found, strict=True)) for name, found in texts.items()}
    table = Table("", "word error rate", "points worse (at most 0.5)", "texts that differ")
    for name, rate in rates.items():
        table.add_row(name, f"{rate:.2%}", f"{(rate - rates['one by one']) * 100:+.2f}", str(differ[name]))
    console.print(f"{len(audios)} recordings, {sum(map(len, words))} words", table)
    return {"recordings": len(audios), "word_error_rate": rates, "differ": differ}


def batches(pairs: int) -> dict[str, Any]:
    audios, _ = zip(*recordings(), strict=True)
    sides = Sides()
    took_s: dict[str, dict[int, float]] = {name: {} for name in sides.engines}
    for name, one in sides.engines.items():
        transcribe(one, audios[:2], 2)
        for most in BATCHES:
            began_s = time.process_time()
            transcribe(one, audios, most)
            took_s[name][most] = (time.process_time() - began_s) / COUNT
    table = Table("recordings in a batch", *took_s)
    for most in BATCHES:
        table.add_row(str(most), *(f"{took_s[name][most]:.3f}" for name in took_s))
    console.print("CPU s a recording", table)
    lines = [list(took_s[name].items()) for name in took_s]
    draw(RESULTS / "transcription.png", list(took_s), [Panel("CPU seconds a recording", "recordings in a batch", lines)])
    return took_s


def triton(pairs: int) -> dict[str, Any]:
    return asyncio.run(_triton(pairs))


async def _triton(pairs: int) -> dict[str, Any]:
    audios = [audio for audio, _ in recordings()]
    deployments = {"on": Whisper(WhisperSettings()), "off": Whisper(WhisperSettings(max_batch=1))}
    for one in deployments.values():
        await one.run(TranscribeRequest(audios[0], "en"), TimeLeft(60))
    wall_s: dict[str, list[float]] = {name: [] for name in deployments}
    for number in range(max(16, 2 * pairs)):
        for name in list(deployments)[:: 1 if number % 2 else -1]:
            began_s = time.perf_counter()
            await deployments[name].run(TranscribeRequest(audios[number % 4], "en"), TimeLeft(60))
            wall_s[name].append(time.perf_counter() - began_s)
    ratios = [on / off for on, off in zip(wall_s["on"], wall_s["off"], strict=True)]
    low, high = interval(ratios)
    p50 = {name: statistics.median(values) for name, values in wall_s.items()}
    console.print(
        f"one client: p50 {p50['on']:.3f} s with batching, {p50['off']:.3f} s without; {statistics.median(ratios):.3f} times "
        f"(median of {len(ratios)} pairs, 95% interval {low:.3f} to {high:.3f}); at most {ALONE} is the goal"
    )
    limit = WhisperSettings().max_batch
    before, todo, sizes = _executed(deployments["on"]), audios * 4, list[float]()

    async def client() -> None:
        while todo:
            transcript = await deployments["on"].run(TranscribeRequest(todo.pop(), "en"), TimeLeft(300))
            sizes.append(transcript.compute_time.batch_size)

    processes = tree(os.getpid())
    began_cpu_s, began_s = cpu_s(processes), time.perf_counter()
    clients = [asyncio.create_task(client()) for _ in range(COUNT)]
    await asyncio.gather(*clients)
    rows, passes = (after - then for after, then in zip(_executed(deployments["on"]), before, strict=True))
    took_s = time.perf_counter() - began_s
    console.print(
        f"{COUNT} clients: {rows / passes:.2f} in a batch (Triton's count / exec_count = {rows:.0f} / {passes:.0f}); "
        f"{FULL} x min(clients, {limit}) = {FULL * min(COUNT, limit):.1f} is the goal; {rows / took_s:.2f} recordings a second, "
        f"{(cpu_s(processes) - began_cpu_s) / rows:.2f} CPU s each; batch size {statistics.mean(sizes):.2f} by the transcripts"
    )
    for one in deployments.values():
        await one.close()
    return {
        "one_client": {"p50_s": p50, "ratio": statistics.median(ratios), "interval": [low, high], "pairs": len(ratios)},
        "saturated": {"clients": COUNT, "limit": limit, "count": rows, "exec_count": passes, "mean_batch": rows / passes},
    }


def long_recordings(seed: int = 0) -> list[tuple[Audio, list[str]]]:
    """Return ten of 60 to 120 s, and their words: sentences in random order, none twice in one recording, with pauses and some noise."""
    rng, found = np.random.default_rng(seed), list[tuple[Audio, list[str]]]()
    available = sentences()
    for wanted in np.linspace(*LONG_S, LONG) * SAMPLE_RATE_HZ:
        parts, words, texts = list[Audio](), list[str](), set[str]()
        for number in rng.permutation(len(available)):
            audio, text = available[number]
            pause = np.zeros(int(rng.uniform(*PAUSE_S) * SAMPLE_RATE_HZ), np.int16)
            if sum(part.size for part in parts) + audio.size + pause.size > wanted:
                break
            if " ".join(text) not in texts:
                parts, words, texts = [*parts, audio, pause], words + text, texts | {" ".join(text)}
        whole = np.concatenate(parts) + rng.integers(-BACKGROUND, BACKGROUND + 1, sum(part.size for part in parts))
        found.append((whole.clip(-32768, 32767).astype(np.int16), words))
    return found


def long(pairs: int) -> dict[str, Any]:
    audios, words = zip(*long_recordings(), strict=True)
    names = get_args(LongRecordings)
    engines = {name: WhisperEngine(WhisperSettings(long_recordings=name).engine_config()) for name in names}
    for one in engines.values():
        one.transcribe(TranscribeRequest(audios[0][: 35 * SAMPLE_RATE_HZ], "en"))
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in engines}
    texts: dict[str, list[str]] = {name: [] for name in engines}
    for number, audio in enumerate(audios):
        for name in list(engines)[:: 1 if number % 2 else -1]:
            began_cpu_s, began_s = time.process_time(), time.perf_counter()
            texts[name].append(engines[name].transcribe(TranscribeRequest(audio, "en")).text)
            took[name].append((time.process_time() - began_cpu_s, time.perf_counter() - began_s))
    lengths_s = [audio.size / SAMPLE_RATE_HZ for audio in audios]
    result: dict[str, Any] = {
        "recordings": len(audios),
        "lengths_s": [min(lengths_s), max(lengths_s)],
        "words": sum(map(len, words)),
    }
    table = Table("", "CPU s a minute", "wall s a minute", "times less CPU (95% interval)", "word error rate")
    for name in engines:
        ratios = [theirs / ours for (ours, _), (theirs, _) in zip(took[name], took["sequential"], strict=True)]
        minutes = [[seconds / length_s * 60 for seconds in both] for both, length_s in zip(took[name], lengths_s, strict=True)]
        cpu_a_minute, wall_a_minute = (statistics.median(column) for column in zip(*minutes, strict=True))
        (low, high), rate = interval(ratios), word_error_rate(texts[name], words)
        result[name] = {"cpu_s_a_minute": cpu_a_minute, "wall_s_a_minute": wall_a_minute, "word_error_rate": rate}
        result[name] |= {"ratio": statistics.median(ratios), "interval": [low, high]}
        gained = f"{statistics.median(ratios):.2f} ({low:.2f} to {high:.2f})"
        table.add_row(name, f"{cpu_a_minute:.2f}", f"{wall_a_minute:.2f}", gained, f"{rate:.2%}")
    console.print(f"{LONG} recordings of {min(lengths_s):.0f} to {max(lengths_s):.0f} s, {result['words']} words", table)
    worse = (word_error_rate(texts["chunked"], words) - word_error_rate(texts["sequential"], words)) * 100
    console.print(f"chunked, the error rate is {worse:+.2f} points; at most {POINTS:+.2f} is the goal")
    return result


def _executed(one: Whisper) -> tuple[float, float]:
    """Return Triton's count of rows, and of batches."""
    text = one._triton.metrics()
    found = (re.search(rf"^nv_inference_{name}\{{.*\}} (\S+)$", text, re.M) for name in ("count", "exec_count"))
    rows, passes = (float(match[1]) for match in found if match)
    return rows, passes


PARTS = {"engine": engine, "engines": engines, "accuracy": accuracy, "batches": batches, "triton": triton, "long": long}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS, action="append", help="only this part; may be repeated")
    parser.add_argument("--pairs", type=int, default=7)
    arguments = parser.parse_args()
    record(RESULTS / "transcription.json", PARTS, arguments.part or PARTS, arguments.pairs, console)


if __name__ == "__main__":
    main()
