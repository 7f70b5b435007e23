"""Whether a candidate's replica fits on a node."""

from typing import Any

import pytest

from sonograph.rollouts.fit import lacking


def node(name: str, state: str = "ALIVE", labels: dict[str, str] | None = None, **resources: float) -> dict[str, Any]:
    return {"node_id": name, "state": state, "resources_total": resources, "labels": labels or {}}


def replica(node: str, application: str = "sonograph", **resources: float) -> dict[str, Any]:
    return {"node_id": node, "class_name": f"ServeReplica:{application}:whisper", "required_resources": resources}


ONE = [node("a", CPU=3), node("b", CPU=8, state="DEAD")]


@pytest.mark.parametrize(
    ("options", "nodes", "actors", "sentence"),
    [
        ({}, ONE, [replica("a", CPU=2)], ""),
        ({}, ONE, [replica("a", CPU=3)], "a candidate needs 1 CPU, and no node has more than 0 CPU free"),
        ({"num_cpus": 0.5}, ONE, [replica("a", CPU=2.4)], ""),
        ({}, ONE, [replica("a", CPU=2), replica("a", "sonograph-whisper-candidate", CPU=1)], ""),
        ({"num_gpus": 1}, ONE, [], "a candidate needs 1 CPU and 1 GPU, and no node has more than 0 GPU free"),
        (
            {"num_gpus": 1},
            [node("a", CPU=4), node("b", GPU=1)],
            [],
            "a candidate needs 1 CPU and 1 GPU on one node, and no node has all of it free",
        ),
        ({"resources": {"whisper": 1}}, [node("a", CPU=4, whisper=1)], [replica("a", whisper=1)], "more than 0 whisper free"),
        ({"label_selector": {"image": "whisper"}}, ONE, [], "a node with the labels image: whisper, and there is none"),
        ({"label_selector": {"image": "whisper"}}, [node("a", labels={"image": "whisper"}, CPU=1)], [], ""),
        ({"label_selector": {"image": "!in(whisper)"}}, ONE, [], ""),
        ({}, ONE, [{"node_id": None, "class_name": "A", "required_resources": None}], ""),
    ],
)
def test_what_no_node_has_free_is_named(options: Any, nodes: Any, actors: Any, sentence: str) -> None:
    found = lacking(options, nodes, actors, "sonograph-whisper-candidate")
    assert sentence in found
    assert bool(found) == bool(sentence)
