"""What the tests of agents share."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from bessemer.core.nouns import ChatRequest, Message

_spec = importlib.util.spec_from_file_location("scripted", Path(__file__).with_name("scripted.py"))
assert _spec and _spec.loader
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)


@pytest.fixture
def scripted() -> Any:
    """The class of models that say what they are told to say."""
    return _module.Scripted


@pytest.fixture
def ask() -> Any:
    """Make a request of one question."""

    def make(text: str, **fields: Any) -> ChatRequest:
        return ChatRequest(messages=(Message(role="user", content=text),), **fields)

    return make
