"""The process that a step runs in: takes its task from a socket, tells on it as JSON lines what happens.

Owns the child's death: it does not outlive its coordinator, and stops when told to. Starts light: what is
imported beyond `bessemer.flow` is what the step itself imports.
"""

from __future__ import annotations

import ctypes
import json
import os
import pickle
import signal
import socket
import sys
import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, BinaryIO

from bessemer.flow.attempt import Stop, Task, cpu_seconds, perform


def main(parent: str, descriptor: str) -> None:
    """Run the task that comes on a socket; tell on the same; never return."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG. Source: prctl(2), <linux/prctl.h>
    if os.getppid() != int(parent):
        os._exit(1)
    coordinator, lock, stop = socket.socket(fileno=int(descriptor)), threading.Lock(), Stop()
    commands = coordinator.makefile("rb")

    def emit(message: Mapping[str, Any]) -> None:
        with lock:
            coordinator.sendall(json.dumps(message).encode() + b"\n")

    task: Task = replace(pickle.load(commands), emit=emit)
    threading.Thread(target=_watch, args=(commands, stop), daemon=True).start()
    outcome = perform(task, stop.check).model_copy(update={"cpu_seconds": cpu_seconds()})
    sys.stdout.flush()
    emit({"outcome": outcome.model_dump(mode="json")})
    os._exit(0)  # the result is complete: the teardown of heavy libraries would only cost time


def _watch(commands: BinaryIO, stop: Stop) -> None:
    """Stop at the first command; end the process when the socket closes, because the coordinator is gone."""
    for _ in commands:
        stop.set()
    os.kill(os.getpid(), signal.SIGKILL)
