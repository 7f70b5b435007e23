"""Recordings that change on the way, are damaged, or have their sound elsewhere: it is heard, and what was left out is told."""

import itertools
import struct
from collections.abc import Callable

import numpy as np
import pytest

from graphs.audio import links
from graphs.audio.decode import decode, decode_sound
from graphs.audio.errors import AudioTooLong, AudioUndecodable
from graphs.audio.mono import MOST_CHANNELS
from testing import media
from testing.media import RATE_HZ, Samples
from tests.graphs.audio.test_decode import similarity

pytestmark = pytest.mark.slow

LIMIT_S = 60.0
SOUND = media.sweep(1.0)
PADDING_S = 0.3
NOISE = np.random.default_rng(0)


def encoded(format: str, codec: str, rate_hz: int = RATE_HZ, layout: str = "mono") -> bytes:
    sound = SOUND if layout == "mono" else media.stereo(SOUND)
    return media.encode(sound, format, codec, rate_hz=rate_hz, layout=layout)


CHANGES: dict[str, list[bytes]] = {
    "ogg": [
        encoded("ogg", "libopus", 48_000),
        encoded("ogg", "libopus", 48_000, "stereo"),
        encoded("ogg", "vorbis", 44_100, "stereo"),
        encoded("ogg", "flac"),
        encoded("ogg", "flac", 44_100, "stereo"),
    ],
    "wav": [encoded("wav", "pcm_s16le"), encoded("wav", "pcm_s24le", 44_100, "stereo"), encoded("wav", "pcm_mulaw", 8_000)],
    "m4a": [encoded("ipod", "aac"), encoded("ipod", "alac", 44_100, "stereo"), encoded("mp4", "aac", 48_000, "stereo")],
    "flac": [
        b"ID3\4\0\0\0\0\0\x40" + bytes(64) + encoded("flac", "flac"),
        encoded("flac", "flac"),
        encoded("flac", "flac", 44_100, "stereo"),
        encoded("flac", "flac", 8_000),
    ],
    "mp3": [encoded("mp3", "libmp3lame"), encoded("mp3", "libmp3lame", 44_100, "stereo"), encoded("mp3", "libmp3lame", 8_000)],
    "aac": [encoded("adts", "aac"), encoded("adts", "aac", 44_100, "stereo")],
    "matroska": [
        encoded("webm", "libopus", 48_000),
        encoded("webm", "libopus", 48_000, "stereo"),
        encoded("matroska", "pcm_s16le", 8_000),
        encoded("matroska", "flac", 44_100, "stereo"),
    ],
}
JOINED = [
    pytest.param(first + second, id=f"{kind} {one} then {other}")
    for kind, parts in CHANGES.items()
    for (one, first), (other, second) in itertools.product(enumerate(parts), repeat=2)
]


@pytest.mark.parametrize("recording", JOINED)
def test_recordings_that_were_joined_are_heard_to_the_end_whatever_changes_between_them(recording: bytes) -> None:
    audio = decode(recording, LIMIT_S)
    assert audio.size == pytest.approx(2 * SOUND.size, abs=PADDING_S * RATE_HZ)
    half = audio.size // 2
    for part in (audio[:half], audio[half:]):
        assert similarity(part, SOUND) > 0.9


def test_links_beyond_the_most_are_left_out() -> None:
    short = media.encode(media.sweep(0.2), "ogg", "libopus", rate_hz=48_000)
    assert len(links.bounds(short * (links.MOST_LINKS + 10))) == links.MOST_LINKS
    assert len(links.bounds(short * 3)) == 3
    assert links.bounds(b"OggS") == [(0, 4)]
    assert links.bounds(b"") == [(0, 0)]


def test_the_streams_of_one_ogg_link_are_not_split() -> None:
    """Each begins in a page of its own, one after another."""
    page = b"OggS\0\2" + bytes(20) + b"\1\5" + b"abcde"
    assert links.bounds(page + page + page) == [(0, 3 * len(page))]


def mp3_frames(whole: bytes) -> list[bytes]:
    """Return the frames of an MPEG-2 Layer III file of 16 kHz, without its header of information."""
    rates = [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160]
    at, found = whole.index(b"\xff\xf3"), []
    while at + 4 <= len(whole) and whole[at : at + 2] == b"\xff\xf3":
        size = 72 * rates[whole[at + 2] >> 4] * 1000 // RATE_HZ + (whole[at + 2] >> 1 & 1)
        found.append(whole[at : at + size])
        at += size
    return found[1:]


def packets_of(format: str) -> tuple[list[bytes], Callable[[list[bytes]], bytes]]:
    """Return a recording's packets, and the function that joins them again."""
    if format == "mp3":
        return mp3_frames(media.encode(SOUND, "mp3", "libmp3lame", bit_rate=64_000)), b"".join
    whole, at, found = media.encode(SOUND, "adts", "aac"), 0, []
    while at < len(whole):
        size = (whole[at + 3] & 3) << 11 | whole[at + 4] << 3 | whole[at + 5] >> 5
        found.append(whole[at : at + size])
        at += size
    return found, b"".join


@pytest.mark.parametrize("format", ["mp3", "aac"])
@pytest.mark.parametrize("at", [0, 5, -3])
@pytest.mark.parametrize("damage", ["id3", "noise", "zeros"])
def test_packets_that_cannot_be_decoded_are_left_out_and_told(format: str, at: int, damage: str) -> None:
    packets, join = packets_of(format)
    junk = {"id3": b"ID3\4\0\0\0\0\0\x40" + bytes(64), "noise": np.random.default_rng(1).bytes(700), "zeros": bytes(700)}[damage]
    place = at % len(packets)
    sound = decode_sound(join([*packets[:place], junk, *packets[place:]]), LIMIT_S)
    assert sound.samples.size >= 0.8 * SOUND.size
    half = SOUND.size // 2
    whole = slice(0, half) if at < 0 else slice(half, None)
    assert similarity(sound.samples[whole], SOUND[whole]) > 0.85


def test_a_damaged_packet_is_told_and_an_honest_recording_tells_nothing() -> None:
    packets, join = packets_of("aac")
    damaged = packets[4][:7] + NOISE.bytes(len(packets[4]) - 7)
    sound = decode_sound(join([*packets[:4], damaged, *packets[5:]]), LIMIT_S)
    assert sound.warnings == ("packets that could not be decoded and were left out: 1",)
    for make in media.FORMATS.values():
        assert decode_sound(make(SOUND), LIMIT_S).warnings == ()


def test_a_recording_of_damaged_packets_alone_is_refused_and_one_that_ends_in_thousands_is_used() -> None:
    packets, join = packets_of("aac")
    header = packets[0][:7]
    damaged = header + NOISE.bytes(len(packets[0]) - 7)
    with pytest.raises(AudioUndecodable):
        decode(join([damaged] * 50), LIMIT_S)
    sound = decode_sound(join([*packets, *[damaged] * 3000]), LIMIT_S)
    assert sound.samples.size >= 0.9 * SOUND.size
    assert len(sound.warnings) == 2


def test_a_wav_that_contains_an_mp3_with_a_tag_is_heard() -> None:
    inside = b"ID3\4\0\0\0\0\0\x40" + bytes(64) + media.encode(SOUND, "mp3", "libmp3lame", bit_rate=64_000)
    header = struct.pack("<4sI4s4sIHHIIHH", b"RIFF", 36 + len(inside), b"WAVE", b"fmt ", 16, 0x55, 1, RATE_HZ, 8000, 1, 0)
    sound = decode_sound(header + struct.pack("<4sI", b"data", len(inside)) + inside, LIMIT_S)
    assert similarity(sound.samples, SOUND) > 0.9


def wav_of(*channels: Samples) -> bytes:
    return media.wav(np.stack(channels, axis=1).tobytes(), channels=len(channels))


SILENT = np.zeros_like(SOUND)
HISS = (NOISE.standard_normal(SOUND.size) * 1000).astype(np.int16)


@pytest.mark.parametrize(
    "channels",
    [
        pytest.param([SOUND, -SOUND], id="opposite phase"),
        pytest.param([SOUND, -(SOUND // 10 * 9)], id="nearly opposite"),
        pytest.param([SOUND + HISS, HISS - SOUND], id="opposite below noise in phase"),
        pytest.param([SOUND // 2 + HISS, HISS - SOUND // 2], id="opposite beside louder noise in phase"),
        pytest.param([SILENT, SOUND // 2, -(SOUND // 2)], id="opposite among three"),
        pytest.param([SILENT] * 5 + [SOUND], id="one of six"),
        pytest.param([SILENT] * 8 + [SOUND], id="one of nine"),
        pytest.param([SOUND] * 9, id="nine"),
        pytest.param([SOUND, -SOUND] * (MOST_CHANNELS // 2), id="as many as are mixed"),
    ],
)
def test_sound_in_any_number_of_channels_is_heard_and_not_cancelled(channels: list[Samples]) -> None:
    audio = decode(wav_of(*channels), LIMIT_S)
    assert similarity(audio, SOUND) > 0.9
    assert np.abs(audio).max() > np.abs(SOUND).max() * 0.4


def test_channels_that_cancel_each_other_for_a_part_are_heard_throughout() -> None:
    there = np.concatenate([SOUND, -SOUND, SOUND])
    audio = decode(wav_of(np.tile(SOUND, 3), there), LIMIT_S)
    for number in range(3):
        part = audio[number * SOUND.size : (number + 1) * SOUND.size]
        assert similarity(part, SOUND) > 0.95


def test_voices_in_channels_of_their_own_are_both_heard() -> None:
    """Unrelated channels do not cancel each other, whichever is the louder."""
    low, high = SOUND, SOUND[::-1] // 3
    audio = decode(wav_of(np.concatenate([low, SILENT, low]), np.concatenate([SILENT, high, high])), LIMIT_S)
    assert similarity(audio[: SOUND.size], low) > 0.99
    assert similarity(audio[SOUND.size : 2 * SOUND.size], high) > 0.99
    assert similarity(audio[2 * SOUND.size :], low + high) > 0.99


def test_more_channels_are_refused_by_a_sentence_with_the_bound() -> None:
    with pytest.raises(AudioUndecodable, match="65 channels; at most 64 are mixed"):
        decode(wav_of(*[SOUND] * 65), LIMIT_S)


def with_tracks(*tracks: Samples, codec: str = "pcm_s16le", first_codec: str = "") -> bytes:
    return media.tracks_of([(track, codec if number or not first_codec else first_codec) for number, track in enumerate(tracks)])


def test_the_first_track_with_sound_is_taken() -> None:
    sound = decode_sound(with_tracks(SILENT, SILENT, SOUND, SOUND // 2), LIMIT_S)
    assert sound.samples.tolist() == SOUND.tolist()
    assert sound.warnings == ("audio tracks without sound before the one that was taken: 2",)
    assert decode(with_tracks(SOUND, SOUND // 2), LIMIT_S).tolist() == SOUND.tolist()
    assert decode(with_tracks(SILENT, SILENT), LIMIT_S).tolist() == SILENT.tolist()


def test_a_track_that_cannot_be_decoded_is_passed_over() -> None:
    sound = decode_sound(with_tracks(SOUND, SOUND, codec="aac", first_codec="ac3"), LIMIT_S)
    assert similarity(sound.samples, SOUND) > 0.98


@pytest.mark.parametrize("name", media.FORMATS)
def test_a_codecs_padding_does_not_count_as_length(name: str) -> None:
    limit_s = 2.0
    assert decode(media.FORMATS[name](media.sweep(limit_s)), limit_s).size >= 0.98 * limit_s * RATE_HZ
    with pytest.raises(AudioTooLong):
        decode(media.FORMATS[name](media.sweep(limit_s + 0.6)), limit_s)
