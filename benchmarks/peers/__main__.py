"""This service beside what a user would pick instead: `python -m benchmarks.peers [names] [--rounds 9]`.

Each has its own environment, installed from the lock beside its code, and the same weights, recordings and cores. First the words and
pictures of all are compared, at rest. Then rounds: in each, one after the other starts, serves and ends, in an order that differs by
round, so that no one's idle processes cost another. Results are kept after each; a further run goes on where the last one ended.
"""

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from benchmarks.measure import circumstances
from benchmarks.padding import word_errors
from benchmarks.peers import environments, report
from benchmarks.peers.environments import BUILT, CannotBeInstalled
from benchmarks.peers.rounds import Round, Verdict, capacity, run
from benchmarks.peers.services import PEERS, Outcome, Peer
from benchmarks.transcription import recordings, word_error_rate
from testing.media import wav
from testing.service import ROOT

RESULTS = Path(__file__).parent.parent / "results" / "peers.json"
PAGE = ROOT / "docs" / "benchmarks.md"
WORDS = 0.05
"""A service's share of wrong words may be so much above the least of all."""
PIXELS = 8.0
"""A picture's mean difference of a colour value, of 255, from this service's of the same words, or from its own at rest."""
OTHER_WORDS = 1 / 3
"""Of a text at rest, the share of words that may differ in another answer to the same recording. In bf16, and in int8, a batch of another
size rounds otherwise, which now and then decides between two words; an answer to another recording has none of the words."""
NO_PICTURE = 255.0
console = Console(width=180)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(peer.name for peer in PEERS)}; all by default")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--anew", action="store_true", help="leave out what an earlier run has measured")
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.names) - {peer.name for peer in PEERS}):
        parser.error(f"no {', '.join(unknown)}")
    peers = [peer for peer in PEERS if peer.name in (arguments.names or [one.name for one in PEERS])]
    results = Results(arguments.results, arguments.anew)
    audios, words = zip(*recordings(), strict=True)
    spoken = [wav(audio.tobytes()) for audio in audios]
    for peer in list(peers):
        try:
            if peer.folder:
                with console.status(f"{peer.title}: environment"):
                    environments.prepare(peer.folder)
        except CannotBeInstalled as error:
            console.print(f"{peer.title} is left out: {error}", soft_wrap=True)
            results.skip(peer, str(error))
            peers.remove(peer)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        _measure(peers, spoken, arguments.rounds, results, progress)
    _compare_answers(results, words)
    if not results.rounds:
        return
    console.print(*report.tables(results.rounds))
    console.print(f"behind in: {', '.join(report.behind(results.rounds)) or 'nothing'}", soft_wrap=True)
    report.draw(arguments.results.with_suffix(".png"), results.rounds)
    if arguments.results == RESULTS:
        report.write(PAGE, results.rounds)


class Results:
    """Measurements so far, in a file that is rewritten after each round; each service's pictures at rest are in build/peers."""

    def __init__(self, path: Path, anew: bool) -> None:
        self._path = path
        self._content: dict[str, Any] = {"at_rest": {}, "rounds": {}, "skipped": {}, "circumstances": []}
        if path.is_file() and not anew:
            self._content |= json.loads(path.read_text())

    @property
    def rounds(self) -> dict[str, list[dict[str, Any]]]:
        return dict(self._content["rounds"])

    @property
    def at_rest(self) -> dict[str, dict[str, Any]]:
        """By name: capacity, and the text of each recording."""
        return dict(self._content["at_rest"])

    def rested(self, peer: Peer, per_s: float, outcomes: Sequence[Outcome]) -> None:
        folder = _pictures(peer)
        folder.mkdir(parents=True, exist_ok=True)
        for number, outcome in enumerate(outcomes):
            (folder / f"{number}.png").write_bytes(outcome.image)
        self._content["at_rest"][peer.name] = {"per_s": per_s, "texts": [outcome.text for outcome in outcomes]}
        self._write()

    def add(self, peer: Peer, one: Round) -> None:
        self._content["rounds"].setdefault(peer.name, []).append(asdict(one))
        if (by := circumstances().split(", load")[0] + circumstances().rpartition(",")[2]) not in self._content["circumstances"]:
            self._content["circumstances"].append(by)
        self._write()

    def skip(self, peer: Peer, reason: str) -> None:
        self._content["skipped"][peer.name] = reason
        self._write()

    def _write(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        part = self._path.with_suffix(".part")
        part.write_text(json.dumps(self._content, indent=1) + "\n")
        part.replace(self._path)


def _measure(peers: Sequence[Peer], spoken: Sequence[bytes], count: int, results: Results, progress: Progress) -> None:
    task = progress.add_task("", total=len(peers) * (count + 1))
    for peer in peers:
        if peer.name not in results.at_rest or not (_pictures(peer) / f"{len(spoken) - 1}.png").is_file():
            results.rested(peer, *capacity(peer, spoken, lambda step, peer=peer: _tell(progress, task, peer, step)))
        progress.advance(task)
    for number in range(count):
        for peer in rotated(peers, number):
            if len(results.rounds.get(peer.name, ())) <= number:
                smallest_per_s = min(results.at_rest[one.name]["per_s"] for one in peers)
                expected = at_rest(peer, results.at_rest[peer.name]["texts"])
                one = run(
                    peer,
                    spoken,
                    smallest_per_s,
                    lambda number, outcome, expected=expected: verdict(expected[number], outcome),
                    lambda step, peer=peer, number=number: _tell(progress, task, peer, f"round {number + 1}: {step}"),
                )
                results.add(peer, one)
            progress.advance(task)


def rotated(peers: Sequence[Peer], number: int) -> list[Peer]:
    """Return the order of a round: each is first as often as another, and every other time around the order runs backwards."""
    at = number % len(peers)
    order = [*peers[at:], *peers[:at]]
    return order[::-1] if number // len(peers) % 2 else order


def _tell(progress: Progress, task: Any, peer: Peer, step: str) -> None:
    progress.update(task, description=f"{peer.title}, {step}")


def _pictures(peer: Peer) -> Path:
    return BUILT / "pictures" / peer.name


def at_rest(peer: Peer, texts: Sequence[str]) -> list[Outcome]:
    """Return a service's answers at rest, as stored."""
    return [Outcome(200, text, (_pictures(peer) / f"{number}.png").read_bytes()) for number, text in enumerate(texts)]


def verdict(expected: Outcome, answer: Outcome) -> Verdict:
    """Return what an answer is beside that at rest: a picture is compared where the words are the same."""
    apart = difference(expected.image, answer.image)
    words, found = expected.text.split(), answer.text.split()
    if found == words:
        return "same" if apart <= PIXELS else "wrong"
    return "other words" if word_errors(words, found) <= OTHER_WORDS * len(words) and apart < NO_PICTURE else "wrong"


def difference(one: bytes, other: bytes) -> float:
    """Return the mean absolute difference of two pictures' colour values, of 255; NO_PICTURE where one is none, or of another size."""
    try:
        a, b = (np.asarray(Image.open(BytesIO(image)).convert("RGB"), np.int16) for image in (one, other))
    except OSError:
        return NO_PICTURE
    return float(np.abs(a - b).mean()) if a.shape == b.shape else NO_PICTURE


def _compare_answers(results: Results, words: Sequence[list[str]]) -> None:
    """Print each service's errors at rest, and how far its pictures are from this service's; say what is beyond the bounds."""
    stored: Mapping[str, Any] = results.at_rest
    answers = {peer.name: (peer, at_rest(peer, stored[peer.name]["texts"])) for peer in PEERS if peer.name in stored}
    errors = {name: word_error_rate([one.text for one in each], words) for name, (_, each) in answers.items()}
    table = Table("", "words wrong", "same words as this service", "pictures' difference, of 255", "")
    for name, (peer, each) in answers.items():
        ours = answers[PEERS[0].name][1] if PEERS[0].name in answers else each
        same = [(a, b) for a, b in zip(ours, each, strict=True) if a.text.split() == b.text.split()]
        apart = [difference(a.image, b.image) for a, b in same]
        bound = errors[name] <= min(errors.values()) + WORDS and max(apart, default=NO_PICTURE) <= PIXELS
        median = f"{statistics.median(apart):.2f}, {max(apart):.2f} at most" if apart else "-"
        table.add_row(
            peer.title, f"{errors[name]:.1%}", f"{len(same)} of {len(each)}", median, "" if bound else "beyond the bounds"
        )
    console.print(f"Answers at rest (bounds: {WORDS:.0%} more words wrong than the least; {PIXELS:g} of 255)", table)


if __name__ == "__main__":
    main()
