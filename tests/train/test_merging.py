"""The merged model is the base plus its adapter, as a plain folder."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from bessemer.core.errors import BackendError
from bessemer.core.nouns import Example
from bessemer.core.protocols import Checkpoints
from bessemer.models import read_card
from bessemer.train import SftConfig, fine_tune, merge
from bessemer.train.network import Network

CONFIG = SftConfig(rank=4, alpha=8, max_tokens=6000, learning_rate=1e-2, precision="fp32", threads=1)


def test_merged_weights_answer_like_base_and_adapter(
    tiny_base: Path, examples: list[Example], tmp_path: Path, checkpoints: Checkpoints
) -> None:
    adapter, merged, again = tmp_path / "adapter", tmp_path / "merged", tmp_path / "again"
    fine_tune(tiny_base, examples, adapter, CONFIG, checkpoints)
    card = merge(tiny_base, adapter, merged, name="tea")
    assert merge(tiny_base, adapter, again, name="tea") == card == read_card(merged)
    parent = read_card(tiny_base)
    assert (card.name, card.dtype, card.parameters) == ("tea", "float16", parent.parameters)
    assert card.parent_sha256 == parent.weights_sha256 != card.weights_sha256
    assert {file.name for file in tiny_base.iterdir()} == {file.name for file in merged.iterdir()}

    tokenizer = AutoTokenizer.from_pretrained(merged)
    assert tokenizer.chat_template == AutoTokenizer.from_pretrained(tiny_base).chat_template
    network = Network(tiny_base, CONFIG, torch.device("cpu"))
    from safetensors.torch import load_file

    network.set_adapter(load_file(adapter / "adapter_model.safetensors"))
    tokens = torch.tensor([tokenizer("mod1.brew(leaf)")["input_ids"]])
    with torch.no_grad():
        expected = network._model(input_ids=tokens).logits
        found = AutoModelForCausalLM.from_pretrained(merged, dtype=torch.float32)(input_ids=tokens).logits
        base = AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32)(input_ids=tokens).logits
    assert torch.allclose(found, expected, atol=2e-2)
    assert not torch.allclose(found, base, atol=5e-2)


def test_an_adapter_that_does_not_fit(tiny_base: Path, tmp_path: Path) -> None:
    with pytest.raises(BackendError) as caught:
        merge(tiny_base, tmp_path, tmp_path / "out")
    assert caught.value.hint
