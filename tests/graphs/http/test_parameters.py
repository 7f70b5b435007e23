"""The parameters of a request: every bound from both sides, and refusals that name it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.errors import InvalidInput
from graphs.http.parameters import DrawParameters, parse
from testing.fakes import CHARACTERS

MAX_SIDE_PX = 256
NAMES = st.sampled_from(list(DrawParameters.model_fields))


def of(**query: str) -> DrawParameters:
    return parse(query.items(), [], MAX_SIDE_PX)


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
        ("output_format", "png", "png"),
        ("output_format", "jpeg", "jpeg"),
        ("output_format", "webp", "webp"),
        ("timeout_ms", "1", 1),
        ("timeout_ms", "2147483647", 2147483647),
        ("previews", "0", 0),
        ("previews", "50", 50),
    ],
)
def test_a_value_at_its_bound_is_taken(name: str, value: str, expected: object) -> None:
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


def test_every_parameter_is_tried_at_and_beyond_its_bound() -> None:
    for test in (test_a_value_at_its_bound_is_taken, test_a_value_beyond_its_bound_is_refused_by_name_and_bound):
        (mark,) = test.pytestmark
        assert {case[0] for case in mark.args[1]} == set(DrawParameters.model_fields)


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(InvalidInput, match=r"^steps must .*; seed must .*"):
        of(steps="0", seed="-1", task="translate")


def test_query_and_form_are_read_together() -> None:
    parameters = parse([("steps", "4")], [("seed", "9"), ("prompt_prefix", "a drawing of")], MAX_SIDE_PX)
    assert (parameters.steps, parameters.seed, parameters.prompt_prefix) == (4, 9, "a drawing of")


@pytest.mark.parametrize(
    ("query", "form"),
    [
        ([("seed", "1"), ("seed", "1")], []),
        ([("seed", "1")], [("seed", "2")]),
        ([], [("seed", "1"), ("seed", "2")]),
        ([("seed", "1")], [("seed", "")]),
    ],
)
def test_a_parameter_that_is_given_twice_is_refused(query: list[tuple[str, str]], form: list[tuple[str, str]]) -> None:
    with pytest.raises(InvalidInput, match="seed is given twice"):
        parse(query, form, MAX_SIDE_PX)


@pytest.mark.parametrize("name", ["stesp", "Seed", "file2", "\x00\x1b[31m", "x" * 500])
def test_an_unknown_parameter_is_refused_and_the_known_ones_are_named(name: str) -> None:
    with pytest.raises(InvalidInput, match=r"is no parameter; there are language, task, .*output_format") as refusal:
        of(**{name: "1"})
    assert str(refusal.value).isprintable()
    assert len(str(refusal.value)) < 300


def test_a_field_without_a_value_counts_as_not_given() -> None:
    assert parse([("steps", "")], [(name, "") for name in DrawParameters.model_fields if name != "steps"], MAX_SIDE_PX) == of()


def test_what_is_not_given_is_left_to_the_rooms() -> None:
    options = of().generate_options("png")
    assert (options.steps, options.guidance_scale, options.width, options.height) == (None, None, None, None)
    assert (of().timeout_ms, of().previews) == (None, 0)
    assert of(language=" de ", task="translate").transcribe_options().language == "de"


def test_a_seed_is_drawn_where_none_is_given_and_kept_where_one_is() -> None:
    drawn = {of().generate_options("png").seed for _ in range(20)}
    assert len(drawn) > 1
    assert all(0 <= seed < 2**32 for seed in drawn)
    assert of(seed="0").generate_options("png").seed == 0


@given(st.lists(st.tuples(NAMES | st.text(CHARACTERS), st.text(CHARACTERS)), max_size=4))
def test_any_text_is_a_request_or_refused_as_a_parameter(pairs: list[tuple[str, str]]) -> None:
    try:
        parameters = parse(pairs, [], MAX_SIDE_PX)
    except InvalidInput as refusal:
        message = str(refusal)
    else:
        assert {name for name, value in pairs if value} >= parameters.model_fields_set
        return
    assert message
    assert "Traceback" not in message


@given(st.sampled_from(["steps", "seed", "width", "height", "guidance_scale"]), st.integers() | st.floats())
def test_any_number_is_within_its_bounds_or_refused(name: str, number: float) -> None:
    try:
        value = getattr(of(**{name: str(number)}), name)
    except InvalidInput:
        return
    lowest, highest = {"steps": (1, 150), "seed": (0, 2**32 - 1), "guidance_scale": (0, 30)}.get(name, (8, MAX_SIDE_PX))
    assert lowest <= value <= highest
