"""Fits the few constants of the serving model to published latencies and writes catalogue/fitted_inference.toml.

Question: how far off is the model on networks and accelerators that it was not fitted to?
Run: python benchmarks/fit_inference.py LATENCIES.csv [--leave model accelerator] [--write]
"""

from __future__ import annotations

import argparse
import datetime
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bessemer.twin import decode
from bessemer.twin.decode import Constants
from bessemer.twin.inference_rows import Latency, latency, table
from bessemer.twin.replica import points

FILE = Path(__file__).parents[1] / "src/bessemer/twin/catalogue/fitted_inference.toml"
NAMES = [field.name for field in fields(Constants)]
START = {
    "memory": 0.7, "cache": 0.5, "flop": 0.5, "prefill": 0.4, "blackwell": 0.8, "link": 0.5,
    "hop_seconds": 4e-6, "layer_seconds": 2e-5,
    "mixture_seconds": 2e-5, "latent_seconds": 2e-5, "step_seconds": 1e-3, "sequence_seconds": 2e-5, 
    "imbalance": 0.1,
    "interference": 1.0, "first_seconds": 0.05, "queue": 0.3, "crowd": 0.5, "waiting": 0.1,
    "trtllm": 1.0, "vllm": 1.0, "sglang": 1.0,
    "handover": 1.5, "apart": 1.0, "unsaid": 0.7,
}  # fmt: skip
CEILINGS = {
    "memory": 0.95,
    "cache": 0.95,
    "flop": 0.9,
    "prefill": 0.9,
    "blackwell": 1.0,
    "link": 1.0,
    "waiting": 1.0,
    "crowd": 1.0,
}
FLOORS = {"trtllm": 1.0, "vllm": 1.0, "sglang": 1.0, "apart": 1.0}
PRIOR = 0.7
"""1-sigma of the log of each constant around its start: what the data do not tell stays where it was."""

FAMILIES = ("tpot agg", "tpot disagg", "ttft agg", "ttft disagg")


class Data:
    """Rows as arrays, with masks."""

    def __init__(self, cases: Sequence[Latency]) -> None:
        self.cases = cases
        self.decode = points([case.decode for case in cases])
        self.prefill = points([case.prefill or case.decode for case in cases])
        self.apart = np.array([case.prefill is not None for case in cases])
        self.token = np.array([case.token_seconds for case in cases])
        self.first = np.array([case.first_seconds for case in cases])
        self.model = np.array([case.decode.shape.name for case in cases])
        self.device = np.array([case.decode.device.name for case in cases])

    def only(self, mask: NDArray[np.bool_]) -> Data:
        return Data([case for case, keep in zip(self.cases, mask, strict=True) if keep])

    def logs(self, k: Constants) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return log ratios predicted over measured: per output token, then to the first."""
        token, first = decode.aggregated(self.decode, k)
        token_apart, first_apart = decode.disaggregated(self.decode, k, self.prefill, unsaid=True)
        token, first = np.where(self.apart, token_apart, token), np.where(self.apart, first_apart, first)
        return np.log(token / self.token), np.log(first / self.first)


def constants(x: NDArray[np.float64]) -> Constants:
    return Constants(**{n: min(float(np.exp(v)), CEILINGS.get(n, np.inf)) for n, v in zip(NAMES, x, strict=True)})


def fit(data: Data) -> Constants:
    """Return the constants with the least absolute log error; each model counts by the root of its rows."""
    start = np.log([START[name] for name in NAMES])
    names, counts = np.unique(data.model, return_counts=True)
    weight = dict(zip(names, counts, strict=True))
    w = np.array([weight[name] ** -0.25 for name in data.model])
    w = w / w.mean()

    def residuals(x: NDArray[np.float64]) -> NDArray[np.float64]:
        token, first = data.logs(constants(x))
        return np.concatenate([w * token * 2, w * first * 0.5, (x - start) / PRIOR * 2])

    high = np.log([CEILINGS.get(name, START[name] * 1e3) for name in NAMES])
    low = np.log([FLOORS.get(name, START[name] * 1e-3) for name in NAMES])
    return constants(minimum(residuals, np.clip(start, low + 1e-3, high - 1e-3), low, high))


def minimum(
    residuals: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    x: NDArray[np.float64],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    scale: float = 0.3,
) -> NDArray[np.float64]:
    """Return where the sum of soft absolute residuals is least.

    Source: Levenberg-Marquardt (Marquardt 1963, doi:10.1137/0111030) with weights that make large residuals linear.
    """

    def loss(r: NDArray[np.float64]) -> float:
        return float((np.sqrt(1 + (r / scale) ** 2) - 1).sum())

    r, damping = residuals(x), 1e-2
    for _ in range(60):
        weight = (1 + (r / scale) ** 2) ** -0.25
        steps = np.eye(len(x)) * 1e-4
        slope = (
            np.stack([(residuals(x + step) - residuals(x - step)) / 2e-4 for step in steps], axis=1) * weight[:, None]
        )
        normal, toward = slope.T @ slope, slope.T @ (r * weight)
        before = loss(r)
        while damping < 1e8:
            tried = np.clip(x - np.linalg.solve(normal + damping * np.diag(np.diag(normal) + 1e-9), toward), low, high)
            now = residuals(tried)
            if loss(now) < before:
                x, r, damping = tried, now, damping / 5
                break
            damping *= 4
        if damping >= 1e8 or before - loss(r) < 1e-5 * before:
            break
    return x


def percent(logs: NDArray[np.float64]) -> str:
    off = np.abs(np.exp(logs) - 1) * 100
    bias = (np.exp(logs) - 1).mean() * 100
    return f"{len(logs):5d} {off.mean():7.1f} {np.median(off):7.1f} {bias:+7.1f}"


def left_out(data: Data, groups: NDArray[np.str_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the log ratios when each group is predicted from the others."""
    token, first = np.zeros(len(groups)), np.zeros(len(groups))
    for name in np.unique(groups):
        k = fit(data.only(groups != name))
        here = groups == name
        token[here], first[here] = (each for each in data.only(here).logs(k))
        print(f"  {name:24s} token {percent(token[here])}   first {percent(first[here])}", flush=True)
    return token, first


def report(data: Data, token: NDArray[np.float64], first: NDArray[np.float64]) -> dict[str, float]:
    sigma: dict[str, float] = {}
    for name, logs, mask in zip(FAMILIES, (token, token, first, first), (~data.apart, data.apart) * 2, strict=True):
        print(f"  {name:24s} {percent(logs[mask])}")
        sigma[name] = float(np.quantile(np.abs(logs[mask]), 0.8) / 1.2816)
    print(f"  {'tpot all':24s} {percent(token)}\n  {'ttft all':24s} {percent(first)}")
    return sigma


def write(k: Constants, sigma: dict[str, float], rows: int) -> None:
    lines = ["# Written by benchmarks/fit_inference.py; do not edit."]
    lines += [
        f'source = "fitted on {rows} published latencies (InferenceX), {datetime.date.today()}"',
        "",
        "[constants]",
    ]
    lines += [f"{name} = {getattr(k, name):.6g}" for name in NAMES]
    lines += ["", "# 1-sigma of the log error, on models left out of the fit.", "[errors]"]
    lines += [f'"{name}" = {value:.4g}' for name, value in sigma.items()]
    FILE.write_text("\n".join(lines) + "\n", "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--leave", nargs="*", default=[], choices=["model", "accelerator"], help="groups to leave out")
    asked = parser.parse_args()
    read = [latency(row) for row in table(asked.path)]
    data = Data([case for case in read if isinstance(case, Latency)])
    k = fit(data)
    print(k)
    sigma = report(data, *data.logs(k))
    for title in asked.leave:
        groups = {"model": data.model, "accelerator": data.device}[title]
        print(f"left out: {title} (rows, mean, median, bias in %)")
        found = report(data, *left_out(data, groups))
        sigma = found if title == "model" else sigma
    if asked.write:
        write(k, sigma, len(data.cases))


if __name__ == "__main__":
    main()
