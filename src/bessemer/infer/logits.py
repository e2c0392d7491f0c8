"""Decoding of our own beside the pipeline, for what needs all logits of a step: a bias, alternatives to each token.

OpenVINO GenAI shows them to nobody, so the first such request has the model's folder loaded a second time: the memory
of its weights again, and 2.5 s for SmolLM2-135M. Each answer has a state of its own; they advance in turn, one token
each between two steps of the pipeline, and share no step. SmolLM2-135M made 61 tokens/s here and 68 in the pipeline, in
one stream; in four 64 and 169 (2 cores, int8, 2026-11).

Log-probabilities are the model's own: before bias, penalties, temperature and `top_p`. So are the pipeline's (measured
with OpenVINO GenAI 2026.4) and, by default, vLLM's (`raw_logprobs`). Where a penalised token's logit is below zero, the
pipeline adds the penalty instead of subtracting it (measured, too); here it is always subtracted, as OpenAI says.

Owns the second copy of the model, and the choice of tokens. Runs in the worker process only. Knows no text.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bessemer.core.errors import BackendError
from bessemer.core.nouns import Sampling
from bessemer.core.units import show_bytes
from bessemer.infer.runtime import genai, openvino, ops

AT_ONCE = 4
"""Most answers under way here; more wait. They share no step, so more would finish none sooner and only take memory and
time from the pipeline's."""

_COLDEST = 1e-30
"""The least temperature: below 1e-45 it is 0 in float32."""

_MOST_ROWS = 128
"""Tokens of a scored text that are read at once, however large a step is: each gives the logits of all of a vocabulary.
With 150,000 tokens that are 77 MB."""

_LOAD_TIMES = 2
"""How many times the size of their file weights are taken to need while they are loaded: a guess on the safe side."""

Top = tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class Output:
    """What a step brought, under the pipeline's names for it; `tops` are the likeliest tokens in place of each."""

    generated_ids: list[int]
    generated_log_probs: list[float]
    tops: list[Top]
    finish_reason: Any


class Chooser:
    """Chooses the tokens of one answer.

    Args:
        sampling: how.
        seed: of chance.
    """

    def __init__(self, sampling: Sampling, seed: int) -> None:
        self._sampling = sampling
        self._biased = np.array([token for token, _ in sampling.logit_bias], dtype=np.int64)
        self._bias = np.array([bias for _, bias in sampling.logit_bias], dtype=np.float32)
        self._made: dict[int, int] = {}
        self._dice = np.random.default_rng(seed)

    def choose(self, logits: NDArray[np.float32]) -> int:
        """Return the next token.

        Source: OpenAI's API guide, frequency and presence penalties: logit - frequency * count - presence, by the
        tokens made so far.

        Args:
            logits: shape (vocabulary,).
        """
        sampling, values = self._sampling, logits.copy()
        np.add.at(values, self._biased, self._bias)
        if self._made and (sampling.frequency_penalty or sampling.presence_penalty):
            counts = np.array(list(self._made.values()))
            values[list(self._made)] -= sampling.frequency_penalty * counts + sampling.presence_penalty
        token = int(values.argmax()) if sampling.temperature == 0 else self._draw(values)
        self._made[token] = self._made.get(token, 0) + 1
        return token

    def _draw(self, values: NDArray[np.float32]) -> int:
        # A temperature of nearly 0 leaves one token; one that float32 rounds to 0 would leave none.
        with np.errstate(over="ignore"):
            weights = np.exp((values - values.max()) / max(self._sampling.temperature, _COLDEST))
        tokens = np.argsort(-weights) if self._sampling.top_p < 1 else np.arange(len(weights))
        sums = weights[tokens].cumsum(dtype=np.float64)
        kept = np.searchsorted(sums, self._sampling.top_p * sums[-1], side="right") + 1
        sums = sums[:kept]
        place = np.searchsorted(sums, self._dice.random() * sums[-1], side="right")
        return int(tokens[min(int(place), len(sums) - 1)])


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the natural-log probabilities of a vocabulary's tokens; shape (vocabulary,), as the logits."""
    values = logits - logits.max()
    return np.asarray(values - np.log(np.exp(values).sum()))


def likeliest(logprobs: NDArray[np.float32], count: int) -> Top:
    """Return the tokens with the highest log-probability, the highest first.

    >>> likeliest(np.array([-3.0, -0.5, -1.0], dtype=np.float32), 2)
    ((1, -0.5), (2, -1.0))
    """
    count = min(count, len(logprobs))
    found = np.argpartition(-logprobs, count - 1)[:count] if count else np.array([], dtype=np.int64)
    found = found[np.lexsort((found, -logprobs[found]))]
    return tuple((int(token), float(logprobs[token])) for token in found)


class Stream(ABC):
    """Tokens that are read, and what comes of them; jobs read it as they do a handle of the pipeline.

    Args:
        tokens: of the prompt.
        most_tokens: of prompt and answer together.

    Attributes:
        error: that ended it, if one did.
    """

    def __init__(self, tokens: list[int], most_tokens: int) -> None:
        self.most_tokens = most_tokens
        self.error: BackendError | None = None
        self._pending = tokens
        self._past = 0
        self._unread: list[Output] = []
        self._request: Any = None
        self._status = genai.GenerationStatus.RUNNING

    def can_read(self) -> bool:
        """Return whether a step brought something."""
        return bool(self._unread)

    def read(self) -> dict[int, Output]:
        """Return what steps brought, and forget it."""
        unread, self._unread = self._unread, []
        return dict(enumerate(unread))

    def get_status(self) -> Any:
        """Return the pipeline's word for whether it runs."""
        return self._status

    def cancel(self) -> None:
        """End it, and let its state go."""
        self._status, self._request = genai.GenerationStatus.CANCEL, None

    def fail(self, error: BackendError) -> None:
        """End it with an error."""
        self._status, self._request, self.error = genai.GenerationStatus.IGNORED, None, error

    def running(self) -> bool:
        """Return whether there is something to do."""
        return bool(self._status == genai.GenerationStatus.RUNNING)

    def advance(self, model: Any, most: int) -> None:
        """Read the next tokens.

        Args:
            model: compiled, as `load` returns it.
            most: tokens to read.
        """
        self._request = self._request or model.create_infer_request()
        read, self._pending = self._pending[:most], self._pending[most:]
        end = self._past + len(read)
        told = {
            "input_ids": np.array([read], dtype=np.int64),
            "attention_mask": np.ones((1, end), dtype=np.int64),
            "position_ids": np.arange(self._past, end, dtype=np.int64)[None],
            "beam_idx": np.zeros(1, dtype=np.int32),
            "from": np.array([-self._rows(len(read))]),
        }
        self._request.infer(told)
        self._past = end
        self._take(self._request.get_tensor("logits").data[0])
        if not self.running():
            self._request = None

    def _rows(self, read: int) -> int:
        """Return how many of the tokens read are asked for their logits, counted from the last."""
        return 1

    @abstractmethod
    def _take(self, logits: NDArray[np.float32]) -> None:
        """Make something of logits of shape (rows, vocabulary)."""

    def _put(self, tokens: list[int], logprobs: list[float], tops: list[Top], reason: Any) -> None:
        self._unread.append(Output(tokens, logprobs, tops, reason))
        if reason != genai.GenerationFinishReason.NONE:
            self._status = genai.GenerationStatus.FINISHED


class Answer(Stream):
    """An answer.

    Args:
        tokens: of the prompt.
        sampling: how its tokens are chosen.
        limit: most tokens of the answer.
        stop_ids: tokens that end it; the one that does is part of it.
        seed: of chance.
    """

    def __init__(self, tokens: list[int], sampling: Sampling, limit: int, stop_ids: set[int], seed: int) -> None:
        super().__init__(tokens, len(tokens) + limit)
        self._chooser = Chooser(sampling, seed)
        self._wanted = sampling.top_logprobs
        self._stop_ids = stop_ids

    def _take(self, logits: NDArray[np.float32]) -> None:
        if self._pending:  # the prompt is not over yet
            return
        token, logprob = self._chooser.choose(logits[-1]), 0.0
        top: Top = ()
        if self._wanted is not None:
            logprobs = log_softmax(logits[-1])
            logprob, top = float(logprobs[token]), likeliest(logprobs, self._wanted)
        reason = genai.GenerationFinishReason.NONE
        if token in self._stop_ids:
            reason = genai.GenerationFinishReason.STOP
        elif self._past + 1 >= self.most_tokens:
            reason = genai.GenerationFinishReason.LENGTH
        self._pending = [token]
        self._put([token], [logprob], [top], reason)


class Scored(Stream):
    """A text whose tokens are told, each with its likelihood and with so many of the likeliest in its place.

    The first has none: as in the pipeline, 1.0 stands for it.
    """

    def __init__(self, tokens: list[int], count: int) -> None:
        super().__init__(tokens, len(tokens))
        self._tokens, self._count = tokens, count
        self._put(tokens[:1], [1.0], [()], genai.GenerationFinishReason.NONE)

    def advance(self, model: Any, most: int) -> None:
        """Read the next tokens; see `Stream.advance`."""
        super().advance(model, min(most, _MOST_ROWS))

    def _rows(self, read: int) -> int:
        return read

    def _take(self, logits: NDArray[np.float32]) -> None:
        nexts = self._tokens[self._past - len(logits) + 1 : self._past + 1]
        rows = [log_softmax(row) for row in logits[: len(nexts)]]
        told = [float(row[token]) for row, token in zip(rows, nexts, strict=True)]
        none, over = genai.GenerationFinishReason.NONE, genai.GenerationFinishReason.LENGTH
        tops = [likeliest(row, self._count) for row in rows]
        self._put(nexts, told, tops, none if self._pending else over)


class Decoder:
    """Advances streams over a model of its own, which a thread loads, so that the batch goes on meanwhile.

    Args:
        load: returns the model, compiled, as `load` does.
        at_once: most streams under way; more wait.
        step_tokens: most tokens that are read in one step.
        room_tokens: most tokens of all streams under way; no single one has more.
    """

    def __init__(self, load: Callable[[], Any], at_once: int, step_tokens: int, room_tokens: int) -> None:
        self._loading = ThreadPoolExecutor(1).submit(load)
        self._at_once = min(at_once, AT_ONCE)
        self._most = max(1, step_tokens // self._at_once)
        self._room_tokens = room_tokens
        self._running: list[Stream] = []
        self._waiting: list[Stream] = []

    def begin(self, stream: Stream) -> None:
        """Take a stream in."""
        self._waiting.append(stream)

    def busy(self) -> bool:
        """Return whether a step would do anything."""
        return any(stream.running() for stream in (*self._running, *self._waiting))

    def failed(self) -> bool:
        """Return whether the model could not be loaded, and all who waited for it have been told."""
        return self._loading.done() and self._loading.exception() is not None and not self.busy()

    def step(self, patience_seconds: float) -> None:
        """Advance each stream that is under way; wait for the model no longer than that.

        An error ends its stream and no other.
        """
        self._running = [stream for stream in self._running if stream.running()]
        self._waiting = [stream for stream in self._waiting if stream.running()]
        if not wait([self._loading], patience_seconds).done:
            return
        while self._waiting and self._fits(self._waiting[0]):
            self._running.append(self._waiting.pop(0))
        for stream in self._running:
            try:
                stream.advance(self._loading.result(), self._most)
            except Exception as error:
                stream.fail(BackendError(f"the engine failed in a step beside the batch: {error}"))

    def _fits(self, stream: Stream) -> bool:
        taken = sum(other.most_tokens for other in self._running)
        return len(self._running) < self._at_once and taken + stream.most_tokens <= self._room_tokens


def available_bytes() -> float:
    """Return the memory that can be taken without others losing theirs; infinite where only the system knows.

    Source: proc_meminfo(5), MemAvailable, in KiB.
    """
    with suppress(OSError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            name, _, told = line.partition(":")
            if name == "MemAvailable":
                return 1024 * float(told.split()[0])
    return float("inf")


def load(folder: Path, device: str, properties: dict[str, Any]) -> Any:
    """Return a compiled model that gives logits from the row `from` on, which is counted from the end.

    The rows are cut before the last product: all logits of a long prompt would take more memory than the model.

    Args:
        folder: that `compile_model` wrote.
        device: OpenVINO's name of it.
        properties: for the device.

    Raises:
        BackendError: there is not memory enough; a kernel that has to make room would end the whole engine.
    """
    needed = _LOAD_TIMES * (folder / "openvino_model.bin").stat().st_size
    if (free := available_bytes()) < needed:
        raise BackendError(
            f"the weights once more may take {show_bytes(needed)}, and {show_bytes(free)} of memory are free",
            hint="Ask without logit_bias and top_logprobs, or free memory.",
        )
    core = openvino.Core()
    model = core.read_model(folder / "openvino_model.xml")
    last = model.output("logits").get_node().input_value(0).get_node()
    begin = ops.parameter([1], np.int64, name="from")
    begin.output(0).set_names({"from"})
    end, one = (ops.constant(np.array([number])) for number in (2**31 - 1, 1))
    rows = ops.slice(last.input_value(0), begin, end, one, one)
    last.input(0).replace_source_output(rows.output(0))
    model.add_parameters([begin])
    model.validate_nodes_and_infer_types()
    compiled = core.compile_model(model, device, properties)
    Scored([0], 0).advance(compiled, 1)  # the first step of all makes the kernels, which takes as long as loading
    return compiled
