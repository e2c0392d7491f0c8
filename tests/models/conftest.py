"""The tiny random model of the training tests."""

import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = Path(__file__).parent.parent / "train" / "conftest.py"
    spec = importlib.util.spec_from_file_location("tiny", place)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made: Path = module.make_base(tmp_path_factory.mktemp("tiny"))
    return made
