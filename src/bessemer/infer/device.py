"""OpenVINO GenAI's continuous batching: requests in, one step at a time, tokens out.

Owns everything that touches the pipeline: loading, prompts to tokens, sampling settings; and hands what needs all
logits to the decoder beside it. Runs in the worker process only. Knows no pipe and no other request than its own.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bessemer.core.errors import BudgetExceeded, Unsupported
from bessemer.core.nouns import ChatRequest, Sampling, ScoreRequest
from bessemer.core.raw import PromptRequest
from bessemer.infer import calling
from bessemer.infer.config import OpenVinoConfig
from bessemer.infer.jobs import CallingJob, ChatJob, Job, RawJob, ScoreJob
from bessemer.infer.logits import Answer, Decoder, Scored, Stream, load
from bessemer.infer.messages import Ready
from bessemer.infer.rendering import read_text
from bessemer.infer.runtime import genai, openvino
from bessemer.infer.vocabulary import Vocabulary

PAGE_TOKENS = 32
"""Tokens in one page of the KV cache. Source: OpenVINO GenAI 2026.4, CPU block size; checked in the tests."""

LOAD_PAUSE_SECONDS = 0.02
"""How long a step waits, when there is nothing else to do, for the model that is loaded beside the batch."""


class Device:
    """A loaded model.

    Attributes:
        ready: its limits.
    """

    def __init__(self, config: OpenVinoConfig) -> None:
        folder = Path(config.path)
        facts = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        pages = max(1, config.kv_cache_bytes // page_bytes(facts))
        scheduler = genai.SchedulerConfig()
        scheduler.num_kv_blocks = pages
        scheduler.max_num_batched_tokens = config.step_tokens
        scheduler.max_num_seqs = config.max_streams
        scheduler.enable_prefix_caching = config.prefix_caching
        self._properties: dict[str, Any] = {"KV_CACHE_PRECISION": "u8"}
        if config.threads:
            self._properties["INFERENCE_NUM_THREADS"] = config.threads
        self._config, self._room_tokens = config, pages * PAGE_TOKENS
        self._tokenizer = genai.Tokenizer(folder)
        self._scheduler = scheduler
        self.renew()
        self._decoder: Decoder | None = None
        self._vocabulary = Vocabulary(self._tokenizer)
        self._last_token = min(self._vocabulary.last, int(facts["vocab_size"]) - 1)
        self._stop_ids = _stop_ids(folder, self._tokenizer)
        self._seeds = random.SystemRandom()
        context = min(int(facts["max_position_embeddings"]), self._room_tokens)
        self.ready = Ready(context, context * self._vocabulary.longest)

    def renew(self) -> None:
        """Load the model into a new pipeline: one whose step failed works no more. What it had under way is gone."""
        self._pipeline: Any = None  # first, so that the memory of both is never taken
        self._pipeline = genai.ContinuousBatchingPipeline(
            Path(self._config.path), self._tokenizer, self._scheduler, self._config.device, **self._properties
        )

    def busy(self) -> bool:
        """Return whether a step would do anything."""
        return bool(self._pipeline.has_non_finished_requests() or (self._decoder and self._decoder.busy()))

    def step(self) -> None:
        """Advance the batch by one step, and each answer beside it."""
        batch = self._pipeline.has_non_finished_requests()
        if batch:
            self._pipeline.step()
        if self._decoder:
            self._decoder.step(0.0 if batch else LOAD_PAUSE_SECONDS)

    def begin(self, id: int, request: ChatRequest | PromptRequest | ScoreRequest) -> Job:
        """Put a request into the batch, or beside it if it needs all logits, and return what watches it.

        Raises:
            BudgetExceeded: it does not fit the context.
            Unsupported: there is no such token, or a JSON schema is beyond the grammar or beside a bias.
        """
        if isinstance(request, ScoreRequest):
            return self._begin_score(id, request)
        sampling, schema = request.sampling, None
        if isinstance(request, PromptRequest):
            prompt, length = self._read(request, reserve=1)
        else:
            prompt, length = self._read_chat(request)
            schema = calling.schema_of(request)
        if sampling.logit_bias or sampling.top_logprobs:
            handle: Any = self._beside(self._answer(prompt, sampling, schema))
        else:
            handle = self._pipeline.add_request(id, prompt, self._settings(sampling, length, schema))
        wanted = sampling.top_logprobs is not None
        if isinstance(request, PromptRequest):
            return RawJob(handle, length, sampling.stop, self._vocabulary, wanted)
        made = (CallingJob if request.callable_tools() else ChatJob)(
            handle, length, sampling.stop, self._vocabulary, wanted
        )
        made.grammar = None if schema is None else "tools" if request.callable_tools() else "json_format"
        return made

    def count_tokens(self, request: ChatRequest) -> int:
        """Return how many tokens a request has; see `begin` for what it raises."""
        return self._read_chat(request)[1]

    def _settings(self, sampling: Sampling, length: int, schema: dict[str, Any] | None) -> Any:
        """Return the pipeline's words for how the next token is chosen, after a prompt of that many tokens."""
        settings = genai.GenerationConfig()
        settings.max_new_tokens = self._limit(sampling, length)
        settings.stop_token_ids = self._stop_ids
        settings.frequency_penalty = sampling.frequency_penalty
        settings.presence_penalty = sampling.presence_penalty
        if sampling.temperature > 0:
            settings.do_sample = True
            settings.temperature = sampling.temperature
            settings.top_p = sampling.top_p
            settings.rng_seed = self._seed(sampling)
        settings.logprobs = int(sampling.top_logprobs is not None)
        if schema is not None:
            settings.structured_output_config = genai.StructuredOutputConfig(json_schema=json.dumps(schema))
        return settings

    def _answer(self, prompt: Any, sampling: Sampling, schema: dict[str, Any] | None) -> Answer:
        """Return an answer for the decoder of our own."""
        if schema is not None:
            raise Unsupported(
                "this engine takes logit_bias and top_logprobs only where neither JSON nor tools are asked for",
                hint="Leave one of them out.",
                about="logit_bias" if sampling.logit_bias else "top_logprobs",
            )
        self._refuse_unknown([token for token, _ in sampling.logit_bias])
        ids = prompt.data[0].tolist()
        return Answer(ids, sampling, self._limit(sampling, len(ids)), self._stop_ids, self._seed(sampling))

    def _limit(self, sampling: Sampling, length: int) -> int:
        """Return the most tokens of an answer to a prompt of that many."""
        return min(sampling.max_output_tokens, self.ready.context_tokens - length)

    def _seed(self, sampling: Sampling) -> int:
        return self._seeds.getrandbits(31) if sampling.seed is None else sampling.seed % 2**31

    def _beside(self, stream: Stream) -> Stream:
        """Return a stream that the decoder of our own has taken in; the first one has it loaded."""
        if self._decoder is None or self._decoder.failed():
            config = self._config
            model = partial(load, Path(config.path), config.device, self._properties)
            self._decoder = Decoder(model, config.max_streams, config.step_tokens, self._room_tokens)
        self._decoder.begin(stream)
        return stream

    def _begin_score(self, id: int, request: ScoreRequest) -> ScoreJob:
        prompt, _ = self._read(request, reserve=0)
        ids: list[int] = [int(token) for token in prompt.data[0]]
        settings = genai.GenerationConfig()
        settings.echo = True
        settings.logprobs = 1
        settings.max_new_tokens = 0
        if request.top_logprobs:
            handle: Any = self._beside(Scored(ids, request.top_logprobs))
        else:
            handle = self._pipeline.add_request(id, prompt, settings)
        return ScoreJob(handle, ids, request.text, self._vocabulary)

    def _read_chat(self, request: ChatRequest) -> tuple[Any, int]:
        """Return the tokens of a conversation, with the tools that it is told of, and their number."""
        return self._encode(read_text(self._tokenizer, calling.spoken(request), self._vocabulary.plain), reserve=1)

    def _read(self, request: PromptRequest | ScoreRequest, reserve: int) -> tuple[Any, int]:
        """Return the tokens of a raw request and their number."""
        if not request.tokens:
            return self._encode(request.text, reserve)
        if len(request.tokens) + reserve > self.ready.context_tokens:
            raise too_long(f"{len(request.tokens)} tokens", self.ready.context_tokens)
        self._refuse_unknown(request.tokens)
        return openvino.Tensor(np.array([request.tokens], dtype=np.int64)), len(request.tokens)

    def _refuse_unknown(self, tokens: Iterable[int]) -> None:
        for token in tokens:
            if not 0 <= token <= self._last_token:
                raise Unsupported(
                    f"the model has no token {token}: its last is {self._last_token}",
                    hint="Use this model's own tokenizer.",
                )

    def _encode(self, text: str, reserve: int) -> tuple[Any, int]:
        """Return the tokens of a text and their number; `reserve` of the context must stay free."""
        if len(text.encode()) > self.ready.max_prompt_bytes:
            raise too_long(f"more than {self.ready.max_prompt_bytes} bytes", self.ready.context_tokens)
        tokens = self._tokenizer.encode(text, add_special_tokens=False).input_ids
        length = int(tokens.shape[1])
        if length + reserve > self.ready.context_tokens:
            raise too_long(f"{length} tokens", self.ready.context_tokens)
        return tokens, length


def too_long(size: str, context_tokens: int) -> BudgetExceeded:
    """Return the error for a prompt that does not fit."""
    return BudgetExceeded(
        f"the prompt has {size}; the model's context takes {context_tokens} tokens with the answer",
        hint="Shorten the prompt.",
    )


def page_bytes(facts: dict[str, Any]) -> int:
    """Return the size of one page of the KV cache, in bytes.

    Values keep 8 bits with a scale and an offset (4 bytes each) per token and head; keys the same per channel and
    page. Source: OpenVINO CPU plugin 2026.4, defaults of KV_CACHE_PRECISION u8; equality is checked in the tests.

    Args:
        facts: the model's config.json.
    """
    heads = int(facts.get("num_key_value_heads") or facts["num_attention_heads"])
    width = int(facts.get("head_dim") or facts["hidden_size"] // facts["num_attention_heads"])
    keys = width * (PAGE_TOKENS + 8)
    values = PAGE_TOKENS * (width + 8)
    return int(facts["num_hidden_layers"]) * heads * (keys + values)


def _stop_ids(folder: Path, tokenizer: Any) -> set[int]:
    """Return the tokens that end an answer: those of the generation config, and the tokenizer's own."""
    path = folder / "generation_config.json"
    declared = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id") if path.is_file() else None
    ids = declared if isinstance(declared, list) else [declared]
    return {int(id) for id in [*ids, tokenizer.get_eos_token_id()] if id is not None and id >= 0}
