"""Python as a tool, in a process that can reach nothing: what the isolation is, and that it is there before it is used.

Two strengths, and what is asked for is what is given or nothing runs:

- ``strong`` (Linux 5.13 and later): no network (a network namespace of its own, and a filter that refuses sockets), no
  file but Python's own to read and one empty folder to write (Landlock), no new privileges, no other processes to see
  or trace (the filter), and limits. What is left is the kernel itself, whose faults a process can still try.
- ``limits``: time, memory, file size, processes. It stops accidents, not attacks: code can read what this user can and
  open connections. Only for code that you would run yourself.

Owns the process and its bounds. The child's part stands in `sandboxed.py`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Literal

from bessemer.core.errors import BackendError, Unsupported
from bessemer.core.nouns import Noun
from bessemer.infer.agents.callables import callable_tool
from bessemer.infer.agents.capability import Capability
from bessemer.infer.agents.sandbox_config import SandboxConfig

_CHILD = Path(__file__).with_name("sandboxed.py")
_PROBE = "print('ready')"


class Ran(Noun):
    """What came of code: what it printed, and how it ended: ``ok``, ``failed``, ``timeout`` or ``killed``."""

    output: str
    ended: Literal["ok", "failed", "timeout", "killed"]


def run_python(code: str, config: SandboxConfig | None = None) -> Ran:
    """Return what code prints; it runs in a process of its own and leaves nothing behind.

    Raises:
        Unsupported: this machine does not give the isolation that is asked for.
        BackendError: the process could not be started.
    """
    chosen = config or SandboxConfig()
    if chosen.isolation == "strong" and (missing := strong_isolation_lacks()):
        raise Unsupported(
            f"this machine gives no strong isolation: {missing}",
            hint="Use Linux 5.13 or later; `isolation: limits` stops accidents only.",
        )
    return _run(code, chosen)


def python_tool(config: SandboxConfig | None = None) -> Capability:
    """Return sandboxed Python as a tool.

    Raises:
        Unsupported: this machine does not give the isolation that is asked for.
    """
    chosen = config or SandboxConfig()
    if chosen.isolation == "strong" and (missing := strong_isolation_lacks()):
        raise Unsupported(f"this machine gives no strong isolation: {missing}", hint="Leave the tool `python` out.")

    @callable_tool(name="python", timeout_seconds=chosen.seconds + 10)
    def python(code: str) -> str:
        """Run a Python program and return what it prints. It has the standard library, and no network and no files."""
        ran = run_python(code, chosen)
        return ran.output if ran.ended == "ok" else f"{ran.output}\n[{ran.ended}]".strip()

    return python


@lru_cache(maxsize=1)
def strong_isolation_lacks() -> str:
    """Return what this machine lacks for strong isolation, or an empty text: tried once, by really doing it."""
    if not sys.platform.startswith("linux"):
        return f"it is {sys.platform}, not Linux"
    try:
        ran = _run(_PROBE, SandboxConfig())
    except BackendError as error:
        return error.message
    return "" if ran == Ran(output="ready\n", ended="ok") else ran.output.strip()[-200:] or ran.ended


def _run(code: str, config: SandboxConfig) -> Ran:
    readable = sorted({sys.base_prefix, sys.prefix, "/usr/lib", "/lib"})
    with tempfile.TemporaryDirectory(prefix="bessemer-python-") as folder, tempfile.TemporaryFile() as printed:
        order = config.model_dump() | {"folder": folder, "readable": readable}
        # -I: neither the environment nor the current folder says what is imported; -S: no installed packages
        command = [sys.executable, "-I", "-S", "-B", str(_CHILD), json.dumps(order)]
        ended: Literal["ok", "failed", "timeout", "killed"] = "timeout"
        try:
            done = subprocess.run(
                command,
                input=code.encode(),
                stdout=printed,  # a file, whose size the limit on files bounds; a pipe would fill this process
                stderr=subprocess.STDOUT,
                cwd=folder,
                env={"PATH": "", "LANG": "C.UTF-8"},
                timeout=config.seconds,
                check=False,
            )
            ended = "failed" if done.returncode > 0 else "killed" if done.returncode else "ok"
        except subprocess.TimeoutExpired:
            pass
        except (OSError, ValueError) as error:
            raise BackendError(f"the sandbox did not start: {error}", hint="Check the limits of this user.") from error
        printed.seek(0)
        return Ran(output=_shown(printed.read(4 * config.output_characters + 4), config), ended=ended)


def _shown(output: bytes, config: SandboxConfig) -> str:
    text = output.decode("utf-8", "replace")
    return text if len(text) <= config.output_characters else text[: config.output_characters] + "\n[cut]"
