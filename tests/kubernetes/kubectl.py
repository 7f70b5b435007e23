"""kubectl, on the cluster of these tests or on the one that SONOGRAPH_KUBECONFIG names."""

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class Kubectl:
    def __init__(self, command: Sequence[str], config: Path) -> None:
        self.command = [*command, f"--kubeconfig={config}"]

    def __call__(self, *words: str | Path, timeout_s: float = 180, content: bytes | None = None) -> str:
        """Return the output of `kubectl words`. The message of a failure contains it."""
        return self.run(*words, timeout_s=timeout_s, content=content).stdout.decode()

    def run(
        self, *words: str | Path, timeout_s: float = 180, content: bytes | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[bytes]:
        command = [*self.command, *words]
        ran = subprocess.run(command, input=content or b"", capture_output=True, timeout=timeout_s, check=False)
        printed = ran.stdout.decode(errors="replace")[-3000:] + ran.stderr.decode(errors="replace")[-3000:]
        assert not check or ran.returncode == 0, f"kubectl {' '.join(map(str, words))[:500]}: {printed}"
        return ran

    def succeeds(self, *words: str | Path, content: bytes | None = None) -> bool:
        return self.run(*words, content=content, check=False).returncode == 0

    def refusal(self, *words: str | Path, content: bytes) -> str:
        """Return the error of a command that has to fail."""
        ran = self.run(*words, content=content, check=False)
        assert ran.returncode != 0, ran.stdout.decode()[-3000:]
        return ran.stderr.decode()

    @contextmanager
    def begin(self, *words: str) -> Iterator["subprocess.Popen[bytes]"]:
        """Run a command meanwhile, and end it."""
        with subprocess.Popen([*self.command, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            try:
                yield process
            finally:
                process.kill()

    def apply(self, *documents: dict[str, Any]) -> None:
        content = json.dumps({"apiVersion": "v1", "kind": "List", "items": documents}).encode()
        self("apply", "--server-side", "--filename=-", content=content)

    def get(self, *words: str) -> Any:
        """Return an object, or the items of a list."""
        found = json.loads(self("get", *words, "--output=json"))
        return found.get("items", found)

    def count(self, kind: str, condition: str, *words: str) -> int:
        """Return the number of objects whose condition is true."""
        conditions = [one["status"].get("conditions", []) for one in self.get(kind, *words)]
        return sum(any(one["type"] == condition and one["status"] == "True" for one in each) for each in conditions)
