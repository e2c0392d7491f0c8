"""Several tables and sequences: keys, cardinalities, what goes with what, and a model that is kept and opened again."""

from __future__ import annotations

import numpy as np
import pytest

from bessemer.core.errors import ConfigError, IntegrityError, NotFound, Unsupported
from bessemer.core.tabular import Relation, Table
from bessemer.train.tables.config import CopulaConfig, PrivacyConfig
from bessemer.train.tables.keeping import load_model, save_model
from bessemer.train.tables.related import fit_tables, sample_tables
from bessemer.train.tables.sequences import fit_sequences, sample_sequences
from bessemer.train.tables.splitting import split_tables

from .conftest import numbers, table_of, texts

PARENTS = 800
RELATIONS = (
    Relation(parent="customer", child="order", key="customer"),
    Relation(parent="item", child="order", key="item"),
)


def names(prefix: str, count: int) -> tuple[str, ...]:
    return tuple(f"{prefix}{number:04d}" for number in range(count))


@pytest.fixture(scope="module")
def shop() -> dict[str, Table]:
    """Orders of customers and items: the older a customer, the more orders and the greater."""
    random = np.random.default_rng(5)
    age = random.integers(20, 80, PARENTS)
    count = random.poisson(age / 20)
    customer = np.repeat(np.arange(PARENTS), count)
    item = random.choice(30, len(customer), p=np.arange(1, 31) / 465)
    of = names("C", PARENTS)
    return {
        "order": table_of(
            {
                "customer": texts(customer, "", "id"),
                "item": texts(np.where(random.random(len(item)) < 0.1, -1, item), "", "id"),
                "amount": numbers(
                    np.round(age[customer] * np.exp(random.normal(0, 0.2, len(customer))), 2), decimals=2
                ),
            }
        ),
        "customer": table_of(
            {"key": texts(np.arange(PARENTS), "", "id", pattern="C{:04d}"), "age": numbers(age, "integer")},
            primary_key="key",
        ),
        "item": table_of({"sku": texts(np.arange(30), "", "id"), "price": numbers(np.arange(30.0))}, primary_key="sku"),
    } | {"__names__": of}  # type: ignore[dict-item]


@pytest.fixture(scope="module")
def tables(shop) -> dict[str, Table]:
    def named(table: Table, column: str, count: int, prefix: str) -> Table:
        old = table.columns[column]
        columns = {**table.columns, column: type(old)(old.config, old.values, names(prefix, count))}
        return Table(table.schema, columns, table.rows)

    order = named(named(shop["order"], "customer", PARENTS, "C"), "item", 30, "I")
    return {
        "order": order,
        "customer": named(shop["customer"], "key", PARENTS, "C"),
        "item": named(shop["item"], "sku", 30, "I"),
    }


@pytest.fixture(scope="module")
def model(tables):
    return fit_tables(tables, RELATIONS, CopulaConfig(copies="keep"))


def keys(table: Table, column: str) -> np.ndarray:
    found = table.columns[column]
    return np.array([*found.categories, ""])[found.values]


def test_every_key_names_a_row_and_cardinalities_and_trends_are_kept(tables, model) -> None:
    made = {name: sampled.table for name, sampled in sample_tables(model, 1.0, 1).items()}
    assert made["customer"].rows == PARENTS
    assert set(keys(made["order"], "customer")) <= set(keys(made["customer"], "key"))
    assert set(keys(made["order"], "item")) - {""} <= set(keys(made["item"], "sku"))
    assert (keys(made["order"], "item") == "").mean() == pytest.approx(0.1, abs=0.03)
    counts = [np.unique(keys(t["order"], "customer"), return_counts=True)[1] for t in (tables, made)]
    assert counts[1].mean() == pytest.approx(counts[0].mean(), rel=0.1)
    assert np.abs(np.bincount(counts[0], minlength=15)[:10] - np.bincount(counts[1], minlength=15)[:10]).max() < 60
    by_age = []
    for t in (tables, made):
        place = {key: row for row, key in enumerate(keys(t["customer"], "key"))}
        age = t["customer"].columns["age"].values[[place[key] for key in keys(t["order"], "customer")]]
        by_age.append(np.corrcoef(age, t["order"].columns["amount"].values)[0, 1])
    assert by_age[1] == pytest.approx(by_age[0], abs=0.06)
    assert set(made["customer"].columns) == {"key", "age"}, "what was counted is not shown"


def test_a_model_is_kept_and_opened_again(model, tmp_path) -> None:
    save_model(model, tmp_path / "model")
    again = sample_tables(load_model(tmp_path / "model"), 0.1, 3)
    first = sample_tables(model, 0.1, 3)
    for name, sampled in first.items():
        for column, values in sampled.table.columns.items():
            assert np.array_equal(values.values, again[name].table.columns[column].values)
            assert values.categories == again[name].table.columns[column].categories
    (tmp_path / "model" / "arrays.npz").write_bytes(b"broken")
    with pytest.raises(IntegrityError, match="damaged"):
        load_model(tmp_path / "model")
    with pytest.raises(NotFound):
        load_model(tmp_path)


def test_children_are_held_out_with_their_parents(tables) -> None:
    train, held = split_tables(tables, RELATIONS[:1], 0.25, 0)
    assert train["customer"].rows == 600 and held["customer"].rows == 200
    sides = [set(keys(part["order"], "customer")) for part in (train, held)]
    assert not sides[0] & sides[1]
    assert train["order"].rows + held["order"].rows == tables["order"].rows


@pytest.mark.parametrize(
    ("relations", "said"),
    [
        ((Relation(parent="nobody", child="order", key="customer"),), "names the table 'nobody'"),
        ((Relation(parent="customer", child="order", key="who"),), "there is no column 'who'"),
        ((Relation(parent="order", child="customer", key="key"),), "parent without a primary key"),
        ((Relation(parent="item", child="order", key="customer"),), "rows of 'order' name a 'customer'"),
        (
            (
                Relation(parent="customer", child="item", key="sku"),
                Relation(parent="item", child="customer", key="key"),
            ),
            "form a ring",
        ),
    ],
)
def test_relations_that_do_not_fit_are_named(tables, relations, said) -> None:
    with pytest.raises(ConfigError, match=said):
        fit_tables(tables, relations)


def test_differential_privacy_is_refused_for_what_it_does_not_cover(tables) -> None:
    with pytest.raises(ConfigError, match="single tables"):
        fit_tables(tables, RELATIONS, CopulaConfig(privacy=PrivacyConfig()))


@pytest.fixture(scope="module")
def walks() -> Table:
    """Sequences of 5 to 25 rows: an autoregression of 0.9, a level by group, steps of a minute or more."""
    random = np.random.default_rng(6)
    rows = []
    for entity in range(300):
        group = entity % 2
        x, at = random.normal(), 1e9 + random.integers(0, 10**6)
        for _ in range(random.integers(5, 26)):
            x = 0.9 * x + np.sqrt(1 - 0.81) * random.normal()
            rows.append((entity, group, at, x + group))
            at += 60 + random.exponential(30)
    entity, group, at, x = np.array(rows).T
    return table_of(
        {
            "who": texts(entity, "", "id", pattern="w{:d}"),
            "group": texts(group, "ab"),
            "at": numbers(np.round(at), "datetime", decimals=0),
            "x": numbers(x),
        },
        sequence_key="who",
        sequence_order="at",
        constraints=[{"kind": "range", "column": "x", "low": -10}],
    )


def test_sequences_go_on_as_those_of_the_data_do(walks) -> None:
    found = sample_sequences(fit_sequences(walks), walks.rows, 2).table
    told = []
    for table in (walks, found):
        who, x, at = (table.columns[name].values for name in ("who", "x", "at"))
        same = who[1:] == who[:-1]
        x = x - np.where(table.columns["group"].values == 1, 1, 0)
        assert (np.diff(at)[same] >= 60).all(), "sequences rise by a minute at least"
        lengths = np.bincount(who)
        told.append((np.corrcoef(x[1:][same], x[:-1][same])[0, 1], lengths.mean(), lengths.max()))
        groups = table.columns["group"].values
        assert (groups[1:][same] == groups[:-1][same]).all(), "what never changes does not"
    assert told[1][0] == pytest.approx(told[0][0], abs=0.05)
    assert told[1][1] == pytest.approx(told[0][1], rel=0.1)
    assert told[1][2] <= told[0][2]
    assert found.rows == pytest.approx(walks.rows, rel=0.1)


def test_sequences_that_cannot_be(walks) -> None:
    with pytest.raises(ConfigError, match="has two rows"):
        fit_sequences(walks.take(np.unique(walks.columns["who"].values, return_index=True)[1]))
    with pytest.raises(Unsupported, match="unique"):
        schema = walks.schema.model_copy(update={"constraints": ()}).model_dump()
        schema["constraints"] = [{"kind": "unique", "columns": ["x"]}]
        fit_sequences(Table(type(walks.schema).model_validate(schema), walks.columns, walks.rows))


def test_columns_of_a_parent_that_say_the_same_do_not_spoil_its_children() -> None:
    random = np.random.default_rng(8)
    city = random.integers(0, 5, 300)
    of = random.integers(0, 300, 1500)
    key = names("C", 300)
    parent = table_of(
        {"key": texts(np.arange(300), "", "id"), "city": texts(city, "abcde"), "again": texts(city, "vwxyz")},
        primary_key="key",
    )
    child = table_of({"key": texts(of, "", "id"), "amount": numbers(city[of] + random.normal(0, 1, 1500))})
    both = {}
    for name, table in (("parent", parent), ("child", child)):
        old = table.columns["key"]
        both[name] = Table(table.schema, {**table.columns, "key": type(old)(old.config, old.values, key)}, table.rows)
    model = fit_tables(both, (Relation(parent="parent", child="child", key="key"),), CopulaConfig(copies="keep"))
    made = sample_tables(model, 1.0, 0)["child"].table.columns["amount"].values
    real = child.columns["amount"].values
    assert made.std() == pytest.approx(real.std(), rel=0.1) and made.mean() == pytest.approx(real.mean(), abs=0.2)
