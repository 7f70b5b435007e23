"""A result's shape: its class, the types of its fields, and finite numbers."""

from dataclasses import dataclass, replace

import pytest

from deployments.compute_time import ComputeTime
from deployments.roles.speech_to_text import Segment, Transcript
from deployments.roles.text_to_image import Image, Step
from graphs.rollouts.shape import check_shape
from testing.fakes import image, transcript


@dataclass(frozen=True)
class Scored:
    score: float | None


def test_the_results_of_the_roles_have_their_shape() -> None:
    check_shape(Transcript, transcript())
    check_shape(Transcript, Transcript("", "en", ()))
    check_shape(Image, image())


def test_a_whole_number_is_a_number() -> None:
    check_shape(Image, replace(image(), encode_ms=2))
    check_shape(Scored, Scored(1))
    check_shape(Scored, Scored(None))


@pytest.mark.parametrize(
    ("expected", "result", "sentence"),
    [
        (Transcript, image(), "Transcript is of the class Image, not Transcript"),
        (Image, None, "Image is of the class NoneType, not Image"),
        (Image, Step(1, 2, 3.0), "Image is of the class Step, not Image"),
        (Image, replace(image(), encoded="PNG"), "Image.encoded is of the class str, not bytes"),
        (Image, replace(image(), width=64.0), "Image.width is of the class float, not int"),
        (Image, replace(image(), width=True), "Image.width is of the class bool, not int"),
        (Image, replace(image(), encode_ms=float("inf")), "Image.encode_ms is inf, which is not finite"),
        (Image, replace(image(), compute_time=ComputeTime(unit_s=float("nan"))), "Image.compute_time.unit_s is nan"),
        (Transcript, replace(transcript(), segments=[]), "Transcript.segments is of the class list, not tuple"),
        (Transcript, replace(transcript(), segments=("a",)), r"Transcript.segments\[0\] is of the class str, not Segment"),
        (
            Transcript,
            replace(transcript(), segments=(Segment(0.0, 1.0, "a", float("nan"), 0.0),)),
            r"Transcript.segments\[0\].avg_logprob is nan, which is not finite",
        ),
        (Scored, Scored("1"), "Scored.score is of the class str, not float or NoneType"),
        (Scored, Scored(float("nan")), "Scored.score is nan"),
    ],
)
def test_another_shape_is_refused_with_the_field(expected: type, result: object, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        check_shape(expected, result)
