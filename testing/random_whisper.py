"""A Whisper of random weights: small, and it says something for any sound, at length."""

import json
from pathlib import Path

import torch
import whisper
from safetensors.torch import save_file

NAME = "random"


def write(folder: Path) -> None:
    """A multilingual one, as `<folder>/random.safetensors`."""
    torch.manual_seed(1)
    dims = {"n_mels": 80, "n_audio_ctx": 1500, "n_audio_state": 16, "n_audio_head": 2, "n_audio_layer": 2}
    dims |= {"n_vocab": 51865, "n_text_ctx": 64, "n_text_state": 16, "n_text_head": 2, "n_text_layer": 2}
    state = whisper.Whisper(whisper.ModelDimensions(**dims)).state_dict()
    state = {name: value * 4 if value.ndim > 1 else value for name, value in state.items()}  # else every sound is alike
    state["decoder.positional_embedding"] = torch.randn(64, 16)  # which is left as memory was
    save_file(state, folder / f"{NAME}.safetensors", metadata={"dims": json.dumps(dims)})
