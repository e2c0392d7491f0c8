"""Backends by name: known, unknown, and not installed; and one added by another package."""

from __future__ import annotations

import sys

import pytest

from bessemer.core.errors import MissingDependency, NotFound
from bessemer.core.registry import Registry

BUILTIN = {
    "join": "os.path:join",
    "absent": "no_such_package_at_all.engine:open_engine",
    "broken": "bessemer.no_such_module:thing",
}


@pytest.fixture
def registry() -> Registry:
    return Registry("bessemer.tests", BUILTIN, extras={"absent": "infer"})


def test_a_name_is_loaded_when_asked_for(registry) -> None:
    import os.path

    assert registry.names() == ["absent", "broken", "join"]
    assert registry.load("join") is os.path.join


def test_an_unknown_name_names_the_known(registry) -> None:
    with pytest.raises(NotFound, match=r"no bessemer\.tests backend is called 'jion'") as caught:
        registry.load("jion")
    assert caught.value.hint == "Known: absent, broken, join"


def test_a_missing_package_names_the_extra(registry) -> None:
    with pytest.raises(MissingDependency, match="no_such_package_at_all is not installed") as caught:
        registry.load("absent")
    assert caught.value.hint == "Install it with: pip install 'bessemer[infer]'"


def test_our_own_mistake_is_not_blamed_on_the_user(registry) -> None:
    with pytest.raises(ModuleNotFoundError, match=r"bessemer\.no_such_module"):
        registry.load("broken")


def test_another_package_adds_a_name_and_cannot_take_ours(registry, tmp_path, monkeypatch) -> None:
    metadata = tmp_path / "plugin-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[bessemer.tests]\nsplit = os.path:split\njoin = os.path:split\n")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    import os.path

    assert registry.names() == ["absent", "broken", "join", "split"]
    assert registry.load("split") is os.path.split
    assert registry.load("join") is os.path.join
