"""A disk that fills up in the middle of the line: one clear error, nothing half-published, and it goes on with room."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from .conftest import Line, declaration, write_documents

UNSHARE = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]


def has_namespaces() -> bool:
    """Return whether a small file system can be mounted where only the test sees it."""
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*UNSHARE, "mount -t tmpfs tmpfs /mnt"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not has_namespaces(), reason="a tmpfs cannot be mounted here without being root")
def test_a_full_disk_is_one_clear_error(tmp_path: Path) -> None:
    write_documents(tmp_path / "documents")
    (tmp_path / "factory.yaml").write_text(declaration())
    (tmp_path / "state").mkdir()
    line = Line(tmp_path / "state", tmp_path / "factory.yaml")
    run = " ".join(line.command("run", str(line.factory), "--json"))
    look = 'echo "status $?"; ls state/artifacts/published | wc -l; ls state/artifacts/attempts/*'
    # 40 MB hold the tables; the base model is larger.
    script = f"mount -t tmpfs -o size=40m tmpfs state && {{ {run}; {look}; }}"
    done = subprocess.run(
        [*UNSHARE, script],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**line.environment, "BESSEMER_HOME": str(tmp_path / "state"), "PATH": os.environ["PATH"]},
        timeout=300,
        check=False,
    )
    assert "Traceback" not in done.stderr + done.stdout
    assert "status 1" in done.stdout, done.stdout + done.stderr
    assert "disk is full" in done.stdout or "No space left" in done.stdout, done.stdout
    published, left = done.stdout.split()[-2:]
    assert (published, left) == ("3", "log.txt"), "ingest, curate and pairs stay; the base is not half there"
