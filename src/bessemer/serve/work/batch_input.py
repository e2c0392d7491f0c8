"""What a batch was given: its lines are looked at once, before it begins.

Owns what is wrong with them. Knows no table.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel

from bessemer.core.errors import ConfigError
from bessemer.serve.database import is_sound
from bessemer.serve.work.files import read_line

_MOST_ERRORS = 50
_WRONG_ID = "custom_id must be a text of 1 to 512 characters, without zeros and surrogates."


class LineError(BaseModel):
    """What is wrong with a line of the input."""

    code: str
    line: int | None = None
    message: str
    param: str | None = None


def look(path: Path, endpoint: str, most: int) -> tuple[list[tuple[int, str, int, int]], list[LineError]]:
    """Return number, custom_id, place and size of each line, and what is wrong with the first ones that are wrong."""
    lines: list[tuple[int, str, int, int]] = []
    errors: list[LineError] = []
    seen: set[str] = set()
    start = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            size, at = len(line), start
            start += size
            if not line.strip():
                continue
            if len(lines) >= most:
                message = f"A batch has at most {most} lines."
                return lines, [LineError(code="too_many_tasks", line=number, message=message)]
            found, error = _checked(line, number, endpoint, seen)
            if error:
                errors.append(error)
            if len(errors) >= _MOST_ERRORS:
                break
            seen.add(found)
            lines.append((number, found, at, size))
    if not lines and not errors:
        errors.append(LineError(code="empty_file", message="The file has no line."))
    return lines, errors


def _checked(line: bytes, number: int, endpoint: str, seen: set[str]) -> tuple[str, LineError | None]:
    """Return a line's custom_id, and what is wrong with it."""
    try:
        said = read_line(line, number)
    except ConfigError as error:
        return "", LineError(code="invalid_json_line", line=number, message=f"{error.message}.")
    if not isinstance(said, dict):
        return "", LineError(code="invalid_json_line", line=number, message="The line is no JSON object.")
    id, body = said.get("custom_id"), said.get("body")
    named = isinstance(id, str) and 0 < len(id) <= 512 and is_sound(id)
    rules = (
        (named, "missing_required_parameter", _WRONG_ID, "custom_id"),
        (id not in seen if named else True, "duplicate_custom_id", "Another line has this custom_id.", "custom_id"),
        (said.get("method") == "POST", "invalid_method", "method must be POST.", "method"),
        (said.get("url") == endpoint, "mismatched_endpoint", f"url must be the batch's, {endpoint}.", "url"),
        (isinstance(body, dict), "missing_required_parameter", "body must be a JSON object.", "body"),
        (not (isinstance(body, dict) and body.get("stream")), "invalid_request", "No line is streamed.", "body.stream"),
    )
    for right, code, message, param in rules:
        if not right:
            return "", LineError(code=code, line=number, message=message, param=param)
    return str(id), None
