"""What can be declared about files, jobs and batches. Imports no web server."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from bessemer.core.config import Config


class JobsConfig(Config):
    """How much clients may leave here, and how it is worked on beside those who wait for answers.

    Attributes:
        max_file_bytes: of one file, and of one part of an upload.
        max_project_bytes: of all files and parts of a project.
        max_batch_requests: lines of one batch.
        batch_streams: lines of batches that are asked at the same time.
        idle_requests: no line begins while more requests than this are under way.
        tuned_models: fine-tuned models that are kept in memory; the one that was asked longest ago makes room.
        fine_tuning: whether fine-tuning jobs are taken.
        max_epochs: how often a job may go through its file.
        max_written_rows: of a dataset that a model writes.
        max_row_tokens: that the model may write for one row of it; rows are charged, not tokens.
    """

    max_file_bytes: Annotated[int, Field(ge=1024)] = 512_000_000
    max_project_bytes: Annotated[int, Field(ge=1024)] = 10_000_000_000
    max_batch_requests: Annotated[int, Field(ge=1)] = 50_000
    batch_streams: Annotated[int, Field(ge=1, le=1024)] = 2
    idle_requests: Annotated[int, Field(ge=0)] = 0
    tuned_models: Annotated[int, Field(ge=1, le=64)] = 2
    fine_tuning: bool = True
    max_epochs: Annotated[int, Field(ge=1, le=1000)] = 50
    max_written_rows: Annotated[int, Field(ge=1)] = 10_000
    max_row_tokens: Annotated[int, Field(ge=1)] = 2_048
