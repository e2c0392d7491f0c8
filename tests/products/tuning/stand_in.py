"""Steps that stand in for training: they count, keep a checkpoint after each, and wait where a test says so."""

from __future__ import annotations

import json
import time
from pathlib import Path

from bessemer.core.config import Config
from bessemer.core.errors import ConfigError
from bessemer.flow import StepContext


class StandInConfig(Config):
    """How many steps there are, how long each takes, and whether it fails at the end."""

    steps: int = 3
    seconds: float = 0.0
    fails: bool = False


def train(ctx: StepContext, config: StandInConfig) -> dict[str, object]:
    """Count to the number of steps, on from the last checkpoint."""
    found = ctx.checkpoints.latest()
    done = json.loads((found / "done.json").read_text()) if found else 0
    began = done
    ctx.progress(done * 10, config.steps * 10, "tokens", "resumed" if done else "")
    while done < config.steps:
        time.sleep(config.seconds)
        done += 1
        ctx.measured(step=done, loss=1 / done, learning_rate=0.1, tokens_per_second=10.0)
        with ctx.checkpoints.save() as folder:
            (folder / "done.json").write_text(json.dumps(done))
        ctx.progress(done * 10, config.steps * 10, "tokens")
    if config.fails:
        raise ConfigError("the loss is not a number", hint="Lower the rate.")
    (Path(ctx.out) / "engine").mkdir()
    (Path(ctx.out) / "engine" / "weights").write_text("x")
    return {"steps": done, "began": began, "tokens": done * 10}


def nap(ctx: StepContext, config: None) -> dict[str, object]:
    """Stand in for a step that takes its time."""
    time.sleep(0.3)
    return {}
