"""What does a request cost in the gateway, beside nginx and LiteLLM doing the same, and does it carry 512 streams?

    uv run python benchmarks/bench_gateway.py [--seconds 5] [--litellm /tmp/venv/bin/litellm] [--source-only]

Each peer runs as one worker on core 0. On core 1 one process is both the trivial upstream and the load; it is written
in C (`gateway_load.c`, compiled here, so a C compiler is needed) and never sleeps, so that neither asking nor answering
nor waking is what is measured. Counted is the processor time of the peer's process (all threads, user and kernel,
`/proc/PID/task/*/schedstat`) per request; requests per second and core are its inverse. nginx checks a key by a map,
limits the rate, keeps its connections to the upstream and writes an access log. Ours checks the key, reads the usage,
books tokens, joules and money in its journal before the last byte leaves, and counts its metrics. The added time is the
median at one connection, less that of asking the upstream directly. A stream's rate is that between its first and its
last token, of which the upstream sends a hundred a second. LiteLLM's proxy has a master key and no database.

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
from typing import Any

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


def measure(load: Load, pid: int, port: int, key: str, seconds: float) -> dict[str, Any]:
    """Return what requests cost a peer that runs."""
    load("load", port, key, CONNECTIONS, min(1.0, seconds))
    before = cpu_seconds(pid)
    loaded = load("load", port, key, CONNECTIONS, seconds)
    cpu = (cpu_seconds(pid) - before) / loaded["requests"]
    alone = load("load", port, key, 1, seconds / 2)
    return {
        "cpu_microseconds_per_request": round(cpu * 1e6, 2),
        "requests_per_second_and_core": round(1 / cpu, 1),
        "loaded": loaded,
        "alone": alone,
        "resident_bytes": resident_bytes(pid),
    }


def measure_streams(load: Load, pid: int, port: int, key: str) -> dict[str, Any]:
    before = cpu_seconds(pid)
    found = load("streams", port, key, STREAMS, STREAM_TOKENS)
    used = cpu_seconds(pid) - before
    return {
        **found,
        "cpu_seconds": round(used, 3),
        "core_ratio": round(used / found["seconds"], 3),
        "cpu_microseconds_per_token": round(1e6 * used / max(1, found["tokens"]), 2),
        "resident_bytes_peak": resident_bytes(pid, "VmHWM"),
    }


def of_nginx(load: Load, seconds: float) -> dict[str, Any] | None:
    if not (program := shutil.which("nginx")):
        return None
    with tempfile.TemporaryDirectory() as folder:
        port, key, config = free_port(), "bk-" + "x" * 56, Path(folder) / "nginx.conf"
        Path(folder).chmod(0o755)
        found: dict[str, Any] = {}
        for buffered in ("on", "off"):
            text = NGINX.format(folder=folder, key=key, upstream=load.port, port=port, buffered=buffered)
            config.write_text(text)
            with running([program, "-c", str(config)], 0, stderr=subprocess.DEVNULL) as process:
                wait_for(port)
                if buffered == "on":
                    found = measure(load, process.pid, port, key, seconds)
                else:
                    found["streams"] = measure_streams(load, process.pid, port, key)
        found["version"] = subprocess.run([program, "-v"], capture_output=True, text=True, check=True).stderr.strip()
        return found


def of_ours(load: Load, seconds: float, *more: str, path: str = "") -> dict[str, Any]:
    with (
        tempfile.TemporaryDirectory() as folder,
        gateway(load.port, folder, *more, path=path) as (pid, said),
    ):
        found = measure(load, pid, said["port"], said["key"], seconds)
        found["streams"] = measure_streams(load, pid, said["port"], said["key"])
        found["records"] = sum(
            path.read_bytes().count(b"\n") for path in (Path(folder) / "books" / "journal").iterdir()
        )
        return found


def of_litellm(program: str, load: Load, seconds: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        config, port = Path(folder) / "config.yaml", free_port()
        config.write_text(LITELLM.format(upstream=load.port))
        command = [program, "--config", str(config), "--port", str(port), "--num_workers", "1", "--host", "127.0.0.1"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        with running(command, 0, env={**os.environ, "LITELLM_LOG": "ERROR", "PYTHONPATH": ""}, **quiet) as process:
            wait_for(port, 120)
            return measure(load, process.pid, port, "sk-benchmark", max(seconds, 10))


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
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--litellm", default="", help="its program, in an environment of its own")
    parser.add_argument("--source-only", action="store_true", help="leave the compiled wheel out")
    parser.add_argument("--dry", action="store_true", help="keep no result")
    parser.add_argument("--markdown", action="store_true", help="only show the newest result that was kept, as a table")
    options = parser.parse_args()
    if options.markdown:
        print(table(json.loads((HERE / "results" / "gateway.jsonl").read_text("utf-8").splitlines()[-1])))
        return
    lines: dict[str, Any] = {}
    with contextlib.ExitStack() as stack:
        path = "" if options.source_only else stack.enter_context(compiled())
        load = stack.enter_context(loading())
        direct = load("load", load.port, "none", 1, options.seconds / 2)
        lines["nginx"] = of_nginx(load, options.seconds)
        lines["ours"] = of_ours(load, options.seconds)
        lines["ours, limited"] = of_ours(load, options.seconds, "--limited")
        if path:
            lines["compiled"] = of_ours(load, options.seconds, path=path)
            lines["compiled, limited"] = of_ours(load, options.seconds, "--limited", path=path)
        lines["ours, fsync"] = of_ours(load, options.seconds, "--durability", "fsync")
        lines["nginx, again"] = of_nginx(load, options.seconds)
        if options.litellm:
            lines["litellm"] = of_litellm(options.litellm, load, options.seconds)
    for name, line in lines.items():
        if line:
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


def ratios(lines: dict[str, Any]) -> dict[str, float]:
    """Return what is claimed: our processor time over nginx's, LiteLLM's over ours."""
    cpu = {name: line["cpu_microseconds_per_request"] for name, line in lines.items() if line}
    found = {}
    for name in ("ours", "ours, limited", "compiled", "compiled, limited"):
        if "nginx" in cpu and name in cpu:
            found[f"{name.replace(', ', '_')}_over_nginx"] = round(cpu[name] / of_both(lines), 2)
    if "litellm" in cpu:
        found["litellm_over_ours"] = round(cpu["litellm"] / cpu["ours"], 1)
    return found


def of_both(lines: dict[str, Any]) -> float:
    """Return nginx's processor time a request, the mean of before and after ours: the machine may have changed."""
    return sum(float(lines[name]["cpu_microseconds_per_request"]) for name in ("nginx", "nginx, again")) / 2


def table(result: dict[str, Any]) -> str:
    """Return a result as a table in Markdown."""
    head = ("", "CPU a request", "over nginx", "requests/s and core", "added p50", "512 streams", "memory of them")
    rows = [head, ("---", *("--:",) * (len(head) - 1))]
    nginx = of_both(result["lines"])
    names = {
        "nginx": "nginx",
        "nginx, again": "nginx, after the others",
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
        figures = (f"{cpu:,.0f} µs", f"{cpu / nginx:.1f}", f"{line['requests_per_second_and_core']:,.0f}")
        rows.append((names[name], *figures, f"{line['added_p50_ms']:.2f} ms", told, memory))
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def processor() -> str:
    info = Path("/proc/cpuinfo")
    found = [x for x in info.read_text().splitlines() if x.startswith("model name")] if info.exists() else []
    return found[0].partition(":")[2].strip() if found else platform.processor()


if __name__ == "__main__":
    main()
