"""Backends by name: one table from a string to an import path, plus entry points, loaded when first used.

Owns the look-up and the error for a missing package; knows no backend.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from bessemer.core.errors import MissingDependency, NotFound


class Registry:
    """Names of backends and where their code is.

    Args:
        group: the entry-point group that other packages add to, such as ``bessemer.engines``.
        builtin: name -> ``package.module:attribute`` of our own backends.
        extras: name -> the extra of this package to install when its import fails.
    """

    def __init__(self, group: str, builtin: Mapping[str, str], extras: Mapping[str, str] | None = None) -> None:
        self.group = group
        self._builtin = dict(builtin)
        self._extras = dict(extras or {})

    def names(self) -> list[str]:
        """Return the known names, sorted; nothing is imported."""
        return sorted(set(self._builtin) | {point.name for point in entry_points(group=self.group)})

    def load(self, name: str) -> Any:
        """Return the object registered under a name.

        Raises:
            NotFound: no backend has that name.
            MissingDependency: the backend's own package is not installed.
        """
        path = self._builtin.get(name) or next(
            (point.value for point in entry_points(group=self.group) if point.name == name), None
        )
        if path is None:
            raise NotFound(f"no {self.group} backend is called '{name}'", hint=f"Known: {', '.join(self.names())}")
        module, _, attribute = path.partition(":")
        try:
            return getattr(import_module(module), attribute)
        except ModuleNotFoundError as error:
            if error.name and not error.name.startswith("bessemer"):
                raise MissingDependency(error.name, extra=self._extras.get(name, "all")) from error
            raise
