"""Word errors of texts."""

import subprocess
import sys

import pytest

from sonograph.compare.scores import Errors, normalized, rate, scored, word_errors
from testing.service import ROOT
from tests.sonograph.compare.fakes import measured

TINY, BASE = "tiny.en, openai-whisper", "base, openai-whisper"


def plain(texts: object) -> list[str]:
    """Texts as they are."""
    return [text for text, _ in texts]


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("It's the colour of twenty-one boats!", "en", "it is the color of 21 boats"),
        ("Fünf Äpfel.", "de", "fünf äpfel"),
        ("赤いりんご。", "ja", "赤 い り ん ご"),
        ("A red apple", "", "a red apple"),
    ],
)
def test_texts_are_normalized_as_whispers_own_evaluation_does(text: str, language: str, expected: str) -> None:
    assert normalized([(text, language)]) == [expected]


def test_normalizing_loads_no_torch() -> None:
    program = (
        "import sys; from sonograph.compare.scores import normalized; normalized([('One.', 'en')]); print('torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout == "False\n"


@pytest.mark.parametrize(
    ("reference", "text", "errors"),
    [
        ("one red apple", "one red apple", Errors(0, 3)),
        ("one red apple", "one bread apple", Errors(1, 3)),
        ("one red apple", "red apple pie", Errors(2, 3)),
        ("one red apple", "", Errors(3, 3)),
        ("", "noise", Errors(1, 0)),
    ],
)
def test_errors_are_words_to_replace_insert_and_delete(reference: str, text: str, errors: Errors) -> None:
    assert word_errors(reference, text) == errors


def test_known_texts_count_where_there_are_some_and_the_largest_models_elsewhere() -> None:
    found = [
        measured(candidate=TINY, input="a.wav", text="one bread apple"),
        measured(candidate=TINY, input="b.wav", text="a boat"),
        measured(candidate=BASE, input="a.wav", text="one red apple"),
        measured(candidate=BASE, input="b.wav", text="a small boat"),
    ]
    scores = scored(found, {"a.wav": "one red apple"}, BASE, plain)
    assert scores.reference == {(TINY, "a.wav"): Errors(1, 3), (BASE, "a.wav"): Errors(0, 3)}
    assert scores.largest == {(TINY, "b.wav"): Errors(1, 3), (BASE, "b.wav"): Errors(0, 3)}


def test_a_recording_that_a_candidate_failed_on_counts_with_all_its_words() -> None:
    found = [
        measured(candidate=TINY, input="a.wav", text="one red apple"),
        measured(candidate=TINY, input="b.wav", text=None, error="it was killed"),
        measured(candidate=BASE, input="a.wav", text="one red apple"),
        measured(candidate=BASE, input="b.wav", text="a small boat"),
    ]
    scores = scored(found, {"a.wav": "one red apple", "b.wav": "a small boat"}, BASE, plain)
    assert scores.reference[TINY, "b.wav"] == Errors(3, 3)


def test_a_recording_that_nobody_could_read_and_a_model_that_never_loaded_have_no_errors() -> None:
    found = [
        measured(candidate=TINY, input="a.wav", text=None, error="it is no file"),
        measured(candidate=TINY, input="b.wav", text="a boat"),
        measured(candidate=BASE, input="a.wav", text=None, error="it is no file"),
        measured(candidate=BASE, input="b.wav", text=None, error="the model does not load"),
    ]
    assert list(scored(found, {"a.wav": "x", "b.wav": "a boat"}, TINY, plain).reference) == [(TINY, "b.wav")]


@pytest.mark.parametrize(("given", "expected"), [("", "ja"), ("de", "de")])
def test_a_recordings_language_is_the_one_that_was_given_or_that_the_largest_model_found(given: str, expected: str) -> None:
    languages = []

    def normalize(texts: object) -> list[str]:
        languages.extend(language for _, language in texts)
        return plain(texts)

    found = [measured(candidate=TINY, language="en"), measured(candidate=BASE, language="ja")]
    scored(found, {"a.wav": "x"}, BASE, normalize, given)
    assert set(languages) == {expected}


def test_the_rate_is_over_all_words_and_not_the_mean_of_rates() -> None:
    assert rate([Errors(1, 1), Errors(0, 9)]) == 0.1
    assert rate([]) is None
