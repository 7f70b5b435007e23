"""A Whisper model in CTranslate2's format as openai-whisper's arrays: the reverse of `ct2_export`."""

import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

type Arrays = dict[str, NDArray[Any]]
type State = dict[str, NDArray[np.float16]]

DTYPES = [np.dtype(code) for code in ("<f4", "i1", "<i2", "<i4", "<f2")]
"""By CTranslate2's number."""


def convert(model_bin: bytes | Path) -> tuple[dict[str, int], State]:
    """openai-whisper's `ModelDimensions` and state dict from a CTranslate2 model. Raises ValueError if it is not that."""
    source = read(model_bin if isinstance(model_bin, bytes) else model_bin.read_bytes())
    state: State = {}

    def take(name: str, *targets: str) -> None:
        """Move one array to its new name, or an equal share of it to each of several."""
        array = source.pop(name)
        if array.dtype != np.float16 or not array.ndim or len(array) % len(targets):
            raise ValueError(f"{name} is {array.dtype} {list(array.shape)}, not a float16 array of the expected shape.")
        state.update(zip(targets, np.split(array, len(targets)), strict=True))

    def take_layer(name: str, *targets: str) -> None:
        for kind in ("weight", "bias"):
            take(f"{name}/{kind}", *(f"{target}.{kind}" for target in targets))

    def take_norm(name: str, target: str) -> None:
        take(f"{name}/layer_norm/gamma", f"{target}.weight")
        take(f"{name}/layer_norm/beta", f"{target}.bias")

    def take_block(name: str, target: str) -> None:
        take_norm(f"{name}/self_attention", f"{target}.attn_ln")
        take_layer(f"{name}/self_attention/linear_0", *(f"{target}.attn.{part}" for part in ("query", "key", "value")))
        take_layer(f"{name}/self_attention/linear_1", f"{target}.attn.out")
        if f"{name}/attention/linear_0/weight" in source:
            take_norm(f"{name}/attention", f"{target}.cross_attn_ln")
            take_layer(f"{name}/attention/linear_0", f"{target}.cross_attn.query")
            take_layer(f"{name}/attention/linear_1", f"{target}.cross_attn.key", f"{target}.cross_attn.value")
            take_layer(f"{name}/attention/linear_2", f"{target}.cross_attn.out")
        take_norm(f"{name}/ffn", f"{target}.mlp_ln")
        take_layer(f"{name}/ffn/linear_0", f"{target}.mlp.0")
        take_layer(f"{name}/ffn/linear_1", f"{target}.mlp.2")

    try:
        heads = {side: int(source.pop(f"{side}/num_heads")) for side in ("encoder", "decoder")}
        layers = dict.fromkeys(heads, 0)
        take_layer("encoder/conv1", "encoder.conv1")
        take_layer("encoder/conv2", "encoder.conv2")
        take("decoder/embeddings/weight", "decoder.token_embedding.weight")
        for side, norm in (("encoder", "ln_post"), ("decoder", "ln")):
            take(f"{side}/position_encodings/encodings", f"{side}.positional_embedding")
            take_norm(side, f"{side}.{norm}")
            while f"{side}/layer_{layers[side]}/ffn/linear_0/weight" in source:
                take_block(f"{side}/layer_{layers[side]}", f"{side}.blocks.{layers[side]}")
                layers[side] += 1
    except KeyError as error:
        raise ValueError(f"{error.args[0]} is missing.") from None

    if rest := [name for name, array in source.items() if array.ndim]:
        raise ValueError(f"{rest[0]} has no place in openai-whisper.")
    # CTranslate2 fuses the projections, so the key gets a bias as its neighbours have; openai-whisper's key has none.
    for name in [name for name in state if name.endswith(".key.bias")]:
        if state.pop(name).any():
            raise ValueError(f"{name} is not zero.")
    return dimensions(state, heads, layers), state


def dimensions(state: State, heads: dict[str, int], layers: dict[str, int]) -> dict[str, int]:
    audio_ctx, audio_state = state["encoder.positional_embedding"].shape
    text_ctx, text_state = state["decoder.positional_embedding"].shape
    return {
        "n_mels": state["encoder.conv1.weight"].shape[1],
        "n_audio_ctx": audio_ctx,
        "n_audio_state": audio_state,
        "n_audio_head": heads["encoder"],
        "n_audio_layer": layers["encoder"],
        "n_vocab": state["decoder.token_embedding.weight"].shape[0],
        "n_text_ctx": text_ctx,
        "n_text_state": text_state,
        "n_text_head": heads["decoder"],
        "n_text_layer": layers["decoder"],
    }


def read(data: bytes) -> Arrays:
    """The variables of a CTranslate2 model, format version 6; without aliases. Little-endian:

    u32 version, string spec, u32 revision, u32 count, then for each variable: string name, u8 rank, u32 dims, u8 dtype,
    u32 bytes, data; then u32 alias count and pairs of strings. A string is u16 length and bytes, the last a NUL.
    """
    offset = 0

    def number(code: str) -> int:
        nonlocal offset
        (value,) = struct.unpack_from(f"<{code}", data, offset)
        offset += struct.calcsize(f"<{code}")
        return int(value)

    def block(length: int) -> bytes:
        nonlocal offset
        offset += length
        if offset > len(data):
            raise ValueError("The file is truncated.")
        return data[offset - length : offset]

    def string() -> str:
        return block(number("H")).rstrip(b"\0").decode("ascii")

    try:
        if number("I") != 6 or string() != "WhisperSpec":
            raise ValueError("This is not a Whisper model in CTranslate2's format 6.")
        number("I")
        arrays = {}
        for _ in range(number("I")):
            name = string()
            shape = [number("I") for _ in range(number("B"))]
            dtype, length = number("B"), number("I")
            if dtype >= len(DTYPES) or length != math.prod(shape) * DTYPES[dtype].itemsize:
                raise ValueError(f"{name} has {length} bytes for shape {shape} of dtype {dtype}.")
            arrays[name] = np.frombuffer(block(length), DTYPES[dtype]).reshape(shape)
        for _ in range(number("I")):
            string(), string()
    except (struct.error, UnicodeDecodeError):
        raise ValueError("The file is truncated.") from None
    if offset != len(data):
        raise ValueError(f"{len(data) - offset} bytes follow the end.")
    return arrays
