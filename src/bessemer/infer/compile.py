"""From a Hugging Face folder to a folder that the embedded engine opens: network, weights, tokenizer, checked.

    safetensors -> GGUF (16 bits) -> OpenVINO GenAI's reader builds the network -> weights to 8 or 4 bits -> IR
    tokenizer   -> openvino_tokenizers -> IR, compared with the original on text and on a rendered chat

The way over GGUF was chosen because the reader that builds the network is the engine's own, so that its paged
attention is found in it, and needs no torch. Owns the order of these and the check. Importing this is light.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bessemer.core.errors import IntegrityError, MissingDependency, NotFound, Unsupported
from bessemer.core.nouns import Noun
from bessemer.infer.config import CompileConfig

NEEDED = {"openvino_genai": "infer", "openvino_tokenizers": "infer", "gguf": "train", "transformers": "train"}

PROBES = (
    "def f(x: int = 10_000) -> str:\n\treturn f'{x!r}'  # naïve café, 你好, 🙂",
    "  It's 3.14159 o'clock…   don't\n\n\nWE'LL see <b>tags</b> & https://example.org/a?b=c  ",
)

DEFAULT = CompileConfig()


class CompileReport(Noun):
    """What was compiled.

    Attributes:
        kind: the engine that opens it.
        weights: as configured.
        bytes: of all its files.
        seconds: what it took.
        parameters: numbers in the weights, shared ones counted once.
    """

    kind: str = "openvino"
    weights: str
    bytes: int
    seconds: float
    parameters: int


def compile_model(
    model_dir: Path,
    out: Path,
    config: CompileConfig = DEFAULT,
    clock: Callable[[], float] = time.perf_counter,
) -> CompileReport:
    """Return the report of compiling a model; `out` is a folder for `OpenVinoConfig.path` then.

    Args:
        model_dir: Hugging Face folder: config.json, safetensors, tokenizer.
        out: folder to write; made if it does not exist.
        config: how.
        clock: for the report, in seconds.

    Raises:
        NotFound: the folder is no model.
        Unsupported: the architecture, its weights or its tokenizer cannot be compiled.
        MissingDependency: a package is not installed.
    """
    for package, extra in NEEDED.items():
        if importlib.util.find_spec(package) is None:
            raise MissingDependency(package.replace("_", "-"), extra=extra)
    if not (model_dir / "config.json").is_file():
        raise NotFound(f"there is no config.json in {model_dir}", hint="Name a Hugging Face model folder.")
    from bessemer.infer.llama import read_shape, write_gguf
    from bessemer.infer.network import build_network

    started = clock()
    shape = read_shape(model_dir)
    out.mkdir(parents=True, exist_ok=True)
    _compile_tokenizer(model_dir, out)
    with tempfile.TemporaryDirectory(dir=out) as scratch:
        parameters = write_gguf(model_dir, shape, Path(scratch) / "model.gguf")
        build_network(Path(scratch) / "model.gguf", out, config)
    return CompileReport(
        weights=config.weights,
        bytes=sum(file.stat().st_size for file in out.iterdir()),
        seconds=clock() - started,
        parameters=parameters,
    )


def _compile_tokenizer(model_dir: Path, out: Path) -> None:
    """Write the tokenizer with its chat template and the model's small files, and check them."""
    from bessemer.infer.runtime import openvino  # before openvino_tokenizers, which imports OpenVINO itself
    from bessemer.models.quiet import quiet_transformers

    from openvino_tokenizers import convert_tokenizer  # isort: skip
    from transformers import AutoTokenizer  # isort: skip

    with quiet_transformers():
        original: Any = AutoTokenizer.from_pretrained(model_dir, local_files_only=True)
        tokenizer, detokenizer = convert_tokenizer(original, with_detokenizer=True)
    openvino.save_model(tokenizer, out / "openvino_tokenizer.xml")
    openvino.save_model(detokenizer, out / "openvino_detokenizer.xml")
    if not original.chat_template:
        raise Unsupported(
            "the model's tokenizer has no chat template", hint="Compile an instruction-tuned model, or add a template."
        )
    settings = json.loads((model_dir / "tokenizer_config.json").read_text(encoding="utf-8"))
    settings["chat_template"] = original.chat_template
    (out / "tokenizer_config.json").write_text(json.dumps(settings, indent=1), encoding="utf-8")
    for name in ("config.json", "generation_config.json"):
        if (model_dir / name).is_file():
            shutil.copyfile(model_dir / name, out / name)
    _check_tokenizer(original, out)


def _check_tokenizer(original: Any, out: Path) -> None:
    """Raise if the compiled tokenizer spells a probe or renders a chat otherwise than the original does."""
    from bessemer.infer.rendering import rendered
    from bessemer.infer.runtime import genai

    compiled = genai.Tokenizer(out)
    turns = zip(("system", "user", "assistant", "user"), (*PROBES, *PROBES), strict=True)
    chat = [{"role": role, "content": text} for role, text in turns]
    histories = [chat, chat[1:], chat[1:2]]
    if "tool" not in original.chat_template:  # one that knows tools may want their calls in forms of its own
        histories.append([*chat[1:3], {"role": "tool", "content": PROBES[0]}])
    for history in histories:
        ours = rendered(compiled, history)
        theirs = original.apply_chat_template(history, add_generation_prompt=True, tokenize=False)
        if ours != theirs:
            raise Unsupported(f"the chat template renders differently once compiled: {ours!r} is not {theirs!r}")
        ids = compiled.encode(ours, add_special_tokens=False).input_ids.data[0].tolist()
        if ids != original(theirs, add_special_tokens=False)["input_ids"]:
            raise Unsupported("the tokenizer gives other tokens once compiled")
        if compiled.decode(ids, skip_special_tokens=False) != original.decode(ids):
            raise IntegrityError("the tokenizer gives other text once compiled")
