"""A small MCP server, by the official package: `python mcp_server.py` for stdio, with a port for streamable HTTP."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from mcp.server.mcpserver import Context, Image, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations

server = MCPServer("small", log_level="CRITICAL")


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


@server.tool(annotations=ToolAnnotations(destructive_hint=True))
def fail(text: str) -> str:
    """Always fails."""
    raise ToolError(text)


@server.tool()
def where() -> str:
    """Process, directory, and what it knows of a secret."""
    return f"{os.getpid()} {Path.cwd()} {os.environ.get('MY_SECRET')} {os.environ.get('GIVEN')}"


@server.tool()
def die() -> str:
    """Ends the server."""
    os._exit(1)


@server.tool()
def sleep(seconds: float) -> str:
    """Takes its time."""
    time.sleep(seconds)
    return "awake"


@server.tool()
def picture() -> Image:
    """A picture."""
    return Image(data=b"\x89PNG", format="png")


@server.tool(name="who.am/i")
async def who_am_i(context: Context) -> str:
    """The header that the client sent."""
    request = context.request_context.request
    return str(request.headers.get("x-name")) if request is not None else "nobody"


@server.tool()
def dig() -> int:
    """Its result has a schema that takes years to check."""
    return 1


dug = server._tool_manager.get_tool("dig")
assert dug is not None
dug.fn_metadata.output_schema = {
    "$ref": "#/$defs/a0",
    "$defs": {f"a{i}": {"allOf": [{"$ref": f"#/$defs/a{i + 1}"}] * 2} for i in range(40)} | {"a40": {"type": "object"}},
}


if __name__ == "__main__":
    if len(sys.argv) > 1:
        server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[1]))
    else:
        server.run()
