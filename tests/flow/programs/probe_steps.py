"""Step functions whose calls can be counted: each leaves lines in the journal that `resources` names."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bessemer.core.config import Config
from bessemer.core.errors import BackendError, ConfigError
from bessemer.flow import StepContext


def note(ctx: StepContext, *words: object) -> None:
    """Append one line: whole, whoever else writes, because it is short."""
    with Path(ctx.resources["journal"]).open("a") as journal:
        journal.write(" ".join(map(str, words)) + "\n")


def starts(ctx: StepContext) -> int:
    """Return how many steps have started so far."""
    return Path(ctx.resources["journal"]).read_text().count(" start ")


class Work(Config):
    name: str = "work"
    value: int = 0
    seconds: float = 0.0
    meet: int = 0  # wait until so many steps have started


def work(ctx: StepContext, config: Work) -> Mapping[str, Any]:
    """Add the values of all inputs to its own."""
    note(ctx, config.name, "start", os.getpid(), time.monotonic())
    until, patience = time.monotonic() + config.seconds, time.monotonic() + 60
    while time.monotonic() < until or (starts(ctx) < config.meet and time.monotonic() < patience):
        ctx.check()
        time.sleep(0.01)
    value = config.value + sum(artifact.meta["value"] for artifact in ctx.inputs.values())
    (ctx.out / "deep").mkdir()
    (ctx.out / "deep" / "value.txt").write_text(str(value))
    note(ctx, config.name, "end", os.getpid(), time.monotonic())
    return {"value": value}


class Count(Config):
    name: str = "count"
    total: int = 10
    seconds: float = 0.02


def count(ctx: StepContext, config: Count) -> Mapping[str, Any]:
    """Count to `total`, keeping a checkpoint after each number."""
    done = 0
    if latest := ctx.checkpoints.latest():
        done = int((latest / "done").read_text())
    note(ctx, config.name, "start", os.getpid(), done)
    while done < config.total:
        time.sleep(config.seconds)
        done += 1
        note(ctx, config.name, "count", os.getpid(), done)  # before it is kept, so that a kill cannot lose it
        with ctx.checkpoints.save() as folder:
            (folder / "done").write_text(str(done))
        ctx.progress(done, config.total, "numbers")
    (ctx.out / "total").write_text(str(done))
    return {"value": done}


def stubborn(ctx: StepContext, config: Count) -> Mapping[str, Any]:
    """Work without ever asking whether it should stop, then write its result."""
    note(ctx, config.name, "start", os.getpid(), ctx.out)
    time.sleep(config.seconds)
    (ctx.out / "by").write_text(str(ctx.out))
    note(ctx, config.name, "end", os.getpid())
    return {"by": str(ctx.out)}


class Fail(Config):
    name: str = "fail"
    how: str = "raise"
    times: int = 1


def fail(ctx: StepContext, config: Fail) -> Mapping[str, Any]:
    """Fail in some way, a number of times."""
    note(ctx, config.name, "start", time.monotonic())
    calls = Path(ctx.resources["journal"]).read_text().count(f"{config.name} start")
    if calls <= config.times:
        _FAILURES[config.how](ctx)
    return {"calls": calls}


def _raise(ctx: StepContext) -> None:
    raise ValueError("the cat sat on the data")


def _backend(ctx: StepContext) -> None:
    raise BackendError("the engine stalled", hint="Restart the engine.")


def _config(ctx: StepContext) -> None:
    raise ConfigError("the rate is negative", hint="Use a positive rate.")


def _kill(ctx: StepContext) -> None:
    sys.stdout.write("last words\n")
    sys.stdout.flush()
    os.kill(os.getpid(), signal.SIGKILL)


def _quit(ctx: StepContext) -> None:
    os._exit(3)


def _full(ctx: StepContext) -> None:
    with Path("/dev/full").open("wb") as device:
        device.write(b"x" * 100_000)


def _link(ctx: StepContext) -> None:
    (ctx.out / "link").symlink_to("/etc/hostname")


_FAILURES = {
    "raise": _raise, "backend": _backend, "config": _config, "kill": _kill, "quit": _quit, "full": _full, "link": _link
}  # fmt: skip


def no_json(ctx: StepContext, config: None) -> Mapping[str, Any]:
    """Return what cannot be written down."""
    return {"value": float("nan")}


def chatty(ctx: StepContext, config: None) -> Mapping[str, Any]:
    """Use the processor, start a child that does, tell figures, write to the terminal."""
    end = time.process_time() + 0.2
    while time.process_time() < end:
        pass
    subprocess.run([sys.executable, "-c", "x = bytearray(120_000_000); sum(range(2_000_000))"], check=True)
    sys.stdout.write("not on your terminal\n")
    ctx.measured(loss=0.5, learning_rate=1)
    ctx.progress(1, 2, "things", "half way")
    return {}


def talks_and_publishes(ctx: StepContext, config: None) -> Mapping[str, Any]:
    """Tell figures faster than anybody writes them down."""
    for number in range(5):
        ctx.measured(step=number)
    return {}


def talks_and_fails(ctx: StepContext, config: None) -> Mapping[str, Any]:
    """Tell figures, then fail for good."""
    talks_and_publishes(ctx, config)
    raise ConfigError("no")


def orphan(ctx: StepContext, config: None) -> Mapping[str, Any]:
    """Start a process of its own, then sleep without asking anything."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    note(ctx, "orphan", os.getpid(), child.pid)
    time.sleep(60)
    return {}
