"""Every call of the official client's is answered here, or stands below with why not: a new client shows as a failure.

The client's source says which methods ask which paths; the gateway's routes are those of the test of isolation, which
itself fails if it misses one. What a list can be asked for is held to what a route looks for while it answers.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import openai
import pytest
from pydantic import BaseModel
from starlette.datastructures import QueryParams
from starlette.requests import HTTPConnection

from bessemer.serve.accounts import wire
from bessemer.serve.accounts.calls import Call
from bessemer.serve.accounts.usage_wire import NOT_HERE as UNUSED
from bessemer.serve.asking import Asked, AskedFunction
from bessemer.serve.wire.completions import AskedText
from bessemer.serve.wire.embeddings import AskedVectors
from bessemer.serve.wire.messages_asking import AskedAnthropicTool, AskedCount, AskedMessages, Block
from bessemer.serve.wire.responses_asking import AskedFlatTool, AskedResponse
from bessemer.serve.work.batches_wire import AskedBatch
from bessemer.serve.work.tuning_wire import AskedJob
from tests.products.test_isolation import CASES, Ask, House, house

__all__ = ["house"]
RESOURCES = Path(openai.__file__).parent / "resources"
VERBS = {"_get": "GET", "_get_api_list": "GET", "_post": "POST", "_delete": "DELETE", "_put": "PUT", "_patch": "PATCH"}

NOT_HERE = {
    "audio": "no model here speaks or listens",
    "containers": "no code is run",
    "content_provenance_checks": "no pictures are made",
    "conversations": "a conversation is continued by previous_response_id, or by the client's own list of messages",
    "decisions": "no such model",
    "evals": "OpenAI ends that API; evaluation is the line's own (evals)",
    "fine_tuning/alpha": "graders belong to reinforcement, which has no trainer here",
    "fine_tuning/checkpoints": "models are their project's own and not shared",
    "images": "no model here draws",
    "live": "no model here speaks or listens",
    "moderations": "no such model",
    "organization/certificates": "TLS is the proxy's before the gateway",
    "organization/data_retention": "said for each project",
    "organization/external_keys": "OpenAI's own storage",
    "organization/external_storage": "OpenAI's own storage",
    "organization/groups": "people are in projects, without groups",
    "organization/invites": "no mail is sent: POST /v1/organization/users makes a person",
    "organization/projects/{}/certificates": "TLS is the proxy's before the gateway",
    "organization/projects/{}/groups": "people are in projects, without groups",
    "organization/projects/{}/hosted_tool_permissions": "there are no hosted tools",
    "organization/projects/{}/model_permissions": "keys are held to models",
    "organization/projects/{}/service_tier_settings": "tiers are prices only",
    "organization/roles": "a role is a word, without a list of permissions",
    "organization/users/{}/roles": "a role is a word, without a list of permissions",
    "organization/workload_identity_providers": "keys are the only way in",
    "projects/{}/groups": "people are in projects, without groups",
    "projects/{}/roles": "a role is a word, without a list of permissions",
    "projects/{}/users/{}/roles": "a role is a word, without a list of permissions",
    "realtime": "no model here speaks or listens",
    "responses/compact": "no such model",
    "responses/input_tokens": "engines count tokens when they are asked, not before",
    "safety": "OpenAI's own reviewing",
    "skills": "no code is run",
    "vector_stores": "documents are the lake's, which answers from them",
    "videos": "no model here films",
}
"""Beginning of a path -> why nothing answers there."""


def calls() -> Iterator[tuple[str, str, frozenset[str]]]:
    """Yield method, path and parameters of the query of each of the client's calls; what a path is given is ``{}``."""
    for file in sorted(RESOURCES.rglob("*.py")):
        if file.is_relative_to(RESOURCES / "beta"):
            continue  # OpenAI's hosted agents, and what Responses replaced
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in VERBS:
                texts = [each.value for each in ast.walk(node.args[0]) if isinstance(each, ast.Constant)]
                given = [key.value.value for key in node.keywords
                         if key.arg == "method" and isinstance(key.value, ast.Constant)]  # fmt: skip
                verb = str(given[0]).upper() if given else VERBS[node.func.attr]
                asked = [key.value for each in ast.walk(node) if isinstance(each, ast.keyword) and each.arg == "query"
                         for given in ast.walk(each.value) if isinstance(given, ast.Dict) for key in given.keys
                         if isinstance(key, ast.Constant)]  # fmt: skip
                yield verb, re.sub(r"\{[^}]*\}", "{}", str(texts[0]).lstrip("/")), frozenset(map(str, asked))


CALLS = set(calls())
ASKED = sorted({(verb, path) for verb, path, _ in CALLS})
ANSWERED = {re.sub(r"\{[^}]*\}", "{}", route).replace(" /v1/", " ", 1) for route in CASES}


def reasons(path: str) -> list[str]:
    return [begin for begin in NOT_HERE if path == begin or path.startswith(f"{begin}/")]


FIELDS = [
    ("openai.types.chat.completion_create_params.CompletionCreateParamsBase", Asked),
    ("openai.types.completion_create_params.CompletionCreateParamsBase", AskedText),
    ("openai.types.embedding_create_params.EmbeddingCreateParams", AskedVectors),
    ("openai.types.responses.response_create_params.ResponseCreateParamsBase", AskedResponse),
    ("openai.types.responses.function_tool_param.FunctionToolParam", AskedFlatTool),
    ("openai.types.shared_params.function_definition.FunctionDefinition", AskedFunction),
    ("openai.types.batch_create_params.BatchCreateParams", AskedBatch),
    ("openai.types.fine_tuning.job_create_params.JobCreateParams", AskedJob),
    ("anthropic.types.message_create_params.MessageCreateParamsBase", AskedMessages),
    ("anthropic.types.message_count_tokens_params.MessageCountTokensParams", AskedCount),
    ("anthropic.types.tool_param.ToolParam", AskedAnthropicTool),
    ("anthropic.types.text_block_param.TextBlockParam", Block),
    ("anthropic.types.tool_use_block_param.ToolUseBlockParam", Block),
    ("anthropic.types.tool_result_block_param.ToolResultBlockParam", Block),
]


@pytest.mark.parametrize(("theirs", "ours"), FIELDS, ids=[name.rpartition(".")[2] for name, _ in FIELDS])
def test_every_field_that_a_client_may_send_is_known_here(theirs: str, ours: type[BaseModel]) -> None:
    """Taken, ignored, or refused with a word why: never "unknown parameter"."""
    module, _, name = theirs.rpartition(".")
    asked = {field for base in getattr(import_module(module), name).__mro__ for field in vars(base).get(
        "__annotations__", ())}  # fmt: skip
    known = {field.alias or name for name, field in ours.model_fields.items()}
    assert len(asked) > 2, "the client's type is read"
    assert asked - known == set()


def test_the_client_s_source_is_read() -> None:
    assert len(ASKED) > 200
    assert ("POST", "chat/completions") in ASKED
    assert ("GET", "fine_tuning/jobs/{}/checkpoints") in ASKED


def test_every_call_is_answered_or_said_not_to_be() -> None:
    unsaid = [(verb, path) for verb, path in ASKED if f"{verb} {path}" not in ANSWERED and not reasons(path)]
    assert unsaid == []


def test_nothing_is_said_to_be_missing_that_is_answered_or_that_nobody_asks() -> None:
    wrong = [(verb, path) for verb, path in ASKED if f"{verb} {path}" in ANSWERED and reasons(path)]
    idle = [begin for begin in NOT_HERE if not any(begin in reasons(path) for _, path in ASKED)]
    assert (wrong, idle) == ([], [])


NOT_READ = {
    "responses/{} include": "all that was stored of an answer is shown",
    "responses/{} include_obfuscation": "it is of streams, and asking for one again is refused",
    "responses/{} starting_after": "it is of streams, and asking for one again is refused",
    "responses/{}/input_items include": "what was asked is shown whole",
    **{f"organization/usage/{kind} {name}": "there is no such use: whatever is wanted of it, it is nothing"
       for kind in UNUSED for name in ("group_by", "vector_store_ids", "sizes", "sources", "context_levels")},
}  # fmt: skip
"""Path of a GET and a parameter -> why it is not looked for."""
QUERIES = sorted((path, names) for verb, path, names in CALLS if names and f"{verb} {path}" in ANSWERED)
IDS = {"projects/{}": "project", "completions/{}": "chat", "responses/{}": "response", "jobs/{}": "job"}


HEARD: set[str] = set()


class Heard(QueryParams):
    """Notes what is looked for; who goes over all parameters finds those of objects, such as ``metadata[key]``."""

    def get(self, key: str, default: Any = None) -> Any:
        HEARD.add(key.partition("[")[0])
        return super().get(key, default)

    def items(self) -> Any:
        HEARD.update(key.partition("[")[0] for key in self if "[" in key)
        return super().items()


class HeardByAdmins(dict[str, Any]):
    """Does the same in administration."""

    def get(self, key: str, default: Any = None) -> Any:
        HEARD.add(key.partition("[")[0])
        return super().get(key, default)


@pytest.mark.parametrize(("path", "names"), QUERIES, ids=[path for path, _ in QUERIES])
def test_every_filter_of_a_list_is_looked_for(house: House, monkeypatch, path: str, names: frozenset[str]) -> None:
    """Taken or refused, never ignored."""
    monkeypatch.setattr(HTTPConnection, "query_params", property(lambda self: Heard(self.scope["query_string"])))
    monkeypatch.setattr(wire, "Call", lambda who, path, query, body: Call(who, path, HeardByAdmins(query), body))
    HEARD.clear()
    real = path
    for end, thing in IDS.items():
        real = real.replace(end, end.replace("{}", house.things["shop"][thing]))
    asker = "root" if path.startswith("organization") else "shop"
    told = house.ask(
        asker, Ask("GET", f"/v1/{real}?metadata[w]=x" + "&start_time=1790000000" * ("start_time" in names))
    )
    assert told.status == 200, told.text
    assert {name for name in names if f"{path} {name}" not in NOT_READ} - HEARD == set()
    assert {name for name in HEARD if f"{path} {name}" in NOT_READ} == set(), "it is looked for"
