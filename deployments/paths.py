"""Where a model's weights and its Triton repository are, and what it is called."""

import sys
from pathlib import Path


def weights_dir(model: str) -> Path:
    """The folder of a model's weights, which set-up fills."""
    return Path(sys.prefix) / "share" / "sonograph" / model


def model_name(model: str) -> str:
    """The name in answers: a path's last part, or the name itself."""
    return Path(model).name if model.startswith(("/", ".")) else model


def model_version(model: str) -> str:
    """Triton's version of the model: of several, Triton loads the latest."""
    repository = Path(__file__).parent / model / "repository" / model
    return str(max(int(folder.name) for folder in repository.iterdir() if folder.name.isdecimal()))
