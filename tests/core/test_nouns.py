"""What crosses a disk or a wire comes back as it was, and cannot be changed on the way."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from bessemer.core import errors
from bessemer.core.nouns import (
    Boundary,
    Carbon,
    ChatRequest,
    EnergyClass,
    Entry,
    Interval,
    Measurement,
    Message,
    RuleOutcome,
    Sampling,
    Subject,
    Usage,
    Verdict,
)
from bessemer.core.units import Money

ENTRY = Entry(
    id="e1",
    subject=Subject(kind="request", id="r1", project="p"),
    started_at=1.5,
    status="ok",
    usage=Usage(input_tokens=3, output_tokens=4),
    measurement=Measurement(
        seconds=1,
        joules=2,
        joules_low=1,
        joules_high=3,
        energy_class=EnergyClass.MODELLED,
        boundary=Boundary.HOST,
        source="test",
    ),
    carbon=Carbon(grams=1, grams_low=0, grams_high=2, grid="DE", grams_per_kilowatt_hour=300, source="test"),
    charge=Money(micros=12),
)
VERDICT = Verdict(
    passed=True,
    outcomes=(
        RuleOutcome(
            rule="better_than",
            metric="m",
            passed=True,
            before=0.1,
            after=0.2,
            difference=Interval(value=0.1, low=0.05, high=0.15, confidence=0.95),
            sentence="m rose",
        ),
    ),
)
REQUEST = ChatRequest(messages=(Message(role="user", content="¿qué?"),), sampling=Sampling(stop=("\n",), seed=3))


@pytest.mark.parametrize("noun", [ENTRY, VERDICT, REQUEST], ids=lambda noun: type(noun).__name__)
def test_json_round_trip(noun) -> None:
    assert type(noun).model_validate_json(noun.model_dump_json()) == noun
    assert type(noun).model_validate(noun.model_dump()) == noun


def test_nouns_are_frozen_and_strict() -> None:
    with pytest.raises(ValidationError):
        ENTRY.status = "error"
    with pytest.raises(ValidationError):
        Usage(prompt_tokens=1)
    with pytest.raises(ValidationError):
        ChatRequest(messages=())
    with pytest.raises(ValidationError):
        Sampling(temperature=2.1)


def test_total_tokens() -> None:
    assert Usage(input_tokens=3, output_tokens=4, cached_tokens=2).total_tokens == 7


def test_every_error_has_its_own_code_and_stands_in_the_drawn_tree() -> None:
    kinds = [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.BessemerError)
    ]
    assert len({kind.code for kind in kinds}) == len(kinds)
    for kind in kinds:
        assert kind.__name__ in errors.__doc__
    assert errors.ConfigError("wrong", hint="mend it").hint == "mend it"
    assert str(errors.ConfigError("wrong")) == "wrong"
