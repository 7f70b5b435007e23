"""The script that puts a pipeline into an image, over a stand-in for the hub's client."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "deployments" / "diffusion" / "fetch_weights.sh"
COMMIT = "b261bac6fd2cf515557d5d0707481eafa0485ec2"


def fetch(weights: str, folder: Path) -> tuple[int, str]:
    """The exit status, and the arguments that the hub's client gets or the script's own sentence."""
    client = folder / "hf"
    client.write_text('#!/bin/sh\necho "$@"\n')
    client.chmod(0o755)
    variables = {"PATH": f"{folder}:{os.defpath}"}
    ran = subprocess.run(
        ["bash", SCRIPT, weights, "/weights"], env=variables, capture_output=True, text=True, check=False, timeout=30
    )
    return ran.returncode, ran.stdout + ran.stderr


def test_a_pipeline_is_fetched_at_its_commit(tmp_path: Path) -> None:
    arguments = f"download org/turbo --revision {COMMIT} --exclude *.bin --local-dir /weights/turbo\n"
    assert fetch(f"org/turbo@{COMMIT}", tmp_path) == (0, arguments)


@pytest.mark.parametrize("weights", ["org/turbo", "org/turbo@main", f"org/turbo@{COMMIT[:7]}", f"@{COMMIT}", ""])
def test_weights_without_a_commit_are_refused(weights: str, tmp_path: Path) -> None:
    status, sentence = fetch(weights, tmp_path)
    assert status == 1
    assert "write REPOSITORY@COMMIT" in sentence
