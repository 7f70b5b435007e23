"""The doctor's rule on threads: what looks like too many and is not has no finding, and odd values stop nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kuberay.doctor.documents import Document
from kuberay.doctor.manifest import RayService, Service
from kuberay.doctor.rules.threads import threads_have_their_cpus
from kuberay.doctor.sizes import has_too_many_threads
from kuberay.profiles import PROFILES, Profile
from testing.manifests import Manifests
from tests.kuberay.mistakes.pods import limit_range, sidecar
from tests.kuberay.mistakes.threads import of_runtime, small_sidecar, variable


def found(manifests: Manifests) -> list[str]:
    return [str(finding) for finding in manifests.findings() if finding.number == "SG313"]


HEALTHY: dict[str, Callable[[Manifests], object]] = {
    "as many threads as CPUs": variable("diffusion", "OMP_NUM_THREADS", "2"),
    "one thread on a part of a CPU": small_sidecar(env=[{"name": "GOMAXPROCS", "value": "1"}]),
    "a variable that a Secret has": lambda m: m.container("whisper")["env"].append(
        {"name": "OMP_NUM_THREADS", "valueFrom": {"secretKeyRef": {"name": "a", "key": "b", "optional": True}}}
    ),
    "a number that is none": variable("whisper", "OMP_NUM_THREADS", "all"),
    "none at all": variable("whisper", "OMP_NUM_THREADS", "0"),
    "a number without end": variable("whisper", "OMP_NUM_THREADS", "9" * 400),
    "a bound of threads": small_sidecar(args=["--max-threads", "64"]),
    "an option that ends the line": small_sidecar(args=["serve", "--threads"]),
    "an option of another meaning": small_sidecar(args=["--threads", "auto", "--thread-name", "8"]),
    "a variable of another library": variable("whisper", "OMP_THREAD_LIMIT", "8"),
    "a deployment's own variable before the pod's": lambda m: (
        variable("whisper", "OMP_NUM_THREADS", "8")(m),
        of_runtime("whisper", OMP_NUM_THREADS="1")(m),
    ),
    "a LimitRange's request": lambda m: (
        sidecar(m, env=[{"name": "GOMAXPROCS", "value": "2"}]),
        limit_range(m, default={"cpu": "2"}),
    ),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_what_is_not_too_many_threads_has_no_finding(name: str) -> None:
    manifests = Manifests()
    HEALTHY[name](manifests)
    assert found(manifests) == []


@pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda one: one.name)
def test_no_rendered_profile_runs_more_threads_than_cpus(profile: Profile) -> None:
    assert found(Manifests(profile)) == []


@pytest.mark.parametrize(
    ("threads", "cpus", "is_too_many"),
    [(1, 0.1, False), (2, 0.1, True), (2, 1.5, False), (3, 2, True), (1, 0, False), (2, 0, True)],
)
def test_threads_are_counted_against_whole_cpus(threads: int, cpus: float, is_too_many: bool) -> None:
    assert has_too_many_threads(threads, cpus) is is_too_many


@pytest.mark.parametrize("odd", ["text", 7, [], {}, [1], {"a": 1}, ["a", None], True, None], ids=repr)
def test_odd_values_stop_nothing(odd: Any) -> None:
    for field in ("env", "args", "command", "resources"):
        manifests = Manifests()
        parsed = RayService.model_validate(manifests.documents()[0])
        for document in manifests.beside:
            for container in document.get("spec", {}).get("template", {}).get("spec", {}).get("containers", ()):
                container[field] = odd
        beside = tuple(Document(Path("a.yaml"), one) for one in manifests.beside)
        service = Service(Document(Path("a.yaml"), manifests.service), beside, parsed)
        assert all(finding.sentence for finding in threads_have_their_cpus(service))
    for field in ("args", "runtime_env"):
        manifests = Manifests()
        manifests.application[field] = odd
        document, *beside = (Document(Path("a.yaml"), one) for one in manifests.documents())
        service = Service(document, tuple(beside), RayService.model_validate(document.content))
        assert all(finding.sentence for finding in threads_have_their_cpus(service))
