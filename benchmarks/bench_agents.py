"""What does the loop around a model cost, each step, beside the loops of openai-agents, pydantic-ai and smolagents?

    uv venv /tmp/peers && uv pip install --python /tmp/peers/bin/python openai-agents pydantic-ai-slim smolagents
    uv run python benchmarks/bench_agents.py --peers /tmp/peers/bin/python

Each asks a model that costs nothing, which asks for a function that doubles a number, twenty times, and then answers;
all in processes of their own, in turn, on one core. Told is the least processor time of the rounds for each step (a
model's act, a tool's call and all between), tracing off. Ours once as it is served, budgets and permissions checked,
and once with each act on disk before the next begins, which the peers do not do. One line is appended to
`results/agents.jsonl`; `--markdown` shows the newest, `--readme` writes it into the README.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "agents.jsonl"
README = HERE.parent / "README.md"
STEPS, ROUNDS = 20, 40
PEERS = ("openai-agents", "pydantic-ai", "smolagents")


def ours(journal: bool) -> None:
    """Print the microseconds of each round."""
    from bessemer.core.acting import Asker
    from bessemer.core.nouns import ChatRequest, Delta, Message, ToolCallPiece, Usage
    from bessemer.infer.agents import AgentBudget, AgentConfig, AgentEngine, AgentParts, callable_tool
    from bessemer.infer.agents.records import open_records

    class Mock:
        name, capabilities = "mock", frozenset({"chat", "stream", "tools"})

        def __init__(self) -> None:
            self.asked = 0

        async def stream(self, request: ChatRequest, /) -> AsyncGenerator[Delta, None]:
            self.asked += 1
            usage = Usage(input_tokens=10, output_tokens=3)
            if self.asked <= STEPS:
                call = ToolCallPiece(index=0, id="c", name="double", arguments='{"number": 21}')
                yield Delta(finish_reason="tool_calls", usage=usage, tool_calls=(call,))
            else:
                yield Delta(text="It is 42.", finish_reason="stop", usage=usage)

        async def respond(self, request: ChatRequest, /) -> Any:
            raise NotImplementedError

        async def close(self) -> None:
            pass

    @callable_tool(trusted=True)
    def double(number: int) -> int:
        """Double a number."""
        return 2 * number

    with tempfile.TemporaryDirectory() as folder:
        parts = AgentParts(journal=open_records(f"sqlite:///{folder}/records.sqlite")) if journal else AgentParts()
        budget = AgentBudget(steps=STEPS + 2, calls=STEPS, tokens=1_000_000)
        config = AgentConfig(instructions="Be brief.", budget=budget)
        request = ChatRequest(messages=(Message(role="user", content="Double 21."),))

        def run(number: int) -> str:
            asker = Asker(project="p", run=f"r{number}" if journal else "")
            agent = AgentEngine(Mock(), [double], config, parts).of(asker)
            return asyncio.run(agent.respond(request)).text

        assert run(-1) == "It is 42."
        took = []
        for number in range(ROUNDS):
            began = time.process_time()
            assert run(number) == "It is 42."
            took.append((time.process_time() - began) / STEPS * 1e6)
    print(json.dumps({"microseconds": took}))


def on_one_core(*command: str) -> dict[str, Any]:
    pinned = ["taskset", "-c", str(min(os.sched_getaffinity(0))), *command]
    done = subprocess.run(pinned, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    found = json.loads(done.stdout.splitlines()[-1])
    return {"microseconds": round(min(found.pop("microseconds")), 1), **found}


def measure(peers: str) -> dict[str, Any]:
    me = [sys.executable, __file__]
    found = {"bessemer": on_one_core(*me, "--ours"), "bessemer, each act on disk": on_one_core(*me, "--ours-on-disk")}
    for name in PEERS:
        found[name] = on_one_core(peers, str(HERE / "peer_agents.py"), name, str(STEPS), str(ROUNDS))
    return {**where(), "steps": STEPS, "loops": found}


def where() -> dict[str, Any]:
    """Return when and on what a result was measured."""
    asked = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(asked, cwd=HERE.parent, capture_output=True, text=True, check=True)
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit.stdout.strip(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
    }


def markdown() -> str:
    """Return the newest result as a table of ratios, and the trials' if there are any."""
    lines = [json.loads(line) for line in RESULTS.read_text(encoding="utf-8").splitlines()]
    newest = [line for line in lines if "loops" in line][-1]
    base = newest["loops"]["bessemer"]["microseconds"]
    told = "| loop | processor time for a step, ours = 1 |\n|---|---|\n"
    for name, found in newest["loops"].items():
        told += f"| {name} {found.get('version', '')} | {found['microseconds'] / base:.1f} |\n".replace(" |", " |")
    tried = next((line for line in reversed(lines) if "trials" in line), None)
    if tried:
        told += f"\n{tried['learnt']}, held-out tasks in other words, with 95 % intervals over wordings:\n\n"
        told += "| | tasks | base | after |\n|---|--:|--:|--:|\n"
        for each in (each for each in tried["trials"] if each["metric"] != "pass^1"):  # which is `solved` again
            sides = [(each[side], each[f"{side}_low"], each[f"{side}_high"]) for side in ("before", "after")]
            shown = " | ".join(f"{value:.2f} ({low:.2f}-{high:.2f})" for value, low, high in sides)
            told += f"| {each['metric']} | {each['samples']} | {shown} |\n"
        took = {side: "–" if tried["trials"][0][side] else "none was solved" for side in ("before", "after")}
        took["after"] = tried["facts"].get("a solved task", took["after"]).removesuffix(", unsolved ones included")
        told += f"| a solved task, with what the unsolved took | – | {took['before']} | {took['after']} |\n"
    return told.replace("  |", " |")


def trials(receipt: Path) -> dict[str, Any]:
    """Return what the receipt of a run says of its agent's trials."""
    found = json.loads(receipt.read_text(encoding="utf-8"))
    part = next(product for product in found["products"] if product["kind"] == "agent")
    facts = dict(part["facts"])
    return {**where(), "learnt": facts["learnt from"], "trials": part["metrics"], "facts": facts}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", default="/tmp/peers/bin/python", help="Python that has the peers")
    parser.add_argument("--dry", action="store_true", help="keep no result")
    parser.add_argument("--ours", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--ours-on-disk", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--trials", type=Path, help="append what this receipt.json says of an agent's trials")
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--readme", action="store_true")
    options = parser.parse_args()
    if options.ours or options.ours_on_disk:
        ours(journal=options.ours_on_disk)
    elif options.trials:
        with RESULTS.open("a", encoding="utf-8") as file:
            file.write(json.dumps(trials(options.trials)) + "\n")
    elif options.markdown:
        print(markdown(), end="")
    elif options.readme:
        text = README.read_text(encoding="utf-8")
        table = f"<!-- agent:start -->\n{markdown()}<!-- agent:end -->"
        README.write_text(re.sub(r"<!-- agent:start -->.*?<!-- agent:end -->", lambda _: table, text, flags=re.DOTALL))
    else:
        found = measure(options.peers)
        print(json.dumps(found, indent=2))
        if not options.dry:
            with RESULTS.open("a", encoding="utf-8") as file:
                file.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
