"""Who asks an agent, by the key and the request: which tools, whose memory and runs, what is approved.

Owns that reading. Nothing that a client writes widens what its key grants.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bessemer.core.acting import Asker, Personal
from bessemer.core.errors import NotFound
from bessemer.serve.keys import Key
from bessemer.serve.refusals import Refused, unsupported


def personal(engine: Any, key: Key, model: str, metadata: Mapping[str, str]) -> Any:
    """Return an engine for whoever asks: an agent with what its key grants; any other as it is.

    Args:
        engine: of the model.
        key: of the request.
        model: its name.
        metadata: of the request; `session`, `run`, `approve` and `deny` are read.

    Raises:
        Refused: the key grants a tool that the agent does not have.
    """
    if not isinstance(engine, Personal):
        return engine
    try:
        return engine.of(_asker(key, model, metadata))
    except NotFound as error:
        raise Refused(unsupported("model", f"{error.message}. {error.hint}")) from error


def keeps_words(engine: Any) -> bool:
    """Return whether an agent would keep words of this request: a session's, or a run's."""
    asker = getattr(engine, "asker", None)
    return isinstance(asker, Asker) and bool(asker.session or asker.run)


def _asker(key: Key, model: str, metadata: Mapping[str, str]) -> Asker:
    def named(field: str) -> tuple[str, ...]:
        return tuple(filter(None, (id.strip() for id in metadata.get(field, "").split(","))))

    return Asker(
        project=key.project,
        key_id=key.id,
        tools=key.tools_of(model),
        session=metadata.get("session", ""),
        run=metadata.get("run", ""),
        approved=named("approve"),
        denied=named("deny"),
    )
