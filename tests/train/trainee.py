"""Trains in a process of its own that kills itself (SIGKILL) after a given number of steps; and a checkpoint folder.

Usage: trainee.py BASE EXAMPLES.jsonl OUT CHECKPOINTS CONFIG.json DIE_AFTER_STEPS
"""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path


class FolderCheckpoints:
    """Checkpoints in numbered folders, renamed into place when whole."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)

    def latest(self) -> Path | None:
        """Return the newest whole one."""
        done = sorted(path for path in self.root.iterdir() if path.name.isdigit())
        return done[-1] if done else None

    @contextlib.contextmanager
    def save(self) -> Iterator[Path]:
        """Give a folder that counts once the block is done."""
        count = len([path for path in self.root.iterdir() if path.name.isdigit()])
        partial = self.root / f"partial-{count}"
        partial.mkdir(exist_ok=True)
        yield partial
        partial.rename(self.root / f"{count:06d}")


def main(base: str, examples: str, out: str, checkpoints: str, config: str, die_after: str) -> None:
    """Train until the end, or until it is time to die."""
    from bessemer.core.nouns import Example
    from bessemer.train import SftConfig, fine_tune

    steps = 0

    def count(**figures: float) -> None:
        nonlocal steps
        steps += 1
        if steps == int(die_after):
            os.kill(os.getpid(), signal.SIGKILL)

    rows = [Example.model_validate_json(line) for line in Path(examples).read_text().splitlines()]
    settings = SftConfig.model_validate_json(Path(config).read_text())
    fine_tune(Path(base), rows, Path(out), settings, FolderCheckpoints(Path(checkpoints)), measured=count)


if __name__ == "__main__":
    main(*sys.argv[1:])
