"""The requests that a replica accepts at once, and the threads of its model."""


def declared_cpus() -> int:
    """The CPUs that this replica's deployment declares, at least 1; outside of Ray, 1."""
    import ray

    if not ray.is_initialized():
        return 1
    resources: dict[str, float] = ray.get_runtime_context().get_assigned_resources()  # type: ignore[no-untyped-call]
    return max(1, int(resources.get("CPU", 1)))


def requests_per_replica(max_batch: int = 1) -> int:
    """Requests that one ingress sends a replica at once: a running batch and a waiting one, so that the model never idles; at least 8."""
    return max(8, 2 * max_batch)


def max_ongoing_requests(max_batch: int = 1) -> int:
    """Serve's `max_ongoing_requests` of a replica: the requests of two ingresses."""
    return 2 * requests_per_replica(max_batch)
