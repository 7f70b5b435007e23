"""kubectl, the user's own, with its context and permissions."""

import re
import subprocess

TIMEOUT_S = 60.0
LOG = re.compile(r"[EIW]\d{4} ")
"""Begin of a line of kubectl's own log, which it prints before the reason."""


class KubectlFailed(Exception):
    """One sentence on why kubectl has no answer."""


def run(*words: str, content: str = "") -> str:
    """Return what `kubectl WORDS` prints. Raises KubectlFailed."""
    try:
        done = subprocess.run(["kubectl", *words], input=content.encode(), capture_output=True, timeout=TIMEOUT_S, check=False)
    except FileNotFoundError as error:
        raise KubectlFailed("kubectl is not installed: install it, or name the manifest's file instead") from error
    except subprocess.TimeoutExpired as error:
        raise KubectlFailed(f"kubectl has not answered within {TIMEOUT_S:.0f} s: does it reach the cluster?") from error
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        reason = dict.fromkeys(line for line in lines if not LOG.match(line))
        raise KubectlFailed(f"kubectl {words[0]} failed: {'\n'.join(reason or lines)}")
    return done.stdout.decode(errors="replace")
