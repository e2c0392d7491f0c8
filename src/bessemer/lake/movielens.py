"""MovieLens as GroupLens publishes it, read from the user's own copy: its licence lets nobody else ship it.

Owns the formats: ML-100k (`u.data`, `u.item`), ML-1M and 10M (`ratings.dat`, `movies.dat`), and the atomic files of
RecBole (`*.inter`, `*.item`). Every rating is an event of weight 1, whatever it was: what somebody rated they watched.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bessemer.core.errors import ConfigError, NotFound

_GENRES = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip
"""Of `u.item`, in the order of its flags."""


def movielens_events(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield one row for each rating: user, item, kind ``rating``, weight 1, the stars, and the time in Unix seconds.

    Raises:
        NotFound: the folder has no ratings in a form that is known here.
        ConfigError: a line of it is none.
    """
    path, separator, header = _found(folder, (("u.data", "\t", 0), ("ratings.dat", "::", 0), ("*.inter", "\t", 1)))
    for number, line in enumerate(path.read_text(encoding="latin-1").splitlines()[header:], header + 1):
        parts = line.split(separator)
        try:
            user, item, stars, time = parts[0], parts[1], float(parts[2]), float(parts[3])
        except (IndexError, ValueError):
            raise ConfigError(f"{path}:{number} is no rating: {line!r:.80}", hint="Download the file again.") from None
        yield {"user": user, "item": item, "kind": "rating", "weight": 1.0, "stars": stars, "time": time}


def movielens_items(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield one row for each film: item, title, genres, and the first of them as its category.

    Raises:
        NotFound: the folder has no films in a form that is known here.
        ConfigError: a line of it is none.
    """
    path, separator, header = _found(folder, (("u.item", "|", 0), ("movies.dat", "::", 0), ("*.item", "\t", 1)))
    for number, line in enumerate(path.read_text(encoding="latin-1").splitlines()[header:], header + 1):
        parts = line.split(separator)
        if len(parts) < 3:
            raise ConfigError(f"{path}:{number} is no film: {line!r:.80}", hint="Download the file again.")
        if path.name == "u.item":
            genres = [name for name, flag in zip(_GENRES, parts[-len(_GENRES) :], strict=True) if flag == "1"]
        else:
            genres = parts[-1].replace("|", " ").split()
        yield {"item": parts[0], "title": parts[1], "genres": genres, "category": genres[0] if genres else "unknown"}


def _found(folder: Path, known: tuple[tuple[str, str, int], ...]) -> tuple[Path, str, int]:
    for pattern, separator, header in known:
        for path in sorted(folder.glob(pattern)):
            return path, separator, header
    names = ", ".join(pattern for pattern, _, _ in known)
    raise NotFound(f"{folder} has none of {names}", hint="Unpack MovieLens from https://grouplens.org/datasets there.")
