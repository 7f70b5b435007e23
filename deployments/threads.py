"""What computes with how many threads: one number for all of it, which the room has from its deployment's CPUs (`room.threads`)."""

import torch


def compute_on(threads: int) -> None:
    """So many for torch, and OpenMP and MKL below it, in the calling thread and those it starts; whatever OMP_NUM_THREADS says.

    One for what torch would run side by side, its interop pool: no model here has anything like that.
    CTranslate2 has threads of its own, and is given the same number.
    """
    torch.set_num_threads(threads)
    if torch.get_num_interop_threads() != 1:
        torch.set_num_interop_threads(1)  # torch allows it once
