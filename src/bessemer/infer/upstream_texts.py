"""Raw texts in the words of OpenAI's wire: what an upstream server is asked to continue or to score, and what it says.

Owns those words, and those of usage and log-probabilities, which chats have too. Knows no connection. Source: the
published OpenAPI description of OpenAI's API, completions and chat completions.
"""

from __future__ import annotations

import json
from typing import Any

from bessemer.core.errors import BackendError, Unsupported
from bessemer.core.nouns import RawText, ScoreRequest, ScoreResult, TokenLogprob, Usage
from bessemer.core.usage import MOST_TOKENS


def prompt_of(request: RawText) -> str | list[int]:
    """Return a text as the wire has it: as words, or as numbers of the model's vocabulary."""
    return request.text or list(request.tokens)


def count_of(body: str) -> int:
    """Return how many tokens the server counted.

    Raises:
        Unsupported: it said no such number: its endpoint of that name takes no conversations.
    """
    try:
        count = json.loads(body)["count"]
    except (ValueError, LookupError, TypeError):
        count = None
    if type(count) is not int or not 0 <= count <= MOST_TOKENS:
        raise Unsupported(
            "the upstream server does not count the tokens of conversations",
            hint="Choose one that does, such as vLLM.",
        )
    return count


def score_body(request: ScoreRequest, model: str) -> dict[str, Any]:
    """Return the body that asks how likely a text is: to be echoed, and no token more."""
    wanted = max(1, request.top_logprobs)  # one alternative says whether the token itself was the likeliest
    return {"model": model, "prompt": prompt_of(request), "echo": True, "logprobs": wanted, "max_tokens": 0}


def score_of(body: str, request: ScoreRequest) -> ScoreResult:
    """Return the likelihood in an answer, with the tokens that the server counted.

    Servers that do not know the wish answer all the same, with the likelihoods of what they wrote or with none: what is
    not there for each token of the prompt is not taken for a score.

    Raises:
        Unsupported: the server did not say how likely each token is.
        BackendError: what it sent is no answer, or has no usage.
    """
    try:
        answer = json.loads(body)
        choice, usage = answer["choices"][0], usage_of(answer["usage"])
        if usage is None:
            raise ValueError
        read = usage.input_tokens
        told: dict[str, Any] = choice.get("logprobs") or {}
        values = list(told.get("token_logprobs") or ())[:read]
        tokens = logprobs_of({**told, "token_logprobs": [0.0, *values[1:]]})[:read] if values else ()
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise BackendError("the upstream server sent no score with its usage", hint="Choose another server.") from error
    if read < 1 or len(tokens) != read or len(values) != read:
        raise Unsupported(
            "the upstream server does not say how likely a prompt is",
            hint="Choose one that echoes prompts with their logprobs, such as vLLM.",
        )
    first, *rest = tokens
    after_first = "".join(token.token for token in rest)
    known = request.text in (first.token + after_first, after_first)  # a first token may mark the beginning only
    return ScoreResult(
        logprob_sum=sum(token.logprob for token in rest),
        scored_tokens=len(rest),
        scored_bytes=len(after_first.encode()) if known and request.text else None,
        tokens=tokens,
        usage=usage,
    )


def usage_of(told: Any) -> Usage | None:
    """Return a usage as the server told it; None if it cannot be: no whole numbers, or more than `MOST_TOKENS`.

    >>> usage_of({"prompt_tokens": 7, "completion_tokens": 2**31}) is None
    True
    """
    if not isinstance(told, dict):
        return None
    details = told.get("prompt_tokens_details")
    cached = (details.get("cached_tokens") if isinstance(details, dict) else 0) or 0
    read: Any = told.get("prompt_tokens")
    written = told.get("completion_tokens") or 0
    if not all(type(count) is int and 0 <= count <= MOST_TOKENS for count in (read, written, cached)) or cached > read:
        return None
    return Usage(input_tokens=read, output_tokens=written, cached_tokens=cached)


def logprobs_of(told: dict[str, Any] | None) -> tuple[TokenLogprob, ...]:
    """Return log-probabilities, as chats tell them or as completions do.

    >>> logprobs_of({"tokens": ["a"], "token_logprobs": [-0.5], "top_logprobs": [{"b": -2.0}]})
    (TokenLogprob(token='a', logprob=-0.5, top=(('b', -2.0),), raw=()),)
    >>> logprobs_of({"content": [{"token": "a", "logprob": -0.5, "bytes": [97]}]})
    (TokenLogprob(token='a', logprob=-0.5, top=(), raw=(97,)),)
    """
    if not told:
        return ()
    if entries := told.get("content"):
        return tuple(
            TokenLogprob(
                token=entry["token"],
                logprob=entry["logprob"],
                top=tuple((other["token"], other["logprob"]) for other in entry.get("top_logprobs") or ()),
                raw=tuple(entry.get("bytes") or ()),
            )
            for entry in entries
        )
    names, values = told.get("tokens") or (), told.get("token_logprobs") or ()
    tops = told.get("top_logprobs") or [None] * len(names)
    return tuple(
        TokenLogprob(token=name, logprob=value, top=tuple((top or {}).items()))
        for name, value, top in zip(names, values, tops, strict=False)
    )
