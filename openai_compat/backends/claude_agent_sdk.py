"""Runs Claude Code through the Claude Agent SDK: `ClaudeAgentBackend`. Needs `openai-compat[claude-agent-sdk]`."""

from __future__ import annotations

import importlib
import json
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from fnmatch import fnmatchcase
from math import ceil
from typing import Any, cast
from uuid import uuid4

import anyio
import anyio.to_thread

from ..agent_request import AgentRequest, CustomTool, FunctionTool, JsonSchema, Resume, Tool
from ..backend import Capabilities, RunContext
from ..errors import AgentError, InvalidRequest
from ..events import (
    AgentEvent,
    Finished,
    FinishReason,
    Paused,
    PendingCall,
    Progress,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    ToolCallReady,
    ToolCallStarted,
    ToolResult,
    UsageReported,
)
from ..messages import ImagePart, SystemMessage, TextPart, ToolMessage, UserMessage, transcript
from ..package import needs
from .content_blocks import input_blocks

__all__ = ("ClaudeAgentBackend",)

# Untyped: type checking would need the framework installed. Tests run against its real versions.
with needs(__name__, "claude-agent-sdk"):
    sdk: Any = importlib.import_module("claude_agent_sdk")
    mcp: Any = importlib.import_module("mcp")

CLIENT_PREFIX = "mcp__openai_compat__"
"""Prefix of the client's tools in Claude Code."""

SHARED_PREFIX_LENGTH = 18
"""Length of the prefix that the session ids of one conversation share; `forget` finds the sessions by this prefix."""

OUTPUT_TOOL = "StructuredOutput"
EFFORTS = {"none": "low", "minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "xhigh"}
REASONS: dict[str, FinishReason] = {"max_tokens": "length", "refusal": "content_filter"}
ONE_AT_A_TIME = "Another call is waited for. If you need this one, make it again after that."
NOT_IN_AGENTS = "Only the main agent can have this run, since somebody else has to answer first."
PATIENCE = 1.0
"""Seconds that Claude Code has to stop after an interrupt."""

NO_USAGE = UsageReported(0, 0, cached_tokens=0, cache_write_tokens=0)


class ClaudeAgentBackend:
    """Runs Claude Code for each turn, in a new process, and continues the session of the conversation.

    Args:
        options: `ClaudeAgentOptions`, which decide where sessions are stored; several servers need a `session_store`.
        ask: the tools that need approval, by Claude Code's names (`Bash`, `mcp__files__*`).
    """

    def __init__(self, options: Any, *, ask: Collection[str] = ()) -> None:
        self._options = options
        self._approval_patterns = ask
        self._own_tools: frozenset[str] | None = None
        self.capabilities = Capabilities(
            approvals="edit" if ask else "none",
            client_tools=isinstance(options.mcp_servers, dict),  # otherwise the option names a file
            audio_input=False,
            keeps_state=True,
            parameters=frozenset(["reasoning_effort"]),
        )

    async def tool_names(self, request: AgentRequest) -> frozenset[str]:
        """The names of the agent's own tools, except those of MCP servers outside this process."""
        if self._own_tools is None:
            tools, servers = self._options.tools, self._options.mcp_servers
            names = [*cast("list[str]", tools)] if isinstance(tools, list) else []
            for server in cast("dict[str, Any]", servers).values() if isinstance(servers, dict) else ():
                if server.get("type") == "sdk":
                    names += await _server_tool_names(server["instance"])
            self._own_tools = frozenset(names)
        return self._own_tools

    async def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[AgentEvent | str]:
        """Run Claude Code, and yield its events."""
        turn = _ClaudeTurn(self._options, self._approval_patterns, request)
        client, result = sdk.ClaudeSDKClient(turn.options()), None
        await client.connect()
        try:
            # A resumed session runs its waiting call on its own: a prompt would add another message.
            if turn.is_new:
                await client.query(turn.prompt())
            async for message in client.receive_response():
                if isinstance(message, sdk.ResultMessage):
                    result = message
                for event in turn.translate(message):
                    yield event
        finally:
            if result is None:  # otherwise the model would generate the whole answer
                with anyio.move_on_after(PATIENCE, shield=True), suppress(sdk.ClaudeSDKError):
                    await client.interrupt()
            await client.disconnect()  # returns once the session is fully written
        for event in turn.end(result):
            yield event

    async def forget(self, state: Mapping[str, Any]) -> None:
        """Delete the sessions of a conversation."""
        store, prefix = self._options.session_store, state["session"][:SHARED_PREFIX_LENGTH]
        if store is not None:
            for session in await sdk.list_sessions_from_store(store, self._options.cwd):
                if session.session_id.startswith(prefix):
                    await sdk.delete_session_via_store(store, session.session_id, self._options.cwd)
        await anyio.to_thread.run_sync(_delete_sessions, prefix)


async def _server_tool_names(server: Any) -> list[str]:
    """The names of the tools of an in-process server."""
    if hasattr(mcp, "Client"):
        connected = mcp.Client(server)
    else:  # before MCP 2
        connected = importlib.import_module("mcp.shared.memory").create_connected_server_and_client_session(server)
    async with connected as client:
        return [tool.name for tool in (await client.list_tools()).tools]


def _delete_sessions(prefix: str) -> None:
    for session in sdk.list_sessions():
        if session.session_id.startswith(prefix):
            sdk.delete_session(session.session_id)


class _ClaudeTurn:
    """One run of Claude Code, and the translation of its messages to events."""

    def __init__(self, options: Any, ask: Collection[str], request: AgentRequest) -> None:
        self._options = options
        self._approval_patterns = ask
        self._request = request
        resume = request.resume
        self._answers = resume if resume is not None and not resume.superseded else Resume({})
        self._last_state = request.state if resume is None else resume.state
        # A superseded run starts a new session: the old one would run its waiting call, whatever the prompt.
        self._state = None if resume is not None and resume.superseded else self._last_state
        self.is_new = resume is None or self._state is None  # otherwise the waiting call continues
        self._tools = {tool.name: tool for tool in request.tools}
        _check_media(self._answers.results)
        self._names: dict[str, str] = {}  # of tools, by call id
        self._hidden = {*self._answers.results}  # calls whose results are not shown
        self._open_call: tuple[str, list[str]] | None = None  # the call whose arguments are being streamed
        self._deferred_call = ""  # the deferred call: Claude Code keeps one, and drops others
        self._denied: set[str] = set()
        self._tasks: dict[str, str] = {}  # descriptions of sub-agents' tasks, by task id
        self._retry_after: int | None = None  # seconds of its last retry delay

    def options(self) -> Any:
        """The options of the run."""
        own, request = self._options, self._request
        results = self._answers.results
        offered = {message.name: FunctionTool(message.name) for message in results.values()}
        tools: dict[str, Tool] = {**offered, **self._tools}
        changes: dict[str, Any] = {}
        if tools:
            client_server = sdk.create_sdk_mcp_server(
                "openai_compat", tools=[_client_tool(one, results) for one in tools.values()]
            )
            changes["mcp_servers"] = {**own.mcp_servers, "openai_compat": client_server}
        hooks: dict[str, list[Any]] = own.hooks or {}
        before = [*hooks.get("PreToolUse", ()), sdk.HookMatcher(hooks=[self._before_tool])]
        if request.response_format is not None:
            schema = request.json_schema or JsonSchema("answer", {"type": "object"}, strict=False)
            changes["output_format"] = {"type": "json_schema", "schema": dict(schema.schema)}
        if request.sampling.reasoning_effort is not None:
            changes["effort"] = EFFORTS.get(request.sampling.reasoning_effort, own.effort)
        # Each turn forks the session of the turn before, so that a failed turn leaves nothing behind.
        new = (
            str(uuid4())
            if self._last_state is None
            else f"{self._last_state['session'][:SHARED_PREFIX_LENGTH]}{str(uuid4())[SHARED_PREFIX_LENGTH:]}"
        )
        if self._state is not None:
            changes |= {"resume": self._state["session"], "fork_session": True}
        return replace(
            own,
            session_id=new,
            hooks={**hooks, "PreToolUse": before},
            include_partial_messages=True,
            verbatim_prompts=True,  # otherwise "@/etc/passwd" in a prompt would become the file's text
            **_system_prompt_options(own, request.system),
            **changes,
        )

    async def prompt(self) -> AsyncIterator[dict[str, Any]]:
        content = [*_prompt_blocks(self._request, is_known=self._state is not None)]
        yield {"type": "user", "message": {"role": "user", "content": content}, "parent_tool_use_id": None}

    async def _before_tool(self, hook_input: Any, call_id: str | None, _: Any) -> dict[str, Any]:
        name, call_id = hook_input["tool_name"], call_id or ""
        decision = self._answers.decisions.get(call_id)
        is_clients = name.startswith(CLIENT_PREFIX)
        if call_id in self._answers.results:
            return _hook_output("allow")
        if is_clients and _short_name(name) not in self._tools:
            return _hook_output("deny", permissionDecisionReason="This tool is not there any more.")
        if not is_clients and not any([fnmatchcase(name, pattern) for pattern in self._approval_patterns]):
            return {}
        if hook_input.get("agent_id"):
            return _hook_output("deny", permissionDecisionReason=NOT_IN_AGENTS)
        if decision is not None and decision.approved:
            return _hook_output(
                "allow", **({"updatedInput": json.loads(decision.arguments)} if decision.arguments else {})
            )
        if decision is not None or self._deferred_call:
            self._denied.add(call_id)
            reason = (decision.reason or "The user has denied it.") if decision is not None else ONE_AT_A_TIME
            return _hook_output("deny", permissionDecisionReason=reason)
        # Only "defer" outlives the process: the session stores the call, and runs the call when resumed.
        self._deferred_call = call_id
        return _hook_output("defer")

    def translate(self, message: Any) -> Iterator[AgentEvent]:
        match message:
            case sdk.StreamEvent() if message.parent_tool_use_id is None:
                yield from self._translate_stream_event(message.event)
            case sdk.UserMessage() if message.parent_tool_use_id is None and not isinstance(message.content, str):
                for block in message.content:
                    if isinstance(block, sdk.ToolResultBlock) and block.tool_use_id not in self._hidden:
                        yield self._to_tool_result(block)
            case sdk.SystemMessage() if message.subtype == "api_retry":
                self._retry_after = ceil(message.data["retry_delay_ms"] / 1000)
            case sdk.SystemMessage() if message.subtype in ("task_started", "task_notification"):
                yield from self._translate_task(message.subtype, message.data)
            case _:
                pass

    def _translate_task(self, kind: str, data: Mapping[str, Any]) -> Iterator[AgentEvent]:
        task: str = data["task_id"]
        if kind == "task_started":
            self._tasks[task] = data["description"]
        if task in self._tasks:
            yield Progress("agent", task, self._tasks[task], done=kind == "task_notification")

    def _translate_stream_event(self, event: Mapping[str, Any]) -> Iterator[AgentEvent]:
        match event:
            case {"type": "content_block_start", "content_block": {"type": "tool_use", "id": call_id, "name": name}}:
                # A client call is reported when the turn pauses: Claude Code waits for one call at a time.
                if name == OUTPUT_TOOL or name.startswith(CLIENT_PREFIX):
                    self._hidden.add(call_id)
                else:
                    self._names[call_id] = _short_name(name)
                    self._open_call = (call_id, [])
                    yield ToolCallStarted(call_id, _short_name(name), "agent")
            case {"type": "content_block_delta", "delta": {"type": "text_delta", "text": text}}:
                # With a response format, the answer is the input of the structured output tool, not this text.
                if self._request.response_format is None:
                    yield TextDelta(text)
            case {"type": "content_block_delta", "delta": {"type": "thinking_delta", "thinking": text}}:
                yield ReasoningDelta(text)
            case {"type": "content_block_delta", "delta": {"type": "input_json_delta", "partial_json": text}}:
                if self._open_call is not None:
                    self._open_call[1].append(text)
                    yield ToolCallDelta(self._open_call[0], text)
            case {"type": "content_block_stop"} if self._open_call is not None:
                (call_id, pieces), self._open_call = self._open_call, None
                yield ToolCallReady(call_id, self._names[call_id], "".join(pieces) or "{}", "agent")
            case _:
                pass

    def _to_tool_result(self, block: Any) -> ToolResult:
        output = block.content
        if not isinstance(output, str):
            output = "\n".join([part["text"] for part in output or () if part["type"] == "text"])
        is_denied = block.tool_use_id in self._denied
        return ToolResult(block.tool_use_id, output, is_error=bool(block.is_error), denied=is_denied)

    def end(self, result: Any) -> Iterator[AgentEvent]:
        """The final events: token usage, then a pause or the end."""
        if result is None:
            raise RuntimeError("Claude Code ended without a result")
        # The operator's limit cuts the answer; reaching the limit is no failure.
        if result.is_error and result.subtype != "error_max_turns":
            if result.api_error_status:
                raise AgentError.upstream(result.api_error_status, retry_after=self._retry_after)
            raise RuntimeError(f"Claude Code ended with {result.subtype}: {result.errors or result.result}")
        used = _usage(result.model_usage or {})
        before = UsageReported(**self._state["used"]) if self._state is not None else NO_USAGE
        usage: dict[str, Any] = result.usage or {}
        details: dict[str, Any] = usage.get("output_tokens_details") or {}
        yield replace(used.since(before), reasoning_tokens=details.get("thinking_tokens"))
        state = {"session": result.session_id, "used": asdict(used)}
        if (call := result.deferred_tool_use) is not None:
            name = _short_name(call.name)
            waits_for: Any = "result" if call.name.startswith(CLIENT_PREFIX) else "approval"
            is_custom = isinstance(self._tools.get(name), CustomTool)
            arguments = str(call.input.get("input", "")) if is_custom else json.dumps(call.input)
            yield Paused((PendingCall(call.id, name, arguments, waits_for),), state)
            return
        is_cut = result.subtype == "error_max_turns"
        if self._request.response_format is not None and not is_cut:
            yield TextDelta(json.dumps(result.structured_output))
        yield Finished("length" if is_cut else REASONS.get(result.stop_reason, "stop"), state=state)


def _hook_output(decision: str, **more: Any) -> dict[str, Any]:
    return {"hookSpecificOutput": {"hookEventName": "PreToolUse", "permissionDecision": decision, **more}}


def _short_name(name: str) -> str:
    """A tool's name without the prefix of its MCP server."""
    return name.split("__", 2)[-1] if name.startswith("mcp__") else name


def _system_prompt_options(options: Any, text: str) -> dict[str, Any]:
    """The changed options that append the conversation's instructions to the system prompt."""
    own: Any = options.system_prompt
    if not text:
        return {}
    if isinstance(own, dict) and "append" in own:
        return {"system_prompt": {**own, "append": f"{own['append']}\n\n{text}"}}
    return {"extra_args": {**options.extra_args, "append-system-prompt": text}}


def _client_tool(tool: Tool, results: Mapping[str, ToolMessage]) -> Any:
    """A client tool, which runs once the client's result exists. Claude Code does not pass the id of the call."""
    answers = [message for message in results.values() if message.name == tool.name]

    async def run(_: Any) -> dict[str, Any]:
        # The results are in the order of the calls.
        answer = answers.pop(0)
        pictures = [block["source"] for block in input_blocks(answer.media)]
        images = [{"type": "image", "data": one["data"], "mimeType": one["media_type"]} for one in pictures]
        return {"content": [{"type": "text", "text": answer.text}, *images], "is_error": answer.is_error}

    return sdk.tool(tool.name, tool.description or "", tool.input_schema)(run)


def _check_media(results: Mapping[str, ToolMessage]) -> None:
    """Raise InvalidRequest for media that a tool result cannot hold."""
    parts = [part for message in results.values() for part in message.media]
    if not all([isinstance(part, ImagePart) and part.content is not None for part in parts]):
        text = "The result of a tool can have pictures as 'data:' URLs here, and nothing else."
        raise InvalidRequest(text, param="messages", code="invalid_value")


def _prompt_blocks(request: AgentRequest, *, is_known: bool) -> Iterator[dict[str, Any]]:
    """The new message as blocks, after the earlier messages as text that Claude Code does not know yet."""
    messages = list(request.new_messages if is_known else request.messages)
    last = messages.pop() if isinstance(messages[-1], UserMessage) else None
    before = transcript([message for message in messages if not isinstance(message, SystemMessage)])
    if before:
        yield {"type": "text", "text": f"The conversation so far:\n\n{before}"}
    parts = [part for message in messages if isinstance(message, UserMessage) for part in message.parts]
    yield from input_blocks([part for part in parts if not isinstance(part, TextPart)])
    if isinstance(last, UserMessage):
        yield from input_blocks(last.parts)


def _usage(models: Mapping[str, Mapping[str, int]]) -> UsageReported:
    """The tokens of all models, including those of sub-agents, since the session began."""

    def total(name: str) -> int:
        return sum([used[name] for used in models.values()])

    read, written = total("cacheReadInputTokens"), total("cacheCreationInputTokens")
    used = total("inputTokens") + read + written
    return UsageReported(used, total("outputTokens"), cached_tokens=read, cache_write_tokens=written)
