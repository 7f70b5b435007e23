"""Decoding of untrusted recordings: every format, every limit, every kind of attack."""

import ctypes
import io
import os
import resource
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from socket import create_server

import av
import av.error
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphs.audio.decode import decode
from graphs.audio.errors import AudioEmpty, AudioTooLong, AudioUndecodable
from testing import media
from testing.media import RATE_HZ, Samples

LIMIT_S = 60.0
ORIGINAL = media.sweep(2.0)
PRIMING_S = 0.15
"""Padding that lossy codecs may add around the sound if the container does not state its length."""


@pytest.fixture(scope="module")
def recordings() -> dict[str, bytes]:
    return {name: make(ORIGINAL) for name, make in media.FORMATS.items()}


@pytest.mark.parametrize("name", media.FORMATS)
def test_each_format_is_decoded_to_the_encoded_samples(name: str, recordings: dict[str, bytes]) -> None:
    audio = decode(recordings[name], LIMIT_S)
    assert audio.dtype == np.int16
    assert audio.ndim == 1
    assert abs(audio.size - ORIGINAL.size) <= PRIMING_S * RATE_HZ
    assert similarity(audio, ORIGINAL) > 0.98


def test_a_browsers_recording_has_no_duration_in_its_header(recordings: dict[str, bytes]) -> None:
    with av.open(io.BytesIO(recordings["webm as browsers record"])) as container:
        assert container.duration is None


def test_stereo_is_mixed_to_the_mean_of_its_channels() -> None:
    left, right = ORIGINAL, np.zeros_like(ORIGINAL)
    audio = decode(media.encode(np.stack([left, right], axis=1), "wav", "pcm_s16le", layout="stereo"), LIMIT_S)
    assert similarity(audio, left) > 0.99
    assert np.abs(audio).max() == pytest.approx(np.abs(left).max() / 2, rel=0.02)


def test_a_wav_whose_pcm_is_another_format_is_decoded_as_that_format() -> None:
    audio = decode(media.wav(media.encode(ORIGINAL, "adts", "aac")), LIMIT_S)
    assert similarity(audio, ORIGINAL) > 0.98


def test_a_wav_whose_pcm_is_a_format_that_is_not_accepted_is_refused() -> None:
    sound = media.encode(media.stereo(ORIGINAL), "ac3", "ac3", rate_hz=48_000, layout="stereo", bit_rate=640_000)
    with pytest.raises(AudioUndecodable, match="codec is none of"):
        decode(media.wav(sound, rate_hz=48_000, channels=2), LIMIT_S)


def test_a_recording_as_long_as_the_limit_is_accepted_and_a_longer_one_is_refused() -> None:
    assert decode(media.wav(bytes(2 * 32_000)), 2.0).size == 32_000
    with pytest.raises(AudioTooLong, match=r"longer than 2 s"):
        decode(media.wav(bytes(2 * 32_001)), 2.0)


def test_a_recording_below_a_tenth_of_a_second_is_empty() -> None:
    assert decode(media.wav(bytes(2 * 1600)), LIMIT_S).size == 1600
    with pytest.raises(AudioEmpty):
        decode(media.wav(bytes(2 * 1599)), LIMIT_S)


def test_the_samples_left_in_the_resampler_at_the_end_count() -> None:
    barely_longer = media.encode(np.zeros(2 * RATE_HZ + 4, np.int16), "wav", "pcm_s16le", rate_hz=44_100)
    with pytest.raises(AudioTooLong):
        decode(barely_longer, 2.0)


@pytest.mark.parametrize("bomb", [media.silence_flac, media.silence_opus])
def test_half_an_hour_of_silence_in_few_bytes_is_refused_without_decoding_it(bomb) -> None:
    recording = bomb(0.5)
    limit_bytes, decoded_bytes = LIMIT_S * RATE_HZ * 2, 1800 * RATE_HZ * 2
    assert len(recording) < decoded_bytes / 200
    tracemalloc.start()
    with pytest.raises(AudioTooLong):
        decode(recording, LIMIT_S)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * limit_bytes


@pytest.mark.parametrize("make", [lambda rate_hz: media.wav(bytes(120_000), rate_hz=rate_hz), media.alac_at], ids=["wav", "alac"])
@pytest.mark.parametrize("rate_hz", [1, 8, 100])
def test_few_samples_at_a_rate_of_some_hz_are_refused_without_resampling_them_to_hours(make, rate_hz: int) -> None:
    before_bytes = peak_bytes()
    with pytest.raises(AudioTooLong):
        decode(make(rate_hz), LIMIT_S)
    assert peak_bytes() - before_bytes < 50_000_000


@pytest.mark.parametrize(
    ("recording", "error"),
    [
        pytest.param(b"", AudioEmpty, id="0 bytes"),
        pytest.param(b"\0", AudioUndecodable, id="1 byte"),
        pytest.param(bytes(100_000), AudioUndecodable, id="zeros"),
        pytest.param(b"Draw me a red apple, please.\n" * 500, AudioUndecodable, id="a renamed text file"),
        pytest.param(b"%PDF-1.7\n" + bytes(range(256)) * 40, AudioUndecodable, id="a PDF"),
        pytest.param(b"PK\x03\x04" + bytes(range(256)) * 40, AudioUndecodable, id="a zip"),
        pytest.param(media.video_only(), AudioUndecodable, id="a video without sound"),
        pytest.param(media.wav(b""), AudioEmpty, id="a wav without samples"),
        pytest.param(media.wav_of_gigabytes_of_tags(), AudioUndecodable, id="a wav with a comment of 2 GB"),
        pytest.param(media.wav(bytes(60_000), tag=0x9999), AudioUndecodable, id="an unknown codec"),
        pytest.param(media.wav(bytes(60_000), rate_hz=0), AudioUndecodable, id="a rate of 0 Hz"),
        pytest.param(media.wav(bytes(60_000), rate_hz=1_400_000_000), AudioUndecodable, id="a rate of 1.4 GHz"),
        pytest.param(media.wav(bytes(60_000), channels=0), AudioUndecodable, id="no channels"),
        pytest.param(media.FORMATS["wav"](ORIGINAL)[:40], AudioUndecodable, id="half a header"),
        pytest.param(media.encode(ORIGINAL, "aiff", "pcm_s16be"), AudioUndecodable, id="a container that is not accepted"),
        pytest.param(media.encode(ORIGINAL, "mp4", "ac3", rate_hz=48_000), AudioUndecodable, id="a codec that is not accepted"),
    ],
)
def test_a_bad_recording_is_refused_and_the_next_one_is_decoded(recording: bytes, error: type[Exception]) -> None:
    before_bytes = peak_bytes()
    with pytest.raises(error):
        decode(recording, LIMIT_S)
    assert peak_bytes() - before_bytes < 100_000_000
    assert decode(media.wav(ORIGINAL.tobytes()), LIMIT_S).tolist() == ORIGINAL.tolist()


@pytest.mark.parametrize("claimed_bytes", [10_000_000, 0x7FFFFFFF, 0xFFFFFFFF])
def test_a_wav_that_claims_more_than_it_contains_is_decoded_to_its_content(claimed_bytes: int) -> None:
    audio = decode(media.wav(ORIGINAL.tobytes(), claimed_bytes=claimed_bytes), LIMIT_S)
    assert audio.tolist() == ORIGINAL.tolist()


def test_a_wav_that_claims_less_than_it_contains_is_decoded_to_the_claimed_size() -> None:
    audio = decode(media.wav(ORIGINAL.tobytes(), claimed_bytes=20_000), LIMIT_S)
    assert audio.tolist() == ORIGINAL[:10_000].tolist()


@pytest.mark.parametrize("name", ["mp3", "flac", "ogg/opus", "webm", "wav"])
def test_a_truncated_recording_is_decoded_up_to_the_cut(name: str, recordings: dict[str, bytes]) -> None:
    whole = recordings[name]
    audio = decode(whole[: len(whole) * 2 // 3], LIMIT_S)
    assert 0.4 * ORIGINAL.size < audio.size < 0.8 * ORIGINAL.size
    assert similarity(audio, ORIGINAL[: audio.size]) > 0.9


def test_an_m4a_cut_before_its_index_is_refused(recordings: dict[str, bytes]) -> None:
    with pytest.raises(AudioUndecodable):
        decode(recordings["m4a"][: len(recordings["m4a"]) // 2], LIMIT_S)


@settings(max_examples=80)
@given(data=st.data())
def test_any_corrupt_recording_is_decoded_or_refused_with_a_known_error(data: st.DataObject) -> None:
    corrupt = bytearray(CORRUPTIBLE[data.draw(st.sampled_from(sorted(CORRUPTIBLE)))])
    offsets = st.integers(0, len(corrupt) - 1) | st.integers(0, 200)
    for offset, byte in data.draw(st.lists(st.tuples(offsets, st.integers(0, 255)), min_size=1, max_size=20)):
        corrupt[offset] = byte
    try:
        audio = decode(bytes(corrupt[: data.draw(st.integers(1, len(corrupt)))]), 5.0)
    except (AudioEmpty, AudioTooLong, AudioUndecodable):
        return
    assert audio.dtype == np.int16
    assert audio.size <= 5.0 * RATE_HZ


SHORT = media.sweep(0.3)
CORRUPTIBLE = {name: media.FORMATS[name](SHORT) for name in ("wav", "mp3", "flac", "ogg/opus", "webm", "m4a", "m4a/alac", "aac")}


class Loopback:
    """HTTP server that counts its requests and answers each with 404."""

    def __init__(self) -> None:
        self.requests = 0
        self._socket = create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/sound"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._socket.accept()
            self.requests += 1
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.0 404 Not Found\r\n\r\n")


class Watch:
    """Counter of the opens and reads of a file by any process, from the kernel's inotify."""

    def __init__(self, path: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._events = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        opened_or_read = 0x20 | 0x1
        if libc.inotify_add_watch(self._events, str(path).encode(), opened_or_read) < 0:
            raise OSError(ctypes.get_errno(), "inotify")

    def events(self) -> int:
        try:
            return len(os.read(self._events, 65_536)) // 16
        except BlockingIOError:
            return 0

    def close(self) -> None:
        os.close(self._events)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret.wav"
    path.write_bytes(media.wav(media.sweep(3.0).tobytes()))
    return path


@pytest.fixture
def watch(secret: Path) -> Iterator[Watch]:
    watch = Watch(secret)
    yield watch
    watch.close()


TRUSTING = {"safe": "0", "protocol_whitelist": "file,http,tcp", "enable_drefs": "1", "use_absolute_path": "1"}
HLS = {"protocol_whitelist": "file,http,tcp", "allowed_extensions": "ALL", "extension_picky": "0"}
LISTS = {"m3u8": (media.m3u8, "hls", HLS), "ffconcat": (media.ffconcat, "concat", TRUSTING)}


@pytest.mark.parametrize("kind", LISTS)
def test_a_list_of_files_opens_no_file(kind: str, secret: Path, watch: Watch) -> None:
    make, format, trusting = LISTS[kind]
    assert play(make(str(secret)), format, trusting)
    assert watch.events() > 0, "a player that trusts the list does open the file"
    for url in (str(secret), f"file:{secret}", f"file://{secret}", f"concat:{secret}", f"subfile,,start,0,end,0,,:{secret}"):
        with pytest.raises(AudioUndecodable):
            decode(make(url), LIMIT_S)
    assert watch.events() == 0


@pytest.mark.parametrize("kind", LISTS)
def test_a_list_of_files_opens_no_connection(kind: str) -> None:
    make, format, trusting = LISTS[kind]
    server = Loopback()
    assert not play(make(server.url), format, trusting)
    assert server.requests > 0, "a player that trusts the list does connect to the server"
    server.requests = 0
    with pytest.raises(AudioUndecodable):
        decode(make(server.url), LIMIT_S)
    assert server.requests == 0


def test_a_video_whose_sound_is_in_another_file_opens_no_file(secret: Path, watch: Watch) -> None:
    video = media.mov_elsewhere(secret)
    assert play(video, "mov", TRUSTING)
    assert watch.events() > 0, "a player that trusts the video does open the file"
    with pytest.raises((AudioEmpty, AudioUndecodable)):
        decode(video, LIMIT_S)
    assert watch.events() == 0


@pytest.mark.parametrize(
    "recording",
    [
        pytest.param(b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n", id="sdp"),
        pytest.param(b'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period/></MPD>', id="dash"),
        pytest.param(b"[Reference]\nRef1=http://127.0.0.1:9/x\n", id="asx"),
        pytest.param(b"RTSPtextrtsp://127.0.0.1:9/x", id="rtsp"),
    ],
)
def test_other_files_that_reference_a_remote_source_are_refused(recording: bytes) -> None:
    with pytest.raises(AudioUndecodable):
        decode(recording, LIMIT_S)


def peak_bytes() -> int:
    """Return the peak memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def play(recording: bytes, format: str, options: dict[str, str]) -> bool:
    """Return whether FFmpeg decodes sound from the recording with options that trust it."""
    try:
        with av.open(io.BytesIO(recording), format=format, options=options) as container:
            return sum(frame.samples for frame in container.decode(audio=0)) > 0
    except av.error.FFmpegError:
        return False


def similarity(one: Samples, other: Samples) -> float:
    """Return the correlation of two sounds, at the shift where it is largest."""
    size = 1 << (one.size + other.size).bit_length()
    spectra = np.fft.rfft(one.astype(np.float64), size), np.fft.rfft(other.astype(np.float64), size)
    correlation = np.fft.irfft(spectra[0] * np.conj(spectra[1]), size)
    return float(correlation.max() / (np.linalg.norm(one.astype(np.float64)) * np.linalg.norm(other.astype(np.float64))))
