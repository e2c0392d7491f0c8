"""Python's own documentation, from the real standard library and the real packages of this environment."""

import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest

from bessemer.core.errors import ConfigError
from bessemer.core.nouns import Document
from bessemer.lake import PydocsSource, curate, fingerprint, read_source
from bessemer.lake.pydocs.entry import summary
from bessemer.lake.pydocs.tree import parse_module

HERE = Path()


@pytest.fixture(scope="module")
def everything() -> list[Document]:
    return list(read_source(PydocsSource(), HERE))


@pytest.fixture(scope="module")
def library(everything: list[Document]) -> dict[str, Document]:
    return {d.title: d for d in everything if d.meta["kind"] not in ("readme", "module")}


@pytest.mark.parametrize(
    ("name", "kind", "signature", "summary_start", "source"),
    [
        ("json.dumps", "function", "json.dumps(obj, *, skipkeys=False", "Serialize ``obj``", "json/__init__.py"),
        ("json.JSONDecoder", "class", "json.JSONDecoder(*, object_hook=None", "Simple JSON", "json/decoder.py"),
        ("json.JSONDecoder.decode", "method", "json.JSONDecoder.decode(s", "Return the Python", "json/decoder.py"),
        ("os.path.join", "function", "os.path.join(a, *p)", "Join two", "posixpath.py"),
        ("os.path.exists", "function", "os.path.exists(path)", "Test whether", "genericpath.py"),
        ("asyncio.gather", "function", "asyncio.gather(*coros", "Return a future", "asyncio/tasks.py"),
        ("collections.abc.Mapping", "class", "collections.abc.Mapping", "A Mapping", "_collections_abc.py"),
        ("pathlib.Path.glob", "method", "pathlib.Path.glob(", "Iterate", "pathlib"),
        ("pathlib.Path.cwd", "method", "pathlib.Path.cwd()", "Return a new path", "pathlib"),
        ("math.sqrt", "function", "math.sqrt(x, /)", "Return the square root", "math (compiled)"),
        ("struct.pack", "function", "struct.pack(", "Return a bytes object", "_struct (compiled)"),
        ("os.listdir", "function", "os.listdir(path=None)", "Return a list", "posix (compiled)"),
        ("len", "function", "len(obj, /)", "Return the number", "builtins (compiled)"),
        ("str.join", "method", "str.join(iterable, /)", "Concatenate", "builtins (compiled)"),
        ("itertools.chain", "class", "itertools.chain(*iterables)", "Return a chain", "itertools (compiled)"),
        ("fractions.Fraction.from_float", "method", "fractions.Fraction.from_float(f)", "Converts", "fractions.py"),
    ],
)
def test_things_that_everyone_knows(
    library: dict[str, Document], name: str, kind: str, signature: str, summary_start: str, source: str
) -> None:
    found = library[name]
    assert found.meta["kind"] == kind
    assert found.meta["signature"].startswith(signature)
    assert found.meta["summary"].startswith(summary_start)
    assert source in found.source
    assert found.text.startswith(found.meta["signature"] + "\n\n")
    assert found.group == (
        name.partition(".")[0] if kind != "builtin" and "." in name and name != "str.join" else "builtins"
    )
    assert found.dropped == ""


def test_modules_are_documents_too(everything: list[Document]) -> None:
    modules = {d.meta["name"]: d for d in everything if d.meta["kind"] == "module"}
    assert modules["json"].text.startswith("json\n\nJSON (JavaScript Object Notation)")
    assert (
        modules["math"].meta["summary"]
        == "This module provides access to the mathematical functions defined by the C standard."
    )
    assert modules["os"].group == "os"


def test_what_is_private_or_no_library_is_left_out(everything: list[Document]) -> None:
    tops = {d.group for d in everything if d.meta["kind"] != "readme"}
    assert {"asyncio", "json", "os", "builtins", "itertools", "collections"} <= tops
    assert not tops & {"test", "idlelib", "lib2to3", "antigravity", "this", "turtledemo", "posixpath", "ntpath"}
    for document in everything:
        if document.meta["kind"] != "readme":
            assert not any(p.startswith("_") and p != "__future__" for p in document.meta["name"].split(".")), (
                document.meta["name"]
            )


def test_each_name_is_there_once_and_each_id(everything: list[Document]) -> None:
    names = [(d.meta["kind"] == "module", d.title) for d in everything if d.meta["kind"] != "readme"]
    assert len(names) == len(set(names))
    kept = [d.id for d in curate(everything) if not d.dropped]
    assert len(kept) == len(set(kept)) > 5_000


def test_what_has_no_docstring_is_counted(everything: list[Document]) -> None:
    bare = [d for d in everything if d.dropped == "undocumented"]
    assert bare and all(d.meta["summary"] == "" for d in bare)
    assert all(d.meta["summary"] for d in everything if d.meta["kind"] != "readme" and not d.dropped)


def test_readmes_are_passages_of_their_distribution(everything: list[Document]) -> None:
    readmes = [d for d in everything if d.meta["kind"] == "readme"]
    assert {"pydantic", "pytest", "hypothesis"} <= {d.group for d in readmes}
    assert all(len(d.text) <= 1_500 for d in readmes)
    assert all(d.meta["version"] and d.source == f"distribution:{d.group}/README" for d in readmes)


def test_order_and_ids_do_not_depend_on_the_process(everything: list[Document]) -> None:
    program = (
        "from pathlib import Path\nfrom bessemer.lake import *\nimport hashlib\n"
        "ids = ''.join(d.id for d in read_source(PydocsSource(modules=('json', 'math', 'os', 'pydantic')), Path()))\n"
        "print(hashlib.sha256(ids.encode()).hexdigest())"
    )
    command = [sys.executable, "-W", "error", "-c", program]
    first, second = (subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(2))
    assert first.stdout == second.stdout
    assert first.stderr == ""


def test_a_part_of_it() -> None:
    found = list(read_source(PydocsSource(modules=("json",), packages=False), HERE))
    assert {d.group for d in found} == {"json"}
    few = list(read_source(PydocsSource(modules=("json",), packages=False, max_documents=5), HERE))
    assert len(few) == 5 and [d for d in found if d in few] == few
    with pytest.raises(ConfigError):
        list(read_source(PydocsSource(modules=("no_such_module",)), HERE))
    with pytest.raises(ConfigError):
        list(read_source(PydocsSource(stdlib=False, packages=False), HERE))


def test_nothing_of_the_library_is_imported_to_be_read() -> None:
    program = (
        "import sys\nfrom pathlib import Path\nfrom bessemer.lake import *\nbefore = set(sys.modules)\n"
        "list(read_source(PydocsSource(packages=False, modules=('json', 'os', 'turtle', 'smtplib')), Path()))\n"
        "print(*sorted({'antigravity', 'turtle', 'tkinter', 'smtplib', 'cgi', 'ftplib'} & (set(sys.modules) - before)))"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("\n", "")


def test_no_warning_and_progress_for_each_file() -> None:
    told: list[tuple[int, int]] = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        source = PydocsSource(packages=False, modules=("asyncio", "email", "imp", "telnetlib"))
        next(iter(read_source(source, HERE, lambda done, total: told.append((done, total)))))
    assert told[-1][0] == told[-1][1] > 50


def test_fingerprint_is_quick_and_stable() -> None:
    fingerprint(PydocsSource(), HERE)
    started = time.process_time()
    first = fingerprint(PydocsSource(), HERE)
    assert time.process_time() - started < 1
    assert first == fingerprint(PydocsSource(), HERE) != fingerprint(PydocsSource(packages=False), HERE)


def test_signatures_from_the_tree() -> None:
    text = '''
class A(B):
    """A class."""
    def __init__(self, a, /, b=1, *c, d: int = 2, **e): ...
    @classmethod
    def f(cls, x=3): """F."""
    @staticmethod
    def g(x): """G."""
    @property
    def p(self): """P."""
    @p.setter
    def p(self, v): ...
    def _hidden(self): ...
async def h() -> None: """H."""
if True:
    def k(): ...
try:
    from x import k
except ImportError:
    def k(a): """K."""
__all__ = ["A"] + ["h"]
__all__ += ["k"]
'''
    tree = parse_module(text)
    assert {e.path: e.arguments for e in tree.entries} == {
        "": "",
        "A": "(a, /, b=1, *c, d: int=2, **e)",
        "A.f": "(x=3)",
        "A.g": "(x)",
        "A.p": "",
        "h": "() -> None",
        "k": "(a)",
    }
    assert tree.exported == {"A", "h", "k"}


def test_summaries() -> None:
    assert summary("Use e.g. a bee. Then stop.") == "Use e.g. a bee."
    assert summary("One\ntwo\n\nthree") == "One two"
    assert len(summary("word " * 200)) <= 304
