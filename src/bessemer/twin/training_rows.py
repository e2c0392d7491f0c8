"""Published training measurements as the model's own nouns: a network, a job, a layout, an accelerator, a step time.

Owns the reading of the two tables' columns and the reduction of every metric to seconds a step. Knows no prediction.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bessemer.core.errors import NotFound
from bessemer.twin.accelerators import Accelerator, accelerator
from bessemer.twin.catalogue import Row, number, table
from bessemer.twin.evidence import unreadable
from bessemer.twin.shape import Shape, shape
from bessemer.twin.training import MANY
from bessemer.twin.workload import Layout, Training

Method = Literal["pretrain", "finetune", "lora", "rl", "embed"]
Precision = Literal["bf16", "fp8", "fp4"]

MULTI, SINGLE, MIXTURE = "vTrain multi-node", "vTrain single-node", "mixture of experts"
LARGE, SMALL = "training, 64 accelerators or more", "training, fewer than 64 accelerators"

NOT_NAME = re.compile(r" (2-node|pretraining|671B-A37B|\(.*\))")
"""What tables write behind the name of a model."""

ASPECT = 100
"""Width over layers of a network of which only the size is known. Source: GPT-3's and Llama's are 64 to 130
(arXiv:2005.14165 table 2.1, arXiv:2407.21783 table 3)."""

USUAL_SEQUENCE, USUAL_BATCH = 2048, 2048
"""Where a paper gives throughput without them: 4 million tokens a step, as in arXiv:2211.05100 and arXiv:2204.02311."""


RECIPE = (
    *("source", "model", "software", "gpu", "precision", "task", "seq_len"),
    *("tp", "pp", "cp", "ep", "vpp", "fsdp", "micro_batch", "recompute"),
)
"""Columns that a run keeps when only its replicas and its batch grow."""


WITHOUT_SHARDING = ("megatron-2021", "megatron-a100")
"""Stacks that reduced whole gradients: the distributed optimizer came to Megatron-LM at the end of 2022."""

WASTED = 0.25
"""Bubble over work from which a published run is taken to have had virtual stages."""


@dataclass(frozen=True, slots=True)
class Case:
    """One measurement. `layout` is None where nobody said how the model was cut.

    Attributes:
        id: of the row in its file.
        family: rows that are judged together.
        shape: the network.
        job: what was trained.
        layout: how it was cut.
        device: on what.
        accelerators: how many.
        stack: name of the software in ``catalogue/training_stacks.csv``.
        recipe: software, model and everything that a run keeps when it only grows.
        source: the publication, without the table in it.
        seconds: measured, of one step.
    """

    id: str
    family: str
    shape: Shape
    job: Training
    layout: Layout | None
    device: Accelerator
    accelerators: int
    stack: str
    recipe: str
    source: str
    seconds: float


@dataclass(frozen=True, slots=True)
class UsualLinks:
    """The links of the server that an accelerator is usually sold in; publications seldom say more."""

    scaleup_accelerators: int
    scaleup_bytes_per_second: float
    scaleout_bytes_per_second: float
    scaleup_seconds: float = 3e-6
    scaleout_seconds: float = 6e-6
    pod_accelerators: float = math.inf
    oversubscription: float = 1.0
    even_accelerators: float = math.inf


PCIE_BYTES_PER_SECOND = 25e9
"""Between accelerators of a server without links of their own. Source: PCI Express 4.0, 16 lanes, less its framing."""


def usual_links(device: Accelerator, stack: str = "") -> UsualLinks:
    """Return the links of the accelerator's usual server, or those that a publication says it had."""
    up = device.scaleup_bytes_per_second or PCIE_BYTES_PER_SECOND
    domain = device.scaleup_accelerators if device.scaleup_bytes_per_second else 8
    told = [number(row, "scaleout_gb_per_s") for row in table("training_stacks") if row["name"] == stack]
    out = told[0] * 1e9 if told and told[0] else device.scaleout_bytes_per_second or up
    return UsualLinks(domain, up, out)


@dataclass(frozen=True, slots=True)
class Refused:
    """A row that gives no step time, or too little to say what ran, with the reason."""

    id: str
    family: str
    reason: str


def read(path: Path) -> list[Case | Refused]:
    """Return every row of a table of training measurements or of vTrain's, in order.

    Raises:
        KeyError: a column is missing that both kinds of table have.
    """
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if rows and "iteration time (ms)" in rows[0]:
        family = MULTI if "Parameters (billion)" in rows[0] else SINGLE
        return [_read(_vtrain, row, f"{path.stem}:{index}", family) for index, row in enumerate(rows, 1)]
    return [_read(_published, row, row["id"], _family(row)) for row in rows]


def _read(one: Callable[[Row, str, str], Case | Refused], row: Row, identity: str, family: str) -> Case | Refused:
    try:
        found = one(row, identity, family)
        is_timed = isinstance(found, Refused) or 0 < found.seconds < math.inf
        return found if is_timed else Refused(identity, family, "no time above zero was measured")
    except NotFound as error:
        return Refused(identity, family, error.message)
    except (ValueError, ArithmeticError) as error:
        return Refused(identity, family, unreadable(error))


def stack_of(software: str, device: str) -> str:
    """Return the name of the software stack, ``usual`` if none matches.

    >>> stack_of("Megatron-Bridge 26.06 NeMo Container", "GB300")
    'megatron-bridge'
    """
    for row in table("training_stacks"):
        on = row["accelerators"].split("|")
        named = row["matches"] == "." or any(word and word in software for word in row["matches"].split("|"))
        if named and (on == [""] or device in on):
            return row["name"]
    return "usual"


def _vtrain(row: Row, identity: str, family: str) -> Case:
    layers, hidden, heads = int(row["# layers"]), int(row["hidden size"]), int(row["attention heads"])
    vocabulary = 51200
    parameters = 12 * layers * hidden**2 + vocabulary * hidden
    network = Shape("vTrain", parameters, parameters, layers, hidden, heads, heads, hidden // heads, 4 * hidden,
                    vocabulary, ffn_matrices=2)  # fmt: skip
    layout = Layout(
        tensor=int(row["tensor parallelism"]),
        pipeline=int(row["pipeline parallelism"]),
        data=int(row["data parallelism"]),
        micro_batch=int(row["micro batch"]),
        sharded="optimizer",
        recompute=_recompute(row["recompute"]) or "full",
    )
    job = Training(
        model="vTrain", sequence_tokens=int(row["sequence length"]), batch_sequences=int(row["global batch"])
    )
    device = accelerator(row["gpu"])
    seconds = float(row["iteration time (ms)"]) / 1e3
    count = int(row["# GPUs"])
    recipe = f"{family} {hidden} {layers} {layout.tensor} {layout.pipeline} {layout.micro_batch}"
    return Case(
        identity, family, network, job, layout, device, count, stack_of(family, device.name), recipe, family, seconds
    )


def _family(row: Row) -> str:
    try:
        count = number(row, "gpu_count") or 0.0
    except ValueError:
        count = 0.0
    return MIXTURE if row["kind"].startswith("moe") else LARGE if count >= MANY else SMALL


def _published(row: Row, identity: str, family: str) -> Case | Refused:
    device = accelerator(row["gpu"])
    network = _shape(row)
    count = int(number(row, "gpu_count") or 0)
    if not count:
        return Refused(identity, family, "the number of accelerators is not stated")
    job = _job(row, network, device)
    stack = stack_of(row["software"], device.name)
    layout = _layout(row, count, job, stack)
    seconds = _seconds(row, network, job, device, count)
    if seconds is None:
        return Refused(identity, family, f"no step time follows from {row['metric']} without the number of steps")
    recipe = "|".join(row[key] for key in RECIPE) + ("" if layout else row["id"])
    publication = row["source"].split(" ")[0].split("@")[0]
    return Case(identity, family, network, job, layout, device, count, stack, recipe, publication, seconds)


def _shape(row: Row) -> Shape:
    """Return the network: from the row's own columns, else from the catalogue.

    Raises:
        NotFound: neither has it.
    """
    layers, hidden, size = number(row, "layers"), number(row, "hidden"), number(row, "params_b")
    is_mixture = row["kind"].startswith("moe")
    if is_mixture or not layers or not hidden:
        try:
            return shape(NOT_NAME.sub("", row["model"]))
        except NotFound:
            if is_mixture or not size:
                raise
        hidden = 128 * round((size * 1e9 * ASPECT / 12) ** (1 / 3) / 128) or 128
        layers = max(1.0, round(size * 1e9 / 12 / hidden**2))
    heads = int(number(row, "heads") or max(hidden // 128, 1))
    ffn = number(row, "ffn") or _ffn(row, layers, hidden)
    vocabulary = number(row, "vocab") or 32000.0
    keys = int(number(row, "kv_heads") or heads)
    mixer = 2 * hidden * hidden * (1 + keys / heads)
    rest = (size or 0.0) * 1e9 - vocabulary * hidden - layers * mixer
    matrices = 3 if rest / (layers * hidden * ffn) > 2.5 else 2
    parameters = (size or 0.0) * 1e9 or layers * (mixer + 2 * hidden * ffn) + vocabulary * hidden
    return Shape(row["model"], parameters, parameters, int(layers), int(hidden), heads, keys, int(hidden // heads),
                 int(ffn), int(vocabulary), ffn_matrices=matrices, source=row["source"])  # fmt: skip


def _ffn(row: Row, layers: float, hidden: float) -> float:
    return 8 / 3 * hidden if row["model"].casefold().startswith("llama") else 4 * hidden


def _job(row: Row, network: Shape, device: Accelerator) -> Training:
    task: Method = "lora" if row["task"] == "lora" else "finetune" if row["task"] == "sft" else "pretrain"
    return Training(
        method=task,
        model=network.name,
        tokens=number(row, "tokens_total") or 1e9,
        sequence_tokens=int(number(row, "seq_len") or USUAL_SEQUENCE),
        batch_sequences=int(number(row, "global_batch_seqs") or USUAL_BATCH),
        precision=_precision(row, device),
    )


def _precision(row: Row, device: Accelerator) -> Precision:
    """Return the precision; a benchmark's unnamed one is the narrowest that submissions of its round used.

    Source: MLPerf Training v5.1 was the first with fp4 submissions (mlcommons.org, results of November 2025).
    """
    name = row["precision"].casefold()
    if "submission" in name:
        is_late = bool(re.search(r"v5\.[1-9]|v[6-9]", row["software"]))
        return "fp4" if is_late and device.fp4_flop_per_second else "fp8" if device.fp8_flop_per_second else "bf16"
    return "fp4" if "fp4" in name else "fp8" if "fp8" in name else "bf16"


def _recompute(name: str) -> Literal["none", "selective", "full"] | None:
    return "full" if name == "full" else "none" if name == "none" else "selective" if name else None


def _layout(row: Row, count: int, job: Training, software: str) -> Layout | None:
    tensor, pipeline = number(row, "tp"), number(row, "pp")
    if not tensor or not pipeline:
        return None
    context = int(number(row, "cp") or 1)
    replicas = count // int(tensor * pipeline * context)
    fsdp = row["fsdp"].casefold()
    is_whole = fsdp in ("full", "full_shard", "zero-3") or (fsdp.replace(".0", "").isdigit() and float(fsdp) > 1)
    data = max(replicas, 1)
    micro = int(number(row, "micro_batch") or 1)
    return Layout(
        tensor=int(tensor),
        pipeline=int(pipeline),
        data=data,
        context=context,
        expert=int(number(row, "ep") or 1),
        virtual=_virtual(row, int(pipeline), job.batch_sequences / data / micro),
        micro_batch=max(1, min(micro, job.batch_sequences // data)),
        sharded="weights" if is_whole else "none" if software in WITHOUT_SHARDING else "optimizer",
        recompute=_recompute(row["recompute"]) or "selective",
    )


def _virtual(row: Row, pipeline: int, micro_batches: float) -> int:
    """Return the chunks of a pipeline stage; where nobody says, as few as keep the bubble below `WASTED`.

    Assumed: nobody trains with a larger bubble when a schedule of a named name is not what is measured.
    """
    if told := number(row, "vpp"):
        return int(told)
    software = row["software"]
    if "Megatron-Bridge" in software or ("1F1B" in software and "Interleaved" not in software):
        return 1
    chunks = math.ceil((pipeline - 1) / max(micro_batches, 1.0) / WASTED)
    layers = number(row, "layers") or float(pipeline)
    return max(1, min(chunks, round(layers / pipeline)))


def _seconds(row: Row, network: Shape, job: Training, device: Accelerator, count: int) -> float | None:
    """Return the measured step time, from whichever metric the row has.

    Source: model FLOPs as in Narayanan et al. 2021, arXiv:2104.04473, equation 3 (all of the attention counted); rows
    that say so count recomputation too.
    """
    tokens = float(job.batch_sequences * job.sequence_tokens)
    if step := number(row, "step_time_s"):
        return step
    if rate := number(row, "tokens_per_s_per_gpu"):
        return tokens / rate / count
    total, hours = number(row, "tokens_total"), number(row, "gpu_hours")
    if total and hours:
        return hours * 3600 / count * tokens / total
    flop = tokens * 3 * network.forward_flop_per_token(job.sequence_tokens)
    if "counts recompute" in row["notes"]:
        flop *= 4 / 3
    if rate := number(row, "tflops_per_gpu"):
        return flop / (rate * 1e12 * count)
    if share := number(row, "mfu_pct"):
        return flop / (share / 100 * device.bf16_flop_per_second * count)
    return None


def sources(cases: Iterable[Case]) -> Mapping[str, list[Case]]:
    """Return the cases by publication."""
    found: dict[str, list[Case]] = {}
    for case in cases:
        found.setdefault(case.source, []).append(case)
    return found
