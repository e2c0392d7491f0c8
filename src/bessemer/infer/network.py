"""Builds the network that the engine runs, with its weights in few bits.

Owns the rounding of weights and its pattern in the graph (integer constant, minus offset, times scale), which the
device's kernels know. Knows no architecture: the graph comes from OpenVINO GenAI's GGUF reader.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bessemer.infer.config import CompileConfig
from bessemer.infer.runtime import genai, openvino, ops

SMALLEST = 1 << 16
"""Matrices with fewer weights keep their 16 bits: they weigh nothing."""


def build_network(gguf_file: Path, out: Path, config: CompileConfig) -> None:
    """Write `openvino_model.xml` and its weights for a GGUF file of 16 bits.

    Args:
        gguf_file: in a folder that may be written; the reader leaves its result beside it.
        out: folder with the compiled tokenizer.
        config: how the weights are kept.
    """
    genai.LLMPipeline(gguf_file, genai.Tokenizer(out), "CPU", enable_save_ov_model=True)
    model = openvino.Core().read_model(gguf_file.parent / "openvino_model.xml")
    if config.weights != "fp16":
        for constant in _matrices(model):
            _compress(constant, config)
    openvino.save_model(model, out / "openvino_model.xml", compress_to_fp16=False)


def _matrices(model: Any) -> list[Any]:
    return [
        node
        for node in model.get_ops()
        if node.get_type_name() == "Constant"
        and node.get_element_type() == openvino.Type.f16
        and len(node.shape) == 2
        and node.shape[0] * node.shape[1] >= SMALLEST
    ]


def _compress(constant: Any, config: CompileConfig) -> None:
    """Replace a matrix by integers with offsets and scales; those who used it see the product."""
    weights = constant.data.astype(np.float32)
    rows, columns = weights.shape
    readers = [port.get_node() for port in constant.output(0).get_target_inputs()]
    embeds = any(
        port.get_node().get_type_name() == "Gather"
        for reader in readers
        for port in reader.output(0).get_target_inputs()
    )
    bits, group = (8, columns) if config.weights == "int8" or embeds else (4, config.group_size)
    while columns % group:
        group //= 2
    whole = group == columns
    integers, offsets, scales = round_to_bits(weights.reshape(rows, -1, group), bits)
    if whole:
        integers, offsets, scales = integers[:, 0], offsets[:, 0], scales[:, 0]
    kind = openvino.Type.u8 if bits == 8 else openvino.Type.u4
    value = ops.convert(ops.constant(integers, dtype=kind), "f16")
    value = ops.subtract(value, ops.convert(ops.constant(offsets, dtype=kind), "f16"))
    value = ops.multiply(value, ops.constant(scales))
    if not whole:
        value = ops.reshape(value, ops.constant(np.array([rows, columns])), special_zero=False)
    for reader in readers:
        reader.input(0).replace_source_output(value.output(0))


def round_to_bits(
    weights: NDArray[np.float32], bits: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.float16]]:
    """Return integers, offsets and scales with weights ~ (integers - offsets) * scales, along the last axis.

    Asymmetric rounding: the range of each group, zero included, is spread over all integers.
    Source: Jacob et al. 2018 (arXiv 1712.05877), section 2.1.

    Args:
        weights: shape (..., group).
        bits: 8 or 4.
    """
    low = np.minimum(weights.min(-1, keepdims=True), 0)
    high = np.maximum(weights.max(-1, keepdims=True), 0)
    top = 2**bits - 1
    scales = ((high - low) / top).astype(np.float16)
    scales[scales == 0] = np.float16(2**-14)  # all weights are (nearly) zero: they round to the offset
    steps = scales.astype(np.float32)
    offsets = np.clip(np.rint(-low / steps), 0, top)
    integers = np.clip(np.rint(weights / steps) + offsets, 0, top)
    return integers.astype(np.uint8), offsets.astype(np.uint8), scales
