"""The pipe from the ingress replicas to the standard output of `sonograph serve`."""

import io
import os
import subprocess
import sys
from typing import Any

import pytest

from sonograph.relay import Relay, with_output

WRITE = "import sys; file = open(sys.argv[1], 'a'); file.write(sys.argv[2])"


def test_what_another_process_writes_into_the_pipe_comes_out_in_whole_lines() -> None:
    out = io.BytesIO()
    relay = Relay(out)
    for text in ("one\n", "two\nthree\n"):
        subprocess.run([sys.executable, "-c", WRITE, relay.path, text], check=True, timeout=60)
    relay.close()
    assert out.getvalue() == b"one\ntwo\nthree\n"


def test_an_output_that_nobody_reads_does_not_stop_the_pipe() -> None:
    class Gone(io.BytesIO):
        def write(self, line: Any) -> int:
            raise BrokenPipeError

    relay = Relay(Gone())
    file = os.open(relay.path, os.O_WRONLY)
    for _ in range(100):  # more than a pipe holds
        os.write(file, b"a" * 10_000 + b"\n")
    os.close(file)
    relay.close()


@pytest.mark.parametrize(
    ("args", "logging"),
    [
        (None, {"output": "/proc/7/fd/8"}),
        ({"logging": {"level": "WARNING"}}, {"level": "WARNING", "output": "/proc/7/fd/8"}),
        ({"logging": {"output": "/dev/null"}}, {"output": "/dev/null"}),
    ],
)
def test_the_config_gets_the_pipe_unless_it_names_an_output(args: Any, logging: dict[str, str]) -> None:
    content = {"applications": [{"name": "sonograph", "args": args}]}
    with_output(content, "/proc/7/fd/8")
    assert content["applications"][0]["args"]["logging"] == logging
