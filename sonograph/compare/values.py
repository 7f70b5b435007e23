"""The chosen candidate as a values file for `sonograph render`."""

import textwrap
from pathlib import Path

import yaml

from deployments.paths import model_name
from sonograph.compare.plan import Candidate
from sonograph.files import replace_file
from sonograph.terminal import printable

MARK = "# Written by `sonograph compare`."
USAGE = (
    "# On a cluster: sonograph render PROFILE --values THIS_FILE.",
    "# On one machine: the content of `settings` belongs into `args` of a copy of graphs/local.yaml: sonograph serve --config COPY.",
)


def refusal(path: Path) -> str:
    """A sentence on why a values file must not be written at `path`; empty where it may."""
    try:
        if path.exists() and not path.is_file():
            return f"{path} exists, and is no file"
        if path.exists() and not path.read_text(encoding="utf-8", errors="replace").startswith(MARK):
            return f"{path} exists, and was not written by this command: name another file"
        if not path.absolute().parent.is_dir():
            return f"there is no folder {path.absolute().parent}"
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}"
    return ""


def content(candidate: Candidate, reason: str) -> str:
    """The values file: the candidate's model, engine and settings, also where they are the defaults, since a profile may have others."""
    own = {"engine": candidate.engine} if candidate.engine else {}
    is_path = candidate.model == model_name(candidate.model) and not candidate.engine and "model" not in candidate.settings
    model = None if is_path else candidate.model  # the default is another path on each node
    values = {"settings": {candidate.section: {"model": model, **own, **candidate.settings}}}
    lines = [MARK, *textwrap.wrap(printable(reason), 110, initial_indent="# ", subsequent_indent="# "), *USAGE]
    if is_path:
        lines.append(
            "# `null` is the model that ships with Sonograph, whatever the profile has; in graphs/local.yaml leave that line out."
        )
    return "\n".join([*lines, yaml.safe_dump(values, sort_keys=False)])


def write(path: Path, candidate: Candidate, reason: str) -> None:
    """Write it whole or not at all. Raises OSError."""
    replace_file(path, content(candidate, reason).encode())
