"""How much faster does the embedded engine answer than plain Transformers, with the same model on the same machine?

    uv run bessemer run
    uv run python benchmarks/bench_serving.py

Takes the newest run of the home in `.bessemer` (or `--home`): the merged model for the peer, its compiled form for us.
Both answer the same prompts with as many tokens, in turn, several rounds; the ratio is taken round by round and its
median is what may be claimed. One line is appended to `results/serving.jsonl`.
"""

from __future__ import annotations

import argparse
import asyncio
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

from bessemer.core.nouns import ChatRequest, Message, Sampling
from bessemer.infer import OpenVinoConfig, open_engine
from bessemer.products.home import Home
from bessemer.products.overview import read_receipt

HERE = Path(__file__).parent
WORDS = ("river", "stone", "letter", "market", "window", "garden", "paper", "winter", "music", "number")


def prompts(streams: int, words: int, seed: int) -> list[str]:
    import random

    chance = random.Random(seed)
    return ["Write a long story with these words: " + " ".join(chance.choices(WORDS, k=words)) for _ in range(streams)]


class Ours:
    """The compiled model behind the embedded engine."""

    def __init__(self, folder: Path) -> None:
        self.engine = open_engine(OpenVinoConfig(path=str(folder / "engine"), prefix_caching=False))

    def tokens(self, texts: list[str], count: int) -> int:
        sampling = Sampling(max_output_tokens=count, temperature=1.0, seed=1)
        asked = [ChatRequest(messages=(Message(role="user", content=t),), sampling=sampling) for t in texts]

        async def all_of_them() -> int:
            answers = await asyncio.gather(*(self.engine.respond(request) for request in asked))
            return sum(answer.usage.output_tokens for answer in answers)

        return self.loop.run_until_complete(all_of_them())

    loop = asyncio.new_event_loop()


class Transformers:
    """The merged model with Transformers' own generate."""

    def __init__(self, folder: Path) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.torch = torch
        self.tokenizer = AutoTokenizer.from_pretrained(folder / "model", padding_side="left")
        self.model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)
        self.tokenizer.pad_token = self.tokenizer.pad_token or self.tokenizer.eos_token

    def tokens(self, texts: list[str], count: int) -> int:
        chats = [[{"role": "user", "content": text}] for text in texts]
        batch = self.tokenizer.apply_chat_template(
            chats, add_generation_prompt=True, return_tensors="pt", return_dict=True, padding=True
        )
        with self.torch.inference_mode():
            self.model.generate(
                **batch,
                max_new_tokens=count,
                min_new_tokens=count,
                do_sample=True,
                pad_token_id=self.tokenizer.pad_token_id,
            )
        return count * len(texts)


def rate(engine: Any, texts: list[str], count: int) -> float:
    began = time.perf_counter()
    made: int = engine.tokens(texts, count)
    return made / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, default=Path(".bessemer"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--words", type=int, default=100)
    parser.add_argument("--output-tokens", type=int, default=48)
    options = parser.parse_args()
    home = Home(options.home)
    keys = {link.step: link.key for link in read_receipt(home, None).lineage}
    published = home.artifacts / "published"
    ours, peer = (
        kind(next(published.glob(f"{keys[step]}-*"))) for kind, step in ((Ours, "compile"), (Transformers, "merge"))
    )
    lines = []
    for streams in (1, 8):
        found = []
        for number in range(options.rounds + 1):
            texts = prompts(streams, options.words, number)
            found.append((rate(ours, texts, options.output_tokens), rate(peer, texts, options.output_tokens)))
        counted = found[1:]  # the first round warms up
        ratios = [a / b for a, b in counted]
        line = {
            "streams": streams,
            "ours_tokens_per_second": round(statistics.median(a for a, _ in counted), 1),
            "transformers_tokens_per_second": round(statistics.median(b for _, b in counted), 1),
            "ratio_median": round(statistics.median(ratios), 2),
            "ratio_low": round(min(ratios), 2),
            "ratio_high": round(max(ratios), 2),
        }
        lines.append(line)
        print(json.dumps(line))
    result = {
        "question": "serving",
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
        ).stdout.strip(),
        "versions": {name: version(name) for name in ("openvino-genai", "transformers", "torch")},
        "hardware": f"{os.cpu_count()} cores, {platform.machine()}, {_processor()}",
        "peer": "transformers generate, fp32; ours has int8 weights",
        "rounds": options.rounds,
        "lines": lines,
    }
    (HERE / "results").mkdir(exist_ok=True)
    with (HERE / "results" / "serving.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(result) + "\n")


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    found = [x for x in info.read_text().splitlines() if x.startswith("model name")] if info.exists() else []
    return found[0].partition(":")[2].strip() if found else platform.processor()


if __name__ == "__main__":
    main()
