"""A tiny random model, documents and a checkpoint folder: everything that training needs, in seconds."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from bessemer.core.nouns import Document
from bessemer.core.protocols import Checkpoints
from bessemer.models.card import describe_folder, write_card
from bessemer.train import PairsConfig, build_examples

TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def make_base(out: Path) -> Path:
    """Write a two-layer Llama with random weights and a byte-level tokenizer, as an imported base looks."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|end|>", "<|user|>", "<|system|>", "<|assistant|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator([], trainers.BpeTrainer(special_tokens=special, initial_alphabet=alphabet))
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<|end|>")
    fast.chat_template = TEMPLATE
    fast.save_pretrained(out)
    torch.manual_seed(7)
    shape = LlamaConfig(
        vocab_size=len(fast),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        eos_token_id=0,
    )
    LlamaForCausalLM(shape).to(torch.float16).save_pretrained(out)
    write_card(out, describe_folder(out, name="tiny", source="test", licence="Apache-2.0"))
    return out


def python_document(module: str, name: str, signature: str, summary: str, kind: str = "function") -> Document:
    """Return a document as the reader of Python documentation makes them."""
    full = f"{module}.{name}" if name else module
    called = f"{module}.{signature}" if signature else ""
    facts = {"kind": kind, "name": full, "module": module, "signature": called, "summary": summary}
    text = f"{called or full}\n\n{summary}\n\nAbout {name or module} there is more to say: enough for a passage."
    group = module.partition(".")[0]
    return Document(id=f"id-{full}", source=f"{module}.py", title=full, text=text, group=group, meta=facts)


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="session")
def documents() -> list[Document]:
    """Twelve modules of four names each."""
    made = []
    for m in range(12):
        module = f"mod{m}"
        made.append(python_document(module, "", "", f"Tools for the {m}th kind of tea.", "module"))
        for n, (name, signature) in enumerate(
            [("brew", "brew(leaf, minutes=3)"), ("pour", "pour(cup, *, slow=True)"), ("Pot", "Pot(size=2)")]
        ):
            kind = "class" if name == "Pot" else "function"
            made.append(python_document(module, name, signature, f"Make number {n} of module {m} happen now.", kind))
    return made


@pytest.fixture(scope="session")
def examples(documents: list[Document]) -> list:
    return list(build_examples(documents, PairsConfig(train_questions=24, train_passages=8, context_characters=200)))


@pytest.fixture(scope="session")
def trainee() -> ModuleType:
    """The script that a child process trains with; it also owns the checkpoint folder of these tests."""
    spec = importlib.util.spec_from_file_location("trainee", Path(__file__).with_name("trainee.py"))
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def checkpoints(tmp_path: Path, trainee: ModuleType) -> Checkpoints:
    found: Checkpoints = trainee.FolderCheckpoints(tmp_path / "checkpoints")
    return found
