"""Declarations are strict, and what is wrong with one is said where and how to mend it."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
from pydantic import Field, ValidationError

from bessemer.core.config import Config, explain


class Steel(Config):
    kind: Literal["steel"] = "steel"
    carbon_ratio: Annotated[float, Field(ge=0, le=0.02)] = 0.002


class Copper(Config):
    kind: Literal["copper"] = "copper"
    purity_ratio: float = 0.999


class Ingot(Config):
    mass_grams: Annotated[int, Field(gt=0)] = 1000
    metal: Annotated[Steel | Copper, Field(discriminator="kind")] = Steel()


class Mill(Config):
    name: str = "mill"
    ingots: tuple[Ingot, ...] = ()


def wrong_with(declaration: dict) -> list[tuple[tuple, str]]:
    with pytest.raises(ValidationError) as caught:
        Mill.model_validate(declaration)
    return explain(caught.value, Mill)


def test_frozen_and_digested() -> None:
    with pytest.raises(ValidationError):
        Mill().name = "other"
    assert Mill().digest() == Mill(name="mill").digest() != Mill(name="other").digest()
    assert len(Mill().digest()) == 64


def test_a_default_is_checked_too() -> None:
    class Broken(Config):
        count: Annotated[int, Field(ge=1)] = 0

    with pytest.raises(ValidationError):
        Broken()


def test_an_unknown_key_names_the_nearest() -> None:
    assert wrong_with({"nam": "x"}) == [(("nam",), "unknown key 'nam'; did you mean 'name'?")]


def test_a_key_like_no_other_names_the_valid_ones() -> None:
    assert wrong_with({"zzz": 1}) == [(("zzz",), "unknown key 'zzz'; valid keys: ingots, name")]


def test_nested_in_a_list() -> None:
    ((where, sentence),) = wrong_with({"ingots": [{}, {"mas_grams": 5}]})
    assert where == ("ingots", 1, "mas_grams")
    assert sentence == "unknown key 'mas_grams'; did you mean 'mass_grams'?"


def test_in_a_variant_only_its_own_keys_are_offered() -> None:
    ((where, sentence),) = wrong_with({"ingots": [{"metal": {"kind": "copper", "purty_ratio": 1}}]})
    assert where == ("ingots", 0, "metal", "copper", "purty_ratio")
    assert sentence == "unknown key 'purty_ratio'; did you mean 'purity_ratio'?"
    ((_, sentence),) = wrong_with({"ingots": [{"metal": {"kind": "steel", "xx": 1}}]})
    assert sentence == "unknown key 'xx'; valid keys: carbon_ratio, kind"


class Yard(Config):
    mills: Annotated[tuple[Mill, ...], Field(min_length=1)] = (Mill(),)
    owner: Mill = Mill()


def sentences(declaration: dict) -> list[tuple[tuple, str]]:
    with pytest.raises(ValidationError) as caught:
        Yard.model_validate(declaration)
    return explain(caught.value, Yard)


def test_a_value_of_another_form_is_told_in_words_of_the_declaration() -> None:
    assert sentences({"mills": "one"}) == [
        (("mills",), "a list is wanted here: `[one, two]`, or one item a line with `- ` before it (got 'one')")
    ]
    assert sentences({"mills": []}) == [(("mills",), "too few items: at least 1 wanted")]
    assert sentences({"owner": None}) == [(("owner",), "keys and values are wanted here, indented below it")]
    assert sentences({"owner": {"name": 5}}) == [(("owner", "name"), "a text is wanted here: put it in quotes (got 5)")]


def test_a_list_is_not_called_too_short_for_a_mistake_in_its_only_item() -> None:
    ((where, sentence),) = sentences({"mills": [{"nam": "x"}]})
    assert where == ("mills", 0, "nam")
    assert sentence == "unknown key 'nam'; did you mean 'name'?"
    assert len(sentences({"mills": [], "owner": {"nam": 1}})) == 2, "a mistake elsewhere explains nothing"


def test_a_kind_that_is_almost_one_names_it() -> None:
    ((_, sentence),) = wrong_with({"ingots": [{"metal": {"kind": "coper"}}]})
    assert sentence == "unknown kind 'coper'; did you mean 'copper'?"


def test_an_unknown_variant_names_the_known() -> None:
    ((where, sentence),) = wrong_with({"ingots": [{"metal": {"kind": "gold"}}]})
    assert where == ("ingots", 0, "metal")
    assert "'steel', 'copper'" in sentence


def test_a_value_out_of_range_is_shown() -> None:
    ((where, sentence),) = wrong_with({"ingots": [{"mass_grams": -3}]})
    assert where == ("ingots", 0, "mass_grams")
    assert sentence == "input should be greater than 0 (got -3)"


def test_all_that_is_wrong_is_said_at_once() -> None:
    assert len(wrong_with({"nam": 1, "ingots": [{"mass_grams": 0}, {"mass": 1}]})) == 3


def test_without_the_model_the_key_is_named_alone() -> None:
    with pytest.raises(ValidationError) as caught:
        Mill.model_validate({"nam": 1})
    assert explain(caught.value) == [(("nam",), "unknown key 'nam'")]
