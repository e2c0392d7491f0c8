"""What the repository does not hold: registries' addresses, lock files, paths of one machine, large files."""

from __future__ import annotations

import re
import subprocess

import pytest

HOSTS = [
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("files", "pythonhosted", "org"),
        ("deb", "debian", "org"),
        ("registry", "npmjs", "org"),
        ("download", "pytorch", "org"),
    )
]
LOCK_FILES = {"uv.lock", "poetry.lock", "Pipfile.lock", "pdm.lock", "package-lock.json", "yarn.lock", "pnpm-lock.yaml"}
MACHINE_PATH = re.compile(r"(?<![\w.~])/(?:home|Users|root|work)/\w")
MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def tracked(root):
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=True).stdout
    found = [root / name for name in listed.split("\0") if name]
    assert len(found) > 50
    return [path for path in found if path.exists()]


def test_no_address_of_a_registry_and_no_path_of_one_machine(tracked, root) -> None:
    found = []
    for path in tracked:
        text = path.read_bytes().decode("utf-8", errors="replace")
        found += [f"{path.relative_to(root)}: {host}" for host in HOSTS if host in text]
        if path.name != "test_repository.py":
            found += [f"{path.relative_to(root)}: {match[0]}" for match in MACHINE_PATH.finditer(text)]
    assert found == []


def test_no_lock_file(tracked) -> None:
    assert [path.name for path in tracked if path.name in LOCK_FILES] == []


def test_nothing_large_is_tracked(tracked) -> None:
    assert [path.name for path in tracked if path.stat().st_size > MEGABYTE] == []


def test_licence_and_version(root) -> None:
    import bessemer

    assert "Apache License" in (root / "LICENSE").read_text()
    assert f'version = "{bessemer.__version__}"' in (root / "pyproject.toml").read_text()
