"""What can be declared about an engine and about compiling a model for one.

Owns the configurations, apart from the code that they configure so that reading a declaration loads no engine.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, SecretStr

from bessemer.core.config import Config


class EchoConfig(Config):
    """The reference engine: it answers with the last user message; a token is a word.

    Attributes:
        token_seconds: pause before each word, to play a slow model.
        context_tokens: words of prompt and answer together that it takes.
    """

    kind: Literal["echo"] = "echo"
    token_seconds: Annotated[float, Field(ge=0)] = 0.0
    context_tokens: Annotated[int, Field(ge=2)] = 8192


class OpenVinoConfig(Config):
    """The embedded engine: a model made by `compile_model`, served on this machine.

    Attributes:
        path: folder that `compile_model` wrote.
        name: what the engine is called in reports.
        device: OpenVINO's name of the device, such as ``CPU`` or ``GPU.0``.
        threads: processor threads; 0 is one per physical core.
        max_streams: answers that are generated at the same time; three times as many wait, more are told to come again.
            Those with a bias or with alternatives to
            their tokens are generated beside the batch, at most four at the same time.
        kv_cache_bytes: memory reserved for attention keys and values; pages are taken when first used. Answers beside
            the batch take about as much again at most, and the weights once more.
        step_tokens: most tokens in one step of the batch. Smaller steps let running answers go on more smoothly while
            a long prompt is read; larger ones read it faster.
        prefix_caching: keep keys and values of earlier prompts, so that a conversation's next turn, or a shared
            system prompt, is not read again. Such an engine cannot score: what is not read has no likelihood.
            How many tokens came from the cache is not known, so `Usage.cached_tokens` stays 0.
        open_timeout_seconds: how long loading the model may take.
    """

    kind: Literal["openvino"] = "openvino"
    path: Annotated[str, Field(min_length=1)] = "model"
    name: str = "openvino"
    device: str = "CPU"
    threads: Annotated[int, Field(ge=0, le=1024)] = 0
    max_streams: Annotated[int, Field(ge=1, le=4096)] = 64
    kv_cache_bytes: Annotated[int, Field(ge=1 << 24)] = 1 << 30
    step_tokens: Annotated[int, Field(ge=32, le=65536)] = 512
    prefix_caching: bool = False
    open_timeout_seconds: Annotated[float, Field(gt=0)] = 120.0


class UpstreamConfig(Config):
    """An engine behind an OpenAI-compatible server: vLLM, SGLang, llama.cpp, a cloud.

    Attributes:
        base_url: up to and including the version, such as ``http://127.0.0.1:8080/v1``.
        model: the name that the server knows the model by.
        api_key: sent as a bearer token; empty sends none.
        timeout_seconds: longest silence between two pieces of an answer.
        connect_timeout_seconds: longest wait for a connection.
        max_streams: open connections; more requests wait.
        max_prompt_bytes: prompts larger than this (UTF-8) are refused here.
        limit_field: what the server calls the limit on output; newer clouds want ``max_completion_tokens``.
    """

    kind: Literal["upstream"] = "upstream"
    base_url: Annotated[str, Field(pattern=r"^https?://\S+$")] = "http://127.0.0.1:8080/v1"
    model: Annotated[str, Field(min_length=1)] = "default"
    api_key: SecretStr = SecretStr("")
    timeout_seconds: Annotated[float, Field(gt=0)] = 120.0
    connect_timeout_seconds: Annotated[float, Field(gt=0)] = 5.0
    max_streams: Annotated[int, Field(ge=1, le=65536)] = 512
    max_prompt_bytes: Annotated[int, Field(ge=1)] = 8_000_000
    limit_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"


class VectorsConfig(Config):
    """The embedded engine for vectors: a text encoder (BERT, RoBERTa) on this machine.

    Attributes:
        path: its Hugging Face folder.
        name: what the engine is called in reports.
        device: OpenVINO's name of the device, such as ``CPU`` or ``GPU.0``.
        threads: processor threads; 0 is one per physical core.
        batch_tokens: most tokens in one step, with what fills shorter texts up.
    """

    kind: Literal["vectors"] = "vectors"
    path: Annotated[str, Field(min_length=1)] = "model"
    name: str = "vectors"
    device: str = "CPU"
    threads: Annotated[int, Field(ge=0, le=1024)] = 0
    batch_tokens: Annotated[int, Field(ge=32, le=1 << 20)] = 4096


EngineConfig = Annotated[EchoConfig | OpenVinoConfig | UpstreamConfig | VectorsConfig, Field(discriminator="kind")]


class CompileConfig(Config):
    """How a model is compiled.

    Attributes:
        weights: ``fp16`` rounds to 16 bits; ``int8`` keeps one scale per row of a matrix; ``int4`` one per
            `group_size` weights of a row, and leaves the token embedding at 8 bits.
        group_size: weights that share a scale in ``int4``; halved until it divides the rows.
    """

    weights: Literal["int8", "int4", "fp16"] = "int8"
    group_size: Annotated[int, Field(ge=8, le=1024)] = 64
