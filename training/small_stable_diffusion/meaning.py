"""What a picture shows, judged by the nearest training picture; the tests have fingerprints of those, not the pictures."""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from training.small_stable_diffusion.concepts import FINGERPRINTS

FINGERPRINT = 128
"""Length; a random projection of that many axes keeps Euclidean distances within some 10%."""


def looks(rgb: torch.Tensor) -> torch.Tensor:
    """`rgb`: float32 [n, 3, h, w] in [-1, 1]. Colour and edges at sides of 32, 16, 8 and 4, each scale of equal weight: [n, features]."""
    features = []
    for side in (32, 16, 8, 4):
        small = F.adaptive_avg_pool2d(rgb, side)
        edges = [small.diff(dim=-1).flatten(1), small.diff(dim=-2).flatten(1)]
        features += [part / side for part in (small.flatten(1), *edges)]
    return torch.cat(features, dim=1)


def distances(seen: torch.Tensor, known: torch.Tensor, concept: torch.Tensor) -> torch.Tensor:
    """From each seen row to each concept's nearest known row: float32 [n, concepts]. `concept`: int64, whose each known row is."""
    nearest = torch.full((len(seen), int(concept.max()) + 1), float("inf"))
    return nearest.scatter_reduce_(1, concept.expand(len(seen), -1), torch.cdist(seen, known), "amin")


def rank(distance: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """The place, 0 for the nearest, of each row's wanted concept."""
    return (distance < distance.gather(1, wanted[:, None])).sum(dim=1)


class Fingerprints:
    """Tells which concept of the list a picture shows, without the training pictures."""

    def __init__(self, path: Path = FINGERPRINTS) -> None:
        saved = load_file(path)
        self._known, self._concept = saved["looks"].float(), saved["concept"].long()

    def distances(self, rgb: torch.Tensor) -> torch.Tensor:
        """`rgb`: float32 [n, 3, h, w] in [-1, 1]. To each concept, of the picture or its mirror image: float32 [n, concepts]."""
        plain, mirrored = (distances(_project(looks(side)), self._known, self._concept) for side in (rgb, rgb.flip(-1)))
        return torch.minimum(plain, mirrored)


def save_fingerprints(path: Path, rgb: torch.Tensor, concept: torch.Tensor) -> None:
    save_file({"looks": _project(looks(rgb)).half(), "concept": concept.to(torch.int16)}, path)


def _project(features: torch.Tensor) -> torch.Tensor:
    axes = torch.randn(features.shape[1], FINGERPRINT, generator=torch.Generator().manual_seed(0))
    return torch.matmul(features, axes).div(FINGERPRINT**0.5)
