"""Runs agents of Strands: `StrandsBackend`. Needs `openai-compat[strands]`."""

from __future__ import annotations

import base64
import importlib
import inspect
import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import aclosing
from typing import Any, cast

from ..agent_request import AgentRequest, Decision, Tool
from ..backend import Capabilities, RunContext
from ..errors import InvalidRequest
from ..events import (
    AgentEvent,
    Finished,
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
from ..messages import AssistantMessage, FilePart, ImagePart, InputPart, TextPart, ToolMessage, UserMessage, UserTurn
from ..package import needs
from .paused_run import SUPERSEDED, PausedRun

__all__ = ("StrandsBackend",)

# Untyped: type checking would need the framework installed. Tests run against its real versions.
with needs(__name__, "strands"):
    Agent: Any = importlib.import_module("strands").Agent
    Snapshot: Any = importlib.import_module("strands.types._snapshot").Snapshot
    BeforeToolCallEvent: Any = importlib.import_module("strands.hooks").BeforeToolCallEvent
    handlers: Any = importlib.import_module("strands.handlers")
    AgentTool: Any = importlib.import_module("strands.types.tools").AgentTool
    ToolResultEvent: Any = importlib.import_module("strands.types._events").ToolResultEvent
    MaxTokensReached: Any = importlib.import_module("strands.types.exceptions").MaxTokensReachedException

RESULT_INTERRUPT = "openai_compat"
"""Name of the interrupt that waits for the result of a client tool."""

BYTES_KEY = "base64 bytes"
"""The only key of an object that stands for bytes in a JSON snapshot."""

REASONS: Mapping[str, Any] = {
    "max_tokens": "length",
    "limit_turns": "length",
    "limit_output_tokens": "length",
    "limit_total_tokens": "length",
    "content_filtered": "content_filter",
    "guardrail_intervened": "content_filter",
}


class StrandsBackend:
    """Runs an agent of Strands for each turn. An agent holds one conversation, so each turn gets a new agent.

    Args:
        make: makes the agent; may be a coroutine function. Gets the `AgentRequest` if it has a parameter `request`, or
            one without a default.
        parameters: the fields of `Sampling` that `make` applies to its model.
        answer: makes the answer to the agent's own interrupts from the approval (a bool); "yes" or "no" by default.
    """

    def __init__(
        self,
        make: Callable[..., Any],
        *,
        parameters: Iterable[str] = (),
        answer: Callable[[bool], Any] = lambda approved: "yes" if approved else "no",
    ) -> None:
        if isinstance(make, Agent):
            raise TypeError("an agent of Strands holds one conversation: give StrandsBackend a function that makes it")
        self._make = make
        accepted = inspect.signature(make).parameters.values()
        self._takes_request = any([each.name == "request" or each.default is each.empty for each in accepted])
        self._answer = answer
        self._names: list[str] | None = None
        model_parameters = frozenset(parameters)
        self.capabilities = Capabilities(
            audio_input=False,
            structured_output=False,  # Strands takes a class, not a schema
            counts_tokens="max_tokens" in model_parameters,
            keeps_state=True,
            parameters=model_parameters,
        )

    async def tool_names(self, request: AgentRequest) -> list[str]:
        """The names of the agent's tools."""
        if self._names is not None and not self._takes_request:
            return self._names
        self._names = list((await self._build_agent(request)).tool_names)
        return self._names

    async def _build_agent(self, request: AgentRequest) -> Any:
        agent = self._make(request) if self._takes_request else self._make()
        return await agent if inspect.isawaitable(agent) else agent

    async def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[AgentEvent | str]:
        """Run the agent, and yield its events."""
        paused = PausedRun.from_resume(request.resume)
        if paused is not None and paused.open_calls:
            yield paused.pause_event
            return
        agent = await self._build_agent(request)
        _prepare_agent(agent, request, _Gate(request, paused))
        prompt = _load_conversation(agent, request) if paused is None else _load_paused_run(agent, paused, self._answer)
        translator = _StrandsTranslator(paused)
        try:
            async with aclosing(agent.stream_async(prompt)) as run:
                async for event in run:
                    for item in translator.translate(event):
                        yield item
        # Other frameworks end the answer here; Strands raises, after the text so far was sent.
        except MaxTokensReached:
            yield Finished("length")
            return
        result = translator.result
        if result.interrupts:
            snapshot = agent.take_snapshot(preset="session").to_dict()
            for item in translator.completed_results(snapshot):
                yield item
            pending = translator.pending_calls(result.interrupts)
            interrupts = {call.call_id: ids for call, ids in pending}
            saved = {"snapshot": _encode_bytes(snapshot), "interrupts": interrupts, "told": translator.sent_results}
            yield PausedRun(saved, tuple([call for call, _ in pending])).pause_event
        elif result.stop_reason in REASONS:
            yield Finished(REASONS[result.stop_reason])


class _StrandsClientTool(AgentTool):
    """A client tool. It is called once the client's result exists."""

    tool_type = "function"
    tool_name = ""
    tool_spec: Any = None

    def __init__(self, tool: Tool) -> None:
        AgentTool.__init__(self)
        about = {"name": tool.name, "description": tool.description or tool.name}
        self.tool_name = tool.name
        self.tool_spec = {**about, "inputSchema": {"json": tool.input_schema}}
        self.results: dict[str, Any] = {}

    async def stream(self, tool_use: Any, invocation_state: Any, **more: Any) -> AsyncIterator[Any]:
        yield ToolResultEvent(self.results[tool_use["toolUseId"]])


class _Gate:
    """Interrupts the run before a client tool, and applies edited arguments to approved calls."""

    def __init__(self, request: AgentRequest, paused: PausedRun | None) -> None:
        self._client_tools = {tool.name for tool in request.tools}
        decisions: Mapping[str, Decision] = paused.decisions if paused is not None else {}
        edited = {call_id: decision.arguments for call_id, decision in decisions.items() if decision.arguments}
        self._edited_inputs = {call_id: json.loads(arguments) for call_id, arguments in edited.items()}

    def before_tool_call(self, event: Any) -> None:
        """Called before each tool call; when the run is resumed, `interrupt` returns the client's result."""
        call = event.tool_use
        if call["name"] in self._client_tools:
            event.selected_tool.results[call["toolUseId"]] = event.interrupt(RESULT_INTERRUPT)
        elif call["toolUseId"] in self._edited_inputs:
            call["input"] = self._edited_inputs[call["toolUseId"]]


class _StrandsTranslator:
    """Translates the framework's events.

    Attributes:
        sent_results: the ids of the calls whose results were sent.
        result: the result of the run.
    """

    def __init__(self, paused: PausedRun | None) -> None:
        self._denied = paused.denied if paused is not None else frozenset[str]()
        self._pending: list[tuple[PendingCall, list[str]]] = []
        self._open_call = ""
        self.sent_results = [*paused.saved["told"]] if paused is not None else list[str]()
        self.result: Any = None

    def translate(self, event: Mapping[str, Any]) -> Iterator[AgentEvent]:
        if "event" in event:
            yield from self._translate_chunk(event["event"])
        elif "message" in event:
            for content in event["message"]["content"]:
                if "toolUse" in content:
                    call = content["toolUse"]
                    yield ToolCallReady(call["toolUseId"], call["name"], json.dumps(call["input"]))
                elif "toolResult" in content:
                    yield from self._translate_result(content["toolResult"])
        elif "tool_interrupt_event" in event:
            self._on_interrupt(**event["tool_interrupt_event"])
        elif "tool_stream_event" in event:
            yield from _translate_tool_stream(event["tool_stream_event"]["data"])
        elif "result" in event:
            self.result = event["result"]

    def _translate_chunk(self, chunk: Mapping[str, Any]) -> Iterator[AgentEvent]:
        if "contentBlockStart" in chunk:
            call = chunk["contentBlockStart"]["start"].get("toolUse")
            if call:
                # Deltas do not say which block they belong to; one is open at a time.
                self._open_call = call["toolUseId"]
                yield ToolCallStarted(call["toolUseId"], call["name"])
        elif "contentBlockDelta" in chunk:
            delta = chunk["contentBlockDelta"]["delta"]
            reasoning = delta.get("reasoningContent", {}).get("text")
            if reasoning:
                yield ReasoningDelta(reasoning)
            elif "toolUse" in delta:
                yield ToolCallDelta(self._open_call, delta["toolUse"]["input"])
            elif delta.get("text"):
                yield TextDelta(delta["text"])
        elif "metadata" in chunk:
            yield _usage(chunk["metadata"]["usage"])

    def _translate_result(self, result: Mapping[str, Any]) -> Iterator[AgentEvent]:
        call_id, content = result["toolUseId"], result["content"]
        # A resumed run repeats the results of calls that ran beside the pending ones.
        if call_id not in self.sent_results:
            self.sent_results.append(call_id)
            texts = [one["text"] if "text" in one else json.dumps(one.get("json"), default=str) for one in content]
            failed, denied = result["status"] == "error", call_id in self._denied
            yield ToolResult(call_id, "\n".join(texts), is_error=failed, denied=denied)

    def completed_results(self, snapshot: Mapping[str, Any]) -> Iterator[AgentEvent]:
        """The results of calls that ran beside the pending ones, which the framework sends only when the run is resumed."""
        for result in _completed_results(snapshot):
            yield from self._translate_result(result)

    def _on_interrupt(self, tool_use: Mapping[str, Any], interrupts: Iterable[Any]) -> None:
        ids = [interrupt.id for interrupt in interrupts]
        waits_for: Any = "result" if RESULT_INTERRUPT in [interrupt.name for interrupt in interrupts] else "approval"
        arguments = json.dumps(tool_use["input"])
        self._pending.append((PendingCall(tool_use["toolUseId"], tool_use["name"], arguments, waits_for), ids))

    def pending_calls(self, interrupts: Iterable[Any]) -> list[tuple[PendingCall, list[str]]]:
        """The pending calls with their interrupt ids; an interrupt without a call becomes a call with the interrupt's name."""
        known = {each for _, ids in self._pending for each in ids}
        for interrupt in interrupts:
            if interrupt.id not in known:
                arguments = json.dumps({"reason": interrupt.reason}, default=str)
                self._pending.append((PendingCall(interrupt.id, interrupt.name, arguments, "approval"), [interrupt.id]))
        return self._pending


def _load_paused_run(agent: Any, paused: PausedRun, answer: Callable[[bool], Any]) -> list[Any]:
    """Load a paused run into an agent; returns the answers that resume the run."""
    agent.load_snapshot(Snapshot.from_dict(_decode_bytes(paused.saved["snapshot"])))
    interrupts: Mapping[str, list[str]] = paused.saved["interrupts"]
    answers: list[Any] = []
    for call in paused.asked:
        is_result = call.waits_for == "result"
        response = (
            _to_tool_result(paused.results[call.call_id]) if is_result else answer(call.call_id not in paused.denied)
        )
        answers += [
            {"interruptResponse": {"interruptId": each, "response": response}} for each in interrupts[call.call_id]
        ]
    return answers


def _prepare_agent(agent: Any, request: AgentRequest, gate: _Gate) -> None:
    """Add the request's instructions and tools to an agent."""
    # The default handler prints the answer to the server's stdout, where the log may be.
    if isinstance(agent.callback_handler, handlers.PrintingCallbackHandler):
        agent.callback_handler = handlers.null_callback_handler
    if request.system:
        agent.system_prompt = [*(agent.system_prompt_content or []), {"text": request.system}]
    for tool in request.tools:
        agent.tool_registry.register_tool(_StrandsClientTool(tool))
    agent.hooks.add_callback(BeforeToolCallEvent, gate.before_tool_call)


def _translate_tool_stream(data: Any) -> Iterator[AgentEvent]:
    """The events of a running tool: its progress, and the token usage of an agent inside the tool."""
    if isinstance(data, str):
        yield Progress("tool", data, data, done=True)
    elif isinstance(data, Mapping):
        fields = cast("Mapping[str, Any]", data)
        if "metadata" in (fields.get("event") or ()):
            yield _usage(fields["event"]["metadata"]["usage"])
        elif "tool_stream_event" in fields:  # an agent nested deeper
            yield from _translate_tool_stream(fields["tool_stream_event"]["data"])


def _usage(used: Mapping[str, Any]) -> UsageReported:
    input_tokens, output_tokens = used["inputTokens"], used["outputTokens"]
    cached, written = used.get("cacheReadInputTokens", 0), used.get("cacheWriteInputTokens", 0)
    if input_tokens + output_tokens != used["totalTokens"]:  # this provider counts cached tokens apart from the input
        input_tokens += cached + written
    return UsageReported(input_tokens, output_tokens, cached_tokens=cached, cache_write_tokens=written)


def _load_conversation(agent: Any, request: AgentRequest) -> list[Any] | None:
    """Load the conversation into an agent; returns the prompt if the last turn is a user message without tool results."""
    turns, prompt = request.turns, None
    resume = request.resume
    if resume is not None and resume.superseded and resume.state is not None:
        agent.messages.extend(_closed_messages(_decode_bytes(resume.state["saved"]["snapshot"])))
        return [_to_block(part) for part in cast("UserMessage", request.messages[-1]).parts]
    if turns and isinstance(newest := turns[-1], UserTurn) and not newest.results:
        turns, prompt = turns[:-1], [_to_block(part) for part in newest.parts]
    agent.messages.extend([_to_message(turn) for turn in turns])
    return prompt


def _closed_messages(snapshot: Mapping[str, Any]) -> list[Any]:
    """The messages of a paused run, with results for all of its calls."""
    messages = snapshot["data"]["messages"]
    done = {result["toolUseId"]: result for result in _completed_results(snapshot)}
    results: list[Any] = []
    for call in [block["toolUse"]["toolUseId"] for block in messages[-1]["content"] if "toolUse" in block]:
        closed = {"toolUseId": call, "status": "error", "content": [{"text": SUPERSEDED}]}
        results.append({"toolResult": done.get(call, closed)})
    return [*messages, {"role": "user", "content": results}] if results else messages


def _completed_results(snapshot: Mapping[str, Any]) -> Iterable[Any]:
    """The results of calls that ran beside the pending ones."""
    pending: dict[str, Any] = snapshot["data"]["interrupt_state"].get("pending_tool_execution") or {}
    results: list[Any] = pending.get("completed_tool_results") or []
    return results


def _to_message(turn: UserTurn | AssistantMessage) -> dict[str, Any]:
    if isinstance(turn, UserTurn):
        results = [{"toolResult": _to_tool_result(result)} for result in turn.results]
        return {"role": "user", "content": [*results, *[_to_block(part) for part in turn.parts]]}
    texts: list[Any] = [{"text": turn.text}] if turn.text else []
    calls = [{"toolUseId": call.call_id, "name": call.name, "input": call.input} for call in turn.tool_calls]
    return {"role": "assistant", "content": [*texts, *[{"toolUse": call} for call in calls]]}


def _to_tool_result(result: ToolMessage) -> dict[str, Any]:
    content = [{"text": result.text}, *[_to_block(part) for part in result.media]]
    return {"toolUseId": result.call_id, "status": "error" if result.is_error else "success", "content": content}


def _to_block(part: InputPart) -> dict[str, Any]:
    if isinstance(part, TextPart):
        return {"text": part.text}
    # Strands' models take bytes; fetching a client's URL would allow server-side request forgery.
    if part.content is None:
        text = "This agent takes pictures and documents with their data only, not by their URL."
        raise InvalidRequest(text, param="messages", code="invalid_value")
    source = {"bytes": part.content}
    if isinstance(part, ImagePart):
        return {"image": {"format": (part.media_type or "image/png").partition("/")[2], "source": source}}
    name, _, ending = (cast("FilePart", part).filename or "document.pdf").rpartition(".")
    return {"document": {"format": ending.lower(), "name": name or "document", "source": source}}


def _encode_bytes(value: Any) -> Any:
    """A snapshot with its bytes in base64, so that it can be stored as JSON."""
    if isinstance(value, bytes):
        return {BYTES_KEY: base64.b64encode(value).decode()}
    if isinstance(value, Mapping):
        return {key: _encode_bytes(each) for key, each in cast("Mapping[str, Any]", value).items()}
    return [_encode_bytes(each) for each in cast("list[Any]", value)] if isinstance(value, list | tuple) else value


def _decode_bytes(value: Any) -> Any:
    if isinstance(value, Mapping):
        entries = cast("Mapping[str, Any]", value)
        if [*entries] == [BYTES_KEY]:
            return base64.b64decode(entries[BYTES_KEY])
        return {key: _decode_bytes(each) for key, each in entries.items()}
    return [_decode_bytes(each) for each in cast("list[Any]", value)] if isinstance(value, list) else value
