"""The embedded engine for vectors: a text encoder on this machine; texts that come together share each step.

Owns the queue before the device and the tokenizer. Knows no architecture: `bessemer.infer.encoder` does.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import math
import queue
import threading
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bessemer.core.errors import BackendError, BessemerError, BudgetExceeded, MissingDependency, NotFound, Unsupported
from bessemer.core.nouns import Delta, Usage
from bessemer.core.raw import EmbedRequest, EmbedResult
from bessemer.infer.config import VectorsConfig
from bessemer.infer.engines import Counters

_NEEDS = {"openvino": "openvino", "openvino_genai": "openvino-genai", "tokenizers": "tokenizers", "numpy": "numpy"}
_CHARACTERS = 64
"""Of a text for each token that the model reads, at most: what is longer is refused before it is looked at."""


@dataclass(slots=True)
class _Wanted:
    """A text under way, and who waits for its vector."""

    request: EmbedRequest
    loop: asyncio.AbstractEventLoop
    found: asyncio.Future[EmbedResult]
    tokens: Sequence[int] = field(default_factory=tuple)

    def answer(self, came: EmbedResult | BessemerError) -> None:
        """Hand over what came of it; from any thread."""

        def put() -> None:
            if self.found.done():
                return  # its caller left
            if isinstance(came, EmbedResult):
                self.found.set_result(came)
            else:
                self.found.set_exception(came)

        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self.loop.call_soon_threadsafe(put)


class VectorEngine:
    """Serves a text encoder.

    Attributes:
        context_tokens: most tokens of a text.
    """

    capabilities = frozenset({"embed", "tokens", "batch"})

    def __init__(self, config: VectorsConfig) -> None:
        self.name, self._device = config.name, _Device(config)
        self.context_tokens = self._device.facts.context_tokens
        self._batch_tokens = config.batch_tokens
        self._queue: queue.SimpleQueue[_Wanted | None] = queue.SimpleQueue()
        self._lock, self._closed, self._counters = threading.Lock(), False, Counters()
        self._thread = threading.Thread(target=self._work, name="vectors", daemon=True)
        self._thread.start()

    @property
    def counters(self) -> Counters:
        """What was read since the engine was opened; what callers left before they had it is undelivered."""
        with self._lock:
            return self._counters

    async def respond(self, request: Any, /) -> Any:
        """Return the vector of a text (an EmbedRequest), as an EmbedResult.

        Raises:
            BudgetExceeded: the text is longer than the model reads.
            Unsupported: the engine is closed; or something else is asked than a vector, or one of another length.
            BackendError: the device failed.
        """
        if not isinstance(request, EmbedRequest):
            raise Unsupported("this model makes vectors only", hint="Ask it for embeddings, another for answers.")
        self._device.check(request)
        loop = asyncio.get_running_loop()
        wanted = _Wanted(request, loop, loop.create_future())
        with self._lock:
            if self._closed:
                raise Unsupported("the engine is closed", hint="Open another one.")
            self._queue.put(wanted)
        result = await wanted.found
        self._count(Counters(undelivered=Usage(input_tokens=-result.usage.input_tokens)))
        return result

    async def stream(self, request: Any, /) -> AsyncGenerator[Delta, None]:
        """Raise Unsupported: an encoder says nothing."""
        raise Unsupported("this model makes vectors only", hint="Ask it for embeddings, another for answers.")
        yield Delta()

    async def close(self) -> None:
        """Let the device go when all that waits is answered."""
        with self._lock:
            self._closed = True
            self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _work(self) -> None:
        over = False
        while not over:
            window = [self._queue.get(), *[self._queue.get() for _ in range(self._queue.qsize())]]
            over = None in window
            asked = [each for each in window if each and not each.found.cancelled() and self._read(each)]
            asked.sort(key=lambda each: -len(each.tokens))  # texts of one length share a step without padding
            while asked:
                many = max(1, self._batch_tokens // len(asked[0].tokens))
                self._step(asked[:many])
                asked = asked[many:]

    def _read(self, wanted: _Wanted) -> bool:
        try:
            wanted.tokens = self._device.read(wanted.request)
        except BessemerError as error:
            wanted.answer(error)
        except Exception as error:  # the tokenizer's own: one text must not end the thread that all others wait for
            wanted.answer(Unsupported(f"the text cannot be split into tokens: {error}", hint="Send valid Unicode."))
        return bool(wanted.tokens)

    def _step(self, batch: Sequence[_Wanted]) -> None:
        try:
            vectors = self._device.vectors([each.tokens for each in batch])
        except Exception as error:  # OpenVINO's and NumPy's
            failed = BackendError(f"the model failed: {error}", hint="Ask again; restart the server if it fails again.")
            for each in batch:
                each.answer(failed)
            return
        for each, vector in zip(batch, vectors, strict=True):
            usage = Usage(input_tokens=len(each.tokens))
            self._count(Counters(1, usage, usage))
            each.answer(EmbedResult(vector=_cut(vector, each.request.dimensions), usage=usage))

    def _count(self, more: Counters) -> None:
        with self._lock:
            self._counters = self._counters.plus(more.requests, more.total, more.undelivered)


class _Device:
    """The compiled network and the tokenizer; all but `check` from one thread only."""

    def __init__(self, config: VectorsConfig) -> None:
        from tokenizers import Tokenizer

        from bessemer.infer.encoder import build_encoder, read_facts
        from bessemer.infer.runtime import openvino

        folder = Path(config.path)
        self.facts = read_facts(folder)
        if not (folder / "tokenizer.json").is_file():
            raise NotFound(f"{folder} has no tokenizer.json", hint="Save the tokenizer with save_pretrained first.")
        try:
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # the library raises no narrower one
            raise Unsupported(f"tokenizer.json cannot be read: {error}", hint="Save it again.") from error
        self._tokenizer.no_truncation()  # a text that is too long is refused, not cut in silence
        self._tokenizer.no_padding()
        settings = {"INFERENCE_PRECISION_HINT": "f32"} | (
            {"INFERENCE_NUM_THREADS": str(config.threads)} if config.threads else {}
        )
        try:
            self._network = openvino.Core().compile_model(build_encoder(folder), config.device, settings)
        except RuntimeError as error:
            raise BackendError(f"the model cannot be loaded: {error}", hint="Check the device's name.") from error

    def check(self, request: EmbedRequest) -> None:
        """Raise for what can be seen without reading the text."""
        most = self.facts.context_tokens
        if len(request.text) > most * _CHARACTERS:
            raise _too_long(f"{len(request.text):,} characters", most)
        width, shorter, wanted = self.facts.width, self.facts.shorter, request.dimensions
        if wanted not in (None, width, *shorter):
            cut = f"; it can be cut to {', '.join(map(str, shorter[:8]))}" if shorter else ", and cannot be cut"
            told = f"a vector of this model has {width} dimensions{cut}"
            raise Unsupported(told, hint="Leave dimensions out.", about="dimensions")

    def read(self, request: EmbedRequest) -> Sequence[int]:
        """Return the tokens of a text, with those that begin and end it; given tokens are taken as they are."""
        tokens: Sequence[int] = request.tokens or self._tokenizer.encode(request.text).ids
        if len(tokens) > self.facts.context_tokens:
            raise _too_long(f"{len(tokens)} tokens", self.facts.context_tokens)
        if strange := [token for token in tokens if not 0 <= token < self.facts.vocabulary]:
            raise Unsupported(
                f"the model has no token {strange[0]}: its last is {self.facts.vocabulary - 1}", hint="Send text."
            )
        return tokens

    def vectors(self, texts: Sequence[Sequence[int]]) -> list[list[float]]:
        """Return a vector of length 1 for each text."""
        import numpy as np

        tokens = np.zeros((len(texts), max(map(len, texts))), np.int64)
        mask = np.zeros_like(tokens)
        for row, text in enumerate(texts):
            tokens[row, : len(text)] = text
            mask[row, : len(text)] = 1
        made: list[list[float]] = self._network([tokens, mask])[0].tolist()
        return made


def _too_long(what: str, most: int) -> BudgetExceeded:
    return BudgetExceeded(f"the text has {what}, the model reads {most} tokens", hint="Send it in pieces.")


def _cut(vector: Sequence[float], dimensions: int | None) -> tuple[float, ...]:
    short = vector[: dimensions or len(vector)]
    norm = math.hypot(*short) or 1.0
    return tuple(value / norm for value in short)


def open_engine(config: VectorsConfig) -> VectorEngine:
    """Return an engine that has the model loaded.

    Raises:
        MissingDependency: OpenVINO or the tokenizer's package is not installed.
        NotFound: the folder has no model, weights or tokenizer.
        Unsupported: it is no encoder that is known here, or a damaged one.
        BackendError: the model could not be loaded.
    """
    for module, package in _NEEDS.items():
        if importlib.util.find_spec(module) is None:
            raise MissingDependency(package, extra="infer")
    try:
        return VectorEngine(config)
    except (KeyError, ValueError, TypeError) as error:
        told = f"the model in {config.path} cannot be read: {type(error).__name__}: {error}"
        raise Unsupported(told, hint="Name an encoder's folder as it was published.") from error
