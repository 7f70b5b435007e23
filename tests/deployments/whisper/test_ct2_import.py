"""CTranslate2's Whisper models as openai-whisper's checkpoints: a file that is not whole, or is another, is refused."""

import json
import struct

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors import safe_open

from deployments.whisper.backends.ct2_import import convert
from deployments.whisper.weights import WEIGHTS

pytestmark = pytest.mark.torch

WIDTH, AUDIO_CONTEXT, TEXT_CONTEXT, VOCABULARY = 4, 6, 5, 10


def test_a_ctranslate2_model_becomes_a_checkpoint_of_openai_whisper() -> None:
    arrays = small_model()
    arrays["decoder/layer_0/attention/linear_1/weight"][WIDTH:] = 2  # the lower half is the value's
    dims, state = convert(written(arrays))
    assert (dims["n_audio_layer"], dims["n_text_layer"]) == (2, 1)
    assert (dims["n_vocab"], dims["n_audio_ctx"], dims["n_text_ctx"]) == (VOCABULARY, AUDIO_CONTEXT, TEXT_CONTEXT)
    assert (state["decoder.blocks.0.cross_attn.key.weight"] == 1).all()
    assert (state["decoder.blocks.0.cross_attn.value.weight"] == 2).all()
    assert state.keys() == names(dims)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9999])
def test_a_truncated_model_is_refused(share: float) -> None:
    whole = written(small_model())
    with pytest.raises(ValueError, match="truncated"):
        convert(whole[: int(len(whole) * share)])


def test_a_file_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="not a Whisper model"):
        convert(b"PK\x03\x04" + bytes(1000))


def test_bytes_after_the_end_are_refused() -> None:
    with pytest.raises(ValueError, match="3 bytes follow the end"):
        convert(written(small_model()) + b"abc")


@pytest.mark.parametrize(
    ("name", "array", "complaint"),
    [
        ("encoder/layer_1/ffn/linear_1/bias", None, "is missing"),
        ("encoder/conv1/weight", np.ones((WIDTH, 80, 3), np.int8), "not a float16 array"),
        ("encoder/layer_0/self_attention/linear_0/bias", np.ones(3 * WIDTH, np.float16), "is not zero"),
        ("encoder/layer_0/self_attention/linear_0/bias", np.ones(3 * WIDTH + 1, np.float16), "not a float16 array"),
        ("encoder/layer_9/something", np.ones(3, np.float16), "has no place"),
    ],
)
def test_a_model_with_other_arrays_is_refused(name: str, array: NDArray[np.float16] | None, complaint: str) -> None:
    arrays = small_model() | {name: array}
    with pytest.raises(ValueError, match=complaint):
        convert(written({name: array for name, array in arrays.items() if array is not None}))


def test_the_installed_weights_are_complete() -> None:
    with safe_open(WEIGHTS / "tiny.en.safetensors", framework="np") as file:
        dims = json.loads(file.metadata()["dims"])
        assert set(file.keys()) == names(dims)
        assert file.get_slice("decoder.token_embedding.weight").get_shape() == [51864, 384]


def names(dims: dict[str, int]) -> set[str]:
    """Return openai-whisper's own names for a model of these dimensions."""
    from whisper.model import ModelDimensions, Whisper

    return set(Whisper(ModelDimensions(**dims)).state_dict())


def small_model() -> dict[str, NDArray[np.float16]]:
    """Return a model of ones, except the biases of keys: two layers in the encoder, one in the decoder."""
    arrays = {
        "encoder/position_encodings/encodings": ones(AUDIO_CONTEXT, WIDTH),
        "decoder/position_encodings/encodings": ones(TEXT_CONTEXT, WIDTH),
        "decoder/embeddings/weight": ones(VOCABULARY, WIDTH),
        "decoder/pre_norm": np.int8(1),
    }
    for layer, shape in {"encoder/conv1": (WIDTH, 80, 3), "encoder/conv2": (WIDTH, WIDTH, 3)}.items():
        arrays |= {f"{layer}/weight": ones(*shape), f"{layer}/bias": ones(WIDTH)}
    for side, layers in {"encoder": 2, "decoder": 1}.items():
        arrays |= {f"{side}/num_heads": np.int16(2), **norm(side)}
        for layer in (f"{side}/layer_{number}" for number in range(layers)):
            arrays |= norm(f"{layer}/self_attention") | linear(f"{layer}/self_attention/linear_0", 3 * WIDTH)
            arrays[f"{layer}/self_attention/linear_0/bias"][WIDTH : 2 * WIDTH] = 0
            arrays |= linear(f"{layer}/self_attention/linear_1", WIDTH)
            arrays |= norm(f"{layer}/ffn") | linear(f"{layer}/ffn/linear_0", 4 * WIDTH)
            arrays |= linear(f"{layer}/ffn/linear_1", WIDTH, 4 * WIDTH)
    layer = "decoder/layer_0/attention"
    arrays |= norm(layer) | linear(f"{layer}/linear_0", WIDTH) | linear(f"{layer}/linear_1", 2 * WIDTH)
    arrays[f"{layer}/linear_1/bias"][:WIDTH] = 0
    return arrays | linear(f"{layer}/linear_2", WIDTH)


def ones(*shape: int) -> NDArray[np.float16]:
    return np.ones(shape, np.float16)


def norm(name: str) -> dict[str, NDArray[np.float16]]:
    return {f"{name}/layer_norm/gamma": ones(WIDTH), f"{name}/layer_norm/beta": ones(WIDTH)}


def linear(name: str, rows: int, columns: int = WIDTH) -> dict[str, NDArray[np.float16]]:
    return {f"{name}/weight": ones(rows, columns), f"{name}/bias": ones(rows)}


def written(arrays: dict[str, NDArray[np.float16]]) -> bytes:
    """Return a CTranslate2 file, version 6."""

    def string(text: str) -> bytes:
        return struct.pack("<H", len(text) + 1) + text.encode() + b"\0"

    data = struct.pack("<I", 6) + string("WhisperSpec") + struct.pack("<II", 3, len(arrays))
    for name, array in arrays.items():
        dtype = {"float16": 4, "int16": 2, "int8": 1}[array.dtype.name]
        data += string(name) + struct.pack(f"<B{array.ndim}I", array.ndim, *array.shape)
        data += struct.pack("<BI", dtype, array.nbytes) + array.tobytes()
    return data + struct.pack("<I", 1) + string("decoder/projection/weight") + string("decoder/embeddings/weight")
