"""The reference says what the code says."""

import importlib.util
from pathlib import Path

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference"


def test_the_reference_is_up_to_date() -> None:
    spec = importlib.util.spec_from_file_location("generate", REFERENCE / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    for name, text in generate.pages().items():
        assert (REFERENCE / name).read_text(encoding="utf-8") == text, f"run docs/reference/generate.py: {name} differs"
