"""Programs that the tests start: none outlives its block, whatever fails in it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def program(command: list[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Run a program within a block, with its output in a pipe; it is killed at the end unless it has ended."""
    with subprocess.Popen(command, **{"stdout": subprocess.PIPE, "text": True, **options}) as process:
        try:
            yield process
        finally:
            process.kill()
