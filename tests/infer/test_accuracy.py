"""The packaged model, compiled: as likely texts, the same tokens and the same chats as the original's."""

from __future__ import annotations

import asyncio
import pydoc
from pathlib import Path

import pytest

from bessemer.core.nouns import ScoreRequest
from bessemer.infer import OpenVinoConfig, open_engine


async def test_int8_weights_cost_less_than_half_a_percent(base_model: Path, compiled_model: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    modules = ("json", "heapq", "bisect", "textwrap")
    texts = [pydoc.render_doc(pydoc.locate(name), renderer=pydoc.plaintext)[:1200] for name in modules]
    tokenizer = AutoTokenizer.from_pretrained(base_model)
    model = AutoModelForCausalLM.from_pretrained(base_model, dtype=torch.float32)
    expected, tokens = 0.0, []
    for text in texts:
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        tokens.append(ids.shape[1])
        with torch.no_grad():
            chosen = torch.log_softmax(model(ids).logits[0, :-1], -1).gather(1, ids[0, 1:, None])
        expected += float(chosen.double().sum())
    engine = open_engine(OpenVinoConfig(path=str(compiled_model), kv_cache_bytes=1 << 28))
    try:
        scores = await asyncio.gather(*(engine.respond(ScoreRequest(text=text)) for text in texts))  # type: ignore[arg-type]
    finally:
        await engine.close()
    assert [score.usage.input_tokens for score in scores] == tokens
    assert sum(score.logprob_sum for score in scores) == pytest.approx(expected, rel=0.005)
