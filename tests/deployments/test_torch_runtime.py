"""The precision `auto`, and the warning of a CPU without bf16."""

import logging

import pytest
import torch

from deployments.torch_runtime import cpu_has_bf16, dtype

pytestmark = pytest.mark.torch


def test_auto_is_fp16_on_a_gpu_and_fp32_on_a_cpu() -> None:
    assert (dtype("auto", "cuda"), dtype("auto", "cuda:1"), dtype("auto", "cpu")) == (torch.float16, torch.float16, torch.float32)


def test_bf16_is_accepted_anywhere_and_a_cpu_without_it_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    assert dtype("bf16", "cuda") == torch.bfloat16
    assert not caplog.text
    assert dtype("bf16", "cpu") == torch.bfloat16
    assert ("no instructions for bf16" in caplog.text) != cpu_has_bf16()
