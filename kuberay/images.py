"""Names of the images: a registry, the tag that names their versions, and digests where they are known."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

from kuberay.versions import TAG

REGISTRY = "registry.example.com/sonograph"


@dataclass(frozen=True)
class Images:
    registry: str = REGISTRY
    digests: dict[str, str] = field(default_factory=dict)
    """`sha256:...` by image name."""
    tag: str = TAG

    def __getitem__(self, name: str) -> str:
        return self.named(name, f"{self.registry}/{name}:{self.tag}")

    def named(self, name: str, image: str) -> str:
        """The image with the digest of this name, where there is one and the image has none."""
        digest = self.digests.get(name)
        return f"{image}@{digest}" if digest and "@" not in image else image


def digests(metadata: Path) -> dict[str, str]:
    """Digests by image, from the file that `docker buildx bake --metadata-file` wrote."""
    built = json.loads(metadata.read_text(encoding="utf-8"))
    return {name: image["containerimage.digest"] for name, image in built.items() if "containerimage.digest" in image}


@dataclass(frozen=True)
class Versions:
    release: str
    ray: str
    python: str


def versions(image: str) -> Versions | None:
    """Versions from an image's tag; None where it does not name them."""
    tag = re.search(r":([^:@/]+)-ray(\d+\.\d+\.\d+)-py(\d+\.\d+\.\d+)(?:@|$)", image)
    return Versions(*tag.groups()) if tag else None
