"""MCP servers as tool sources, based on the official `mcp` package (optional: `pip install openai-compat[mcp]`).

MCPServer("files", ["npx", "-y", "@modelcontextprotocol/server-filesystem", "/srv/files"])
MCPServer("tickets", "https://tickets.example.org/mcp", headers={"Authorization": "Bearer …"})
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import anyio
from anyio.lowlevel import RunVar
from pydantic_core import from_json, to_json

from ..aio.background import spawn
from ..package import needs
from .modes import Danger
from .patterns import parse_allow
from .registry import OUTPUT_LIMIT, TIMEOUT, AgentTool, ToolContext
from .tool_error import ToolError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from mcp import Client
    from mcp.types import CallToolResult, Tool

CONNECT_TIMEOUT = 20.0
"""Seconds for a server to connect, and to list its tools."""

LISTING_AGE = 60.0
"""Seconds after which the tools are listed again."""

RETRY_DELAY = 30.0
"""Seconds after a failure before the server is tried again, so that not every turn waits for it."""

MAX_PAGES = 100
CONNECTION_CLOSED = -32000
INVALID_PARAMS = -32602
NOT_ANSWERING = "The server of this tool does not answer."


class MCPServer:
    """The tools of an MCP server: a command that is started here, or a server behind a URL.

    The connection is made when the tools are first needed, once per event loop, and again after it was lost. A server that
    cannot be reached does not end a turn: its tools are missing, and a notice reports it.

    Args:
        name: display name of the server.
        target: the command that starts the server (stdio), as a list of words, or its URL (streamable HTTP).
        headers: HTTP headers to send, for a URL.
        env: environment variables for a command, besides harmless ones like PATH and HOME.
        cwd: working directory of the command.
        prefix: put before the tool names, to avoid clashes with other tools.
        only: names of the tools to use, without the prefix; None for all.
        danger: the danger of the server's tools.
        trust_hints: True to trust the server's hints about its tools: read-only tools are then safe, destructive ones
            dangerous.
        allow: by tool name, the arguments with which the mode "allowlist" runs a tool without approval.
        timeout: seconds that a call may take.
        output_limit: maximum length of a result that the model gets, in characters.

    Raises ImportError if the `mcp` package is not installed, TypeError and ValueError for contradictory settings.
    """

    def __init__(
        self,
        name: str,
        target: Sequence[str] | str,
        *,
        headers: Mapping[str, str] | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        prefix: str = "",
        only: Iterable[str] | None = None,
        danger: Danger = "risky",
        trust_hints: bool = False,
        allow: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
        timeout: float = TIMEOUT,
        output_limit: int = OUTPUT_LIMIT,
    ) -> None:
        self._connect = _connector(target, headers, env, cwd)
        self._name = name
        self._prefix = prefix
        self._only = None if only is None else frozenset(only)
        self._danger: Danger = danger
        self._trust_hints = trust_hints
        self._allow = dict(allow or {})
        self._timeout = timeout
        self._output_limit = output_limit
        # A connection belongs to one event loop, and a server may be used by several.
        self._connection: RunVar[_Connection | None] = RunVar("mcp connection", None)

    @property
    def name(self) -> str:
        """The server's name in messages to people."""
        return self._name

    async def tools(self) -> Sequence[AgentTool]:
        """Return the current tools. Raises ConnectionError or TimeoutError if the server cannot be reached."""
        # A restarted server looks like a lost connection: worth one more try.
        for last_try in (False, True):
            connection = self._current_connection()
            try:
                listed = await connection.list_tools()
            except ConnectionError:
                await connection.aclose()
                # Retrying a server that could not be reached at all would double the wait.
                if last_try or connection.never_open:
                    raise
            else:
                return [self._to_agent_tool(tool) for tool in listed if self._only is None or tool.name in self._only]
        raise ConnectionError(NOT_ANSWERING)

    async def aclose(self) -> None:
        """Close the connection of this event loop."""
        connection = self._connection.get()
        if connection is not None:
            # Before the await, so that a concurrent turn opens a new connection.
            self._connection.set(None)
            await connection.aclose()

    def _current_connection(self) -> _Connection:
        """Return this event loop's connection; a new one if it was lost, or if it failed some time ago."""
        connection = self._connection.get()
        if connection is None or connection.is_spent:
            connection = _Connection(self._connect)
            self._connection.set(connection)
        return connection

    def _to_agent_tool(self, tool: Tool) -> AgentTool:
        danger = self._danger_of(tool)
        # A hint may have made the tool dangerous, and dangerous tools accept no allow-list.
        allow = () if danger == "dangerous" else self._allow.get(tool.name, ())

        async def call(arguments: Mapping[str, Any], context: ToolContext) -> str:
            return await self._current_connection().call(tool.name, dict(arguments))

        return AgentTool(
            # Only characters that OpenAI's API allows in names; MCP servers may use any.
            name=re.sub(r"[^a-zA-Z0-9_-]", "_", f"{self._prefix}{tool.name}")[:64],
            description=tool.description or tool.title or "",
            parameters=tool.input_schema,
            read=_parse_object,
            call=call,
            danger=danger,
            timeout=self._timeout,
            output_limit=self._output_limit,
            allow=tuple([parse_allow(arguments) for arguments in allow]),
        )

    def _danger_of(self, tool: Tool) -> Danger:
        # Hints are claims of the server: a malicious one calls its tools read-only.
        hints = tool.annotations if self._trust_hints else None
        if hints is None:
            return self._danger
        if hints.read_only_hint:
            return "safe"
        return "dangerous" if hints.destructive_hint else self._danger


class _Connection:
    """A connection, held open by a separate task: the package requires closing in the task that opened it."""

    def __init__(self, connect: Callable[[], AbstractAsyncContextManager[Client]]) -> None:
        self._connect = connect
        self._client: Client | None = None
        self._opened = anyio.Event()
        self._stop = anyio.Event()
        self._error: BaseException | None = None
        self._failed_at: float | None = None
        self._tools: list[Tool] = []
        self._listed_at: float | None = None
        self.never_open = True
        self._task = spawn(self._keep_open, "mcp connection", self._opened.set)

    @property
    def is_spent(self) -> bool:
        """True if a new connection should be made: this one was lost, or failed long enough ago."""
        if self._failed_at is None:
            return self._task.done
        return not self.never_open or anyio.current_time() - self._failed_at > RETRY_DELAY

    async def _keep_open(self) -> None:
        try:
            async with self._connect() as client:
                self._client, self.never_open = client, False
                self._opened.set()
                await self._stop.wait()
        except Exception as error:
            self._error = error
        finally:
            self._client = None

    async def _open(self) -> Client:
        with anyio.move_on_after(CONNECT_TIMEOUT):
            await self._opened.wait()
        if self._client is None:
            self._fail()
            raise ConnectionError(NOT_ANSWERING) from self._error
        return self._client

    async def list_tools(self) -> list[Tool]:
        """Return the server's tools. Raises ConnectionError."""
        # Known to be down: turns do not wait for it again within `RETRY_DELAY`.
        if self._failed_at is not None:
            raise ConnectionError(NOT_ANSWERING)
        client = await self._open()
        if self._listed_at is None or anyio.current_time() - self._listed_at > LISTING_AGE:
            with anyio.move_on_after(CONNECT_TIMEOUT) as scope:
                self._tools = await self._list_all_pages(client)
                self._listed_at = anyio.current_time()
            if scope.cancelled_caught:
                self._fail()
                raise ConnectionError(NOT_ANSWERING)
        return self._tools

    async def _list_all_pages(self, client: Client) -> list[Tool]:
        tools: list[Tool] = []
        cursor: str | None = None
        try:
            # Bounded, since a server could send cursors forever.
            for _ in range(MAX_PAGES):
                page = await client.list_tools(cursor=cursor)
                for tool in page.tools:  # else the package validates results by it: unbounded work on the event loop
                    (tool.output_schema or {}).clear()
                tools += page.tools
                cursor = page.next_cursor
                if cursor is None:
                    break
        except Exception as error:
            self._fail()
            raise ConnectionError(NOT_ANSWERING) from error
        return tools

    async def call(self, name: str, arguments: dict[str, Any]) -> str:
        """Call a tool. Raises ToolError with a text for the model."""
        from mcp import MCPError  # noqa: PLC0415  (an optional dependency)

        try:
            client = await self._open()
            result = await client.call_tool(name, arguments)
        except MCPError as error:
            if error.code == CONNECTION_CLOSED:
                self._fail()
            # Only faults of the arguments help the model; other messages may reveal internals of the server.
            text = error.message if error.code == INVALID_PARAMS else NOT_ANSWERING
            raise ToolError(text) from error
        except (ConnectionError, anyio.ClosedResourceError, anyio.BrokenResourceError) as error:
            self._fail()
            raise ToolError(NOT_ANSWERING) from error
        if result.is_error:
            raise ToolError(_result_text(result))
        return _result_text(result)

    def _fail(self) -> None:
        """Mark the connection as failed: the next use opens a new one."""
        if self._failed_at is None:
            self._failed_at = anyio.current_time()
        self._stop.set()

    async def aclose(self) -> None:
        """Close the connection, and return once its task has ended."""
        self._stop.set()
        # A connection that is still opening only reacts to cancellation.
        if not self._opened.is_set():
            self._task.cancel()
        await self._task.wait()


def _connector(
    target: Sequence[str] | str, headers: Mapping[str, str] | None, env: Mapping[str, str] | None, cwd: str | None
) -> Callable[[], AbstractAsyncContextManager[Client]]:
    """Return a function that connects. Imports the package now, not in the first turn."""
    with needs("MCP servers", "mcp"):
        from mcp import Client, StdioServerParameters, stdio_client  # noqa: PLC0415  (an optional dependency)

    if isinstance(target, str):
        if not target.startswith(("http://", "https://")):
            raise ValueError(f"an MCP server is a URL, or a command as a list of words, not {target!r}")
        if env or cwd:
            raise TypeError("env and cwd are for servers that are started by a command")
        return _http_connector(target, dict(headers or {}))
    if headers:
        raise TypeError("headers are for servers behind a URL")
    if not target:
        raise ValueError("a command has at least one word")
    parameters = StdioServerParameters(command=target[0], args=list(target[1:]), env=dict(env or {}), cwd=cwd)
    # Not `sys.stderr`: a replacement, as under pytest, may have no file descriptor for the process.
    return lambda: Client(stdio_client(parameters, errlog=sys.__stderr__ or sys.stderr))


def _http_connector(url: str, headers: dict[str, str]) -> Callable[[], AbstractAsyncContextManager[Client]]:
    with needs("MCP servers", "mcp"):
        import httpx2  # noqa: PLC0415  (a dependency of `mcp`)
        from mcp import Client  # noqa: PLC0415  (an optional dependency)
        from mcp.client.streamable_http import streamable_http_client  # noqa: PLC0415  (an optional dependency)

    @asynccontextmanager
    async def connect() -> AsyncGenerator[Client]:
        async with AsyncExitStack() as stack:
            timeout = httpx2.Timeout(CONNECT_TIMEOUT, read=None)  # tools have their own timeouts
            http = await stack.enter_async_context(httpx2.AsyncClient(headers=headers, timeout=timeout))
            yield await stack.enter_async_context(Client(streamable_http_client(url, http_client=http)))

    return connect


def _parse_object(text: str) -> dict[str, Any]:
    """Parse the arguments as an object; the server validates them."""
    try:
        value = from_json(text or "{}", allow_inf_nan=False)
    except (ValueError, TypeError):  # TypeError for a lone surrogate
        value = None
    if not isinstance(value, dict):
        raise ToolError("The arguments are not a JSON object.")
    return cast("dict[str, Any]", value)


def _result_text(result: CallToolResult) -> str:
    """Return a result as text: its text blocks, or its JSON; media only by type."""
    if not result.content and result.structured_content is not None:
        return to_json(result.structured_content).decode()
    return "\n".join([_block_text(block.model_dump(mode="json", exclude_none=True)) for block in result.content])


def _block_text(block: Mapping[str, Any]) -> str:
    match block:
        case {"type": "text", "text": text}:
            return str(text)
        case {"type": "image" | "audio" as kind, **rest}:
            return f"[{kind}: {rest.get('mime_type') or rest.get('mimeType')}]"
        case {"type": "resource", "resource": {"text": text}}:
            return str(text)
        case _:
            return to_json({key: value for key, value in block.items() if key != "data"}).decode()
