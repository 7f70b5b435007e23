"""Both models as users of faster-whisper and diffusers write them: every peer imports this file, so that only the serving differs.

The environment says which weights: WHISPER and DIFFUSION are folders, PRECISION is bfloat16 or float32. With SLEEP they sleep instead of
computing, and load nothing.
"""

import os
import time
from io import BytesIO
from typing import Any

THREADS = int(os.environ.get("THREADS", "1"))
"""Of each model, in each process."""
SLEEP_S = float(os.environ.get("SLEEP", "0"))
STEPS = 12
GUIDANCE = 3.0
SEED = 0


class Whisper:
    """Speech to text, one recording after another: faster-whisper has no batch of several recordings."""

    def __init__(self) -> None:
        if SLEEP_S:
            return
        from faster_whisper import WhisperModel

        self._model = WhisperModel(os.environ["WHISPER"], device="cpu", compute_type="int8", cpu_threads=THREADS)

    def transcribe(self, recording: bytes) -> str:
        """Return the English text of a recording in any format that ffmpeg reads."""
        if SLEEP_S:
            time.sleep(SLEEP_S)
            return f"{len(recording)} bytes"
        segments, _ = self._model.transcribe(BytesIO(recording), language="en", beam_size=1)
        return "".join(segment.text for segment in segments).strip()


class Diffusion:
    """Text to image; prompts of one call are drawn in one batch."""

    def __init__(self) -> None:
        if SLEEP_S:
            return
        import torch
        from diffusers import StableDiffusionPipeline

        torch.set_num_threads(THREADS)
        precision = getattr(torch, os.environ["PRECISION"])
        self._seeded = lambda: torch.Generator("cpu").manual_seed(SEED)
        self._pipeline = StableDiffusionPipeline.from_pretrained(
            os.environ["DIFFUSION"], torch_dtype=precision, use_safetensors=True, local_files_only=True
        )
        self._pipeline.set_progress_bar_config(disable=True)

    def draw(self, prompts: list[str]) -> list[bytes]:
        """Return a PNG for each prompt, each with the same seed."""
        if SLEEP_S:
            time.sleep(SLEEP_S)
            return [b"\x89PNG " + prompt.encode() for prompt in prompts]
        generators = [self._seeded() for _ in prompts]
        images = self._pipeline(prompts, num_inference_steps=STEPS, guidance_scale=GUIDANCE, generator=generators).images
        return [_png(image) for image in images]


def _png(image: Any) -> bytes:
    file = BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
