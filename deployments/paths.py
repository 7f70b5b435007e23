"""The places of a model's weights and of its Triton repository, and its name."""

import sys
from pathlib import Path


def weights_dir(model: str) -> Path:
    """The folder of a model's weights; set-up fills it."""
    return Path(sys.prefix) / "share" / "sonograph" / model


def model_name(model: str) -> str:
    """The name in answers: a path's last part, or the name itself."""
    return Path(model).name if model.startswith(("/", ".")) else model


def model_version(model: str) -> str:
    """The version of the model in its Triton repository; of several, Triton loads the latest. Empty for a stub, which has none."""
    repository = Path(__file__).parent / model / "repository" / model
    return str(max((int(folder.name) for folder in repository.glob("*") if folder.name.isdecimal()), default=""))
