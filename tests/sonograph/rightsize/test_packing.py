"""Number that fits a node, as requested and as advised, and what waits."""

import pytest

from sonograph.rightsize.advice import advise
from sonograph.rightsize.fits import packed
from sonograph.rightsize.packing import Fit, Need, NodeSize, fit, parsed, waiting
from tests.sonograph.rightsize.figures import MIB, samples, subject

GIB = 2**30
EIGHT = NodeSize("a", 8, 32 * GIB)


def test_the_resource_that_ends_first_bounds_the_number() -> None:
    assert fit(EIGHT, Need("w", 1, 2 * GIB)) == Fit(8, "CPUs")
    assert fit(EIGHT, Need("w", 1, 6 * GIB)) == Fit(5, "memory")
    assert fit(EIGHT, Need("w", 1, None, gpus=1)) == Fit(0, "GPUs")
    assert fit(NodeSize("a", 8, None), Need("w", 1, 2 * GIB)) == Fit(8, "CPUs")
    assert fit(EIGHT, Need("w", 0, None)) is None


def test_a_tenth_of_a_cpu_fits_ten_times() -> None:
    assert fit(NodeSize("a", 1, None), Need("w", 0.1, None)) == Fit(10, "CPUs")
    assert fit(NodeSize("a", 0.3, None), Need("w", 0.1, None)) == Fit(3, "CPUs")


def test_the_largest_is_placed_first_and_the_rest_waits() -> None:
    two = [NodeSize("a", 2, None), NodeSize("b", 2, None)]
    assert waiting(two, [Need("small", 1, None, count=3), Need("large", 2, None, count=1)]) == {"large": 0, "small": 1}
    assert waiting(two, [Need("huge", 3, None, count=2)]) == {"huge": 2}
    assert waiting([NodeSize("a", 2, None, count=3)], [Need("one", 2, None, count=4)]) == {"one": 1}
    assert waiting(two, [Need("free", 0, None, count=9)]) == {"free": 0}


def test_a_count_without_end_is_packed_at_once() -> None:
    assert waiting([EIGHT], [Need("w", 1, GIB, count=10**12)]) == {"w": 10**12 - 8}


def test_a_node_is_read_with_kubernetes_quantities() -> None:
    assert parsed("cpus=8,memory=32Gi") == NodeSize("node", 8, 32 * GIB)
    assert parsed("cpus=7500m, memory=1Ti, gpus=2, count=3") == NodeSize("node", 7.5, 1024 * GIB, 2, 3)
    assert parsed("cpus=2") == NodeSize("node", 2, None)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no part of a node"),
        ("cpu=8", "no part of a node"),
        ("cpus=-1", "no amount above 0"),
        ("cpus=0", "no amount above 0"),
        ("cpus=nan", "no amount above 0"),
        ("cpus=1e400", "no amount above 0"),
        ("cpus=8,cpus=8", "stands twice"),
        ("memory=32Gi", "no CPUs"),
        ("cpus=9999999", "no CPUs that a node could have"),
        ("cpus=8,memory=32", "less memory than a node could have"),
        ("cpus=8,count=1.5", "whole number"),
        ("cpus=8,count=99999999", "whole number"),
    ],
)
def test_a_node_that_is_none_is_refused_with_an_example(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parsed(text)


def test_the_story_packs_eight_times_too_many_as_asked() -> None:
    advice = advise(subject(samples(cpus=1.9, threads=8), kind="task", count=20, name="small"))
    found = packed([advice], [EIGHT])
    (row,) = found.rows
    assert (row.requested, row.advised, row.crowded) == (Fit(8, "CPUs"), Fit(1, "CPUs"), True)
    assert "keep 64 CPUs busy: 8 times what it has" in found.sentences[0]
    assert (
        found.sentences[1]
        == "tasks at the same time on 1 node, as requested and as advised, while the others wait: small: 8 and 1 of 20"
    )


def test_what_fits_as_asked_and_keeps_no_more_busy_is_not_crowded() -> None:
    (row,) = packed([advise(subject(samples(cpus=0.98)))], [EIGHT]).rows
    assert not row.crowded


def test_deployments_are_packed_together_and_tasks_alone() -> None:
    def two(kind: str) -> list[str]:
        advices = [advise(subject(samples(memory_mib=100), kind=kind, name=name, asked_cpus=1)) for name in ("a", "b")]
        return list(packed(advices, [NodeSize("n", 1, None)]).sentences)

    assert two("deployment")[0] == "on 1 node, as requested, these wait: 1 of b"
    (alone,) = two("task")
    assert alone.endswith("a: 1 and 1 of 1; b: 1 and 1 of 1")


def test_an_idle_deployment_is_packed_as_it_asks() -> None:
    (row,) = packed([advise(subject(samples(cpus=0.0, memory_mib=100), asked_cpus=2))], [EIGHT]).rows
    assert row.advised == Fit(4, "CPUs")


def test_nodes_of_one_size_are_one_row_and_without_nodes_there_is_none() -> None:
    advices = [advise(subject(samples(memory_mib=100 * MIB / MIB)))]
    assert [row.node for row in packed(advices, [EIGHT, NodeSize("b", 8, 32 * GIB)]).rows] == ["8 CPUs, 32 GiB, 2 of them"]
    assert packed(advices, []).rows == packed(advices, [NodeSize("head", 0, 4 * GIB)]).rows == ()
    assert packed(advices, []).sentences == ()
