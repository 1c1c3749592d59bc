"""Runs agents of Agno: `AgnoBackend`. Needs `openai-compat[agno]`."""

from __future__ import annotations

import copy
import importlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any, cast

from pydantic_core import to_json

from ..agent_request import AgentRequest, FunctionTool, JsonSchema, Resume, Tool
from ..backend import Capabilities, RunContext
from ..errors import InvalidRequest
from ..events import (
    AgentEvent,
    Finished,
    Paused,
    PendingCall,
    ReasoningDelta,
    TextDelta,
    ToolCallReady,
    ToolResult,
    UsageReported,
)
from ..messages import AssistantMessage, AudioPart, ImagePart, InputPart, TextPart, UserTurn
from ..package import needs

__all__ = ("AgnoBackend",)

# Untyped: type checking would need the framework installed. Tests run against its real versions.
with needs(__name__, "agno"):
    media: Any = importlib.import_module("agno.media")
    Message: Any = importlib.import_module("agno.models.message").Message
    RunOutput: Any = importlib.import_module("agno.run.agent").RunOutput
    Function: Any = importlib.import_module("agno.tools.function").Function
    Toolkit: Any = importlib.import_module("agno.tools").Toolkit

SETTINGS = ("temperature", "top_p", "max_tokens", "seed", "frequency_penalty", "presence_penalty", "reasoning_effort")
"""The parameters that are set on a model if it has an attribute of the same name."""

GUARDRAIL_ERRORS = ("input_check_error", "output_check_error")
"""The error types with which guardrails end a run."""


class AgnoBackend:
    """Runs an agent of Agno for each turn; one agent runs many turns concurrently.

    An agent with a database stores sessions and memories there, by principal id and `AgentRequest.session_key`. The
    conversation history always comes from the server.

    Args:
        agent: the agent.
        run: makes further arguments of `arun` for a turn, such as `dependencies` or `metadata`.
    """

    def __init__(self, agent: Any, *, run: Callable[[AgentRequest], Mapping[str, Any]] | None = None) -> None:
        self._agent = agent
        self._run = run
        has_list = not callable(agent.tools)
        self.capabilities = Capabilities(
            client_tools=has_list,
            counts_tokens=hasattr(agent.model, "max_tokens"),
            keeps_state=True,
            own_tools=frozenset(_tool_names(agent.tools or ()) if has_list else ()),
            parameters=frozenset([name for name in SETTINGS if hasattr(agent.model, name)]),
        )

    async def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[AgentEvent]:
        """Run the agent, and yield its events."""
        # Agno reports a failed run only as text; the model's exception says if and when to retry.
        agent, failures = self._copy_for_request(request)
        more: dict[str, Any] = {"stream": True, "stream_events": True, "yield_run_output": True}
        more["user_id"] = request.principal.id
        more |= self._run(request) if self._run is not None else {}
        resume = request.resume
        if resume is None or resume.state is None or resume.superseded:
            session = request.session_key or context.turn_id
            messages = [Message(role="system", content=request.system)] if request.system else []
            messages += [message for turn in request.turns for message in _turn_messages(turn)]
            run = agent.arun(messages, **{"session_id": session, **_output_schema(request), **more})
        else:
            # A copy: resuming changes the state, and a repeated decision needs the original.
            paused = RunOutput.from_dict(copy.deepcopy(dict(resume.state)))
            for denied in _apply_decisions(paused, resume):
                yield denied
            if _pending_calls(paused):
                yield _pause_event(paused)
                return
            run = agent.acontinue_run(paused, **more)
        translator = _AgnoTranslator({tool.name for tool in request.tools})
        async for event in run:
            if isinstance(event, RunOutput):  # the last item: the state of the run
                if event.is_paused:
                    yield _pause_event(event)
            elif event.event == "RunError":
                if event.error_type not in GUARDRAIL_ERRORS:
                    raise failures[-1] if failures else RuntimeError(f"the run has failed: {event.content}")
                yield Finished("content_filter")
                return
            else:
                for item in translator.translate(event):
                    yield item

    def _copy_for_request(self, request: AgentRequest) -> tuple[Any, list[Exception]]:
        """A copy of the agent with the request's settings, and a list that will collect the exceptions of its model."""
        # Copies: all turns share the agent and its model, whose attributes are the settings.
        agent, model = copy.copy(self._agent), copy.copy(self._agent.model)
        agent.model, agent.add_history_to_context, failures = model, False, list[Exception]()
        if request.tools:
            agent.tools = [*(agent.tools or ()), *map(_client_tool, request.tools)]
        if request.tool_choice.required:
            [*names] = request.tool_choice.names
            chosen: Any = {"type": "function", "function": {"name": names[0]}}
            agent.tool_choice = chosen if len(names) == 1 else "required"
        for name, value in request.sampling.given().items():
            if name in SETTINGS and hasattr(model, name):
                setattr(model, name, value)
        _record_failures(model, failures)
        return agent, failures


def _record_failures(model: Any, failures: list[Exception]) -> None:
    """Append the model's exceptions to `failures`."""
    stream: Callable[..., AsyncIterator[Any]] = model.ainvoke_stream
    whole: Callable[..., Awaitable[Any]] = model.ainvoke

    async def recording_stream(*args: Any, **more: Any) -> AsyncIterator[Any]:
        try:
            async for piece in stream(*args, **more):
                yield piece
        except Exception as error:
            failures.append(error)
            raise

    async def recording_call(*args: Any, **more: Any) -> Any:
        try:
            return await whole(*args, **more)
        except Exception as error:
            failures.append(error)
            raise

    model.ainvoke_stream, model.ainvoke = recording_stream, recording_call


class _AgnoTranslator:
    def __init__(self, client_tools: set[str]) -> None:
        self._client_tools = client_tools
        self._has_sent_text = False

    def translate(self, event: Any) -> Iterator[AgentEvent]:
        match event.event:
            case "RunContent":
                if event.reasoning_content:
                    yield ReasoningDelta(event.reasoning_content)
                if event.content and isinstance(event.content, str):
                    self._has_sent_text = True
                    yield TextDelta(event.content)
            case "ReasoningContentDelta" if event.reasoning_content:
                yield ReasoningDelta(event.reasoning_content)
            case "ToolCallStarted" if event.tool.tool_name not in self._client_tools:
                self._has_sent_text = False
                tool = event.tool
                yield ToolCallReady(tool.tool_call_id, tool.tool_name, _to_json(tool.tool_args or {}), "agent")
            case "ToolCallCompleted" if event.tool.tool_name not in self._client_tools:
                failed = bool(event.tool.tool_call_error)
                yield ToolResult(event.tool.tool_call_id, str(event.tool.result or ""), is_error=failed)
            case "ModelRequestCompleted":
                yield UsageReported(
                    event.input_tokens or 0,
                    event.output_tokens or 0,
                    cached_tokens=event.cache_read_tokens,
                    reasoning_tokens=event.reasoning_tokens,
                    cache_write_tokens=event.cache_write_tokens,
                )
            # Structured output comes whole at the end; streamed text is repeated here.
            case "RunCompleted" if not self._has_sent_text and event.content is not None:
                yield TextDelta(event.content if isinstance(event.content, str) else _to_json(event.content))
            case _:
                pass


def _to_json(value: Any) -> str:
    return to_json(value, inf_nan_mode="null", fallback=str).decode()


def _pending_calls(run: Any) -> list[PendingCall]:
    """The pending calls of a paused run. Raises RuntimeError for requested user input, which no client can send."""
    pending: list[PendingCall] = []
    for tool in run.tools or ():
        if tool.requires_confirmation and tool.confirmed is None:
            pending.append(PendingCall(tool.tool_call_id, tool.tool_name, _to_json(tool.tool_args or {}), "approval"))
        elif tool.external_execution_required and tool.result is None:
            pending.append(PendingCall(tool.tool_call_id, tool.tool_name, _to_json(tool.tool_args or {}), "result"))
        elif tool.requires_user_input and not tool.answered:
            raise RuntimeError(f"the tool {tool.tool_name!r} wants input of a user, for which clients have no form")
    return pending


def _pause_event(run: Any) -> Paused:
    # Through JSON: tools may have returned any type.
    return Paused(tuple(_pending_calls(run)), json.loads(_to_json(run.to_dict())))


def _apply_decisions(run: Any, resume: Resume) -> Iterator[ToolResult]:
    """Apply the request's decisions and results to a paused run. Yields the results of denied calls."""
    by_requirement = [each.tool_execution for each in run.requirements or ()]
    for tool in [*(run.tools or ()), *by_requirement]:
        decision, result = resume.decisions.get(tool.tool_call_id), resume.results.get(tool.tool_call_id)
        if result is not None:
            tool.result, tool.tool_call_error = result.text, result.is_error
        elif decision is not None:
            tool.confirmed, tool.confirmation_note = decision.approved, decision.reason
            if decision.arguments is not None:
                tool.tool_args = json.loads(decision.arguments)
            if not decision.approved and tool not in by_requirement:
                yield ToolResult(tool.tool_call_id, decision.reason or "It was not approved.", denied=True)


def _tool_names(tools: Iterable[Any]) -> Iterator[str]:
    for tool in tools:
        if isinstance(tool, Toolkit):
            yield from [*tool.functions, *tool.async_functions]
        elif isinstance(tool, dict):
            about = cast("dict[str, Any]", tool)
            yield str(about.get("function", about).get("name"))
        else:
            yield getattr(tool, "name", None) or tool.__name__


def _client_tool(tool: Tool) -> Any:
    schema: Any = {"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]}
    if isinstance(tool, FunctionTool):
        schema = tool.parameters or {"type": "object", "properties": {}}
    return Function(
        name=tool.name,
        description=tool.description or "",
        parameters=copy.deepcopy(dict(schema)),
        skip_entrypoint_processing=True,  # there is no function to inspect
        external_execution=True,
        external_execution_silent=True,
    )


def _output_schema(request: AgentRequest) -> dict[str, Any]:
    """The required answer format, as an argument of `arun`."""
    if request.response_format is None or request.response_format["type"] == "text":
        return {}
    wanted = request.json_schema or JsonSchema("answer", {"type": "object"}, strict=False)
    return {"output_schema": {"type": "json_schema", "json_schema": wanted._asdict()}}


def _turn_messages(turn: UserTurn | AssistantMessage) -> Iterator[Any]:
    if isinstance(turn, AssistantMessage):
        calls = [
            {"id": call.call_id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in turn.tool_calls
        ]
        yield Message(role="assistant", content=turn.text or None, tool_calls=calls or None)
        return
    for result in turn.results:
        more = _media_fields(result.media)
        yield Message(role="tool", content=result.text, tool_call_id=result.call_id, tool_name=result.name, **more)
    if turn.parts:
        yield Message(role="user", content=turn.text, **_media_fields(turn.parts))


def _media_fields(parts: Iterable[InputPart]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for part in parts:
        match part:
            case TextPart():
                continue
            case AudioPart():
                one = media.Audio(content=part.content, format=part.format, mime_type=part.media_type)
                found.setdefault("audio", []).append(one)
            case ImagePart():
                one = media.Image(
                    **_media_source(part.content, part.url), mime_type=part.media_type, detail=part.detail
                )
                found.setdefault("images", []).append(one)
            case _:
                source = _media_source(part.content, part.file_url)
                one = media.File(**source, mime_type=part.media_type, filename=part.filename, name=part.filename)
                found.setdefault("files", []).append(one)
    return found


def _media_source(content: bytes | None, url: str | None) -> dict[str, Any]:
    if content is None and url is None:
        text = "This agent takes files as 'file_data' or by URL, not by 'file_id'."
        raise InvalidRequest(text, param="messages", code="invalid_value")
    return {"url": url} if content is None else {"content": content}
