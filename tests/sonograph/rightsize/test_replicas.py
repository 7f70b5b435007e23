"""Replicas and nodes of a running service, of answers of any form."""

from typing import Any

import psutil
import pytest

from sonograph.errors import Failed
from sonograph.rightsize.metrics import Node
from sonograph.rightsize.packing import NodeSize
from sonograph.rightsize.replicas import places, replicas
from sonograph.rightsize.used import Requested
from tests.sonograph.test_status import replica, rollout, stage, topology

GIB = 2**30


def requested(**resources: float) -> dict[str, Any]:
    return {"requested": {"resources": resources, "labels": {}}}


INGRESS = stage("ingress", None, replica("x9ab", host="front"), **requested())
WHISPER = stage("whisper", "tiny.en", replica("a1"), replica("b2", "STARTING", None), **requested(CPU=1, memory=2e9))
DETAILS = {
    "applications": {
        "sonograph": {
            "deployments": {"whisper": {"replicas": [{"replica_id": "a1", "pid": 42}, {"replica_id": "b2", "pid": None}]}}
        },
        "candidate": {"deployments": {"whisper": {"replicas": [{"replica_id": "c3", "pid": 43}]}}},
    }
}


def test_running_replicas_have_what_they_ask_for_and_their_processes() -> None:
    found, wanted, missing = replicas(topology(INGRESS, WHISPER), DETAILS)
    assert [(each.stage, each.id, each.requested, each.pid, each.is_model) for each in found] == [
        ("ingress", "x9ab", Requested(0, None, 0), None, False),
        ("whisper", "a1", Requested(1, 2e9, 0), 42, True),
    ]
    assert wanted == {"ingress": 1, "whisper": 2}
    assert missing == ["whisper: the replica b2 is STARTING, and not measured"]


def test_a_rollouts_candidate_is_a_stage_of_its_own_in_its_own_application() -> None:
    found, _, _ = replicas(topology({**WHISPER, "rollout": rollout("running", replica("c3"), **requested(CPU=2))}), DETAILS)
    assert [(each.stage, each.deployment, each.application, each.pid) for each in found] == [
        ("whisper", "whisper", "sonograph", 42),
        ("whisper-candidate", "whisper", "candidate", 43),
    ]


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"stages": 5},
        {"stages": [{}]},
        {"stages": ["x"]},
        {"application": "a", "stages": [{**WHISPER, "requested": None}]},
        {"application": "a", "stages": [{**WHISPER, "target_replicas": "many"}]},
        {"application": "a", "stages": [{**WHISPER, "requested": {"resources": {"CPU": "x"}}}]},
        {"application": "a", "stages": [{**WHISPER, "requested": {"resources": {"CPU": float("nan")}}}]},
        {"application": "a", "stages": [{**WHISPER, "requested": {"resources": {"CPU": -1}}}]},
        {"application": "a", "stages": [{**WHISPER, "target_replicas": float("inf")}]},
        {"application": "a", "stages": [{**WHISPER, "replicas": [{"id": 1}]}]},
    ],
)
def test_an_answer_of_another_form_is_refused_in_a_sentence(answer: dict[str, Any]) -> None:
    with pytest.raises(Failed, match="GET /graph has another form"):
        replicas(answer, {})


@pytest.mark.parametrize(
    "details", [{}, {"applications": 5}, {"applications": {"a": 7}}, {"applications": {"a": {"deployments": None}}}], ids=repr
)
def test_serves_details_of_another_form_tell_no_processes(details: dict[str, Any]) -> None:
    found, _, _ = replicas(topology(WHISPER), details)
    assert [each.pid for each in found] == [None]


def test_nodes_have_the_cpus_of_the_machine_where_it_tells_them_and_else_those_that_ray_counts() -> None:
    total = {"CPU": 3, "memory": 1.0 * GIB, "object_store_memory": 1.0 * GIB, "GPU": 1}
    rows = [
        {"state": "ALIVE", "node_ip": "a", "resources_total": total},
        {"state": "ALIVE", "node_ip": "b", "resources_total": total},
        {"state": "DEAD", "node_ip": "c", "resources_total": total},
        {"state": "ALIVE", "node_ip": "d"},
        "garbage",
        {"state": "ALIVE", "node_ip": "e", "resources_total": {"CPU": "many", "memory": -1, "GPU": float("nan")}},
    ]
    assert places(rows, {"a": Node(1, 2, GIB, 8 * GIB)}) == [
        NodeSize("a", 2, 8 * GIB, 1),
        NodeSize("b", 3, 2 * GIB, 1),
        NodeSize("e", 0, None, 0),
    ]


def test_this_machines_own_cpus_are_known_without_metrics() -> None:
    rows = [{"state": "ALIVE", "node_ip": "a", "resources_total": {"CPU": 64}}]
    (place,) = places(rows, {}, here={"a"})
    assert (place.cpus, place.memory_bytes) == (psutil.cpu_count(), psutil.virtual_memory().total)
