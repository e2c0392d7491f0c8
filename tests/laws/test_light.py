"""What importing costs: the package and every room's front door stay light."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = {
    "torch", "transformers", "peft", "accelerate", "safetensors", "numpy", "scipy", "usearch",
    "pyarrow", "lance", "selectolax", "docutils",
    "openvino", "openvino_genai", "nncf", "duckdb", "mcp", "httpx",
    "starlette", "uvicorn", "httptools", "uvloop", "msgspec", "prometheus_client", "opentelemetry", "httpx2", "psycopg",
}  # fmt: skip
DOORS = [
    "bessemer.core.nouns", "bessemer.core.protocols", "bessemer.flow", "bessemer.models", "bessemer.lake",
    "bessemer.train", "bessemer.evals", "bessemer.infer", "bessemer.serve", "bessemer.meter", "bessemer.twin",
    "bessemer.twin.site", "bessemer.twin.workload",
    "bessemer.products.declaration", "bessemer.products.llm.config", "bessemer.products.agent.config", "bessemer.cli",
]  # fmt: skip

PROBE = """
import json, sys, time
before = time.process_time()
import {module}
print(json.dumps([time.process_time() - before, sorted({{name.partition(".")[0] for name in sys.modules}})]))
"""


def load(module: str) -> tuple[float, set[str]]:
    """Return the processor seconds that an import takes in a new process, and the packages that are loaded then."""
    probe = [sys.executable, "-c", PROBE.format(module=module)]
    done = subprocess.run(probe, capture_output=True, text=True, check=True)
    seconds, packages = json.loads(done.stdout)
    return seconds, set(packages)


def test_the_package_itself_loads_nothing_and_at_once() -> None:
    seconds, packages = load("bessemer")
    assert not packages & (HEAVY | {"pydantic", "yaml", "typer", "rich", "psutil"})
    assert min(seconds, *(load("bessemer")[0] for _ in range(2))) < 0.3


@pytest.mark.parametrize("module", DOORS)
def test_a_room_is_entered_without_heavy_libraries(module) -> None:
    _, packages = load(module)
    assert not packages & HEAVY


def test_every_room_has_its_door_on_the_list(sources) -> None:
    rooms = {source.room for source in sources} - {""}
    assert rooms == {door.split(".")[1] for door in DOORS}
