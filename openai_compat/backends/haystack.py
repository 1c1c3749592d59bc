"""Runs agents of Haystack: `HaystackBackend`. Needs `openai-compat[haystack]`."""

from __future__ import annotations

import asyncio
import base64
import copy
import importlib
import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from typing import Any

import anyio

from ..agent_request import AgentRequest, Decision, FunctionTool, Tool
from ..backend import Capabilities, RunContext
from ..errors import InvalidRequest
from ..events import AgentEvent, Finished, ReasoningDelta, TextDelta, ToolCallReady, ToolResult, UsageReported
from ..messages import AssistantMessage, ImagePart, InputPart, TextPart
from ..package import needs

__all__ = ("HaystackBackend",)

# Untyped: type checking would need the framework installed. Tests run against its real versions.
with needs(__name__, "haystack"):
    data: Any = importlib.import_module("haystack.dataclasses")
    replace_values: Any = importlib.import_module("haystack.components.agents.state").replace_values
    tools: Any = importlib.import_module("haystack.tools")

REASONS: Mapping[str, Any] = {"max_agent_steps": "length", "length": "length", "content_filter": "content_filter"}
"""Finish reasons of a run without an answer, by `exit_reason`."""


class HaystackBackend:
    """Runs an `Agent` of Haystack for each turn; one agent runs many turns concurrently.

    Args:
        agent: the agent.
        approve: the tools whose calls need approval. The run waits for the decision (see `RunContext.approve`).
        run: makes further arguments of `run_async` for a turn: values of the `state_schema`, variables of the prompts.
        parameters: the fields of `Sampling` that the chat generator accepts as `generation_kwargs` of the same names.
    """

    def __init__(
        self,
        agent: Any,
        *,
        approve: Iterable[str] = (),
        run: Callable[[AgentRequest], Mapping[str, Any]] | None = None,
        parameters: Iterable[str] = ("temperature", "top_p", "max_tokens"),
    ) -> None:
        self._agent = agent
        self._approval_tools = frozenset(approve)
        self._run = run
        self._parameters = frozenset(parameters)
        self.capabilities = Capabilities(
            approvals="edit" if self._approval_tools else "none",
            audio_input=False,
            files=False,
            structured_output=False,
            counts_tokens="max_tokens" in self._parameters,
            own_tools=frozenset([tool.name for tool in _own_tools(agent)]),
            parameters=self._parameters,
        )

    async def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[AgentEvent]:
        """Run the agent, and yield its events."""
        more = dict(self._run(request)) if self._run is not None else {}
        given = request.sampling.given()
        more["generation_kwargs"] = {name: given[name] for name in given if name in self._parameters}
        if request.tools:
            more["tools"] = [*_own_tools(self._agent), *map(_client_tool, request.tools)]
        send, events = anyio.create_memory_object_stream[AgentEvent](16)
        steps = _HaystackSteps(self._approval_tools, {tool.name for tool in request.tools}, context, send.send)
        agent = copy.copy(self._agent)
        agent.hooks = {
            **agent.hooks,
            "before_tool": [*agent.hooks.get("before_tool", ()), _StepHook(steps.before_tools)],
            "after_tool": [*agent.hooks.get("after_tool", ()), _StepHook(steps.after_tools)],
        }
        messages = _to_messages(request)

        async def work() -> None:
            async with send:
                steps.result = await agent.run_async(messages, steps.on_chunk, **more)

        task = asyncio.create_task(work())
        try:
            async with events:
                async for event in events:
                    yield event
            await task
        finally:
            task.cancel()
            await asyncio.wait([task])
        for event in steps.end():
            yield event


class _StepHook:
    """A hook of the agent's loop that calls `step`."""

    def __init__(self, step: Callable[[Any], Any]) -> None:
        self.run_async = step

    def run(self, state: Any) -> None:
        """Never called: runs are asynchronous."""
        raise NotImplementedError


class _HaystackSteps:
    """Sends the events of a run, and gets approvals and client results before tools run.

    Attributes:
        result: the return value of the run.
    """

    def __init__(
        self, approval_tools: frozenset[str], client_tools: set[str], context: RunContext, send: Callable[..., Any]
    ) -> None:
        self._approval_tools = approval_tools
        self._client_tools = client_tools
        self._context = context
        self._send = send
        self._has_sent_text = False
        self._call_message: Any = None  # the message with the calls of this step
        self._calls: list[Any] = []
        self._answers: dict[int, str] = {}  # client results and denials, by index of the call
        self.result: Any = None

    async def on_chunk(self, chunk: Any) -> None:
        """The framework's `streaming_callback`, called with each chunk."""
        if chunk.reasoning is not None and chunk.reasoning.reasoning_text:
            await self._send(ReasoningDelta(chunk.reasoning.reasoning_text))
        if chunk.content and chunk.tool_call_result is None:
            self._has_sent_text = True
            await self._send(TextDelta(chunk.content))

    async def before_tools(self, state: Any) -> None:
        """Send the model's calls, once all approvals and client results have arrived."""
        *earlier, call_message = state.data["messages"]
        if not call_message.tool_calls:
            return
        if call_message.text and not self._has_sent_text:
            await self._send(TextDelta(call_message.text))
        self._has_sent_text = False
        answers: dict[int, str] = {}
        calls = list(call_message.tool_calls)
        async with anyio.create_task_group() as group:
            for index, call in enumerate(calls):
                if call.tool_name in self._approval_tools | self._client_tools:
                    group.start_soon(self._get_answer, calls, index, answers)
        for index, call in enumerate(calls):
            if call.tool_name in self._client_tools:
                continue
            await self._send(ToolCallReady(call.id, call.tool_name, json.dumps(call.arguments), "agent"))
            if index in answers:
                await self._send(ToolResult(call.id, answers[index], denied=True))
        # The framework runs the calls of this message; `after_tools` puts the others back, with their results.
        own_calls = [call for index, call in enumerate(calls) if index not in answers]
        own_message = data.ChatMessage.from_assistant(call_message.text or "", call_message.meta, tool_calls=own_calls)
        state.set("messages", [*earlier, own_message], handler_override=replace_values)
        self._call_message, self._calls, self._answers = call_message, calls, answers

    async def _get_answer(self, calls: list[Any], index: int, answers: dict[int, str]) -> None:
        call = calls[index]
        arguments = json.dumps(call.arguments)
        if call.tool_name in self._client_tools:
            answers[index] = (await self._context.call_client_tool(call.tool_name, arguments)).text
            return
        decision: Decision = await self._context.approve(call.tool_name, arguments)
        if decision.arguments is not None:
            calls[index] = data.ToolCall(call.tool_name, json.loads(decision.arguments), call.id)
        if not decision.approved:
            answers[index] = decision.reason or "Nobody has approved this call."

    async def after_tools(self, state: Any) -> None:
        """Send the results, and add client results and denials to the messages."""
        count = len(self._calls) - len(self._answers)
        messages = state.data["messages"]
        ran, before = messages[len(messages) - count :], messages[: len(messages) - count - 1]
        for message in ran:
            result = message.tool_call_result
            await self._send(ToolResult(result.origin.id, str(result.result), is_error=result.error))
        if self._answers:
            call_message = data.ChatMessage.from_assistant(
                self._call_message.text, self._call_message.meta, tool_calls=self._calls
            )
            result_messages = [
                data.ChatMessage.from_tool(text, self._calls[index]) for index, text in self._answers.items()
            ]
            state.set("messages", [*before, call_message, *ran, *result_messages], handler_override=replace_values)

    def end(self) -> Iterator[AgentEvent]:
        """The final events: any text that was not streamed, token usage and the finish reason."""
        last = self.result.get("last_message")
        if not self._has_sent_text and last is not None:
            text = last.text or (last.tool_call_result and str(last.tool_call_result.result))
            yield from [TextDelta(text)] if text else []
        used: dict[str, Any] = self.result.get("token_usage") or {}
        if used:
            prompt: dict[str, Any] = used.get("prompt_tokens_details") or {}
            completion: dict[str, Any] = used.get("completion_tokens_details") or {}
            yield UsageReported(
                used.get("prompt_tokens", used.get("input_tokens", 0)),
                used.get("completion_tokens", used.get("output_tokens", 0)),
                cached_tokens=prompt.get("cached_tokens"),
                reasoning_tokens=completion.get("reasoning_tokens"),
            )
        if self.result["exit_reason"] in REASONS:
            yield Finished(REASONS[self.result["exit_reason"]])


def _own_tools(agent: Any) -> list[Any]:
    flat: list[Any] = tools.flatten_tools_or_toolsets(agent.tools)
    return flat


def _client_tool(tool: Tool) -> Any:
    """A client tool as shown to the model. Its function is never called: `_HaystackSteps` gets the client's result."""
    schema: Any = {"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]}
    if isinstance(tool, FunctionTool):
        schema = tool.parameters or {"type": "object", "properties": {}}
    return tools.Tool(tool.name, tool.description or "", dict(schema), print)


def _to_messages(request: AgentRequest) -> list[Any]:
    system = [data.ChatMessage.from_system(request.system)] if request.system else []
    messages: list[Any] = system
    calls: dict[str, Any] = {}
    for turn in request.turns:
        if isinstance(turn, AssistantMessage):
            tool_calls = [
                data.ToolCall(call.name, json.loads(call.arguments or "{}"), call.call_id) for call in turn.tool_calls
            ]
            calls |= {call.id: call for call in tool_calls}
            messages.append(data.ChatMessage.from_assistant(turn.text or None, tool_calls=tool_calls or None))
            continue
        from_tool = data.ChatMessage.from_tool
        messages += [from_tool(result.text, calls[result.call_id], result.is_error) for result in turn.results]
        if turn.parts:
            messages.append(data.ChatMessage.from_user(content_parts=[_to_content_part(part) for part in turn.parts]))
    return messages


def _to_content_part(part: InputPart) -> Any:
    if isinstance(part, TextPart):
        return data.TextContent(part.text)
    if not isinstance(part, ImagePart) or part.content is None:
        text = "This agent takes text, and pictures by a 'data:' URL."
        raise InvalidRequest(text, param="messages", code="invalid_value")
    return data.ImageContent(base64.b64encode(part.content).decode(), part.media_type, validation=False)
