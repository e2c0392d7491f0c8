"""Agents: an Engine made of an Engine and tools.

    @callable_tool
    def weather(city: str) -> str:
        "Say what the weather in a city is like."
        return "sunny"

    agent = AgentEngine(open_engine(…), [weather], AgentConfig(instructions="Help travellers."))
    answer = await agent.respond(ChatRequest(messages=(Message(role="user", content="Should I go to Oslo?"),)))

Owns the loop, its budgets and records, what a tool is, and tools that need no other room. Knows no HTTP server, no
tenant and no price: who asks, and what things cost, is handed in.
"""

from bessemer.infer.agents.budget import AgentBudget, Rate
from bessemer.infer.agents.callables import callable_tool
from bessemer.infer.agents.capability import Approve, Capability, Delivered, Occasion
from bessemer.infer.agents.config import AgentConfig
from bessemer.infer.agents.engine import AgentEngine, AgentParts

__all__ = [
    "AgentBudget",
    "AgentConfig",
    "AgentEngine",
    "AgentParts",
    "Approve",
    "Capability",
    "Delivered",
    "Occasion",
    "Rate",
    "callable_tool",
]
