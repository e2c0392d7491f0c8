"""The standard library's modules and the public names of what they define.

Owns which files count, and under which name people use a thing that is defined elsewhere: ``json.JSONDecoder``
stands in ``json.decoder``, ``os.path.join`` in ``posixpath``, ``struct.pack`` in the C module ``_struct``.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bessemer.core.errors import NotFound
from bessemer.lake.document import Progress, no_progress
from bessemer.lake.pydocs.entry import Entry
from bessemer.lake.pydocs.live import inspect_module, is_compiled
from bessemer.lake.pydocs.tree import Import, ModuleTree, parse_module

_SKIPPED_FOLDERS = frozenset(
    {"test", "tests", "idlelib", "lib2to3", "turtledemo", "ensurepip", "pydoc_data", "site-packages", "__pycache__"}
    | {"dist-packages", "lib-dynload", "__phello__", "_bundled", "encodings"}
)
_SKIPPED_MODULES = frozenset({"antigravity", "this", "ntpath", "nturl2path", "nt", "sitecustomize", "usercustomize"})
_RENAMED = {"posixpath": "os.path", "genericpath": "os.path"}
_IMPLEMENTATIONS = frozenset({"posix", "pyexpat"})
"""Without an underscore, but only there to be re-exported."""


@dataclass(slots=True)
class _Library:
    files: dict[str, Path]
    trees: dict[str, ModuleTree] = field(default_factory=dict)
    compiled: dict[str, tuple[Entry, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Public:
    """A definition with the public module that people take it from, and the file that it was read from."""

    entry: Entry
    module: str
    source: str


def standard_library(progress: Progress = no_progress, wanted: frozenset[str] = frozenset()) -> list[Public]:
    """Return the public definitions of the standard library, each name once, sorted by module.

    Args:
        progress: called for each file.
        wanted: top-level modules; empty is all.

    Raises:
        NotFound: this Python has no source files of its library.
    """
    root = Path(sysconfig.get_paths()["stdlib"])
    library = _Library(dict(_files(root, wanted)))
    if not library.files and not wanted:
        raise NotFound(
            f"no source of the standard library in {root}",
            hint="Install the full Python package (this one has compiled files only), or set `stdlib: false`.",
        )
    for done, (name, path) in enumerate(library.files.items(), 1):
        try:
            library.trees[name] = parse_module(path.read_bytes())
        except (SyntaxError, ValueError, OSError):
            continue  # a template or a deliberately broken file: it defines nothing
        progress(done, len(library.files))
    found: dict[str, Public] = {}
    for public in _all_public(library, root, wanted):
        known = found.setdefault(f"{public.module}:{public.entry.path}", public)
        if public.entry.doc and not known.entry.doc:
            found[f"{public.module}:{public.entry.path}"] = public
    return sorted(found.values(), key=lambda p: (p.module, p.source, p.entry.line, p.entry.path))


def _files(root: Path, wanted: frozenset[str]) -> Iterator[tuple[str, Path]]:
    """Yield (module, file); beside the wanted ones those that may define what they re-export."""
    for folder, below, files in os.walk(root):
        below[:] = sorted(name for name in below if name not in _SKIPPED_FOLDERS)
        for file in sorted(files):
            path = Path(folder, file)
            parts = path.relative_to(root).with_suffix("").parts
            top = parts[0]
            if path.suffix != ".py" or top not in sys.stdlib_module_names or top in _SKIPPED_MODULES:
                continue
            if not wanted or top in wanted or top.startswith("_") or _RENAMED.get(top, "").partition(".")[0] in wanted:
                yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def _all_public(library: _Library, root: Path, wanted: frozenset[str]) -> Iterator[Public]:
    """Yield public definitions: those with a source first, so that the C twin of a name comes second."""
    aliases = _aliases(library)
    for name, tree in library.trees.items():
        source = f"stdlib:{library.files[name].relative_to(root).as_posix()}"
        yield from _named(name, tree.entries, aliases, source)
    sources = {module for module, _ in aliases}
    plain = {name for name in wanted or sys.stdlib_module_names if not _is_private(name)}
    for name in sorted((plain | sources) - set(library.trees) - _SKIPPED_MODULES):
        if is_compiled(name):
            yield from _named(name, _compiled(library, name), aliases, f"stdlib:{name} (compiled)")


def _compiled(library: _Library, name: str) -> tuple[Entry, ...]:
    if name not in library.compiled:
        library.compiled[name] = inspect_module(name) if is_compiled(name) else ()
    return library.compiled[name]


def _named(
    module: str, entries: tuple[Entry, ...], aliases: dict[tuple[str, str], str], source: str
) -> Iterator[Public]:
    """Yield a module's entries under their public names; what has none is not public."""
    for entry in entries:
        alias = aliases.get((module, entry.path.partition(".")[0]))
        if alias and entry.path:
            yield Public(entry, alias, source)
        elif not _is_private(module) and (entry.path or module not in _RENAMED):
            yield Public(entry, _RENAMED.get(module, module), source)


def _is_private(module: str) -> bool:
    return module in _IMPLEMENTATIONS or any(
        part.startswith("_") and part != "__future__" for part in module.split(".")
    )


def _aliases(library: _Library) -> dict[tuple[str, str], str]:
    """Return, for (defining module, name), the module that people import the name from instead.

    A package speaks for its own submodules, any public module for private ones; the shortest name wins.
    """
    found: dict[tuple[str, str], list[str]] = {}
    for public, tree in library.trees.items():
        if _is_private(public):
            continue
        for item in tree.imports:
            target = _target(library, public, item)
            if not target.startswith(f"{public}.") and not _is_private(target):
                continue
            for name in _imported_names(library, target, item):
                if name == item.alias or item.name == "*":
                    found.setdefault((target, name), []).append(public)
    return {key: min(modules, key=lambda m: _rank(library, m, key[1])) for key, modules in found.items()}


def _rank(library: _Library, module: str, name: str) -> tuple[bool, int, str]:
    exported = library.trees[module].exported
    return (exported is not None and name not in exported, module.count("."), module)


def _target(library: _Library, importer: str, item: Import) -> str:
    """Return the absolute name of the module that an import takes from."""
    if not item.level:
        return item.module
    package = importer.split(".")
    is_package = library.files[importer].name == "__init__.py"
    up = item.level - 1 if is_package else item.level
    return ".".join(package[: len(package) - up] + ([item.module] if item.module else []))


def _imported_names(library: _Library, target: str, item: Import) -> list[str]:
    if item.name != "*":
        return [] if item.name.startswith("_") else [item.name]
    tree = library.trees.get(target)
    if tree is None:
        return [entry.path for entry in _compiled(library, target) if entry.path and "." not in entry.path]
    if tree.exported is not None:
        return sorted(tree.exported)
    return [entry.path for entry in tree.entries if entry.path and "." not in entry.path]
