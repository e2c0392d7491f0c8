"""Engines that serve a model, and what turns a trained model into one: compile it, measure how fast it answers.

Owns the backends of `bessemer.core.protocols.Engine`. Knows no HTTP server, no tenant and no price. Importing this
package loads no engine: each backend's libraries are imported when one is opened.
"""

from bessemer.infer.compile import CompileReport, compile_model
from bessemer.infer.config import CompileConfig, EchoConfig, EngineConfig, OpenVinoConfig, UpstreamConfig, VectorsConfig
from bessemer.infer.engines import Counters, LanguageEngine, engine_names, open_engine
from bessemer.infer.speed import SpeedConfig, SpeedReport, StreamSpeed, measure_speed

__all__ = [
    "CompileConfig",
    "CompileReport",
    "Counters",
    "EchoConfig",
    "EngineConfig",
    "LanguageEngine",
    "OpenVinoConfig",
    "SpeedConfig",
    "SpeedReport",
    "StreamSpeed",
    "UpstreamConfig",
    "VectorsConfig",
    "compile_model",
    "engine_names",
    "measure_speed",
    "open_engine",
]
