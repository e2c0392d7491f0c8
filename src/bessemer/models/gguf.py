"""GGUF files: reads their scalar facts, and turns one into a plain Hugging Face folder.

Owns the header's layout and what Transformers' own importer leaves to be mended. Knows no model by name.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from bessemer.core.errors import BackendError, MissingDependency
from bessemer.models.quiet import quiet_transformers

Fact = str | int | float | bool

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9


def read_facts(path: Path) -> dict[str, Fact]:
    """Return the scalar metadata of a GGUF file; arrays (vocabulary, merges) are skipped.

    Source: the GGUF specification, versions 2 and 3: magic, version, counts, then key, type, value.

    Raises:
        BackendError: it is no GGUF file, or a truncated one.
    """
    facts: dict[str, Fact] = {}
    try:
        with path.open("rb") as file:
            magic, version, _, count = struct.unpack("<4sIQQ", file.read(24))
            if magic != b"GGUF" or version not in (2, 3):
                raise ValueError(f"magic {magic!r}, version {version}")
            for _ in range(count):
                key, kind = _string(file), _scalar(file, "I")
                if kind == _ARRAY:
                    _skip_array(file)
                else:
                    facts[key] = _string(file) if kind == _STRING else _scalar(file, _SCALARS[kind])
    except (struct.error, KeyError, ValueError, OSError) as error:
        raise BackendError(f"{path.name} is not a GGUF file: {error}", hint="Download or install it again.") from error
    return facts


def import_gguf(path: Path, out: Path) -> None:
    """Dequantise a GGUF language model into `out`: float16 safetensors, config, tokenizer with chat template.

    The block scales of GGUF are float16 themselves, so its 11 bits hold the values that 8 bits of bfloat16 would
    round, at half the bytes of float32.

    Raises:
        MissingDependency: torch, Transformers or gguf is not installed.
        BackendError: Transformers cannot read this architecture, or the file is damaged.
    """
    try:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    except ModuleNotFoundError as error:
        raise MissingDependency(str(error.name), extra="train") from error
    facts = read_facts(path)
    try:
        with quiet_transformers(), _one_reader():
            tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
            _mend_tokenizer(tokenizer, str(facts.get("tokenizer.ggml.pre", "")))
            model = AutoModelForCausalLM.from_pretrained(
                path.parent,
                gguf_file=path.name,
                quantization_config=GgufConfig(dequantize=True),
                dtype=torch.float16,
            )
            _forget_quantisation(model)
            model.save_pretrained(out)
            tokenizer.save_pretrained(out)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise BackendError(
            f"{path.name} cannot be read as a model: {error}", hint="Is it a complete GGUF file of a language model?"
        ) from error


def _string(file: BinaryIO) -> str:
    return file.read(_scalar(file, "Q")).decode("utf-8", errors="replace")


def _scalar(file: BinaryIO, form: str) -> Any:
    return struct.unpack(f"<{form}", file.read(struct.calcsize(f"<{form}")))[0]


def _skip_array(file: BinaryIO) -> None:
    kind, count = _scalar(file, "I"), _scalar(file, "Q")
    if kind in _SCALARS:
        file.seek(count * struct.calcsize(f"<{_SCALARS[kind]}"), 1)
        return
    for _ in range(count):
        if kind == _STRING:
            file.seek(_scalar(file, "Q"), 1)
        else:
            _skip_array(file)


@contextlib.contextmanager
def _one_reader() -> Iterator[None]:
    """Let Transformers parse each GGUF file once: it opens it five times, 4 s each for the vocabulary alone."""
    gguf: Any = importlib.import_module("gguf")
    original = gguf.GGUFReader
    gguf.GGUFReader = functools.cache(original)
    try:
        yield
    finally:
        gguf.GGUFReader = original


def _mend_tokenizer(tokenizer: Any, split: str) -> None:
    """Split text before the merges as the model was trained to: Transformers ignores ``tokenizer.ggml.pre``.

    Source: llama.cpp, `LLAMA_VOCAB_PRE_TYPE_SMOLLM`: every digit stands alone, then GPT-2's pattern. Without it, the
    spaces before a number become other tokens than in training.
    """
    if split != "smollm":
        return
    from tokenizers import pre_tokenizers

    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )


def _forget_quantisation(model: Any) -> None:
    """Make a dequantised model a plain one: what Transformers remembers of the GGUF makes it refuse to save."""
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
