"""How often the host waits for a GPU, counted on a fake one: a wait leaves the GPU idle until the host has sent it more work."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from deployments.diffusion.batch import Batch
from deployments.diffusion.engine import DiffusionEngine
from deployments.diffusion.types import EngineConfig
from deployments.roles.speech_to_text import TranscribeRequest
from deployments.roles.text_to_image import GenerateRequest, Step
from deployments.whisper.backends import torch_model
from deployments.whisper.backends.kv_cache import PaddedCache
from deployments.whisper.engine import WhisperEngine
from deployments.whisper.logit_filters import LogitFilters
from testing import random_pipelines, random_whisper
from testing.fake_gpu import DEVICE, FakeGPU, FakeTensor, to_fake

pytestmark = pytest.mark.torch

NOISE_FROM_THE_HOST = {"EulerAncestralDiscreteScheduler": 1, "LCMScheduler": 1}
"""Schedulers that add noise in each step. It comes from the CPU, so that a seed gives the same image on any device: one copy an image."""


@pytest.fixture(scope="module")
def whisper_engine(tmp_path_factory: pytest.TempPathFactory) -> WhisperEngine:
    folder = tmp_path_factory.mktemp("whisper")
    random_whisper.write(folder)
    engine = random_whisper.load(folder)
    to_fake(engine._model)
    engine._mel_device = engine._device = DEVICE
    with FakeGPU():
        engine._backend._filters = LogitFilters(engine._model)
    engine._backend._cache = PaddedCache
    return engine


def diffusion_engine(folder: Path, kind: str, scheduler: str) -> DiffusionEngine:
    random_pipelines.write(folder, kind)
    random_pipelines.set_scheduler(folder, scheduler)
    engine = DiffusionEngine(EngineConfig(str(folder), "cpu", "fp32"))
    for part in engine._pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            to_fake(part)
    engine.device = DEVICE
    return engine


def test_the_fake_gpu_counts_each_kind_of_wait() -> None:
    on_host = torch.arange(4.0)
    with FakeGPU() as gpu:
        x = on_host.pin_memory().to(DEVICE, non_blocking=True)
        y = torch.cat([x[:2], x[2:] * 2 + x.sum()]).softmax(dim=-1)
        assert gpu.waits == []
        waits: list[Callable[[], object]] = [
            lambda: y[0].item(),
            lambda: y.tolist(),
            lambda: y.cpu(),
            lambda: bool(y[0] > 0),
            lambda: on_host.to(DEVICE),
            lambda: on_host.to(DEVICE, non_blocking=True),
            lambda: torch.tensor([1, 2], device=DEVICE),
            lambda: y[y > 0],
            lambda: y[torch.tensor([0, 1])],
            lambda: y.nonzero(),
            lambda: y.softmax(dim=-1).multinomial(1),
            lambda: y.repeat_interleave(torch.arange(4, device=DEVICE)),
            lambda: torch.cuda.synchronize(),
        ]
        for number, wait in enumerate(waits, 1):
            wait()
            assert len(gpu.waits) == number, (number, gpu.waits)
        with pytest.raises(RuntimeError, match="on the fake GPU and on the CPU"):
            y + on_host
        assert (y + on_host[0]).shape == y.shape, "a number of the host's goes along with the operator"
        assert isinstance(y, FakeTensor)
        assert torch.equal(y.held, torch.cat([on_host[:2], on_host[2:] * 2 + on_host.sum()]).softmax(dim=-1))


def test_whisper_waits_once_a_token(whisper_engine: WhisperEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of different prompts, which end at different tokens; the batch is halved once half of them have."""
    requests = [TranscribeRequest(noise(number), "en", prompt="colour, sofa " * number, temperature=0.0) for number in range(4)]
    with FakeGPU() as gpu:
        groups = [whisper_engine.prepare(request) for request in requests]
        sequences = [sequence for group in groups for sequence in group.sequences]
        for sequence in sequences:
            sequence.begin_step(len(sequences))
        whisper_engine._backend._encode(sequences)
        assert [sequence.error for sequence in sequences] == [None] * 4
        decodings = [whisper_engine._backend._begin(sequence) for sequence in sequences]
        rows, calls = list[int](), list[int]()
        forward = torch_model.forward

        def count(*arguments: torch.Tensor) -> torch.Tensor:
            rows.append(len(arguments[2]))
            calls.append(gpu.launches)
            return forward(*arguments)

        monkeypatch.setattr(torch_model, "forward", count)
        gpu.waits.clear()
        whisper_engine._backend._decode(decodings)
        assert len(rows) > 30
        assert Counter(gpu.waits) == {next(iter(gpu.waits)): len(rows)}
        assert {rows[0], rows[-1]} <= {4, 2, 1}
        per_token = {calls[n + 1] - calls[n] for n in range(2, len(calls) - 1) if rows[n] == rows[n + 1] == 4}
    assert max(per_token) - min(per_token) <= 4, "a token launches as many operators at any length"


def noise(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(-9000, 9000, 16_000).astype(np.int16)


@pytest.mark.parametrize(
    ("kind", "scheduler"),
    [
        ("sd", "PNDMScheduler"),
        ("sd", "DDIMScheduler"),
        ("sd", "DPMSolverMultistepScheduler"),
        ("sd", "EulerDiscreteScheduler"),
        ("sd", "EulerAncestralDiscreteScheduler"),
        ("sd", "LCMScheduler"),
        ("sdxl", "EulerDiscreteScheduler"),
    ],
)
async def test_a_denoising_step_waits_once_at_its_end(kind: str, scheduler: str, tmp_path: Path) -> None:
    """Images at different steps, some with guidance; one joins later. The wait is the batch's own: `DiffusionEngine.wait`."""
    engine = diffusion_engine(tmp_path, kind, scheduler)
    noisy = NOISE_FROM_THE_HOST.get(scheduler, 0)
    requests = [GenerateRequest("a", steps=4, guidance_scale=scale, seed=seed) for seed, scale in enumerate((3.0, 1.0, 2.0))]
    with FakeGPU() as gpu:
        states = [engine.begin(request) for request in requests[:2]]
        engine.step(states)
        states.append(engine.begin(requests[2]))
        for _ in range(2):
            gpu.waits.clear()
            engine.step(states)
            engine.wait()
            assert len(gpu.waits) == 1 + noisy * len(states), gpu.waits
        launches = [_launches(gpu, lambda some=some: engine.predict(some)) for some in (states[:2], states)]
        assert launches[1] - launches[0] <= 10, "operators of one more image, beside the UNet that all share"
        (predicted,) = engine.predict(states[:1])
        assert _launches(gpu, lambda: engine.advance(states[0], predicted)) <= 40, "operators of an image's own step"
        gpu.waits.clear()
        engine.decode(states)
        assert len(gpu.waits) == 1, "the pixels of all images come in one copy"


def _launches(gpu: FakeGPU, work: Callable[[], object]) -> int:
    before = gpu.launches
    work()
    return gpu.launches - before


async def test_the_batch_waits_once_a_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many images share it, with and without progress."""
    random_pipelines.write(tmp_path)
    engine = DiffusionEngine(EngineConfig(str(tmp_path), "cpu", "fp32"))
    waits, steps = list[int](), list[int]()
    monkeypatch.setattr(engine, "wait", lambda: waits.append(1))
    batch = Batch(engine, 4, on_steps=steps.append)
    seen: list[Step] = []
    try:
        await batch.generate(GenerateRequest("a", steps=3, guidance_scale=1.0), {}, on_step=seen.append)
        await batch.generate(GenerateRequest("a", steps=5, guidance_scale=1.0), {})
    finally:
        batch.close()
    assert len(waits) == len(steps) == 8
    assert len(seen) == 3
