"""A small Whisper of random weights, which generates a long text for any audio."""

import json
from pathlib import Path
from typing import Any

import torch
import whisper
from safetensors.torch import save_file

from deployments.whisper.engine import WhisperEngine
from deployments.whisper.settings import WhisperSettings

NAME = "random"


def write(folder: Path, state_size: int = 16, audio_layers: int = 2) -> dict[str, int]:
    """Write a multilingual model as `<folder>/random.safetensors` and return its dimensions."""
    torch.manual_seed(1)
    sizes = {"state": state_size, "head": 2}
    dims = {"n_mels": 80, "n_audio_ctx": 1500} | {f"n_audio_{name}": size for name, size in sizes.items()}
    dims |= {"n_audio_layer": audio_layers, "n_vocab": 51865, "n_text_ctx": 64}
    dims |= {f"n_text_{name}": size for name, size in sizes.items()} | {"n_text_layer": 2}
    state = whisper.Whisper(whisper.ModelDimensions(**dims)).state_dict()
    state = {
        name: value * 4 if value.ndim > 1 else value for name, value in state.items()
    }  # with smaller weights all audio gives the same text
    state["decoder.positional_embedding"] = torch.randn(64, state_size)  # openai-whisper leaves it uninitialized
    save_file(state, folder / f"{NAME}.safetensors", metadata={"dims": json.dumps(dims)})
    return dims


def load(folder: Path, **settings: Any) -> WhisperEngine:
    """Return the engine with the model in the folder."""
    return WhisperEngine(WhisperSettings(model=NAME, weights=folder, **settings).engine_config())
