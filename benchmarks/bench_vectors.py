"""How much faster does the vectors engine read than plain Transformers, with the same encoder on the same machine?

    uv run --group dev python benchmarks/bench_vectors.py [--model all-minilm-l6-v2] [--rounds 5] [--dry]

Both make vectors of the same texts (the docstrings of the standard library, cut to what the model reads), in turn,
several rounds: ours from as many requests at once, as a gateway asks it; the peer in batches of 32, longest first, as
Sentence-Transformers sorts them. The ratio is taken round by round; its median is what may be claimed. The largest
difference between the two is said, too. One line is appended to `results/vectors.jsonl`.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import inspect
import json
import os
import platform
import statistics
import subprocess
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from bessemer.core.raw import EmbedRequest
from bessemer.infer import VectorsConfig, open_engine
from bessemer.meter.processor import read_processor
from bessemer.models import encoder_folder

HERE = Path(__file__).parent
MODULES = ("json", "asyncio", "pathlib", "collections", "datetime", "subprocess", "email.message", "logging", "zipfile")
BATCH = 32


def texts(characters: int) -> list[str]:
    """Return what the standard library says about itself."""
    found: list[str] = []
    for name in MODULES:
        module = importlib.import_module(name)
        for thing in vars(module).values():
            for part in (thing, *vars(thing).values()) if inspect.isclass(thing) else (thing,):
                said = inspect.getdoc(part) if callable(part) else ""
                if said and said[:characters] not in found:
                    found.append(said[:characters])
    return found


class Ours:
    """The vectors engine."""

    def __init__(self, folder: Path) -> None:
        self.engine: Any = open_engine(VectorsConfig(path=str(folder)))
        self.loop = asyncio.new_event_loop()

    def vectors(self, given: list[str]) -> Any:
        async def all_of_them() -> list[Any]:
            return await asyncio.gather(*(self.engine.respond(EmbedRequest(text=text)) for text in given))

        answers = self.loop.run_until_complete(all_of_them())
        self.tokens = sum(answer.usage.input_tokens for answer in answers)
        return np.array([answer.vector for answer in answers])


class Theirs:
    """Transformers in float32, mean pooling."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModel, AutoTokenizer

        self.tokenizer, self.model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()

    def vectors(self, given: list[str]) -> Any:
        import torch

        order = sorted(range(len(given)), key=lambda i: -len(given[i]))
        made: list[Any] = [None] * len(given)
        with torch.inference_mode():
            for start in range(0, len(order), BATCH):
                part = order[start : start + BATCH]
                read = self.tokenizer([given[i] for i in part], padding=True, truncation=True, return_tensors="pt")
                real = read["attention_mask"][..., None].float()
                pooled = (self.model(**read).last_hidden_state * real).sum(1) / real.sum(1)
                for i, vector in zip(part, torch.nn.functional.normalize(pooled).numpy(), strict=True):
                    made[i] = vector
        return np.array(made)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="all-minilm-l6-v2")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dry", action="store_true", help="keep no result")
    options = parser.parse_args()
    folder = encoder_folder(options.model)
    ours, theirs = Ours(folder), Theirs(folder)
    theirs.tokenizer.model_max_length = ours.engine.context_tokens
    given = texts(characters=400)
    taken: dict[str, list[float]] = {"ours": [], "theirs": []}
    difference = 0.0
    for number in range(options.rounds + 1):  # the first is not counted
        made = {}
        for name, side in (("ours", ours), ("theirs", theirs)):
            began = time.perf_counter()
            made[name] = side.vectors(given)
            if number:
                taken[name].append(time.perf_counter() - began)
        difference = max(difference, float(np.abs(made["ours"] - made["theirs"]).max()))
    ratios = [b / a for a, b in zip(taken["ours"], taken["theirs"], strict=True)]
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    result = {
        "question": "vectors",
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit.stdout.strip(),
        "versions": {name: version(name) for name in ("openvino", "torch", "transformers")},
        "hardware": f"{os.cpu_count()} cores, {platform.machine()}, {read_processor().name}",
        "load_average": os.getloadavg(),
        "model": options.model,
        "texts": len(given),
        "tokens": ours.tokens,
        "tokens_per_second": {name: round(ours.tokens / statistics.median(each)) for name, each in taken.items()},
        "ratio": {"median": round(statistics.median(ratios), 2), "all": [round(ratio, 2) for ratio in ratios]},
        "largest_difference": difference,
    }
    print(json.dumps(result, indent=1))
    if not options.dry:
        with (HERE / "results" / "vectors.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
