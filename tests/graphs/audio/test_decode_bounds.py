"""Bounds of FFmpeg for a recording: the decoders it may open, the number of tracks, the memory."""

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from graphs.audio import covers, decode, formats
from graphs.audio.errors import AudioUndecodable
from graphs.http.schemas import openapi
from testing import media
from testing.service import ROOT

pytestmark = pytest.mark.slow

SOUND = media.sweep(1.0)
MOST_MIB = 300
"""Peak memory that decoding may take, including Python and its libraries."""
PROGRAM = """
import json, pathlib, sys
from graphs.audio.decode import decode
recording = pathlib.Path(sys.argv[1]).read_bytes()
try:
    result = decode(recording, 60.0).size
except Exception as error:
    result = f"{type(error).__name__}: {error}"
# Not ru_maxrss, which starts from the parent's memory.
(peak_kb,) = (line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM:"))
print(json.dumps([result, int(peak_kb) / 1024]))
"""


def decode_in_subprocess(recording: bytes, folder: Path) -> tuple[int | str, float]:
    """Decode in a separate process; return the number of samples or the error, and the peak in MiB."""
    path = folder / "recording"
    path.write_bytes(recording)
    command = [sys.executable, "-c", PROGRAM, str(path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    decoded, peak_mib = json.loads(result.stdout)
    return decoded, peak_mib


@pytest.mark.parametrize(("tracks", "samples"), [(20, 2_700_000), (20, 330_000), (12, 330_000)])
def test_tracks_that_claim_large_indexes_take_little_memory(tracks: int, samples: int, tmp_path: Path) -> None:
    """Files of 8 KB. The second and third claim indexes just below the bound of a single allocation."""
    recording = media.mov_of_indexes(tracks, samples)
    assert len(recording) < 10_000
    _, peak_mib = decode_in_subprocess(recording, tmp_path)
    assert peak_mib < MOST_MIB


def test_video_is_accepted_and_never_decoded(tmp_path: Path) -> None:
    """A decoded frame takes 25 MB, and FFmpeg, if allowed, decodes some frames of each track to probe it."""
    decoded, peak_mib = decode_in_subprocess(media.film(SOUND, tracks=3, side_px=4096, frames=2), tmp_path)
    assert decoded == pytest.approx(SOUND.size, abs=1600)
    sound_alone, least_mib = decode_in_subprocess(media.encode(SOUND, "matroska", "libopus"), tmp_path)
    assert sound_alone == pytest.approx(SOUND.size, abs=1600)
    assert peak_mib < least_mib + 25


def test_no_unlisted_decoder_is_opened_to_probe_a_stream() -> None:
    """FFmpeg knows the colours of a Motion JPEG only after it has decoded a frame."""
    recording = media.film(SOUND, codec="mjpeg")
    for options, colours in (
        (decode.OPTIONS, None),
        (decode.OPTIONS | {"codec_whitelist": f"{formats.DECODERS},mjpeg"}, "yuvj420p"),
    ):
        with av.open(io.BytesIO(recording), options=options) as container:
            assert container.streams.video[0].codec_context.pix_fmt == colours
    assert decode.decode(recording, 60.0).size == pytest.approx(SOUND.size, abs=1600)


@pytest.mark.parametrize("size", [100_000, 15_000_000])
@pytest.mark.parametrize("name", media.COVERS)
def test_a_recording_with_a_cover_picture_is_accepted(name: str, size: int) -> None:
    """No picture can be decoded, and the larger ones exceed the memory that FFmpeg may allocate."""
    decoded = decode.decode(media.COVERS[name](SOUND, size), 60.0)
    assert decoded.size == pytest.approx(SOUND.size, abs=2400)
    assert np.abs(decoded).max() > 4000


def test_a_flac_of_millions_of_blocks_beside_its_cover_is_refused_in_little_memory(tmp_path: Path) -> None:
    whole = media.flac_with_cover(SOUND, 9_000_000)
    after = 46 + int.from_bytes(whole[43:46])  # the picture, at which FFmpeg stops
    recording = whole[:after] + b"\x01\0\0\0" * 3_000_000 + whole[after:]  # padding blocks
    decoded, peak_mib = decode_in_subprocess(recording, tmp_path)
    assert "send its sound alone" in str(decoded)
    assert peak_mib < MOST_MIB
    assert covers.left_out(recording) == recording


def test_the_most_tracks_are_accepted_and_one_more_is_refused_with_the_bound() -> None:
    assert decode.decode(media.tracks(SOUND, decode.MOST_TRACKS), 60.0).tolist() == SOUND.tolist()
    with pytest.raises(
        AudioUndecodable, match=r"more than 12 tracks, .* more than 8 MiB of memory: send its sound alone, as wav, "
    ):
        decode.decode(media.tracks(SOUND, decode.MOST_TRACKS + 1), 60.0)


def test_an_unsupported_codec_is_refused_by_a_sentence_with_the_supported_ones() -> None:
    with pytest.raises(AudioUndecodable, match="none of mp3, flac, opus, vorbis, aac, alac and PCM: convert it"):
        decode.decode(media.encode(SOUND, "mp4", "ac3", rate_hz=48_000), 60.0)


def test_ffmpeg_has_every_decoder_of_the_table() -> None:
    missing = set(formats.DECODERS.split(",")) - set(av.codecs_available)
    assert missing == set(), "PyAV's FFmpeg lacks these decoders: correct CODECS in graphs/audio/formats.py"


@pytest.mark.parametrize("path", ["docs/api.md", "docs/openai.md"])
def test_a_document_lists_the_formats_of_the_table(path: str) -> None:
    text = (ROOT / path).read_text(encoding="utf-8")
    assert f"{formats.listed(formats.FORMATS, 'or')}; the content decides" in text, (
        f"{path} lists other formats than FORMATS in graphs/audio/formats.py"
    )


def test_the_documentation_of_errors_names_the_codecs_and_the_most_tracks() -> None:
    text = (ROOT / "docs/errors.md").read_text(encoding="utf-8")
    assert f"of another codec than {formats.listed(formats.CODECS, 'and')}, of more than {decode.MOST_TRACKS} tracks" in text


def test_the_openapi_document_and_the_page_list_the_formats() -> None:
    assert openapi.RECORDING["description"].startswith(formats.listed(formats.FORMATS, "or"))
    page = (ROOT / "graphs" / "http" / "static" / "index.html").read_text(encoding="utf-8")
    (accepted,) = re.findall(r'accept="([^"]*)"', page)
    assert {f".{name}" for name in formats.FORMATS} <= set(accepted.split(","))
