"""`python images/requirements.py IMAGE` prints what an image installs, one requirement a line; requirements.lock has the versions."""

import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
EXTRAS = {
    "base": ("ingress",),
    "ingress": ("ingress",),
    "whisper": ("ingress", "whisper"),
    "diffusion": ("ingress", "diffusion"),
    "all": ("ingress", "whisper", "diffusion"),
}
"""Of pyproject.toml, by image. Every pod has a proxy of Serve's, which loads graphs/http, and may be the one that builds the app."""


def requirements(image: str) -> list[str]:
    """Without Triton's package, which comes with NVIDIA's image."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    files = project["tool"]["setuptools"]["dynamic"]["optional-dependencies"]
    wanted = list(project["project"]["dependencies"])
    for extra in EXTRAS[image]:
        for file in files[extra]["file"]:
            wanted += (ROOT / file).read_text(encoding="utf-8").splitlines()
    return [line for line in wanted if line.strip() and not line.startswith("#")]


if __name__ == "__main__":
    print("\n".join(requirements(sys.argv[1])))
