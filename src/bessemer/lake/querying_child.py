"""The process in which a query runs: opens the tables, shuts every door, then looks at the SQL. A script.

Owns the order: nothing of the query is parsed before the doors are shut.
"""

from __future__ import annotations

import json
import os
import re
import threading
from typing import Any

_SETTINGS = (
    "SET autoinstall_known_extensions = false",
    "SET autoload_known_extensions = false",
    "SET allow_community_extensions = false",
    "SET python_enable_replacements = false",
    "SET temp_directory = ''",
    "SET threads = 1",
    "SET enable_external_access = false",
    "SET lock_configuration = true",
)
_BEGINS = re.compile(r"\s*\(*\s*(SELECT|WITH|FROM|VALUES)\b", re.IGNORECASE)
_COMMENT = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)
_FORBIDDEN = re.compile(
    r"\b(duckdb_\w+|pragma_\w+|getenv|current_setting|query|query_table|which_secret|sniff_csv)\s*\(", re.IGNORECASE
)
"""Functions that tell of the process, or run SQL out of a text; all else that could hurt is shut off by settings."""


def main() -> None:
    """Answer the order on standard input; one JSON object goes out."""
    with os.fdopen(0, "rb") as given:
        order = json.load(given)
    out = os.dup(1)
    os.dup2(2, 1)  # nothing but the answer may be written there
    with os.fdopen(out, "w", encoding="utf-8") as file:
        json.dump(answer(order), file, default=str)


def answer(order: dict[str, Any]) -> dict[str, Any]:
    """Return the rows that an order asks for, or why there are none."""
    try:
        return _rows(order)
    except ModuleNotFoundError:
        return {"error": "package"}
    except Exception as error:  # whatever it is, the other process is told of it
        return _told(error)


def _rows(order: dict[str, Any]) -> dict[str, Any]:
    import duckdb
    import lance

    connection = duckdb.connect(":memory:")
    for name, (path, version) in order["tables"].items():
        dataset = lance.dataset(path, version=version)
        connection.register(name, dataset.to_table())
    connection.execute(f"SET memory_limit = '{order['memory_bytes']}B'")
    for setting in _SETTINGS:
        connection.execute(setting)
    sql = order["sql"]
    statements = connection.extract_statements(sql)
    reads = len(statements) == 1 and statements[0].type == duckdb.StatementType.SELECT
    if not reads or not _BEGINS.match(_COMMENT.sub(" ", sql)):  # a pragma counts as a SELECT in DuckDB
        raise ValueError("only one SELECT is taken")
    if found := _FORBIDDEN.search(sql):
        raise ValueError(f"{found[1]} is not taken")
    late = threading.Timer(order["seconds"], connection.interrupt)
    late.daemon = True
    late.start()
    result = connection.execute(statements[0])
    rows = result.fetchmany(order["rows"] + 1)
    late.cancel()
    columns = [column[0] for column in result.description]
    return {"columns": columns, "rows": rows[: order["rows"]], "more": len(rows) > order["rows"]}


def _told(error: Exception) -> dict[str, str]:
    name, message = type(error).__name__, str(error)
    if name == "InterruptException":
        return {"error": "time"}
    if isinstance(error, MemoryError) or name == "OutOfMemoryException":
        return {"error": "memory"}
    if isinstance(error, ValueError) or type(error).__module__.partition(".")[0] in ("duckdb", "_duckdb"):
        return {"error": "query", "message": message.partition("\n")[0][:500]}
    return {"error": "process", "message": f"the tables could not be read: {name}"}


if __name__ == "__main__":
    main()
