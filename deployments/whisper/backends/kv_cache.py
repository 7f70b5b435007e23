"""Keys and values of the decoder's attention for the rows of a batch, in two layouts that give the same text.

A step of the decoder reads all of its weights, whether for one row or for ten: a batch reads them once. Attention alone is each row's
own. On a CPU it is computed row by row, so that no row is padded to another's length and a finished one costs nothing more. On a
GPU a call for each row would leave it idle: there one call computes all rows, padded to the longest.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from torch.nn.utils.rnn import pad_sequence
from whisper.model import TextDecoder

from deployments.torch_runtime import upload

BLOCK_TOKENS = 64
"""Capacity of a padded cache is a multiple of so many tokens: few sizes, which torch's allocator finds again."""


class EncodedAudio:
    """One encoded window."""

    def __init__(self, decoder: TextDecoder, encoded: Tensor) -> None:
        """`encoded`: [positions, state]."""
        self.encoded = encoded
        self._decoder = decoder

    @cached_property
    def layers(self) -> list[tuple[Tensor, Tensor]]:
        """Keys and values of the cross-attention, [1, heads, positions, size] in each layer.

        What a head reads in each step is in one place in memory: a fifth to a quarter less CPU than as a view.
        """
        return [
            (
                _heads(attention, attention.key(self.encoded)).contiguous(),
                _heads(attention, attention.value(self.encoded)).contiguous(),
            )
            for attention in _cross_attentions(self._decoder)
        ]


class KVCache(ABC):
    """Rows of the decoder: their encoded audio, and the keys and values of the self-attention so far."""

    dtype: torch.dtype

    @abstractmethod
    def __init__(self, decoder: TextDecoder, audios: Sequence[EncodedAudio], max_tokens: Sequence[int]) -> None:
        """`audios`, `max_tokens`: of each row; the first tokens count among the latter."""

    @abstractmethod
    def begin(self, tokens: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """The rows' first tokens and their positions, in this cache's layout."""

    @abstractmethod
    def go_on(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """The rows' next tokens, one each, [rows], and their positions, in this cache's layout."""

    @abstractmethod
    def self_attention(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attention of the new tokens to those before them and to each other; keeps their keys and values."""

    @abstractmethod
    def cross_attention(self, layer: int, query: Tensor) -> Tensor:
        """Attention of the new tokens to the encoded audio."""

    @abstractmethod
    def take(self, hidden: Tensor, indices: Sequence[int]) -> Tensor:
        """[rows, state] of the new tokens' hidden states: for each row that of its new token of this index."""

    @abstractmethod
    def keep(self, rows: Sequence[int]) -> Sequence[int]:
        """Forget the other rows, or some of them. Returns the rows that remain."""


class RaggedCache(KVCache):
    """Each row in tensors of its own length. The new tokens of all rows are one behind the other: [tokens, state]."""

    def __init__(self, decoder: TextDecoder, audios: Sequence[EncodedAudio], max_tokens: Sequence[int]) -> None:
        self.dtype = audios[0].encoded.dtype
        self._rows = [_Row(decoder, *one) for one in zip(audios, max_tokens, strict=True)]
        self._counts: list[int] = []
        self._heads = _head_count(decoder)

    def begin(self, tokens: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        return self._place(torch.tensor([token for row in tokens for token in row]), [len(row) for row in tokens])

    def go_on(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        for row, count in zip(self._rows, self._counts, strict=True):
            row.length += count
        return self._place(tokens, [1] * len(self._rows))

    def _place(self, tokens: Tensor, counts: list[int]) -> tuple[Tensor, Tensor]:
        self._counts = counts
        positions = [row.length + n for row, count in zip(self._rows, counts, strict=True) for n in range(count)]
        return tokens, torch.tensor(positions)

    def self_attention(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return _joined(
            row.self_attention(layer, *one) for row, *one in zip(self._rows, *map(self._split, (query, key, value)), strict=True)
        )

    def cross_attention(self, layer: int, query: Tensor) -> Tensor:
        rows = zip(self._rows, self._split(query), strict=True)
        return _joined(scaled_dot_product_attention(one, *row.audio.layers[layer]) for row, one in rows)

    def take(self, hidden: Tensor, indices: Sequence[int]) -> Tensor:
        starts = [sum(self._counts[:row]) for row in range(len(self._counts))]
        return hidden[torch.tensor([start + index for start, index in zip(starts, indices, strict=True)])]

    def keep(self, rows: Sequence[int]) -> Sequence[int]:
        self._rows = [self._rows[row] for row in rows]
        self._counts = [self._counts[row] for row in rows]
        return rows

    def _split(self, x: Tensor) -> Sequence[Tensor]:
        return torch.split(x.view(1, len(x), self._heads, -1).transpose(1, 2), self._counts, dim=2)


class _Row:
    """A row of the ragged layout."""

    def __init__(self, decoder: TextDecoder, audio: EncodedAudio, max_tokens: int) -> None:
        self.audio = audio
        self.length = 0
        """Tokens before the new ones."""
        shape = (max_tokens, audio.encoded.shape[-1])
        self._layers = [[_heads(block.attn, audio.encoded.new_empty(shape)) for _ in range(2)] for block in decoder.blocks]

    def self_attention(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        keys, values = self._layers[layer]
        new = key.shape[2]
        end = self.length + new
        keys[:, :, self.length : end] = key
        values[:, :, self.length : end] = value
        # A row has several new tokens only when it begins, and there is nothing before them.
        return scaled_dot_product_attention(query, keys[:, :, :end], values[:, :, :end], is_causal=new > 1)


class PaddedCache(KVCache):
    """All rows in one tensor for each layer, [rows, heads, tokens, size]. New tokens: [rows, tokens, state], padded behind.

    No call waits for the GPU, and what a finished row still computes is dropped: rows leave when half of them have finished.
    """

    def __init__(self, decoder: TextDecoder, audios: Sequence[EncodedAudio], max_tokens: Sequence[int]) -> None:
        each = [audio.encoded for audio in audios]
        self.dtype, self._device = each[0].dtype, each[0].device
        positions = [len(one) for one in each]
        encoded = pad_sequence(each, batch_first=True)
        self._heads = _head_count(decoder)
        self._audio = [
            [self._split(attention.key(encoded)), self._split(attention.value(encoded))]
            for attention in _cross_attentions(decoder)
        ]
        self._audio_mask = None if len(set(positions)) == 1 else self._mask(upload(positions, self._device), max(positions))
        self._rows, self._capacity = len(each), -(-max(max_tokens) // BLOCK_TOKENS) * BLOCK_TOKENS
        size = encoded.shape[-1] // self._heads
        shape = (self._rows, self._heads, self._capacity, size)
        # A masked place counts with weight 0, and 0 times what uninitialized memory may hold is not always 0.
        self._past = [[encoded.new_zeros(shape), encoded.new_zeros(shape)] for _ in decoder.blocks]
        self._last_position = decoder.positional_embedding.shape[0] - 1
        self._equal = True
        """Whether all rows have the same number of tokens."""
        self._longest = 0
        """Tokens of the longest row, the new ones included."""
        self._lengths = self._past_mask = torch.empty(0)
        """`_lengths`: tokens of each row before the new ones, [rows], where these are one each."""

    def begin(self, tokens: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        counts = [len(row) for row in tokens]
        self._longest, self._equal = max(counts), len(set(counts)) == 1
        padded = upload([[*row, *[0] * (self._longest - len(row))] for row in tokens], self._device)
        self._lengths = upload(counts, self._device) - 1
        return padded, torch.arange(self._longest, device=self._device).expand(self._rows, -1)

    def go_on(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        # Rows that have finished go on beside the others, up to the last place.
        self._lengths = (self._lengths + 1).clamp(max=min(self._capacity - 1, self._last_position))
        self._longest = min(self._longest + 1, self._capacity)
        if not self._equal:
            self._past_mask = self._mask(self._lengths + 1, self._longest)
        return tokens[:, None], self._lengths[:, None]

    def self_attention(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        query, *new = map(self._split, (query, key, value))
        past = self._past[layer]
        count = query.shape[2]
        for whole, one in zip(past, new, strict=True):
            if count > 1 or self._equal:
                whole[:, :, self._longest - count : self._longest] = one
            else:
                whole[torch.arange(self._rows, device=self._device), :, self._lengths] = one[:, :, 0]
        keys, values = (whole[:, :, : self._longest] for whole in past)
        mask = None if count > 1 or self._equal else self._past_mask
        # The padding behind a row's first tokens is read by none of them, and its place is that of the row's next tokens.
        return _together(scaled_dot_product_attention(query, keys, values, attn_mask=mask, is_causal=count > 1))

    def cross_attention(self, layer: int, query: Tensor) -> Tensor:
        keys, values = self._audio[layer]
        return _together(scaled_dot_product_attention(self._split(query), keys, values, attn_mask=self._audio_mask))

    def take(self, hidden: Tensor, indices: Sequence[int]) -> Tensor:
        return hidden[torch.arange(self._rows, device=self._device), upload(list(indices), self._device)]

    def keep(self, rows: Sequence[int]) -> Sequence[int]:
        if len(rows) * 2 > self._rows:
            return range(self._rows)
        index = upload(list(rows), self._device)
        for pair in (*self._audio, *self._past):
            pair[:] = [one.index_select(0, index) for one in pair]
        if self._audio_mask is not None:
            self._audio_mask = self._audio_mask.index_select(0, index)
        self._lengths = self._lengths.index_select(0, index)
        self._rows = len(rows)
        return rows

    def _split(self, x: Tensor) -> Tensor:
        """[rows, heads, n, size] of [rows, n, state]."""
        return x.view(*x.shape[:2], self._heads, -1).transpose(1, 2)

    def _mask(self, lengths: Tensor, longest: int) -> Tensor:
        """[rows, 1, 1, longest]: true for a row's own places."""
        return (torch.arange(longest, device=self._device) < lengths[:, None])[:, None, None]


def _cross_attentions(decoder: TextDecoder) -> Iterator[Any]:
    return (block.cross_attn for block in decoder.blocks)


def _head_count(decoder: TextDecoder) -> int:
    return int(decoder.blocks[0].attn.n_head)


def _heads(attention: Any, x: Tensor) -> Tensor:
    """[n, state] as [1, heads, n, size]."""
    return x.view(1, len(x), attention.n_head, -1).transpose(1, 2)


def _joined(rows: Iterator[Tensor]) -> Tensor:
    """[n, state] of rows of [1, heads, some, size]."""
    return torch.cat(list(rows), dim=2)[0].transpose(0, 1).flatten(start_dim=1)


def _together(x: Tensor) -> Tensor:
    """[rows, n, state] of [rows, heads, n, size]."""
    return x.transpose(1, 2).flatten(start_dim=2)
