"""MCP servers as sources of tools, by the official `mcp` package (optional: `pip install openai-compat[mcp]`).

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
"""Seconds in which a server has to be there, and to list its tools."""

FRESH = 60.0
"""Seconds after which the tools are listed again; sooner if the server says that they have changed."""

PAUSE = 30.0
"""Seconds after a failure in which a server is not tried again, so that not every turn waits for it."""

PAGES = 100
CONNECTION_CLOSED = -32000
INVALID_PARAMS = -32602
GONE = "The server of this tool does not answer."


class MCPServer:
    """The tools of an MCP server: one that is started here, or one behind a URL.

    It is connected with when its tools are first needed, once for each event loop, and again after it was lost. A
    server that cannot be reached does not end a turn: its tools are missing then, and a notice says so.

    Args:
        name: what people know it by.
        target: the command that starts it (stdio), as a list of words, or its URL (streamable HTTP).
        headers: HTTP headers to send, for a URL.
        env: environment variables for a command, besides harmless ones such as PATH and HOME.
        cwd: the command's working directory.
        prefix: put before the names of its tools, where they would clash with others.
        only: the names of the tools to take, without the prefix; None takes all.
        danger: how much people want to know before its tools run.
        trust_hints: whether to believe what the server says itself about its tools: those that only read are safe
            then, those that destroy are dangerous.
        allow: by a tool's name, the arguments with which the mode "allowlist" lets it run without a question.
        timeout: seconds that a call may take.
        output_limit: characters of a result that the model gets.

    Raises ImportError if the `mcp` package is not there, TypeError and ValueError for settings that make no sense.
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
        # A connection belongs to the event loop that has made it, and a server may be driven by several.
        self._connection: RunVar[_Connection | None] = RunVar("mcp connection", None)

    @property
    def name(self) -> str:
        """Its name in messages to people."""
        return self._name

    async def tools(self) -> Sequence[AgentTool]:
        """Its tools as they are now. Raises ConnectionError or TimeoutError if it cannot be reached."""
        # A server that was restarted looks like a connection that was lost: worth one more try.
        for last_try in (False, True):
            connection = self._here()
            try:
                listed = await connection.listing()
            except ConnectionError:
                await connection.aclose()
                # A server that could not be reached at all would be waited for twice.
                if last_try or connection.never_open:
                    raise
            else:
                return [self._tool(tool) for tool in listed if self._only is None or tool.name in self._only]
        raise ConnectionError(GONE)

    async def aclose(self) -> None:
        """End the connection that was made on this event loop."""
        connection = self._connection.get()
        if connection is not None:
            # Before it is awaited, so that a turn which comes meanwhile makes another one.
            self._connection.set(None)
            await connection.aclose()

    def _here(self) -> _Connection:
        """This event loop's connection; another one if it was lost, or could not be made some time ago."""
        connection = self._connection.get()
        if connection is None or connection.spent:
            connection = _Connection(self._connect)
            self._connection.set(connection)
        return connection

    def _tool(self, tool: Tool) -> AgentTool:
        danger = self._danger_of(tool)
        # A hint may have made it dangerous, and such a tool takes no allow-list.
        allow = () if danger == "dangerous" else self._allow.get(tool.name, ())

        async def call(arguments: Mapping[str, Any], context: ToolContext) -> str:
            return await self._here().call(tool.name, dict(arguments))

        return AgentTool(
            # The names that OpenAI's API takes; servers may call their tools anything.
            name=re.sub(r"[^a-zA-Z0-9_-]", "_", f"{self._prefix}{tool.name}")[:64],
            description=tool.description or tool.title or "",
            parameters=tool.input_schema,
            read=_object,
            call=call,
            danger=danger,
            timeout=self._timeout,
            output_limit=self._output_limit,
            allow=tuple([parse_allow(arguments) for arguments in allow]),
        )

    def _danger_of(self, tool: Tool) -> Danger:
        # Hints are the server's own word: whoever wants to do harm calls it read-only.
        hints = tool.annotations if self._trust_hints else None
        if hints is None:
            return self._danger
        if hints.read_only_hint:
            return "safe"
        return "dangerous" if hints.destructive_hint else self._danger


class _Connection:
    """A connection, held open by a task of its own: the package wants it closed where it was opened."""

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
        self._task = spawn(self._hold, "mcp connection", self._opened.set)

    @property
    def spent(self) -> bool:
        """True if another connection is to be made: this one was lost, or its failure is long enough ago."""
        if self._failed_at is None:
            return self._task.done
        return not self.never_open or anyio.current_time() - self._failed_at > PAUSE

    async def _hold(self) -> None:
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
            raise ConnectionError(GONE) from self._error
        return self._client

    async def listing(self) -> list[Tool]:
        """The server's tools. Raises ConnectionError."""
        # Known to be down: turns do not wait for it again before `PAUSE` is over.
        if self._failed_at is not None:
            raise ConnectionError(GONE)
        client = await self._open()
        if self._listed_at is None or anyio.current_time() - self._listed_at > FRESH:
            with anyio.move_on_after(CONNECT_TIMEOUT) as scope:
                self._tools = await self._all_pages(client)
                self._listed_at = anyio.current_time()
            if scope.cancelled_caught:
                self._fail()
                raise ConnectionError(GONE)
        return self._tools

    async def _all_pages(self, client: Client) -> list[Tool]:
        tools: list[Tool] = []
        cursor: str | None = None
        try:
            # A bound, since a server could send cursors without end.
            for _ in range(PAGES):
                page = await client.list_tools(cursor=cursor)
                for tool in page.tools:  # else the package checks results by it: on the event loop, and without a bound
                    (tool.output_schema or {}).clear()
                tools += page.tools
                cursor = page.next_cursor
                if cursor is None:
                    break
        except Exception as error:
            self._fail()
            raise ConnectionError(GONE) from error
        return tools

    async def call(self, name: str, arguments: dict[str, Any]) -> str:
        """Call a tool. Raises ToolError for what the tool or the server has to say to the model."""
        from mcp import MCPError  # noqa: PLC0415  (an optional dependency)

        try:
            client = await self._open()
            result = await client.call_tool(name, arguments)
        except MCPError as error:
            if error.code == CONNECTION_CLOSED:
                self._fail()
            # Only what is wrong with the arguments helps the model; other messages may tell of the server's inside.
            text = error.message if error.code == INVALID_PARAMS else GONE
            raise ToolError(text) from error
        except (ConnectionError, anyio.ClosedResourceError, anyio.BrokenResourceError) as error:
            self._fail()
            raise ToolError(GONE) from error
        if result.is_error:
            raise ToolError(_text(result))
        return _text(result)

    def _fail(self) -> None:
        """Use it no more: the next one to ask makes another connection."""
        if self._failed_at is None:
            self._failed_at = anyio.current_time()
        self._stop.set()

    async def aclose(self) -> None:
        """Return when nothing of it is left."""
        self._stop.set()
        # One that is still being opened looks at nothing but a cancellation.
        if not self._opened.is_set():
            self._task.cancel()
        await self._task.wait()


def _connector(
    target: Sequence[str] | str, headers: Mapping[str, str] | None, env: Mapping[str, str] | None, cwd: str | None
) -> Callable[[], AbstractAsyncContextManager[Client]]:
    """A function that connects. The package is imported now, not by the first turn."""
    with needs("MCP servers", "mcp"):
        from mcp import Client, StdioServerParameters, stdio_client  # noqa: PLC0415  (an optional dependency)

    if isinstance(target, str):
        if not target.startswith(("http://", "https://")):
            raise ValueError(f"an MCP server is a URL, or a command as a list of words, not {target!r}")
        if env or cwd:
            raise TypeError("env and cwd are for servers that are started by a command")
        return _http(target, dict(headers or {}))
    if headers:
        raise TypeError("headers are for servers behind a URL")
    if not target:
        raise ValueError("a command has at least one word")
    parameters = StdioServerParameters(command=target[0], args=list(target[1:]), env=dict(env or {}), cwd=cwd)
    # Not `sys.stderr` itself: what replaces it, as under pytest, may have no file descriptor for the process.
    return lambda: Client(stdio_client(parameters, errlog=sys.__stderr__ or sys.stderr))


def _http(url: str, headers: dict[str, str]) -> Callable[[], AbstractAsyncContextManager[Client]]:
    with needs("MCP servers", "mcp"):
        import httpx2  # noqa: PLC0415  (a dependency of `mcp`)
        from mcp import Client  # noqa: PLC0415  (an optional dependency)
        from mcp.client.streamable_http import streamable_http_client  # noqa: PLC0415  (an optional dependency)

    @asynccontextmanager
    async def connect() -> AsyncGenerator[Client]:
        async with AsyncExitStack() as stack:
            timeout = httpx2.Timeout(CONNECT_TIMEOUT, read=None)  # tools have time limits of their own
            http = await stack.enter_async_context(httpx2.AsyncClient(headers=headers, timeout=timeout))
            yield await stack.enter_async_context(Client(streamable_http_client(url, http_client=http)))

    return connect


def _object(text: str) -> dict[str, Any]:
    """The arguments; whether they are right, the server knows."""
    try:
        value = from_json(text or "{}", allow_inf_nan=False)
    except (ValueError, TypeError):  # the latter for half a character
        value = None
    if not isinstance(value, dict):
        raise ToolError("The arguments are not a JSON object.")
    return cast("dict[str, Any]", value)


def _text(result: CallToolResult) -> str:
    """A result as text: what it says, or its JSON; media are only named."""
    if not result.content and result.structured_content is not None:
        return to_json(result.structured_content).decode()
    return "\n".join([_block(block.model_dump(mode="json", exclude_none=True)) for block in result.content])


def _block(block: Mapping[str, Any]) -> str:
    match block:
        case {"type": "text", "text": text}:
            return str(text)
        case {"type": "image" | "audio" as kind, **rest}:
            return f"[{kind}: {rest.get('mime_type') or rest.get('mimeType')}]"
        case {"type": "resource", "resource": {"text": text}}:
            return str(text)
        case _:
            return to_json({key: value for key, value in block.items() if key != "data"}).decode()
