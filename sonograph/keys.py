"""API keys of a service, and Ray's token."""

import os
from pathlib import Path

from sonograph.errors import Failed

RAY_TOKEN = Path("~/.ray/auth_token")
"""Where Ray keeps its token, with its process's default mode. The token's readers can run code as this user through Ray's ports."""


def api_key(file: Path | None) -> str | None:
    """The API key of the file or of SONOGRAPH_KEY; never of an argument, which other users of the machine can read."""
    if file is None:
        source, content = "SONOGRAPH_KEY", os.environ.get("SONOGRAPH_KEY", "")
    else:
        try:
            source, content = str(file), file.read_text(encoding="utf-8")
        except (OSError, UnicodeError) as error:
            raise Failed(f"cannot read {file}: {getattr(error, 'strerror', None) or 'it is no text'}") from error
    lines = [line.split() for line in content.splitlines() if line.strip() and not line.startswith("#")]
    if not lines and file is None:
        return None
    if len(lines) != 1 or len(lines[0]) > 2 or not (lines[0][-1].isascii() and lines[0][-1].isprintable()):
        raise Failed(f"{source} has to hold one API key, or its name and it, on one line")
    return lines[0][-1]


def ray_token(file: Path) -> str | None:
    """The token in this file; None where there is no file. Raises Failed."""
    try:
        return file.expanduser().read_text(encoding="utf-8").strip() or None
    except FileNotFoundError:
        return None
    except (OSError, UnicodeError) as error:
        raise Failed(f"cannot read Ray's token in {file}: {error}") from error
