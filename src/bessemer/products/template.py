"""The factory that `bessemer init` writes: commented, for a person's own folder of files."""

from __future__ import annotations

import re
from pathlib import Path

from bessemer.core.errors import Conflict
from bessemer.products.home import write_whole

_TEMPLATE = """\
# {name}: what is in ./documents becomes an assistant that answers questions about it.
# Put files there (Markdown, HTML, reStructuredText, plain text, JSONL, Parquet), then:
#   bessemer run {file}     documents in, a gated model and a receipt out
#   bessemer up {file}      the same, then serve it on OpenAI's wire
# Every key that is not given has a default; `bessemer schema` prints them all.

name: {name}
size: small # the one dial: tiny (seconds, to try the line) | small (minutes) | medium (longer, better)

sources:
  - kind: folder
    path: documents # relative to this file
    # include: ["**/*.md", "**/*.html"]
    # exclude: ["drafts/**"]

# curate:               # what is dropped; every dropped document keeps its reason: bessemer documents --dropped
#   min_characters: 40

product:
  kind: llm
  base: smollm2-135m-instruct # or a Hugging Face folder, a GGUF file, a hub name
  gate:
    rules: # the new model is served only if all of these hold on documents it never saw
      - kind: better_than
        metric: token_f1
        than: base
      # - kind: no_worse
      #   metric: bits_per_byte
      #   than: base
      #   tolerance: 0.02
      # - kind: at_least
      #   metric: token_f1
      #   value: 0.4
  # engine: # `bessemer up` then trains nothing and serves that server's model; more in docs/howto/upstream.md
  #   kind: upstream
  #   base_url: http://127.0.0.1:8080/v1
  #   model: default

# gateway:
#   port: 8000

# meter:
#   region: world       # whose electricity: bessemer books its carbon
"""


def write_template(folder: Path) -> Path:
    """Write a factory and an empty folder for documents; return the factory's path.

    Raises:
        Conflict: there is a factory already.
    """
    path = folder / "factory.yaml"
    if path.exists():
        raise Conflict(f"{path} exists already", hint="Name another folder, or edit that file.")
    name = re.sub(r"[^a-z0-9]+", "-", folder.absolute().name.lower()).strip("-")[:40]
    name = name if name[:1].isalpha() else f"factory-{name}"[:40].rstrip("-")
    (folder / "documents").mkdir(parents=True, exist_ok=True)
    write_whole(path, _TEMPLATE.format(name=name, file=path))
    return path
