"""openai-whisper's model in CTranslate2's format: the reverse of `ct2_import`, for every model that openai-whisper loads."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import whisper
from ctranslate2.specs import WhisperSpec
from whisper.tokenizer import get_tokenizer

from deployments.whisper.logit_filters import blank_tokens


def save(model: whisper.Whisper, folder: Path, compute_type: str) -> None:
    """Write `model` into `folder`, in one of CTranslate2's compute types. `model` is unusable afterwards: its arrays are shared."""
    dims = model.dims
    spec = WhisperSpec(dims.n_audio_layer, dims.n_audio_head, dims.n_text_layer, dims.n_text_head)
    model.requires_grad_(False)
    for ours, theirs in ((spec.encoder, model.encoder), (spec.decoder, model.decoder)):
        ours.position_encodings.encodings = theirs.positional_embedding
        for layer, block in zip(ours.layer, theirs.blocks, strict=True):
            _block(layer, block)
    _norm(spec.encoder.layer_norm, model.encoder.ln_post)
    _norm(spec.decoder.layer_norm, model.decoder.ln)
    for name in ("conv1", "conv2"):
        _linear(getattr(spec.encoder, name), getattr(model.encoder, name))
    spec.decoder.embeddings.weight = spec.decoder.projection.weight = model.decoder.token_embedding.weight

    tokenizer = get_tokenizer(model.is_multilingual, num_languages=model.num_languages)
    # CTranslate2 finds special tokens by name, and a multilingual model by its token of no bytes; text crosses as token ids.
    names = map(tokenizer.encoding.decode_single_token_bytes, range(tokenizer.encoding.n_vocab))
    spec.register_vocabulary([name.decode("latin-1") for name in names])
    spec.config.suppress_ids = []  # named in each call
    spec.config.suppress_ids_begin = list(blank_tokens(tokenizer))
    spec.config.lang_ids = list(tokenizer.all_language_tokens)
    spec.validate()
    spec.optimize(quantization=compute_type)
    spec.save(str(folder))


def _block(spec: Any, block: Any) -> None:
    _norm(spec.self_attention.layer_norm, block.attn_ln)
    _linear(spec.self_attention.linear[0], block.attn.query, block.attn.key, block.attn.value)
    _linear(spec.self_attention.linear[1], block.attn.out)
    if block.cross_attn is not None:
        _norm(spec.attention.layer_norm, block.cross_attn_ln)
        _linear(spec.attention.linear[0], block.cross_attn.query)
        _linear(spec.attention.linear[1], block.cross_attn.key, block.cross_attn.value)
        _linear(spec.attention.linear[2], block.cross_attn.out)
    _norm(spec.ffn.layer_norm, block.mlp_ln)
    _linear(spec.ffn.linear_0, block.mlp[0])
    _linear(spec.ffn.linear_1, block.mlp[2])


def _norm(spec: Any, module: Any) -> None:
    spec.gamma, spec.beta = module.weight, module.bias


def _linear(spec: Any, *modules: Any) -> None:
    """One layer of one or several modules, side by side; a key has no bias."""
    spec.weight = _joined([module.weight for module in modules])
    spec.bias = _joined([torch.zeros(len(module.weight)) if module.bias is None else module.bias for module in modules])


def _joined(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(list(tensors))
