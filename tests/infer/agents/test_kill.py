"""A run that was really killed, with SIGKILL in the middle of a tool, goes on in another process."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path


def test_a_killed_run_goes_on_and_books_nothing_twice(tmp_path: Path) -> None:
    command = [sys.executable, str(Path(__file__).with_name("killed_agent.py")), str(tmp_path)]
    killed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert (tmp_path / "asked").read_text() == ".."
    gone_on = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(gone_on.stdout) == ["Booked.", 4, ["", "unknown", ""]]
    assert (tmp_path / "booked").read_text() == "abc", "a room was booked twice, or never"
    assert (tmp_path / "asked").read_text() == "....", "what the model had said was asked again"
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(again.stdout)[:2] == ["Booked.", 0]
    assert (tmp_path / "booked").read_text() == "abc"
