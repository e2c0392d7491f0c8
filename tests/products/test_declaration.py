"""A declaration is read, or refused with the line and the nearest valid key."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from bessemer.core.errors import ConfigError, NotFound
from bessemer.models import resolve_base
from bessemer.products.config import FactoryConfig, builtin_declaration, load_factory
from bessemer.products.declaration import parse_declaration
from bessemer.products.factory import Factory
from bessemer.products.home import Home
from bessemer.products.line import SIZES, build_line

GOOD = "name: mine\nsources:\n  - kind: folder\n    path: docs\n"


def parse(text: str) -> FactoryConfig:
    return parse_declaration(text, "factory.yaml", FactoryConfig, SIZES)


def test_a_short_declaration_is_whole() -> None:
    config = parse(GOOD)
    assert config.name == "mine"
    assert config.product.base == "smollm2-135m-instruct"


def test_the_wheel_carries_the_example_of_the_repository_and_every_catalogue(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(build, cwd=root, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        shipped = archive.read("bessemer/products/examples/pydocs.yaml").decode()
        names = set(archive.namelist())
    assert shipped == (root / "examples" / "pydocs" / "factory.yaml").read_text(encoding="utf-8")
    assert shipped == builtin_declaration(), "what an installed package runs is what a checkout runs"
    files = (p.relative_to(root / "src") for p in (root / "src" / "bessemer").rglob("*") if p.is_file())
    data = {p.as_posix() for p in files if p.suffix in {".csv", ".toml", ".sql", ".typed"}}
    assert data and data <= names
    assert load_factory(None)[0].name == "pydocs"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD + "prodct: {}\n", ("line 5", "unknown key 'prodct'", "did you mean 'product'?")),
        (GOOD + "product:\n  kind: llm\n  bas: x\n", ("line 7", "unknown key 'bas'", "did you mean 'base'?")),
        (GOOD.replace("path", "pth"), ("line 4", "unknown key 'pth'", "did you mean 'path'?")),
        (GOOD.replace("folder", "foldr"), ("line 3", "unknown kind 'foldr'", "did you mean 'folder'")),
        (GOOD + "size: huge\n", ("line 5", "size", "tiny")),
        (GOOD + "name: twice\n", ("line 5", "'name' is given twice", "first on line 1")),
        (GOOD + "gateway: {port: many}\n", ("line 5", "gateway.port", "integer")),
        ("name: mine\n", ("sources", "field required")),
        ("name: Mine!\nsources: [{kind: pydocs}]\n", ("line 1", "name")),
        (GOOD + "product: [\n", ("not valid YAML",)),
        ("name: a\n\tb: c\n", ("line 2", "not valid YAML")),
        ("- just\n- a list\n", ("a mapping of keys",)),
        ("", ("name", "field required")),
        (
            GOOD
            + "product:\n  gate:\n    rules:\n      - kind: better_than\n        metric: token_f1\n        thn: base\n",
            ("line 10", "unknown key 'thn'", "did you mean 'than'?"),
        ),
        (
            GOOD
            + "product:\n  gate:\n    rules:\n      - {kind: no_worse, metric: questions.exact_match}\n"
            + "      - kind: at_least\n        value: 1\n        metric: token_fl\n",
            ("line 11", "product.gate.rules[1].metric", "no metric 'token_fl'", "did you mean 'token_f1'?"),
        ),
        (
            GOOD + "product:\n  gate:\n    rules: [{kind: at_least, value: 1, metric: zzz}]\n",
            ("line 7", "bits_per_byte"),
        ),
    ],
)
def test_a_mistake_is_named_with_its_line(text: str, said: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    for words in said:
        assert words in caught.value.message
    assert caught.value.hint


def test_the_size_dial_is_laid_under_what_the_file_says() -> None:
    tiny, small = parse(GOOD + "size: tiny\n").product.pairs, parse(GOOD).product.pairs
    assert tiny.train_questions < small.train_questions
    kept = parse(GOOD + "size: tiny\nproduct:\n  pairs: {train_questions: 77}\n").product.pairs
    assert kept.train_questions == 77
    assert kept.heldout_questions == tiny.heldout_questions


def test_a_base_and_a_price_book_are_looked_for_beside_the_declaration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "mine"
    (mine / "model").mkdir(parents=True)
    (mine / "model" / "config.json").write_text("{}")
    (mine / "notes.md").write_text("# Notes\n")
    (mine / "prices.toml").write_text("not a price book")
    (mine / "factory.yaml").write_text(
        "name: mine\nsources: [{kind: folder, path: .}]\nproduct: {base: ./model}\nmeter: {price_book: prices.toml}\n"
    )
    monkeypatch.chdir(tmp_path)
    config, base = load_factory(Path("mine/factory.yaml"))
    made = Factory(config.model_copy(update={"lake_url": str(tmp_path / "lake")}), base, Home(tmp_path / "state"))
    flow = build_line(made.declared, made.products())
    weights = next(step for step in flow.steps if step.name == "base").inputs["weights"]
    assert weights == resolve_base(str(mine / "model")).fingerprint
    with pytest.raises(ConfigError, match=re.escape(str(mine / "prices.toml"))):
        Factory(config, base, Home(tmp_path / "state")).open_meter()


def test_a_file_that_cannot_be_read_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no factory declaration"):
        load_factory(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="is a folder"):
        load_factory(tmp_path)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_factory(tmp_path / "binary.yaml")
