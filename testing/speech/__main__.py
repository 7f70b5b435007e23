"""Generator of the recordings and their texts: `python -m testing.speech`."""

import io
import json
import shutil
import subprocess

import av
import numpy as np

from testing import media
from testing.service import ROOT
from testing.speech import HERE, SCOTS, VOICES, things

SHIPPED = ROOT / "graphs" / "samples"

SENTENCES = {
    "bicycle": "A yellow bicycle leaning against a brick wall.",
    "penguins": "Two penguins standing on a small iceberg.",
    "village": "A quiet village in the mountains under heavy snow.",
    "lighthouse": "An old lighthouse on a cliff during a storm.",
    "oranges": "A bowl of oranges beside an open window.",
    "tree": "A tall green tree in the middle of a wide field.",
    "boat": "A little boat on a calm lake at sunset.",
    "cat": "A black cat sleeping on a blue sofa.",
    "castle": "A castle made of ice cream.",
    "market": "Please draw a busy market in the morning rain.",
}

STRETCH = 1.2
"""Duration factor for short sentences, which flite speaks too fast at its default rate."""
WORDS = ("cat", "tree", "boat", "sunset")
SAMPLES = {
    "sunflower": ("A big yellow sunflower.", "slt"),
    "rocket": ("I want to see a rocket.", "rms"),
    "guitar": ("Show me a guitar.", "slt"),
}
"""Recordings that ship as the page's samples."""


def main() -> None:
    for word, (text, voice) in SAMPLES.items():
        (SHIPPED / f"{word}.ogg").write_bytes(synthesize(text, voice, STRETCH))
    texts = {}
    for word, text in SENTENCES.items():
        for voice in VOICES:
            name = f"{word}-{voice}.ogg"
            (HERE / name).write_bytes(synthesize(text, voice))
            texts[name] = text
    for word in WORDS:
        for voice in VOICES:
            (HERE / "words" / f"{word}-{voice}.ogg").write_bytes(synthesize(word, voice))
    (HERE / "sentences.json").write_text(json.dumps(texts, indent=2) + "\n", encoding="utf-8")
    (HERE / "scots").mkdir(exist_ok=True)
    for word, text in SENTENCES.items():
        (HERE / "scots" / f"{word}.ogg").write_bytes(synthesize(text, SCOTS))
    scots = {f"{word}.ogg": text for word, text in SENTENCES.items()}
    (HERE / "scots" / "transcripts.json").write_text(json.dumps(scots, indent=2) + "\n", encoding="utf-8")
    shutil.rmtree(HERE / "things", ignore_errors=True)
    (HERE / "things").mkdir()
    for thing in things():
        thing.path.write_bytes(synthesize(thing.text, thing.voice, STRETCH))
    named = {thing.path.name: thing.text for thing in things()}
    (HERE / "things" / "transcripts.json").write_text(json.dumps(named, indent=2) + "\n", encoding="utf-8")


def synthesize(text: str, voice: str, stretch: float = 1.0) -> bytes:
    """Return speech as Ogg/Opus, mono 16 kHz. `stretch` is the factor by which each sound is longer than flite's default."""
    duration = ["--setf", f"duration_stretch={stretch}"]
    flite = subprocess.run(
        ["flite", "-voice", voice, *duration, "-t", text, "-o", "/dev/stdout"], capture_output=True, check=True
    )
    reproducible = {"fflags": "bitexact"}
    return media.encode(samples(flite.stdout), "ogg", "libopus", bit_rate=20_000, options=reproducible)


def samples(wav: bytes) -> np.ndarray:
    """Return int16 [samples], mono 16 kHz, which is flite's own rate for these voices."""
    with av.open(io.BytesIO(wav)) as container:
        assert container.streams.audio[0].rate == media.RATE_HZ
        return np.concatenate([frame.to_ndarray().reshape(-1) for frame in container.decode(audio=0)])


if __name__ == "__main__":
    main()
