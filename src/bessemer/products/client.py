"""A way to talk to a running gateway: the upstream engine with a key of its own.

Owns how the gateway is found. The key that it makes for itself ends after a day and is revoked when the talk ends.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pydantic import SecretStr

from bessemer.core.errors import NotFound
from bessemer.core.nouns import ChatRequest, Completion, Delta
from bessemer.core.protocols import Engine
from bessemer.infer import UpstreamConfig, open_engine
from bessemer.products.home import Home
from bessemer.serve import KeyStore

_KEY_LIVES_SECONDS = 86_400.0


@asynccontextmanager
async def open_gateway(
    home: Home, secret: str = "", url: str | None = None, model: str | None = None
) -> AsyncIterator[Engine[ChatRequest, Completion, Delta]]:
    """Give an engine that is a model behind a running gateway.

    Args:
        home: of the gateway, when no URL is given.
        secret: the key to use; one is made for this talk when it is empty and the gateway is this home's.
        url: of the gateway, without ``/v1``.
        model: its name; the first that is served unless given.

    Raises:
        NotFound: no gateway runs here.
    """
    gateway = home.gateway()
    url = url.rstrip("/").removesuffix("/v1") if url else None
    if url is None and gateway is None:
        raise NotFound("no gateway runs here", hint="Start one in another terminal with: bessemer up")
    keys, made = KeyStore(home.accounts), None
    if not secret:
        if url is not None and (gateway is None or url != gateway.url):
            raise NotFound("a gateway elsewhere needs a key", hint="Set BESSEMER_API_KEY.")
        made, secret = keys.create("chat", name="bessemer chat", expires_at=time.time() + _KEY_LIVES_SECONDS)
    base = (url or (gateway.url if gateway else "")).rstrip("/") + "/v1"
    name = model or (gateway.models[0] if gateway else "")
    if not name:
        raise NotFound("no model is named", hint="Name one with --model.")
    engine = open_engine(UpstreamConfig(base_url=base, model=name, api_key=SecretStr(secret)))
    try:
        yield engine
    finally:
        await engine.close()
        if made is not None:
            keys.revoke(made.id)
