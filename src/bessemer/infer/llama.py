"""Writes a Llama-family model as GGUF, 16 bits, from its safetensors; no torch.

Owns the architecture's facts, the reading of safetensors and the order of rotary weights in GGUF. The file has no
tokenizer: the engine's tokenizer is compiled apart.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

from bessemer.core.errors import NotFound, Unsupported

ROTARY_BASE = 10_000.0
"""Source: Su et al. 2021, RoFormer (arXiv 2104.09864), section 3.2.2; what Llama configurations mean by default."""


@dataclass(frozen=True, slots=True)
class LlamaShape:
    """The facts of a Llama-family network that its weights do not tell."""

    layers: int
    width: int
    feed_forward: int
    heads: int
    key_value_heads: int
    vocabulary: int
    context_tokens: int
    norm_epsilon: float
    rotary_base: float


def read_shape(model_dir: Path) -> LlamaShape:
    """Return the shape that a model's config.json declares.

    Raises:
        Unsupported: it is not a Llama, or one with a part that the engine's reader does not build.
    """
    facts = json.loads((model_dir / "config.json").read_text(encoding="utf-8"))
    names = facts.get("architectures") or [facts.get("model_type", "unknown")]
    heads, width = facts.get("num_attention_heads", 1), facts.get("hidden_size", 0)
    rotary = facts.get("rope_parameters") or facts.get("rope_scaling") or {}
    odd = {
        f"architecture {names[0]}": names[0] != "LlamaForCausalLM",
        "biases": bool(facts.get("attention_bias") or facts.get("mlp_bias")),
        "rotary scaling": rotary.get("rope_type", rotary.get("type", "default")) != "default",
        "heads that do not add up to the width": (facts.get("head_dim") or width // heads) * heads != width,
        f"activation {facts.get('hidden_act')}": facts.get("hidden_act", "silu") != "silu",
    }
    if found := [what for what, is_odd in odd.items() if is_odd]:
        raise Unsupported(
            f"cannot compile a model with {', '.join(found)}",
            hint="Serve it with another server (vLLM, SGLang, llama.cpp) through an `upstream` engine.",
        )
    return LlamaShape(
        layers=facts["num_hidden_layers"],
        width=width,
        feed_forward=facts["intermediate_size"],
        heads=heads,
        key_value_heads=facts.get("num_key_value_heads") or heads,
        vocabulary=facts["vocab_size"],
        context_tokens=facts["max_position_embeddings"],
        norm_epsilon=facts["rms_norm_eps"],
        rotary_base=rotary.get("rope_theta") or facts.get("rope_theta") or ROTARY_BASE,
    )


def write_gguf(model_dir: Path, shape: LlamaShape, path: Path) -> int:
    """Return how many parameters were written to a GGUF file; matrices in 16 bits, vectors in 32.

    Raises:
        NotFound: there are no safetensors.
        Unsupported: a weight has an unknown name, is of an odd type, or too large for 16 bits.
    """
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(shape.layers)
    writer.add_embedding_length(shape.width)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.key_value_heads)
    writer.add_vocab_size(shape.vocabulary)
    writer.add_context_length(shape.context_tokens)
    writer.add_layer_norm_rms_eps(shape.norm_epsilon)
    writer.add_rope_freq_base(shape.rotary_base)
    writer.add_rope_dimension_count(shape.width // shape.heads)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, shape.layers)
    written = 0
    for name, weight in read_weights(model_dir):
        known = names.get_name(name, try_suffixes=(".weight",))
        if known is None:
            raise Unsupported(f"cannot compile a model with the weight {name}")
        rows = _interleaved(weight, _rotary_heads(name, shape))
        with np.errstate(over="ignore"):
            value = rows.astype(np.float16 if rows.ndim > 1 else np.float32)
        if not np.isfinite(value).all():
            raise Unsupported(f"the weight {name} does not fit 16 bits", hint="Look for NaN in the trained model.")
        writer.add_tensor(known, np.ascontiguousarray(value))
        written += value.size
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return written


def read_weights(model_dir: Path) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield the name and the values of each weight in a folder's safetensors files.

    Source: the safetensors format: eight bytes of header length, a JSON header, little-endian values.

    Raises:
        NotFound: there are no safetensors.
        Unsupported: a weight is of another type than F32, F16 and BF16.
    """
    files = sorted(model_dir.glob("*.safetensors"))
    if not files:
        raise NotFound(f"there are no safetensors in {model_dir}", hint="Save the model with save_pretrained.")
    for file in files:
        raw = np.memmap(file, np.uint8, "r")
        start = 8 + int.from_bytes(raw[:8].tobytes(), "little")
        header: dict[str, Any] = json.loads(raw[8:start].tobytes())
        header.pop("__metadata__", None)
        for name, entry in header.items():
            first, last = entry["data_offsets"]
            yield name, _floats(raw[start + first : start + last], entry["dtype"], name).reshape(entry["shape"])


def _floats(raw: NDArray[np.uint8], kind: str, name: str) -> NDArray[np.float32]:
    if kind == "BF16":  # the upper half of a float32
        return (raw.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    if kind in ("F16", "F32"):
        return raw.view(np.dtype(f"<f{int(kind[1:]) // 8}")).astype(np.float32)
    raise Unsupported(f"the weight {name} is of type {kind}", hint="Save the model in bfloat16, float16 or float32.")


def _rotary_heads(name: str, shape: LlamaShape) -> int:
    """Return the number of heads if a weight makes queries or keys, else 0."""
    return shape.heads if ".q_proj." in name else shape.key_value_heads if ".k_proj." in name else 0


def _interleaved(weight: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Return a weight with the rows of each head as GGUF's Llama has them: rotary pairs adjacent, not in halves."""
    if not heads:
        return weight
    rows, columns = weight.shape
    halves = weight.reshape(heads, 2, rows // heads // 2, columns)
    return halves.swapaxes(1, 2).reshape(rows, columns)
