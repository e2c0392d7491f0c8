"""A way to talk to a running gateway: the upstream engine with a key of its own.

Owns how the gateway is found. The key that it makes for itself ends after a day and is revoked when the talk ends.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager

from pydantic import SecretStr

from bessemer.core.errors import BackendError, ConfigError, MissingDependency, NotFound
from bessemer.core.nouns import ChatRequest, Completion, Delta
from bessemer.core.protocols import Engine
from bessemer.infer import UpstreamConfig, open_engine
from bessemer.products.home import Home
from bessemer.serve import KeyStore

_KEY_LIVES_SECONDS = 86_400.0
_ANSWERS_WITHIN_SECONDS = 10.0


@asynccontextmanager
async def open_gateway(
    home: Home, secret: str = "", url: str | None = None, model: str | None = None
) -> AsyncIterator[Engine[ChatRequest, Completion, Delta]]:
    """Give an engine that is a model behind a running gateway.

    Args:
        home: of the gateway, when no URL is given.
        secret: the key to use; one is made for this talk when it is empty and the gateway is this home's own.
        url: of the gateway, without ``/v1``.
        model: its name; the first that is served unless given.

    Raises:
        NotFound: no gateway runs here, or it serves no model.
        ConfigError: the URL is none, or the gateway there refuses the key.
        BackendError: nothing answers at the URL, or no gateway does.
        MissingDependency: httpx2 is not installed.
    """
    gateway = home.gateway()
    url = url.rstrip("/").removesuffix("/v1") if url else None
    async with AsyncExitStack() as stack:
        if url is not None and (gateway is None or url != gateway.url):
            models = await _models_at(url, secret)
        elif gateway is None:
            raise NotFound("no gateway runs here", hint="Start one in another terminal with: bessemer up")
        else:
            url, models = gateway.url, gateway.models
            secret = secret or stack.enter_context(_passing_key(home))
        if not (model or models):
            raise NotFound(f"the gateway at {url} serves no model", hint="Name one with --model.")
        engine = open_engine(UpstreamConfig(base_url=f"{url}/v1", model=model or models[0], api_key=SecretStr(secret)))
        stack.push_async_callback(engine.close)
        yield engine


@contextmanager
def _passing_key(home: Home) -> Iterator[str]:
    """Give a key of this home's gateway, which ends with the block."""
    with closing(KeyStore(home.accounts)) as keys:
        made, secret = keys.create("chat", name="bessemer chat", expires_at=time.time() + _KEY_LIVES_SECONDS)
        try:
            yield secret
        finally:
            keys.revoke(made.id)


async def _models_at(url: str, secret: str) -> tuple[str, ...]:
    """Return what a gateway elsewhere serves to a key."""
    try:
        import httpx2
    except ModuleNotFoundError as error:
        raise MissingDependency("httpx2", extra="infer") from error
    try:
        async with httpx2.AsyncClient(timeout=_ANSWERS_WITHIN_SECONDS, trust_env=False) as client:
            headers = {"Authorization": f"Bearer {secret}"} if secret else {}
            answer = await client.get(f"{url}/v1/models", headers=headers)
        if answer.status_code in (401, 403):
            what = "refuses the key in BESSEMER_API_KEY" if secret else "needs a key"
            hint = "Make one where it runs with `bessemer keys create`, and set BESSEMER_API_KEY to it."
            raise ConfigError(f"the gateway at {url} {what}", hint=hint)
        return tuple(str(model["id"]) for model in answer.raise_for_status().json()["data"])
    except (httpx2.InvalidURL, httpx2.UnsupportedProtocol) as error:
        raise ConfigError(f"'{url}' is no URL of a gateway", hint="Give one such as http://127.0.0.1:8000.") from error
    except httpx2.TransportError as error:
        raise BackendError(
            f"no gateway answers at {url}", hint="Start one there with `bessemer up`, or name another with --url."
        ) from error
    except (httpx2.HTTPError, ValueError, LookupError, TypeError) as error:
        raise BackendError(f"what answers at {url} is no gateway", hint="Name another with --url.") from error
