"""A model's folder as a Triton server loads it: the repository's own, and the parameters of this replica."""

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path


def stage(source: Path, target: Path, parameters: Mapping[str, str], max_batch: int | None = None) -> None:
    """Copies the folder and adds the parameters to its config.pbtxt (text format; strings escaped as JSON is).

    `max_batch` takes the place of the largest batch that it states.
    """
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    config = target / "config.pbtxt"
    text = config.read_text(encoding="utf-8")
    if max_batch is not None:
        text = re.sub(r"^max_batch_size: *\d+", f"max_batch_size: {max_batch}", text, flags=re.M)
    with config.open("w", encoding="utf-8") as file:
        file.write(text)
        for key, value in parameters.items():
            file.write(f"\nparameters {{ key: {json.dumps(key)} value {{ string_value: {json.dumps(value)} }} }}")
