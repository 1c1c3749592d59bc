"""Runs agents of Google's Agent Development Kit (ADK): `GoogleADKBackend`. Needs `openai-compat[google-adk]`."""

from __future__ import annotations

import importlib
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing
from typing import Any, cast

from pydantic_core import to_json

from ..agent_request import AgentRequest, Tool
from ..backend import Capabilities, RunContext
from ..errors import AgentError
from ..events import (
    AgentEvent,
    Finished,
    MediaDelta,
    MessageBreak,
    Notice,
    PendingCall,
    Progress,
    ReasoningDelta,
    TextDelta,
    ToolCallReady,
    ToolResult,
    UsageReported,
)
from ..messages import AssistantMessage, FilePart, ImagePart, InputPart, TextPart, ToolMessage, UserMessage, UserTurn
from ..package import needs
from .paused_run import PausedRun

__all__ = ("GoogleADKBackend",)

# Untyped: type checking would need the framework installed. Tests run against its real versions.
with needs(__name__, "google-adk"):
    BaseAgent: Any = importlib.import_module("google.adk.agents").BaseAgent
    App: Any = importlib.import_module("google.adk.apps").App
    Event: Any = importlib.import_module("google.adk.events").Event
    InMemorySessionService: Any = importlib.import_module("google.adk.sessions").InMemorySessionService
    RunConfig: Any = importlib.import_module("google.adk.agents.run_config").RunConfig
    StreamingMode: Any = importlib.import_module("google.adk.agents.run_config").StreamingMode
    Runner: Any = importlib.import_module("google.adk.runners").Runner
    BasePlugin: Any = importlib.import_module("google.adk.plugins.base_plugin").BasePlugin
    BaseToolset: Any = importlib.import_module("google.adk.tools.base_toolset").BaseToolset
    BaseTool: Any = importlib.import_module("google.adk.tools.base_tool").BaseTool
    types: Any = importlib.import_module("google.genai.types")

SETTINGS = {
    "temperature": "temperature",
    "top_p": "top_p",
    "max_tokens": "max_output_tokens",
    "stop": "stop_sequences",
    "seed": "seed",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
}
"""ADK's name for each parameter that is passed on."""

THINKING_BUDGETS = {"none": 0, "minimal": 512, "low": 1024, "medium": 8192}
"""Thinking budget in tokens by effort, for models without thinking levels; other efforts get the highest budget."""

CONFIRMATION, CREDENTIAL, TRANSFER = "adk_request_confirmation", "adk_request_credential", "transfer_to_agent"
"""Function calls that ADK itself makes."""

FILTERED_REASONS = frozenset(
    ["SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY", "LANGUAGE"]
)
"""Finish reasons of a filtered answer."""


class GoogleADKBackend:
    """Runs an agent of Google's ADK for each turn, in a new session; one agent runs many turns concurrently.

    Args:
        agent: the agent, with its sub-agents; a workflow; or an `App` with one of these, and with plugins.
        state: makes the session's state for a turn.
        services: further arguments of `Runner`: `artifact_service`, `memory_service`, `credential_service`.
    """

    def __init__(
        self, agent: Any, *, state: Callable[[AgentRequest], Mapping[str, Any]] | None = None, **services: Any
    ) -> None:
        self._app = agent if isinstance(agent, App) else App(name="openai_compat", root_agent=agent)
        self._state = state
        self._services = services
        agents = list(_agent_tree(self._app.root_agent))
        models = [getattr(one, "model", None) for one in agents]
        names = [str(getattr(model, "model", model)) for model in models if model]
        effort = ["reasoning_effort"] if names and all(["gemini" in name for name in names]) else []
        tools = [tool for one in agents for tool in getattr(one, "tools", ())]
        self._toolsets = [tool for tool in tools if isinstance(tool, BaseToolset)]
        self.capabilities = Capabilities(
            approvals="yes_no",  # a confirmation applies only to the arguments that the model has given
            counts_tokens=True,
            keeps_state=True,
            own_tools=frozenset([str(getattr(tool, "name", getattr(tool, "__name__", ""))) for tool in tools]),
            parameters=frozenset([*SETTINGS, *effort]),
        )

    async def tool_names(self, request: AgentRequest) -> list[str]:
        """The names of the tools in the agents' toolsets."""
        return [tool.name for toolset in self._toolsets for tool in await toolset.get_tools_with_prefix()]

    async def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[AgentEvent | str]:
        """Run the agent, and yield its events."""
        paused = PausedRun.from_resume(request.resume)
        if paused is not None and paused.open_calls:
            yield paused.pause_event
            return
        speaker = self._app.root_agent.name
        events, message = (
            _run_input(request, speaker) if paused is None else (_saved_events(paused), _answer_message(paused))
        )
        session_ids = {"user_id": request.principal.id, "session_id": context.turn_id}
        # For this turn only: the server stores the conversation, and a lasting session would store it twice.
        service = InMemorySessionService()
        state = dict(self._state(request)) if self._state is not None else None
        session = await service.create_session(app_name=self._app.name, **session_ids, state=state)
        for event in events:
            await service.append_event(session, event)
        plugin = _RequestPlugin(request, context.turn_id)
        app = self._app.model_copy(update={"plugins": [plugin, *self._app.plugins]})
        runner = Runner(app=app, session_service=service, **self._services)
        translator = _AdkTranslator(request, speaker, paused.denied if paused is not None else frozenset())
        streamed = RunConfig(streaming_mode=StreamingMode.SSE)
        async with aclosing(runner.run_async(**session_ids, new_message=message, run_config=streamed)) as run:
            async for event in run:
                for item in translator.translate(event):
                    yield item
                if translator.pending and event.get_function_responses():
                    break  # otherwise the model is called again before the other calls are answered
        if translator.error:
            # ADK reports a model's failure as text in an event, without the HTTP status.
            raise AgentError.upstream(500) from RuntimeError(translator.error)
        yield plugin.usage
        if translator.output is not None and not isinstance(self._app.root_agent, BaseAgent):
            yield MessageBreak()
            yield TextDelta(_to_text(translator.output))
        if translator.pending:
            ended = await service.get_session(app_name=self._app.name, **session_ids)
            saved_events = [event.model_dump(mode="json", by_alias=True, exclude_none=True) for event in ended.events]
            saved = {"events": saved_events, "confirmations": translator.confirmations}
            yield PausedRun(saved, tuple(translator.pending.values())).pause_event
        elif translator.reason is not None:
            yield Finished(translator.reason)


class _RequestPlugin(BasePlugin):
    """Adds the request's settings and tools to every model call, except those of agents inside tools, and counts tokens."""

    def __init__(self, request: AgentRequest, session_id: str) -> None:
        BasePlugin.__init__(self, name="openai_compat")
        self._request = request
        self._session_id = session_id
        self._earlier_usages: list[UsageReported] = []
        self._latest_usages: dict[tuple[str, str], UsageReported] = {}

    async def before_model_callback(self, *, callback_context: Any, llm_request: Any) -> None:
        """Called before each model call."""
        last = self._latest_usages.pop(_model_key(callback_context), None)
        self._earlier_usages += [last] if last is not None else []
        # An agent inside a tool has another session: the client's request is not meant for its model.
        if callback_context.session.id != self._session_id:
            return
        request, config = self._request, llm_request.config
        if request.system:
            llm_request.append_instructions([request.system])
        llm_request.append_tools([_AdkClientTool(tool) for tool in request.tools])
        for name, value in request.sampling.given().items():
            if name in SETTINGS:
                setattr(config, SETTINGS[name], list(value) if name == "stop" else value)
        if request.sampling.reasoning_effort is not None and "gemini" in (llm_request.model or ""):
            config.thinking_config = _thinking_config(config, llm_request.model, request.sampling.reasoning_effort)
        if request.response_format is not None:
            config.response_mime_type = "application/json"
            config.response_json_schema = request.json_schema and dict(request.json_schema.schema)

    async def after_model_callback(self, *, callback_context: Any, llm_response: Any) -> None:
        """Called with each chunk of a model's answer; token counts only grow until the next model call."""
        if llm_response.usage_metadata is not None:
            self._latest_usages[_model_key(callback_context)] = _usage(llm_response.usage_metadata)

    @property
    def usage(self) -> UsageReported:
        """The tokens of all model calls."""
        counts = [*self._earlier_usages, *self._latest_usages.values()]
        return UsageReported(
            sum([count.input_tokens for count in counts]),
            sum([count.output_tokens for count in counts]),
            cached_tokens=sum([count.cached_tokens or 0 for count in counts]),
            reasoning_tokens=sum([count.reasoning_tokens or 0 for count in counts]),
        )


class _AdkClientTool(BaseTool):
    """A client tool: for ADK, a long-running tool whose result comes later."""

    def __init__(self, tool: Tool) -> None:
        BaseTool.__init__(self, name=tool.name, description=tool.description or "", is_long_running=True)
        self._schema = tool.input_schema

    def _get_declaration(self) -> Any:
        return types.FunctionDeclaration(
            name=self.name, description=self.description, parameters_json_schema=self._schema
        )

    async def run_async(self, *, args: Any, tool_context: Any) -> None:
        """Do nothing: the result comes with another request."""


class _AdkTranslator:
    """Translates ADK's events.

    Attributes:
        pending: the pending calls, by call id.
        confirmations: the ids of ADK's confirmation calls, by the ids of the calls to confirm.
        reason: the finish reason, unless the model stopped on its own.
        error: the reported error; ADK also raises the exception, if there was one.
        output: the output of a workflow's last node, unless the node sent content.
    """

    def __init__(self, request: AgentRequest, speaker: str, denied: frozenset[str]) -> None:
        self._client_tools = {tool.name for tool in request.tools}
        self._known_authors = {speaker, "user"}
        self._denied = denied
        self._streamed: set[tuple[str, str | None, bool]] = set()
        self.pending: dict[str, PendingCall] = {}
        self.confirmations: dict[str, str] = {}
        self.reason: Any = None
        self.error = ""
        self.output: Any = None

    def translate(self, event: Any) -> Iterator[AgentEvent]:
        if event.author not in self._known_authors:
            self._known_authors.add(event.author)
            yield Progress("agent", event.author, f"{event.author} goes on", done=True)
            yield MessageBreak()
        kinds: set[tuple[str, str | None, bool]] = set()
        for part in event.content.parts or () if event.content else ():
            kind = (event.author, event.branch, bool(part.thought))
            if part.text:
                kinds.add(kind)
                if event.partial or kind not in self._streamed:  # otherwise it repeats the streamed text
                    yield ReasoningDelta(part.text) if part.thought else TextDelta(part.text)
            # Skip partial calls and pictures: a later event has the whole.
            elif part.inline_data is not None and not event.partial:
                yield MediaDelta(part.inline_data.data or b"", part.inline_data.mime_type or "")
            elif part.function_call is not None and not event.partial:
                yield from self._translate_call(part.function_call)
            elif part.function_response is not None:
                yield from self._translate_response(part.function_response, event.actions.requested_tool_confirmations)
        self._streamed = self._streamed | kinds if event.partial else self._streamed - kinds
        if event.output is not None:
            self.output = None if event.content else event.output
        self._read_finish_reason(event)

    def _translate_call(self, call: Any) -> Iterator[AgentEvent]:
        arguments = json.dumps(call.args or {})
        if call.name == CONFIRMATION:
            original = call.args["originalFunctionCall"]
            call_id, arguments = original["id"], json.dumps(original.get("args") or {})
            self.pending[call_id] = PendingCall(call_id, original["name"], arguments, "approval")
            self.confirmations[call_id] = call.id
        elif call.name == CREDENTIAL:
            yield Notice("A tool of the agent asks for credentials, which cannot be given here.", "error")
        elif call.name != TRANSFER:
            yield ToolCallReady(call.id, call.name, arguments)
            if call.name in self._client_tools:
                self.pending[call.id] = PendingCall(call.id, call.name, arguments)

    def _translate_response(self, response: Any, questions: Mapping[str, Any]) -> Iterator[AgentEvent]:
        # A call that waits for confirmation already has a placeholder result.
        if response.id in questions or response.name in (CONFIRMATION, CREDENTIAL, TRANSFER):
            return
        fields: dict[str, Any] = response.response or {}
        output: Any = fields["result"] if fields.keys() == {"result"} else fields
        yield ToolResult(response.id, _to_text(output), is_error="error" in fields, denied=response.id in self._denied)

    def _read_finish_reason(self, event: Any) -> None:
        reason = getattr(event.finish_reason, "name", None) or event.error_code
        if reason == "MAX_TOKENS":
            self.reason = "length"
        elif reason in FILTERED_REASONS:
            self.reason = "content_filter"
        elif event.error_code is not None and not event.partial:
            self.error = f"{event.error_code}: {event.error_message}"


def _saved_events(paused: PausedRun) -> list[Any]:
    return [Event.model_validate(one) for one in paused.saved["events"]]


def _answer_message(paused: PausedRun) -> Any:
    """The message that resumes the run."""
    questions = paused.saved["confirmations"]
    parts = [
        _function_response(questions[call.call_id], CONFIRMATION, {"confirmed": call.call_id not in paused.denied})
        if call.call_id in questions
        else _function_response(call.call_id, call.name, _response_fields(paused.results[call.call_id]))
        for call in paused.asked
    ]
    return types.Content(role="user", parts=parts)


def _agent_tree(agent: Any) -> Iterator[Any]:
    yield agent
    for sub_agent in getattr(agent, "sub_agents", ()):
        yield from _agent_tree(sub_agent)


def _to_text(value: Any) -> str:
    return value if isinstance(value, str) else to_json(value, fallback=str).decode()


def _model_key(callback_context: Any) -> tuple[str, str]:
    return callback_context.session.id, callback_context.agent_name


def _thinking_config(config: Any, model: str, effort: str) -> Any:
    thinking = config.thinking_config or types.ThinkingConfig()
    if "gemini-2" in model:
        return thinking.model_copy(update={"thinking_budget": THINKING_BUDGETS.get(effort, 24576)})
    level = {"none": "MINIMAL", "xhigh": "HIGH"}.get(effort, effort.upper())
    return thinking.model_copy(update={"thinking_level": types.ThinkingLevel(level)})


def _usage(used: Any) -> UsageReported:
    thoughts = used.thoughts_token_count or 0
    return UsageReported(
        (used.prompt_token_count or 0) + (used.tool_use_prompt_token_count or 0),
        (used.candidates_token_count or 0) + thoughts,
        cached_tokens=used.cached_content_token_count or 0,
        reasoning_tokens=thoughts,
    )


def _run_input(request: AgentRequest, speaker: str) -> tuple[list[Any], Any]:
    """The earlier messages as events, and the new message."""
    paused = PausedRun.from_resume(request.resume, can_close=True)
    if paused is None:
        return _history_and_message(request, speaker)
    # Superseded: drop the pending calls, which ADK would resume even if closed; keep the results of the others.
    left_out = {call.call_id for call in paused.asked} | {*paused.saved["confirmations"].values()}
    events = _saved_events(paused)
    for event in events:
        parts = event.content.parts or () if event.content else ()
        kept_parts: list[Any] = []
        for part in parts:
            calls = [one.id for one in (part.function_call, part.function_response) if one is not None]
            kept_parts += [part] if left_out.isdisjoint(calls) else []
        event.content = event.content and types.Content(role=event.content.role, parts=kept_parts)
    new_message = cast("UserMessage", request.messages[-1])
    return [event for event in events if event.content and event.content.parts], _to_content(
        UserTurn(parts=new_message.parts)
    )


def _history_and_message(request: AgentRequest, speaker: str) -> tuple[list[Any], Any]:
    """The conversation history as events, and the new message."""
    turns, last = request.turns, UserTurn(parts=(TextPart(" "),))
    if turns and isinstance(newest := turns[-1], UserTurn):
        turns, last = turns[:-1], newest
    authors = [speaker if isinstance(turn, AssistantMessage) else "user" for turn in turns]
    authored_turns = zip(authors, turns, strict=True)
    events = [
        Event(author=author, invocation_id="before", content=_to_content(turn)) for author, turn in authored_turns
    ]
    return events, _to_content(last)


def _to_content(turn: UserTurn | AssistantMessage) -> Any:
    if isinstance(turn, UserTurn):
        results = [_function_response(result.call_id, result.name, _response_fields(result)) for result in turn.results]
        return types.Content(role="user", parts=[*results, *map(_to_part, turn.parts)])
    texts = [types.Part(text=turn.text)] if turn.text else []
    calls = [types.FunctionCall(id=call.call_id, name=call.name, args=call.input) for call in turn.tool_calls]
    return types.Content(role="model", parts=[*texts, *[types.Part(function_call=call) for call in calls]])


def _function_response(call_id: str, name: str, fields: Mapping[str, Any]) -> Any:
    return types.Part(function_response=types.FunctionResponse(id=call_id, name=name, response=dict(fields)))


def _response_fields(result: ToolMessage) -> dict[str, Any]:
    return {"error" if result.is_error else "result": result.text}


def _to_part(part: InputPart) -> Any:
    if isinstance(part, TextPart):
        return types.Part(text=part.text)
    if part.content is not None:
        return types.Part.from_bytes(data=part.content, mime_type=part.media_type or "application/octet-stream")
    url = part.url if isinstance(part, ImagePart) else cast("FilePart", part).file_url
    guessed = "image/jpeg" if isinstance(part, ImagePart) else "application/pdf"
    return types.Part.from_uri(file_uri=url, mime_type=part.media_type or guessed)
