"""What is asked of a site: a model to train or to serve, how much, and how fast.

Owns the declaration of work. Knows no site.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from bessemer.core.config import Config


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
        batch_sequences: rows of a step.
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
    batch_sequences: Annotated[int, Field(ge=1)] = 512
    precision: Literal["fp32", "bf16", "fp8", "fp4"] = "bf16"
    accelerators: Annotated[int, Field(ge=0)] = 0
    tensor_parallel: Annotated[int, Field(ge=0)] = 0
    layout: Layout | None = None


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
