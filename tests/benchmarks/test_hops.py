"""The arithmetic of `benchmarks.hops`, and its sleeping models beside each configuration."""

import ast
import os
import subprocess
import sys
import wave
from io import BytesIO

import pytest

from benchmarks import hops
from testing.service import ROOT

SAMPLES = """\
run (ray/serve/_private/replica.py);decode (graphs/audio/pool.py);send (asyncio/streams.py) 3
run (ray/serve/_private/replica.py);call (ray/serve/handle.py);put (ray/_raylet.pyx) 5
run (ray/serve/_private/replica.py);serialize (json/encoder.py) 1
main (nowhere.py) 1
"""


def test_a_sample_belongs_to_the_hop_nearest_to_its_leaf() -> None:
    found = hops.profiled(SAMPLES)
    assert found.hops == pytest.approx({"handles": 0.6, "event loop": 0.3, "other": 0.1})
    assert found.functions["put (ray/_raylet.pyx)"] == pytest.approx(0.5)
    assert hops.profiled("").hops == {}


def test_the_kinds_of_threads_of_a_process_are_added() -> None:
    found = hops.by_process({"proxy: Python": 2.0, "proxy: Ray's threads": 1.0, "controller: Python": 0.5})
    assert found == {"proxy": 3.0, "controller": 0.5}


def test_the_threads_of_a_stub_are_pythons_and_those_of_rays_own_processes_are_not() -> None:
    threads = [
        ("stub of whisper", "triton_python_b"),
        ("replica of whisper", "triton_core"),
        ("Ray's own", "gcs_server"),
        ("proxy", "grpc_1"),
    ]
    assert [hops.kind(*one) for one in threads] == ["Python", "Triton's threads", "other threads", "Ray's threads"]


def test_the_whole_has_what_an_ended_child_took_and_the_parts_have_not() -> None:
    before = hops.all_ns(os.getpid()), sum(hops.cpu_ns(os.getpid()).values())
    subprocess.run([sys.executable, "-c", "import time\nwhile time.process_time() < 0.5: pass"], check=True)
    whole, parts = hops.all_ns(os.getpid()) - before[0], sum(hops.cpu_ns(os.getpid()).values()) - before[1]
    assert whole - parts > 0.4e9
    assert hops.share((10, 20), (105, 120)) == pytest.approx(0.95)


def test_the_recording_is_320_kb_of_speech() -> None:
    with wave.open(BytesIO(hops.spoken())) as file:
        assert (file.getframerate(), file.getnchannels(), file.getnframes()) == (16_000, 1, 160_000)


def test_a_sleeping_model_answers_every_required_output_of_the_configurations() -> None:
    tree = ast.parse(hops.MODEL)
    known = {one.value for one in ast.walk(tree) if isinstance(one, ast.Constant) and isinstance(one.value, str)}
    for path in (ROOT / "deployments").glob("*/repository/*/config.pbtxt"):
        _, _, outputs = path.read_text().partition("output [")
        names = [part.split('"')[1] for part in outputs.split("name:")[1:]]
        progress = {"STEP", "ETA_MS", "PREVIEW", "PREVIEW_SIZE", "TRACE"}  # of other responses than the last one
        assert set(names) - progress <= known, path
