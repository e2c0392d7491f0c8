"""Calls the command in this process: its arguments, environment and folder go in, its output and status come out.

A process of its own for each of hundreds of calls would spend its time on imports. What only a process shows, signals
and what is imported, `tests/lines` and `tests/laws` try on real ones, and one test here.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import traceback
from contextlib import chdir, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from unittest import mock

from bessemer.cli import main, output


def surroundings(folder: Path, **environment: str) -> dict[str, str]:
    """Return the variables of a command whose state is in a folder."""
    return {**os.environ, "BESSEMER_HOME": str(folder / "state"), "HF_HUB_OFFLINE": "1", **environment}


def call(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Return what the command does in a folder."""
    out, err, status = StringIO(), StringIO(), 0
    told_to_end, columns = signal.getsignal(signal.SIGTERM), int(environment.get("COLUMNS", "80"))
    with (
        mock.patch.object(output.out, "_width", columns),  # they read COLUMNS once, when they are made
        mock.patch.object(output.err, "_width", columns),
        mock.patch.dict(os.environ, surroundings(folder, **environment), clear=True),
        mock.patch.object(sys, "argv", ["bessemer", *words]),
        chdir(folder),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
        except Exception:
            traceback.print_exc(file=err)
            status = 1
        finally:
            signal.signal(signal.SIGTERM, told_to_end)
    return subprocess.CompletedProcess(["bessemer", *words], status, out.getvalue(), err.getvalue())


def refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """Assert that a command ended with one clear error that says these words and what to do."""
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr
    assert done.stderr.count("error ") == 1
    assert "what to do:" in done.stderr
