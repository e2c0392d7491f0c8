"""What every request passes can be compiled: the wheel that comes of it does all that the sources do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TESTS = (
    "tests/serve/fast",
    "tests/serve/test_ids.py",
    "tests/serve/accounts/test_gate.py",
    "tests/meter/test_batch.py",
    "tests/meter/test_cut.py",
    "tests/meter/test_journal.py",
)


@pytest.mark.slow
def test_the_compiled_wheel_passes_the_tests_of_what_is_compiled(tmp_path: Path) -> None:
    if not os.environ.get("CI") and not (shutil.which("cc") and shutil.which("uv")):
        pytest.skip("needs a C compiler and uv")
    environment = {**os.environ, "HATCH_BUILD_HOOK_ENABLE_MYPYC": "1"}
    build = ["uv", "build", "--quiet", "--python", sys.executable, "--out-dir", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, env=environment, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(tmp_path / "compiled")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "compiled")}
    where = "import bessemer.serve.fast.relay as relay; print(relay.__file__)"
    found = subprocess.run([sys.executable, "-c", where], env=environment, check=True, capture_output=True, text=True)
    assert found.stdout.strip().endswith(".so")
    options = ("-n", "0", "-p", "no:cacheprovider", "--basetemp", str(tmp_path / "tests"))
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *TESTS],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert tested.returncode == 0, tested.stdout[-4000:]
