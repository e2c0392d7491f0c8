"""Writes the reference from the code: run it after a change of a configuration, a verb or an error.

    uv run python docs/reference/generate.py

A test fails while what is written differs from what the code says.
"""

from __future__ import annotations

import inspect
import re
import types
import typing
from pathlib import Path

import typer.main
from pydantic import AfterValidator, BaseModel
from pydantic_core import PydanticUndefined

from bessemer.cli.app import app
from bessemer.core import errors
from bessemer.infer.echo import EchoEngine
from bessemer.infer.openvino import CAN
from bessemer.infer.upstream import UpstreamEngine
from bessemer.infer.vectors import VectorEngine
from bessemer.products.config import FactoryConfig
from bessemer.serve import GatewayConfig
from bessemer.serve.accounts.usage_wire import UsageDesk
from bessemer.serve.accounts.wire import AdminDesk
from bessemer.serve.asking import Asked
from bessemer.serve.wire.completions import AskedText
from bessemer.serve.wire.embeddings import AskedVectors
from bessemer.serve.wire.events import AskedEvents
from bessemer.serve.wire.messages_asking import AskedCount, AskedMessages
from bessemer.serve.wire.ranking import AskedRank, AskedRanking
from bessemer.serve.wire.responses_asking import AskedResponse
from bessemer.serve.work.datasets_wire import AskedDataset, AskedPreview

HERE = Path(__file__).parent
MADE = "<!-- made by generate.py: change the code, not this page -->\n\n"


def pages() -> dict[str, str]:
    """Return file name -> text of every page of the reference."""
    return {
        "index.md": MADE + _index(),
        "factory.md": MADE + _factory(),
        "cli.md": MADE + _cli(),
        "errors.md": MADE + _errors(),
        "wire.md": MADE + _wire(),
    }


def _index() -> str:
    return (
        "# Reference\n\n"
        "- [factory.yaml](factory.md): every key with its type, default and meaning\n"
        "- [the command line](cli.md): every verb and option\n"
        "- [errors](errors.md): what is raised, and who must act\n"
        "- [the wire](wire.md): the gateway's endpoints, and which fields they take, refuse and ignore\n\n"
        "The same as JSON Schema: `bessemer schema`. The public names of each room are its package's `__all__`.\n"
    )


WIRE: dict[str, type[BaseModel]] = {
    "POST /v1/chat/completions": Asked,
    "POST /v1/completions": AskedText,
    "POST /v1/embeddings": AskedVectors,
    "POST /v1/recommendations": AskedRanking,
    "POST /v1/rank": AskedRank,
    "POST /v1/events": AskedEvents,
    "POST /v1/responses": AskedResponse,
    "POST /v1/messages": AskedMessages,
    "POST /v1/messages/count_tokens": AskedCount,
    "POST /v1/datasets": AskedDataset,
    "POST /v1/datasets/preview": AskedPreview,
}
WIRE_TEXT = """# The wire

OpenAI's endpoints, and Anthropic's messages, over one engine call: each request is one entry in the ledger, whatever
it asks for. Other fields than these are refused by name, so that a misspelt one is noticed. What a model's engine
cannot do is refused by name, too; `capabilities` in `GET /v1/models` says what each can:

| capability | fields | echo | openvino | upstream | vectors | ranker |
|---|---|---|---|---|---|---|
{capabilities}

- `n` answers, or several prompts, are read by the engine one by one, so the prompt's tokens are counted for each. With
  a `seed`, the answers after the first have the numbers after it.
- `tools` with the openvino engine: the model is told of them in its prompt and held by a grammar to calls or an
  answer, so a stream shows nothing before its end, and `logprobs` are refused: they would be those of the form.
  Schemas may have a `$ref`, but to themselves. Whether a small model calls the right tool is up to the model.
- `completions` with `echo` and `logprobs` says how likely each token of the prompt is (`max_tokens` 0: only that).
  The upstream engine asks its server to echo the prompt (vLLM does); where an answer does not have a likelihood for
  each token of the prompt it is refused.
- `logit_bias`, `top_logprobs` over 0 and, in `completions`, `logprobs` over 0 are answered by the openvino engine
  beside its batch: one alone about nine tenths as fast; of more, four take turns and share no step, so that together
  they are as fast as one. For the first, the model's weights are loaded a second time. They are refused together with
  `tools` and JSON answers, and draw other tokens from a `seed` than the batch does. Log-probabilities are the model's
  own, before bias, penalties and `temperature`, as in vLLM's `raw_logprobs`.
- `embeddings` need an engine that makes vectors: the vectors engine, which does nothing else (see the how-to page
  "Serve embeddings"). The openvino engine makes none and says so. The echo engine's are hashed words: for tests, of no
  use for search by meaning. The upstream engine forwards, one text at a time.
- `store` keeps an answer for its project until it is deleted, or pushed out by newer ones (10,000 of each kind); it is
  false unless asked for, in `responses`, too (OpenAI's is true there). What is stored is read, listed and deleted
  under `/v1/chat/completions` and `/v1/responses`; its `usage` has tokens, but no energy.
- `recommendations` and `rank` need a ranker (see the how-to page "Recommend"). Each item delivered is a unit in the
  books. Events are on disk when they are acknowledged; an event with the `id` of an earlier one is the same event, and
  one without `time` is of this moment. `GET /v1/events?user=` lists a project's events, `DELETE /v1/events/USER`
  forgets one of its users, and what they were shown. `POST /v1/feedback` takes the `item` of a ranking that it is
  about. `GET /v1/experiments` and `GET /v1/experiments/NAME` tell which ranker wins by the users of the key's project:
  `winner` (`challenger`, `incumbent`, `undecided`, `mismatch`), `anytime` and `fixed` (intervals), `chance`, `arms`.
- Fine-tuning jobs, files and batches are on the how-to page "Fine-tune and batch". The last epochs of a job are models
  of their own (`…:ckpt-step-N`). `/v1/fine_tuning/checkpoints/…/permissions` and `/v1/fine_tuning/alpha/graders/…` are
  refused with 404, `unsupported_endpoint`, and what to do instead.
- `messages` takes keys as `x-api-key`, too, and tells errors in Anthropic's form. Its `stop_reason` is `end_turn` also
  where a stop sequence was met. `messages/count_tokens` says how many `input_tokens` a conversation has, by the model's
  own tokenizer and template: as many as its answer reports, those read from a cache included. Nothing is booked; it
  counts as a request of the key's limits. With the upstream engine its server counts (`/tokenize`, as vLLM has it);
  agents, and servers that do not, refuse.
- `GET /v1/energy` tells what the key's own project took: pages of buckets as the organization's usage (`start_time`,
  `end_time`, `bucket_width` 1m, 1h or 1d, `group_by` model or api_key_id, `models`, `api_key_ids`, `limit`, `page`;
  without `start_time` the latest ones). A result has `energy` (`joules`, `joules_low`, `joules_high`, and the weakest
  `class` in the sum), `grams_co2e`, tokens, `joules_per_1000_output_tokens`, `count` and `kind`: requests and steps
  (training) are told apart. `GET /v1/prices` and `GET /v1/invoices` are the project's, too.
- An error within a stream is an event: `data: {{"error": …}}`.

{tables}
## Administration

For administrators' keys only. Beyond OpenAI's: `POST …/api_keys` (with `models`, and `user_id` of a member) and
`POST …/users` of the organization, the rate limit `rl-*`, `pii` (`keep` or `mask`) of a project's `data_retention`, a
spend limit's `alert_percents`, and alerts that webhooks tell (`notification_channel: {{"type": "webhook"}}`; `email` is
refused, as no mail is sent). Usage of kinds that are not served here is told as empty buckets.

{administration}
"""


def _wire() -> str:
    rows = [
        ("chat", "chats, `responses`, `messages`"),
        ("logprobs", "`logprobs`"),
        ("top_logprobs", "`top_logprobs` over 0"),
        ("stop", "`stop`, `stop_sequences`"),
        ("seed", "`seed`"),
        ("penalties", "`frequency_penalty`, `presence_penalty`"),
        ("logit_bias", "`logit_bias`"),
        ("json_object", "`response_format`, `text.format`"),
        ("json_schema", "`response_format`, `text.format`"),
        ("tools", "`tools`, `tool_choice`, messages with calls"),
        ("prompt", "`POST /v1/completions`"),
        ("score", "`echo` with `logprobs`"),
        ("embed", "`POST /v1/embeddings`"),
        ("tokens", "`prompt` and `input` as tokens"),
        ("rank", "`POST /v1/recommendations`, `POST /v1/rank`"),
        ("learn", "`POST /v1/events` changes its rankings"),
        ("tries", "an experiment, or chance in the order, changes rankings of named users"),
    ]
    engines = (EchoEngine.capabilities, CAN | {"score"}, UpstreamEngine.capabilities, VectorEngine.capabilities)
    engines += (frozenset({"rank", "learn"}),)
    marks = [[name, fields, *("yes" if name in each else "" for each in engines)] for name, fields in rows]
    capabilities = "\n".join("| " + " | ".join(row) + " |" for row in marks)
    tables = "\n".join(f"## {path}\n\n{_fields(model)}" for path, model in WIRE.items())
    return WIRE_TEXT.format(capabilities=capabilities, tables=tables, administration=_administration())


def _administration() -> str:
    nobody: typing.Any = None  # of a desk that nobody asks only the paths are read
    paths: dict[str, list[str]] = {}
    for route in AdminDesk(GatewayConfig(), nobody, (), UsageDesk(nobody)).routes():
        paths.setdefault(route.path, []).extend(sorted((route.methods or set()) - {"HEAD"}))
    return "\n".join(f"- `{path}`: {', '.join(methods)}" for path, methods in paths.items())


def _fields(model: type[BaseModel]) -> str:
    """Return which fields of a body are taken, refused and ignored."""
    kinds: dict[str, list[str]] = {"taken": [], "refused": [], "ignored": []}
    for name, field in model.model_fields.items():
        validated = any(isinstance(each, AfterValidator) for each in field.metadata)
        kind = "taken" if field.annotation is not typing.Any else "refused" if validated else "ignored"
        kinds[kind].append(f"`{field.alias or name}`")
    said = {
        "taken": "Taken",
        "refused": "Refused, unless they ask for what happens anyway",
        "ignored": "Ignored, as they change no answer",
    }
    return "".join(f"- {said[kind]}: {', '.join(names)}\n" for kind, names in kinds.items() if names)


def _factory() -> str:
    done: dict[type[BaseModel], str] = {}
    _describe(FactoryConfig, "factory.yaml", done)
    return "# factory.yaml\n\n" + "\n".join(done.values())


def _describe(model: type[BaseModel], title: str, done: dict[type[BaseModel], str]) -> None:
    """Add a table for a model and for every model below it."""
    if model in done:
        return
    done[model] = ""
    said = _attributes(model)
    first = (inspect.getdoc(model) or "").split("\n\n")[0].replace("\n", " ")
    rows = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        rows.append(f"| `{name}` | {_type(field.annotation)} | {_default(field)} | {said.get(name, '')} |")
    done[model] = f"## {title}\n\n{first}\n\n" + "\n".join(rows) + "\n"
    for name, field in model.model_fields.items():
        for below in _models(field.annotation):
            path = name if title == "factory.yaml" else f"{title}.{name}"
            kind = below.model_fields.get("kind")
            _describe(below, path + (f" (kind: {kind.default})" if kind else ""), done)


def _attributes(model: type[BaseModel]) -> dict[str, str]:
    """Return what the docstring says of each field."""
    doc = inspect.getdoc(model) or ""
    block = doc.partition("Attributes:\n")[2].split("\n\n")[0]
    entries = re.findall(r"^    (\w+): (.*(?:\n        .*)*)", block, re.MULTILINE)
    return {name: re.sub(r"\s+", " ", text).replace("``", "`").replace("|", "\\|") for name, text in entries}


def _models(annotation: object) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in typing.get_args(annotation) for model in _models(part)]


def _type(annotation: object) -> str:
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _type(parts[0])
    if origin is typing.Literal:
        return " or ".join(f"`{part}`" for part in parts)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(_type(part) for part in parts))
    if origin is tuple:
        return f"list of {_type(parts[0])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    return {str: "text", int: "whole number", float: "number", bool: "true or false", type(None): "nothing"}.get(
        annotation, getattr(annotation, "__name__", "value")
    )


def _default(field: typing.Any) -> str:
    value = field.default
    if value is PydanticUndefined:
        return "(required)"
    if isinstance(value, BaseModel):
        return "below"
    if isinstance(value, tuple):
        return ", ".join(f"`{_short(part)}`" if isinstance(part, BaseModel) else f"`{part}`" for part in value)
    return f"`{value!r}`".replace("'", "") if value != "" else "empty"


def _short(part: typing.Any) -> str:
    """Return one of several: its kind, and what a rule is about."""
    return f"{part.kind}: {part.metric}" if hasattr(part, "metric") else str(part.kind)


def _cli() -> str:
    group = typer.main.get_command(app)
    parts = ["# The command line\n\nEvery verb has `--json`: one JSON value on standard output instead of words.\n"]
    parts += [_verb(f"bessemer {name}", command) for name, command in sorted(_verbs(group).items())]
    return "\n".join(parts)


def _verbs(group: typing.Any, before: str = "") -> dict[str, typing.Any]:
    found: dict[str, typing.Any] = {}
    for name, command in group.commands.items():
        found |= _verbs(command, f"{before}{name} ") if hasattr(command, "commands") else {before + name: command}
    return found


def _verb(title: str, command: typing.Any) -> str:
    lines = [f"## {title}\n", (command.help or "").strip() + "\n"]
    for parameter in command.params:
        if parameter.name == "as_json":
            continue
        name = ", ".join(parameter.opts) if parameter.param_type_name == "option" else (parameter.name or "").upper()
        said = getattr(parameter, "help", "") or ""
        lines.append(f"- `{name}`: {said}")
    return "\n".join(lines) + "\n"


def _errors() -> str:
    kinds = [errors.BessemerError, *errors.BessemerError.__subclasses__()]
    rows = [f"| `{kind.__name__}` | `{kind.code}` | {(inspect.getdoc(kind) or '').splitlines()[0]} |" for kind in kinds]
    return (
        "# Errors\n\nEvery error has a `code` for programs, a message, and a `hint` that says what to do.\n\n"
        "| class | code | means |\n|---|---|---|\n" + "\n".join(rows) + "\n\n"
        "Exit statuses of the command line: 0 done; 1 something is wrong; 2 the command line is wrong; "
        "3 the gate did not let the model through; 130 interrupted.\n"
    )


if __name__ == "__main__":
    for page, text in pages().items():
        (HERE / page).write_text(text, encoding="utf-8")
