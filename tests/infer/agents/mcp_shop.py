"""A real MCP server for tests: `python mcp_shop.py` speaks on standard streams, with a port on streamable HTTP."""

import os
import sys

from mcp.server.fastmcp import FastMCP

port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
server = FastMCP("shop", port=port or 8000, log_level="ERROR")


@server.tool()
def price(item: str) -> str:
    """Say what an item costs."""
    if item == "ghost":
        raise ValueError("there is no ghost")
    return f"{item} costs 12"


@server.tool()
def token() -> str:
    """Say the server's own secret, as a careless server would."""
    return f"my token is {os.environ.get('MCP_TOKEN', 'none')}"


@server.tool()
def delete(item: str) -> str:
    """Delete an item for good."""
    return f"{item} is gone"


server.run("streamable-http" if port else "stdio")
