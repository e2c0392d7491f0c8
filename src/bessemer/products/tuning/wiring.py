"""What a factory's gateway may fine-tune, and how what comes of it is opened.

Owns the tie between a factory's models and the jobs of its clients.
"""

from __future__ import annotations

from pathlib import Path

from bessemer.core.errors import NotFound
from bessemer.flow import open_store
from bessemer.infer import OpenVinoConfig, open_engine
from bessemer.infer.openvino import CAN
from bessemer.products.home import Deployment, Home
from bessemer.products.llm.config import LlmConfig
from bessemer.products.tuning.line import TuningLine, here
from bessemer.serve import Work
from bessemer.serve.work.jobs import Trainable
from bessemer.serve.work.models import ChatEngine
from bessemer.train import read_talks


def trainable(product: LlmConfig | None, served: Deployment | None) -> Trainable:
    """Return what jobs may start from: the factory's base model, and the model that it made and serves.

    Args:
        product: the declaration; without a language model, nothing can be fine-tuned.
        served: what is deployed, if it is what clients are answered by.
    """
    bases = ({product.base} if product else set()) | ({served.name} if served else set())
    return Trainable(frozenset(bases), count_talks, open_tuned, CAN | {"score"})


def tuning_line(product: LlmConfig | None, served: Deployment | None, home: Home, base: Path, work: Work) -> TuningLine:
    """Return what makes flows of jobs.

    Args:
        product: the declaration.
        served: as for `trainable`.
        home: whose runs made the served model.
        base: folder that relative paths start from.
        work: knows the models that came of jobs.
    """

    llm = product or LlmConfig()  # without one no job is taken, and nothing of this is asked for

    def source(project: str, model: str) -> str:
        if served and model == served.name:
            return str(_merged(home, served))
        if model == llm.base or work.models is None:
            return llm.base
        found = work.models.get(project, model)
        return found.source or work.models.make(project, found).result().source

    return TuningLine(base, source, llm.compile)


def count_talks(path: Path) -> int:
    """Return how many conversations a file has.

    Raises:
        ConfigError: a line is none; the message names it.
    """
    return sum(1 for _ in read_talks(path))


def open_tuned(path: str) -> ChatEngine:
    """Return the engine of a fine-tuned model's folder; raises as `here`."""
    return open_engine(OpenVinoConfig(path=str(here(path))))


def _merged(home: Home, served: Deployment) -> Path:
    """Return the folder of the weights that a deployment was compiled from."""
    with open_store(home.database_url) as store:
        keys = [step.key for step in store.steps(served.run) if step.name == "merge"]
        result = store.result(keys[0]) if keys else None
    if result is None:
        raise NotFound(f"the weights of '{served.name}' are gone", hint="`bessemer run` makes them again.")
    return home.artifacts / "published" / result.folder / "model"
