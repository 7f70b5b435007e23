"""The rule by which amounts are advised, and the reasons that stand beside them."""

import re
from pathlib import Path

import pytest

from kuberay.doctor import sizes
from sonograph.rightsize.advice import THREADS_BESIDE, Advice, advise
from sonograph.rightsize.used import BUSY_CPUS, LEAST_BUSY, Sample, Spread, Subject
from tests.sonograph.rightsize.figures import MIB, samples, subject

GIB = 2**30
ROOT = Path(__file__).parents[3]


def severities(advice: Advice) -> dict[str, str]:
    return {one.about: one.severity for one in advice.reasons}


def sentence(advice: Advice, about: str) -> str:
    (found,) = (one.sentence for one in advice.reasons if one.about == about)
    return found


@pytest.mark.parametrize(
    ("p95", "cpus"),
    [(0, 0.1), (0.05, 0.1), (0.3, 0.3), (0.31, 0.4), (0.95, 1), (1.05, 1), (1.1, 1), (1.11, 1.5), (1.65, 2), (1.9, 2), (8.05, 8)],
)
def test_cpus_are_the_p95_rounded_up_where_a_tenth_above_a_step_is_the_step(p95: float, cpus: float) -> None:
    assert sizes.cpus_to_ask(p95) == cpus


def test_cpus_are_never_below_the_threads_that_follow_them() -> None:
    assert sizes.cpus_to_ask(0.4, threads=2) == 2
    assert sizes.cpus_to_ask(0.4, threads=1) == 0.4


def test_memory_is_the_most_and_a_fifth_in_steps_of_64_mib() -> None:
    assert sizes.memory_to_ask(100 * MIB) == 128 * MIB
    assert sizes.memory_to_ask(0) == 64 * MIB
    assert sizes.memory_to_ask(1000 * MIB) == 1216 * MIB


def test_an_advised_amount_is_neither_too_little_nor_waste() -> None:
    """An amount that is asked for as advised is left alone the next time."""
    for hundredth in range(5, 1000):
        p95 = hundredth / 100
        cpus = sizes.cpus_to_ask(p95)
        assert not sizes.has_too_few_cpus(p95, cpus)
        assert not sizes.is_waste(p95, cpus)
        assert cpus <= max(p95 + 0.1, p95 * 1.4)


def test_the_page_states_the_rules_constants() -> None:
    rule = (ROOT / "docs" / "rightsize.md").read_text(encoding="utf-8").split("## The rule")[1].split("\n## ")[0]
    stated = {
        "FINE_STEP": f"{sizes.FINE_STEP}",
        "COARSE_STEP": f"{sizes.COARSE_STEP}",
        "TOLERANCE": f"{sizes.TOLERANCE}",
        "MEMORY_MARGIN": f"{sizes.MEMORY_MARGIN - 1:.0%}",
        "MEMORY_STEP_BYTES": f"{sizes.MEMORY_STEP_BYTES // MIB} MiB",
        "WASTE": "twice",
        "THREADS_BESIDE": f"{THREADS_BESIDE}",
        "BUSY_CPUS": f"{BUSY_CPUS}",
        "LEAST_BUSY": f"{LEAST_BUSY}",
    }
    for name, value in stated.items():
        (row,) = re.findall(rf"^.*`{name}`.*$", rule, re.MULTILINE)
        assert value in row, name


def test_a_spread_is_of_values_that_were_seen() -> None:
    assert Spread.of([]) is None
    assert Spread.of([3]) == Spread(3, 3, 3)
    assert Spread.of(range(1, 101)) == Spread(50, 95, 100)
    assert Spread.of([1, 9]) == Spread(1, 9, 9)


def test_the_story_of_one_cpu_and_eight_threads_is_an_error_that_says_what_follows() -> None:
    advice = advise(subject(samples(cpus=1.9, threads=8)))
    assert advice.asks_for_too_little
    assert advice.cpus == 8
    said = sentence(advice, "threads")
    assert said.startswith("asked for 1 CPU and ran 8 threads at the same time")
    assert "8 threads on each CPU" in said
    assert said.endswith("ask for 8, or run 1")
    assert "cpus" not in severities(advice), "one error is said once"


def test_threads_that_wait_are_an_error_too_where_the_machine_has_fewer_cpus() -> None:
    assert advise(subject(samples(cpus=0.5, threads=8))).cpus == 8


def test_one_look_with_a_thread_more_is_no_error() -> None:
    used = [*samples(threads=1, count=39), *samples(threads=3, count=1)]
    advice = advise(subject(used))
    assert not advice.asks_for_too_little
    assert advice.cpus == 0.9


def test_more_used_than_asked_for_is_an_error() -> None:
    advice = advise(subject(samples(cpus=1.6, threads=None)))
    assert severities(advice)["cpus"] == "error"
    assert sentence(advice, "cpus").endswith("ask for 1.5")
    assert severities(advise(subject(samples(cpus=1.1))))["cpus"] == "fine"


def test_more_than_twice_the_use_is_a_note_with_a_smaller_amount() -> None:
    advice = advise(subject(samples(cpus=0.3), asked_cpus=2, threads_follow=False))
    assert (severities(advice)["cpus"], advice.cpus) == ("note", 0.3)
    assert "more than twice" in sentence(advice, "cpus")


def test_threads_that_follow_the_cpus_keep_them_and_the_note_says_what_less_would_do() -> None:
    advice = advise(subject(samples(cpus=1.2, threads=4), asked_cpus=4))
    assert advice.cpus == 4
    assert "num_cpus sets its threads too, so with fewer it runs fewer" in sentence(advice, "cpus")


def test_a_model_that_uses_all_that_it_asks_for_is_told_what_more_would_do() -> None:
    advice = advise(subject(samples(cpus=1.02)))
    assert (severities(advice)["cpus"], advice.cpus) == ("fine", 1)
    assert "all of them" in sentence(advice, "cpus")


def test_a_model_on_a_full_machine_is_advised_what_it_would_have_used() -> None:
    advice = advise(subject(samples(cpus=0.5, waited_cpus=0.45)))
    assert advice.cpus == 1
    fits, full = (one for one in advice.reasons if one.about == "cpus")
    assert fits.sentence.startswith("asks for 1 CPU and used 0.5 CPUs, and waited for 0.45 more (p95)")
    assert (full.severity, "the node is full" in full.sentence) == ("note", True)
    assert not advise(subject(samples(cpus=0.9, waited_cpus=0.05))).subject.waits


def test_what_asks_for_no_cpu_gets_a_note_and_no_error() -> None:
    advice = advise(subject(samples(cpus=0.35, threads=4), asked_cpus=0, threads_follow=False))
    assert (advice.cpus, severities(advice)["cpus"], advice.asks_for_too_little) == (0.4, "note", False)


def test_an_idle_service_gets_no_advice_on_cpus_but_on_memory() -> None:
    used = [*samples(cpus=0.02, count=58), *samples(cpus=0.9, count=2)]
    advice = advise(subject(used))
    assert advice.subject.is_idle
    assert advice.cpus is None
    assert "used 0.9 CPUs at most, so there is no advice" in sentence(advice, "cpus")
    assert "2 of 60 samples were under load" in sentence(advice, "cpus")
    assert advice.memory_bytes == 640 * MIB


def test_samples_without_load_do_not_lower_the_p95() -> None:
    assert advise(subject([*samples(cpus=0.01, count=500), *samples(cpus=0.9, count=10)])).cpus == 0.9


def test_a_task_computes_all_the_time_so_that_less_than_a_cpu_means_that_it_waited() -> None:
    advice = advise(subject(samples(cpus=0.4, count=1), kind="task"))
    assert (advice.cpus, advice.asks_for_too_little) == (1, False)
    assert any("had no CPU for much of its time" in one.sentence for one in advice.reasons)
    assert not any("had no CPU" in one.sentence for one in advise(subject(samples(cpus=0.9), kind="task")).reasons)


def test_a_thread_beside_those_of_the_model_is_no_error() -> None:
    """CTranslate2's threads compute, and the one that called them reads and decodes."""
    advice = advise(subject(samples(cpus=0.95, threads=2), kind="task"))
    assert (advice.cpus, advice.asks_for_too_little) == (1, False)
    assert advise(subject(samples(cpus=3.8, threads=5), asked_cpus=4)).cpus == 4


def test_without_samples_nothing_is_advised() -> None:
    advice = advise(subject([]))
    assert (advice.cpus, advice.memory_bytes) == (None, None)
    assert not advice.asks_for_too_little


@pytest.mark.parametrize(
    ("asked_mib", "severity"), [(None, "note"), (400, "error"), (550, "note"), (700, "fine"), (1100, "note"), (640, "fine")]
)
def test_memory_is_judged_by_the_most_that_was_used(asked_mib: int | None, severity: str) -> None:
    asked = None if asked_mib is None else asked_mib * MIB
    advice = advise(subject(samples(memory_mib=500), asked_bytes=asked))
    assert severities(advice)["memory"] == severity
    assert advice.memory_bytes == 640 * MIB


def test_the_starts_peak_counts_as_memory_that_was_used() -> None:
    found: Subject = subject(samples(memory_mib=500), peak_bytes=GIB)
    assert found.memory == Spread(500 * MIB, 500 * MIB, GIB)
    assert advise(found).memory_bytes == 1280 * MIB


def test_a_gpu_that_is_held_and_not_asked_for_is_an_error_and_one_that_idles_a_note() -> None:
    held = advise(subject(samples(gpu_percent=50.0, gpu_bytes=3 * GIB)))
    assert severities(held)["gpu"] == "error"
    idle = advise(subject(samples(gpu_percent=10.0, gpu_bytes=3 * GIB), gpus=1))
    assert severities(idle)["gpu"] == "note"
    busy = advise(subject(samples(gpu_percent=90.0, gpu_bytes=3 * GIB), gpus=1))
    assert "gpu" not in severities(busy)


def test_what_cannot_be_seen_has_no_spread() -> None:
    found = subject([Sample(0.9)] * 10)
    assert (found.memory, found.threads, found.gpu_percent, found.gpu_bytes) == (None, None, None, None)
    assert advise(found).memory_bytes is None
