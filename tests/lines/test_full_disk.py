"""A disk that takes no more in the middle of the line: one clear error, and nothing half-published.

A full file system must be mounted, which not every machine allows; a limit on the size of files can be set anywhere,
and makes the same write fail in the same place.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from .conftest import Line, declaration, write_documents

UNSHARE = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
MEGABYTES = 40
"""Room for the tables; the base model's file is larger."""


def has_namespaces() -> bool:
    """Return whether a small file system can be mounted where only the test sees it."""
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*UNSHARE, "mount -t tmpfs tmpfs /mnt"], capture_output=True, check=False).returncode == 0


@pytest.fixture
def fresh(tmp_path: Path) -> Line:
    write_documents(tmp_path / "documents")
    (tmp_path / "factory.yaml").write_text(declaration())
    (tmp_path / "state").mkdir()
    return Line(tmp_path / "state", tmp_path / "factory.yaml")


def is_one_clear_error(said: str, words: tuple[str, ...]) -> bool:
    return "Traceback" not in said and any(word in said for word in words)


@pytest.mark.skipif(not has_namespaces(), reason="a tmpfs cannot be mounted here without being root")
def test_a_full_disk_is_one_clear_error(fresh: Line, tmp_path: Path) -> None:
    run = " ".join(fresh.command("run", str(fresh.factory), "--json"))
    look = 'echo "status $?"; ls state/artifacts/published | wc -l; ls state/artifacts/attempts/*'
    script = f"mount -t tmpfs -o size={MEGABYTES}m tmpfs state && {{ {run}; {look}; }}"
    done = subprocess.run(
        [*UNSHARE, script],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**fresh.environment, "BESSEMER_HOME": str(tmp_path / "state"), "PATH": os.environ["PATH"]},
        timeout=300,
        check=False,
    )
    said = done.stdout + done.stderr
    assert "status 1" in said, said
    assert is_one_clear_error(said, ("disk is full", "No space left")), said
    published, left = done.stdout.split()[-2:]
    assert (published, left) == ("3", "log.txt"), "ingest, curate and pairs stay; the base is not half there"


def test_a_file_that_may_not_grow_is_one_clear_error(fresh: Line, tmp_path: Path) -> None:
    blocks = MEGABYTES * 2048
    done = subprocess.run(
        ["sh", "-c", f'ulimit -f {blocks} && exec "$@"', "sh", *fresh.command("run", str(fresh.factory), "--json")],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**fresh.environment, "BESSEMER_HOME": str(fresh.home), "PATH": os.environ["PATH"]},
        timeout=300,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 1, said
    assert is_one_clear_error(said, ("File too large",)), said
    artifacts = fresh.home / "artifacts"
    assert len(list((artifacts / "published").iterdir())) == 3, "ingest, curate and pairs stay"
    assert [path.name for path in artifacts.glob("attempts/*/*")] == ["log.txt"], "the base is not half there"
