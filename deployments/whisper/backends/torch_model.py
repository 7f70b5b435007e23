"""openai-whisper's network for rows that differ in length: the encoder for any number of frames, the decoder for many rows at once.

A step of the decoder reads all of its weights, whether for one row or for ten: in a batch it is read once. Only attention is each
row's own, so no row is padded to another's length, and one that leaves costs nothing more.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from whisper.model import AudioEncoder, TextDecoder


def encode(encoder: AudioEncoder, mel: Tensor, stay: Callable[[], Sequence[bool]]) -> Tensor:
    """`mel`: [rows, mels, frames] of up to 30 s. Gives [rows, frames / 2, state].

    `stay`: asked before each block which of the rows go on; the others are not in the answer.
    """
    x = F.gelu(encoder.conv1(mel))
    x = F.gelu(encoder.conv2(x)).permute(0, 2, 1)
    x = (x + encoder.positional_embedding[: x.shape[1]]).to(x.dtype)
    for block in encoder.blocks:
        if not all(stays := stay()):
            x = x[torch.tensor(stays)]
        if not len(x):
            break
        x = block(x)
    encoded: Tensor = encoder.ln_post(x)
    return encoded


class Sound:
    """What the decoder attends to: each layer's keys and values [1, heads, positions, size] of what was encoded."""

    def __init__(self, decoder: TextDecoder, encoded: Tensor) -> None:
        """`encoded`: [positions, state]."""
        self.dtype = encoded.dtype
        self.layers = [
            (_read(block.cross_attn, block.cross_attn.key(encoded)), _read(block.cross_attn, block.cross_attn.value(encoded)))
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
        made = [
            torch.split(_heads(block.attn, part(h)), cuts, dim=2) for part in (block.attn.query, block.attn.key, block.attn.value)
        ]
        x = x + block.attn.out(_joined([_remember(row, layer, *part) for row, *part in zip(rows, *made, strict=True)]))
        asked = torch.split(_heads(block.cross_attn, block.cross_attn.query(block.cross_attn_ln(x))), cuts, dim=2)
        heard = [scaled_dot_product_attention(one, *row.sound.layers[layer]) for row, one in zip(rows, asked, strict=True)]
        x = x + block.cross_attn.out(_joined(heard))
        x = x + block.mlp(block.mlp_ln(x))
    for row, count in zip(rows, cuts, strict=True):
        row.length += count
    ahead: Tensor = decoder.ln(x)
    return ahead


def logits(decoder: TextDecoder, ahead: Tensor) -> Tensor:
    """float32 [n, vocabulary] of [n, state]."""
    return F.linear(ahead, decoder.token_embedding.weight.to(ahead.dtype)).float()


def _remember(row: Row, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """What the row's new tokens attend to in all of its own: [1, heads, new, size]."""
    keys, values = row.own[layer]
    new = key.shape[2]
    end = row.length + new
    keys[:, :, row.length : end] = key
    values[:, :, row.length : end] = value
    # A row has several new tokens only when it begins, and there is nothing before them.
    return scaled_dot_product_attention(query, keys[:, :, :end], values[:, :, :end], is_causal=new > 1)


def _heads(attention: Any, x: Tensor) -> Tensor:
    """[n, state] as [1, heads, n, size]."""
    return x.view(1, len(x), attention.n_head, -1).transpose(1, 2)


def _read(attention: Any, x: Tensor) -> Tensor:
    """The same with what a head reads in each step lying together: a fifth to a quarter less CPU than as a view."""
    return _heads(attention, x).contiguous()


def _joined(rows: list[Tensor]) -> Tensor:
    """[n, state] of rows of [1, heads, some, size]."""
    return torch.cat(rows, dim=2)[0].transpose(0, 1).flatten(start_dim=1)
