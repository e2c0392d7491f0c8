"""A home's experiments for people who look, without a gateway.

Owns how the stores are opened for that. Starts nothing and makes no file.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

from bessemer.core.errors import NotFound
from bessemer.core.experiments import ExperimentFigures
from bessemer.products.home import Home, is_there
from bessemer.products.recommender.experiments import HomeExperiments
from bessemer.serve import EventStore, FeedbackStore, RankingStore


def experiments_of(home: Home, name: str = "", project: str = "") -> list[ExperimentFigures]:
    """Return what a home's experiments say, the newest first.

    Args:
        home: with what was shown and told.
        name: only of this one; empty is all.
        project: by its users alone; empty is all projects'.

    Raises:
        NotFound: there is no experiment of that name.
    """
    found: list[ExperimentFigures] = []
    if is_there(home.rankings) and home.path.exists():
        with looked_at(home) as (_, _, experiments):
            found = experiments.experiments(project)
    wanted = [each for each in found if name in ("", each.experiment.name)]
    if name and not wanted:
        known = ", ".join(each.experiment.name for each in found) or "none"
        raise NotFound(f"there is no experiment '{name}' in {home.path}", hint=f"Known: {known}.")
    return wanted


@contextmanager
def looked_at(home: Home) -> Iterator[tuple[RankingStore, EventStore, HomeExperiments]]:
    """Give a home's stores of what was shown and done, and what joins them."""
    with (
        closing(RankingStore(home.rankings)) as rankings,
        closing(EventStore(home.events)) as events,
        closing(FeedbackStore(home.feedback, lambda _: None)) as feedback,
    ):
        yield rankings, events, HomeExperiments(rankings, events, feedback)
