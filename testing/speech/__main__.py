"""Makes the recordings and sentences.json: `python -m testing.speech`."""

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

SLOWER = 1.2
"""For single nouns out of any context, which flite swallows at its own pace."""
WORDS = ("cat", "tree", "boat", "sunset")
SAMPLES = {
    "sunflower": ("A big yellow sunflower.", "slt"),
    "rocket": ("I want to see a rocket.", "rms"),
    "guitar": ("Show me a guitar.", "slt"),
}
"""Those that ship, for the page to offer."""


def main() -> None:
    for word, (text, voice) in SAMPLES.items():
        (SHIPPED / f"{word}.ogg").write_bytes(spoken(text, voice, SLOWER))
    said = {}
    for word, text in SENTENCES.items():
        for voice in VOICES:
            name = f"{word}-{voice}.ogg"
            (HERE / name).write_bytes(spoken(text, voice))
            said[name] = text
    for word in WORDS:
        for voice in VOICES:
            (HERE / "words" / f"{word}-{voice}.ogg").write_bytes(spoken(word, voice))
    (HERE / "sentences.json").write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
    (HERE / "scots").mkdir(exist_ok=True)
    for word, text in SENTENCES.items():
        (HERE / "scots" / f"{word}.ogg").write_bytes(spoken(text, SCOTS))
    scots = {f"{word}.ogg": text for word, text in SENTENCES.items()}
    (HERE / "scots" / "said.json").write_text(json.dumps(scots, indent=2) + "\n", encoding="utf-8")
    shutil.rmtree(HERE / "things", ignore_errors=True)
    (HERE / "things").mkdir()
    for thing in things():
        thing.path.write_bytes(spoken(thing.text, thing.voice, SLOWER))
    named = {thing.path.name: thing.text for thing in things()}
    (HERE / "things" / "said.json").write_text(json.dumps(named, indent=2) + "\n", encoding="utf-8")


def spoken(text: str, voice: str, stretch: float = 1.0) -> bytes:
    """Ogg/Opus, mono 16 kHz. `stretch`: how much longer each sound is than at flite's own pace."""
    pace = ["--setf", f"duration_stretch={stretch}"]
    flite = subprocess.run(["flite", "-voice", voice, *pace, "-t", text, "-o", "/dev/stdout"], capture_output=True, check=True)
    same_each_time = {"fflags": "bitexact"}
    return media.encode(samples(flite.stdout), "ogg", "libopus", bit_rate=20_000, options=same_each_time)


def samples(wav: bytes) -> np.ndarray:
    """int16 [samples], mono 16 kHz, which is flite's own rate for these voices."""
    with av.open(io.BytesIO(wav)) as container:
        assert container.streams.audio[0].rate == media.RATE_HZ
        return np.concatenate([frame.to_ndarray().reshape(-1) for frame in container.decode(audio=0)])


if __name__ == "__main__":
    main()
