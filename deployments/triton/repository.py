"""A model's folder as a Triton server loads it: a copy of the repository's, with the parameters of this replica."""

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from deployments import call_spans


def copy_with_parameters(source: Path, target: Path, parameters: Mapping[str, str], max_batch: int | None = None) -> None:
    """Copy the folder, and add TRACE and the parameters to the copy's config.pbtxt (text format, strings escaped like JSON's).

    `max_batch` replaces the `max_batch_size` that it states, unless that is 0: Triton then makes no batches.
    """
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    config = target / "config.pbtxt"
    text = config.read_text(encoding="utf-8")
    if max_batch is not None:
        text = re.sub(r"^max_batch_size: *[1-9]\d*", f"max_batch_size: {max_batch}", text, flags=re.M)
    with config.open("w", encoding="utf-8") as file:
        file.write(text)
        file.write(f'\noutput {{ name: "{call_spans.OUTPUT}" data_type: TYPE_STRING dims: [ 1 ] }}')
        for key, value in parameters.items():
            file.write(f"\nparameters {{ key: {json.dumps(key)} value {{ string_value: {json.dumps(value)} }} }}")
