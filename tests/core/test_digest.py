"""One value, one digest; two values, two."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bessemer.core.digest import canonical_json, digest, digest_bytes
from bessemer.core.nouns import Usage

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=12
)


def same(left: object, right: object) -> bool:
    """Equal as JSON: 1, 1.0 and True differ."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    return type(left) is type(right) and repr(left) == repr(right)


@given(st.dictionaries(st.text(), values, max_size=6))
def test_the_order_of_keys_does_not_matter(value) -> None:
    assert digest(dict(reversed(value.items()))) == digest(value)


@given(values, values)
def test_equal_digests_mean_equal_values(left, right) -> None:
    assert (digest(left) == digest(right)) == same(left, right)


def test_models_sets_and_tuples_have_one_form() -> None:
    assert canonical_json(Usage(input_tokens=1)) == '{"cached_tokens":0,"input_tokens":1,"output_tokens":0,"units":0}'
    assert canonical_json({"b", "a"}) == '["a","b"]'
    assert canonical_json((1, "ü")) == '[1,"ü"]'


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_json_does_not_have_is_refused(value) -> None:
    with pytest.raises(ValueError, match="Out of range"):
        digest({"a": value})


def test_other_objects_are_refused() -> None:
    with pytest.raises(TypeError, match="object has no canonical JSON"):
        digest(object())


def test_bytes() -> None:
    assert digest_bytes(b"abc") == hashlib.sha256(b"abc").hexdigest()
