"""Untrusted recordings become samples: every format, every limit, every kind of harm."""

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
"""What lossy codecs may put before and after the sound where the container does not say how much."""


@pytest.fixture(scope="module")
def recordings() -> dict[str, bytes]:
    return {name: make(ORIGINAL) for name, make in media.FORMATS.items()}


@pytest.mark.parametrize("name", media.FORMATS)
def test_each_format_comes_out_as_it_went_in(name: str, recordings: dict[str, bytes]) -> None:
    audio = decode(recordings[name], LIMIT_S)
    assert audio.dtype == np.int16
    assert audio.ndim == 1
    assert abs(audio.size - ORIGINAL.size) <= PRIMING_S * RATE_HZ
    assert likeness(audio, ORIGINAL) > 0.98


def test_browsers_recordings_name_no_duration(recordings: dict[str, bytes]) -> None:
    with av.open(io.BytesIO(recordings["webm as browsers record"])) as container:
        assert container.duration is None


def test_stereo_is_mixed_to_the_mean_of_its_sides() -> None:
    left, right = ORIGINAL, np.zeros_like(ORIGINAL)
    audio = decode(media.encode(np.stack([left, right], axis=1), "wav", "pcm_s16le", layout="stereo"), LIMIT_S)
    assert likeness(audio, left) > 0.99
    assert np.abs(audio).max() == pytest.approx(np.abs(left).max() / 2, rel=0.02)


def test_what_is_as_long_as_the_limit_is_taken_and_longer_is_refused() -> None:
    assert decode(media.wav(bytes(2 * 32_000)), 2.0).size == 32_000
    with pytest.raises(AudioTooLong, match=r"longer than 2 s"):
        decode(media.wav(bytes(2 * 32_001)), 2.0)


def test_less_than_a_tenth_of_a_second_is_empty() -> None:
    assert decode(media.wav(bytes(2 * 1600)), LIMIT_S).size == 1600
    with pytest.raises(AudioEmpty):
        decode(media.wav(bytes(2 * 1599)), LIMIT_S)


def test_what_a_resampler_still_holds_at_the_end_counts_too() -> None:
    barely_longer = media.encode(np.zeros(2 * RATE_HZ + 4, np.int16), "wav", "pcm_s16le", rate_hz=44_100)
    with pytest.raises(AudioTooLong):
        decode(barely_longer, 2.0)


@pytest.mark.parametrize("bomb", [media.silence_flac, media.silence_opus])
def test_half_an_hour_of_silence_in_few_bytes_is_refused_without_unpacking_it(bomb) -> None:
    recording = bomb(0.5)
    limit_bytes, unpacked_bytes = LIMIT_S * RATE_HZ * 2, 1800 * RATE_HZ * 2
    assert len(recording) < unpacked_bytes / 200
    tracemalloc.start()
    with pytest.raises(AudioTooLong):
        decode(recording, LIMIT_S)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * limit_bytes


@pytest.mark.parametrize("make", [lambda rate_hz: media.wav(bytes(120_000), rate_hz=rate_hz), media.alac_at], ids=["wav", "alac"])
@pytest.mark.parametrize("rate_hz", [1, 8, 100])
def test_few_samples_at_a_rate_of_some_hz_are_hours_and_refused_without_making_them(make, rate_hz: int) -> None:
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
        pytest.param(media.video_only(), AudioUndecodable, id="a film without sound"),
        pytest.param(media.wav(b""), AudioEmpty, id="a wav without samples"),
        pytest.param(media.wav_of_gigabytes_of_tags(), AudioUndecodable, id="a wav with a comment of 2 GB"),
        pytest.param(media.wav(bytes(60_000), tag=0x9999), AudioUndecodable, id="a codec that nobody knows"),
        pytest.param(media.wav(bytes(60_000), rate_hz=0), AudioUndecodable, id="a rate of 0 Hz"),
        pytest.param(media.wav(bytes(60_000), rate_hz=1_400_000_000), AudioUndecodable, id="a rate of 1.4 GHz"),
        pytest.param(media.wav(bytes(60_000), channels=0), AudioUndecodable, id="no channels"),
        pytest.param(media.FORMATS["wav"](ORIGINAL)[:40], AudioUndecodable, id="half a header"),
        pytest.param(media.encode(ORIGINAL, "aiff", "pcm_s16be"), AudioUndecodable, id="a container that is not taken"),
        pytest.param(media.encode(ORIGINAL, "mp4", "ac3", rate_hz=48_000), AudioUndecodable, id="a codec that is not taken"),
    ],
)
def test_a_bad_recording_is_refused_and_the_next_one_is_decoded(recording: bytes, error: type[Exception]) -> None:
    before_bytes = peak_bytes()
    with pytest.raises(error):
        decode(recording, LIMIT_S)
    assert peak_bytes() - before_bytes < 100_000_000
    assert decode(media.wav(ORIGINAL.tobytes()), LIMIT_S).tolist() == ORIGINAL.tolist()


@pytest.mark.parametrize("claimed_bytes", [10_000_000, 0x7FFFFFFF, 0xFFFFFFFF])
def test_a_wav_that_claims_more_than_it_holds_gives_what_it_holds(claimed_bytes: int) -> None:
    audio = decode(media.wav(ORIGINAL.tobytes(), claimed_bytes=claimed_bytes), LIMIT_S)
    assert audio.tolist() == ORIGINAL.tolist()


def test_a_wav_that_claims_less_than_it_holds_gives_what_it_claims() -> None:
    audio = decode(media.wav(ORIGINAL.tobytes(), claimed_bytes=20_000), LIMIT_S)
    assert audio.tolist() == ORIGINAL[:10_000].tolist()


@pytest.mark.parametrize("name", ["mp3", "flac", "ogg/opus", "webm", "wav"])
def test_a_recording_that_was_cut_short_gives_what_came_before_the_cut(name: str, recordings: dict[str, bytes]) -> None:
    whole = recordings[name]
    audio = decode(whole[: len(whole) * 2 // 3], LIMIT_S)
    assert 0.4 * ORIGINAL.size < audio.size < 0.8 * ORIGINAL.size
    assert likeness(audio, ORIGINAL[: audio.size]) > 0.9


def test_an_m4a_cut_before_its_index_is_refused(recordings: dict[str, bytes]) -> None:
    with pytest.raises(AudioUndecodable):
        decode(recordings["m4a"][: len(recordings["m4a"]) // 2], LIMIT_S)


@settings(max_examples=80)
@given(data=st.data())
def test_whatever_is_broken_in_a_recording_it_is_decoded_or_refused_by_name(data: st.DataObject) -> None:
    broken = bytearray(BREAKABLE[data.draw(st.sampled_from(sorted(BREAKABLE)))])
    places = st.integers(0, len(broken) - 1) | st.integers(0, 200)
    for place, byte in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=20)):
        broken[place] = byte
    try:
        audio = decode(bytes(broken[: data.draw(st.integers(1, len(broken)))]), 5.0)
    except (AudioEmpty, AudioTooLong, AudioUndecodable):
        return
    assert audio.dtype == np.int16
    assert audio.size <= 5.0 * RATE_HZ


SHORT = media.sweep(0.3)
BREAKABLE = {name: media.FORMATS[name](SHORT) for name in ("wav", "mp3", "flac", "ogg/opus", "webm", "m4a", "m4a/alac", "aac")}


class Loopback:
    """An HTTP server that counts who calls, and has nothing."""

    def __init__(self) -> None:
        self.calls = 0
        self._socket = create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/sound"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            caller, _ = self._socket.accept()
            self.calls += 1
            with caller:
                caller.recv(4096)
                caller.sendall(b"HTTP/1.0 404 Not Found\r\n\r\n")


class Watch:
    """Counts how often a file is opened or read by anyone, as the kernel's inotify says."""

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
    assert server.calls > 0, "a player that trusts the list does call the server"
    server.calls = 0
    with pytest.raises(AudioUndecodable):
        decode(make(server.url), LIMIT_S)
    assert server.calls == 0


def test_a_film_whose_sound_lies_in_another_file_opens_no_file(secret: Path, watch: Watch) -> None:
    film = media.mov_elsewhere(secret)
    assert play(film, "mov", TRUSTING)
    assert watch.events() > 0, "a player that trusts the film does open the file"
    with pytest.raises((AudioEmpty, AudioUndecodable)):
        decode(film, LIMIT_S)
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
def test_other_files_that_point_elsewhere_are_refused(recording: bytes) -> None:
    with pytest.raises(AudioUndecodable):
        decode(recording, LIMIT_S)


def peak_bytes() -> int:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def play(recording: bytes, format: str, options: dict[str, str]) -> bool:
    """Whether FFmpeg, told to trust the recording, gets sound out of it."""
    try:
        with av.open(io.BytesIO(recording), format=format, options=options) as container:
            return sum(frame.samples for frame in container.decode(audio=0)) > 0
    except av.error.FFmpegError:
        return False


def likeness(one: Samples, other: Samples) -> float:
    """The correlation of two sounds, at the shift where it is largest."""
    size = 1 << (one.size + other.size).bit_length()
    spectra = np.fft.rfft(one.astype(np.float64), size), np.fft.rfft(other.astype(np.float64), size)
    correlation = np.fft.irfft(spectra[0] * np.conj(spectra[1]), size)
    return float(correlation.max() / (np.linalg.norm(one.astype(np.float64)) * np.linalg.norm(other.astype(np.float64))))
