"""Parameters of a request: every bound from both sides, and refusals that name it."""

from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.errors import InvalidInput
from deployments.roles.speech_to_text import TranscribeRequest
from deployments.roles.text_to_image import GenerateRequest
from deployments.time_left import TimeLeft
from graphs.core.context import RequestContext
from graphs.http.parameters import validate
from graphs.voice_to_image import DrawParameters
from graphs.voice_to_text import ListenParameters
from testing.fakes import CHARACTERS, FakeService

GRAPH, _ = FakeService().graphs()
MAX_SIDE_PX = 256
"""Setting of the fake diffusion stage."""
NAMES = st.sampled_from(list(DrawParameters.model_fields))


def of(**query: str) -> DrawParameters:
    return parse(query.items())


def parse(fields: Iterable[tuple[str, str]]) -> DrawParameters:
    """Validate and check the fields as the route of `POST /graph` does."""
    parameters = validate(fields, DrawParameters)
    GRAPH.check(parameters)
    return parameters


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("language", "de", "de"),
        ("language", "x" * 32, "x" * 32),
        ("task", "transcribe", "transcribe"),
        ("task", "translate", "translate"),
        ("prompt_prefix", "é" * 1000, "é" * 1000),
        ("negative_prompt", "🦊" * 1000, "🦊" * 1000),
        ("steps", "1", 1),
        ("steps", "150", 150),
        ("guidance_scale", "0", 0.0),
        ("guidance_scale", "30", 30.0),
        ("guidance_scale", "7.5", 7.5),
        ("width", "8", 8),
        ("width", "256", 256),
        ("height", "8", 8),
        ("height", "256", 256),
        ("seed", "0", 0),
        ("seed", "4294967295", 4294967295),
        ("n", "1", 1),
        ("n", "8", 8),
        ("output_format", "png", "png"),
        ("output_format", "jpeg", "jpeg"),
        ("output_format", "webp", "webp"),
        ("timeout_ms", "1", 1),
        ("timeout_ms", "2147483647", 2147483647),
        ("previews", "0", 0),
        ("previews", "50", 50),
    ],
)
def test_a_value_at_its_bound_is_accepted(name: str, value: str, expected: object) -> None:
    assert getattr(of(**{name: value}), name) == expected


@pytest.mark.parametrize(
    ("name", "value", "bound"),
    [
        ("language", "x" * 33, "32"),
        ("task", "sing", "'transcribe' or 'translate'"),
        ("prompt_prefix", "x" * 1001, "1000"),
        ("negative_prompt", "x" * 1001, "1000"),
        ("steps", "0", "greater than or equal to 1"),
        ("steps", "151", "less than or equal to 150"),
        ("steps", "2.5", "integer"),
        ("steps", "many", "integer"),
        ("guidance_scale", "-0.1", "greater than or equal to 0"),
        ("guidance_scale", "30.1", "less than or equal to 30"),
        ("guidance_scale", "nan", "finite"),
        ("guidance_scale", "inf", "finite|less than or equal to 30"),
        ("guidance_scale", "strong", "number"),
        ("width", "0", "greater than or equal to 8"),
        ("width", "-8", "greater than or equal to 8"),
        ("width", "12", "multiple of 8"),
        ("width", "264", "at most 256 .*diffusion.max_side_px"),
        ("height", "0", "greater than or equal to 8"),
        ("height", "65", "multiple of 8"),
        ("height", "264", "at most 256 .*diffusion.max_side_px"),
        ("seed", "-1", "greater than or equal to 0"),
        ("seed", "4294967296", "less than or equal to 4294967295"),
        ("seed", "1e3", "integer"),
        ("n", "0", "greater than or equal to 1"),
        ("n", "9", "less than or equal to 8"),
        ("n", "2.5", "integer"),
        ("output_format", "gif", "'png', 'jpeg' or 'webp'"),
        ("output_format", "PNG", "'png', 'jpeg' or 'webp'"),
        ("timeout_ms", "0", "greater than or equal to 1"),
        ("timeout_ms", "2147483648", "less than or equal to 2147483647"),
        ("timeout_ms", "0.5", "integer"),
        ("previews", "-1", "greater than or equal to 0"),
        ("previews", "51", "less than or equal to 50"),
        ("previews", "all", "integer"),
    ],
)
def test_a_value_beyond_its_bound_is_refused_by_name_and_bound(name: str, value: str, bound: str) -> None:
    with pytest.raises(InvalidInput, match=f"^{name} must .*({bound})"):
        of(**{name: value})


def test_every_parameter_is_tested_at_and_beyond_its_bound() -> None:
    for test in (test_a_value_at_its_bound_is_accepted, test_a_value_beyond_its_bound_is_refused_by_name_and_bound):
        (mark,) = test.pytestmark
        assert {case[0] for case in mark.args[1]} == set(DrawParameters.model_fields)


def test_every_fault_is_named_at_once() -> None:
    with pytest.raises(InvalidInput, match=r"^steps must .*; seed must .*"):
        of(steps="0", seed="-1", task="translate")


def test_fields_of_query_and_form_are_read_together() -> None:
    parameters = parse([("steps", "4"), ("seed", "9"), ("prompt_prefix", "a drawing of")])
    assert (parameters.steps, parameters.seed, parameters.prompt_prefix) == (4, 9, "a drawing of")


@pytest.mark.parametrize("second", ["1", "2", ""])
def test_a_repeated_parameter_is_refused(second: str) -> None:
    with pytest.raises(InvalidInput, match="seed is given twice"):
        parse([("seed", "1"), ("seed", second)])


@pytest.mark.parametrize("name", ["stesp", "Seed", "file2", "\x00\x1b[31m", "x" * 500])
def test_an_unknown_parameter_is_refused_by_a_sentence_with_the_others(name: str) -> None:
    with pytest.raises(
        InvalidInput, match=r"is no parameter; there are timeout_ms, language, task, .*output_format, previews$"
    ) as refusal:
        of(**{name: "1"})
    assert str(refusal.value).isprintable()
    assert len(str(refusal.value)) < 300


def test_a_thousand_unknown_names_are_answered_with_the_first_ten() -> None:
    with pytest.raises(InvalidInput, match=r"^x0, x1, .*, x9 and 990 more are no parameter; there are timeout_ms,") as refusal:
        parse((f"x{number}", "1") for number in range(1000))
    assert len(str(refusal.value)) < 400
    with pytest.raises(InvalidInput, match=r"^a, b are no parameter; there are") as refusal:
        parse([("a", "1"), ("b", "1")])


def test_a_field_without_a_value_counts_as_absent() -> None:
    assert parse((name, "") for name in DrawParameters.model_fields) == of()


async def requests(parameters: DrawParameters) -> tuple[TranscribeRequest, GenerateRequest]:
    """Return the requests to both stages."""
    service = FakeService()
    graph, _ = service.graphs()
    await graph.run(np.zeros(16_000, np.int16), parameters, RequestContext("id-1", TimeLeft(50)))
    ((transcribe, _),), ((generate, _),) = service.whisper.calls, service.diffusion.calls
    return transcribe, generate


async def test_absent_parameters_are_left_to_the_models() -> None:
    transcribe, generate = await requests(of())
    assert (generate.steps, generate.guidance_scale, generate.width, generate.height) == (None, None, None, None)
    assert (generate.negative_prompt, generate.format, generate.previews) == ("", "png", 0)
    assert (transcribe.language, transcribe.task) == ("", "transcribe")
    assert (of().timeout_ms, of().previews) == (None, 0)
    transcribe, _ = await requests(of(language=" de ", task="translate"))
    assert (transcribe.language, transcribe.task) == ("de", "translate")


async def test_every_parameter_reaches_its_stage() -> None:
    more = {"steps": "4", "guidance_scale": "2", "width": "64", "height": "72", "output_format": "webp", "previews": "3"}
    _, generate = await requests(of(seed="9", prompt_prefix="a drawing of", negative_prompt="a pear", **more))
    assert generate == GenerateRequest("a drawing of a red apple", "a pear", 4, 2.0, 64, 72, 9, "webp", 3)


async def test_a_missing_seed_is_chosen_at_random_and_a_named_one_is_kept() -> None:
    drawn = {(await requests(of()))[1].seed for _ in range(20)}
    assert len(drawn) > 1
    assert all(0 <= seed < 2**32 for seed in drawn)
    assert (await requests(of(seed="0")))[1].seed == 0


@given(st.lists(st.tuples(NAMES | st.text(CHARACTERS), st.text(CHARACTERS)), max_size=4))
def test_any_text_is_accepted_or_refused_as_a_parameter(pairs: list[tuple[str, str]]) -> None:
    try:
        parameters = parse(pairs)
    except InvalidInput as refusal:
        message = str(refusal)
    else:
        assert {name for name, value in pairs if value} >= parameters.model_fields_set
        return
    assert message
    assert "Traceback" not in message


@given(st.sampled_from(["steps", "seed", "width", "height", "guidance_scale"]), st.integers() | st.floats())
def test_any_number_is_within_its_bounds_or_is_refused(name: str, number: float) -> None:
    try:
        value = getattr(of(**{name: str(number)}), name)
    except InvalidInput:
        return
    lowest, highest = {"steps": (1, 150), "seed": (0, 2**32 - 1), "guidance_scale": (0, 30)}.get(name, (8, MAX_SIDE_PX))
    assert lowest <= value <= highest


@pytest.mark.parametrize("name", sorted(ListenParameters.model_fields))
def test_a_transcriptions_parameters_have_the_bounds_of_a_drawings(name: str) -> None:
    one, other = (kind.model_json_schema()["properties"][name] for kind in (ListenParameters, DrawParameters))
    assert {**one, "description": ""} == {**other, "description": ""}


def test_a_transcription_refuses_the_parameters_of_a_drawing() -> None:
    with pytest.raises(InvalidInput, match=r"^steps is no parameter; there are timeout_ms, language, task$"):
        validate([("steps", "4")], ListenParameters)
