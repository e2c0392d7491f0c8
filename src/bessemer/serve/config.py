"""What can be declared about the gateway.

Owns the configuration, apart from the code that it configures so that reading a declaration loads no web server.
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from bessemer.core.config import Config


class GatewayConfig(Config):
    """Where the gateway listens, and what it takes on.

    Requests are counted in three kinds, so that none takes another's places: answers, administration, and all others;
    of the last two at most 64 at once each. Memory for request bodies is at most `max_body_bytes` times these counts.

    Attributes:
        host: name or address to listen on; ``0.0.0.0`` is every IPv4 interface.
        port: 0 takes a free one.
        max_body_bytes: larger requests are refused while they are being read.
        max_concurrent_requests: answers under way; more are told to come again. How many of them an engine works on at
            once is its own `max_streams`; more wait there.
        request_timeout_seconds: from admission to the last byte of an answer, or to the first of anything else; also
            how long a client may read nothing of what it is sent.
        body_timeout_seconds: how long a client may take to send its request.
        grace_seconds: how long running answers may go on after the gateway was told to stop.
        keep_alive_seconds: how long an unused connection stays open.
        open_metrics: whether `/metrics` is for everybody who can reach it, or for administrators' keys only.
        private_webhooks: whether webhooks may be sent inside this network and by plain HTTP.
        default_output_tokens: for requests that name no limit.
        max_output_tokens: the most that a request may ask for.
    """

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    max_body_bytes: Annotated[int, Field(ge=1024)] = 8_000_000
    max_concurrent_requests: Annotated[int, Field(ge=1, le=65536)] = 1024
    request_timeout_seconds: Annotated[float, Field(gt=0)] = 300.0
    body_timeout_seconds: Annotated[float, Field(gt=0)] = 30.0
    grace_seconds: Annotated[float, Field(ge=0)] = 10.0
    keep_alive_seconds: Annotated[int, Field(ge=1)] = 75
    open_metrics: bool = False
    private_webhooks: bool = False
    default_output_tokens: Annotated[int, Field(ge=1)] = 256
    max_output_tokens: Annotated[int, Field(ge=1)] = 4096

    @model_validator(mode="after")
    def _default_within_cap(self) -> Self:
        if self.default_output_tokens > self.max_output_tokens:
            raise ValueError("default_output_tokens is more than max_output_tokens")
        return self
