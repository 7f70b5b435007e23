"""An engine's configuration across the Triton seam: one frozen dataclass of plain values, as one Triton parameter in JSON."""

import json
from dataclasses import asdict
from typing import Any

KEY = "config"


def to_parameters(config: Any) -> dict[str, str]:
    """The dataclass as Triton's parameters."""
    return {KEY: json.dumps(asdict(config))}


def from_parameters[Config](parameters: dict[str, str], kind: type[Config]) -> Config:
    """The dataclass from Triton's parameters."""
    return kind(**json.loads(parameters[KEY]))
