"""What watches a request in the batch: from tokens to text, likelihoods and usage.

Owns the form of the replies. A handle is the pipeline's, or a `Stream` of our own: both are read in the same way.
Runs in the worker process only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bessemer.core.errors import BackendError, BessemerError, Unsupported
from bessemer.core.nouns import Delta, FinishReason, ScoreResult, TokenLogprob, Usage
from bessemer.infer import calling
from bessemer.infer.logits import Output, Stream, Top
from bessemer.infer.runtime import genai
from bessemer.infer.text import StopFilter
from bessemer.infer.vocabulary import Vocabulary


def kv_cache_full() -> BackendError:
    """Return the error for a prompt that would fit, if other answers did not fill the cache now."""
    hint = "Ask again; if it happens often, raise kv_cache_bytes or lower max_streams."
    return BackendError("the KV cache is full", hint=hint, retry_after_seconds=1.0)


class ChatJob:
    """One answer in the making.

    Attributes:
        usage: what it took so far.
        finished: whether its last Delta was returned.
        grammar: the field of the request whose schema holds the answer; None leaves it free.
    """

    grammar: str | None = None

    def __init__(
        self, handle: Any, input_tokens: int, stop: tuple[str, ...], vocabulary: Vocabulary, logprobs: bool
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
            return _error(self._handle) or kv_cache_full()
        return self._delta(shown) if shown else None

    def cancel(self) -> Delta:
        """End the answer; return its last Delta."""
        self._handle.cancel()
        return self._last("", "cancelled")

    _reason: FinishReason = "stop"

    def _take(self, output: Any) -> str:
        """Return the text that new tokens add."""
        shown = ""
        for token, logprob, top in zip(output.generated_ids, output.generated_log_probs, _tops(output), strict=True):
            self.usage = self.usage.model_copy(update={"output_tokens": self.usage.output_tokens + 1})
            if self._logprobs is not None and (name := self._name(token)):
                named = tuple((self._vocabulary.name(other), value) for other, value in top)
                text = name.decode("utf-8", "replace")
                self._logprobs.append(TokenLogprob(token=text, logprob=logprob, top=named, raw=tuple(name)))
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
        said = calling.parsed(self._held)
        whole = super()._delta(said.text, "tool_calls" if said.calls and reason == "stop" else reason)
        return whole.model_copy(update={"tool_calls": said.calls})


def failed_in_step(jobs: Sequence[Job], error: Exception) -> list[BessemerError]:
    """Return what each of the requests under way is told when a step failed.

    A grammar is made in the step of its answer's first token. So if one answer alone waits for that, its schema failed.
    """
    again = BackendError(f"the engine failed in a step: {error}", hint="Ask again.", retry_after_seconds=1.0)
    making = [job for job in jobs if isinstance(job, ChatJob) and job.grammar and not job.usage.output_tokens]
    if len(making) != 1:
        return [again for _ in jobs]
    wrong = Unsupported(
        "no grammar can be made of the JSON schema", hint="Use less of JSON Schema.", about=making[0].grammar or ""
    )
    return [wrong if job is making[0] else again for job in jobs]


class ScoreJob:
    """One text being scored.

    Args:
        handle: of the pipeline, or a stream of our own.
        ids: the text's tokens.
        text: the text; empty if only its tokens are known.
        vocabulary: to name them.

    Attributes:
        usage: what it took.
        finished: whether its result was returned.
    """

    def __init__(self, handle: Any, ids: list[int], text: str, vocabulary: Vocabulary) -> None:
        self._handle, self._ids = handle, ids
        self._vocabulary = vocabulary
        self._names = vocabulary.names(ids)
        tokens = self._tokens = len(ids)
        self._scored_bytes = len((text or "".join(self._names)).encode()) - vocabulary.size(ids[0])
        self._logprobs: list[float] = []
        self._tops: list[Top] = []
        self.usage = Usage(input_tokens=tokens)
        self.finished = False

    def advance(self) -> ScoreResult | BessemerError | None:
        """Return the result, or None while the text is still being read."""
        while self._handle.can_read():
            for output in self._handle.read().values():
                self._logprobs += output.generated_log_probs
                self._tops += _tops(output)
        if len(self._logprobs) < self._tokens and self._handle.get_status() == genai.GenerationStatus.RUNNING:
            return None
        self.finished = True
        if len(self._logprobs) != self._tokens:
            return _error(self._handle) or BackendError(
                f"{len(self._logprobs)} of {self._tokens} tokens were scored: the KV cache is full?"
            )
        # The first token has no likelihood; the pipeline puts 1.0 in its place.
        return ScoreResult(
            logprob_sum=sum(self._logprobs[1:]),
            scored_tokens=self._tokens - 1,
            scored_bytes=self._scored_bytes,
            tokens=tuple(self._told(number) for number in range(self._tokens)),
            usage=self.usage,
        )

    def _told(self, number: int) -> TokenLogprob:
        id, name = self._ids[number], self._names[number]
        top = tuple(
            (name if other == id else self._vocabulary.name(other), value) for other, value in self._tops[number]
        )
        return TokenLogprob(token=name, logprob=self._logprobs[number] if number else 0.0, top=top)

    def cancel(self) -> Delta:
        """End the scoring."""
        self._handle.cancel()
        self.finished = True
        return Delta(finish_reason="cancelled", usage=self.usage)


Job = ChatJob | ScoreJob


def _error(handle: Any) -> BackendError | None:
    """Return what ended a stream of our own; the pipeline's handles tell nothing."""
    return handle.error if isinstance(handle, Stream) else None


def _tops(output: Any) -> list[Top]:
    """Return the likeliest tokens in place of each; the pipeline tells none."""
    return output.tops if isinstance(output, Output) else [()] * len(output.generated_ids)
