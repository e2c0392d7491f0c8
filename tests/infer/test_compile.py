"""Compiling: the compiled network computes what the original computes; what cannot be compiled says so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from bessemer.core.errors import BessemerError, NotFound, Unsupported
from bessemer.core.nouns import ScoreRequest
from bessemer.infer import CompileConfig, OpenVinoConfig, compile_model, open_engine
from bessemer.infer.llama import read_weights
from bessemer.infer.network import round_to_bits

TEXT = "Rivers begin at a source and end at a mouth, where they meet a lake, a sea or another river: 你好 🙂."


def likelihood(folder: Path, text: str) -> float:
    """Return the sum of natural-log probabilities of a text's tokens after the first, by Transformers in 32 bits."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids = torch.tensor([AutoTokenizer.from_pretrained(folder)(text)["input_ids"]])
    with torch.no_grad():
        chosen = torch.log_softmax(model(ids).logits[0, :-1].double(), -1).gather(1, ids[0, 1:, None])
    return float(chosen.sum())


# Random weights are far harder to round than trained ones, so that these only catch a wrong network.
@pytest.mark.parametrize(("weights", "tolerance"), [("fp16", 0.01), ("int8", 0.03), ("int4", 0.3)])
async def test_the_compiled_network_is_the_original(
    tiny_llama: Path, tmp_path: Path, weights: str, tolerance: float
) -> None:
    report = compile_model(tiny_llama, tmp_path / "out", CompileConfig.model_validate({"weights": weights}))
    assert report.bytes == sum(file.stat().st_size for file in (tmp_path / "out").iterdir())
    assert report.parameters == sum(weight.size for _, weight in read_weights(tiny_llama))
    engine = open_engine(OpenVinoConfig(path=str(tmp_path / "out"), kv_cache_bytes=1 << 24))
    try:
        result = await engine.respond(ScoreRequest(text=TEXT))  # type: ignore[arg-type]
    finally:
        await engine.close()
    assert result.logprob_sum == pytest.approx(likelihood(tiny_llama, TEXT), rel=tolerance)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"architectures": ["GPT2LMHeadModel"]}, "GPT2LMHeadModel"),
        ({"attention_bias": True}, "biases"),
        ({"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4}}, "rotary scaling"),
        ({"head_dim": 96}, "heads"),
        ({"hidden_act": "gelu"}, "gelu"),
    ],
)
def test_what_the_reader_cannot_build_is_refused(
    tiny_llama: Path, tmp_path: Path, change_config: Callable[..., None], change: dict[str, object], word: str
) -> None:
    change_config(tiny_llama, **change)
    with pytest.raises(Unsupported, match=word) as caught:
        compile_model(tiny_llama, tmp_path / "out")
    assert "upstream" in caught.value.hint
    assert not (tmp_path / "out").exists()


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"config\.json"):
        compile_model(tmp_path, tmp_path / "out")


def test_a_model_without_weights_is_named(tiny_llama: Path, tmp_path: Path) -> None:
    (tiny_llama / "model.safetensors").unlink()
    with pytest.raises(NotFound, match="safetensors"):
        compile_model(tiny_llama, tmp_path / "out")


def test_a_model_that_training_broke_is_refused(tiny_llama: Path, tmp_path: Path) -> None:
    raw = bytearray((tiny_llama / "model.safetensors").read_bytes())
    raw[-4:] = np.float32(np.nan).tobytes()
    (tiny_llama / "model.safetensors").write_bytes(raw)
    with pytest.raises(BessemerError, match="does not fit"):
        compile_model(tiny_llama, tmp_path / "out")


def test_weights_are_read_as_they_were_saved(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    original = {
        "a": torch.randn(3, 5),
        "b": torch.randn(4).to(torch.bfloat16),
        "c": torch.randn(2, 2).to(torch.float16),
    }
    save_file(original, tmp_path / "model.safetensors", metadata={"format": "pt"})
    read = dict(read_weights(tmp_path))
    for name, weight in original.items():
        assert np.array_equal(read[name], weight.float().numpy())


GROUPS = arrays.arrays(np.float32, (3, 16), elements=st.floats(-100, 100, width=32))


@given(GROUPS, st.sampled_from([4, 8]))
def test_rounding_errs_by_a_step_at_most(weights: np.ndarray, bits: int) -> None:
    integers, offsets, scales = round_to_bits(weights, bits)
    back = (integers.astype(np.float32) - offsets) * scales.astype(np.float32)
    assert integers.max() < 2**bits
    # Half a step for the value, half for the offset, and what 16 bits lose of the scale over the range.
    slack = scales.astype(np.float32) * (1 + 2**bits * 2.0**-10)
    assert (np.abs(back - weights) <= slack).all()
    assert (back[weights == 0] == 0).all()
