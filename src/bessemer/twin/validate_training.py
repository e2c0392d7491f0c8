"""Published training steps beside what the model says of them.

Owns the choice of what is compared and in which family. Fits nothing: the constants are those of the catalogue.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bessemer.core.errors import Unsupported
from bessemer.twin import layout, training
from bessemer.twin.evidence import Row, unreadable
from bessemer.twin.interval import Interval
from bessemer.twin.training import StepTime
from bessemer.twin.training_rows import LARGE, MIXTURE, MULTI, SINGLE, SMALL, Case, Refused, read, usual_links

ANCHORED = "training, scaled up from one anchored run"

ERRORS = {LARGE: "large", SMALL: "small", MIXTURE: "mixture", MULTI: "vtrain_multi", SINGLE: "vtrain_single"}
"""Which fitted error belongs to which family."""


def rows(path: Path) -> list[Row]:
    """Return every row of a table with its prediction in seconds a step, then the anchored ones.

    A recipe (source, model, software, cut, sequence) that was measured at several sizes gives anchored rows: the
    smallest run is taken as known and the larger ones are predicted from it. Rows that cannot be answered have the
    reason.
    """
    cases = read(path)
    found: list[Row] = []
    known: list[tuple[Case, StepTime]] = []
    for case in cases:
        if isinstance(case, Refused):
            found.append(Row(case.family, case.id, float("nan"), reason=case.reason))
            continue
        try:
            step = predict(case)
        except Unsupported as error:
            found.append(Row(case.family, case.id, case.seconds, reason=f"{error} {error.hint}".strip()))
            continue
        except ArithmeticError as error:
            found.append(Row(case.family, case.id, case.seconds, reason=unreadable(error)))
            continue
        predicted = training.spread(step.seconds, training.fitted().errors[ERRORS[case.family]])
        found.append(Row(case.family, case.id, case.seconds, predicted))
        known.append((case, step))
    return found + _anchored(known)


def predict(case: Case) -> StepTime:
    """Return the predicted step of a measurement, with the best layout where nobody told one.

    Raises:
        Unsupported: no layout was told and none fits.
    """
    links = usual_links(case.device, case.stack)
    if case.layout is None:
        return layout.search(case.shape, case.job, case.device, case.accelerators, links, case.stack)[0].step
    return training.step(case.shape, case.job, case.layout, case.device, links, case.stack)


def _anchored(known: Sequence[tuple[Case, StepTime]]) -> list[Row]:
    recipes: dict[str, list[tuple[Case, StepTime]]] = {}
    for case, step in known:
        if case.family not in (MULTI, SINGLE):
            recipes.setdefault(case.recipe, []).append((case, step))
    found = []
    for members in recipes.values():
        first, here = min(members, key=lambda pair: pair[0].accelerators)
        for case, there in members:
            if case.accelerators > first.accelerators:
                predicted: Interval = training.anchored(first.seconds, here, there)
                found.append(Row(ANCHORED, f"{case.id} from {first.id}", case.seconds, predicted))
    return found
