"""Fits the constants of the training model to published step times, and says how well they hold on what was left out.

    python benchmarks/fit_training.py TRAINING.csv [VTRAIN.csv ...] [--write] [--check [--keep]]

`--write` replaces ``catalogue/fitted_training.toml``; `--check` fits again without each publication (for mixtures of
experts: each model; for vTrain's: each of its networks) and prints the errors on what was left out; `--keep` files
these (``left_out.py``).
"""

from __future__ import annotations

import argparse
import collections
import datetime
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from left_out import keep
from numpy.typing import NDArray

from bessemer.core.errors import Unsupported
from bessemer.twin import layout, steptime, training
from bessemer.twin.catalogue import table
from bessemer.twin.steptime import Constants, Stack
from bessemer.twin.training_rows import LARGE, MIXTURE, MULTI, SINGLE, SMALL, Case, read, usual_links
from bessemer.twin.validate_training import ANCHORED

Array = NDArray[np.float64]

OUT = Path(steptime.__file__).parent / "catalogue" / "fitted_training.toml"
FAMILIES = {LARGE: "large", SMALL: "small", MIXTURE: "mixture", MULTI: "vtrain_multi", SINGLE: "vtrain_single"}

# Where each constant starts, how far it may go (standard deviation of its logarithm, or of its logit where it is
# bounded), and its upper bound where physics sets one.
PRIORS: dict[str, tuple[float, float, float | None]] = {
    "matmul": (0.85, 0.25, 1.0),
    "matmul_bytes": (1.0, 0.4, None),
    "attention": (0.55, 0.5, 1.0),
    "attention_passes": (5.0, 0.25, None),
    "elementwise": (14.0, 0.4, None),
    "elementwise_inner": (2.0, 0.4, None),
    "elementwise_routed": (2.0, 0.5, None),
    "elementwise_state": (30.0, 0.7, None),
    "loose": (1.8, 0.4, None),
    "vocabulary_passes": (6.0, 0.5, None),
    "fp8": (0.8, 0.4, 1.0),
    "fp4": (0.55, 0.5, 1.0),
    "up": (0.75, 0.3, 1.0),
    "out": (0.75, 0.4, 1.0),
    "tensor_exposed": (0.8, 0.5, 1.0),
    "expert_exposed": (0.8, 0.6, 2.0),
    "context_exposed": (0.4, 0.7, 1.0),
    "data_exposed": (0.4, 0.7, 1.0),
    "gather_exposed": (0.1, 0.9, 1.0),
    "imbalance": (0.7, 0.6, 1.0),
    "grouped": (0.7, 0.5, 1.0),
    "step_seconds": (0.01, 0.7, None),
    "straggle": (0.008, 0.6, None),
}
NAMES = list(PRIORS)
UNNAMED = (training.USUAL, "usual-early")
"""Not software but the lack of a name: predicted with the middle of the others."""
FACTOR_SPREAD, HOST_SPREAD, ROUTE_SPREAD = 0.2, 0.4, 0.7
ROUTE_SECONDS = 1e-3
"""More for a layer with experts: a wait for the router's counts and some tens of kernels."""
HOST_SECONDS = {"0": 1.0e-3, "1": 3e-4}
"""A layer's launches without and with fused kernels: about a hundred operators of ten microseconds each, or thirty."""
NOISE, SCALING_NOISE, SCALING_WEIGHT, EDGE = 0.07, 0.03, 1.0, 1.5
WRONG = 1.5
MOST_ROWS = 60
"""A publication's family weighs no more than so many rows."""


@dataclass(frozen=True)
class Result:
    """Constants, and what each software stack adds: factor, host seconds, route seconds."""

    constants: Constants
    stacks: dict[str, Array]


def inside(name: str, value: float) -> float:
    """Return the unbounded coordinate of a constant."""
    bound = PRIORS[name][2]
    return float(np.log(value / (bound - value)) if bound else np.log(value))


def outside(name: str, coordinate: float) -> float:
    """Return the constant of an unbounded coordinate."""
    bound = PRIORS[name][2]
    return float(bound / (1 + np.exp(-coordinate)) if bound else np.exp(coordinate))


class Columns:
    """The cases as arrays."""

    def __init__(self, cases: list[Case]) -> None:
        """Turn cases into columns; all must have a layout."""
        self.net = training.stacked([steptime.net(case.shape) for case in cases])
        self.machine = training.stacked(
            [training.machine(case.device, usual_links(case.device, case.stack), case.job.precision) for case in cases]
        )
        self.cut = training.stacked([training.cut(case.job, case.layout) for case in cases if case.layout])
        self.measured = np.log([case.seconds for case in cases])
        flags = {row["name"]: row for row in table("training_stacks")}
        self.is_fused = np.array([float(flags[case.stack]["is_fused"]) for case in cases])
        self.is_sink_fused = np.array([float(flags[case.stack]["is_sink_fused"]) for case in cases])
        self.is_split = np.array([float(flags[case.stack]["is_sequence_split"]) for case in cases])

    def residuals(self, constants: Constants, added: Array) -> Array:
        """Return the logarithms of predicted over measured; `added` has three rows: factor, host, route."""
        stack = Stack(added[0], added[1], added[2], self.is_fused, self.is_sink_fused, self.is_split)
        found = steptime.parts(self.net, self.cut, self.machine, stack, constants)
        return np.asarray(np.log(found.seconds) - self.measured)


def fit(cases: list[Case], rounds: int = 25) -> Result:
    """Return the constants that explain the cases best: Huber's loss on logarithms, priors as above.

    Runs of one recipe at several sizes count once more by how they scale, with less noise: what the smallest run gets
    wrong the larger ones get wrong too.
    """
    columns, stacks = Columns(cases), sorted({case.stack for case in cases})
    which = np.array([stacks.index(case.stack) for case in cases])
    flags = {row["name"]: row["is_fused"] for row in table("training_stacks")}
    added = [[1.0] * len(stacks), [HOST_SECONDS[flags[name]] for name in stacks], [ROUTE_SECONDS] * len(stacks)]
    start = np.concatenate([[inside(name, PRIORS[name][0]) for name in NAMES], np.log(np.ravel(added))])
    spreads = np.repeat([FACTOR_SPREAD, HOST_SPREAD, ROUTE_SPREAD], len(stacks))
    spread = np.concatenate([[PRIORS[name][1] for name in NAMES], spreads])
    counts = collections.Counter((case.source, case.family) for case in cases)
    weight = np.array([min(1.0, MOST_ROWS / counts[case.source, case.family]) ** 0.5 for case in cases])
    is_mixture = np.array([case.family == MIXTURE for case in cases])
    larger, least = pairs(cases)

    def unpacked(x: Array) -> tuple[Constants, Array]:
        constants = Constants(**{name: outside(name, x[index]) for index, name in enumerate(NAMES)})
        return constants, np.exp(x[len(NAMES) :]).reshape(3, -1)

    def loss(x: Array) -> Array:
        constants, added = unpacked(x)
        error = columns.residuals(constants, added[:, which])
        scaling = huber((error[larger] - error[least]) / SCALING_NOISE)
        return np.concatenate(
            [
                weight * np.where(is_mixture, huber(error / NOISE), cauchy(error / NOISE)),
                SCALING_WEIGHT * scaling,
                (x - start) / spread,
            ]
        )

    constants, found = unpacked(least_squares(loss, start, rounds))
    return Result(constants, {name: found[:, i] for i, name in enumerate(stacks) if name not in UNNAMED})


def huber(error: Array) -> Array:
    """Return residuals whose squares grow only linearly beyond `EDGE`.

    Source: Huber 1964, doi:10.1214/aoms/1177703732.
    """
    away = np.abs(error)
    far = np.sign(error) * np.sqrt(np.maximum(2 * EDGE * away - EDGE**2, 1e-9))
    return np.asarray(np.where(away < EDGE, error, far))


def cauchy(error: Array) -> Array:
    """Return residuals whose squares grow only as a logarithm: a run that went wrong hardly counts.

    Source: Cauchy's law as a likelihood, as in Black and Anandan 1996, doi:10.1006/cviu.1996.0006 (Lorentzian).
    """
    return np.asarray(np.sign(error) * WRONG * np.sqrt(np.log1p((error / WRONG) ** 2) + 1e-12))


def pairs(cases: list[Case]) -> tuple[list[int], list[int]]:
    """Return the indices of larger runs, and of the smallest run of the same recipe beside each."""
    groups: dict[str, list[int]] = {}
    for index, case in enumerate(cases):
        if case.family not in (MULTI, SINGLE):
            groups.setdefault(case.recipe, []).append(index)
    larger, least = [], []
    for members in groups.values():
        first = min(members, key=lambda index: cases[index].accelerators)
        more = [index for index in members if cases[index].accelerators > cases[first].accelerators]
        larger += more
        least += [first] * len(more)
    return larger, least


def least_squares(loss: Callable[[Array], Array], start: Array, rounds: int) -> Array:
    """Return where the sum of squares is least. Source: Levenberg-Marquardt, Marquardt 1963, doi:10.1137/0111030."""
    x, residual, damping, nudge = start.copy(), loss(start), 1e-2, 1e-5
    for _ in range(rounds):
        steps = np.eye(len(x)) * nudge
        jacobian = np.stack([(loss(x + step) - residual) / nudge for step in steps], axis=1)
        normal, gradient, before = jacobian.T @ jacobian, jacobian.T @ residual, residual @ residual
        for _ in range(8):
            move = np.clip(np.linalg.solve(normal + damping * np.diag(np.diag(normal) + 1e-9), -gradient), -1, 1)
            after = loss(x + move)
            if after @ after < before:
                break
            damping *= 4
        else:
            return np.asarray(x)
        x, residual, damping = x + move, after, max(damping / 5, 1e-6)
        if before - after @ after < 1e-4 * before:
            return np.asarray(x)
    return np.asarray(x)


def usual(result: Result, stack: str) -> Array:
    """Return what software adds that was not fitted: between the middle of its kind and that of all: kinds are few."""
    rows = table("training_stacks")
    kind = next(row["kind"] for row in rows if row["name"] == stack)
    known = [row for row in rows if row["name"] in result.stacks]
    alike = [row for row in known if row["kind"] == kind] or [row for row in known if row["is_fused"] == "1"]
    middles = [np.median([result.stacks[row["name"]] for row in group], axis=0) for group in (alike, known)]
    return np.asarray(np.sqrt(middles[0] * middles[1]))


def errors(result: Result, cases: list[Case]) -> Array:
    """Return the logarithms of predicted over measured."""
    stacks = {case.stack for case in cases}
    added = {name: result.stacks[name] if name in result.stacks else usual(result, name) for name in stacks}
    return Columns(cases).residuals(result.constants, np.array([added[case.stack] for case in cases]).T)


def left_out(cases: list[Case], group: Callable[[Case], str], families: Iterable[str]) -> Array:
    """Return the errors on each group, predicted from all that is not of it; NaN for other families."""
    names = np.array([group(case) if case.family in set(families) else "" for case in cases])
    found = np.full(len(cases), np.nan)
    for name in sorted(set(names) - {""}):
        out = names == name
        rest = [case for case in cases if group(case) != name]
        found[out] = errors(fit(rest, 12), [case for case, one in zip(cases, out, strict=True) if one])
    return found


def said(name: str, error: Array) -> str:
    """Return one line: rows, mean and median absolute error and bias in percent."""
    relative = np.exp(error[np.isfinite(error)]) - 1
    if not len(relative):
        return f"{name:44s} none"
    away = 100 * np.abs(relative)
    return f"{name:44s} {len(relative):4d} {away.mean():6.1f} {np.median(away):6.1f} {100 * relative.mean():+6.1f}"


def figures_of(error: Array) -> tuple[float, float, float]:
    """Return rows, and the mean and the median absolute error in percent."""
    away = 100 * np.abs(np.expm1(error[np.isfinite(error)]))
    return (len(away), float(away.mean()), float(np.median(away))) if len(away) else (0, 0.0, 0.0)


def searched(cases: Iterable[Case]) -> list[Case]:
    """Return the cases, with the best layout where nobody told one; those that fit nowhere are dropped."""
    found = []
    for case in cases:
        if case.layout is None:
            try:
                best = layout.search(
                    case.shape,
                    case.job,
                    case.device,
                    case.accelerators,
                    usual_links(case.device, case.stack),
                    case.stack,
                )
            except Unsupported as error:
                print(case.id, error)
                continue
            found.append(replace(case, layout=best[0].layout))
        else:
            found.append(case)
    return found


def anchored(cases: list[Case], error: Array) -> Array:
    """Return the errors of larger runs, when the smallest run of each recipe is known."""
    larger, least = pairs(cases)
    return np.asarray(error[larger] - error[least])


def robust_spread(error: Array) -> float:
    """Return the standard deviation that a normal law with the same central 80 % would have."""
    return float(np.quantile(np.abs(error[np.isfinite(error)]), 0.8) / training.EIGHTY)


def write(result: Result, spreads: dict[str, float], said_of: str) -> None:
    """Replace the fitted catalogue."""
    flags = {row["name"]: row for row in table("training_stacks")}
    stacks = {name: result.stacks[name] if name in result.stacks else usual(result, name) for name in flags}
    lines = ["# Written by benchmarks/fit_training.py; do not edit.", f'source = "{said_of}"', "", "[constants]"]
    lines += [f"{name} = {getattr(result.constants, name):.6g}" for name in NAMES]
    for name, (factor, host, route) in sorted(stacks.items()):
        lines += ["", f"[stacks.{name}]", f"factor = {factor:.4f}"]
        lines += [f"host_seconds = {host:.3e}", f"route_seconds = {route:.3e}"]
        lines += [f"{flag} = {flags[name][flag]}" for flag in ("is_fused", "is_sink_fused", "is_sequence_split")]
    lines += ["", "# Standard deviation of the logarithm of measured over predicted, on what was left out."]
    lines += ["[errors]", *(f"{name} = {value:.4f}" for name, value in spreads.items()), ""]
    OUT.write_text("\n".join(lines), encoding="utf-8")
    training.fitted.cache_clear()


def check(cases: list[Case]) -> dict[str, Array]:
    """Return the errors on what was left out, by family, and print them by group."""
    by_source = left_out(cases, lambda case: case.source, (LARGE, SMALL))
    by_model = left_out(cases, lambda case: case.shape.name, (MIXTURE,))
    by_network = left_out(cases, lambda case: f"{case.family} {case.shape.hidden} {case.shape.layers}", (MULTI, SINGLE))
    error = np.where(np.isfinite(by_source), by_source, np.where(np.isfinite(by_model), by_model, by_network))
    family = np.array([case.family for case in cases])
    for source in sorted({case.source for case in cases if case.family in (LARGE, SMALL)}):
        print("  without", said(source, by_source[[case.source == source for case in cases]]))
    for model in sorted({case.shape.name for case in cases if case.family == MIXTURE}):
        print("  without", said(model, by_model[[case.shape.name == model for case in cases]]))
    by_device = left_out(cases, lambda case: case.device.name, (LARGE, SMALL, MIXTURE))
    for device in sorted({case.device.name for case in cases}):
        print("  without", said(device, by_device[[case.device.name == device for case in cases]]))
    found = {name: error[family == name] for name in FAMILIES}
    return {**found, "anchored": anchored(cases, by_source)}


def main() -> None:
    """Fit, say what was found, and write it if asked to."""
    parser = argparse.ArgumentParser(description="Fit the training model to published step times.")
    parser.add_argument("tables", nargs="+", type=Path)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--keep", action="store_true", help="file the errors on what was left out")
    options = parser.parse_args()
    cases = [case for path in options.tables for case in read(path) if isinstance(case, Case)]
    tables = ", ".join(path.stem for path in options.tables)
    source = f"{len(cases)} published steps of {tables}, {datetime.date.today()}"
    if options.write:
        told = [case for case in cases if case.layout]
        write(fit(told), dict.fromkeys([*FAMILIES.values(), "anchored"], 0.2), source)
    cases = searched(cases)
    result = fit(cases)
    error = errors(result, cases)
    family = np.array([case.family for case in cases])
    print(f"{'what the fit has seen':44s} rows   mean median   bias")
    for name in FAMILIES:
        print(said(name, error[family == name]))
    print(said("anchored", anchored(cases, error)))
    apart = {name: error[family == name] for name in FAMILIES} | {"anchored": anchored(cases, error)}
    if options.check:
        print(f"{'left out':44s} rows   mean median   bias")
        apart = check(cases)
        for name, each in apart.items():
            print(said(name, each))
    if options.write:
        spreads = {FAMILIES.get(name, name): robust_spread(each) for name, each in apart.items() if len(each)}
        write(result, {**dict.fromkeys(FAMILIES.values(), 0.2), "anchored": 0.05, **spreads}, source)
    if options.check and options.keep:
        groups = dict.fromkeys((LARGE, SMALL), "publication") | {MIXTURE: "model", MULTI: "network", SINGLE: "network"}
        kept = {name: apart[name] for name in groups} | {ANCHORED: apart["anchored"]}
        figures = {(name, groups.get(name, "recipe")): figures_of(each) for name, each in kept.items()}
        keep("training", figures, options.tables)


if __name__ == "__main__":
    main()
