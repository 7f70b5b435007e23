"""The CPUs that a deployment declares are its model's threads."""

from collections.abc import Iterator

import pytest
import ray

from deployments.concurrency import declared_cpus


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ray.init(address="local", num_cpus=3, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def test_outside_of_ray_a_model_gets_one_thread() -> None:
    assert declared_cpus() == 1


@pytest.mark.serve
@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize(("num_cpus", "expected"), [(0, 1), (0.5, 1), (1, 1), (2, 2), (3, 3)])
def test_a_model_gets_as_many_threads_as_its_replica_has_cpus(num_cpus: float, expected: int) -> None:
    assert ray.get(ray.remote(declared_cpus).options(num_cpus=num_cpus).remote()) == expected
