"""A law that cannot be broken guards nothing: each checker is shown a breach here."""

from __future__ import annotations

import ast
import importlib.util
import sys
from pathlib import Path

import pytest


def neighbour(name: str):
    """Load a test module that stands beside this one."""
    spec = importlib.util.spec_from_file_location(f"laws_{name}", Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # a dataclass looks its module up
    spec.loader.exec_module(module)
    return module


def test_an_unlisted_breach_and_a_stale_exception_both_fail(keeps) -> None:
    with pytest.raises(AssertionError, match="file_lines: bessemer:huge: 999"):
        keeps("file_lines", {"bessemer:huge": 999})
    with pytest.raises(AssertionError, match=r"bessemer\.evals\.gate\.AtLeast.* keep the law now"):
        keeps("config_defaults", {})


def test_a_body_is_counted_without_its_docstring() -> None:
    body_lines = neighbour("test_size").body_lines
    function = ast.parse('def f(a):\n    """Say\n\n    much.\n    """\n    a += 1\n\n    return a\n').body[0]
    assert body_lines(function) == 3
    assert body_lines(ast.parse('def f():\n    """Nothing."""\n').body[0]) == 0


def test_inheritance_is_followed_through_front_doors() -> None:
    size, source = neighbour("test_size"), neighbour("conftest").Source

    def module(name: str, text: str):
        return source(name, Path(name), text, ast.parse(text))

    bases = size.own_bases(
        [
            module("bessemer.a", "from bessemer.a.b import B\n"),
            module("bessemer.a.b", "class A(Exception): ...\nclass B(A): ...\n"),
            module("bessemer.c", "from bessemer.a import B as Base\nclass C(Base): ...\nclass D(C): ...\n"),
        ]
    )
    assert bases["bessemer.c.C"] == ["bessemer.a.b.B"]
    assert size.depth("bessemer.c.D", bases) == 3


def test_a_table_without_a_source_is_found() -> None:
    unsourced = neighbour("test_manners").unsourced
    assert unsourced({"source": "x", "a": {"b": 1}}, "f") == []
    assert unsourced({"version": 1, "a": {"source": "x"}, "b": {"watts": 3}}, "f") == ["f.b"]
    assert unsourced({"rows": [{"source": "x"}, {"watts": 3}]}, "f") == ["f.rows[1]"]


def test_blocks_of_a_page(tmp_path) -> None:
    page = tmp_path / "page.md"
    page.write_text("One\n\n```python\na = 1\n```\n\n- two\n  ```console\n  $ bessemer run\n  ```\n```text\nno\n```\n")
    blocks = neighbour("test_documentation").blocks
    assert blocks(page, {"python"}) == [(3, "a = 1\n")]
    assert blocks(page, {"console"}) == [(8, "$ bessemer run\n")]
