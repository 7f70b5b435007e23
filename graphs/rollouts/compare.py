"""Comparison of two models' results of one request, by role. Loads Pillow only once there is an image."""

import io
import re
import unicodedata
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein

from deployments.roles.image_formats import IMAGE_FORMATS
from deployments.roles.speech_to_text import Transcript, mean_logprob
from deployments.roles.text_to_image import Image
from graphs.rollouts.observations import Pair
from graphs.rollouts.shape import check_shape

if TYPE_CHECKING:
    import PIL.Image

REPETITIVE = 2.4
"""UTF-8 bytes for each byte that zlib makes of them, above which a text repeats itself: openai-whisper's compression_ratio_threshold."""
SAME = 3
"""Levels, of 255, by which a channel may vary in an empty image: JPEG and WebP change a plain surface by about so much."""
WINDOW_PX = 8
"""Side of SSIM's windows."""
STRIP_PX = 32
"""Rows of windows that are computed at once."""
WITHOUT_SPACES = (
    "\u0e00-\u109f\u1780-\u17ff"  # Thai, Lao, Tibetan, Burmese; Khmer
    "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Chinese, Japanese
)
"""Scripts without spaces between words, as a set of a regular expression. Each character of them counts as a word."""
WORD = re.compile(f"[{WITHOUT_SPACES}]|[^\\s{WITHOUT_SPACES}]+")


class QualityMetrics(NamedTuple):
    """Properties of one result by itself."""

    empty: bool = False
    repetitive: bool = False
    logprob: float | None = None
    """Mean log probability of the tokens, in nats; None where the result has none."""


def quality_metrics(result: Any) -> QualityMetrics:
    """Properties of a result of any role. An image is decoded: ValueError where it cannot be."""
    role = ROLES.get(type(result))
    return role.quality_metrics(result) if role else QualityMetrics()


def compare(stable: Any, candidate: Any) -> Pair:
    """Differences of the candidate's result from the stable model's. Raises ValueError where their shapes differ."""
    check_shape(type(stable), candidate)
    role = ROLES.get(type(stable))
    return role.compare(stable, candidate) if role else Pair()


class _Punctuation(dict[int, str | None]):
    """Table of `str.translate`: an apostrophe goes, other punctuation and symbols become spaces. Filled as characters come."""

    def __missing__(self, code: int) -> str | None:
        char = chr(code)
        self[code] = " " if unicodedata.category(char)[0] in "PS" else char
        return self[code]


_PUNCTUATION = _Punctuation({ord(apostrophe): None for apostrophe in "'’ʼ"})


def words(text: str) -> list[str]:
    """Normalized words: without case, punctuation and Unicode's compatible forms (NFKC)."""
    return WORD.findall(unicodedata.normalize("NFKC", text).casefold().translate(_PUNCTUATION))


def _transcript_metrics(result: Transcript) -> QualityMetrics:
    content = result.text.encode(errors="replace")
    ratio = len(content) / len(zlib.compress(content))
    return QualityMetrics(not result.text.strip(), ratio > REPETITIVE, mean_logprob(result.segments))


def _compare_transcripts(stable: Transcript, candidate: Transcript) -> Pair:
    reference = words(stable.text)
    return Pair(words=len(reference), word_errors=Levenshtein.distance(reference, words(candidate.text)))


def _decoded(image: Image) -> "PIL.Image.Image":
    """Pixels in RGB. Raises ValueError where the file is broken, or not as large as it says."""
    import PIL.Image

    try:
        opened = PIL.Image.open(io.BytesIO(image.encoded), formats=[name.upper() for name in IMAGE_FORMATS])
        if opened.size == (image.width, image.height):
            return opened.convert("RGB")
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, EOFError and more
        raise ValueError(f"the image of {len(image.encoded)} bytes cannot be decoded: {error}") from error
    width, height = opened.size
    raise ValueError(f"another shape: the file has {width}x{height} pixels, its description {image.width}x{image.height}")


def _image_metrics(result: Image) -> QualityMetrics:
    extremes = np.array(_decoded(result).getextrema())
    return QualityMetrics(empty=bool(np.ptp(extremes, axis=1).max() <= SAME))


def _compare_images(stable: Image, candidate: Image) -> Pair:
    one, other = _decoded(stable), _decoded(candidate)
    if one.size != other.size:
        (width, height), (stable_width, stable_height) = other.size, one.size
        raise ValueError(
            f"another shape: the candidate's image has {width}x{height} pixels, the stable model's {stable_width}x{stable_height}"
        )
    return Pair(
        pixels=_root_mean_square(one, other), picture=1 - ssim(np.asarray(one.convert("L")), np.asarray(other.convert("L")))
    )


def _root_mean_square(one: "PIL.Image.Image", other: "PIL.Image.Image") -> float:
    """Root mean square difference of all channels, 0 to 1 of the whole range."""
    from PIL import ImageChops

    counts = np.reshape(ImageChops.difference(one, other).histogram(), (-1, 256)).sum(axis=0)
    return float(np.sqrt(counts @ np.square(np.arange(256) / 255) / counts.sum()))


def ssim(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Mean structural similarity of two luma images of one shape, -1 to 1 (Wang et al. 2004), over every uniform window of 8x8 pixels.

    K1 is 0.01 and K2 0.03, as in the paper. An image of less than 8 pixels is continued by its edge.
    """
    margins = [(0, max(0, WINDOW_PX - side)) for side in one.shape]
    x, y = (np.pad(image, margins, mode="edge") for image in (one, other))
    # Strips of rows fit the processor's cache: for 512x512 pixels a third of the time of whole images.
    rows = x.shape[0] - WINDOW_PX + 1
    strips = (slice(top, top + STRIP_PX + WINDOW_PX - 1) for top in range(0, rows, STRIP_PX))
    total = sum(float(_similarities(x[strip], y[strip]).sum()) for strip in strips)
    return total / (rows * (x.shape[1] - WINDOW_PX + 1))


def _similarities(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.float64]:
    """SSIM of each window. The means, variances and covariance are integers: multiplied by a window's squared count of pixels."""
    x, y, count = one.astype(np.int32), other.astype(np.int32), WINDOW_PX**2
    sum_x, sum_y, sum_xy, sum_squares = map(_window_sums, (x, y, x * y, x * x + y * y))
    means, squared_means = sum_x * sum_y, sum_x * sum_x + sum_y * sum_y
    covariances, variances = count * sum_xy - means, count * sum_squares - squared_means
    c1, c2 = ((k * 255 * count) ** 2 for k in (0.01, 0.03))
    numerators = (2 * means + c1) * (2 * covariances + c2)
    similarities: NDArray[np.float64] = numerators / ((squared_means + c1) * (variances + c2))
    return similarities


def _window_sums(image: NDArray[np.int32]) -> NDArray[np.int32]:
    """Sums of all 8x8 windows: of pairs, of pairs of those and of pairs of those, along each axis."""
    for shift in (1, 2, 4):
        image = image[:-shift] + image[shift:]
    for shift in (1, 2, 4):
        image = image[:, :-shift] + image[:, shift:]
    return image


@dataclass(frozen=True)
class _Role:
    quality_metrics: Callable[[Any], QualityMetrics]
    compare: Callable[[Any, Any], Pair]


ROLES: dict[type, _Role] = {
    Transcript: _Role(_transcript_metrics, _compare_transcripts),
    Image: _Role(_image_metrics, _compare_images),
}
"""Functions by the class of a role's result. A result of another class has no quality metrics, and no differences."""
