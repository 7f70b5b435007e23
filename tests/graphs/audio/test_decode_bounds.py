"""What FFmpeg may do with a recording: the decoders it may open, the tracks it may find, the memory it may take."""

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from graphs.audio import covers, decode
from graphs.audio.errors import AudioUndecodable
from graphs.http.schemas import openapi
from testing import media
from testing.service import ROOT

SOUND = media.sweep(1.0)
MOST_MIB = 300
"""What decoding may take at its peak, Python and its libraries included."""
PROGRAM = """
import json, pathlib, sys
from graphs.audio.decode import decode
recording = pathlib.Path(sys.argv[1]).read_bytes()
try:
    said = decode(recording, 60.0).size
except Exception as error:
    said = f"{type(error).__name__}: {error}"
# Not ru_maxrss, which starts from what the process had that started this one.
(peak_kb,) = (line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM:"))
print(json.dumps([said, int(peak_kb) / 1024]))
"""


def decoded_alone(recording: bytes, folder: Path) -> tuple[int | str, float]:
    """The samples, or the error, of decoding in a process of its own, and its peak in MiB."""
    path = folder / "recording"
    path.write_bytes(recording)
    command = [sys.executable, "-c", PROGRAM, str(path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    said, peak_mib = json.loads(result.stdout)
    return said, peak_mib


@pytest.mark.parametrize(("tracks", "samples"), [(20, 2_700_000), (20, 330_000), (12, 330_000)])
def test_tracks_that_claim_large_indexes_take_little_memory(tracks: int, samples: int, tmp_path: Path) -> None:
    """Of 8 KB. The second and third claim what a single allocation may just have."""
    recording = media.mov_of_indexes(tracks, samples)
    assert len(recording) < 10_000
    _, peak_mib = decoded_alone(recording, tmp_path)
    assert peak_mib < MOST_MIB


def test_video_is_never_decoded_and_no_reason_to_refuse(tmp_path: Path) -> None:
    """A decoded picture takes 25 MB, and FFmpeg, where it may, decodes some of each track to find out what they are."""
    said, peak_mib = decoded_alone(media.film(SOUND, tracks=3, side_px=4096, frames=2), tmp_path)
    assert said == pytest.approx(SOUND.size, abs=1600)
    sound_alone, least_mib = decoded_alone(media.encode(SOUND, "matroska", "libopus"), tmp_path)
    assert sound_alone == pytest.approx(SOUND.size, abs=1600)
    assert peak_mib < least_mib + 25


def test_no_decoder_that_is_not_listed_is_opened_to_look_at_a_stream() -> None:
    """FFmpeg knows the colours of a Motion JPEG only once it has decoded some of it."""
    recording = media.film(SOUND, codec="mjpeg")
    for options, colours in (
        (decode.OPTIONS, None),
        (decode.OPTIONS | {"codec_whitelist": f"{decode.DECODERS},mjpeg"}, "yuvj420p"),
    ):
        with av.open(io.BytesIO(recording), options=options) as container:
            assert container.streams.video[0].codec_context.pix_fmt == colours
    assert decode.decode(recording, 60.0).size == pytest.approx(SOUND.size, abs=1600)


@pytest.mark.parametrize("size", [100_000, 15_000_000])
@pytest.mark.parametrize("name", media.COVERS)
def test_a_cover_picture_is_no_reason_to_refuse(name: str, size: int) -> None:
    """None can be decoded, and the larger ones take more than FFmpeg may allocate."""
    heard = decode.decode(media.COVERS[name](SOUND, size), 60.0)
    assert heard.size == pytest.approx(SOUND.size, abs=2400)
    assert np.abs(heard).max() > 4000


def test_a_flac_of_millions_of_blocks_beside_its_cover_is_refused_in_little_memory(tmp_path: Path) -> None:
    whole = media.flac_with_cover(SOUND, 9_000_000)
    after = 46 + int.from_bytes(whole[43:46])  # the picture, at which FFmpeg gives up
    recording = whole[:after] + b"\x01\0\0\0" * 3_000_000 + whole[after:]  # of padding
    said, peak_mib = decoded_alone(recording, tmp_path)
    assert "send its sound alone" in str(said)
    assert peak_mib < MOST_MIB
    assert covers.left_out(recording) == recording


def test_most_tracks_are_taken_and_one_more_is_refused_with_the_bound() -> None:
    assert decode.decode(media.tracks(SOUND, decode.MOST_TRACKS), 60.0).tolist() == SOUND.tolist()
    with pytest.raises(
        AudioUndecodable, match=r"more than 12 tracks, .* more than 8 MiB of memory: send its sound alone, as wav, "
    ):
        decode.decode(media.tracks(SOUND, decode.MOST_TRACKS + 1), 60.0)


def test_a_codec_that_is_not_taken_is_refused_by_a_sentence_with_those_that_are() -> None:
    with pytest.raises(AudioUndecodable, match="none of mp3, flac, opus, vorbis, aac, alac and PCM: convert it"):
        decode.decode(media.encode(SOUND, "mp4", "ac3", rate_hz=48_000), 60.0)


def test_every_decoder_of_the_table_is_one_that_ffmpeg_has() -> None:
    missing = set(decode.DECODERS.split(",")) - set(av.codecs_available)
    assert missing == set(), "PyAV's FFmpeg has no such decoders: mend graphs/audio/decode.py's CODECS"


@pytest.mark.parametrize("path", ["docs/api.md", "docs/openai.md"])
def test_a_document_lists_the_formats_of_the_table(path: str) -> None:
    text = (ROOT / path).read_text(encoding="utf-8")
    assert f"{decode.listed(decode.FORMATS, 'or')}; the content decides" in text, f"{path} lists other formats than audio.FORMATS"


def test_the_readme_names_the_codecs_and_the_most_tracks() -> None:
    text = (ROOT / "docs/api.md").read_text(encoding="utf-8")
    assert f"of another codec than {decode.listed(decode.CODECS, 'and')}, of more than {decode.MOST_TRACKS} tracks" in text


def test_the_api_and_the_page_list_them_too() -> None:
    assert openapi.RECORDING["description"].startswith(decode.listed(decode.FORMATS, "or"))
    page = (ROOT / "graphs" / "http" / "static" / "index.html").read_text(encoding="utf-8")
    (accepted,) = re.findall(r'accept="([^"]*)"', page)
    assert {f".{name}" for name in decode.FORMATS} <= set(accepted.split(","))
