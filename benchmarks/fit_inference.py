"""Fits the few constants of the serving model to published latencies and writes catalogue/fitted_inference.toml.

Question: how far off is the model on networks and accelerators that it was not fitted to?
Run: python benchmarks/fit_inference.py LATENCIES.csv RATES.csv [--leave model device [--keep]] [--write]
"""

from __future__ import annotations

import argparse
import datetime
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import fields
from pathlib import Path

import numpy as np
from left_out import keep
from numpy.typing import NDArray

from bessemer.core.errors import NotFound, Unsupported
from bessemer.twin import decode
from bessemer.twin.catalogue import Row
from bessemer.twin.decode import Constants
from bessemer.twin.inference_rows import Latency, latency, table
from bessemer.twin.replica import points
from bessemer.twin.validate_throughput import Server, most, server

FILE = Path(__file__).parents[1] / "src/bessemer/twin/catalogue/fitted_inference.toml"
NAMES = [field.name for field in fields(Constants)]
START = {
    "memory": 0.7, "cache": 0.5, "flop": 0.5, "prefill": 0.4, "attention": 0.5, "fp8": 0.85, "fp4": 0.7, "narrow": 2e3,
    "tile": 16.0,
    "blackwell": 0.8, "link": 0.5, "hop_seconds": 4e-6, "layer_seconds": 2e-5, "mixture_seconds": 2e-5,
    "latent_seconds": 2e-5, "index_seconds": 4e-5, "step_seconds": 1e-3, "sequence_seconds": 2e-5, "imbalance": 0.1,
    "interference": 1.0, "crowd": 0.5, "crowd_apart": 0.5, "waiting": 0.1,
    "trtllm": 1.0, "vllm": 1.0, "sglang": 1.0,
    "trtllm_first_seconds": 0.05, "vllm_first_seconds": 0.05, "sglang_first_seconds": 0.05,
    "trtllm_queue": 0.3, "vllm_queue": 0.3, "sglang_queue": 0.3,
    "handover": 1.5, "apart": 1.0, "tuned": 1.1, "tail": 1.5,
}  # fmt: skip
CEILINGS = {
    "memory": 0.95,
    "cache": 0.95,
    "flop": 0.9,
    "prefill": 0.9,
    "blackwell": 1.0,
    "attention": 1.0,
    "fp8": 1.0,
    "fp4": 1.0,
    "link": 1.0,
    "waiting": 1.0,
    "crowd": 1.0,
    "crowd_apart": 1.0,
}
STEPS = {"tail": 0.1}
"""Of the log, for slopes: a limit moves the best load only from one tried load to the next."""
FLOORS = {"trtllm": 1.0, "vllm": 1.0, "sglang": 1.0, "apart": 0.5, "tuned": 1.0, "tail": 1.0}
PRIOR = 0.7
"""1-sigma of the log of each constant around its start: what the data do not tell stays where it was."""

SOFT = 0.15
"""From which size on a residual counts by its size."""

SERVER_WEIGHT = 4.0
"""Of one configuration of a whole server, where a latency has 2: there are far fewer."""

LEFT = {"model": "model", "device": "accelerator"}
"""Groups, and how the table of errors calls them."""

FAMILIES_KEPT = ("tpot agg|tpot disagg", "ttft agg|ttft disagg", "throughput", "joules per token, power known")
FAMILIES = ("tpot agg", "tpot disagg", "ttft agg", "ttft disagg")


Logs = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]


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
        token_apart, first_apart = decode.disaggregated(self.decode, k, self.prefill)
        token, first = np.where(self.apart, token_apart, token), np.where(self.apart, first_apart, first)
        return np.log(token / self.token), np.log(first / self.first)


class Servers:
    """Whole servers of the offline and server scenarios: one case for each configuration, the median of its rows."""

    def __init__(self, lines: Sequence[Row]) -> None:
        groups: dict[tuple[str, ...], list[Row]] = {}
        for line in lines:
            told = ("model", "gpu", "gpu_count", "precision", "parallelism", "scenario", "isl", "osl")
            groups.setdefault((*(line[name] for name in told), str("vllm" in line["engine"].lower())), []).append(line)
        self.cases: list[tuple[Server, float]] = []
        joules: list[float] = []
        for rows in groups.values():
            rates = [float(row["tokens_per_s_total"]) for row in rows if row["tokens_per_s_total"]]
            with suppress(NotFound, Unsupported):
                self.cases.append((server(rows[0], loads=15), float(np.median(rates))))
                told = [
                    float(row["power_w_system"]) / float(row["joules_per_token"])
                    for row in rows
                    if row["joules_per_token"]
                ]
                joules.append(float(np.median(told)) / self.cases[-1][1] if told else np.nan)
        self.model = np.array([asked.replicas[0].shape.name for asked, _ in self.cases], dtype=str)
        self.device = np.array([asked.replicas[0].device.name for asked, _ in self.cases], dtype=str)
        self.energy = np.array(joules)
        """Tokens a second that power over joules a token tells, over the measured ones; NaN where neither was."""
        self._stack()

    def _stack(self) -> None:
        sizes = [len(asked.replicas) for asked, _ in self.cases]
        self.starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(int)
        self.grid = points([each for asked, _ in self.cases for each in asked.replicas]) if self.cases else None
        self.first = np.repeat([asked.first_limit for asked, _ in self.cases], sizes)
        self.token = np.repeat([asked.token_limit for asked, _ in self.cases], sizes)
        self.measured = np.array([rate / asked.accelerators for asked, rate in self.cases])
        self.tuned = np.array([asked.is_tuned for asked, _ in self.cases])

    def only(self, mask: NDArray[np.bool_]) -> Servers:
        found = Servers([])
        found.cases = [case for case, keep in zip(self.cases, mask, strict=True) if keep]
        found.model, found.device = self.model[mask], self.device[mask]
        found.energy = self.energy[mask]
        found._stack()
        return found

    def logs(self, k: Constants) -> NDArray[np.float64]:
        """Return log ratios predicted over measured; what is predicted not to fit counts as a tenth."""
        if self.grid is None:
            return np.zeros(0)
        rates = np.maximum.reduceat(most(self.grid, k, self.first, self.token), self.starts)
        return np.log(np.maximum(rates * np.where(self.tuned, k.tuned, 1.0) / self.measured, 0.1))


def constants(x: NDArray[np.float64]) -> Constants:
    return Constants(**{n: min(float(np.exp(v)), CEILINGS.get(n, np.inf)) for n, v in zip(NAMES, x, strict=True)})


def fit(data: Data, servers: Servers) -> Constants:
    """Return the constants with the least absolute error; each model counts by the root of its rows.

    The error of a time per token is relative, as it is judged; the others are logarithms, as queues miss by factors.
    """
    start = np.log([START[name] for name in NAMES])
    names, counts = np.unique(data.model, return_counts=True)
    weight = dict(zip(names, counts, strict=True))
    w = np.array([weight[name] ** -0.25 for name in data.model])
    w = w / w.mean()

    def residuals(x: NDArray[np.float64]) -> NDArray[np.float64]:
        token, first = data.logs(constants(x))
        rate = servers.logs(constants(x))
        return np.concatenate([w * np.expm1(token) * 2, w * first * 0.5, rate * SERVER_WEIGHT, (x - start) / PRIOR * 2])

    high = np.log([CEILINGS.get(name, START[name] * 1e3) for name in NAMES])
    low = np.log([FLOORS.get(name, START[name] * 1e-3) for name in NAMES])
    steps = np.array([STEPS.get(name, 1e-4) for name in NAMES])
    return constants(minimum(residuals, np.clip(start, low + 1e-3, high - 1e-3), low, high, steps))


def loss(r: NDArray[np.float64]) -> float:
    """Return the sum of residuals that count by their square where they are small and by their size where not."""
    return float((np.sqrt(1 + (r / SOFT) ** 2) - 1).sum())


def minimum(
    residuals: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    x: NDArray[np.float64],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    steps: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return where the sum of soft absolute residuals is least.

    Source: Levenberg-Marquardt (Marquardt 1963, doi:10.1137/0111030) with weights that make large residuals linear.
    """

    r, damping = residuals(x), 1e-2
    for _ in range(120):
        weight = (1 + (r / SOFT) ** 2) ** -0.25
        slope = np.stack([(residuals(x + step) - r) / step.sum() for step in np.diag(steps)], axis=1) * weight[:, None]
        normal, toward = slope.T @ slope, slope.T @ (r * weight)
        before = loss(r)
        while damping < 1e8:
            tried = np.clip(x - np.linalg.solve(normal + damping * np.diag(np.diag(normal) + 1e-9), toward), low, high)
            now = residuals(tried)
            if loss(now) < before:
                x, r, damping = tried, now, damping / 5
                break
            damping *= 4
        if damping >= 1e8 or before - loss(r) < 2e-6 * before:
            break
    return x


def percent(logs: NDArray[np.float64]) -> str:
    off = np.abs(np.exp(logs) - 1) * 100
    bias = (np.exp(logs) - 1).mean() * 100
    return f"{len(logs):5d} {off.mean():7.1f} {np.median(off):7.1f} {bias:+7.1f}"


def figures_of(logs: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return rows, and the mean and the median absolute error in percent."""
    away = 100 * np.abs(np.expm1(logs))
    return len(logs), float(away.mean()), float(np.median(away))


def joules(servers: Servers, rate: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the log ratios of joules a token where energy was measured, from those of the rates."""
    told = np.isfinite(servers.energy)
    return np.asarray(np.log(servers.energy[told]) - rate[told])


def left_out(
    data: Data, groups: NDArray[np.str_], servers: Servers | None = None, others: NDArray[np.str_] | None = None
) -> Logs:
    """Return the log ratios when each group of latencies, and of servers, is predicted from the others."""
    servers = servers or Servers([])
    others = servers.model if others is None else others
    found = np.zeros(len(groups)), np.zeros(len(groups)), np.zeros(len(others))
    for name in np.unique(np.concatenate([groups, others])):
        k = fit(data.only(groups != name), servers.only(others != name))
        here, there = groups == name, others == name
        if here.any():
            found[0][here], found[1][here] = data.only(here).logs(k)
        found[2][there] = servers.only(there).logs(k)
        told = zip(("token", "first", "rate"), found, (here, here, there), strict=True)
        print(
            f"  {name:24s} " + "  ".join(f"{what} {percent(each[m])}" for what, each, m in told if m.any()), flush=True
        )
    return found


def report(
    data: Data, token: NDArray[np.float64], first: NDArray[np.float64], rate: NDArray[np.float64], servers: Servers
) -> dict[str, float]:
    sigma: dict[str, float] = {}
    for name, logs, mask in zip(FAMILIES, (token, token, first, first), (~data.apart, data.apart) * 2, strict=True):
        print(f"  {name:24s} {percent(logs[mask])}")
        sigma[name] = float(np.quantile(np.abs(logs[mask]), 0.8) / 1.2816)
    print(f"  {'tpot all':24s} {percent(token)}\n  {'ttft all':24s} {percent(first)}")
    print(f"  {'throughput':24s} {percent(rate)}\n  {'joules per token':24s} {percent(joules(servers, rate))}")
    sigma["throughput"] = float(np.quantile(np.abs(rate), 0.8) / 1.2816)
    return sigma


def write(k: Constants, sigma: dict[str, float], rows: int, servers: int) -> None:
    lines = ["# Written by benchmarks/fit_inference.py; do not edit."]
    lines += [
        f'source = "fitted on {rows} latencies (InferenceX) and {servers} servers (MLPerf, TensorRT-LLM), '
        f'{datetime.date.today()}"',
        "",
        "[constants]",
    ]
    lines += [f"{name} = {getattr(k, name):.6g}" for name in NAMES]
    lines += ["", "# 1-sigma of the log error, on models left out of the fit.", "[errors]"]
    lines += [f'"{name}" = {value:.4g}' for name, value in sigma.items()]
    FILE.write_text("\n".join(lines) + "\n", "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("latencies", type=Path)
    parser.add_argument("rates", type=Path)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--leave", nargs="*", default=[], choices=["model", "device"], help="groups to leave out")
    parser.add_argument("--keep", action="store_true", help="file the errors on what was left out")
    asked = parser.parse_args()
    read = [latency(row) for row in table(asked.latencies)]
    data = Data([case for case in read if isinstance(case, Latency)])
    servers = Servers(table(asked.rates))
    k = fit(data, servers)
    print(k)
    sigma = report(data, *data.logs(k), servers.logs(k), servers)
    figures = {}
    for title in asked.leave:
        print(f"left out: {title} (rows, mean, median, bias in %)")
        logs = left_out(data, getattr(data, title), servers, getattr(servers, title))
        found = report(data, *logs, servers)
        sigma = found if title == "model" else sigma
        told = zip(FAMILIES_KEPT, (*logs, joules(servers, logs[2])), strict=True)
        figures |= {(family, LEFT[title]): figures_of(each) for family, each in told}
    if asked.write:
        write(k, sigma, len(data.cases), len(servers.cases))
    if asked.keep and set(asked.leave) == set(LEFT):
        keep("inference", figures, [asked.latencies, asked.rates])


if __name__ == "__main__":
    main()
