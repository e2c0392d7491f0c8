"""What a fine-tuning run is told. Imports nothing heavy."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from bessemer.core.config import Config

Precision = Literal["fp32", "bf16"]


class SftConfig(Config):
    """Supervised LoRA fine-tuning.

    The budget is counted in tokens, not in seconds, so that the same declaration does the same work everywhere. The
    weights are the same to the last bit on the same processor with the same threads, precision and library versions.

    Attributes:
        rank: of the adapters.
        alpha: their scale is alpha / rank.
        learning_rate: at its highest, after the warm-up; it then falls to zero along a half cosine.
        warmup_ratio: share of the steps in which it rises.
        batch_tokens: tokens of one optimiser step, padding included.
        max_tokens: the budget, padding included.
        epochs: how often each example is seen at most.
        max_length_tokens: longest row; longer passages are cut, longer questions are left out and counted.
        checkpoint_steps: optimiser steps between checkpoints.
        precision: ``auto`` takes bf16 where a short trial finds it clearly faster; always bf16 on CUDA.
        threads: of the processor; 0 takes what torch finds.
        seed: of the adapters' first values and of the order of examples.
    """

    rank: Annotated[int, Field(ge=1, le=512)] = 16
    alpha: Annotated[int, Field(ge=1, le=1024)] = 32
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 2e-3
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.1
    batch_tokens: Annotated[int, Field(ge=32, le=4_194_304)] = 1024
    max_tokens: Annotated[int, Field(ge=32)] = 36_000
    epochs: Annotated[int, Field(ge=1, le=1000)] = 1
    max_length_tokens: Annotated[int, Field(ge=16, le=131_072)] = 512
    checkpoint_steps: Annotated[int, Field(ge=1)] = 10
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    threads: Annotated[int, Field(ge=0, le=1024)] = 0
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0


class RowsConfig(SftConfig):
    """The same with the size of a step counted in rows: `batch_tokens` and `max_tokens` do not count then.

    Attributes:
        batch_rows: rows of one optimiser step.
    """

    batch_rows: Annotated[int, Field(ge=1, le=65_536)] = 1
