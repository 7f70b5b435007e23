"""`python images/requirements.py [MODEL ...]` prints the packages of an image with these models; requirements.lock has the versions."""

import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
SHARED = "all"
"""The image with every model, for the worker group of a profile whose models share a GPU."""


def extras() -> dict[str, list[str]]:
    """Files of requirements by extra, from pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    files = project["tool"]["setuptools"]["dynamic"]["optional-dependencies"]
    return {extra: list(found["file"]) for extra, found in files.items()}


def models() -> list[str]:
    """The extras that a folder in deployments/ is named after."""
    return [extra for extra, files in extras().items() if files == [f"deployments/{extra}/requirements.txt"]]


def images() -> dict[str, tuple[str, ...]]:
    """The models in each image that pods or other images are made from."""
    return {"base": (), "ingress": (), **{model: (model,) for model in models()}, SHARED: tuple(models())}


def requirements(*wanted: str) -> list[str]:
    """Packages of an image with these models, but for Triton's own, which comes with NVIDIA's image.

    Every image has those of the ingress: Serve's proxy, which runs in every pod, loads graphs/http, and any pod may build the app.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    lines = list(project["project"]["dependencies"])
    if unknown := set(wanted) - set(models()):
        raise SystemExit(f"pyproject.toml has no extra of a model named {', '.join(sorted(unknown))}, only {', '.join(models())}")
    for extra in ("ingress", *wanted):
        for file in extras()[extra]:
            lines += (ROOT / file).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#")]


if __name__ == "__main__":
    print("\n".join(requirements(*sys.argv[1:])))
