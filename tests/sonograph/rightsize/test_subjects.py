"""Subjects of a running service: which samples are whose, and what cannot be told apart."""

from sonograph.rightsize.subjects import NO_THREADS, WHOLE_GPUS, grouped
from sonograph.rightsize.used import Requested, Subject
from tests.sonograph.rightsize.figures import running as one
from tests.sonograph.rightsize.figures import samples

GIB = 2**30


def names(subjects: list[Subject]) -> list[str]:
    return [found.name for found in subjects]


def test_samples_of_this_machines_replicas_are_theirs() -> None:
    found = [one("whisper", "a", "here"), one("whisper", "b", "here")]
    seen = {"a": samples(cpus=0.5), "b": samples(cpus=0.9)}
    (whisper,) = grouped(found, seen, {"a": GIB, "b": 2 * GIB}, {}, {"whisper": 2})
    assert (whisper.kind, whisper.count, whisper.peak_bytes, len(whisper.samples)) == ("deployment", 2, 2 * GIB, 40)
    assert [part.cpus and part.cpus.max for part in whisper.parts] == [0.5, 0.9]


def test_a_pods_figures_are_those_of_its_only_replica_without_threads() -> None:
    found = [one("whisper", "a", "192.0.2.1", is_a_pod=True)]
    (whisper,) = grouped(found, {}, {}, {"192.0.2.1": samples(cpus=0.7, threads=None)}, {"whisper": 1})
    assert (whisper.cpus and whisper.cpus.max, whisper.threads, whisper.of_pod) == (0.7, None, True)
    assert NO_THREADS in whisper.missing


def test_replicas_that_share_another_node_cannot_be_told_apart_and_the_node_is_judged() -> None:
    found = [one("whisper", "a", "192.0.2.1"), one("diffusion", "b", "192.0.2.1")]
    subjects = grouped(found, {}, {}, {"192.0.2.1": samples(cpus=1.9)}, {})
    assert names(subjects) == ["whisper", "diffusion", "node 192.0.2.1"]
    assert [len(each.samples) for each in subjects] == [0, 0, 20]
    assert subjects[-1].requested.cpus == 2
    assert "other replicas" in subjects[0].missing[0]


def test_a_replica_here_that_asks_for_a_gpu_has_the_figures_of_its_nodes_gpus() -> None:
    found = [one("whisper", "a", "here", requested=Requested(1, None, 1)), one("ingress", "b", "here")]
    seen = {"a": samples(count=4), "b": samples(count=4)}
    of_node = [*samples(gpu_percent=10.0, gpu_bytes=GIB, count=1), *samples(gpu_percent=90.0, gpu_bytes=2 * GIB, count=1)]
    whisper, ingress = grouped(found, seen, {}, {"here": of_node}, {})
    assert [each.gpu_percent for each in whisper.samples] == [10, 10, 90, 90]
    assert ingress.gpu_percent is None
    assert WHOLE_GPUS in whisper.missing


def test_a_replica_whose_node_shows_nothing_says_so() -> None:
    (whisper,) = grouped([one("whisper", "a", "192.0.2.1")], {}, {}, {}, {})
    assert whisper.samples == []
    assert "192.0.2.1 shows no metrics" in whisper.missing[0]
