"""The name that was meant by a misspelt one."""

from deployments.nearest import nearest, question, question_or_all

NAMES = ["model", "weights", "memory_gib"]


def test_a_slip_leads_to_the_name_that_was_meant() -> None:
    assert nearest("modle", NAMES) == "model"
    assert question("memory", NAMES) == ": did you mean memory_gib?"
    assert question_or_all("wieghts", NAMES) == "; did you mean weights?"


def test_of_names_that_are_not_near_none_is_asked_for() -> None:
    assert nearest("device", NAMES) == question("device", NAMES) == ""
    assert question_or_all("device", NAMES) == ", only model, weights, memory_gib"
    assert question_or_all("device", []) == ""
