"""Cost and accuracy of padding to 30 s: `python -m benchmarks.padding`.

It runs Whisper's engine alone, in this process, over all test speech: once with every window padded, as openai-whisper does, and once
with adaptive padding. Both transcribe each recording in turns, the order changing from one to the next; word error rates are by
openai-whisper's normalizer.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from itertools import batched
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table
from whisper.normalizers import EnglishTextNormalizer

from benchmarks import measure
from benchmarks.measure import SPEECH, circumstances
from deployments.roles.speech_to_text import SAMPLE_RATE_HZ, TranscribeRequest
from deployments.whisper.engine import WhisperEngine
from deployments.whisper.sequence import unfinished
from deployments.whisper.settings import WhisperSettings
from graphs.audio.decode import decode

PADDINGS = ("always", "adaptive")
NORMALIZER = EnglishTextNormalizer()
Audio = NDArray[np.int16]
"""[samples], mono 16 kHz."""
POINTS = 0.5
"""The word error rate may be worse by so many percentage points."""


def references() -> dict[Path, str]:
    """Return the words of each recording of the test speech."""
    found = {SPEECH / name: text for name, text in json.loads((SPEECH / "sentences.json").read_text()).items()}
    for folder in ("things", "scots", "real"):
        texts = json.loads((SPEECH / folder / "transcripts.json").read_text())
        found |= {SPEECH / folder / name: text for name, text in texts.items()}
    return found | {path: path.stem.split("-")[0] for path in sorted((SPEECH / "words").glob("*.ogg"))}


def normal(text: str) -> list[str]:
    """Return the words of a text as openai-whisper's own evaluation compares them."""
    return str(NORMALIZER(text)).split()


def word_errors(reference: Sequence[str], hypothesis: Sequence[str]) -> int:
    """Count the words to replace, insert or delete: the Levenshtein distance. The spacing of a compound is no error."""
    rows = [list(range(len(hypothesis) + 1))]
    for at, word in enumerate(reference, start=1):
        row = [at]
        for column, other in enumerate(hypothesis, start=1):
            least = min(row[-1] + 1, rows[-1][column] + 1, rows[-1][column - 1] + (word != other))
            if at > 1 and reference[at - 2] + word == other:
                least = min(least, rows[-2][column - 1])
            if column > 1 and hypothesis[column - 2] + other == word:
                least = min(least, rows[-1][column - 2])
            row.append(least)
        rows.append(row)
    return rows[-1][-1]


def transcribe(engine: WhisperEngine, audios: Sequence[Audio], max_batch: int) -> list[str]:
    """Return the engine's text of each, `max_batch` of them in a step. Raises what ended one of them."""
    texts = []
    for some in batched(audios, max_batch):
        groups = [engine.prepare(TranscribeRequest(audio, "en")) for audio in some]
        while unfinished(groups):
            engine.run_step([sequence for group in unfinished(groups) for sequence in group.sequences])
        for group in groups:
            if group.transcript is None:
                raise group.error or RuntimeError("a recording has neither a transcript nor an error")
            texts.append(group.transcript.text)
    return texts


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    console = Console()
    engines = {padding: WhisperEngine(WhisperSettings(padding=padding).engine_config()) for padding in PADDINGS}
    wrong, cpu_s = dict.fromkeys(PADDINGS, 0), {padding: list[float]() for padding in PADDINGS}
    words, lengths_s = 0, list[float]()
    for number, (path, text) in enumerate(track(references().items(), "Transcribing", console=console)):
        audio, reference = decode(path.read_bytes(), 60), normal(text)
        words += len(reference)
        lengths_s.append(audio.size / SAMPLE_RATE_HZ)
        for padding in PADDINGS[:: 1 if number % 2 else -1]:
            began_s = time.process_time()
            hypothesis = engines[padding].transcribe(TranscribeRequest(audio, "en")).text
            cpu_s[padding].append(time.process_time() - began_s)
            wrong[padding] += word_errors(reference, normal(hypothesis))
    rates = {padding: wrong[padding] / words for padding in PADDINGS}
    table = Table("padding", "word error rate", "CPU s a recording")
    for padding in PADDINGS:
        table.add_row(padding, f"{rates[padding]:.1%}", f"{statistics.median(cpu_s[padding]):.2f}")
    console.print(table)
    ratios = [always / adaptive for always, adaptive in zip(*cpu_s.values(), strict=True)]
    low, high = measure.interval(ratios)
    console.print(
        f"{len(ratios)} recordings of {min(lengths_s):.1f} to {max(lengths_s):.1f} s, {words} words: "
        f"{statistics.median(ratios):.2f} times less CPU (median of pairs, 95% interval {low:.2f} to {high:.2f}); "
        f"all of them {sum(cpu_s['always']) / sum(cpu_s['adaptive']):.2f} times"
    )
    console.print(circumstances())
    worse = (rates["adaptive"] - rates["always"]) * 100
    console.print(f"the error rate changes by {worse:+.2f} points; at most {POINTS:+.2f} is the goal")
    sys.exit(worse > POINTS)


if __name__ == "__main__":
    main()
