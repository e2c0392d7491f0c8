"""The loop of one peer around a model that costs nothing: prints microseconds of processor time for each step.

    python benchmarks/peer_agents.py openai-agents|pydantic-ai|smolagents STEPS ROUNDS

Run by `bench_agents.py` in an environment that has the peers. Each asks its model, calls a function that doubles a
number, and tells the model, STEPS times; then the model answers.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from importlib.metadata import version
from typing import Any


def openai_agents(steps: int) -> Any:
    from agents import Agent, ModelResponse, Runner, Usage, function_tool, set_tracing_disabled
    from agents.models.interface import Model
    from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText

    set_tracing_disabled(True)

    class Mock(Model):
        def __init__(self) -> None:
            self.asked = 0

        async def get_response(self, *args: Any, **kwargs: Any) -> ModelResponse:
            self.asked += 1
            if self.asked <= steps:
                call = {"name": "double", "arguments": '{"number": 21}', "call_id": f"c{self.asked}"}
                output: Any = ResponseFunctionToolCall(type="function_call", **call)
            else:
                text = ResponseOutputText(type="output_text", text="It is 42.", annotations=[])
                output = ResponseOutputMessage(
                    id="m", type="message", role="assistant", status="completed", content=[text]
                )
            usage = Usage(requests=1, input_tokens=10, output_tokens=3, total_tokens=13)
            return ModelResponse(output=[output], usage=usage, response_id=None)

        def stream_response(self, *args: Any, **kwargs: Any) -> Any:
            raise NotImplementedError

    @function_tool
    def double(number: int) -> int:
        """Double a number."""
        return 2 * number

    def run() -> str:
        agent = Agent(name="bench", instructions="Be brief.", tools=[double], model=Mock())
        return str(asyncio.run(Runner.run(agent, "Double 21.", max_turns=steps + 2)).final_output)

    return run


def pydantic_ai(steps: int) -> Any:
    from pydantic_ai import Agent
    from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart
    from pydantic_ai.models.function import FunctionModel
    from pydantic_ai.usage import UsageLimits

    def run() -> str:
        asked = 0

        def mock(messages: Any, info: Any) -> ModelResponse:
            nonlocal asked
            asked += 1
            if asked <= steps:
                return ModelResponse(parts=[ToolCallPart("double", {"number": 21}, tool_call_id=f"c{asked}")])
            return ModelResponse(parts=[TextPart("It is 42.")])

        agent = Agent(FunctionModel(mock), instructions="Be brief.")

        @agent.tool_plain
        def double(number: int) -> int:
            """Double a number."""
            return 2 * number

        limits = UsageLimits(request_limit=steps + 2)
        return str(asyncio.run(agent.run("Double 21.", usage_limits=limits)).output)

    return run


def smolagents(steps: int) -> Any:
    from smolagents import LogLevel, Model, ToolCallingAgent, tool
    from smolagents.models import ChatMessage, ChatMessageToolCall, ChatMessageToolCallFunction, MessageRole

    class Mock(Model):
        def __init__(self) -> None:
            super().__init__(model_id="mock")
            self.asked = 0

        def generate(self, messages: Any, **kwargs: Any) -> ChatMessage:
            self.asked += 1
            name, arguments = (
                ("double", {"number": 21}) if self.asked <= steps else ("final_answer", {"answer": "It is 42."})
            )
            function = ChatMessageToolCallFunction(name=name, arguments=arguments)
            call = ChatMessageToolCall(function=function, id=f"c{self.asked}", type="function")
            return ChatMessage(role=MessageRole.ASSISTANT, content="", tool_calls=[call])

    @tool
    def double(number: int) -> int:
        """Double a number.

        Args:
            number: what is doubled.
        """
        return 2 * number

    def run() -> str:
        agent = ToolCallingAgent(tools=[double], model=Mock(), verbosity_level=LogLevel.OFF, max_steps=steps + 2)
        return str(agent.run("Double 21."))

    return run


PEERS = {"openai-agents": openai_agents, "pydantic-ai": pydantic_ai, "smolagents": smolagents}
PACKAGES = {"pydantic-ai": "pydantic-ai-slim"}


def main() -> None:
    name, steps, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    run = PEERS[name](steps)
    assert run() == "It is 42."
    took = []
    for _ in range(rounds):
        began = time.process_time()
        assert run() == "It is 42."
        took.append((time.process_time() - began) / steps * 1e6)
    print(json.dumps({"microseconds": took, "version": version(PACKAGES.get(name, name))}))


if __name__ == "__main__":
    main()
