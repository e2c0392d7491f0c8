"""OpenVINO GenAI's continuous batching: requests in, one step at a time, tokens out.

Owns everything that touches the pipeline: loading, prompts to tokens, sampling settings, tokens to text. Runs in
the worker process only. Knows no pipe and no other request than its own.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np

from bessemer.core.errors import BackendError, BessemerError, BudgetExceeded, Unsupported
from bessemer.core.marks import breaker
from bessemer.core.nouns import (
    ChatRequest,
    Delta,
    FinishReason,
    Sampling,
    ScoreRequest,
    ScoreResult,
    TokenLogprob,
    Usage,
)
from bessemer.core.raw import PromptRequest
from bessemer.infer import calling
from bessemer.infer.config import OpenVinoConfig
from bessemer.infer.messages import Ready
from bessemer.infer.rendering import marks_of, read_text
from bessemer.infer.runtime import genai, openvino
from bessemer.infer.text import ByteDetokeniser, Detokeniser, StopFilter, WindowDetokeniser

PAGE_TOKENS = 32
"""Tokens in one page of the KV cache. Source: OpenVINO GenAI 2026.4, CPU block size; checked in the tests."""

PROBE = "naïve  café 你好 🙂\n\tdef f(x): return x"


class Device:
    """A loaded model.

    Attributes:
        ready: its limits.
    """

    def __init__(self, config: OpenVinoConfig) -> None:
        folder = Path(config.path)
        facts = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        pages = max(1, config.kv_cache_bytes // page_bytes(facts))
        scheduler = genai.SchedulerConfig()
        scheduler.num_kv_blocks = pages
        scheduler.max_num_batched_tokens = config.step_tokens
        scheduler.max_num_seqs = config.max_streams
        scheduler.enable_prefix_caching = config.prefix_caching
        properties: dict[str, Any] = {"KV_CACHE_PRECISION": "u8"}
        if config.threads:
            properties["INFERENCE_NUM_THREADS"] = config.threads
        self._tokenizer = genai.Tokenizer(folder)
        self._pipeline = genai.ContinuousBatchingPipeline(
            folder, self._tokenizer, scheduler, config.device, **properties
        )
        self._vocabulary = _Vocabulary(self._tokenizer)
        self._stop_ids = _stop_ids(folder, self._tokenizer)
        self._seeds = random.SystemRandom()
        context = min(int(facts["max_position_embeddings"]), pages * PAGE_TOKENS)
        self.ready = Ready(context, context * self._vocabulary.longest)

    def busy(self) -> bool:
        """Return whether a step would do anything."""
        return bool(self._pipeline.has_non_finished_requests())

    def step(self) -> None:
        """Advance the batch by one step."""
        self._pipeline.step()

    def begin(self, id: int, request: ChatRequest | PromptRequest | ScoreRequest) -> Job:
        """Put a request into the batch and return what watches it.

        Raises:
            BudgetExceeded: it does not fit the context.
            Unsupported: alternatives to each token or a bias are asked for, or a JSON schema is beyond its grammar.
        """
        if isinstance(request, ScoreRequest):
            return self._begin_score(id, request)
        sampling = request.sampling
        if sampling.logit_bias:
            raise Unsupported("this engine has no logit_bias", hint="Leave it out.")
        if sampling.top_logprobs:
            raise Unsupported(
                "this engine gives the log-probability of the chosen token only", hint="Set top_logprobs to 0."
            )
        schema = None
        if isinstance(request, PromptRequest):
            prompt, length = self._read(request, reserve=1)
        else:
            text = read_text(self._tokenizer, calling.spoken(request), self._vocabulary.plain)
            prompt, length = self._encode(text, reserve=1)
            schema = calling.schema_of(request)
        settings = self._settings(sampling, length)
        if schema is not None:
            settings.structured_output_config = genai.StructuredOutputConfig(json_schema=json.dumps(schema))
        handle = self._pipeline.add_request(id, prompt, settings)
        wanted = sampling.top_logprobs is not None
        if isinstance(request, PromptRequest):
            return RawJob(handle, length, sampling.stop, self._vocabulary, wanted)
        job = CallingJob if request.callable_tools() else ChatJob
        return job(handle, length, sampling.stop, self._vocabulary, wanted)

    def _settings(self, sampling: Sampling, length: int) -> Any:
        """Return the pipeline's words for how the next token is chosen, after a prompt of that many tokens."""
        settings = genai.GenerationConfig()
        settings.max_new_tokens = min(sampling.max_output_tokens, self.ready.context_tokens - length)
        settings.stop_token_ids = self._stop_ids
        settings.frequency_penalty = sampling.frequency_penalty
        settings.presence_penalty = sampling.presence_penalty
        if sampling.temperature > 0:
            settings.do_sample = True
            settings.temperature = sampling.temperature
            settings.top_p = sampling.top_p
            settings.rng_seed = self._seeds.getrandbits(31) if sampling.seed is None else sampling.seed % 2**31
        settings.logprobs = int(sampling.top_logprobs is not None)
        return settings

    def _begin_score(self, id: int, request: ScoreRequest) -> ScoreJob:
        prompt, _ = self._read(request, reserve=0)
        settings = genai.GenerationConfig()
        settings.echo = True
        settings.logprobs = 1
        settings.max_new_tokens = 0
        ids: list[int] = [int(token) for token in prompt.data[0]]
        names = self._vocabulary.names(ids)
        text = request.text or "".join(names)
        scored_bytes = len(text.encode()) - self._vocabulary.size(ids[0])
        return ScoreJob(self._pipeline.add_request(id, prompt, settings), names, scored_bytes)

    def _read(self, request: PromptRequest | ScoreRequest, reserve: int) -> tuple[Any, int]:
        """Return the tokens of a raw request and their number."""
        if not request.tokens:
            return self._encode(request.text, reserve)
        if len(request.tokens) + reserve > self.ready.context_tokens:
            raise too_long(f"{len(request.tokens)} tokens", self.ready.context_tokens)
        if max(request.tokens) > self._vocabulary.last:
            raise Unsupported(
                f"the model has no token {max(request.tokens)}: its last is {self._vocabulary.last}",
                hint="Use this model's own tokenizer.",
            )
        return openvino.Tensor(np.array([request.tokens], dtype=np.int64)), len(request.tokens)

    def _encode(self, text: str, reserve: int) -> tuple[Any, int]:
        """Return the tokens of a text and their number; `reserve` of the context must stay free."""
        if len(text.encode()) > self.ready.max_prompt_bytes:
            raise too_long(f"more than {self.ready.max_prompt_bytes} bytes", self.ready.context_tokens)
        tokens = self._tokenizer.encode(text, add_special_tokens=False).input_ids
        length = int(tokens.shape[1])
        if length + reserve > self.ready.context_tokens:
            raise too_long(f"{length} tokens", self.ready.context_tokens)
        return tokens, length


def too_long(size: str, context_tokens: int) -> BudgetExceeded:
    """Return the error for a prompt that does not fit."""
    return BudgetExceeded(
        f"the prompt has {size}; the model's context takes {context_tokens} tokens with the answer",
        hint="Shorten the prompt.",
    )


def kv_cache_full() -> BackendError:
    """Return the error for a prompt that would fit, if other answers did not fill the cache now."""
    hint = "Ask again; if it happens often, raise kv_cache_bytes or lower max_streams."
    return BackendError("the KV cache is full", hint=hint, retry_after_seconds=1.0)


class ChatJob:
    """One answer in the making.

    Attributes:
        usage: what it took so far.
        finished: whether its last Delta was returned.
    """

    def __init__(
        self, handle: Any, input_tokens: int, stop: tuple[str, ...], vocabulary: _Vocabulary, logprobs: bool
    ) -> None:
        self._handle = handle
        self._vocabulary = vocabulary
        self._text = vocabulary.detokeniser()
        self._stop = StopFilter(stop)
        self._logprobs: list[TokenLogprob] | None = [] if logprobs else None
        self.usage = Usage(input_tokens=input_tokens)
        self.finished = False

    def advance(self) -> Delta | BessemerError | None:
        """Return what the last step brought, or None if nothing can be shown yet."""
        shown = ""
        while self._handle.can_read() and not self.finished:
            for output in self._handle.read().values():
                shown += self._take(output)
            if self._stop.stopped:
                self._handle.cancel()
                return self._last(shown, "stop")
        status = self._handle.get_status()
        if status == genai.GenerationStatus.FINISHED and not self._handle.can_read():
            return self._last(shown + self._stop.push(self._text.finish()) + self._stop.finish(), self._reason)
        if status == genai.GenerationStatus.IGNORED:
            self.finished = True
            return kv_cache_full()
        return self._delta(shown) if shown else None

    def cancel(self) -> Delta:
        """End the answer; return its last Delta."""
        self._handle.cancel()
        return self._last("", "cancelled")

    _reason: FinishReason = "stop"

    def _take(self, output: Any) -> str:
        """Return the text that new tokens add."""
        shown = ""
        for token, logprob in zip(output.generated_ids, output.generated_log_probs, strict=True):
            self.usage = self.usage.model_copy(update={"output_tokens": self.usage.output_tokens + 1})
            if self._logprobs is not None and (name := self._name(token)):
                self._logprobs.append(TokenLogprob(token=name.decode("utf-8", "replace"), logprob=logprob))
            shown += self._stop.push(self._text.push(token))
        if output.finish_reason == genai.GenerationFinishReason.LENGTH:
            self._reason = "length"
        return shown

    def _name(self, token: int) -> bytes:
        return self._vocabulary.bytes(token)

    def _last(self, text: str, reason: FinishReason) -> Delta:
        self.finished = True
        return self._delta(text, reason)

    def _delta(self, text: str, reason: FinishReason | None = None) -> Delta:
        logprobs = tuple(self._logprobs or ())
        if self._logprobs:
            self._logprobs.clear()
        return Delta(text=text, finish_reason=reason, usage=self.usage, logprobs=logprobs)


class RawJob(ChatJob):
    """One continuation of a raw text; its log-probabilities have the special tokens, too."""

    def _name(self, token: int) -> bytes:
        return self._vocabulary.raw(token)


class CallingJob(ChatJob):
    """One answer that may call tools: nothing is shown before it is whole, because it is JSON until then."""

    _held = ""

    def _delta(self, text: str, reason: FinishReason | None = None) -> Delta:
        self._held += text
        if reason is None:
            return super()._delta("")
        said = calling.parsed(self._held) if reason == "stop" else calling.Said(text=self._held)
        whole = super()._delta(said.text, "tool_calls" if said.calls else reason)
        return whole.model_copy(update={"tool_calls": said.calls})


class ScoreJob:
    """One text being scored.

    Attributes:
        usage: what it took.
        finished: whether its result was returned.
    """

    def __init__(self, handle: Any, names: list[str], scored_bytes: int) -> None:
        self._handle = handle
        self._names = names
        tokens = self._tokens = len(names)
        self._scored_bytes = scored_bytes
        self._logprobs: list[float] = []
        self.usage = Usage(input_tokens=tokens)
        self.finished = False

    def advance(self) -> ScoreResult | BessemerError | None:
        """Return the result, or None while the text is still being read."""
        while self._handle.can_read():
            for output in self._handle.read().values():
                self._logprobs += output.generated_log_probs
        if len(self._logprobs) < self._tokens and self._handle.get_status() == genai.GenerationStatus.RUNNING:
            return None
        self.finished = True
        if len(self._logprobs) != self._tokens:
            return BackendError(f"{len(self._logprobs)} of {self._tokens} tokens were scored: the KV cache is full?")
        # The first token has no likelihood; the pipeline puts 1.0 in its place.
        return ScoreResult(
            logprob_sum=sum(self._logprobs[1:]),
            scored_tokens=self._tokens - 1,
            scored_bytes=self._scored_bytes,
            tokens=tuple(
                TokenLogprob(token=name, logprob=value if number else 0.0)
                for number, (name, value) in enumerate(zip(self._names, self._logprobs, strict=True))
            ),
            usage=self.usage,
        )

    def cancel(self) -> Delta:
        """End the scoring."""
        self._handle.cancel()
        self.finished = True
        return Delta(finish_reason="cancelled", usage=self.usage)


Job = ChatJob | ScoreJob


class _Vocabulary:
    """The bytes of each token, and the way to turn tokens into text.

    Attributes:
        longest: bytes of the longest token.
        last: the highest token.
        plain: breaks the special tokens' names in a text; see `bessemer.core.marks`.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._raw: dict[int, bytes] = {id: text for text, id in tokenizer.get_vocab().items()}
        self._known: dict[int, bytes] = {}
        self.longest = max(map(len, self._raw.values()))
        self.last = max(self._raw)
        self.plain = breaker(marks_of(tokenizer))
        # A byte-level vocabulary spells a text exactly; others (SentencePiece) mark spaces and need the real decoder.
        ids = tokenizer.encode(PROBE, add_special_tokens=False).input_ids.data[0].tolist()
        self._byte_level = b"".join(self._raw[id] for id in ids) == PROBE.encode()

    def detokeniser(self) -> Detokeniser:
        if self._byte_level:
            return ByteDetokeniser(self.bytes)
        return WindowDetokeniser(self._tokenizer.decode)

    def raw(self, token: int) -> bytes:
        """Return a token's bytes, of a special token its name."""
        return self._raw[token]

    def bytes(self, token: int) -> bytes:
        """Return a token's bytes; none for a special token."""
        if token not in self._known:
            special = not self._tokenizer.decode([token])
            self._known[token] = b"" if special else self._raw[token]
        return self._known[token]

    def names(self, tokens: list[int]) -> list[str]:
        """Return the text that each token adds, which is all of the text together."""
        text = self.detokeniser()
        names = [text.push(token) for token in tokens]
        names[-1] += text.finish()
        return names

    def size(self, token: int) -> int:
        """Return the UTF-8 bytes of text that a token stands for at the beginning of a text."""
        return len(self.bytes(token)) if self._byte_level else len(self._tokenizer.decode([token]).encode())


def page_bytes(facts: dict[str, Any]) -> int:
    """Return the size of one page of the KV cache, in bytes.

    Values keep 8 bits with a scale and an offset (4 bytes each) per token and head; keys the same per channel and
    page. Source: OpenVINO CPU plugin 2026.4, defaults of KV_CACHE_PRECISION u8; equality is checked in the tests.

    Args:
        facts: the model's config.json.
    """
    heads = int(facts.get("num_key_value_heads") or facts["num_attention_heads"])
    width = int(facts.get("head_dim") or facts["hidden_size"] // facts["num_attention_heads"])
    keys = width * (PAGE_TOKENS + 8)
    values = PAGE_TOKENS * (width + 8)
    return int(facts["num_hidden_layers"]) * heads * (keys + values)


def _stop_ids(folder: Path, tokenizer: Any) -> set[int]:
    """Return the tokens that end an answer: those of the generation config, and the tokenizer's own."""
    path = folder / "generation_config.json"
    declared = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id") if path.is_file() else None
    ids = declared if isinstance(declared, list) else [declared]
    return {int(id) for id in [*ids, tokenizer.get_eos_token_id()] if id is not None and id >= 0}
