"""A model's folder as Triton loads it, and a request's tensors as Triton reads them."""

from pathlib import Path

import numpy as np
import pytest

from deployments.errors import DeploymentError
from deployments.triton.contract import Contract
from deployments.triton.repository import copy_with_parameters

DEPLOYMENTS = Path(__file__).parents[3] / "deployments"
WHISPER = DEPLOYMENTS / "whisper" / "repository" / "whisper"


def test_a_copy_has_the_settings_batch_and_parameters_and_the_sources_contract(tmp_path: Path) -> None:
    copy_with_parameters(WHISPER, tmp_path / "whisper", {"model": 'a "name"'}, max_batch=5)
    source, copy = ((folder / "config.pbtxt").read_text().splitlines() for folder in (WHISPER, tmp_path / "whisper"))
    differing = [(a, b) for a, b in zip(source, copy, strict=False) if a != b]
    assert differing == [("max_batch_size: 8", "max_batch_size: 5")]
    assert copy[-1:] == [r'parameters { key: "model" value { string_value: "a \"name\"" } }']


def test_a_model_that_batches_by_itself_gets_no_batches_from_triton(tmp_path: Path) -> None:
    source = DEPLOYMENTS / "diffusion" / "repository" / "diffusion"
    copy_with_parameters(source, tmp_path / "diffusion", {}, max_batch=5)
    trace = 'output { name: "TRACE" data_type: TYPE_STRING dims: [ 1 ] }'
    assert (tmp_path / "diffusion" / "config.pbtxt").read_text() == f"{(source / 'config.pbtxt').read_text()}\n{trace}"


def test_a_request_to_a_model_that_batches_is_a_batch_of_one() -> None:
    metadata = [
        {"name": "AUDIO", "datatype": "INT16", "shape": [-1, -1]},
        {"name": "TASK", "datatype": "BYTES", "shape": [-1, 1]},
    ]
    contract = Contract("whisper", metadata, batched=True)
    tensors = contract.tensors({"AUDIO": np.arange(6, dtype=np.int16)[::2], "TASK": np.array([b"x"], dtype=object)})
    assert tensors["AUDIO"].tolist() == [[0, 2, 4]]
    assert tensors["AUDIO"].flags.c_contiguous
    assert tensors["TASK"].shape == (1, 1)
    with pytest.raises(DeploymentError, match="AUDIO"):
        contract.tensors({"AUDIO": np.zeros((2, 3), np.int16), "TASK": np.array([b"x"], dtype=object)})
