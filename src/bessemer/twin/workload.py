"""What is asked of a site: a model to train or to serve, how much, and how fast.

Owns the declaration of work. Knows no site.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from bessemer.core.config import Config
from bessemer.core.errors import NotFound
from bessemer.twin.shape import shape

USUAL_BATCH_SEQUENCES = 512
LARGEST_BATCH_TOKENS = 2**24
"""Source: Llama 3 405B trained on 16 million tokens a step at last (arXiv:2407.21783, section 3.4.1)."""


class Layout(Config):
    """How a model is cut over accelerators; the product of all but `expert` is their number.

    Attributes:
        tensor: ways each matrix is cut.
        pipeline: stages of layers.
        data: replicas.
        context: ways each sequence is cut.
        expert: ways the experts are spread, inside the data-parallel replicas.
        virtual: chunks of layers that a pipeline stage holds.
        micro_batch: sequences of one micro-batch.
        sharded: what data parallelism shards: nothing, the optimizer, or weights too (FSDP).
        recompute: which activations are computed again in the backward pass.
    """

    tensor: Annotated[int, Field(ge=1)] = 1
    pipeline: Annotated[int, Field(ge=1)] = 1
    data: Annotated[int, Field(ge=1)] = 1
    context: Annotated[int, Field(ge=1)] = 1
    expert: Annotated[int, Field(ge=1)] = 1
    virtual: Annotated[int, Field(ge=1)] = 1
    micro_batch: Annotated[int, Field(ge=1)] = 1
    sharded: Literal["none", "optimizer", "weights"] = "optimizer"
    recompute: Literal["none", "selective", "full"] = "selective"

    @property
    def accelerators(self) -> int:
        """How many accelerators the layout takes."""
        return self.tensor * self.pipeline * self.data * self.context


class Training(Config):
    """A training job.

    Attributes:
        method: all weights from nothing, all weights, an adapter, reinforcement learning, or an embedding model.
        model: name in the catalogue of shapes.
        tokens: to train on.
        sequence_tokens: length of a row.
        batch_sequences: rows of a step; a pre-training that names none gets what is usual for its compute
            (`usual_batch_sequences`).
        bytes_per_token: read from shared storage for each token; numbered text is 4, pictures and sound are hundreds.
        precision: of the matrix products.
        accelerators: how many the job gets; 0: as many of the site's as are fastest.
        tensor_parallel: ways each matrix is cut; 0: searched for. A layout says it itself.
        layout: how the model is cut; searched for if not given.
    """

    kind: Literal["training"] = "training"
    method: Literal["pretrain", "finetune", "lora", "rl", "embed"] = "pretrain"
    model: str = "Llama-3.1-8B"
    tokens: Annotated[float, Field(gt=0, le=1e18)] = 1e9
    sequence_tokens: Annotated[int, Field(ge=1)] = 4096
    batch_sequences: Annotated[int, Field(ge=1)] = USUAL_BATCH_SEQUENCES
    bytes_per_token: Annotated[float, Field(ge=0)] = 4.0
    precision: Literal["fp32", "bf16", "fp8", "fp4"] = "bf16"
    accelerators: Annotated[int, Field(ge=0)] = 0
    tensor_parallel: Annotated[int, Field(ge=0)] = 0
    layout: Layout | None = None

    @model_validator(mode="before")
    @classmethod
    def _usual_batch(cls, given: Any) -> Any:
        open_keys = {"batch_sequences", "layout"}
        if not isinstance(given, dict) or open_keys & given.keys() or given.get("method", "pretrain") != "pretrain":
            return given
        model, tokens, sequence = (
            given.get(name, cls.model_fields[name].default) for name in ("model", "tokens", "sequence_tokens")
        )
        try:
            usual = usual_batch_sequences(str(model), float(tokens), int(sequence))
        except (NotFound, TypeError, ValueError, OverflowError):
            return given  # told where the field is read
        return {**given, "batch_sequences": usual}


def usual_batch_sequences(model: str, tokens: float, sequence_tokens: int) -> int:
    """Return the rows of a step that are usual for a pre-training's compute: a power of two, 512 at least.

    Args:
        model: name in the catalogue of shapes.
        tokens: that it is trained on.
        sequence_tokens: length of a row.

    Raises:
        NotFound: the catalogue has no such model.

    Source: best batch = 0.2920 * compute ** 0.3271 tokens, DeepSeek LLM, arXiv:2401.02954, equation 1; no more than
    `LARGEST_BATCH_TOKENS`.

    >>> usual_batch_sequences("Llama-3.1-405B", 15.6e12, 8192), usual_batch_sequences("Llama-3.1-8B", 1e9, 4096)
    (2048, 512)
    """
    compute = shape(model).training_flop_per_token(sequence_tokens) * tokens
    best = min(LARGEST_BATCH_TOKENS, 0.2920 * compute**0.3271) / sequence_tokens
    return max(USUAL_BATCH_SEQUENCES, 1 << round(math.log2(max(1.0, best))))


class Serving(Config):
    """Requests to be answered.

    Attributes:
        model: name in the catalogue of shapes.
        input_tokens: of a usual prompt.
        output_tokens: of a usual answer.
        requests_per_second: at the busiest hour, over the site; 0: as many as it can.
        daily_swing_ratio: how much of the busiest hour's traffic is missing in the quietest.
        precision: of the weights.
        time_to_first_token_seconds: what users accept; 0: whatever it takes.
        time_per_output_token_seconds: what users accept; 0: whatever it takes.
        accelerators: of one replica; 0: found.
        disaggregated: prefill and decode on different accelerators.
        speculative_tokens: drafted a step; 0: none.
    """

    kind: Literal["serving"] = "serving"
    model: str = "Llama-3.1-8B"
    input_tokens: Annotated[int, Field(ge=1)] = 1024
    output_tokens: Annotated[int, Field(ge=1)] = 256
    requests_per_second: Annotated[float, Field(ge=0)] = 0.0
    daily_swing_ratio: Annotated[float, Field(ge=0, le=1)] = 0.6
    precision: Literal["bf16", "fp8", "int8", "fp4"] = "bf16"
    time_to_first_token_seconds: Annotated[float, Field(ge=0)] = 0.0
    time_per_output_token_seconds: Annotated[float, Field(ge=0)] = 0.0
    accelerators: Annotated[int, Field(ge=0)] = 0
    disaggregated: bool = False
    speculative_tokens: Annotated[int, Field(ge=0)] = 0


Workload = Annotated[Training | Serving, Field(discriminator="kind")]
