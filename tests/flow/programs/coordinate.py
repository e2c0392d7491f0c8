"""A coordinator to be killed: `coordinate.py URL ROOT RUN LEASE_SECONDS QUEUE_LIMIT`; RUN `*` stands by for any run."""

from __future__ import annotations

import faulthandler
import signal
import sys
from pathlib import Path

from bessemer.core.errors import Cancelled
from bessemer.flow import Runner, RunnerConfig, open_store


def main(url: str, root: str, run: str, lease_seconds: str, limit: str) -> int:
    faulthandler.dump_traceback_later(50)  # says where a coordinator hangs that a test waits for in vain
    config = RunnerConfig(queues={"default": int(limit)}, lease_seconds=float(lease_seconds), poll_seconds=0.05)
    signal.signal(signal.SIGTERM, _terminate)
    resources = {"journal": str(Path(root) / "journal")}
    with open_store(url) as store:
        runner = Runner(store, Path(root) / "artifacts", resources=resources, config=config)
        try:
            if run == "*":
                runner.work(stop=lambda: not store.runs("running"))
                return 0
            return 0 if runner.run(run).status == "finished" else 1
        except Cancelled:
            return 3
        except KeyboardInterrupt:
            return 4


def _terminate(number: int, frame: object) -> None:
    raise Cancelled("told to terminate", hint="Run it again: it goes on where it stopped.")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
