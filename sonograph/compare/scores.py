"""Word errors of transcripts, counted as Whisper's own evaluation does: texts are normalized before words are compared."""

import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

from sonograph.compare.measured import Measured

WITHOUT_SPACES = ("zh", "ja", "th", "lo", "my", "yue")
"""Languages whose characters are compared, not words (Radford et al. 2022)."""
type Text = tuple[str, str]
"""A text and the ISO 639-1 code of its language; an empty code is English."""
type Normalize = Callable[[Sequence[Text]], list[str]]


@dataclass(frozen=True)
class Errors:
    """Word errors of one text: words to replace, insert or delete."""

    count: int
    words: int
    """Of the text that it is compared with."""

    @property
    def rate(self) -> float | None:
        return self.count / self.words if self.words else None


@dataclass(frozen=True)
class Scores:
    """Errors by candidate and input."""

    reference: Mapping[tuple[str, str], Errors]
    """Against the known text, of inputs that have one."""
    largest: Mapping[tuple[str, str], Errors]
    """Against the largest model's text, of inputs without a known one."""


def is_installed() -> bool:
    """Whether Whisper's normalizers are in this process's environment."""
    return importlib.util.find_spec("whisper") is not None


def normalized(texts: Sequence[Text]) -> list[str]:
    """The texts with Whisper's spelling of numbers, case and punctuation; those of languages without spaces letter by letter."""
    return [_normalizer(language)(text).strip() for text, language in texts]


@cache
def _normalizer(language: str) -> Callable[[str], str]:
    found = _package()
    if language in ("", "en"):
        english: Callable[[str], str] = found.EnglishTextNormalizer()
        return english
    basic: Callable[[str], str] = found.BasicTextNormalizer(split_letters=language in WITHOUT_SPACES)
    return basic


@cache
def _package() -> ModuleType:
    """`whisper.normalizers` without `whisper`, which loads torch."""
    whisper = importlib.util.find_spec("whisper")
    if whisper is None or not whisper.submodule_search_locations:
        raise ModuleNotFoundError("openai-whisper is not installed: pip install 'sonograph[whisper]'", name="whisper")
    folder = Path(whisper.submodule_search_locations[0]) / "normalizers"
    name = "sonograph.compare._whisper_normalizers"
    spec = importlib.util.spec_from_file_location(name, folder / "__init__.py", submodule_search_locations=[str(folder)])
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def word_errors(reference: str, text: str) -> Errors:
    """Errors of a normalized text."""
    import jiwer

    if not reference:
        return Errors(len(text.split()), 0)
    found = jiwer.process_words(reference, text)
    return Errors(found.substitutions + found.deletions + found.insertions, found.hits + found.substitutions + found.deletions)


def scored(
    measured: Sequence[Measured], references: Mapping[str, str], largest: str | None, normalize: Normalize, language: str = ""
) -> Scores:
    """Errors of all texts. `references`: known texts by input. `largest`: the candidate whose texts the others are compared with.

    `language`: of all recordings; without it each one's is the one that the largest model found. A candidate that failed on an input
    where another did not has all its words wrong, if it did any input at all.
    """
    texts: dict[str, dict[str, str]] = {}
    languages: dict[str, str] = {}
    for one in measured:
        if one.error is None and one.text is not None:
            texts.setdefault(one.input, {})[one.candidate] = one.text
            if language or one.input not in languages or one.candidate == largest:
                languages[one.input] = language or one.language
    able = {candidate for found in texts.values() for candidate in found}
    failed = {(one.candidate, one.input) for one in measured if one.error is not None}
    compared: list[tuple[str, str, bool]] = []
    wanted: list[Text] = []
    for name, found in texts.items():
        truth = references.get(name, found.get(largest) if largest else None)
        if truth is None:
            continue
        for candidate in sorted(able):
            if candidate in found or (candidate, name) in failed:
                compared.append((candidate, name, name in references))
                wanted += [(truth, languages[name]), (found.get(candidate, ""), languages[name])]
    plain = normalize(wanted)
    errors = [word_errors(*pair) for pair in zip(plain[::2], plain[1::2], strict=True)]
    both = list(zip(compared, errors, strict=True))
    return Scores(
        {(candidate, name): one for (candidate, name, known), one in both if known},
        {(candidate, name): one for (candidate, name, known), one in both if not known},
    )


def rate(errors: Sequence[Errors]) -> float | None:
    """Errors for each word of all texts."""
    words = sum(one.words for one in errors)
    return sum(one.count for one in errors) / words if words else None
