"""Makes the recordings and sentences.json: `python -m tests.speech`."""

import io
import json
import subprocess

import av
import numpy as np

from tests import media
from tests.speech import HERE, VOICES

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

WORDS = ("cat", "tree", "boat", "sunset")


def main() -> None:
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


def spoken(text: str, voice: str) -> bytes:
    """Ogg/Opus, mono 16 kHz."""
    flite = subprocess.run(["flite", "-voice", voice, "-t", text, "-o", "/dev/stdout"], capture_output=True, check=True)
    same_each_time = {"fflags": "bitexact"}
    return media.encode(samples(flite.stdout), "ogg", "libopus", bit_rate=20_000, options=same_each_time)


def samples(wav: bytes) -> np.ndarray:
    """int16 [samples], mono 16 kHz, which is flite's own rate for these voices."""
    with av.open(io.BytesIO(wav)) as container:
        assert container.streams.audio[0].rate == media.RATE_HZ
        return np.concatenate([frame.to_ndarray().reshape(-1) for frame in container.decode(audio=0)])


if __name__ == "__main__":
    main()
