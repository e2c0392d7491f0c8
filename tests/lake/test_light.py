"""The room and its declarations are imported without anything heavy, and say what is missing when it is."""

import subprocess
import sys

import pytest

HEAVY = ("lance", "pyarrow", "numpy", "docutils", "selectolax", "torch")


def run(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()


def test_import_is_light() -> None:
    assert run(f"import sys, bessemer.lake\nprint(*[m for m in {HEAVY} if m in sys.modules])") == ""


@pytest.mark.parametrize(
    ("package", "program"),
    [
        ("lance", "open_lake('/nowhere')"),
        ("pyarrow", "open_lake('/nowhere')"),
        ("selectolax", "list(read_raw(Raw('a.html', 'a.html', 'g', b'<p>x')))"),
        ("docutils", "list(read_raw(Raw('a.rst', 'a.rst', 'g', b'x')))"),
        ("pyarrow", "list(read_raw(Raw('a.parquet', 'a.parquet', 'g', b'PAR1')))"),
    ],
)
def test_a_missing_package_names_its_extra(package: str, program: str) -> None:
    lines = [
        "import sys",
        f"sys.modules[{package!r}] = None",
        "from bessemer.core.errors import MissingDependency",
        "from bessemer.lake import open_lake",
        "from bessemer.lake.readers.formats import read_raw",
        "from bessemer.lake.readers.raw import Raw",
        "try:",
        f"    {program}",
        "except MissingDependency as error:",
        "    print(error.extra, '|', error)",
    ]
    assert run("\n".join(lines)).startswith("lake | ")
