"""The public names of every room, as a list that a reviewer sees change.

Write the list anew with `uv run --group dev python tests/laws/test_public_names.py`.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

LIST = Path(__file__).with_name("public_names.txt")


def packages(package: str) -> list[str]:
    """Return the full names of what stands directly in a package."""
    return sorted(found.name for found in iter_modules(import_module(package).__path__, f"{package}."))


def public_names() -> str:
    """Return one line per public name; core's stand in its modules, another room's at its front door."""
    lines = []
    for room in packages("bessemer"):
        if room != "bessemer.core":
            lines += [f"{room}.{name}" for name in getattr(import_module(room), "__all__", ())]
            continue
        for module in packages(room):
            own = [name for name, value in vars(import_module(module)).items() if defined_in(value) == module]
            lines += [f"{module}.{name}" for name in own if not name.startswith("_")]
    return "\n".join(sorted(lines)) + "\n"


def defined_in(value: object) -> object:
    """Return the module that defines a class or function; None for a constant."""
    return getattr(value, "__module__", None)


def test_no_public_name_comes_or_goes_unseen() -> None:
    now, listed = set(public_names().split()), set(LIST.read_text(encoding="utf-8").split())
    assert not now ^ listed, f"new: {sorted(now - listed)}, gone: {sorted(listed - now)}"


def test_every_public_name_is_there() -> None:
    for line in LIST.read_text(encoding="utf-8").split():
        module, _, name = line.rpartition(".")
        assert hasattr(import_module(module), name), line


if __name__ == "__main__":
    LIST.write_text(public_names(), encoding="utf-8")
