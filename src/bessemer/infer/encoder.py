"""Builds the network of a text encoder from a Hugging Face folder: tokens in, one vector of length 1 for each text out.

Owns the architecture (BERT and RoBERTa: absolute positions, post-norm blocks) and how tokens' states become one vector.
Knows no request. Needs neither PyTorch nor Transformers.
Source: Devlin et al. 2019, "BERT" (arXiv:1810.04805); Reimers and Gurevych 2019, "Sentence-BERT" (arXiv:1908.10084).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bessemer.core.errors import NotFound, Unsupported
from bessemer.infer.runtime import openvino, ops

FAMILIES = ("bert", "roberta", "xlm-roberta")
POOLINGS = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "first"}
_ACTIVATIONS: dict[str, Callable[[Any], Any]] = {"gelu": lambda x: ops.gelu(x, "erf"), "relu": ops.relu}
_SMALLEST = 1e-9


@dataclass(frozen=True, slots=True)
class EncoderFacts:
    """What an encoder's folder says about it.

    Attributes:
        width: numbers in a vector.
        context_tokens: most tokens of a text, with those that begin and end it: as many as it was trained with.
        pooling: ``mean`` of all tokens' states, or that of the ``first``.
        shorter: lengths that a vector may be cut to, because it was trained so; () if it was not. Source: the keys
            ``is_matryoshka`` and ``matryoshka_dimensions`` of ``config.json``, as vLLM reads them.
        first_position: number of the first token's place.
        vocabulary: how many tokens it knows.
    """

    width: int
    context_tokens: int
    pooling: str
    shorter: tuple[int, ...]
    first_position: int
    vocabulary: int


def read_facts(folder: Path) -> EncoderFacts:
    """Return what is declared in a folder.

    Raises:
        NotFound: it has no ``config.json``.
        Unsupported: it is another kind of model, or pools in another way.
    """
    config = _read(folder / "config.json")
    if not config:
        raise NotFound(f"there is no model in {folder}", hint="Name a Hugging Face folder of an encoder.")
    family = str(config.get("model_type", ""))
    if family not in FAMILIES or config.get("position_embedding_type", "absolute") != "absolute":
        raise Unsupported(
            f"no vectors are made here with a model of type '{family}'", hint=f"Name one of: {', '.join(FAMILIES)}."
        )
    if config.get("hidden_act") not in _ACTIVATIONS:
        raise Unsupported(f"the activation '{config.get('hidden_act')}' is unknown", hint="Name another model.")
    pools = {name for name, on in _read(folder / "1_Pooling" / "config.json").items() if on is True}
    pooling = [POOLINGS.get(name, name) for name in pools if name.startswith("pooling_mode_")] or ["mean"]
    if pooling not in (["mean"], ["first"]):
        raise Unsupported(f"the model pools by {' and '.join(sorted(pooling))}", hint="Name one that pools by mean.")
    first = 0 if family == "bert" else int(config["pad_token_id"]) + 1
    most = int(config["max_position_embeddings"]) - first
    width = int(config["hidden_size"])
    shorter = config.get("matryoshka_dimensions") or (range(1, width) if config.get("is_matryoshka") else ())
    trained = int(_read(folder / "sentence_bert_config.json").get("max_seq_length") or most)
    return EncoderFacts(width, min(most, trained), pooling[0], tuple(shorter), first, int(config["vocab_size"]))


def build_encoder(folder: Path) -> Any:
    """Return the network: ``tokens`` and ``mask`` (both int64 [texts, tokens]) to vectors (float32 [texts, width]).

    Raises:
        NotFound: the folder has no weights.
        Unsupported: see `read_facts`; or the weights are of a kind that NumPy does not have.
    """
    facts, config, weights = read_facts(folder), _read(folder / "config.json"), _Weights(folder)
    tokens, mask = (ops.parameter([-1, -1], np.int64, name=name) for name in ("tokens", "mask"))
    eps = float(config["layer_norm_eps"])
    length = ops.gather(ops.shape_of(tokens), _ints(1), _ints(0))
    places = ops.range(_ints(facts.first_position), ops.add(length, _ints(facts.first_position)), _ints(1), "i64")
    state = ops.add(
        ops.add(
            ops.gather(weights.constant("embeddings.word_embeddings.weight"), tokens, _ints(0)),
            ops.constant(weights["embeddings.token_type_embeddings.weight"][0]),
        ),
        ops.gather(weights.constant("embeddings.position_embeddings.weight"), places, _ints(0)),
    )
    state = weights.norm(state, "embeddings.LayerNorm", eps)
    seen = ops.convert(ops.unsqueeze(mask, _ints([1, 2])), "boolean")
    for number in range(int(config["num_hidden_layers"])):
        state = _block(state, seen, weights, f"encoder.layer.{number}", config)
    if facts.pooling == "first":
        pooled = ops.gather(state, _ints(0), _ints(1))
    else:
        real = ops.convert(ops.unsqueeze(mask, _ints(2)), "f32")
        pooled = ops.divide(ops.reduce_sum(ops.multiply(state, real), _ints(1)), ops.reduce_sum(real, _ints(1)))
    return openvino.Model([ops.normalize_l2(pooled, _ints([1]), _SMALLEST, "max")], [tokens, mask], "encoder")


def _block(state: Any, seen: Any, weights: _Weights, name: str, config: dict[str, Any]) -> Any:
    heads, eps = int(config["num_attention_heads"]), float(config["layer_norm_eps"])
    size = int(config["hidden_size"]) // heads

    def split(part: str) -> Any:
        made = weights.linear(state, f"{name}.attention.self.{part}")
        return ops.transpose(ops.reshape(made, _ints([0, 0, heads, size]), True), _ints([0, 2, 1, 3]))

    read = ops.scaled_dot_product_attention(split("query"), split("key"), split("value"), seen)
    joined = ops.reshape(ops.transpose(read, _ints([0, 2, 1, 3])), _ints([0, 0, heads * size]), True)
    state = weights.norm(
        ops.add(state, weights.linear(joined, f"{name}.attention.output.dense")),
        f"{name}.attention.output.LayerNorm",
        eps,
    )
    inner = _ACTIVATIONS[config["hidden_act"]](weights.linear(state, f"{name}.intermediate.dense"))
    return weights.norm(ops.add(state, weights.linear(inner, f"{name}.output.dense")), f"{name}.output.LayerNorm", eps)


class _Weights:
    """A model's tensors by name, and the layers that are made of them."""

    def __init__(self, folder: Path) -> None:
        from safetensors import SafetensorError, safe_open

        files = sorted(folder.glob("*.safetensors"))
        if not files:
            raise NotFound(f"{folder} has no safetensors weights", hint="Save the model with save_pretrained first.")
        self._tensors: dict[str, NDArray[np.float32]] = {}
        for file in files:
            try:
                with safe_open(file, framework="np") as tensors:
                    for name in tensors.keys():  # noqa: SIM118 - it is no dict and cannot be iterated
                        if not name.endswith("position_ids"):
                            self._tensors[_plain(name)] = tensors.get_tensor(name).astype(np.float32)
            except (SafetensorError, TypeError) as error:
                raise Unsupported(
                    f"{file.name} cannot be read: {error}", hint="Save it as float32 or float16."
                ) from error

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        if name not in self._tensors:
            raise Unsupported(f"the weights have no '{name}'", hint="Name an encoder's folder as it was published.")
        return self._tensors[name]

    def constant(self, name: str) -> Any:
        return ops.constant(self[name])

    def linear(self, state: Any, name: str) -> Any:
        product = ops.matmul(state, self.constant(f"{name}.weight"), False, True)
        return ops.add(product, self.constant(f"{name}.bias"))

    def norm(self, state: Any, name: str, eps: float) -> Any:
        centred = ops.mvn(state, _ints([-1]), True, eps, "inside_sqrt")
        return ops.add(ops.multiply(centred, self.constant(f"{name}.weight")), self.constant(f"{name}.bias"))


def _plain(name: str) -> str:
    """Return a tensor's name without the model's own before it.

    >>> _plain("roberta.embeddings.LayerNorm.gamma")
    'embeddings.LayerNorm.weight'
    """
    for family in FAMILIES:
        name = name.removeprefix(f"{family.split('-')[-1]}.")
    return name.replace(".gamma", ".weight").replace(".beta", ".bias")


def _ints(value: int | list[int]) -> Any:
    return ops.constant(np.array(value, np.int64))


def _read(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file, or {} if there is none."""
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found if isinstance(found, dict) else {}
