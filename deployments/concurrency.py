"""How many requests a replica gets, and how many threads its model."""


def declared_cpus() -> int:
    """The CPUs that this replica's deployment declares, at least 1; 1 outside of Ray."""
    import ray

    if not ray.is_initialized():
        return 1
    resources: dict[str, float] = ray.get_runtime_context().get_assigned_resources()  # type: ignore[no-untyped-call]
    return max(1, int(resources.get("CPU", 1)))


def requests_per_replica(max_batch: int = 1) -> int:
    """Requests that one ingress gives a replica: a batch in work and one that waits, so that the model never waits; 8 at least."""
    return max(8, 2 * max_batch)


def max_ongoing_requests(max_batch: int = 1) -> int:
    """Serve's `max_ongoing_requests` of a replica: what two ingresses give it."""
    return 2 * requests_per_replica(max_batch)
