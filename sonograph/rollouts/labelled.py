"""Word errors of both models on recordings whose texts are known."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sonograph.errors import Failed

MODELS = ("stable", "candidate")


@dataclass(frozen=True)
class Recording:
    path: Path
    text: str


def read(file: Path) -> list[Recording]:
    """The recordings of a file with the lines `path<TAB>text`, each path relative to the file. Raises Failed."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeError) as error:
        raise Failed(f"cannot read {file}: {getattr(error, 'strerror', None) or 'it is no text'}") from error
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        path, is_pair, text = line.partition("\t")
        if not is_pair or not text.strip():
            raise Failed(f"line {number} of {file} has no text: write the recording's path, a tab, and its words")
        recording = Recording(file.parent / path.strip(), text.strip())
        if not recording.path.is_file():
            raise Failed(f"line {number} of {file}: there is no recording {recording.path}")
        found.append(recording)
    if not found:
        raise Failed(f"{file} names no recordings: each line is a path, a tab, and the recording's words")
    return found


def measure(
    recordings: Sequence[Recording], transcribe: Callable[[bytes, str], str], report: Callable[[int], None] = lambda done: None
) -> dict[str, int]:
    """Transcribe each recording by both models, in turns the one and the other first, and count their word errors.

    `transcribe`: of a recording, by `stable` or `candidate`. `report`: called with the recordings done.
    """
    try:
        from rapidfuzz.distance import Levenshtein  # of the ingress's packages, which the command line does without otherwise

        from graphs.rollouts.compare import words
    except ImportError as error:
        raise Failed(f"--labelled needs the ingress's packages ({error}): pip install 'sonograph[ingress]'") from error

    errors = dict.fromkeys(MODELS, 0)
    for number, recording in enumerate(recordings):
        content, label = recording.path.read_bytes(), words(recording.text)
        for model in MODELS if number % 2 == 0 else MODELS[::-1]:
            errors[model] += Levenshtein.distance(label, words(transcribe(content, model)))
        report(number + 1)
    count = sum(len(words(recording.text)) for recording in recordings)
    if not count:
        raise Failed("the labels have no words")
    return {"recordings": len(recordings), "words": count, **errors}
