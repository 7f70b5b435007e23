"""Files that a command writes."""

import os
from pathlib import Path


def replace_file(path: Path, content: bytes) -> None:
    """Write the whole file or none: beside it, then renamed. Raises OSError."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
