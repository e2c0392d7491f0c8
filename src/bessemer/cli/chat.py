"""`bessemer chat`: a conversation with a running gateway, over the same wire that every client uses."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, suppress

from rich.markup import escape
from rich.text import Text

from bessemer.cli.output import out, write_json
from bessemer.core.errors import BessemerError
from bessemer.core.nouns import ChatRequest, Completion, Delta, Message
from bessemer.core.protocols import Engine
from bessemer.core.units import show_seconds
from bessemer.products.client import open_gateway
from bessemer.products.home import Home

Chat = Engine[ChatRequest, Completion, Delta]


def ask_once(home: Home, key: str, place: tuple[str | None, str | None], message: str, *, as_json: bool) -> None:
    """Ask one question and write the answer; `place` is the URL and the model, None for the obvious ones."""

    async def ask() -> None:
        async with open_gateway(home, key, *place) as engine:
            request = ChatRequest(messages=(Message(role="user", content=message),))
            if as_json:
                write_json(await engine.respond(request))
            else:
                await _say(engine, request)

    asyncio.run(ask())


def converse(home: Home, key: str, place: tuple[str | None, str | None]) -> None:
    """Talk until the person leaves with Ctrl-D, Ctrl-C or an empty line. Reading stays outside of the event loop."""
    gateway = home.gateway()
    name = place[1] or (gateway.models[0] if gateway else "the model")
    with asyncio.Runner() as runner, suppress(KeyboardInterrupt):
        stack = AsyncExitStack()
        engine = runner.run(stack.enter_async_context(open_gateway(home, key, *place)))
        try:
            out.print(f"[bold]{escape(name)}[/] [dim]listens; an empty line or Ctrl-D ends the talk[/]")
            messages: list[Message] = []
            while asked := _read():
                messages.append(Message(role="user", content=asked))
                try:
                    answer = runner.run(_say(engine, ChatRequest(messages=tuple(messages))))
                except BessemerError as error:
                    messages.pop()
                    out.print(f"[red]{escape(error.message)}[/] [dim]{escape(error.hint)}[/]")
                else:
                    messages.append(Message(role="assistant", content=answer))
        finally:
            runner.run(stack.aclose())


def _read() -> str:
    try:
        return out.input("[bold cyan]you[/] ").strip()
    except (EOFError, KeyboardInterrupt):
        return ""


async def _say(engine: Chat, request: ChatRequest) -> str:
    """Write an answer as it comes and return it whole."""
    began, text, last = time.perf_counter(), "", Delta()
    async for piece in engine.stream(request):
        out.print(Text(piece.text), end="", soft_wrap=True)
        text, last = text + piece.text, piece
    tokens = last.usage.output_tokens if last.usage else 0
    out.print(Text(f"\n{tokens} tokens, {show_seconds(time.perf_counter() - began)}", style="dim"))
    return text
