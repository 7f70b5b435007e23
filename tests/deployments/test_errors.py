"""Errors are pickled between replicas: class, message, stage and Retry-After survive."""

import pickle

import pytest

from graphs.http.schemas.openapi import ERRORS


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.code)
def test_an_error_survives_pickling_with_all_it_carries(error: type) -> None:
    sent = error("the reason")
    sent.stage = "whisper"
    sent.retry_after_s = 11
    arrived = pickle.loads(pickle.dumps(sent))
    assert type(arrived) is error
    assert str(arrived) == "the reason"
    assert (arrived.stage, arrived.retry_after_s) == ("whisper", 11)
    assert (arrived.status, arrived.code, arrived.title) == (error.status, error.code, error.title)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.code)
def test_an_error_has_a_status_a_code_and_a_title(error: type) -> None:
    assert 400 <= error.status < 600
    assert error.code.isidentifier()
    assert error.code.islower()
    assert error.title[0].isupper()
    assert (error.retry_after_s is not None) == (error.status == 503)


def test_each_code_is_one_error() -> None:
    assert len({error.code for error in ERRORS}) == len({error.title for error in ERRORS}) == len(ERRORS)


def test_the_attributes_of_one_error_are_not_another_ones() -> None:
    first, second = ERRORS[0]("x"), ERRORS[0]("x")
    first.stage = "decode"
    assert second.stage is None
