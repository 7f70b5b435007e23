"""Options of a run on a GPU, or on a CPU with tiny models (`--tiny`): the latter shows that each row works, and no figure."""

import math
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Options:
    device: str
    dtype: torch.dtype
    """Precision of the measured engines; correctness compares fp32, bf16 and it."""
    tiny: bool = False
    repeats: int = 3
    windows: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    images: tuple[int, ...] = (1, 2, 4, 8, 16)
    tokens: int = 100
    """Of each window of 30 s, the first timestamp included: about what speech has."""
    arrivals_s: float = 20.0
    compiler: str = "inductor"

    @classmethod
    def of(cls, tiny: bool) -> "Options":
        """Return the options of a run. Raises ValueError where there is no GPU, unless `tiny`."""
        if tiny:
            return cls(
                "cpu",
                torch.float32,
                tiny=True,
                repeats=1,
                windows=(1, 3),
                images=(1, 3),
                tokens=12,
                arrivals_s=0.3,
                compiler="eager",
            )
        if not torch.cuda.is_available():
            raise ValueError("torch sees no GPU here: run this on one, or add --tiny to try the command on a CPU")
        return cls("cuda", torch.float16)

    @property
    def precisions(self) -> tuple[torch.dtype, ...]:
        """Compared with fp32; the last one is that of the measured engines."""
        return (torch.bfloat16,) if self.dtype == torch.float32 else (torch.bfloat16, self.dtype)


def rounding_error(dtype: torch.dtype, roundings: int) -> float:
    """The error to expect of so many roundings in a row, each of half a unit in the last place at random: it grows with their square
    root (Higham 2002, section 2.8)."""
    unit: float = torch.finfo(dtype).eps / 2
    return unit * math.sqrt(roundings)
