"""Reads the environment: the only module of the package that does.

BESSEMER_HOME           the state folder; `.bessemer` in the working folder unless set
BESSEMER_DATABASE_URL   where runs are kept, `sqlite:///…` or `postgresql://…`; SQLite in the state folder unless set
BESSEMER_API_KEY        the key that `bessemer chat` uses; one is made for each chat unless set

OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT
                        where `bessemer up` sends a span for each request; OpenTelemetry's other variables count too
OTEL_SERVICE_NAME       what the service is called there; the factory's name unless set

Besides these, the variables that a factory names for the key of an upstream server and for tokens of MCP servers.
"""

from __future__ import annotations

import os
from pathlib import Path

from bessemer.core.errors import ConfigError
from bessemer.products.home import Home


def home(*, make: bool = True) -> Home:
    """Return the state folder that the environment names; see `Home` for `make`."""
    path = Path(os.environ.get("BESSEMER_HOME") or ".bessemer")
    return Home(path, os.environ.get("BESSEMER_DATABASE_URL", ""), make=make)


def api_key() -> str:
    """Return the key for `bessemer chat`, or an empty string."""
    return os.environ.get("BESSEMER_API_KEY", "")


def traced(name: str) -> str:
    """Return what the service is called in the spans that OpenTelemetry is sent; empty if it is to be sent none.

    Args:
        name: of the factory.
    """
    wanted = any(os.environ.get(f"OTEL_EXPORTER_OTLP_{what}ENDPOINT") for what in ("", "TRACES_"))
    return (os.environ.get("OTEL_SERVICE_NAME") or name) if wanted else ""


def secret(variable: str) -> str:
    """Return the secret that a variable holds which a declaration names; no name is no secret.

    Raises:
        ConfigError: the variable is not set.
    """
    if not variable:
        return ""
    if not (found := os.environ.get(variable, "")):
        raise ConfigError(
            f"the environment variable {variable} is not set",
            hint="It holds a secret that the declaration needs: export it.",
        )
    return found


def quiet_libraries() -> None:
    """Tell the libraries below to keep off the network and the terminal; children inherit it."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
