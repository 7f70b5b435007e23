"""openai-whisper's network for rows of different lengths: the encoder for any number of frames, the decoder for many rows at once.

A step of the decoder reads all of its weights, whether for one row or for ten: a batch reads them once. Attention alone is each
row's own, so no row is padded to another's length, and a finished one costs nothing more.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from whisper.model import AudioEncoder, TextDecoder


def encode(encoder: AudioEncoder, mel: Tensor, keep_rows: Callable[[], Sequence[bool]]) -> Tensor:
    """[rows, frames / 2, state] of `mel`: [rows, mels, frames] of up to 30 s.

    `keep_rows`: called before each block; its rows that are false leave the batch and the result.
    """
    x = F.gelu(encoder.conv1(mel))
    x = F.gelu(encoder.conv2(x)).permute(0, 2, 1)
    x = (x + encoder.positional_embedding[: x.shape[1]]).to(x.dtype)
    for block in encoder.blocks:
        if not all(kept := keep_rows()):
            x = x[torch.tensor(kept)]
        if not len(x):
            break
        x = block(x)
    encoded: Tensor = encoder.ln_post(x)
    return encoded


class EncodedAudio:
    """Keys and values of the decoder's cross-attention, [1, heads, positions, size] in each layer, of one encoded window."""

    def __init__(self, decoder: TextDecoder, encoded: Tensor) -> None:
        """`encoded`: [positions, state]."""
        self.dtype = encoded.dtype
        self.layers = [
            (_packed(block.cross_attn, block.cross_attn.key(encoded)), _packed(block.cross_attn, block.cross_attn.value(encoded)))
            for block in decoder.blocks
        ]


class KVCache:
    """A row of the decoder: its encoded audio, and keys and values of the self-attention so far."""

    def __init__(self, decoder: TextDecoder, audio: EncodedAudio, max_tokens: int) -> None:
        """`max_tokens`: with the initial ones."""
        self.audio = audio
        self.length = 0
        shape = (max_tokens, *decoder.token_embedding.weight.shape[1:])
        weight = decoder.token_embedding.weight
        self.layers = [
            tuple(_heads(block.attn, torch.empty(shape, dtype=audio.dtype, device=weight.device)) for _ in range(2))
            for block in decoder.blocks
        ]


def forward(decoder: TextDecoder, caches: Sequence[KVCache], tokens: Sequence[Sequence[int]]) -> Tensor:
    """Hidden states [all new tokens, state], row after row, of each row's new tokens; the caches grow by them."""
    device = decoder.positional_embedding.device
    counts = [len(one) for one in tokens]
    positions = [cache.length + n for cache, count in zip(caches, counts, strict=True) for n in range(count)]
    x = decoder.token_embedding(torch.tensor([token for one in tokens for token in one], device=device))
    x = (x + decoder.positional_embedding[positions]).to(caches[0].audio.dtype)
    for layer, block in enumerate(decoder.blocks):
        h = block.attn_ln(x)
        projections = (block.attn.query, block.attn.key, block.attn.value)
        qkv = [torch.split(_heads(block.attn, projection(h)), counts, dim=2) for projection in projections]
        x = x + block.attn.out(_joined([_self_attention(cache, layer, *one) for cache, *one in zip(caches, *qkv, strict=True)]))
        queries = torch.split(_heads(block.cross_attn, block.cross_attn.query(block.cross_attn_ln(x))), counts, dim=2)
        crossed = [scaled_dot_product_attention(q, *cache.audio.layers[layer]) for cache, q in zip(caches, queries, strict=True)]
        x = x + block.cross_attn.out(_joined(crossed))
        x = x + block.mlp(block.mlp_ln(x))
    for cache, count in zip(caches, counts, strict=True):
        cache.length += count
    hidden: Tensor = decoder.ln(x)
    return hidden


def logits(decoder: TextDecoder, hidden: Tensor) -> Tensor:
    """float32 [n, vocabulary] of [n, state]."""
    return F.linear(hidden, decoder.token_embedding.weight.to(hidden.dtype)).float()


def _self_attention(cache: KVCache, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """[1, heads, new, size] of the row's new tokens, whose keys and values it puts into the cache."""
    keys, values = cache.layers[layer]
    new = key.shape[2]
    end = cache.length + new
    keys[:, :, cache.length : end] = key
    values[:, :, cache.length : end] = value
    # A row has several new tokens only when it begins, and there is nothing before them.
    return scaled_dot_product_attention(query, keys[:, :, :end], values[:, :, :end], is_causal=new > 1)


def _heads(attention: Any, x: Tensor) -> Tensor:
    """[n, state] as [1, heads, n, size]."""
    return x.view(1, len(x), attention.n_head, -1).transpose(1, 2)


def _packed(attention: Any, x: Tensor) -> Tensor:
    """`_heads`, with the memory that a head reads in each step in one place: a fifth to a quarter less CPU than as a view."""
    return _heads(attention, x).contiguous()


def _joined(rows: list[Tensor]) -> Tensor:
    """[n, state] of rows of [1, heads, some, size]."""
    return torch.cat(rows, dim=2)[0].transpose(0, 1).flatten(start_dim=1)
