"""An agent in a process that is killed while its second booking is made: `python killed_agent.py FOLDER`."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from bessemer.core.acting import Asker
from bessemer.core.nouns import ChatRequest, Delta, Message, ToolCallPiece, Usage
from bessemer.infer.agents import AgentEngine, AgentParts, callable_tool
from bessemer.infer.agents.records import open_records

folder = Path(sys.argv[1])


class Books:
    """A model that books rooms a, b and c, one after the other, and then says so; it notes each time it is asked."""

    name, capabilities = "books", frozenset({"chat", "stream", "tools"})

    async def stream(self, request: ChatRequest, /) -> AsyncGenerator[Delta, None]:
        with (folder / "asked").open("a") as file:
            file.write(".")
        number = sum(message.role == "assistant" for message in request.messages)
        usage = Usage(input_tokens=1, output_tokens=1)
        if number == 3:
            yield Delta(text="Booked.", finish_reason="stop", usage=usage)
            return
        call = ToolCallPiece(index=0, id="x", name="book", arguments=json.dumps({"room": "abc"[number]}))
        yield Delta(finish_reason="tool_calls", usage=usage, tool_calls=(call,))

    async def respond(self, request: ChatRequest, /) -> Any:
        raise NotImplementedError

    async def close(self) -> None:
        pass


@callable_tool(effects="once", trusted=True)
def book(room: str) -> str:
    """Book a room."""
    with (folder / "booked").open("a") as file:
        file.write(room)
    if room == "b":
        os.kill(os.getpid(), signal.SIGKILL)
    return f"booked {room}"


records = open_records(f"sqlite:///{folder}/records.sqlite")
agent = AgentEngine(Books(), [book], parts=AgentParts(journal=records)).of(Asker(project="p", run="r"))
answer = asyncio.run(agent.respond(ChatRequest(messages=(Message(role="user", content="Book all."),))))
sys.stdout.write(
    json.dumps([answer.text, answer.usage.total_tokens, [act.error for act in answer.acts if act.kind == "tool"]])
)
