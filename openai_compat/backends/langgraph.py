"""Runs graphs of LangGraph, which the agents of LangChain are too: `LangGraphBackend`. Needs `openai-compat[langgraph]`."""

from __future__ import annotations

import importlib
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, cast
from uuid import uuid4

from pydantic_core import from_json, to_json

from ..agent_request import AgentRequest, FunctionTool, Resume
from ..backend import Capabilities, RunContext
from ..errors import AgentError
from ..events import (
    AgentEvent,
    Finished,
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
from ..messages import (
    AssistantMessage,
    AudioPart,
    FilePart,
    ImagePart,
    InputPart,
    Message,
    SystemMessage,
    TextPart,
    ToolMessage,
    UserMessage,
)

__all__ = ("LangGraphBackend", "per_request")

# Not checked by types, which would need the framework wherever they are checked, but run against its real versions.
lc: Any = importlib.import_module("langchain_core.messages")
Command: Any = importlib.import_module("langgraph.types").Command
interrupt: Any = importlib.import_module("langgraph.types").interrupt
GraphRecursionError: Any = importlib.import_module("langgraph.errors").GraphRecursionError

PARAMETERS = frozenset(
    ["temperature", "top_p", "max_tokens", "stop", "seed", "frequency_penalty", "presence_penalty", "reasoning_effort"]
)
"""What `per_request` passes on unless it is told otherwise, by the names that LangChain's OpenAI models have for them."""

CLIENT_TOOL = "openai_compat.client_tool"
"""The type of an interrupt that waits for the client's result."""

SUPERSEDED = "The user sent another message instead."

_request: ContextVar[AgentRequest | None] = ContextVar("request", default=None)


class LangGraphBackend:
    """Runs a compiled graph for each turn; one graph runs many at once.

    A graph with a checkpointer goes on, in a conversation, from the checkpoint where the last turn has ended; one without
    is given the whole conversation each time, and cannot pause.

    Args:
        graph: the graph, such as `create_agent` or `StateGraph.compile` makes.
        input: makes the graph's input of a request and its new messages, which are LangChain's; `{"messages": …}` unless
            given.
        output: makes a text of the graph's last state, where no model and no node has said anything.
        context: makes the `context` of a turn.
        recursion_limit: how many steps a turn may have. When they are used up, the answer ends with "length".
        speaks: tells by the metadata of a message whether it is heard. Agents in tools are not, unless this says so.

    Raises TypeError for a graph that asks for approval, or takes tools of the client, without a checkpointer.
    """

    def __init__(
        self,
        graph: Any,
        *,
        input: Callable[[AgentRequest, list[Any]], Any] | None = None,  # noqa: A002  (LangGraph's own name for it)
        output: Callable[[Any], str] | None = None,
        context: Callable[[AgentRequest], Any] | None = None,
        recursion_limit: int | None = None,
        speaks: Callable[[Mapping[str, Any]], bool] | None = None,
    ) -> None:
        self._graph = graph
        self._input = input or _messages_input
        self._output = output or _last_text
        self._context = context
        self._limit = {} if recursion_limit is None else {"recursion_limit": recursion_limit}
        self._speaks = speaks or _speaks
        self._saver: Any = graph.checkpointer if hasattr(graph.checkpointer, "adelete_thread") else None
        bound = {name: getattr(node, "bound", None) for name, node in graph.nodes.items()}
        for name in bound:
            if self._saver is None and name.startswith(("HumanInTheLoopMiddleware.", "PerRequest.")):
                raise TypeError(f"{name.partition('.')[0]} pauses the graph: compile it with a checkpointer")
        passing: Any = next((node for name, node in bound.items() if name.startswith("PerRequest.")), None)
        self.capabilities = Capabilities(
            client_tools=passing is not None,
            structured_output=passing is not None,
            counts_tokens=passing is not None,
            parameters=frozenset[str]() if passing is None else passing.afunc.__self__.parameters,
            approvals="edit" if self._saver is not None else "none",
            keeps_state=self._saver is not None,
            own_tools=frozenset([name for node in bound.values() for name in getattr(node, "tools_by_name", ())]),
        )

    async def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[AgentEvent | str]:
        """Run the graph, and yield what its models and nodes say and do."""
        _request.set(request)
        session = _Session(self._graph, self._saver)
        given = await session.open(request)
        if given is not None and (waiting := session.waiting(given)):
            yield session.paused(waiting, given)
            return
        streamed = self._graph.astream(
            session.resumed(given) if given is not None else self._input(request, session.new_messages),
            {**session.begins_at, **self._limit},
            context=None if self._context is None else self._context(request),
            stream_mode=["messages", "updates", "custom"],
            subgraphs=True,
        )
        for ready in session.decided(given):
            yield ready
        translation = _Translation(self._speaks, request.resume)
        try:
            async for namespace, mode, data in streamed:
                for item in translation.of(namespace, mode, data):
                    yield item
        except GraphRecursionError:
            yield Finished("length")
            return
        snapshot = await session.read(translation.values)
        if not translation.spoke and not session.asked:
            yield TextDelta(self._output(snapshot))
        async for item in session.end(request, translation.reason):
            yield item

    async def forget(self, state: Mapping[str, Any]) -> None:
        """Delete the thread that a state names."""
        if self._saver is not None:
            await self._saver.adelete_thread(state["thread"])


class _Translation:
    """What a graph streams, as events."""

    def __init__(self, speaks: Callable[[Mapping[str, Any]], bool], resume: Resume | None) -> None:
        self._speaks = speaks
        self._resume = resume or Resume({})
        self._begun: dict[tuple[str, Any], str] = {}
        self._ready: set[str] = {*self._resume.results, *self._resume.decisions}
        self.spoke = False
        self.reason = "stop"
        self.values: dict[str, Any] = {}

    def of(self, namespace: tuple[str, ...], mode: str, data: Any) -> Iterator[AgentEvent]:
        """What one piece says."""
        if mode == "custom":
            text = data if isinstance(data, str) else to_json(data, fallback=str).decode()
            yield Progress("step", "custom", text, done=True)
        elif mode == "messages":
            message, metadata = data
            yield from self._message(message, heard=self._speaks({**metadata, "namespace": namespace}))
        elif not _in_tool(namespace):
            for update in data.values():
                yield from self._updated(update)

    def _message(self, message: Any, *, heard: bool) -> Iterator[AgentEvent]:
        if isinstance(message, lc.ToolMessage):
            if heard and message.tool_call_id not in self._resume.results:
                denied = not self._resume.may_run(message.tool_call_id)
                yield ToolResult(message.tool_call_id, message.text, is_error=message.status == "error", denied=denied)
            return
        if not isinstance(message, lc.AIMessage):
            return
        if message.usage_metadata:
            yield _usage(message.usage_metadata)
        if heard:
            yield from self._said(message)

    def _said(self, message: Any) -> Iterator[AgentEvent]:
        told = message.response_metadata
        if (told.get("finish_reason") or told.get("stop_reason")) in ("length", "max_tokens"):
            self.reason = "length"
        for block in message.content_blocks:
            if block["type"] == "text" and block["text"]:
                self.spoke = True
                yield TextDelta(block["text"])
            elif block["type"] == "reasoning" and block.get("reasoning"):
                yield ReasoningDelta(block["reasoning"])
        for chunk in getattr(message, "tool_call_chunks", ()):
            key = (message.id, chunk["index"])
            if chunk["id"] and chunk["name"]:
                self._begun[key] = chunk["id"]
                yield ToolCallStarted(chunk["id"], chunk["name"])
            if chunk["args"] and key in self._begun:
                yield ToolCallDelta(self._begun[key], chunk["args"])

    def _updated(self, update: Any) -> Iterator[AgentEvent]:
        for part in map(_fields, _several(update)):
            self.values |= part
            for message in _several(part.get("messages", ())):
                for call in getattr(message, "tool_calls", ()):
                    if call["id"] not in self._ready:
                        self._ready.add(call["id"])
                        yield ToolCallReady(call["id"], call["name"], _json(call["args"]))


class _Session:
    """The thread of a turn: where it begins, what it waits for, and where it has ended."""

    def __init__(self, graph: Any, saver: Any) -> None:
        self._graph = graph
        self._saver = saver
        self.config: dict[str, Any] = {}
        self.new_messages: list[Any] = []
        self.asked: list[_Asked] = []
        self._is_newest = False

    async def open(self, request: AgentRequest) -> dict[str, Any] | None:
        """Find where to begin; returns what was given for a run that paused, and None for a message."""
        state = request.state if request.resume is None else request.resume.state
        if self._saver is not None and state is not None:
            place = {"thread_id": state["thread"], "checkpoint_ns": "", "checkpoint_id": state["checkpoint"]}
            self.config = {"configurable": place}
            snapshot = await self._read()
            if snapshot.values:
                given = await self._continue(request, state)
                self._is_newest = given is not None and await self._newest(state["thread"]) == state["checkpoint"]
                return given
            if request.resume is not None and request.resume.decisions:
                text = "The agent does not know any more what it has asked."
                raise AgentError(text, status=409, code="run_lost")
        self.asked = []
        self.config = {} if self._saver is None else {"configurable": {"thread_id": str(uuid4())}}
        self.new_messages = [_message(message) for message in request.messages]
        return None

    async def _newest(self, thread: str) -> str:
        snapshot = await self._graph.aget_state({"configurable": {"thread_id": thread}})
        return str(snapshot.config["configurable"]["checkpoint_id"])

    @property
    def begins_at(self) -> dict[str, Any]:
        """The config of the run."""
        if not self._is_newest:
            return self.config
        # From a checkpoint that is named, older versions would run the calls anew that are done.
        return {"configurable": {"thread_id": self.config["configurable"]["thread_id"]}}

    async def _continue(self, request: AgentRequest, state: Mapping[str, Any]) -> dict[str, Any] | None:
        resume = request.resume
        if resume is not None and not resume.superseded:
            given = {**state["given"], **{call_id: message.text for call_id, message in resume.results.items()}}
            for call_id, decision in resume.decisions.items():
                told = {"approved": decision.approved, "reason": decision.reason, "arguments": decision.arguments}
                given[call_id] = told
            return given
        if resume is None and self.asked:  # a question of the graph's own, which the message answers
            return {asked.interrupt: request.prompt for asked in self.asked}
        calls = [call for asked in self.asked for call in asked.calls]
        if calls:  # a model's API refuses calls without results
            closed = [lc.ToolMessage(SUPERSEDED, tool_call_id=call["id"]) for call in calls]
            self.config = await self._graph.aupdate_state(self.config, {"messages": closed}, as_node="tools")
        self.asked = []
        self.new_messages = [_message(message) for message in request.new_messages]
        return None

    async def _read(self) -> Any:
        snapshot = await self._graph.aget_state(self.config)
        messages = _several(_fields(snapshot.values).get("messages", ()))
        made = [call for message in reversed(messages) for call in getattr(message, "tool_calls", ())]
        self.asked = [_Asked.of(interrupted, made) for interrupted in snapshot.interrupts]
        return snapshot

    def waiting(self, given: Mapping[str, Any] | None) -> list[PendingCall]:
        """The calls that wait yet: those of one pause go on together."""
        known = given or {}
        return [
            call for asked in self.asked if given is not None for call in asked.pending if call.call_id not in known
        ]

    def paused(self, waiting: Sequence[PendingCall], given: Mapping[str, Any]) -> Paused:
        """The end of a turn that waits."""
        return Paused(tuple(waiting), state={**self._place(), "given": given})

    def decided(self, given: Mapping[str, Any] | None) -> list[ToolCallReady]:
        """The agent's own calls that were decided about, which the run does not announce again before their results."""
        calls = [call for asked in self.asked if given is not None for call in asked.pending]
        return [
            ToolCallReady(call.call_id, call.name, (given or {})[call.call_id]["arguments"] or call.arguments, "agent")
            for call in calls
            if call.waits_for == "approval"
        ]

    def resumed(self, given: Mapping[str, Any]) -> Any:
        """The input with which the run goes on."""
        return Command(resume={asked.interrupt: asked.answer(given) for asked in self.asked})

    async def read(self, values: Any) -> Any:
        """The state that the graph has ended with; without a checkpointer, what its nodes have said of it."""
        if self._saver is None:
            return values
        self.config = {"configurable": {"thread_id": self.config["configurable"]["thread_id"]}}
        snapshot = await self._read()
        self.config = snapshot.config
        return snapshot.values

    async def end(self, request: AgentRequest, reason: Any) -> AsyncIterator[AgentEvent]:
        """What ends the turn."""
        pending = [call for asked in self.asked for call in asked.pending]
        if pending:
            yield self.paused(pending, {})
            return
        for asked in self.asked:
            yield TextDelta(asked.question)
        # A chat without a conversation on the server cannot come back to it.
        if self._saver is not None and request.conversation_id is None and request.raw_items is None:
            await self._saver.adelete_thread(self._place()["thread"])
            yield Finished(reason)
        else:
            yield Finished(reason, state=None if self._saver is None else {**self._place(), "given": {}})

    def _place(self) -> dict[str, str]:
        place = self.config["configurable"]
        return {"thread": place["thread_id"], "checkpoint": place["checkpoint_id"]}


class _Asked:
    """An interrupt: approvals of calls, a call of a client's tool, or a question of the graph's own, which has no calls."""

    def __init__(self, interrupt: str, kind: str, calls: list[Any], value: Any) -> None:
        self.interrupt = interrupt
        self.calls = calls
        self._kind = kind
        self._value = value

    @classmethod
    def of(cls, interrupted: Any, made: list[Any]) -> _Asked:
        """What an interrupt asks for; `made` are the calls of the thread, the newest first."""
        value: Any = interrupted.value
        fields = _fields(value)
        if fields.get("type") in (CLIENT_TOOL, "tool_approval"):
            meant = [call for call in made if call["id"] == fields["tool_call_id"]]
            return cls(interrupted.id, fields["type"], meant[:1], value)
        calls: list[Any] = []
        free = list(made)
        for action in fields.get("action_requests", ()):  # several at once, and without their ids
            call = next((c for c in free if (c["name"], c["args"]) == (action["name"], action["args"])), None)
            if call is not None:
                free.remove(call)
                calls.append(call)
        return cls(interrupted.id, "approvals" if calls else "question", calls, value)

    @property
    def pending(self) -> list[PendingCall]:
        """Its calls, as they wait."""
        waits_for: Any = "result" if self._kind == CLIENT_TOOL else "approval"
        return [PendingCall(call["id"], call["name"], _json(call["args"]), waits_for) for call in self.calls]

    @property
    def question(self) -> str:
        """What a graph asks for in words."""
        return self._value if isinstance(self._value, str) else _json(self._value)

    def answer(self, given: Mapping[str, Any]) -> Any:
        """What the interrupt returns."""
        if self._kind == "question":
            return given[self.interrupt]
        answers = [given[call["id"]] for call in self.calls]
        if self._kind == CLIENT_TOOL:
            return answers[0]
        decisions = [_decided(answer, call["name"]) for answer, call in zip(answers, self.calls, strict=True)]
        return {"decisions": decisions} if self._kind == "approvals" else decisions[0]


def _decided(given: Mapping[str, Any], name: str) -> dict[str, Any]:
    if not given["approved"]:
        return {"type": "reject", **({"message": given["reason"]} if given["reason"] else {})}
    if given["arguments"]:
        return {"type": "edit", "edited_action": {"name": name, "args": from_json(given["arguments"])}}
    return {"type": "approve"}


def per_request(*, parameters: frozenset[str] = PARAMETERS) -> Any:
    """A middleware for `create_agent`, by which a request's parameters, tools and `response_format` reach the model.

    `parameters` are the fields of `Sampling` that are passed on: leave out what your model does not take. Needs
    `langchain`, and a graph with a checkpointer.
    """
    base: Any = importlib.import_module("langchain.agents.middleware").AgentMiddleware
    return type("PerRequest", (_PerRequest, base), {})(parameters)


class _PerRequest:
    def __init__(self, parameters: frozenset[str]) -> None:
        super().__init__()
        self.parameters = parameters

    async def abefore_agent(self, state: Any, runtime: Any) -> None:
        """Do nothing: it makes a node, by which the backend knows that the middleware is there."""

    async def awrap_model_call(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        """Ask the model as the request says."""
        asked = _request.get()
        if asked is None:
            return await handler(request)
        given = {name: value for name, value in asked.sampling.given().items() if name in self.parameters}
        if "stop" in given:
            given["stop"] = list(given["stop"])
        changes: dict[str, Any] = {"model_settings": {**request.model_settings, **given}}
        if asked.tools:
            changes["tools"] = [*request.tools, *[_definition(tool) for tool in asked.tools]]
        wanted = asked.json_schema
        if wanted is not None:
            strategy: Any = importlib.import_module("langchain.agents.structured_output").ProviderStrategy
            changes["response_format"] = strategy({"title": wanted.name, **wanted.schema})
        return await handler(request.override(**changes))

    async def awrap_tool_call(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        """Run a tool of the agent's own; wait for the client to run one of its."""
        asked, call = _request.get(), request.tool_call
        if request.tool is not None or asked is None or call["name"] not in [tool.name for tool in asked.tools]:
            return await handler(request)
        result = interrupt({"type": CLIENT_TOOL, "tool_call_id": call["id"]})
        return lc.ToolMessage(result, name=call["name"], tool_call_id=call["id"])


def _definition(tool: Any) -> dict[str, Any]:
    schema: Any = {"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]}
    if isinstance(tool, FunctionTool):
        schema = tool.parameters or {"type": "object", "properties": {}}
    described = {"name": tool.name, "description": tool.description or "", "parameters": dict(schema)}
    return {"type": "function", "function": described}


def _several(value: Any) -> list[Any]:
    return list(cast("Any", value)) if isinstance(value, list | tuple) else [value]


def _fields(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _in_tool(namespace: Sequence[str]) -> bool:
    return any([part.startswith("tools:") for part in namespace])


def _speaks(metadata: Mapping[str, Any]) -> bool:
    return not _in_tool(metadata["namespace"])


def _messages_input(request: AgentRequest, messages: list[Any]) -> dict[str, Any]:
    return {"messages": messages}


def _last_text(values: Any) -> str:
    if values.get("structured_response") is not None:
        return _json(values["structured_response"])
    return next((message.text for message in reversed(values.get("messages", ())) if message.type == "ai"), "")


def _json(value: Any) -> str:
    return to_json(value, fallback=str).decode()


def _usage(used: Mapping[str, Any]) -> UsageReported:
    read: dict[str, int] = used.get("input_token_details") or {}
    thought: dict[str, int] = used.get("output_token_details") or {}
    return UsageReported(
        used["input_tokens"],
        used["output_tokens"],
        cached_tokens=read.get("cache_read"),
        reasoning_tokens=thought.get("reasoning"),
        cache_write_tokens=read.get("cache_creation"),
    )


def _message(message: Message) -> Any:
    match message:
        case SystemMessage():
            return lc.SystemMessage(message.text)
        case UserMessage():
            return lc.HumanMessage(_content(message.parts))
        case AssistantMessage():
            calls = [
                {"id": c.call_id, "name": c.name, "args": from_json(c.arguments or "{}")} for c in message.tool_calls
            ]
            return lc.AIMessage(message.text, tool_calls=calls)
        case ToolMessage():
            status = "error" if message.is_error else "success"
            content = _content((TextPart(message.text), *message.media)) if message.media else message.text
            return lc.ToolMessage(content, name=message.name, tool_call_id=message.call_id, status=status)


def _content(parts: Sequence[InputPart]) -> Any:
    if all([isinstance(part, TextPart) for part in parts]):
        return "\n".join([cast("TextPart", part).text for part in parts])
    return [_block(part) for part in parts]


def _block(part: InputPart) -> dict[str, Any]:
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text}
    kind = KINDS[type(part)]
    if part.content is None:
        return {"type": kind, "url": part.url if isinstance(part, ImagePart) else cast("FilePart", part).file_url}
    data = b64encode(part.content).decode()
    return {"type": kind, "base64": data, "mime_type": part.media_type or "application/pdf"}


KINDS: Mapping[type, str] = {ImagePart: "image", AudioPart: "audio", FilePart: "file"}
"""What LangChain calls our parts."""
