"""openai-whisper's network for rows that differ in length: the encoder for any number of frames, the decoder for many rows at once.

A step of the decoder reads all of its weights, whether for one row or for ten: in a batch it is read once. Only attention is each
row's own, so no row is padded to another's length, and one that leaves costs nothing more. The encoder's rows go one by one:
what it computes takes as long in a batch.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from whisper.model import AudioEncoder, TextDecoder


def encode(encoder: AudioEncoder, mel: Tensor, poll: Callable[[], None]) -> Tensor:
    """`mel`: [mels, frames] of up to 30 s. Gives [frames / 2, state]. `poll` is called before each block; what it raises ends it."""
    x = F.gelu(encoder.conv1(mel[None]))
    x = F.gelu(encoder.conv2(x)).permute(0, 2, 1)
    x = (x + encoder.positional_embedding[: x.shape[1]]).to(x.dtype)
    for block in encoder.blocks:
        poll()
        x = block(x)
    encoded: Tensor = encoder.ln_post(x)[0]
    return encoded


class Sound:
    """What the decoder attends to: each layer's keys and values [heads, positions, size] of what was encoded."""

    def __init__(self, decoder: TextDecoder, encoded: Tensor) -> None:
        """`encoded`: [positions, state]."""
        self.dtype = encoded.dtype
        self.layers = [
            (_heads(block.cross_attn, block.cross_attn.key(encoded)), _heads(block.cross_attn, block.cross_attn.value(encoded)))
            for block in decoder.blocks
        ]


class Row:
    """One text in the making: what it listens to, and its own keys and values so far."""

    def __init__(self, decoder: TextDecoder, sound: Sound, most: int) -> None:
        """`most`: tokens that it may have, those it begins with too."""
        self.sound = sound
        self.length = 0
        shape = (most, *decoder.token_embedding.weight.shape[1:])
        weight = decoder.token_embedding.weight
        self.own = [
            tuple(_heads(block.attn, torch.empty(shape, dtype=sound.dtype, device=weight.device)) for _ in range(2))
            for block in decoder.blocks
        ]


def advance(decoder: TextDecoder, rows: Sequence[Row], tokens: Sequence[Sequence[int]]) -> Tensor:
    """Takes each row's new tokens in: [all new tokens, state], row after row, of which `logits` makes the next ones' chances."""
    device = decoder.positional_embedding.device
    cuts = [len(one) for one in tokens]
    positions = [row.length + n for row, count in zip(rows, cuts, strict=True) for n in range(count)]
    x = decoder.token_embedding(torch.tensor([token for one in tokens for token in one], device=device))
    x = (x + decoder.positional_embedding[positions]).to(rows[0].sound.dtype)
    for layer, block in enumerate(decoder.blocks):
        h = block.attn_ln(x)
        parts = (block.attn.query(h).split(cuts), block.attn.key(h).split(cuts), block.attn.value(h).split(cuts))
        heard = [_remember(block.attn, row, layer, *part) for row, *part in zip(rows, *parts, strict=True)]
        x = x + block.attn.out(torch.cat(heard))
        asked = block.cross_attn.query(block.cross_attn_ln(x)).split(cuts)
        heard = [_attend(_heads(block.cross_attn, one), *row.sound.layers[layer]) for row, one in zip(rows, asked, strict=True)]
        x = x + block.cross_attn.out(torch.cat(heard))
        x = x + block.mlp(block.mlp_ln(x))
    for row, count in zip(rows, cuts, strict=True):
        row.length += count
    ahead: Tensor = decoder.ln(x)
    return ahead


def logits(decoder: TextDecoder, ahead: Tensor) -> Tensor:
    """float32 [n, vocabulary] of [n, state]."""
    return F.linear(ahead, decoder.token_embedding.weight.to(ahead.dtype)).float()


def _remember(attention: Any, row: Row, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    keys, values = row.own[layer]
    end = row.length + len(query)
    keys[:, row.length : end] = _heads(attention, key)
    values[:, row.length : end] = _heads(attention, value)
    # A row has several new tokens only when it begins, and there is nothing before them.
    return _attend(_heads(attention, query), keys[:, :end], values[:, :end], causal=len(query) > 1)


def _attend(query: Tensor, key: Tensor, value: Tensor, causal: bool = False) -> Tensor:
    """[new, state] of [heads, new, size] over [heads, all, size]."""
    out = F.scaled_dot_product_attention(query[None], key[None], value[None], is_causal=causal)
    return out[0].transpose(0, 1).flatten(start_dim=1)


def _heads(attention: Any, x: Tensor) -> Tensor:
    """[n, state] as [heads, n, size]."""
    return x.view(len(x), attention.n_head, -1).transpose(0, 1)
