"""Runs agents of the Microsoft Agent Framework: `AgentFrameworkBackend`. Needs `openai-compat[agent-framework]`."""

from __future__ import annotations

import importlib
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any, cast

from ..agent_request import AgentRequest
from ..backend import Capabilities, RunContext
from ..errors import AgentError
from ..events import (
    AgentEvent,
    Finished,
    MediaDelta,
    MessageBreak,
    PendingCall,
    Progress,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
    ToolCallStarted,
    ToolResult,
    UsageReported,
)
from ..messages import AssistantMessage, FilePart, ImagePart, InputPart, TextPart, ToolMessage, UserTurn
from ..package import needs
from .paused_run import PausedRun

__all__ = ("AgentFrameworkBackend",)

# Untyped: type checking would need the framework installed. Tests run against its real versions.
with needs(__name__, "agent-framework"):
    af: Any = importlib.import_module("agent_framework")

COMMON_PARAMETERS = ("temperature", "top_p", "max_tokens")
"""The parameters that every chat client accepts; most clients fail on an unknown one."""

FURTHER_PARAMETERS = {
    "RawOpenAIChatClient": ("reasoning_effort", "verbosity"),
    "RawOpenAIChatCompletionClient": (
        *("reasoning_effort", "verbosity", "seed", "logit_bias", "frequency_penalty", "presence_penalty"),
    ),
}
"""Further parameters that a client accepts, by the name of its class or of one of its base classes."""


class AgentFrameworkBackend:
    """Runs an agent of the Microsoft Agent Framework for each turn; one agent runs many turns concurrently.

    Args:
        agent: the agent. Without a chat client (a workflow, or a remote agent), it accepts no tools, schema or parameters.
        options: makes further options of the chat client for a turn: `options` of `Agent.run`.
    """

    def __init__(self, agent: Any, *, options: Callable[[AgentRequest], Mapping[str, Any]] | None = None) -> None:
        self._agent = agent
        self._options = options
        self._is_chat = isinstance(agent, af.RawAgent)
        own = agent.default_options.get("tools", ()) if self._is_chat else ()
        self._servers: Any = agent.mcp_tools if self._is_chat else []
        kinds = [kind.__name__ for kind in type(agent.client).__mro__] if self._is_chat else []
        further = next((FURTHER_PARAMETERS[kind] for kind in kinds if kind in FURTHER_PARAMETERS), ())
        self._wraps_effort = "RawOpenAIChatClient" in kinds
        self.capabilities = Capabilities(
            client_tools=self._is_chat,
            approvals="yes_no",  # the framework runs the calls that its session holds
            structured_output=self._is_chat,
            counts_tokens=self._is_chat,
            keeps_state=True,
            own_tools=frozenset([name for tool in own if (name := getattr(tool, "name", None))]),
            parameters=frozenset([*COMMON_PARAMETERS, *further] if self._is_chat else []),
        )

    def tool_names(self, request: AgentRequest) -> list[str]:
        """The tool names of the MCP servers to which the agent is connected."""
        return [function.name for server in self._servers for function in server.functions]

    async def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[AgentEvent | str]:
        """Run the agent, and yield its events."""
        # No `can_close`: the framework would put the user's new message before the results of the denied calls.
        paused = PausedRun.from_resume(request.resume)
        if paused is not None and paused.open_calls:
            yield paused.pause_event
            return
        if paused is None:
            # A chat client gets the instructions as an option.
            system = [] if self._is_chat or not request.system else [af.Message("system", [request.system])]
            messages = [*system, *[message for turn in request.turns for message in _to_messages(turn)]]
        else:
            messages = _answer_messages(paused)
        session = self._agent.create_session() if paused is None else af.AgentSession.from_dict(paused.saved["session"])
        more = self._run_arguments(request) if self._is_chat else {}
        translator = _AgentFrameworkTranslator(self._agent.name, paused.denied if paused is not None else frozenset())
        stream = self._agent.run(messages, stream=True, session=session, **more)
        async for update in stream:
            for event in translator.translate(update):
                yield event
        response = await stream.get_final_response()
        yield _usage(response.usage_details or {})
        if open_requests := _open_requests(response, {tool.name for tool in request.tools}):
            yield _to_paused_run(session, open_requests).pause_event
        elif response.finish_reason in ("length", "content_filter"):
            yield Finished(response.finish_reason)

    def _run_arguments(self, request: AgentRequest) -> dict[str, Any]:
        given = request.sampling.given()
        options = {name: given[name] for name in self.capabilities.parameters or () if name in given}
        if self._wraps_effort and "reasoning_effort" in options:
            options["reasoning"] = {"effort": options.pop("reasoning_effort")}
        options["instructions"] = request.system or None
        options["response_format"] = request.response_format
        if request.tools and not request.parallel_tool_calls:
            options["allow_multiple_tool_calls"] = False
        if request.tool_choice.required:
            options["tool_choice"] = "required"
        if self._options is not None:
            options |= self._options(request)
        tools = [
            af.FunctionTool(name=tool.name, description=tool.description or "", input_model=tool.input_schema)
            for tool in request.tools
        ]
        return {"options": options, "tools": tools}


class _AgentFrameworkTranslator:
    """Translates the framework's updates to events."""

    def __init__(self, name: str | None, denied: frozenset[str]) -> None:
        self._speaker = name
        self._denied = denied
        self._calls: set[str] = set()
        self._streamed: set[str] = set()

    def translate(self, update: Any) -> Iterator[AgentEvent]:
        if update.author_name and update.author_name != self._speaker:
            self._speaker = update.author_name
            yield Progress("agent", update.author_name, f"{update.author_name} goes on", done=True)
            yield MessageBreak()
        for content in update.contents:
            yield from self._translate_content(content)

    def _translate_content(self, content: Any) -> Iterator[AgentEvent]:
        whole = getattr(content, "merge_mode", None) == "replace"  # repeats the streamed pieces
        match content.type:
            case "text" | "text_reasoning" if whole and content.type in self._streamed:
                self._streamed.remove(content.type)
            case "text" | "text_reasoning" if content.text:
                self._streamed |= {content.type} if not whole else set()
                yield _text_event(content)
            case "function_call":
                known = content.call_id in self._calls
                if not known:
                    self._calls.add(content.call_id)
                    yield ToolCallStarted(content.call_id, content.name)
                if content.arguments and not (known and whole):
                    yield ToolCallDelta(content.call_id, _arguments_text(content.arguments))
            case "function_result":
                failed, denied = content.exception is not None, content.call_id in self._denied
                yield ToolResult(content.call_id, content.result or "", is_error=failed, denied=denied)
            case "data":
                picture = ImagePart(content.uri)
                yield MediaDelta(picture.content or b"", content.media_type)
            case "error":
                limited = "rate_limit" in (content.error_code or "")
                raise AgentError.upstream(429 if limited else 500) from RuntimeError(content.message)
            case _:
                pass


def _text_event(content: Any) -> AgentEvent:
    if content.type == "text_reasoning":
        return ReasoningDelta(content.text)
    declined = content.additional_properties.get("model_output_kind") == "refusal"
    return RefusalDelta(content.text) if declined else TextDelta(content.text)


def _open_requests(response: Any, tools: set[str]) -> dict[str, Any]:
    """The approval requests and client tool calls of a run, by call id."""
    contents = [content for message in response.messages for content in message.contents]
    decisions = {one.function_call.call_id: one for one in contents if one.type == "function_approval_request"}
    calls = {one.call_id: one for one in contents if one.type == "function_call" and one.name in tools}
    return calls | decisions


def _to_paused_run(session: Any, open_requests: Mapping[str, Any]) -> PausedRun:
    questions: dict[str, Any] = {}
    pending: list[PendingCall] = []
    for call_id, one in open_requests.items():
        if one.type == "function_approval_request":
            questions[call_id] = one.to_dict()
            call = one.function_call
            pending.append(PendingCall(call.call_id, call.name, _arguments_text(call.arguments or {}), "approval"))
        else:
            pending.append(PendingCall(one.call_id, one.name, _arguments_text(one.arguments or {}), "result"))
    return PausedRun({"session": session.to_dict(), "questions": questions}, tuple(pending))


def _answer_messages(paused: PausedRun) -> list[Any]:
    """The messages that resume the run."""
    questions = {call_id: af.Content.from_dict(one) for call_id, one in paused.saved["questions"].items()}
    decisions = [
        question.to_function_approval_response(call_id not in paused.denied) for call_id, question in questions.items()
    ]
    results = [_to_function_result(paused.results[call.call_id]) for call in paused.asked if call.waits_for == "result"]
    messages = {"user": decisions, "tool": results}
    return [af.Message(role, contents) for role, contents in messages.items() if contents]


def _to_function_result(result: ToolMessage) -> Any:
    contents = [af.Content.from_text(result.text), *[_to_content(part) for part in result.media]]
    failed = "the client's tool has failed" if result.is_error else None
    return af.Content.from_function_result(result.call_id, result=contents, exception=failed)


def _arguments_text(arguments: Any) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments)


def _usage(used: Mapping[str, int]) -> UsageReported:
    return UsageReported(
        used.get("input_token_count") or 0,
        used.get("output_token_count") or 0,
        cached_tokens=used.get("cache_read_input_token_count"),
        reasoning_tokens=used.get("reasoning_output_token_count"),
        cache_write_tokens=used.get("cache_creation_input_token_count"),
    )


def _to_messages(turn: UserTurn | AssistantMessage) -> list[Any]:
    if isinstance(turn, AssistantMessage):
        calls = [af.Content.from_function_call(c.call_id, c.name, arguments=c.arguments) for c in turn.tool_calls]
        texts = [af.Content.from_text(turn.text)] if turn.text else []
        return [af.Message("assistant", [*texts, *calls])]
    results = [af.Message("tool", [_to_function_result(result) for result in turn.results])] if turn.results else []
    return results + ([af.Message("user", [_to_content(part) for part in turn.parts])] if turn.parts else [])


def _to_content(part: InputPart) -> Any:
    if isinstance(part, TextPart):
        return af.Content.from_text(part.text)
    if part.content is not None:
        return af.Content.from_data(part.content, part.media_type or "application/octet-stream")
    if isinstance(part, ImagePart):
        return af.Content.from_uri(part.url, media_type="image/*")
    file = cast("FilePart", part)
    if file.file_url is None:
        return af.Content.from_hosted_file(file.file_id)
    return af.Content.from_uri(file.file_url, media_type=file.media_type or "application/pdf")
