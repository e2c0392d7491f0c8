"""Steps for the executors' suite, found by name in whichever process runs them."""

import os
import shutil
import time
from pathlib import Path
from typing import Any

from bessemer.core.errors import ConfigError
from bessemer.flow import StepContext


def write(ctx: StepContext, config: None) -> dict[str, Any]:
    """Publish a file, tell progress and a figure, and say where this ran."""
    (ctx.out / "deep").mkdir()
    (ctx.out / "deep" / "word.txt").write_text(ctx.resources["word"])
    ctx.progress(1, 2, "words", "half")
    ctx.measured(words_per_second=3.0)
    return {"pid": os.getpid()}


def fail(ctx: StepContext, config: None) -> dict[str, Any]:
    """Fail the way a user's mistake does."""
    raise ConfigError("nothing fits", hint="Try less.")


def wait_for_stop(ctx: StepContext, config: None) -> dict[str, Any]:
    """Run until told to stop."""
    (Path(ctx.resources["root"]) / "began").touch()
    while True:
        ctx.check()
        time.sleep(0.01)


def never_check(ctx: StepContext, config: None) -> dict[str, Any]:
    """Run for an hour, whatever is said."""
    (Path(ctx.resources["root"]) / "began").touch()
    time.sleep(3600)
    return {}


def crash_without_a_folder(ctx: StepContext, config: None) -> dict[str, Any]:
    """Die where another coordinator has swept the attempt's folder away."""
    os.write(1, b"the last word")
    shutil.rmtree(ctx.out.parent)
    os._exit(7)


def save_twice(ctx: StepContext, config: None) -> dict[str, Any]:
    """Go on at the last checkpoint, if there is one."""
    latest = ctx.checkpoints.latest()
    before = int((latest / "count").read_text()) if latest else 0
    for count in (before + 1, before + 2):
        with ctx.checkpoints.save() as folder:
            (folder / "count").write_text(str(count))
    return {"before": before}
