"""The embedded engine: a compiled model on this machine, in a worker process, behind asyncio.

Owns the worker's life and hands pieces from its pipe to the callers' event loops. Knows no token: `Device` does.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import itertools
import multiprocessing
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast, overload

from bessemer.core.errors import (
    BackendError,
    BessemerError,
    BudgetExceeded,
    Cancelled,
    MissingDependency,
    NotFound,
    Unsupported,
)
from bessemer.core.nouns import ChatRequest, Completion, Delta, ScoreRequest, ScoreResult, Usage
from bessemer.core.raw import PromptRequest
from bessemer.infer.config import OpenVinoConfig
from bessemer.infer.engines import NOTHING, Counters, add, complete, minus
from bessemer.infer.messages import Ask, Cancel, Count, Ready, Step, Stop

STOP_SECONDS = 10.0
"""How long a worker may take to end: the longest step, and some."""

_CALLS_PER_STREAM = 4
"""One is answered, the others wait: longer queues end in timeouts."""

CAN = frozenset(
    {"chat", "stream", "stop", "seed", "logprobs", "top_logprobs", "penalties", "logit_bias", "batch"}
    | {"json_object", "json_schema", "tools", "prompt", "tokens"}
)
"""Capabilities of every engine; those without prefix caching can ``score``, too."""

Reply = Delta | ScoreResult | int | BessemerError


@dataclass(slots=True)
class _Call:
    """A request under way: where its replies go, what its caller took, what the worker made."""

    loop: asyncio.AbstractEventLoop
    replies: asyncio.Queue[Reply] = field(default_factory=asyncio.Queue)
    taken: Usage = NOTHING
    made: Usage = NOTHING
    caller_left: bool = False
    worker_ended: bool = False

    def put(self, reply: Reply) -> None:
        """Hand a reply over to the caller's loop; from any thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self.loop.call_soon_threadsafe(self.replies.put_nowait, reply)


class OpenVinoEngine:
    """Serves a compiled model with continuous batching: overlapping calls share each step.

    Attributes:
        capabilities: ``score`` only without prefix caching.
        context_tokens: most tokens of prompt and answer together.
        process_id: of the worker, for whoever measures what it uses.
    """

    def __init__(self, config: OpenVinoConfig, clock: Callable[[], float] = time.perf_counter) -> None:
        self.name = config.name
        self.capabilities = CAN if config.prefix_caching else CAN | {"score"}
        self._clock = clock
        self._ids = itertools.count(1)
        self._calls: dict[int, _Call] = {}
        self._lock = threading.Lock()
        self._most_calls = _CALLS_PER_STREAM * config.max_streams
        self._counters = Counters()
        self._undelivered = Usage()
        self._over: BessemerError | None = None
        self._worker = _Worker(config, self._deliver, self._lost)
        self.context_tokens = self._worker.ready.context_tokens
        self.process_id = self._worker.process.pid

    @property
    def counters(self) -> Counters:
        """What the worker counted since it was opened."""
        with self._lock:
            return self._counters.plus(undelivered=self._undelivered)

    @overload
    async def respond(self, request: ChatRequest | PromptRequest, /) -> Completion: ...
    @overload
    async def respond(self, request: ScoreRequest, /) -> ScoreResult: ...
    async def respond(self, request: ChatRequest | PromptRequest | ScoreRequest, /) -> Completion | ScoreResult:
        """Return the whole answer, or the likelihood of a text.

        Raises:
            BudgetExceeded: the prompt does not fit the context, or too many wait (then with `retry_after_seconds`).
            Unsupported: the engine is closed, or a field asks for what it cannot do; see `Device.begin`.
            BackendError: the worker failed, or the KV cache is full now (then with `retry_after_seconds`).
        """
        if isinstance(request, ChatRequest | PromptRequest):
            return await complete(self.stream(request), self._clock)
        if not isinstance(request, ScoreRequest):
            raise Unsupported(
                "this engine makes no vectors", hint="Serve an embedding model behind an upstream engine."
            )
        if "score" not in self.capabilities:
            raise Unsupported("an engine with prefix caching cannot score", hint="Open one with prefix_caching off.")
        async with contextlib.aclosing(self._ask(request)) as replies:
            async for reply in replies:
                if isinstance(reply, ScoreResult):
                    return reply
        raise Cancelled("the engine was closed while it scored", hint="Open another one.")

    async def stream(self, request: ChatRequest | PromptRequest, /) -> AsyncGenerator[Delta, None]:
        """Yield the answer in pieces, each with the usage so far; see `respond` for what it raises."""
        async with contextlib.aclosing(self._ask(request)) as replies:
            async for reply in replies:
                if isinstance(reply, Delta):
                    yield reply

    async def count_tokens(self, request: ChatRequest, /) -> int:
        """Return how many tokens a request has, tools and template included; see `respond` for what it raises."""
        async with contextlib.aclosing(self._ask(request, Count)) as replies:
            count = await anext(replies)
        assert isinstance(count, int)
        return count

    async def close(self) -> None:
        """End running answers as cancelled, then the worker."""
        with self._lock:
            self._over = self._over or Unsupported("the engine is closed", hint="Open another one.")
            running = list(self._calls)
        for id in running:
            self._worker.send(Cancel(id))
        await asyncio.to_thread(self._worker.stop)

    async def _ask(
        self, request: ChatRequest | PromptRequest | ScoreRequest, message: Callable[[int, Any], Ask | Count] = Ask
    ) -> AsyncGenerator[Delta | ScoreResult | int, None]:
        """Yield the worker's replies to a request; when closed early, cancel it."""
        self._refuse_long(request)
        id, call = next(self._ids), _Call(asyncio.get_running_loop())
        with self._lock:
            if self._over:
                raise _again(self._over)
            if len(self._calls) >= self._most_calls:
                hint = "Ask again; raise max_streams if the device has room."
                raise BudgetExceeded("the engine has enough to do", hint=hint, retry_after_seconds=1.0)
            self._calls[id] = call
        self._worker.send(message(id, request))
        try:
            while True:
                reply = await call.replies.get()
                if isinstance(reply, BessemerError):
                    raise reply
                if not isinstance(reply, int):
                    call.taken = reply.usage or call.taken
                yield reply
                if not isinstance(reply, Delta) or reply.finish_reason:
                    return
        finally:
            with self._lock:
                call.caller_left = True
                self._settle(call)
            if not call.worker_ended:
                self._worker.send(Cancel(id))

    def _refuse_long(self, request: ChatRequest | PromptRequest | ScoreRequest) -> None:
        """Raise if a prompt cannot fit, by its size alone: tokenising megabytes only to refuse them takes long."""
        texts = [m.content for m in request.messages] if isinstance(request, ChatRequest) else [request.text]
        size = sum(len(text) for text in texts)  # in characters: never more than in bytes
        if size > self._worker.ready.max_prompt_bytes:
            raise BudgetExceeded(
                f"the prompt has {size} characters; they cannot fit the context of {self.context_tokens} tokens",
                hint="Shorten the prompt.",
            )

    def _deliver(self, step: Step) -> None:
        """Hand what a step brought to those who wait for it. Called by the listening thread."""
        with self._lock:
            self._counters = step.counters
            for id, reply, made in step.replies:
                call = self._calls[id]
                call.made = made
                if not isinstance(reply, Delta) or reply.finish_reason:
                    call.worker_ended = True
                    del self._calls[id]
                    self._settle(call)
                call.put(reply)

    def _lost(self, error: BessemerError) -> None:
        """End all calls: there is no worker any more. Called by the listening thread."""
        with self._lock:
            self._over = self._over or error
            calls, self._calls = self._calls, {}
            for call in calls.values():
                call.worker_ended = True
                call.put(_again(self._over))

    def _settle(self, call: _Call) -> None:
        """Book what was made and never taken, once both sides are through."""
        if call.caller_left and call.worker_ended:
            self._undelivered = add(self._undelivered, minus(call.made, call.taken))


class _Worker:
    """The worker process, with a thread that listens to it and one that writes to it.

    Writing has a thread because the worker reads between steps only, and a long prompt does not fit the pipe.

    Attributes:
        ready: the model's limits.
        process: the process.
    """

    def __init__(
        self, config: OpenVinoConfig, deliver: Callable[[Step], None], lost: Callable[[BessemerError], None]
    ) -> None:
        self._deliver, self._lost = deliver, lost
        self._outbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._pipe, theirs = multiprocessing.Pipe()
        with theirs, contextlib.ExitStack() as undo:
            self._log = undo.enter_context(tempfile.TemporaryFile())
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "bessemer.infer.worker", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
            )
            theirs.close()
            undo.callback(self._kill)
            self._pipe.send(config)
            self.ready = self._first_word(config.open_timeout_seconds)
            undo.pop_all()
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._listen, self._write)]
        for thread in self._threads:
            thread.start()

    def send(self, message: Ask | Count | Cancel) -> None:
        """Queue a message for the worker; returns at once."""
        self._outbox.put(message)

    def stop(self) -> None:
        """Let the worker answer what it was told, then end it; returns when it is gone."""
        self._outbox.put(None)
        self._wait()
        for thread in self._threads:
            thread.join()
        self._pipe.close()
        self._log.close()

    def _first_word(self, timeout_seconds: float) -> Ready:
        if not self._pipe.poll(timeout_seconds):
            raise BackendError(
                f"the model was not loaded within {timeout_seconds:g} s", hint="Raise open_timeout_seconds."
            )
        try:
            word = self._pipe.recv()
        except (EOFError, ConnectionResetError) as error:
            raise self._obituary() from error
        if isinstance(word, BessemerError):
            raise word
        return cast(Ready, word)

    def _listen(self) -> None:
        try:
            while True:
                self._deliver(self._pipe.recv())
        except (EOFError, OSError):
            return
        finally:  # whatever ended the listening, no caller may wait for ever
            self._outbox.put(None)
            self._lost(self._obituary())

    def _write(self) -> None:
        with contextlib.suppress(OSError):
            while (message := self._outbox.get()) is not None:
                self._pipe.send(message)
            self._pipe.send(Stop())

    def _obituary(self) -> BackendError:
        self._wait()
        self._log.seek(0)
        words = self._log.read()[-2000:].decode("utf-8", "replace").strip()
        return BackendError(
            f"the engine's process ended with status {self.process.returncode}" + (f": {words}" if words else ""),
            hint="Open another engine; if it ends again, lower kv_cache_bytes or compile the model anew.",
        )

    def _wait(self) -> None:
        """Return when the process is gone; end it if it takes too long."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_SECONDS)
        self._kill()

    def _kill(self) -> None:
        self.process.kill()
        self.process.wait()


def _again(error: BessemerError) -> BessemerError:
    """Return the same error without the traceback of its last raise."""
    return type(error)(error.message, hint=error.hint, retry_after_seconds=error.retry_after_seconds)


def open_engine(config: OpenVinoConfig) -> OpenVinoEngine:
    """Return an engine that has the model loaded.

    Raises:
        MissingDependency: OpenVINO GenAI is not installed.
        NotFound: there is no compiled model in the folder.
        BackendError: the model could not be loaded.
    """
    if importlib.util.find_spec("openvino_genai") is None:
        raise MissingDependency("openvino-genai", extra="infer")
    if not (Path(config.path) / "openvino_model.xml").is_file():
        raise NotFound(f"there is no compiled model in {config.path}", hint="Make one with compile_model.")
    return OpenVinoEngine(config)
