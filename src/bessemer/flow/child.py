"""The process that a step runs in: reads its task from a pipe, tells what happens as JSON lines on another.

Owns the child's death: it does not outlive its coordinator, and stops when told to. Starts light: what is
imported beyond `bessemer.flow` is what the step itself imports.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TextIO

from bessemer.core.errors import Cancelled
from bessemer.flow.attempt import Task, cpu_seconds, perform

PR_SET_PDEATHSIG = 1
"""Source: prctl(2), <linux/prctl.h>."""


def main(parent: int, control: int, events: int) -> None:
    """Run the task that comes on the `control` descriptor; tell on `events`; never return."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    told, commands, lock = os.fdopen(events, "w"), os.fdopen(control), threading.Lock()
    cancelled = threading.Event()

    def emit(message: Mapping[str, Any]) -> None:
        with lock:
            told.write(json.dumps(message) + "\n")
            told.flush()

    def check() -> None:
        if cancelled.is_set():
            raise Cancelled("the run was stopped", hint="Run it again: it goes on at the last checkpoint.")

    task = Task.load(json.loads(commands.readline()), emit)
    threading.Thread(target=_watch, args=(commands, cancelled), daemon=True).start()
    outcome = replace(perform(task, check), cpu_seconds=cpu_seconds())
    emit({"outcome": outcome.dump()})
    sys.stdout.flush()
    os._exit(0)  # the result is complete: the teardown of heavy libraries would only cost time


def _watch(commands: TextIO, cancelled: threading.Event) -> None:
    """Set `cancelled` at the first command; end the process when the pipe closes because the coordinator is gone."""
    for _ in commands:
        cancelled.set()
    os.kill(os.getpid(), signal.SIGKILL)
