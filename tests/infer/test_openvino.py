"""The embedded engine's own promises: its process, its memory, its limits."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from bessemer.core.errors import BackendError, BudgetExceeded, NotFound, Unsupported
from bessemer.core.nouns import ChatRequest, Message, Sampling, ScoreRequest
from bessemer.infer import OpenVinoConfig, open_engine
from bessemer.infer.device import PAGE_TOKENS, Device, page_bytes
from bessemer.infer.jobs import ChatJob
from bessemer.infer.messages import Ask
from bessemer.infer.runtime import genai
from bessemer.infer.worker import Worker


def ask(text: str, **sampling: Any) -> ChatRequest:
    return ChatRequest(messages=(Message(role="user", content=text),), sampling=Sampling(**sampling))


LONG = ask("river", max_output_tokens=200, temperature=2.0)


async def test_a_dead_worker_is_an_error_and_not_a_hang(tiny: Path) -> None:
    engine = open_engine(OpenVinoConfig(path=str(tiny), kv_cache_bytes=1 << 24))
    pieces = engine.stream(LONG)
    await anext(pieces)
    os.kill(engine.process_id, signal.SIGKILL)  # type: ignore[attr-defined]
    with pytest.raises(BackendError, match="ended with status -9"):
        async for _ in pieces:
            pass
    with pytest.raises(BackendError):
        await asyncio.wait_for(engine.respond(LONG), 5)
    await engine.close()


async def test_the_worker_ends_with_its_engine(tiny: Path) -> None:
    engine = open_engine(OpenVinoConfig(path=str(tiny), kv_cache_bytes=1 << 24))
    await engine.respond(ask("river", max_output_tokens=1))
    await engine.close()
    with pytest.raises(ProcessLookupError):
        os.kill(engine.process_id, 0)  # type: ignore[attr-defined]


async def test_ctrl_c_leaves_the_worker_to_its_parent(engine: Any) -> None:
    os.kill(engine.process_id, signal.SIGINT)
    assert (await engine.respond(ask("river", max_output_tokens=2))).usage.output_tokens == 2


async def test_an_engine_serves_one_event_loop_after_another(engine: Any) -> None:
    def elsewhere() -> int:
        return int(asyncio.run(engine.respond(ask("river", max_output_tokens=3))).usage.output_tokens)

    here = engine.respond(ask("bridge", max_output_tokens=3))
    both = await asyncio.gather(asyncio.to_thread(elsewhere), here)
    assert both[0] == both[1].usage.output_tokens == 3


async def test_what_a_caller_left_is_booked_as_undelivered(engine: Any) -> None:
    before = engine.counters
    pieces, taken = engine.stream(LONG), None
    async for piece in pieces:
        taken = piece.usage
        break
    assert taken
    await pieces.aclose()
    whole = (await engine.respond(ask("river", max_output_tokens=4))).usage
    after = engine.counters
    assert after.requests - before.requests == 2
    made = after.total.total_tokens - before.total.total_tokens
    undelivered = after.undelivered.total_tokens - before.undelivered.total_tokens
    assert made == taken.total_tokens + whole.total_tokens + undelivered


async def test_an_answer_is_cut_where_the_context_ends(engine: Any) -> None:
    said = await engine.respond(ask("river " * 60, max_output_tokens=4096, temperature=1.5, seed=1))
    assert said.finish_reason in ("length", "stop")
    assert said.usage.total_tokens <= engine.context_tokens == 256
    with pytest.raises(BudgetExceeded, match="256"):
        await engine.respond(ask("river " * 300))


def test_a_mistake_in_one_answer_ends_no_other(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def mistaken(self: ChatJob, output: Any) -> str:
        if self.usage.input_tokens == short:
            raise KeyError(366)
        return take(self, output)

    device, take = Device(OpenVinoConfig(path=str(tiny), kv_cache_bytes=1 << 24)), ChatJob._take
    ours, theirs = multiprocessing.Pipe()
    with ours, theirs:
        worker = Worker(theirs, device)
        for id, text in ((1, "river"), (2, "river river river")):
            assert worker._take(Ask(id, ask(text, max_output_tokens=3, temperature=2.0))) == []
        short = worker._jobs[1].usage.input_tokens
        monkeypatch.setattr(ChatJob, "_take", mistaken)
        last: dict[int, Any] = {}
        while worker._jobs:
            last |= {id: reply for id, reply, _ in worker._step()}
    assert isinstance(last[1], BackendError) and "KeyError(366)" in last[1].message
    assert last[2].finish_reason in ("stop", "length")
    assert not device.busy()


def test_a_full_cache_is_a_matter_of_the_moment() -> None:
    """Played, because whether the pipeline ignores a request or makes room for it is its own choice."""

    class Ignored:
        def can_read(self) -> bool:
            return False

        def get_status(self) -> Any:
            return genai.GenerationStatus.IGNORED

    class NoVocabulary:
        def detokeniser(self) -> None:
            return None

    job = ChatJob(Ignored(), 9, (), NoVocabulary(), False)  # type: ignore[arg-type]
    error = job.advance()
    assert isinstance(error, BackendError) and "full" in error.message
    assert error.retry_after_seconds == 1.0
    assert job.finished


async def test_a_queue_that_is_too_long_says_come_again(tiny: Path) -> None:
    engine = open_engine(OpenVinoConfig(path=str(tiny), kv_cache_bytes=1 << 24, max_streams=1))
    running = [engine.stream(LONG) for _ in range(4)]
    begun = [asyncio.ensure_future(anext(pieces)) for pieces in running]
    await asyncio.wait(begun, return_when=asyncio.FIRST_COMPLETED)
    with pytest.raises(BudgetExceeded) as refused:
        await engine.respond(LONG)
    assert refused.value.retry_after_seconds == 1.0
    await asyncio.gather(*begun)
    for pieces in running:
        await pieces.aclose()
    async with asyncio.timeout(20):
        while engine._calls:  # type: ignore[attr-defined]  # their ends are on the way
            await asyncio.sleep(0.01)
    assert (await engine.respond(ask("river", max_output_tokens=2))).usage.output_tokens == 2
    await engine.close()


async def test_without_a_seed_answers_differ(engine: Any) -> None:
    texts = {(await engine.respond(ask("river", max_output_tokens=12, temperature=2.0))).text for _ in range(4)}
    assert len(texts) > 1


async def test_the_loop_runs_while_the_device_computes(engine: Any) -> None:
    late: list[float] = []

    async def tick() -> None:
        while True:
            started = time.perf_counter()
            await asyncio.sleep(0.005)
            late.append(time.perf_counter() - started - 0.005)

    ticking = asyncio.create_task(tick())
    await asyncio.gather(*(engine.respond(ask("river " * 40, max_output_tokens=60)) for _ in range(16)))
    ticking.cancel()
    assert sorted(late)[len(late) // 2] < 0.02


async def test_prefix_caching_gives_up_scoring(tiny: Path) -> None:
    cached = open_engine(OpenVinoConfig(path=str(tiny), kv_cache_bytes=1 << 24, prefix_caching=True))
    try:
        assert "score" not in cached.capabilities
        with pytest.raises(Unsupported, match="prefix"):
            await cached.respond(ScoreRequest(text="A river"))  # type: ignore[arg-type]
        request = ask("A river is a large, flowing stream of water. " * 4, max_output_tokens=5, top_logprobs=0)
        first, second = [(await cached.respond(request)).logprobs[0].logprob for _ in range(2)]
        assert first == pytest.approx(second, abs=0.2)
    finally:
        await cached.close()


def test_a_page_takes_the_memory_that_we_reckon_with(tiny: Path) -> None:
    scheduler = genai.SchedulerConfig()
    scheduler.num_kv_blocks = 7
    pipeline = genai.ContinuousBatchingPipeline(tiny, scheduler, "CPU", {"KV_CACHE_PRECISION": "u8"})
    settings = genai.GenerationConfig(max_new_tokens=1, ignore_eos=True)
    pipeline.add_request(1, "river", settings)
    pipeline.step()
    facts = json.loads((tiny / "config.json").read_text())
    metrics = pipeline.get_metrics()
    assert metrics.cache_size_in_bytes == 7 * page_bytes(facts)
    assert PAGE_TOKENS == 32


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no compiled model"):
        open_engine(OpenVinoConfig(path=str(tmp_path)))


def test_a_broken_model_says_so(tiny: Path, tmp_path: Path) -> None:
    for file in tiny.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "openvino_model.xml").write_text("<net>")
    with pytest.raises(BackendError, match="could not be loaded"):
        open_engine(OpenVinoConfig(path=str(tmp_path)))


def test_opening_sends_nothing_and_leaves_the_home_alone(tmp_path: Path) -> None:
    program = """
import sys
watched = {"socket.connect", "socket.getaddrinfo", "os.fork", "subprocess.Popen"}
seen = []
sys.addaudithook(lambda event, _: seen.append(event) if event in watched else None)
import bessemer.infer.device
print(seen)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "[]", done.stderr
    assert not any(path.is_file() for path in tmp_path.rglob("*"))
