"""kubectl, on the cluster of these tests or on the one that SONOGRAPH_KUBECONFIG names."""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.kubernetes.machine import run


class Kubectl:
    def __init__(self, command: Sequence[str], config: Path) -> None:
        self.command = [*command, f"--kubeconfig={config}"]

    def __call__(self, *words: str | Path, timeout_s: float = 180, text: str | None = None) -> str:
        """Return the output of `kubectl words`. The message of a failure contains it."""
        return run(*self.command, *words, timeout_s=timeout_s, text=text)

    def try_(self, *words: str | Path) -> str:
        """Return the output of `kubectl words`; empty where it fails."""
        ran = subprocess.run([*self.command, *words], capture_output=True, text=True, timeout=60, check=False)
        return ran.stdout if ran.returncode == 0 else ""

    def get(self, *words: str) -> Any:
        """Return an object, or the items of a list."""
        found = json.loads(self("get", *words, "--output=json"))
        return found.get("items", found)

    def count(self, kind: str, condition: str, *words: str) -> int:
        """Return the number of objects whose condition is true."""
        conditions = [one["status"].get("conditions", []) for one in self.get(kind, *words)]
        return sum(any(one["type"] == condition and one["status"] == "True" for one in each) for each in conditions)
