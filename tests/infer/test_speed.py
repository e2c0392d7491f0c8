"""Measuring speed: the figures are those of the engine that was measured."""

from __future__ import annotations

import pytest

from bessemer.infer import EchoConfig, SpeedConfig, measure_speed, open_engine


async def test_the_figures_are_the_engines() -> None:
    engine = open_engine(EchoConfig(token_seconds=0.02))
    heard: list[tuple[int, int]] = []
    config = SpeedConfig(prompt_tokens=40, output_tokens=10, streams=(1, 4), repeats=2)
    report = await measure_speed(engine, config, progress=lambda done, total: heard.append((done, total)))
    await engine.close()
    assert report.engine == "echo" and report.provenance == "measured"
    assert heard == [(1, 10), (2, 10), (6, 10), (10, 10)]
    one, four = report.levels
    assert (one.requests, four.requests) == (2, 8)
    assert one.input_tokens == pytest.approx(40, rel=0.1)
    assert one.output_tokens == 10
    for level in report.levels:
        assert 0.02 <= level.time_to_first_token_p50_seconds <= level.time_to_first_token_p95_seconds < 0.5
        assert 0.02 <= level.time_per_output_token_p50_seconds < 0.2
    # The echo engine's words wait side by side, so that four streams say nearly four times as much.
    assert one.output_tokens_per_second <= 50
    assert four.output_tokens_per_second > 1.5 * one.output_tokens_per_second
