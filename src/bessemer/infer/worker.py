"""The process in which an embedded engine computes: one loop that takes requests, steps the batch, sends pieces.

It is a process of its own because a step holds Python's global lock until it ends (measured: 1.5 s for a long
prompt), and so that a crash in native code ends no gateway. It ends when its pipe does, so it outlives no parent.

Owns the loop. Knows no asyncio and no model format: `Device` does.
"""

from __future__ import annotations

import signal
import sys
from multiprocessing.connection import Connection

from bessemer.core.errors import BackendError, BessemerError
from bessemer.core.nouns import Delta, ScoreResult, Usage
from bessemer.infer.device import Device
from bessemer.infer.engines import Counters, minus
from bessemer.infer.jobs import Job, failed_in_step
from bessemer.infer.messages import Ask, Cancel, Count, Step, Stop

Reply = tuple[int, Delta | ScoreResult | int | BessemerError, Usage]


class Worker:
    """Takes requests from a pipe and answers them, all in one batch."""

    def __init__(self, pipe: Connection, device: Device) -> None:
        self._pipe = pipe
        self._device = device
        self._jobs: dict[int, Job] = {}
        self._counters = Counters()

    def run(self) -> None:
        """Work until told to stop."""
        while True:
            replies: list[Reply] = []
            while self._pipe.poll(0 if replies or self._device.busy() else None):
                message = self._pipe.recv()
                if isinstance(message, Stop):
                    return self._send(replies)
                replies += self._take(message)
            if self._device.busy():
                replies += self._step()
            self._send(replies)

    def _send(self, replies: list[Reply]) -> None:
        if replies:
            self._pipe.send(Step(tuple(replies), self._counters))

    def _take(self, message: Ask | Count | Cancel) -> list[Reply]:
        if isinstance(message, Cancel):
            job = self._jobs.pop(message.id, None)
            return [(message.id, job.cancel(), job.usage)] if job else []
        try:
            if isinstance(message, Count):
                return [(message.id, self._device.count_tokens(message.request), Usage())]
            job = self._device.begin(message.id, message.request)
        except BessemerError as error:
            return [(message.id, error, Usage())]
        except Exception as error:
            return [(message.id, BackendError(f"the engine refused the request: {error}"), Usage())]
        self._jobs[message.id] = job
        self._counters = self._counters.plus(requests=1, total=job.usage)
        return []

    def _step(self) -> list[Reply]:
        try:
            self._device.step()
        except Exception as error:
            return self._drop_all(error)
        replies: list[Reply] = []
        for id, job in list(self._jobs.items()):
            before = job.usage
            reply = _advanced(job)
            self._counters = self._counters.plus(total=minus(job.usage, before))
            if reply is not None:
                replies.append((id, reply, job.usage))
            if job.finished:
                del self._jobs[id]
        return replies

    def _drop_all(self, error: Exception) -> list[Reply]:
        """End what was under way with a step that failed, and begin anew."""
        jobs, self._jobs = self._jobs, {}
        told = failed_in_step(list(jobs.values()), error)
        for job in jobs.values():
            job.cancel()
        self._device.renew()
        return [(id, why, job.usage) for (id, job), why in zip(jobs.items(), told, strict=True)]


def _advanced(job: Job) -> Delta | ScoreResult | BessemerError | None:
    """Return what a step brought to a request; a mistake of ours in one ends no other, nor the process."""
    try:
        return job.advance()
    except Exception as error:
        job.cancel()
        return BackendError(f"the engine failed in an answer: {error!r}")


def main() -> None:
    """Serve the pipe whose file descriptor is the first argument; the first message on it is the configuration."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides when to end
    pipe = Connection(int(sys.argv[1]))
    try:
        try:
            device = Device(pipe.recv())
        except BessemerError as error:
            return pipe.send(error)
        except Exception as error:
            return pipe.send(BackendError(f"the model could not be loaded: {error}"))
        pipe.send(device.ready)
        Worker(pipe, device).run()
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return None


if __name__ == "__main__":
    main()
