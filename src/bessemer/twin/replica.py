"""What one replica of a served model is: network, accelerator, cut, engine and load; and many of them as arrays.

Owns how bytes and operations are counted for serving, and the guess of a network from its name. Knows no seconds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bessemer.core.errors import NotFound
from bessemer.twin.accelerators import Accelerator
from bessemer.twin.decode import BACKENDS, INDEX_BYTES, Points
from bessemer.twin.shape import Shape, shape, shapes

EXPERT_BYTES = {"fp8": 1.0, "int8": 1.0, "fp4": 0.5625, "int4": 0.5625}
"""Of one weight in experts and dense networks; 4 bits with a scale of 8 bits for each 16. Others: 2 bytes."""

DENSE_BYTES_BESIDE_FP4 = 1.0
"""Of one weight beside fp4 experts, where attention stays wider. Source: assumed, between bf16 and fp4."""

ADDED = re.compile(
    r"(?i)[-_](nvfp4|mxfp4|fp4|fp8|int4|awq|gptq|bf16|instruct|chat|it|hf|base|kv|dynamic|interactive|edge|"
    r"99(\.9)?|\d{4})\b"
)
VERSION = re.compile(r"(?i)[-_]v\d+(\.\d+)?$")
"""What publications add to the name of a network: formats, tuning, days, targets; and the version of such a copy."""

LINK_WITHOUT_DOMAIN_BYTES = 50e9
"""One direction of a PCIe 5.0 x16 slot, less its overhead. Source: PCIe 5.0 base specification."""


@dataclass(frozen=True, slots=True)
class Replica:
    """One replica and its load.

    Attributes:
        shape: the network.
        device: the accelerator.
        precision: of the weights: bf16, fp8, int8, fp4 or int4.
        backend: one of `decode.BACKENDS`.
        accelerators: of the replica.
        data: ways attention is data parallel.
        expert: ways experts are spread whole.
        sequences: that are answered at once.
        input_tokens: of a prompt.
        output_tokens: of an answer.
        link_bytes_per_second: between the accelerators, one direction; 0: the device's own scale-up link.
    """

    shape: Shape
    device: Accelerator
    precision: str = "fp8"
    backend: str = "trtllm"
    accelerators: int = 1
    data: int = 1
    expert: int = 1
    sequences: float = 1.0
    input_tokens: float = 1024.0
    output_tokens: float = 1024.0
    link_bytes_per_second: float = 0.0


def points(replicas: Sequence[Replica]) -> Points:
    """Return the replicas as arrays of one dimension."""
    columns = np.array([_numbers(each) for each in replicas], dtype=float).T
    return Points(*columns)


def _kept(r: Replica) -> tuple[float, float, float, str]:
    """Return the bytes of a dense weight, of one of an expert, and of a number in the cache, and what multiplies them.

    Weights of 4 bits are widened to 16 where there is no unit for them. Source: kernels for 4-bit weights and 16-bit
    activations, Frantar et al. 2024, arXiv:2408.11743.
    """
    precision = r.shape.native_precision or r.precision
    wide = EXPERT_BYTES.get(precision, 2.0)
    beside = max(wide, DENSE_BYTES_BESIDE_FP4) if r.shape.is_mixture else wide
    is_widened = precision == "int4" or (precision == "fp4" and not r.device.fp4_flop_per_second)
    unit = r.device.unit("bf16" if is_widened else precision)
    return beside, wide, 1.0 if r.backend == "trtllm" and wide <= 1 else 2.0, unit


def _numbers(r: Replica) -> tuple[float, ...]:
    s, d = r.shape, r.device
    dense, expert = split(s)
    beside, wide, cache, unit = _kept(r)
    latent = is_latent(s)
    own = d.scaleup_bytes_per_second if r.accelerators <= d.scaleup_accelerators else d.scaleout_bytes_per_second
    link = r.link_bytes_per_second or own or LINK_WITHOUT_DOMAIN_BYTES
    return (
        s.layers,
        s.hidden,
        dense * beside,
        expert * wide,
        s.experts or 1,
        s.experts_active or 1,
        s.kv_bytes_per_token(cache),
        1 if latent else s.kv_heads,
        2 * (s.active_parameters - s.vocabulary * s.hidden),
        2 * expert * (s.experts_active or 1) / (s.experts or 1),
        s.ffn if s.is_mixture else 1,
        4 * s.layers * s.attention_ratio * s.heads * s.head,
        s.attended_tokens or math.inf,
        s.layers * INDEX_BYTES if s.attended_tokens else 0.0,
        d.flop_per_second(unit),
        d.bf16_flop_per_second,
        1.0 if unit in ("fp8", "int8") else 0.0,
        1.0 if unit == "fp4" else 0.0,
        d.memory_bytes_per_second,
        link,
        d.memory_bytes,
        r.accelerators,
        r.data,
        1.0 if r.expert > 1 else 0.0,
        1.0 if d.fp4_flop_per_second else 0.0,
        1.0 if s.is_mixture else 0.0,
        1.0 if latent else 0.0,
        BACKENDS.index(r.backend),
        max(r.sequences, 1.0),
        r.input_tokens,
        r.output_tokens,
    )


def is_latent(network: Shape) -> bool:
    """Return whether the cache keeps a compressed form of keys and values that cannot be cut by heads."""
    return network.kv_bytes_ratio < 0.5 * network.attention_ratio


def split(network: Shape) -> tuple[float, float]:
    """Return the weights every token reads (without the embedding table) and those of all routed experts.

    Source: total = dense + experts and active = dense + experts * experts_active / experts, solved for both.

    >>> [round(each / 1e9) for each in split(shape("DeepSeek-V3"))]
    [13, 657]
    """
    table = network.vocabulary * network.hidden
    if not network.is_mixture:
        return max(network.parameters - table, 0.5 * network.parameters), 0.0
    routed = (network.parameters - network.active_parameters) / (1 - network.experts_active / network.experts)
    dense = network.parameters - routed - table
    return max(dense, 0.1 * network.active_parameters), routed


def named(name: str) -> tuple[Shape, bool]:
    """Return the network of a published name and whether it was only guessed from the sizes in the name.

    Raises:
        NotFound: neither the catalogue has it nor does the name tell a size.
    """
    for each in _spellings(name):
        try:
            return shape(each), False
        except NotFound:
            continue
    return guess(name), True


def _spellings(name: str) -> list[str]:
    bare = name.rsplit("/", 1)[-1]
    plain = ADDED.sub("", bare)
    return [name, bare, plain, plain.replace("Meta-", ""), ADDED.sub("", VERSION.sub("", bare))]


def guess(name: str) -> Shape:
    """Return a network with the sizes that the name tells and the proportions of the nearest one in the catalogue.

    >>> (guess("Some-400B-A20B").active_parameters, guess("Some-30B").is_mixture)
    (20000000000.0, False)

    Raises:
        NotFound: the name tells no size.
    """
    total = re.search(r"(?i)(?<![a-z0-9.])(\d+(?:\.\d+)?)b(?![a-z])", name)
    if total is None:
        raise NotFound(f"there is no model '{name}' in the catalogue", hint="Give it a row, or a size such as -32B.")
    active = re.search(r"(?i)(?<![a-z0-9])a(\d+(?:\.\d+)?)b(?![a-z])", name)
    size = float(total.group(1)) * 1e9
    used = float(active.group(1)) * 1e9 if active else size
    alike = [each for each in shapes().values() if each.is_mixture == (active is not None) and each.layers]
    near = min(alike, key=lambda each: abs(np.log(each.active_parameters / used)) + abs(np.log(each.parameters / size)))
    return replace(near, name=name, parameters=size, active_parameters=used, source="guessed from the name")
