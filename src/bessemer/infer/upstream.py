"""An engine behind any server that speaks OpenAI's wire: vLLM, SGLang, llama.cpp, Ollama, a cloud.

Owns the client's side of the wire (`prompt_tokens` there is `input_tokens` here) and the mapping of its errors.
Always streams, so that there is one path and a time to first token. An engine belongs to one event loop.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator, Callable
from email.utils import parsedate_to_datetime
from typing import Any, overload

import httpx2

from bessemer.core.errors import BackendError, BessemerError, BudgetExceeded, ConfigError, NotFound, Unsupported
from bessemer.core.forwarding import Forward
from bessemer.core.nouns import ChatRequest, Completion, Delta, FinishReason, RawText, ScoreRequest, ScoreResult, Usage
from bessemer.core.raw import EmbedRequest, EmbedResult, PromptRequest
from bessemer.infer.config import UpstreamConfig
from bessemer.infer.engines import Counters, complete
from bessemer.infer.upstream_forms import calls_of, embedding_of, forms_of, message_of, vector_of
from bessemer.infer.upstream_texts import count_of, logprobs_of, prompt_of, score_body, score_of, usage_of

Asked = ChatRequest | PromptRequest

REASONS: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "cancelled": "cancelled",
    "error": "error",
}
"""Finish reasons of the wire; others (``content_filter``) end an answer as ``stop``."""

_TOO_LONG = ("context_length", "context length", "maximum context", "exceed_context_size")
"""How servers say that a prompt is too long: OpenAI and vLLM, SGLang, vLLM, llama.cpp."""


class UpstreamEngine:
    """Asks another server. What it honours of `seed`, tools and formats is the server's word: all is forwarded.

    Texts that are to be continued or scored go to its ``completions``; servers without it, or that do not say how
    likely a prompt is, are told from those that do by what they answer.

    Counters are what the server reported; of a cancelled answer it reports nothing.
    """

    name = "upstream"
    capabilities = frozenset(
        {"chat", "stream", "stop", "seed", "logprobs", "top_logprobs", "penalties", "logit_bias", "batch"}
        | {"json_object", "json_schema", "tools", "prompt", "score", "embed", "tokens"}
    )

    def __init__(self, config: UpstreamConfig, clock: Callable[[], float] = time.perf_counter) -> None:
        self._config = config
        self._clock = clock
        self._closed = False
        self._open: set[httpx2.Response] = set()
        self.counters = Counters()
        key = config.api_key.get_secret_value()
        self._client = httpx2.AsyncClient(
            base_url=config.base_url.rstrip("/") + "/",
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx2.Timeout(config.timeout_seconds, connect=config.connect_timeout_seconds, pool=None),
            limits=httpx2.Limits(max_connections=config.max_streams),
            trust_env=False,
        )

    @property
    def forward(self) -> Forward:
        """Where a gateway may send requests as bytes: they need nothing of this engine."""
        config = self._config
        return Forward(
            config.base_url,
            config.model,
            config.api_key.get_secret_value(),
            config.timeout_seconds,
            config.connect_timeout_seconds,
            config.max_streams,
            config.limit_field,
        )

    @overload
    async def respond(self, request: Asked, /) -> Completion: ...
    @overload
    async def respond(self, request: ScoreRequest, /) -> ScoreResult: ...
    @overload
    async def respond(self, request: EmbedRequest, /) -> EmbedResult: ...
    async def respond(self, request: Asked | ScoreRequest | EmbedRequest, /) -> Completion | ScoreResult | EmbedResult:
        """Return the whole answer, the likelihood of a text, or its vector; see `stream` for what it raises."""
        if isinstance(request, EmbedRequest):
            vector = vector_of(await self._post("embeddings", request, embedding_of(request, self._config.model)))
            self.counters = self.counters.plus(requests=1, total=vector.usage)
            return vector
        if isinstance(request, ScoreRequest):
            score = score_of(await self._post("completions", request, score_body(request, self._config.model)), request)
            self.counters = self.counters.plus(requests=1, total=score.usage)
            return score
        return await complete(self.stream(request), self._clock)

    async def stream(self, request: Asked, /) -> AsyncGenerator[Delta, None]:
        """Yield the answer in pieces; the last has the usage, as the server counted it.

        Raises:
            Unsupported: the engine is closed, or the server refuses the request.
            ConfigError: the server refuses the key.
            NotFound: the server does not know the model.
            BudgetExceeded: the prompt is too long; or, with `retry_after_seconds`, a limit of the server is reached.
            BackendError: the server failed, was silent for too long, or reported no usage; with
                `retry_after_seconds`, it is overloaded.
        """
        self._refuse(request)
        path = "completions" if isinstance(request, PromptRequest) else "chat/completions"
        usage: Usage | None = None
        reason: FinishReason | None = None
        try:
            async with self._client.stream("POST", path, json=self._body(request)) as response:
                async for chunk in self._chunks(response, path):
                    usage = usage_of(chunk.get("usage")) or usage
                    for choice in chunk.get("choices") or ():
                        reason = _reason(choice) or reason
                        if (piece := _delta(choice)).text or piece.logprobs or piece.tool_calls:
                            yield piece
        except httpx2.TimeoutException as error:
            raise BackendError(
                f"{self._config.base_url} was silent for too long", hint="Raise timeout_seconds, or look at the server."
            ) from error
        except (httpx2.HTTPError, httpx2.StreamError) as error:
            if not self._closed:
                raise BackendError(
                    f"{self._config.base_url} cannot be reached: {error}", hint="Check base_url and the server."
                ) from error
            reason, usage = "cancelled", Usage()
        yield self._last(reason, usage)

    async def count_tokens(self, request: ChatRequest, /) -> int:
        """Return how many tokens a request has, where the server counts those of conversations, as vLLM does.

        Source: vLLM's API, ``POST /tokenize``.

        Raises:
            Unsupported: the server does not; for the rest see `stream`.
        """
        body = {"model": self._config.model, "messages": [message_of(m) for m in request.messages]}
        tools = {"tools": told} if (told := forms_of(request).get("tools")) else {}
        url = self._config.base_url.rstrip("/").removesuffix("/v1") + "/tokenize"
        return count_of(await self._post(url, request, {**body, **tools}))

    async def close(self) -> None:
        """End running answers as cancelled and close the connections."""
        self._closed = True
        for response in list(self._open):
            await response.aclose()
        await self._client.aclose()

    async def _chunks(self, response: httpx2.Response, path: str) -> AsyncGenerator[dict[str, Any], None]:
        """Yield the events of a response, while `close` knows of it."""
        self._open.add(response)
        try:
            if response.is_error:
                raise _refused(response, (await response.aread()).decode("utf-8", "replace"), path)
            async for line in _lines(response):
                if chunk := _chunk(line):
                    yield chunk
        finally:
            self._open.discard(response)

    async def _post(self, path: str, request: ChatRequest | RawText, body: dict[str, Any]) -> str:
        """Return the whole answer to what is not streamed."""
        self._refuse(request)
        try:
            response = await self._client.post(path, json=body)
        except httpx2.HTTPError as error:
            raise BackendError(
                f"{self._config.base_url} cannot be reached: {error}", hint="Check base_url and the server."
            ) from error
        if response.is_error:
            raise _refused(response, response.text, path)
        return response.text

    def _refuse(self, request: ChatRequest | RawText) -> None:
        if self._closed:
            raise Unsupported("the engine is closed", hint="Open another one.")
        if isinstance(request, RawText):
            return self._refuse_size(len(request.text.encode()))
        calls = (call.arguments for message in request.messages for call in message.tool_calls)
        texts = (*(message.content for message in request.messages), *calls)
        return self._refuse_size(sum(len(text.encode()) for text in texts))

    def _refuse_size(self, size: int) -> None:
        if size > self._config.max_prompt_bytes:
            raise BudgetExceeded(
                f"the prompt has {size} bytes, the limit is {self._config.max_prompt_bytes}",
                hint="Shorten the prompt, or raise max_prompt_bytes.",
            )

    def _body(self, request: Asked) -> dict[str, Any]:
        sampling = request.sampling
        body: dict[str, Any] = {
            "model": self._config.model,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if sampling.seed is not None:
            body["seed"] = sampling.seed
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        if sampling.frequency_penalty:
            body["frequency_penalty"] = sampling.frequency_penalty
        if sampling.presence_penalty:
            body["presence_penalty"] = sampling.presence_penalty
        if sampling.logit_bias:
            body["logit_bias"] = {str(token): bias for token, bias in sampling.logit_bias}
        wanted = sampling.top_logprobs
        if isinstance(request, PromptRequest):
            body |= {"prompt": prompt_of(request), "max_tokens": sampling.max_output_tokens}
            return body if wanted is None else body | {"logprobs": wanted}
        body |= {"messages": [message_of(m) for m in request.messages]}
        body |= {self._config.limit_field: sampling.max_output_tokens}
        body |= {} if wanted is None else {"logprobs": True, "top_logprobs": wanted}
        return body | forms_of(request)

    def _last(self, reason: FinishReason | None, usage: Usage | None) -> Delta:
        """Return the last piece and count the request, or raise if the server left something out."""
        if reason is None:
            raise BackendError("the upstream server ended the answer in the middle", hint="Ask again.")
        if usage is None:
            raise BackendError(
                "the upstream server reported no usage, or none that can be: the answer cannot be accounted for",
                hint="Choose a server that honours stream_options.include_usage.",
            )
        self.counters = self.counters.plus(requests=1, total=usage)
        return Delta(finish_reason=reason, usage=usage)


async def _lines(response: httpx2.Response) -> AsyncGenerator[str, None]:
    """Yield lines that end in a line feed alone: JSON may hold the other line ends of Unicode as they are."""
    rest = b""
    async for data in response.aiter_bytes():
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            yield line.decode("utf-8", "replace").removesuffix("\r")
    if rest:
        yield rest.decode("utf-8", "replace")


def _chunk(line: str) -> dict[str, Any] | None:
    """Return the JSON of one line of the event stream, or None for blanks, comments and the end mark."""
    name, _, value = line.partition(":")
    if name != "data" or value.strip() in ("", "[DONE]"):
        return None
    try:
        chunk: dict[str, Any] = json.loads(value)
    except json.JSONDecodeError as error:
        raise BackendError(f"the upstream server sent no JSON: {value[:200]!r}") from error
    if chunk.get("error"):
        raise BackendError(f"the upstream server failed: {_message(chunk)}")
    return chunk


def _delta(choice: dict[str, Any]) -> Delta:
    delta = choice.get("delta") or {}
    text = delta.get("content") or choice.get("text") or ""
    return Delta(text=text, logprobs=logprobs_of(choice.get("logprobs")), tool_calls=calls_of(delta))


def _reason(choice: dict[str, Any]) -> FinishReason | None:
    word = choice.get("finish_reason")
    return REASONS.get(word, "stop") if word else None


def _refused(response: httpx2.Response, body: str, path: str) -> BessemerError:
    """Return the error that an HTTP status of the server stands for.

    What every server has is chats: one that does not know another path has no such endpoint, unless it says that it is
    the model it does not know.
    """
    try:
        answer = json.loads(body)
    except json.JSONDecodeError:
        answer = body
    status = response.status_code
    said = f"the upstream server said {status}: {_message(answer)}"
    if status in (401, 403):
        return ConfigError(said, hint="Check api_key.")
    if status == 404:
        lacks = path != "chat/completions" and "model" not in body.lower()
        last = path.rpartition("/")[2]  # it may be a URL, with a password
        without = Unsupported(f"the upstream server has no {last}", hint="Choose a server that has.")
        return without if lacks else NotFound(said, hint="Check model and base_url.")
    if status in (429, 503):
        kind = BudgetExceeded if status == 429 else BackendError
        hint = "Wait, or ask the server's owner for more."
        return kind(said, hint=hint, retry_after_seconds=_retry_after_seconds(response))
    if status == 413 or (status < 500 and any(words in body.lower() for words in _TOO_LONG)):
        return BudgetExceeded(said, hint="Shorten the prompt.")
    if status < 500:
        return Unsupported(said, hint="Change the request, or choose another server.")
    return BackendError(said, hint="Look at the server's log.")


def _retry_after_seconds(response: httpx2.Response) -> float:
    """Return what ``Retry-After`` asks for: seconds, or a date; 0 if it says nothing that can be read.

    Source: RFC 9110, section 10.2.3.
    """
    told = response.headers.get("retry-after", "")
    try:
        seconds = float(told) if told[:1].isdigit() else parsedate_to_datetime(told).timestamp() - time.time()
    except ValueError:
        return 0.0
    return max(seconds, 0.0)


def _message(answer: Any) -> str:
    error = answer.get("error", answer) if isinstance(answer, dict) else answer
    return str(error.get("message", error) if isinstance(error, dict) else error)[:500]


def open_engine(config: UpstreamConfig) -> UpstreamEngine:
    """Return an engine over an upstream server; nothing is sent before the first request."""
    return UpstreamEngine(config)
