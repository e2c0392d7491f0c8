"""Where attempts run: `inline` in a thread of this process, `process` in a child of their own. Each is a core Executor.

Owns threads and processes; knows no store. A cluster's executor needs the same three verbs and `Task.emit`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, field, replace
from io import FileIO
from pathlib import Path

from bessemer.core.errors import Cancelled
from bessemer.flow.attempt import Outcome, Task, perform

_BOOTSTRAP = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from bessemer.flow.child import main
main(*map(int, sys.argv[2:]))
"""
_TAIL_BYTES = 2000


class InlineExecutor:
    """Runs an attempt in a thread: for tests, notebooks and debugging. A step that never checks cannot be stopped."""

    name = "inline"
    capabilities: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self._attempts: dict[str, tuple[threading.Thread, threading.Event, list[Outcome]]] = {}

    def submit(self, task: Task, /) -> str:
        """Start a task; return its handle at once."""
        cancelled, outcomes, handle = threading.Event(), list[Outcome](), uuid.uuid4().hex

        def check() -> None:
            if cancelled.is_set():
                raise Cancelled("the run was stopped", hint="Run it again: it goes on at the last checkpoint.")

        def work() -> None:
            outcomes.append(perform(task, check))
            task.emit({"outcome": ""})

        thread = threading.Thread(target=work, name=f"step {task.step.name}", daemon=True)
        self._attempts[handle] = (thread, cancelled, outcomes)
        thread.start()
        return handle

    def wait(self, handle: str, timeout_seconds: float | None = None, /) -> Outcome | None:
        """Return the task's outcome, once, or None if it still runs after the timeout."""
        thread, _, outcomes = self._attempts[handle]
        if timeout_seconds != 0:
            thread.join(timeout_seconds)
        return self._attempts.pop(handle)[2][0] if outcomes else None

    def cancel(self, handle: str, /) -> None:
        """Stop a task; returns when it no longer runs."""
        thread, cancelled, _ = self._attempts.pop(handle)
        cancelled.set()
        thread.join()


@dataclass(slots=True)
class _Child:
    process: subprocess.Popen[bytes]
    control: FileIO
    log: Path
    began: float
    reader: threading.Thread | None = None
    outcome: list[Outcome] = field(default_factory=list)


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
        (commands, control), (told, events) = os.pipe(), os.pipe()
        path = json.dumps([entry or str(Path.cwd()) for entry in sys.path])
        numbers = [str(number) for number in (os.getpid(), commands, events)]
        log = task.folder / "log.txt"
        try:
            with log.open("ab") as output:
                process = subprocess.Popen(
                    [sys.executable, "-c", _BOOTSTRAP, path, *numbers],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    pass_fds=(commands, events),
                    start_new_session=True,  # a terminal's Ctrl-C goes to the coordinator, which stops us in order
                )
        except BaseException:
            os.close(control)
            os.close(told)
            raise
        finally:
            os.close(commands)
            os.close(events)
        child = _Child(process, FileIO(control, "w"), log, time.monotonic())
        child.reader = threading.Thread(target=_read, args=(told, child, task), daemon=True)
        child.reader.start()
        _write(child.control, task.dump())
        handle = uuid.uuid4().hex
        self._children[handle] = child
        return handle

    def wait(self, handle: str, timeout_seconds: float | None = None, /) -> Outcome | None:
        """Return the task's outcome, once, or None if it still runs after the timeout."""
        child = self._children[handle]
        if not child.outcome:
            with suppress(subprocess.TimeoutExpired):
                child.process.wait(timeout_seconds)
        if not child.outcome and child.process.poll() is None:
            return None
        _end(self._children.pop(handle))
        outcome = child.outcome[0] if child.outcome else _crash(child)
        return replace(outcome, wall_seconds=time.monotonic() - child.began)

    def cancel(self, handle: str, /) -> None:
        """Stop a task; returns when it no longer runs."""
        child = self._children.pop(handle)
        if child.process.poll() is None and not child.outcome:
            _write(child.control, "cancel")
            with suppress(subprocess.TimeoutExpired):
                child.process.wait(self._stop_seconds)
        _end(child)


def _read(told: int, child: _Child, task: Task) -> None:
    """Pass the child's messages on until it has ended, the outcome last."""
    with os.fdopen(told) as lines:
        for line in lines:
            message = json.loads(line) if line.endswith("\n") else {}
            if "outcome" in message:
                child.outcome.append(Outcome.load(message["outcome"]))
                break
            if message:
                task.emit(message)
    task.emit({"outcome": ""})


def _write(control: FileIO, line: str) -> None:
    data = line.encode() + b"\n"
    with suppress(BrokenPipeError):  # it died already: its outcome says so
        while data:
            data = data[control.write(data) :]


def _end(child: _Child) -> None:
    """Return when the child and whatever it started are gone."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.process.pid, signal.SIGKILL)
    child.process.wait()
    if child.reader:
        child.reader.join()
    child.control.close()


def _crash(child: _Child) -> Outcome:
    status = child.process.returncode
    how = f"ended with status {status}" if status >= 0 else f"was killed by {signal.Signals(-status).name}"
    with child.log.open("rb") as log:
        log.seek(max(0, child.log.stat().st_size - _TAIL_BYTES))
        tail = log.read().decode(errors="replace").strip()
    hint = "Run again: it goes on at the last checkpoint."
    if status == -signal.SIGKILL:
        hint = f"Perhaps the machine ran out of memory. {hint}"
    shown = f"; its last output:\n{tail}" if tail else " and left no output"
    return Outcome(code="crashed", error=f"the step's process {how}{shown}", hint=hint)


def open_executor(name: str) -> InlineExecutor | ProcessExecutor:
    """Return the executor of that name."""
    return InlineExecutor() if name == "inline" else ProcessExecutor()
