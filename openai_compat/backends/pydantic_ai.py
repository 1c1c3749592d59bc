"""Runs agents of Pydantic AI: `PydanticAIBackend`. Needs `openai-compat[pydantic-ai]`."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import AsyncIterator, Callable, Container, Iterator, Sequence
from typing import Any, cast

from pydantic_core import from_json, to_json

from ..agent_request import AgentRequest, Decision, FunctionTool, JsonSchema
from ..backend import Capabilities, RunContext
from ..errors import InvalidRequest
from ..events import (
    AgentEvent,
    Executor,
    Finished,
    MediaDelta,
    PendingCall,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    ToolCallReady,
    ToolCallStarted,
    ToolResult,
    UsageReported,
)
from ..messages import AssistantMessage, FilePart, ImagePart, InputPart, TextPart, UserMessage, UserTurn
from ..package import needs
from .paused_run import PausedRun

__all__ = ("PydanticAIBackend",)

# Untyped: type checking would need the framework installed. Tests run against its real versions.
with needs(__name__, "pydantic-ai"):
    ai: Any = importlib.import_module("pydantic_ai")
    Saved: Any = importlib.import_module("pydantic_ai.conversation").ConversationTypeAdapter
    ReinjectSystemPrompt: Any = importlib.import_module("pydantic_ai.capabilities").ReinjectSystemPrompt

SETTINGS = {
    "temperature": "temperature",
    "top_p": "top_p",
    "max_tokens": "max_tokens",
    "stop": "stop_sequences",
    "seed": "seed",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
    "logit_bias": "logit_bias",
    "reasoning_effort": "thinking",
}
"""Pydantic AI's name for each parameter that is passed on."""


TOOL_CONFLICT = "conflicts with existing tool"
"""Pydantic AI's error text for two tools of the same name."""


class PydanticAIBackend:
    """Runs an agent of Pydantic AI for each turn; one agent runs many turns concurrently.

    Args:
        agent: the agent.
        deps: makes the dependencies of a turn; may be a coroutine function.
        usage_limits: `UsageLimits` of a turn. Reaching a limit ends the answer with "length".
        output: converts an output that is not text to text; JSON by default.
    """

    def __init__(
        self,
        agent: Any,
        *,
        deps: Callable[[AgentRequest], Any] | None = None,
        usage_limits: Any = None,
        output: Callable[[Any], str] | None = None,
    ) -> None:
        self._agent = agent
        self._deps = deps
        self._limits = usage_limits
        self._output_to_text = output or _to_json
        own: Any = agent.output_type
        self._outputs: list[Any] = [*own] if isinstance(own, Sequence) else [own]
        # An agent with output validators accepts no other output type, not even for one turn.
        self._has_fixed_output = bool(getattr(agent, "_output_validators", ()))
        pauses = not self._has_fixed_output or ai.DeferredToolRequests in self._outputs
        self.capabilities = Capabilities(
            client_tools=pauses,
            approvals="edit" if pauses else "none",
            structured_output=not self._has_fixed_output,
            counts_tokens=True,
            keeps_state=True,
            parameters=frozenset(SETTINGS),
            own_tools=frozenset([name for toolset in agent.toolsets for name in _tool_names(toolset)]),
        )

    async def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[AgentEvent | str]:
        """Run the agent, and yield its events."""
        paused = PausedRun.from_resume(request.resume, can_close=True)
        if paused is not None and paused.open_calls:
            yield paused.pause_event
            return
        conversation: Any = Saved.validate_python(paused.saved) if paused is not None else None
        deps = self._deps(request) if self._deps is not None else None
        run = self._agent.run_stream_events(
            **(_history_and_prompt(request) if paused is None else _resume_arguments(paused, conversation, request)),
            deps=await deps if inspect.isawaitable(deps) else deps,
            output_type=self._output_type(request),
            toolsets=[ai.ExternalToolset([_tool_definition(tool) for tool in request.tools])],
            model_settings=_model_settings(request),
            instructions=request.system or None,
            usage_limits=self._limits,
            # Pydantic AI expects a history to begin with the agent's system prompts, and does not add them.
            capabilities=[ReinjectSystemPrompt()],
        )
        client_call_ids: Container[str] = request.resume.results if request.resume is not None else ()
        translator = _PydanticAITranslator(self._outputs, self._output_to_text, client_call_ids)
        try:
            async with run as events:
                async for event in events:
                    for item in translator.translate(event):
                        yield item
        except ai.UsageLimitExceeded:
            yield Finished("length")
            return
        except ai.UserError as error:
            # With a tool known only at run time, such as an MCP server's.
            if request.tools and TOOL_CONFLICT in str(error):
                text = "The agent has a tool of that name itself: give yours another name."
                raise InvalidRequest(text, param="tools", code="tool_name_taken") from error
            raise
        result = translator.result
        used = _usage(result.usage)
        yield used if paused is None else used.since(_usage(conversation.usage))
        if isinstance(result.output, ai.DeferredToolRequests):
            approvals = [_to_pending_call(part, "approval") for part in result.output.approvals]
            pending = (*approvals, *[_to_pending_call(part) for part in result.output.calls])
            yield PausedRun(Saved.dump_python(result.conversation, mode="json"), pending).pause_event
        elif result.response.finish_reason in ("length", "content_filter"):
            yield Finished(result.response.finish_reason)

    def _output_type(self, request: AgentRequest) -> Any:
        if self._has_fixed_output:
            return None
        outputs = self._outputs
        if request.response_format is not None:
            wanted = request.json_schema or JsonSchema("answer", {"type": "object"}, strict=False)
            outputs = [ai.StructuredDict(dict(wanted.schema), name=wanted.name)]
        return [*outputs, *({ai.DeferredToolRequests} - {*outputs})]


class _PydanticAITranslator:
    """Translates Pydantic AI's events."""

    def __init__(
        self, outputs: Sequence[Any], output_to_text: Callable[[Any], str], client_call_ids: Container[str]
    ) -> None:
        self._client_call_ids = client_call_ids  # ids of client calls, whose results the resumed run repeats
        self._hidden = {output.name for output in outputs if isinstance(output, ai.ToolOutput)}
        self._output_to_text = output_to_text
        self._calls: dict[int, str] = {}  # call ids by part index in the model's answer
        self._is_text = True
        self.result: Any = None

    def translate(self, event: Any) -> Iterator[AgentEvent]:
        match event.event_kind:
            case "part_start":
                self._calls.pop(event.index, None)
                yield from self._on_part_start(event.index, event.part)
            case "part_delta":
                yield from self._on_part_delta(event.index, event.delta)
            case "part_end" if event.part.part_kind == "builtin-tool-call":
                yield _to_call_ready(event.part, "agent")
            case "function_tool_call" | "function_tool_result" if event.part.tool_call_id in self._client_call_ids:
                pass
            case "function_tool_call":
                yield _to_call_ready(event.part)
            case "function_tool_result":
                yield _to_tool_result(event.part)
            case "output_tool_call":
                self._is_text = False
            case "agent_run_result":
                self.result = event.result
                if not self._is_text and not isinstance(event.result.output, ai.DeferredToolRequests):
                    yield TextDelta(self._output_to_text(event.result.output))
            case _:
                pass

    def _on_part_start(self, index: int, part: Any) -> Iterator[AgentEvent]:
        match part.part_kind:
            case "text":
                yield TextDelta(part.content)
            case "thinking":
                yield ReasoningDelta(part.content)
            case "file":
                yield MediaDelta(part.content.data, part.content.media_type)
            case "builtin-tool-return":
                yield _to_tool_result(part)
            case "tool-call" if part.tool_name.startswith("final_result") or part.tool_name in self._hidden:
                pass  # the output, not a tool call
            case "tool-call" | "builtin-tool-call":
                self._calls[index] = part.tool_call_id
                executor: Executor | None = None if part.part_kind == "tool-call" else "agent"
                yield ToolCallStarted(part.tool_call_id, part.tool_name, executor)
                if isinstance(part.args, str):
                    yield ToolCallDelta(part.tool_call_id, part.args)
            case _:
                pass

    def _on_part_delta(self, index: int, delta: Any) -> Iterator[AgentEvent]:
        match delta.part_delta_kind:
            case "text":
                yield TextDelta(delta.content_delta)
            case "thinking" if delta.content_delta:
                yield ReasoningDelta(delta.content_delta)
            case "tool_call" if index in self._calls and isinstance(delta.args_delta, str):
                yield ToolCallDelta(self._calls[index], delta.args_delta)
            case _:
                pass


def _resume_arguments(paused: PausedRun, conversation: Any, request: AgentRequest) -> dict[str, Any]:
    """The arguments that resume the run."""
    is_superseded = request.resume is not None and request.resume.superseded
    prompt = _to_content(cast("UserMessage", request.messages[-1]).parts) if is_superseded else None
    approvals = {call_id: _to_approval(decision) for call_id, decision in paused.decisions.items()}
    results = {
        call_id: ai.ToolReturn(result.text, content=_to_content(result.media)) if result.media else result.text
        for call_id, result in paused.results.items()
    }
    answers = ai.DeferredToolResults(calls=results, approvals=approvals)
    return {"conversation": conversation, "deferred_tool_results": answers, "user_prompt": prompt}


def _tool_names(toolset: Any) -> Iterator[str]:
    """The tool names of a toolset that are known before a run: those of function toolsets, wrapped or not."""
    if isinstance(toolset, ai.FunctionToolset):
        yield from toolset.tools
    for inner in getattr(toolset, "toolsets", ()):
        yield from _tool_names(inner)
    if isinstance(toolset, ai.WrapperToolset):
        prefix, renamed = getattr(toolset, "prefix", ""), getattr(toolset, "name_map", {})
        new = {old: name for name, old in renamed.items()}
        for name in _tool_names(toolset.wrapped):
            yield f"{prefix}_{name}" if prefix else new.get(name, name)


def _to_approval(decision: Decision) -> Any:
    if not decision.approved:
        return ai.ToolDenied(decision.reason or ai.ToolDenied().message)
    return ai.ToolApproved(override_args=from_json(decision.arguments) if decision.arguments else None)


def _to_pending_call(part: Any, waits_for: Any = "result") -> PendingCall:
    return PendingCall(part.tool_call_id, part.tool_name, _arguments_text(part), waits_for)


def _to_call_ready(part: Any, executor: Executor | None = None) -> ToolCallReady:
    return ToolCallReady(part.tool_call_id, part.tool_name, _arguments_text(part), executor)


def _arguments_text(part: Any) -> str:
    # Verbatim: `args_as_json_str` serializes again, so its text may differ from the streamed deltas.
    return part.args if isinstance(part.args, str) and part.args else part.args_as_json_str()


def _to_tool_result(part: Any) -> ToolResult:
    if isinstance(part, ai.RetryPromptPart):
        return ToolResult(part.tool_call_id, part.model_response(), is_error=True)
    text = part.model_response_str()
    return ToolResult(part.tool_call_id, text, is_error=part.outcome == "failed", denied=part.outcome == "denied")


def _to_json(value: Any) -> str:
    return to_json(value).decode()


def _usage(used: Any) -> UsageReported:
    return UsageReported(
        used.input_tokens,
        used.output_tokens,
        cached_tokens=used.cache_read_tokens,
        reasoning_tokens=used.output_reasoning_tokens,
        cache_write_tokens=used.cache_write_tokens,
    )


def _tool_definition(tool: Any) -> Any:
    return ai.ToolDefinition(
        name=tool.name,
        parameters_json_schema=tool.input_schema,
        description=tool.description,
        strict=tool.strict if isinstance(tool, FunctionTool) else None,
    )


def _model_settings(request: AgentRequest) -> dict[str, Any]:
    given = request.sampling.given()
    settings = {SETTINGS[name]: value for name, value in given.items() if name in SETTINGS}
    if settings.get("thinking") == "none":
        settings["thinking"] = False
    if request.tools and not request.parallel_tool_calls:
        settings["parallel_tool_calls"] = False
    return settings


def _history_and_prompt(request: AgentRequest) -> dict[str, Any]:
    """The conversation history, and the last message as prompt if it is the user's."""
    turns, prompt = request.turns, None
    if turns and isinstance(last := turns[-1], UserTurn) and last.parts and not last.results:
        turns, prompt = turns[:-1], _to_content(last.parts)
    return {"message_history": [_to_model_message(turn) for turn in turns], "user_prompt": prompt}


def _to_model_message(turn: UserTurn | AssistantMessage) -> Any:
    if isinstance(turn, AssistantMessage):
        parts = [ai.ThinkingPart(turn.reasoning)] if turn.reasoning else []
        parts += [ai.TextPart(turn.text)] if turn.text else []
        return ai.ModelResponse([*parts, *[ai.ToolCallPart(c.name, c.arguments, c.call_id) for c in turn.tool_calls]])
    results: list[Any] = []
    for result in turn.results:
        content = [result.text, *_to_content(result.media)] if result.media else result.text
        outcome = "failed" if result.is_error else "success"
        results.append(ai.ToolReturnPart(result.name, content, result.call_id, outcome=outcome))
    # Results first: model APIs refuse other content between a call and its result.
    prompt = [ai.UserPromptPart(_to_content(turn.parts))] if turn.parts else []
    return ai.ModelRequest([*results, *prompt])


def _to_content(parts: Sequence[InputPart]) -> list[Any]:
    return [_to_content_item(part) for part in parts]


def _to_content_item(part: InputPart) -> Any:
    if isinstance(part, TextPart):
        return part.text
    if part.content is not None:
        return ai.BinaryContent(data=part.content, media_type=part.media_type or "application/pdf")
    return ai.ImageUrl(part.url) if isinstance(part, ImagePart) else ai.DocumentUrl(cast("FilePart", part).file_url)
