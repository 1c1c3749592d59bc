"""Runs a graph for each turn."""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from ...agent_request import AgentRequest, Resume
from ...backend import Capabilities, RunContext
from ...events import (
    AgentEvent,
    Finished,
    Progress,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    ToolCallReady,
    ToolCallStarted,
    ToolResult,
)
from .content import as_dict, as_list, json_text, lc, to_usage
from .middleware import current_request
from .session import GraphSession

GraphRecursionError: Any = importlib.import_module("langgraph.errors").GraphRecursionError


class LangGraphBackend:
    """Runs a compiled graph for each turn; one graph runs many turns concurrently.

    A graph with a checkpointer continues a conversation from the last turn's checkpoint. A graph without one gets the
    whole conversation each time, and cannot pause.

    Args:
        graph: the compiled graph, from `create_agent` or `StateGraph.compile`.
        input: makes the graph's input from a request and its new messages (in LangChain's format); `{"messages": …}` by
            default.
        output: makes the answer from the graph's last state, if no model and no node has sent text.
        context: makes the `context` of a turn.
        recursion_limit: maximum number of steps of a turn. Reaching the limit ends the answer with "length".
        speaks: returns True, by the metadata of a message, if the client may see the message. By default, agents inside
            tools are hidden.

    Raises TypeError for a graph without a checkpointer that asks for approval or accepts client tools.
    """

    def __init__(
        self,
        graph: Any,
        *,
        input: Callable[[AgentRequest, list[Any]], Any] | None = None,
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
        self._speaks = speaks or _is_outside_tools
        self._saver: Any = graph.checkpointer if hasattr(graph.checkpointer, "adelete_thread") else None
        bound = {name: getattr(node, "bound", None) for name, node in graph.nodes.items()}
        for name in bound:
            if self._saver is None and name.startswith(("HumanInTheLoopMiddleware.", "PerRequest.")):
                raise TypeError(f"{name.partition('.')[0]} pauses the graph: compile it with a checkpointer")
        middleware: Any = next((node for name, node in bound.items() if name.startswith("PerRequest.")), None)
        self.capabilities = Capabilities(
            client_tools=middleware is not None,
            structured_output=middleware is not None,
            counts_tokens=middleware is not None,
            parameters=frozenset[str]() if middleware is None else middleware.afunc.__self__.parameters,
            approvals="edit" if self._saver is not None else "none",
            keeps_state=self._saver is not None,
            own_tools=frozenset([name for node in bound.values() for name in getattr(node, "tools_by_name", ())]),
        )

    async def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[AgentEvent | str]:
        """Run the graph, and yield the events of its models and nodes."""
        current_request.set(request)
        session = GraphSession(self._graph, self._saver)
        answers = await session.open(request)
        if answers is not None and (waiting := session.pending_calls(answers)):
            yield session.pause_event(waiting, answers)
            return
        streamed = self._graph.astream(
            session.resume_command(answers) if answers is not None else self._input(request, session.new_messages),
            {**session.run_config, **self._limit},
            context=None if self._context is None else self._context(request),
            stream_mode=["messages", "updates", "custom"],
            subgraphs=True,  # otherwise only the outermost graph streams, which may be a silent supervisor
        )
        for ready in session.decided_calls(answers):
            yield ready
        translator = Translator(self._speaks, request.resume)
        try:
            async with aclosing(streamed):
                async for namespace, mode, data in streamed:
                    for item in translator.translate(namespace, mode, data):
                        yield item
        # The operator's limit cuts the answer; reaching the limit is no failure.
        except GraphRecursionError:
            await session.discard()
            yield Finished("length")
            return
        except BaseException:  # a failed or cancelled turn leaves nothing behind
            await session.discard()
            raise
        snapshot = await session.read_final_state(translator.values)
        if not translator.has_sent_text and not session.questions:
            yield TextDelta(self._output(snapshot))
        async for item in session.end(request, translator.reason):
            yield item

    async def forget(self, state: Mapping[str, Any]) -> None:
        """Delete the thread that a state names."""
        if self._saver is not None:
            await self._saver.adelete_thread(state["thread"])


class Translator:
    """Translates the stream of a graph to events."""

    def __init__(self, speaks: Callable[[Mapping[str, Any]], bool], resume: Resume | None) -> None:
        self._speaks = speaks
        self._resume = resume or Resume({})
        self._started_calls: dict[tuple[str, Any], str] = {}
        self._ready_calls: set[str] = {*self._resume.results, *self._resume.decisions}
        self.has_sent_text = False
        self.reason = "stop"
        self.values: dict[str, Any] = {}

    def translate(self, namespace: tuple[str, ...], mode: str, data: Any) -> Iterator[AgentEvent]:
        """The events for one item of the stream; none for a hidden item."""
        if mode == "custom":
            text = data if isinstance(data, str) else json_text(data)
            yield Progress("step", "custom", text, done=True)
        elif mode == "messages":
            message, metadata = data
            yield from self._translate_message(message, is_visible=self._speaks({**metadata, "namespace": namespace}))
        # Hide the states and calls of agents inside tools.
        elif not _is_in_tool(namespace):
            for update in data.values():
                yield from self._translate_update(update)

    def _translate_message(self, message: Any, *, is_visible: bool) -> Iterator[AgentEvent]:
        if isinstance(message, lc.ToolMessage):
            if is_visible and message.tool_call_id not in self._resume.results:
                denied = not self._resume.may_run(message.tool_call_id)
                yield ToolResult(message.tool_call_id, message.text, is_error=message.status == "error", denied=denied)
            return
        if not isinstance(message, lc.AIMessage):
            return
        # Hidden messages too: their tokens were used.
        if message.usage_metadata:
            yield to_usage(message.usage_metadata)
        if is_visible:
            yield from self._translate_text_and_calls(message)

    def _translate_text_and_calls(self, message: Any) -> Iterator[AgentEvent]:
        metadata = message.response_metadata
        if (metadata.get("finish_reason") or metadata.get("stop_reason")) in ("length", "max_tokens"):
            self.reason = "length"
        for block in _blocks(message):
            if block["type"] == "text" and block["text"]:
                self.has_sent_text = True
                yield TextDelta(block["text"])
            elif block["type"] == "reasoning" and block.get("reasoning"):
                yield ReasoningDelta(block["reasoning"])
        for chunk in getattr(message, "tool_call_chunks", ()):
            # Only the first chunk has id and name; the index assigns the other chunks to their call.
            key = (message.id, chunk["index"])
            if chunk["id"] and chunk["name"]:
                self._started_calls[key] = chunk["id"]
                yield ToolCallStarted(chunk["id"], chunk["name"])
            if chunk["args"] and key in self._started_calls:
                yield ToolCallDelta(self._started_calls[key], chunk["args"])

    def _translate_update(self, update: Any) -> Iterator[AgentEvent]:
        for part in map(as_dict, as_list(update)):
            self.values |= part
            for message in as_list(part.get("messages", ())):
                for call in getattr(message, "tool_calls", ()):
                    if call["id"] not in self._ready_calls:
                        self._ready_calls.add(call["id"])
                        yield ToolCallReady(call["id"], call["name"], json_text(call["args"]))


def _blocks(message: Any) -> list[dict[str, Any]]:
    content = message.content
    # LangChain takes 8 µs to make a block of plain text; it makes the other blocks from `additional_kwargs`.
    if isinstance(content, str) and not message.additional_kwargs:
        return [{"type": "text", "text": content}]
    return list(message.content_blocks)


def _is_in_tool(namespace: Sequence[str]) -> bool:
    return any([part.startswith("tools:") for part in namespace])


def _is_outside_tools(metadata: Mapping[str, Any]) -> bool:
    return not _is_in_tool(metadata["namespace"])


def _messages_input(request: AgentRequest, messages: list[Any]) -> dict[str, Any]:
    return {"messages": messages}


def _last_text(values: Any) -> str:
    if values.get("structured_response") is not None:
        return json_text(values["structured_response"])
    return next((message.text for message in reversed(values.get("messages", ())) if message.type == "ai"), "")
