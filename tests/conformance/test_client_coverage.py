"""Every call of the official client's is answered here, or stands below with why not: a new client shows as a failure.

The client's source says which methods ask which paths; the gateway's routes are those of the test of isolation, which
itself fails if it misses one.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import openai

from tests.products.test_isolation import CASES

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


def calls() -> Iterator[tuple[str, str]]:
    """Yield method and path of each of the client's calls; what a path is given is ``{}``."""
    for file in sorted(RESOURCES.rglob("*.py")):
        if file.is_relative_to(RESOURCES / "beta"):
            continue  # OpenAI's hosted agents, and what Responses replaced
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in VERBS:
                texts = [each.value for each in ast.walk(node.args[0]) if isinstance(each, ast.Constant)]
                given = [key.value.value for key in node.keywords
                         if key.arg == "method" and isinstance(key.value, ast.Constant)]  # fmt: skip
                verb = str(given[0]).upper() if given else VERBS[node.func.attr]
                yield verb, re.sub(r"\{[^}]*\}", "{}", str(texts[0]).lstrip("/"))


ASKED = sorted(set(calls()))
ANSWERED = {re.sub(r"\{[^}]*\}", "{}", route).replace(" /v1/", " ", 1) for route in CASES}


def reasons(path: str) -> list[str]:
    return [begin for begin in NOT_HERE if path == begin or path.startswith(f"{begin}/")]


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
