"""Word errors of one of Whisper's engines in each recording of the test speech, as JSON: `python -m testing.word_errors ENGINE`.

It runs in a separate process, since CTranslate2 reads CT2_FORCE_CPU_ISA once. Sampling starts from a fixed seed.
"""

import json
import sys

import ctranslate2

from benchmarks.padding import normal, references, transcribe, word_errors
from graphs.audio.decode import decode
from testing import tiny_whisper


def main(engine: str) -> None:
    """Print [errors, words] of each recording."""
    ctranslate2.set_random_seed(0)
    texts = transcribe(tiny_whisper.load(engine=engine), [decode(path.read_bytes(), 60) for path in references()], max_batch=8)
    expected = [normal(text) for text in references().values()]
    print(json.dumps([[word_errors(words, normal(text)), len(words)] for words, text in zip(expected, texts, strict=True)]))


if __name__ == "__main__":
    main(sys.argv[1])
