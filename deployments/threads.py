"""How many threads a model computes on: decided here alone, from the CPUs that its deployment declares."""


def declared() -> int:
    """The CPUs of this replica's deployment, at least 1; 1 outside of Ray."""
    import ray

    if not ray.is_initialized():
        return 1
    resources: dict[str, float] = ray.get_runtime_context().get_assigned_resources()  # type: ignore[no-untyped-call]
    return max(1, int(resources.get("CPU", 1)))


def compute_on(threads: int) -> None:
    """So many for torch, and OpenMP and MKL below it, in the calling thread and those it starts; whatever OMP_NUM_THREADS says.

    One for what torch would run side by side, its interop pool: no model here has anything like that.
    CTranslate2 has threads of its own, and is given the same number.
    """
    import torch

    torch.set_num_threads(threads)
    if torch.get_num_interop_threads() != 1:
        torch.set_num_interop_threads(1)  # torch allows it once
