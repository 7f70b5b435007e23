"""kubectl, the user's own, with its context and permissions."""

import subprocess

TIMEOUT_S = 60.0


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
        raise KubectlFailed(f"kubectl {words[0]} failed: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout.decode(errors="replace")
