"""Spoken sentences with their texts, by several voices, speeds and noises: the recordings of `benchmarks.comparison`.

flite speaks, sox changes the speed and makes the noise (on Debian and Ubuntu: apt install flite sox). The same versions of both make the
same recordings each time.
"""

import io
import subprocess
import wave
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

RATE_HZ = 16_000
TEXTS = "texts.tsv"
VOICES = ("slt", "rms", "awb", "kal16")
"""flite's: a woman and a man from the US, a Scot, and an older synthesis of a man."""
SPEEDS = {"slow": 0.9, "normal": 1.0, "fast": 1.2}
"""Factors of the tempo; the pitch stays."""
NOISES = ("pinknoise", "whitenoise", "babble")
"""Two of sox's, and five other sentences at once."""
LEVELS: dict[str, float | None] = {"clean": None, "24 dB": 24.0, "18 dB": 18.0, "12 dB": 12.0}
"""Power of the speech over that of the noise."""
BABBLE = 5
NOISE_S = 60
Samples = NDArray[np.int16]
SENTENCES = (
    "Flight four hundred and seven to Barcelona leaves at a quarter past nine from gate twenty-three.",
    "My grandmother keeps seventeen chickens and one very proud rooster behind the barn.",
    "Please send the revised contract to Margaret Ellison before noon on Thursday.",
    "The recipe needs two cups of flour, half a teaspoon of salt, and six ripe tomatoes.",
    "In nineteen sixty-nine, Neil Armstrong walked on the surface of the moon.",
    "Turn left at the second traffic light, then follow the river for about three miles.",
    "The museum in Amsterdam is closed on Mondays, but the garden stays open until dusk.",
    "Doctor Patel asked the nurse to measure his temperature again after dinner.",
    "Her violin was built in Cremona more than three hundred years ago.",
    "We counted forty-two dolphins swimming beside the ferry to Santorini.",
    "The committee rejected the proposal because the budget was eleven percent too high.",
    "Could you lower the volume, please? The baby has just fallen asleep.",
    "A thin layer of ice covered the lake when Oliver went outside at dawn.",
    "The library lends telescopes, sewing machines, and even a small accordion.",
    "Water boils at a lower temperature on the summit of Mount Kilimanjaro.",
    "The detective noticed muddy footprints on the carpet near the piano.",
    "Thousands of monarch butterflies spend the winter in the forests of Mexico.",
    "I forgot my umbrella on the bus, so I arrived completely soaked.",
    "The orchestra will rehearse Beethoven's seventh symphony on Saturday evening.",
    "Roughly one in eight households in the valley heats with firewood.",
    "Charlotte repaired the old bicycle with a hammer and a lot of patience.",
    "The password must contain at least twelve characters and one digit.",
    "After the storm, fishermen found a wooden chest full of silver coins.",
    "Our train stopped for thirty-five minutes between Vienna and Budapest.",
    "The biologist described a new species of frog from the cloud forest.",
    "He bought a hundred grams of cheese, a loaf of bread, and some olives.",
    "The bridge across the canal was closed after engineers discovered a crack.",
    "Every spring the village elects a queen of the cherry blossoms.",
    "Professor Nakamura explained why the satellite had lost its signal.",
    "The painter mixed a deep blue from copper, vinegar, and ashes.",
    "Nobody expected the youngest player to win the chess tournament in Reykjavik.",
    "The lawyer questioned the witness about the missing diamond necklace.",
    "Bring a warm jacket, because the desert gets cold after midnight.",
    "The factory produces nine thousand light bulbs and sends half of them to Canada.",
    "A family of hedgehogs lives under the wooden steps of our kitchen door.",
    "The captain promised that we would reach the harbour of Lisbon by sunrise.",
)


@dataclass(frozen=True)
class Recording:
    """One sentence as it is to be spoken."""

    number: int
    voice: str
    speed: str
    noise: str
    """Empty for a clean one."""
    level: str

    @property
    def text(self) -> str:
        return SENTENCES[self.number]

    @property
    def name(self) -> str:
        return (
            "-".join(filter(None, (f"{self.number:02d}", self.voice, self.speed, self.noise, self.level.replace(" ", ""))))
            + ".wav"
        )


def plan(sentences: int = len(SENTENCES)) -> list[Recording]:
    """Return each sentence at each level of noise. Voices, speeds and kinds of noise take turns, so that each level has all of them."""
    found = []
    for number in range(sentences):
        for place, level in enumerate(LEVELS):
            turn = number + place
            noise = NOISES[turn % len(NOISES)] if LEVELS[level] is not None else ""
            speed = list(SPEEDS)[(number // len(VOICES) + place) % len(SPEEDS)]
            found.append(Recording(number, VOICES[turn % len(VOICES)], speed, noise, level))
    return found


def make(folder: Path, sentences: int = len(SENTENCES)) -> Iterator[Recording]:
    """Write the recordings and their texts into an empty folder, and yield each recording once it is written.

    Raises FileExistsError, and FileNotFoundError where flite or sox is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty: name a new folder")
    recordings = plan(sentences)
    for at, one in enumerate(recordings):
        (folder / one.name).write_bytes(encoded(spoken(one, at)))
        yield one
    lines = (f"{one.name}\t{one.text}\n" for one in recordings)
    (folder / TEXTS).write_text("".join(lines), encoding="utf-8")


def spoken(one: Recording, at: int) -> Samples:
    """Return the recording's samples. `at`: its place, by which the piece of the noise is chosen."""
    speech = sentence(one.number, one.voice, one.speed)
    level_db = LEVELS[one.level]
    if level_db is None:
        return speech
    noise = babble(one.number, speech.size) if one.noise == "babble" else made(one.noise)
    begin = at * 7919 % max(1, noise.size - speech.size)
    return mixed(speech, noise[begin : begin + speech.size], level_db)


def mixed(speech: Samples, noise: Samples, level_db: float) -> Samples:
    """Return both together, the speech so many decibels stronger than the noise, as loud as 16 bits allow without clipping."""
    loud, quiet = speech.astype(np.float64), np.resize(noise, speech.size).astype(np.float64)
    factor = np.sqrt(np.mean(loud**2) / np.mean(quiet**2)) / 10 ** (level_db / 20)
    both = loud + quiet * factor
    return (both * min(1.0, 32_000 / np.abs(both).max())).astype(np.int16)


def babble(number: int, size: int) -> Samples:
    """Return other sentences at once, by all voices."""
    others = [
        sentence((number + 5 * (place + 1)) % len(SENTENCES), VOICES[place % len(VOICES)], "normal") for place in range(BABBLE)
    ]
    whole = sum(np.resize(other, size + RATE_HZ).astype(np.int32) for other in others)
    return np.asarray(whole // BABBLE, np.int16)


@cache
def sentence(number: int, voice: str, speed: str) -> Samples:
    said = _run(["flite", "-voice", voice, "-t", SENTENCES[number], "-o", "/dev/stdout"])
    return _sox(["-t", "wav", "-", "-t", "raw", "-r", str(RATE_HZ), "-c", "1", "-", "tempo", "-s", str(SPEEDS[speed])], said)


@cache
def made(noise: str) -> Samples:
    return _sox(["-n", "-t", "raw", "-r", str(RATE_HZ), "-c", "1", "-b", "16", "-e", "signed", "-", "synth", str(NOISE_S), noise])


def encoded(samples: Samples) -> bytes:
    """Return a WAV, mono, 16 bits."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(RATE_HZ)
        writer.writeframes(samples.tobytes())
    return file.getvalue()


def _sox(arguments: Sequence[str], given: bytes = b"") -> Samples:
    """Return 16-bit samples. `-R`: the same noise each time, and `-D`: no dither."""
    return np.frombuffer(_run(["sox", "-V1", "-R", "-D", *arguments], given), np.int16)


def _run(command: Sequence[str], given: bytes = b"") -> bytes:
    try:
        return subprocess.run(command, input=given, capture_output=True, check=True).stdout
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{command[0]} is not installed (on Debian and Ubuntu: apt install flite sox)") from error
