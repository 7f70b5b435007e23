"""Recordings damaged by their structure, and the corpus of those that once went wrong: each is answered by the worker."""

import pytest

from graphs.audio.pool import DecodePool
from testing import mutations

pytestmark = pytest.mark.slow
EACH = 25
"""Mutants of each format; `python -m testing.mutations` tries more."""


@pytest.mark.parametrize("name", mutations.STRUCTURE)
async def test_every_mutant_is_answered(name: str) -> None:
    whole = mutations.WHOLE[name]
    assert len(list(mutations.STRUCTURE[name](whole))) >= 2, "its parts are found"
    mutants = [mutations.mutant(name, seed) for seed in range(EACH)]
    assert len({*mutants, whole}) > EACH * 0.9
    pool = DecodePool(mutations.SETTINGS)
    try:
        assert await mutations.fault(pool, whole) in ("", "no_speech")
        assert {seed: why for seed, one in enumerate(mutants) if (why := await mutations.fault(pool, one))} == {}
    finally:
        pool.close()


async def test_the_corpus_is_answered() -> None:
    pool = DecodePool(mutations.SETTINGS)
    files = sorted(mutations.CORPUS.iterdir())
    assert files
    try:
        assert {path.name: why for path in files if (why := await mutations.fault(pool, path.read_bytes()))} == {}
    finally:
        pool.close()
