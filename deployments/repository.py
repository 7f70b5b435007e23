"""A model's folder as a Triton server loads it: the repository's own, and the parameters of this replica."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path


def stage(source: Path, target: Path, parameters: Mapping[str, str]) -> None:
    """Copies the folder and adds the parameters to its config.pbtxt (text format; strings escaped as JSON is)."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    with (target / "config.pbtxt").open("a", encoding="utf-8") as config:
        for key, value in parameters.items():
            config.write(f"\nparameters {{ key: {json.dumps(key)} value {{ string_value: {json.dumps(value)} }} }}")
