"""Where attempts run: `inline` in a thread of this process, `process` in a child of their own. Each is a core Executor.

Owns threads and processes; knows no store. A cluster's executor needs the same three verbs and `Task.emit`.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from bessemer.flow.attempt import Emit, Outcome, Stop, Task, cpu_seconds, perform

_CHILD = "import sys; sys.path[:] = sys.argv[1].split('\\n'); from bessemer.flow.child import main; main(*sys.argv[2:])"


class InlineExecutor:
    """Runs an attempt in a thread: for tests, notebooks and debugging. A step that never checks cannot be stopped."""

    name = "inline"
    capabilities: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self._attempts: dict[str, tuple[threading.Thread, Stop, list[Outcome]]] = {}

    def submit(self, task: Task, /) -> str:
        """Start a task; return its handle at once."""
        stop, outcomes, handle = Stop(), list[Outcome](), task.folder.name

        def work() -> None:
            outcomes.append(perform(task, stop.check))
            task.emit({"outcome": ""})

        thread = threading.Thread(target=work, name=f"step {task.step.name}", daemon=True)
        self._attempts[handle] = (thread, stop, outcomes)
        thread.start()
        return handle

    def wait(self, handle: str, timeout_seconds: float | None = None, /) -> Outcome | None:
        """Return the task's outcome, once, or None if it still runs after the timeout."""
        thread, _, outcomes = self._attempts[handle]
        if timeout_seconds != 0:
            thread.join(timeout_seconds)
        return self._attempts.pop(handle)[2][0] if outcomes else None

    def cancel(self, handle: str, /) -> Outcome:
        """Stop a task; return its outcome when it no longer runs."""
        thread, stop, outcomes = self._attempts.pop(handle)
        stop.set()
        thread.join()
        return outcomes[0]


class ProcessExecutor:
    """Runs an attempt in a child process, which dies with this one.

    Args:
        stop_seconds: how long a cancelled step may take to stop by itself before it is killed.
    """

    name = "process"
    capabilities = frozenset({"isolated", "kill"})

    def __init__(self, stop_seconds: float = 3.0) -> None:
        self._stop_seconds = stop_seconds
        self._children: dict[str, _Child] = {}

    def submit(self, task: Task, /) -> str:
        """Start a task; return its handle at once."""
        self._children[task.folder.name] = _Child(task)
        return task.folder.name

    def wait(self, handle: str, timeout_seconds: float | None = None, /) -> Outcome | None:
        """Return the task's outcome, once, or None if it still runs after the timeout."""
        child = self._children[handle]
        if not child.outcome and not child.ended(timeout_seconds):
            return None
        del self._children[handle]
        return child.end()

    def cancel(self, handle: str, /) -> Outcome:
        """Stop a task; return its outcome when it no longer runs."""
        child = self._children.pop(handle)
        if not child.outcome:
            child.send(b"stop\n")
            child.ended(self._stop_seconds)
        return child.end()


class _Child:
    """A running `bessemer.flow.child`, and the thread that reads what it tells."""

    def __init__(self, task: Task) -> None:
        # Kept open: whoever took our work over while we were stalled has removed the attempt's folder.
        self.began, self.cpu_seconds, self.log = time.monotonic(), 0.0, (task.folder / "log.txt").open("ab+")
        self.outcome: Outcome | None = None
        self._socket, theirs = socket.socketpair()
        path = "\n".join(entry or str(Path.cwd()) for entry in sys.path)
        command = [sys.executable, "-c", _CHILD, path, str(os.getpid()), str(theirs.fileno())]
        # A session of its own: a terminal's Ctrl-C goes to the coordinator alone, which stops us in order.
        more: Any = {"stdin": subprocess.DEVNULL, "stderr": subprocess.STDOUT, "start_new_session": True}
        with theirs:
            self.process = subprocess.Popen(command, stdout=self.log, pass_fds=[theirs.fileno()], **more)
        self._reader = threading.Thread(target=self._read, args=(task.emit,), daemon=True)
        self._reader.start()
        self.send(pickle.dumps(replace(task, emit=_nowhere)))

    def send(self, data: bytes) -> None:
        with suppress(OSError):  # it died already: its outcome says so
            self._socket.sendall(data)

    def ended(self, timeout_seconds: float | None) -> bool:
        before = cpu_seconds(own=False)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout_seconds)
            self.cpu_seconds += cpu_seconds(own=False) - before  # the kernel adds a child's when we learn of its end
        return self.process.returncode is not None

    def end(self) -> Outcome:
        """Return how it ended when the child and whatever it started are gone."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.ended(None)
        self._reader.join()
        with self._socket, self.log:
            return (self.outcome or _crash(self)).model_copy(update={"wall_seconds": time.monotonic() - self.began})

    def _read(self, emit: Emit) -> None:
        with suppress(ConnectionError), self._socket.makefile("rb") as lines:
            for line in lines:
                message = json.loads(line) if line.endswith(b"\n") else {}
                if "outcome" in message:
                    self.outcome = Outcome.model_validate(message["outcome"])
                    break
                emit(message)
        emit({"outcome": ""})


def _nowhere(message: Mapping[str, Any]) -> None:
    """Stand for `Task.emit` on the way to another process."""


def _crash(child: _Child) -> Outcome:
    status = child.process.returncode
    how = f"ended with status {status}" if status >= 0 else f"was killed by {signal.Signals(-status).name}"
    child.log.seek(0)
    tail = child.log.read()[-2000:].decode(errors="replace").strip()
    shown = f"; its last output:\n{tail}" if tail else " and left no output"
    hint = "Perhaps the machine ran out of memory. " if status == -signal.SIGKILL else ""
    hint += "Run again: it goes on at the last checkpoint."
    return Outcome(code="crashed", error=f"the step's process {how}{shown}", hint=hint, cpu_seconds=child.cpu_seconds)


EXECUTORS = {executor.name: executor for executor in (InlineExecutor, ProcessExecutor)}
