"""The front door is light, and says what to install when the web server is missing."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

from bessemer.serve import GatewayConfig

WITHOUT = """
import sys
for name in ("starlette", "httptools"):
    sys.modules[name] = None
from bessemer.core.errors import MissingDependency
from bessemer.serve import GatewayConfig, KeyStore, check_port, create_app, run_gateway
check_port(GatewayConfig(port=0))
for call in (lambda: create_app(GatewayConfig(), {}, None, None), lambda: run_gateway(None, GatewayConfig())):
    try:
        call()
    except MissingDependency as error:
        print(error.package, error.hint)
"""


def test_without_the_web_server() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=True)
    assert done.stdout.count("bessemer[serve]") == 2


def test_the_configuration_is_strict() -> None:
    with pytest.raises(ValidationError, match="max_output_tokens"):
        GatewayConfig(default_output_tokens=10, max_output_tokens=5)
    for wrong in ({"port": 65536}, {"max_concurrent_requests": 0}, {"prot": 8000}):
        with pytest.raises(ValidationError):
            GatewayConfig(**wrong)
