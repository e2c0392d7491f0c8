"""Opens the MCP servers that an agent's declaration names, with the secrets that it names.

Owns that tie only.
"""

from __future__ import annotations

from collections.abc import Callable

from bessemer.infer.agents import Capability
from bessemer.infer.agents.mcp_servers import McpServer, open_mcp_server
from bessemer.products.agent.config import McpTool


def open_mcp(tool: McpTool, secret: Callable[[str], str]) -> list[Capability]:
    """Return the tools of a server; see `open_mcp_server` for what it raises.

    Args:
        tool: where it is.
        secret: from the name of an environment variable to the secret in it.
    """
    given = tool.model_dump(exclude={"kind", "token_variable"})
    return open_mcp_server(McpServer(**given, token=secret(tool.token_variable) if tool.token_variable else ""))
