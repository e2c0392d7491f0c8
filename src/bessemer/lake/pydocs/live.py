"""What modules written in C define: they have no source to read, so the module is imported and looked at.

Owns which of them are safe to import (part of Python itself, no terminal, no window) and how a live object
becomes an entry. Calls nothing that it finds.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
import types
import warnings
from collections.abc import Iterator
from importlib.machinery import BuiltinImporter, ExtensionFileLoader
from importlib.util import find_spec

from bessemer.lake.pydocs.entry import Entry, called_as, clean

_UNSAFE = frozenset(
    {"readline", "_curses", "_curses_panel", "_tkinter", "nis", "ossaudiodev", "xxlimited", "xxsubtype"}
)
"""Touch the terminal, a window, the network or a device when imported, or exist for Python's own tests only."""

_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def is_compiled(name: str) -> bool:
    """Return whether a standard module is written in C and safe to import."""
    if name in _UNSAFE or name.partition(".")[0] not in sys.stdlib_module_names:
        return False
    if name in sys.builtin_module_names:
        return True
    try:
        spec = find_spec(name)
    except (ImportError, ValueError):
        return False
    return spec is not None and isinstance(spec.loader, (ExtensionFileLoader, BuiltinImporter))


def inspect_module(name: str) -> tuple[Entry, ...]:
    """Return the module itself and its public definitions, sorted by name; empty if it does not load here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated modules announce themselves when they are imported
        try:
            module = importlib.import_module(name)
        except ImportError:
            return ()
        return (Entry("module", "", "", clean(module.__doc__)), *_members(module))


def _members(module: types.ModuleType) -> Iterator[Entry]:
    for name in sorted(vars(module)):
        thing = vars(module)[name]
        if name.startswith("_"):
            continue
        if inspect.isbuiltin(thing):
            yield _entry("function", name, thing)
        elif inspect.isclass(thing) and _is_own(thing, name, module):
            yield _entry("class", name, thing)
            yield from _class_members(thing, name)


def _is_own(thing: type, name: str, module: types.ModuleType) -> bool:
    """Return whether a class is defined here in C: not an alias such as ``socket.error``, not written in Python."""
    if thing.__name__ != name or any(isinstance(value, types.FunctionType) for value in vars(thing).values()):
        return False
    return module.__name__ == "builtins" or thing.__module__ != "builtins"


def _class_members(owner: type, prefix: str) -> Iterator[Entry]:
    for name in sorted(vars(owner)):
        thing = vars(owner)[name]
        if name.startswith("_"):
            continue
        path = f"{prefix}.{name}"
        if isinstance(thing, (types.GetSetDescriptorType, types.MemberDescriptorType, property)):
            yield Entry("property", path, "", clean(thing.__doc__))
        elif isinstance(thing, (types.MethodDescriptorType, types.ClassMethodDescriptorType, staticmethod)):
            yield _entry("method", path, getattr(owner, name))


def _entry(kind: str, path: str, thing: object) -> Entry:
    doc = clean(getattr(thing, "__doc__", None))
    return Entry(kind, path, _signature(thing) or called_as(doc, path), doc)  # type: ignore[arg-type]


def _signature(thing: object) -> str:
    """Return ``(iterable, /)`` as far as C code says it, without the bound argument; else an empty string."""
    try:
        found = inspect.signature(thing)  # type: ignore[arg-type]
    except (ValueError, TypeError):
        return ""
    parameters = list(found.parameters.values())
    if isinstance(thing, types.MethodDescriptorType) and parameters:
        parameters = parameters[1:]
    return _ADDRESS.sub("", str(found.replace(parameters=parameters)))
