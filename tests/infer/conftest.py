"""A Llama so small that compiling it takes a second, with a tokenizer trained on the spot."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bessemer.infer import OpenVinoConfig, compile_model, open_engine

TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

TEXT = (
    "A river is a large, flowing stream of water. Rivers begin at a source and end at a mouth, where they meet a lake, "
    "a sea or another river. The land that a river drains is its basin. Bridges cross rivers, and towns grew by them."
)


def make_llama(folder: Path, text: str = TEXT, **changes: Any) -> Any:
    """Write a random Llama as a Hugging Face folder, whose tokenizer learnt from a text; return the torch model."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator([text], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|im_end|>", pad_token="<|im_end|>")
    tokenizer.chat_template = TEMPLATE
    shape = {
        "vocab_size": len(tokenizer),
        "hidden_size": 256,
        "intermediate_size": 512,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "tie_word_embeddings": False,
        "initializer_range": 0.2,
    }
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**(shape | changes), eos_token_id=tokenizer.eos_token_id)).eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model


@pytest.fixture(scope="session")
def make_tiny() -> Callable[..., Any]:
    """Give what writes a tiny random Llama into a folder."""
    return make_llama


@pytest.fixture
def tiny_llama(tmp_path: Path) -> Path:
    """Give the folder of a tiny random Llama."""
    make_llama(tmp_path / "tiny")
    return tmp_path / "tiny"


@pytest.fixture
def change_config() -> Any:
    """Give what changes keys of a folder's config.json."""

    def change(folder: Path, **changes: Any) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory, make_tiny: Callable[[Path], Any]) -> Path:
    """Give the folder of a compiled model."""
    folder = tmp_path_factory.mktemp("tiny")
    make_tiny(folder / "base")
    compile_model(folder / "base", folder / "engine")
    return folder / "engine"


@pytest.fixture(scope="module")
def engine(tiny: Path) -> Iterator[Any]:
    """Give an engine that has it loaded."""
    opened = open_engine(OpenVinoConfig(path=str(tiny), kv_cache_bytes=1 << 24, step_tokens=64))
    yield opened
    asyncio.run(opened.close())
