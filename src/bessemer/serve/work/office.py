"""What a gateway keeps of what clients leave to be done, opened together over one folder.

Owns which files there are. Each store has its own module.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bessemer.core.errors import ConfigError
from bessemer.serve.work.batches import BatchStore
from bessemer.serve.work.config import JobsConfig
from bessemer.serve.work.datasets import DatasetStore
from bessemer.serve.work.files import FileStore
from bessemer.serve.work.jobs import Trainable
from bessemer.serve.work.models import TunedModels
from bessemer.serve.work.records import Records
from bessemer.serve.work.tuning import JobStore
from bessemer.serve.work.uploads import UploadStore

_STRAY_SECONDS = 3600.0
"""Bytes without a record that are younger may be of a file that is being taken."""


@dataclass(frozen=True, slots=True)
class Work:
    """What clients of all projects left.

    Attributes:
        factory: whose gateway takes it in; others leave it to that one, which knows its models and prices.
        models: that came of jobs; None where none can be opened.
    """

    factory: str
    config: JobsConfig
    records: Records
    files: FileStore
    uploads: UploadStore
    jobs: JobStore
    batches: BatchStore
    models: TunedModels | None
    datasets: DatasetStore

    def lock(self, work: str) -> Path:
        """Return the file that the one of a factory's gateways holds which does some work."""
        return self.files.folder.parent / f"{work}{'-' * bool(self.factory)}{self.factory}.lock"

    def sweep(self) -> None:
        """Let go of what is over: files and uploads, and bytes that a killed gateway or another one left behind."""
        self.files.sweep()
        self.uploads.sweep()
        for store in (self.jobs, self.batches):
            store.sweep(_STRAY_SECONDS)
        self.files.remove_strays(_STRAY_SECONDS)

    def close(self) -> None:
        """Close the database."""
        self.records.close()


def open_work(
    folder: Path,
    config: JobsConfig,
    clock: Callable[[], float] = time.time,
    trainable: Trainable | None = None,
    factory: str = "",
    database: str = "",
) -> Work:
    """Return what clients left in a folder, which is made if it is missing, for its owner only.

    Args:
        folder: of everything.
        config: how much there may be.
        clock: gives Unix seconds.
        trainable: what may be fine-tuned; None is nothing.
        factory: whose gateway it is.
        database: URL of the Postgres where it is written down what there is; empty: a file in the folder.

    Raises:
        ConfigError: the folder cannot be made or read.
        IntegrityError: the database in it is none.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be made: {error.strerror}", hint="Check its permissions.") from error
    records = Records(database or folder / "work.sqlite", factory)
    folder = records.place(folder)
    files = FileStore(folder, records, config, clock)
    files.remove_strays()
    models = (
        TunedModels(records, trainable.open_model, trainable.capabilities, config.tuned_models) if trainable else None
    )
    jobs = JobStore(folder, files, trainable, clock)
    datasets = DatasetStore(folder, files, clock)
    batches = BatchStore(folder, files, clock)
    return Work(factory, config, records, files, UploadStore(files, clock), jobs, batches, models, datasets)
