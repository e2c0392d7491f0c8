"""What a verb gives back: one JSON value for machines or something drawn for people, and errors for both.

Owns standard output and standard error. Progress goes to standard error, results to standard output.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from pydantic import BaseModel
from rich.console import Console, RenderableType
from rich.markup import escape

from bessemer.core.errors import BessemerError

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def emit(value: Any, as_json: bool, draw: Callable[[], RenderableType]) -> None:
    """Write a verb's result: as one JSON value, or drawn."""
    if as_json:
        write_json(value)
    else:
        out.print(draw())


def write_json(value: Any) -> None:
    """Write one JSON value and a line end to standard output."""
    sys.stdout.write(json.dumps(value, default=_plain, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def fail(error: BessemerError, as_json: bool, status: int = 1) -> NoReturn:
    """Say what is wrong and what to do, then leave with a non-zero status."""
    if as_json:
        write_json({"error": {"code": error.code, "message": error.message, "hint": error.hint}})
    else:
        err.print(f"[bold red]error[/] {escape(error.message)}", soft_wrap=True)
        if error.hint:
            err.print(f"[dim]  what to do:[/] {escape(error.hint)}", soft_wrap=True)
    raise SystemExit(status)


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")
