"""What does a request cost in the gateway, beside nginx and LiteLLM doing the same, and does it carry 512 streams?

    uv run python benchmarks/bench_gateway.py [--rounds 7] [--litellm /tmp/venv/bin/litellm] [--source-only]

Each peer runs as one worker on core 0. On core 1 one process is both the trivial upstream and the load; it is written
in C (`gateway_load.c`, compiled here, so a C compiler is needed) and never sleeps, so that neither asking nor answering
nor waking is what is measured. Counted is the processor time of the peer's process (all threads, user and kernel,
`/proc/PID/task/*/schedstat`) per request; requests per second and core are its inverse. nginx checks a key by a map,
limits the rate, keeps its connections to the upstream and writes an access log. Ours checks the key, reads the usage,
books tokens, joules and money in its journal before the last byte leaves, and counts its metrics. The added time is the
median at one connection, less that of asking the upstream directly. A stream's rate is that between its first and its
last token, of which the upstream sends a hundred a second. LiteLLM's proxy has a master key and no database.

All peers run at once and are asked in turns, two seconds each, round after round: a neighbour who slows the machine for
a while slows all of them. A peer's figure is the median of its turns; a ratio is the median of those of the rounds.

Ours runs twice: as the sources stand, and as the wheel that is compiled (`HATCH_BUILD_HOOK_ENABLE_MYPYC=1 uv build`,
made here, which takes a minute; `--source-only` leaves it out).

One line is appended to `results/gateway.jsonl`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import psutil

HERE = Path(__file__).parent
DEPLOYED = str(HERE / "gateway_deployed.py")
CONNECTIONS = 32
STREAMS, STREAM_TOKENS, TOKENS_PER_SECOND = 512, 500, 100

NGINX = """
worker_processes 1; daemon off; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    keepalive_requests 1000000000;
    map_hash_bucket_size 128;
    map $http_authorization $project {{ default ""; "Bearer {key}" "benchmark"; }}
    limit_req_zone $project zone=projects:1m rate=1000000r/s;
    upstream model {{ server 127.0.0.1:{upstream}; keepalive 512; keepalive_requests 1000000000; }}
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        location / {{
            if ($project = "") {{ return 401; }}
            limit_req zone=projects burst=100000 nodelay;
            proxy_pass http://model; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering {buffered};
        }}
    }}
}}
"""

LITELLM = """
model_list:
  - model_name: m
    litellm_params: {{model: openai/m, api_base: "http://127.0.0.1:{upstream}/v1", api_key: none}}
general_settings: {{master_key: "sk-benchmark"}}
"""


@contextmanager
def running(command: list[str], core: int, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Run a process on a core within a block."""
    process = subprocess.Popen(["taskset", "-c", str(core), *command], text=True, **options)
    try:
        yield process
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()


class Load:
    """The process that asks and answers.

    Attributes:
        port: where its upstream listens.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.port = self._read()["port"]

    def __call__(self, what: str, port: int, key: str, connections: int, amount: float) -> dict[str, Any]:
        """Return what it measured: ``load`` for an amount of seconds, or ``streams`` of an amount of tokens."""
        assert self._process.stdin
        self._process.stdin.write(f"{what} {port} {key} {connections} {amount}\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout
        read: dict[str, Any] = json.loads(self._process.stdout.readline())
        return read


@contextmanager
def loading() -> Iterator[Load]:
    """Compile the load and run it on core 1 within a block."""
    with tempfile.TemporaryDirectory() as folder:
        program = f"{folder}/load"
        subprocess.run(["cc", "-O2", "-o", program, str(HERE / "gateway_load.c")], check=True)
        with running([program, str(TOKENS_PER_SECOND)], 1, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            yield Load(process)


@contextmanager
def compiled() -> Iterator[str]:
    """Build the compiled wheel and give the folder that it is unpacked in."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "HATCH_BUILD_HOOK_ENABLE_MYPYC": "1"}
        build = ["uv", "build", "--quiet", "--python", sys.executable, "--out-dir", folder]
        subprocess.run(build, cwd=HERE.parent, env=environment, check=True)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as packed:
            packed.extractall(f"{folder}/unpacked")
        where = "import bessemer.serve.fast.relay as relay; print(relay.__file__)"
        environment = {**os.environ, "PYTHONPATH": f"{folder}/unpacked"}
        found = subprocess.run([sys.executable, "-c", where], env=environment, check=True, stdout=subprocess.PIPE)
        assert found.stdout.strip().endswith(b".so"), found.stdout
        yield f"{folder}/unpacked"


@contextmanager
def gateway(upstream: int, folder: str, *more: str, path: str = "") -> Iterator[tuple[int, dict[str, Any]]]:
    """Run our gateway, imported from a path, on core 0 within a block; give its process and what it told."""
    options = ("--upstream", str(upstream), "--folder", folder, *more)
    environment = {**os.environ, "PYTHONPATH": path}
    with running([sys.executable, DEPLOYED, *options], 0, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout
        yield process.pid, json.loads(process.stdout.readline())


def cpu_seconds(pid: int) -> float:
    """Return the processor time of a process, in all its threads and children."""
    process = psutil.Process(pid)
    tasks = [x for each in (process, *process.children(True)) for x in Path(f"/proc/{each.pid}/task").iterdir()]
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def resident_bytes(pid: int, field: str = "VmRSS") -> int:
    line = next(x for x in Path(f"/proc/{pid}/status").read_text().splitlines() if x.startswith(field))
    return int(line.split()[1]) * 1024


class Peer(NamedTuple):
    """A gateway that runs: its process, where it listens and the key that it takes."""

    pid: int
    port: int
    key: str


def measure_round(load: Load, peer: Peer, seconds: float) -> dict[str, Any]:
    """Return what requests cost a peer in one of its turns."""
    # Who was idle has given back what it held under limits, and its blocks grow anew: that is not what is measured.
    load("load", peer.port, peer.key, CONNECTIONS, seconds)
    before = cpu_seconds(peer.pid)
    loaded = load("load", peer.port, peer.key, CONNECTIONS, seconds)
    return {**loaded, "cpu_microseconds_per_request": 1e6 * (cpu_seconds(peer.pid) - before) / loaded["requests"]}


def measure(load: Load, peers: dict[str, Peer], seconds: float, rounds: int) -> dict[str, Any]:
    """Return what requests cost peers that all run, asked in turns: what slows the machine for a while slows all."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in peers}
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", file=sys.stderr)
        for name, peer in peers.items():
            found[name].append(measure_round(load, peer, seconds))
    return {name: line_of(load, peer, found[name], seconds) for name, peer in peers.items()}


def line_of(load: Load, peer: Peer, turns: list[dict[str, Any]], seconds: float) -> dict[str, Any]:
    """Return what is kept of a peer: the medians of its turns, and how it answers one client alone."""
    cpu = statistics.median(turn["cpu_microseconds_per_request"] for turn in turns)
    return {
        "cpu_microseconds_per_request": round(cpu, 2),
        "cpu_microseconds_of_rounds": [round(turn["cpu_microseconds_per_request"], 2) for turn in turns],
        "requests_per_second_and_core": round(1e6 / cpu, 1),
        "loaded": {name: statistics.median(turn[name] for turn in turns) for name in turns[0]},
        "alone": load("load", peer.port, peer.key, 1, seconds),
        "resident_bytes": resident_bytes(peer.pid),
    }


def measure_streams(load: Load, peer: Peer) -> dict[str, Any]:
    before = cpu_seconds(peer.pid)
    found = load("streams", peer.port, peer.key, STREAMS, STREAM_TOKENS)
    used = cpu_seconds(peer.pid) - before
    return {
        **found,
        "cpu_seconds": round(used, 3),
        "core_ratio": round(used / found["seconds"], 3),
        "cpu_microseconds_per_token": round(1e6 * used / max(1, found["tokens"]), 2),
        "resident_bytes_peak": resident_bytes(peer.pid, "VmHWM"),
    }


@contextmanager
def nginx(upstream: int, *, buffered: bool) -> Iterator[Peer]:
    """Run nginx on core 0 within a block: with buffers as it is best at requests, without as it is at streams."""
    with tempfile.TemporaryDirectory() as folder:
        port, key, config = free_port(), "bk-" + "x" * 56, Path(folder) / "nginx.conf"
        Path(folder).chmod(0o755)
        fields = {"folder": folder, "key": key, "upstream": upstream, "port": port}
        config.write_text(NGINX.format(**fields, buffered="on" if buffered else "off"))
        with running(["nginx", "-c", str(config)], 0, stderr=subprocess.DEVNULL) as process:
            wait_for(port)
            # The master waits; of its children one asks and answers.
            yield Peer(process.pid, port, key)


@contextmanager
def ours(upstream: int, *more: str, path: str = "") -> Iterator[Peer]:
    """Run our gateway, imported from a path, on core 0 within a block, and see that it booked at its end."""
    with tempfile.TemporaryDirectory() as folder:
        with gateway(upstream, folder, *more, path=path) as (pid, said):
            yield Peer(pid, said["port"], said["key"])
        journal = (Path(folder) / "books" / "journal").iterdir()
        assert sum(file.read_bytes().count(b"\n") for file in journal) > STREAMS, "it books what it answers"


@contextmanager
def litellm(program: str, upstream: int) -> Iterator[Peer]:
    """Run LiteLLM's proxy on core 0 within a block."""
    with tempfile.TemporaryDirectory() as folder:
        config, port = Path(folder) / "config.yaml", free_port()
        config.write_text(LITELLM.format(upstream=upstream))
        command = [program, "--config", str(config), "--port", str(port), "--num_workers", "1", "--host", "127.0.0.1"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        with running(command, 0, env={**os.environ, "LITELLM_LOG": "ERROR", "PYTHONPATH": ""}, **quiet) as process:
            wait_for(port, 120)
            yield Peer(process.pid, port, "sk-benchmark")


def wait_for(port: int, seconds: float = 20) -> None:
    for _ in range(int(seconds / 0.1)):
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
            return
        time.sleep(0.1)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2, help="measured in each turn, after as many unmeasured")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each peer")
    parser.add_argument("--litellm", default="", help="its program, in an environment of its own")
    parser.add_argument("--source-only", action="store_true", help="leave the compiled wheel out")
    parser.add_argument("--dry", action="store_true", help="keep no result")
    parser.add_argument("--markdown", action="store_true", help="only show the newest result that was kept, as a table")
    options = parser.parse_args()
    if options.markdown:
        print(table(json.loads((HERE / "results" / "gateway.jsonl").read_text("utf-8").splitlines()[-1])))
        return
    with loading() as load:
        direct = load("load", load.port, "none", 1, options.seconds)
        lines = measured(load, options)
    for name, line in lines.items():
        line["added_p50_ms"] = round(line["alone"]["p50_ms"] - direct["p50_ms"], 4)
        print(name, json.dumps(line))
    result = {
        "question": "gateway",
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
        ).stdout.strip(),
        "versions": {name: version(name) for name in ("httptools", "uvloop", "msgspec")}
        | {
            "python": platform.python_version(),
            "python_build": f"{platform.python_build()}, {platform.python_compiler()}",
        },
        "hardware": f"{os.cpu_count()} cores, {platform.machine()}, {processor()}",
        "load_average": os.getloadavg(),
        "direct": direct,
        "ratios": ratios(lines),
        "lines": lines,
    }
    print(json.dumps(result["ratios"]))
    if not options.dry:
        (HERE / "results").mkdir(exist_ok=True)
        with (HERE / "results" / "gateway.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(result) + "\n")


def measured(load: Load, options: argparse.Namespace) -> dict[str, Any]:
    """Return the line of each peer."""
    with contextlib.ExitStack() as stack:
        path = "" if options.source_only else stack.enter_context(compiled())
        at, run = load.port, stack.enter_context
        peers = {"nginx": run(nginx(at, buffered=True))} if shutil.which("nginx") else {}
        peers |= {"ours": run(ours(at)), "ours, limited": run(ours(at, "--limited"))}
        if path:
            peers["compiled"] = run(ours(at, path=path))
            peers["compiled, limited"] = run(ours(at, "--limited", path=path))
        peers["ours, fsync"] = run(ours(at, "--durability", "fsync"))
        lines = measure(load, peers, options.seconds, options.rounds)
        for name, peer in peers.items():
            if name != "nginx":
                lines[name]["streams"] = measure_streams(load, peer)
    if "nginx" in lines:
        lines["nginx"]["version"] = subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=True).stderr
        with nginx(load.port, buffered=False) as peer:
            lines["nginx"]["streams"] = measure_streams(load, peer)
    if options.litellm:
        with litellm(options.litellm, load.port) as peer:
            lines |= measure(load, {"litellm": peer}, 10, 1)
    return lines


def ratios(lines: dict[str, Any]) -> dict[str, Any]:
    """Return what is claimed: our processor time over nginx's in the same round (median, least and most); LiteLLM's
    over ours.
    """
    found: dict[str, Any] = {}
    for name in ("ours", "ours, limited", "compiled", "compiled, limited"):
        if "nginx" in lines and name in lines:
            pairs = zip(*(lines[each]["cpu_microseconds_of_rounds"] for each in (name, "nginx")), strict=True)
            each = sorted(one / other for one, other in pairs)
            claim = f"{name.replace(', ', '_')}_over_nginx"
            found[claim] = round(statistics.median(each), 2)
            found[f"{claim}_range"] = [round(each[0], 2), round(each[-1], 2)]
    if "litellm" in lines:
        cpu = [lines[name]["cpu_microseconds_per_request"] for name in ("litellm", "ours")]
        found["litellm_over_ours"] = round(cpu[0] / cpu[1], 1)
    return found


def table(result: dict[str, Any]) -> str:
    """Return a result as a table in Markdown."""
    head = ("", "CPU a request", "over nginx", "requests/s and core", "added p50", "512 streams", "memory of them")
    rows = [head, ("---", *("--:",) * (len(head) - 1))]
    nginx = result["lines"]["nginx"]["cpu_microseconds_per_request"]
    names = {
        "nginx": "nginx",
        "ours": "Bessemer",
        "ours, limited": "Bessemer, limits and budget on",
        "compiled": "Bessemer, compiled",
        "compiled, limited": "Bessemer, compiled, limits and budget on",
        "ours, fsync": "Bessemer, `durability: fsync`",
        "litellm": "LiteLLM",
    }
    for name, line in result["lines"].items():
        cpu, streams = line["cpu_microseconds_per_request"], line.get("streams")
        told = f"{streams['tokens_per_second_and_stream']:.0f} tokens/s each" if streams else "–"
        memory = f"{streams['resident_bytes_peak'] / 1e6:.0f} MB" if streams else "–"
        over = result["ratios"].get(f"{name.replace(', ', '_')}_over_nginx", cpu / nginx)
        figures = (f"{cpu:,.0f} µs", f"{over:.1f}", f"{line['requests_per_second_and_core']:,.0f}")
        rows.append((names[name], *figures, f"{line['added_p50_ms']:.2f} ms", told, memory))
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def processor() -> str:
    info = Path("/proc/cpuinfo")
    found = [x for x in info.read_text().splitlines() if x.startswith("model name")] if info.exists() else []
    return found[0].partition(":")[2].strip() if found else platform.processor()


if __name__ == "__main__":
    main()
