"""The thing that an image shows, by the nearest training picture. The tests have fingerprints of those, not the pictures."""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from training.small_stable_diffusion.concepts import FINGERPRINTS

FINGERPRINT = 128
"""Length; a random projection of that many axes keeps Euclidean distances within some 10%."""


def visual_features(rgb: torch.Tensor) -> torch.Tensor:
    """Colours and edges at sides of 32, 16, 8 and 4, each scale of equal weight: [n, features]. `rgb`: float32 [n, 3, h, w] in [-1, 1]."""
    features = []
    for side in (32, 16, 8, 4):
        small = F.adaptive_avg_pool2d(rgb, side)
        edges = [small.diff(dim=-1).flatten(1), small.diff(dim=-2).flatten(1)]
        features += [part / side for part in (small.flatten(1), *edges)]
    return torch.cat(features, dim=1)


def distances(features: torch.Tensor, references: torch.Tensor, concept: torch.Tensor) -> torch.Tensor:
    """The distance of each row to each concept's nearest reference: float32 [n, concepts]. `concept`: int64, of each reference."""
    nearest = torch.full((len(features), int(concept.max()) + 1), float("inf"))
    return nearest.scatter_reduce_(1, concept.expand(len(features), -1), torch.cdist(features, references), "amin")


def rank(distance: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """The rank, 0 for the nearest, of each row's wanted concept."""
    return (distance < distance.gather(1, wanted[:, None])).sum(dim=1)


class Fingerprints:
    """Judge that recognises a concept in an image by fingerprints of the training pictures."""

    def __init__(self, path: Path = FINGERPRINTS) -> None:
        saved = load_file(path)
        self._references, self._concept = saved["looks"].float(), saved["concept"].long()

    def distances(self, rgb: torch.Tensor) -> torch.Tensor:
        """The distance of each image, or of its mirror image, to each concept: float32 [n, concepts].

        `rgb`: float32 [n, 3, h, w] in [-1, 1].
        """
        plain, mirrored = (
            distances(_project(visual_features(side)), self._references, self._concept) for side in (rgb, rgb.flip(-1))
        )
        return torch.minimum(plain, mirrored)


def save_fingerprints(path: Path, rgb: torch.Tensor, concept: torch.Tensor) -> None:
    save_file({"looks": _project(visual_features(rgb)).half(), "concept": concept.to(torch.int16)}, path)


def _project(features: torch.Tensor) -> torch.Tensor:
    axes = torch.randn(features.shape[1], FINGERPRINT, generator=torch.Generator().manual_seed(0))
    return torch.matmul(features, axes).div(FINGERPRINT**0.5)
