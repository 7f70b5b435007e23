"""openai-whisper's network for rows of different lengths: the encoder for any number of frames, the decoder for many rows at once."""

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor
from whisper.model import AudioEncoder, TextDecoder

from deployments.torch_runtime import upload
from deployments.whisper.backends.kv_cache import KVCache


def encode(encoder: AudioEncoder, mel: Tensor, keep_rows: Callable[[], Sequence[bool]]) -> Tensor:
    """[rows, frames / 2, state] of `mel`: [rows, mels, frames] of up to 30 s.

    `keep_rows`: called before each block; its rows that are false leave the batch and the result.
    """
    x = F.gelu(encoder.conv1(mel))
    x = F.gelu(encoder.conv2(x)).permute(0, 2, 1)
    x = (x + encoder.positional_embedding[: x.shape[1]]).to(x.dtype)
    for block in encoder.blocks:
        if not all(kept := keep_rows()):
            x = x[upload([row for row, one in enumerate(kept) if one], x.device)]
        if not len(x):
            break
        x = block(x)
    encoded: Tensor = encoder.ln_post(x)
    return encoded


def forward(decoder: TextDecoder, cache: KVCache, tokens: Tensor, positions: Tensor) -> Tensor:
    """Hidden states of new tokens, with one more dimension than these, which are in the cache's layout. The cache grows by them."""
    x = decoder.token_embedding(tokens)
    x = (x + decoder.positional_embedding[positions]).to(cache.dtype)
    for layer, block in enumerate(decoder.blocks):
        h = block.attn_ln(x)
        x = x + block.attn.out(cache.self_attention(layer, block.attn.query(h), block.attn.key(h), block.attn.value(h)))
        x = x + block.cross_attn.out(cache.cross_attention(layer, block.cross_attn.query(block.cross_attn_ln(x))))
        x = x + block.mlp(block.mlp_ln(x))
    hidden: Tensor = decoder.ln(x)
    return hidden


def logits(decoder: TextDecoder, hidden: Tensor) -> Tensor:
    """float32 [n, vocabulary] of [n, state]."""
    return F.linear(hidden, decoder.token_embedding.weight.to(hidden.dtype)).float()
