"""Runs agents of LlamaIndex: `LlamaIndexBackend`. Needs `openai-compat[llama-index]`."""

from __future__ import annotations

import asyncio
import copy
import importlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any, cast

from pydantic_core import to_json

from ..agent_request import AgentRequest, Tool
from ..backend import Capabilities, RunContext
from ..events import (
    AgentEvent,
    Finished,
    Progress,
    ReasoningDelta,
    TextDelta,
    ToolCallReady,
    ToolResult,
    UsageReported,
)
from ..messages import AssistantMessage, AudioPart, ImagePart, InputPart, TextPart, UserTurn
from ..package import needs

__all__ = ("LlamaIndexBackend",)

# Untyped: type checking would need the framework installed. Tests run against its real versions.
with needs(__name__, "llama-index"):
    core: Any = importlib.import_module("llama_index.core.agent.workflow")
    llms: Any = importlib.import_module("llama_index.core.base.llms.types")
    tools: Any = importlib.import_module("llama_index.core.tools")
    workflow: Any = importlib.import_module("llama_index.core.workflow")

HANDOFF = "handoff"
"""The tool with which one agent of an `AgentWorkflow` hands over to another."""


class LlamaIndexBackend:
    """Runs an agent of LlamaIndex for each turn; one agent runs many turns concurrently.

    A tool that waits for a `HumanResponseEvent` requests an approval: the turn ends with the question, and the run waits for
    the decision (see `RunContext.approve`). The tool gets the fields of its `InputRequiredEvent` back, with a `response` of
    "yes", the reason of a denial, or "no".

    Args:
        agent: a `FunctionAgent`, another agent, or an `AgentWorkflow`.
        run: makes further arguments of the agent's `run` for a turn, such as `max_iterations` or `memory`.
        output: converts a structured output to text; JSON by default.
    """

    def __init__(
        self,
        agent: Any,
        *,
        run: Callable[[AgentRequest], Mapping[str, Any]] | None = None,
        output: Callable[[Any], str] | None = None,
    ) -> None:
        self._agent = agent
        self._run = run
        self._output_to_text = output or _to_json
        self._agents: dict[str, Any] = getattr(agent, "agents", None) or {agent.name: agent}
        own = [tool.metadata.get_name() for each in self._agents.values() for tool in each.tools or ()]
        self.capabilities = Capabilities(
            client_tools=isinstance(agent, core.FunctionAgent),
            approvals="yes_no",
            structured_output=False,
            parameters=frozenset(),
            own_tools=frozenset([*own, HANDOFF]),
        )

    async def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[AgentEvent]:
        """Run the agent, and yield its events."""
        agent = self._agent
        if request.tools:
            agent = copy.copy(agent)
            agent.tools = [*(agent.tools or ()), *[_client_tool(tool, context) for tool in request.tools]]
        more: Mapping[str, Any] = self._run(request) if self._run is not None else {}
        handler = agent.run(**_history_and_message(request), **more)
        translator = _LlamaIndexTranslator(self._agents, {tool.name for tool in request.tools})
        try:
            async for event in handler.stream_events():
                for item in translator.translate(event):
                    yield item
                asking = [
                    translator.request_approval(context, handler, call, question)
                    for call, question in translator.take_questions()
                ]
                await asyncio.gather(*asking)
            result = await handler
        except workflow.WorkflowRuntimeError as error:
            if not str(error).startswith("Max iterations"):
                raise
            yield Finished("length")
            return
        finally:
            if not handler.is_done():
                await handler.cancel_run()
        for item in translator.end(result, self._output_to_text):
            yield item


class _LlamaIndexTranslator:
    """Translates LlamaIndex's events, and requests the approvals."""

    def __init__(self, agents: Mapping[str, Any], client_tools: set[str]) -> None:
        self._streams = {name for name, agent in agents.items() if isinstance(agent, core.FunctionAgent)}
        self._hidden = {*client_tools, HANDOFF}  # `call_client_tool` sends the client's calls
        self._open_calls: dict[str, Any] = {}
        self._open_questions: dict[str, Any] = {}  # open questions, by call id
        self._resumed_calls: set[str] = set()  # calls that were sent in an earlier turn
        self._denied_calls: set[str] = set()
        self._ended_calls: set[str] = set()
        self._has_sent_text = False  # True if this step has sent text
        self._has_answer = False

    def translate(self, event: Any) -> Iterator[AgentEvent]:
        if isinstance(event, core.AgentStream):
            yield from self._translate_stream(event)
        elif isinstance(event, core.AgentOutput):
            yield from self._translate_output(event)
        elif isinstance(event, workflow.InputRequiredEvent):
            self._open_questions[self._asking_call_id(event)] = event
        elif isinstance(event, core.ToolCall | core.ToolCallResult):
            if event.tool_name not in self._hidden:
                yield from (
                    [_to_call_ready(event)] if isinstance(event, core.ToolCall) else self._translate_result(event)
                )
            elif event.tool_name == HANDOFF and isinstance(event, core.ToolCall):
                other = str(event.tool_kwargs.get("to_agent"))
                yield Progress("agent", other, other, done=True)

    def _translate_stream(self, event: Any) -> Iterator[AgentEvent]:
        if getattr(event, "thinking_delta", None):
            yield ReasoningDelta(event.thinking_delta)
        if event.delta:
            # The text of other agents, such as a ReActAgent, is their format for thoughts and actions.
            speaks = event.current_agent_name in self._streams
            self._has_sent_text = self._has_sent_text or speaks
            yield TextDelta(event.delta) if speaks else ReasoningDelta(event.delta)

    def _translate_output(self, event: Any) -> Iterator[AgentEvent]:
        used = _usage(event.raw)
        if used is not None:
            yield used
        if event.current_agent_name in self._streams and not self._has_sent_text and event.response.content:
            yield TextDelta(event.response.content)
        self._has_answer = bool(self._has_sent_text or event.response.content)
        self._has_sent_text = False
        # The last output of a run repeats all calls of the run.
        calls = [call for call in event.tool_calls if call.tool_id not in self._ended_calls]
        self._open_calls |= {call.tool_id: call for call in calls if call.tool_name not in self._hidden}

    def _translate_result(self, event: Any) -> Iterator[AgentEvent]:
        self._open_calls.pop(event.tool_id, None)
        self._ended_calls.add(event.tool_id)
        self._has_answer = self._has_answer and not event.return_direct
        if event.tool_id in self._resumed_calls:
            yield _to_call_ready(event)
        output = event.tool_output
        denied = event.tool_id in self._denied_calls
        yield ToolResult(event.tool_id, output.content, is_error=output.is_error, denied=denied)

    def _asking_call_id(self, event: Any) -> str:
        """The id of the call that asks: if several calls run, the one with matching arguments."""
        fields = event.model_dump()
        waiting = [call for call in self._open_calls.values() if call.tool_id not in self._open_questions]
        fits = [call for call in waiting if call.tool_kwargs.items() <= fields.items()]
        one = fits[0] if fits else waiting[0] if waiting else None
        return one.tool_id if one is not None else f"question {len(self._open_questions)}"

    def take_questions(self) -> list[tuple[Any, Any]]:
        """The questions to ask now, each with its call; empty until every running tool has asked or ended."""
        if not self._open_questions or self._open_calls.keys() - self._open_questions.keys():
            return []
        questions, self._open_questions = self._open_questions, {}
        self._resumed_calls |= self._open_calls.keys()
        return [(self._open_calls.get(call_id), event) for call_id, event in questions.items()]

    async def request_approval(self, context: RunContext, handler: Any, call: Any, event: Any) -> None:
        """Get a decision, and pass the response on to the run."""
        fields = event.model_dump()
        if call is None:
            decision = await context.approve("input_required", _to_json(fields))
        else:
            decision = await context.approve(call.tool_name, _to_json(call.tool_kwargs))
            self._denied_calls |= set() if decision.approved else {call.tool_id}
        if context.cancelled:
            return  # stop, instead of continuing with a denial
        response = "yes" if decision.approved else decision.reason or "no"
        handler.ctx.send_event(workflow.HumanResponseEvent(**{**fields, "response": response}))

    def end(self, result: Any, output_to_text: Callable[[Any], str]) -> Iterator[AgentEvent]:
        """The text of the result, unless earlier events have sent it."""
        structured = getattr(result, "structured_response", None)
        if structured is not None:
            yield TextDelta(output_to_text(structured))
        elif not self._has_answer or result.current_agent_name not in self._streams:
            yield TextDelta(str(result))


def _client_tool(tool: Tool, context: RunContext) -> Any:
    async def call(**arguments: Any) -> str:
        return (await context.call_client_tool(tool.name, _to_json(arguments))).text

    metadata = tools.ToolMetadata(name=tool.name, description=tool.description or "")
    metadata.get_parameters_dict = lambda: tool.input_schema  # the client's schema, instead of one made from a class
    return tools.FunctionTool(async_fn=call, metadata=metadata)


def _to_call_ready(call: Any) -> ToolCallReady:
    return ToolCallReady(call.tool_id, call.tool_name, _to_json(call.tool_kwargs), "agent")


def _to_json(value: Any) -> str:
    return to_json(value, inf_nan_mode="null", fallback=str).decode()


def _usage(raw: Any) -> UsageReported | None:
    """The token usage of a model's response, in the format of OpenAI (and compatible APIs) or Anthropic."""
    used = _fields(_fields(raw).get("usage"))
    if not used:
        return None
    read, written = used.get("cache_read_input_tokens") or 0, used.get("cache_creation_input_tokens") or 0
    prompt, completion = _fields(used.get("prompt_tokens_details")), _fields(used.get("completion_tokens_details"))
    return UsageReported(
        used.get("prompt_tokens") or (used.get("input_tokens") or 0) + read + written,
        used.get("completion_tokens") or used.get("output_tokens") or 0,
        cached_tokens=prompt.get("cached_tokens", read or None),
        reasoning_tokens=completion.get("reasoning_tokens"),
        cache_write_tokens=written or None,
    )


def _fields(value: Any) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value if isinstance(value, Mapping) else getattr(value, "__dict__", {}))


def _history_and_message(request: AgentRequest) -> dict[str, Any]:
    """The conversation history, and the last message apart if it is the user's."""
    turns, message = request.turns, None
    if turns and isinstance(last := turns[-1], UserTurn) and last.parts and not last.results:
        turns, message = turns[:-1], llms.ChatMessage(role="user", blocks=_to_blocks(last.parts))
    system = [llms.ChatMessage(role="system", content=request.system)] if request.system else []
    return {"chat_history": [*system, *[each for turn in turns for each in _to_messages(turn)]], "user_msg": message}


def _to_messages(turn: UserTurn | AssistantMessage) -> Iterator[Any]:
    if isinstance(turn, AssistantMessage):
        blocks = [llms.TextBlock(text=turn.text)] if turn.text else []
        calls = [
            llms.ToolCallBlock(tool_call_id=call.call_id, tool_name=call.name, tool_kwargs=call.arguments)
            for call in turn.tool_calls
        ]
        yield llms.ChatMessage(role="assistant", blocks=[*blocks, *calls])
        return
    for result in turn.results:
        blocks = [llms.TextBlock(text=result.text), *_to_blocks(result.media)]
        yield llms.ChatMessage(role="tool", blocks=blocks, additional_kwargs={"tool_call_id": result.call_id})
    if turn.parts:
        yield llms.ChatMessage(role="user", blocks=_to_blocks(turn.parts))


def _to_blocks(parts: Sequence[InputPart]) -> list[Any]:
    return [_to_block(part) for part in parts]


def _to_block(part: InputPart) -> Any:
    match part:
        case TextPart(text=text):
            return llms.TextBlock(text=text)
        case ImagePart(url=url) if part.content is None:
            return llms.ImageBlock(url=url)
        case ImagePart():
            return llms.ImageBlock(image=part.content, image_mimetype=part.media_type)
        case AudioPart(format=form):
            return llms.AudioBlock(audio=part.content, format=form)
        case _ if part.content is None:
            return llms.DocumentBlock(url=part.file_url, title=part.filename)
        case _:
            return llms.DocumentBlock(data=part.content, title=part.filename, document_mimetype=part.media_type)
