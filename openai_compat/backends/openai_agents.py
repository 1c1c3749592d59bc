"""Runs agents of the OpenAI Agents SDK: `OpenAIAgentsBackend`. Needs `openai-compat[openai-agents]`."""

from __future__ import annotations

import copy
import dataclasses
import importlib
import inspect
import json
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from typing import Any

from ..agent_request import AgentRequest, CustomTool, FunctionTool, JsonSchema, Resume, Tool
from ..backend import Capabilities, RunContext
from ..events import (
    AgentEvent,
    Executor,
    Finished,
    MessageBreak,
    Paused,
    PendingCall,
    Progress,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
    ToolCallReady,
    ToolCallStarted,
    ToolResult,
    UsageReported,
)
from ..messages import (
    AssistantMessage,
    ImagePart,
    InputPart,
    Message,
    SystemMessage,
    TextPart,
    ToolMessage,
    UserMessage,
)
from ..package import needs

__all__ = ("OpenAIAgentsBackend",)

# Untyped: type checking would need the framework installed. Tests run against its real versions.
with needs(__name__, "openai-agents"):
    ai: Any = importlib.import_module("agents")
    AgentOutputSchemaBase: Any = importlib.import_module("agents.agent_output").AgentOutputSchemaBase
    Reasoning: Any = importlib.import_module("openai.types.shared").Reasoning

SETTINGS = frozenset(["temperature", "top_p", "max_tokens", "frequency_penalty", "presence_penalty", "verbosity"])
"""The parameters that `ModelSettings` has under the same names."""

REASONS = {"max_output_tokens": "length", "content_filter": "content_filter"}
"""Finish reasons of an incomplete response, by the reason that the model's API gives."""


class OpenAIAgentsBackend:
    """Runs an agent of the OpenAI Agents SDK for each turn; one agent runs many turns concurrently.

    Args:
        agent: the agent. The agents of its handoffs also get the client's tools, unless declared by `handoff(…)`.
        context: makes the run's context for a turn; may be a coroutine function.
        max_turns: maximum number of model calls per turn. Reaching the limit ends the answer with "length".
        run_config: `RunConfig` of every run. A request's parameters override its model settings.
    """

    def __init__(
        self,
        agent: Any,
        *,
        context: Callable[[AgentRequest], Any] | None = None,
        max_turns: int = 10,
        run_config: Any = None,
    ) -> None:
        self._agent = agent
        self._context = context
        self._max_turns = max_turns
        self._config = run_config or ai.RunConfig()
        self._agents = list(_reachable_agents(agent, {}).values())
        handoffs = [handoff for one in self._agents for handoff in one.handoffs]
        self.capabilities = Capabilities(
            approvals="yes_no",
            audio_input=False,
            counts_tokens=True,
            keeps_state=True,
            own_tools=frozenset(
                [tool.name for one in self._agents for tool in one.tools] + [*map(_handoff_tool_name, handoffs)]
            ),
            parameters=SETTINGS | {"reasoning_effort"},
            # An agent declared by `handoff(…)` ignores the request's response format.
            structured_output=all([isinstance(handoff, ai.Agent) for handoff in handoffs]),
        )

    async def tool_names(self, request: AgentRequest) -> list[str]:
        """The current tool names of the agents' MCP servers."""
        run_context = ai.RunContextWrapper(None)
        return [tool.name for one in self._agents if one.mcp_servers for tool in await one.get_mcp_tools(run_context)]

    async def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[AgentEvent | str]:
        """Run the agent, and yield its events."""
        agent = _clone_for_request(self._agent, request, {})
        run_context = self._context(request) if self._context is not None else None
        run_context = await run_context if inspect.isawaitable(run_context) else run_context
        run_input, denied = await _run_input(agent, request, run_context)
        run = ai.Runner.run_streamed(
            agent, run_input, run_context, self._max_turns, run_config=self._run_config(request)
        )
        before = _usage(run.context_wrapper.usage)  # of the earlier turns, if a paused run is resumed
        translator = _AgentsTranslator(agent, request, denied)
        try:
            async for event in run.stream_events():
                for item in translator.translate(event):
                    yield item
        except (ai.MaxTurnsExceeded, ai.InputGuardrailTripwireTriggered, ai.OutputGuardrailTripwireTriggered) as error:
            translator.finish_reason = "length" if isinstance(error, ai.MaxTurnsExceeded) else "content_filter"
        except ai.ModelBehaviorError:
            if translator.finish_reason is None:
                raise
        finally:
            # Otherwise the run's background task would keep calling the model for an answer that nobody reads.
            run.cancel()
        # For a run that was cut too: its tokens were used.
        yield _usage(run.context_wrapper.usage).since(before)
        if translator.finish_reason is not None:
            yield Finished(translator.finish_reason)
        elif run.interruptions:
            state = run.to_state().to_json(context_serializer=_omit_context)
            yield Paused(tuple([translator.to_pending_call(item) for item in run.interruptions]), state)
        elif not translator.has_sent_text and run.final_output:
            yield TextDelta(str(run.final_output))  # the result of a tool, used as the answer

    def _run_config(self, request: AgentRequest) -> Any:
        given = request.sampling.given()
        overrides = {name: value for name, value in given.items() if name in SETTINGS}
        if "reasoning_effort" in given:
            own = self._agent.model_settings.reasoning or Reasoning()
            overrides["reasoning"] = own.model_copy(update={"effort": given["reasoning_effort"]})
        if request.tools and not request.parallel_tool_calls:
            overrides["parallel_tool_calls"] = False
        if request.tool_choice.required:
            [*names] = request.tool_choice.names
            overrides["tool_choice"] = names[0] if len(names) == 1 else "required"
        # The request's settings override the operator's, which override the agent's.
        settings = (self._config.model_settings or ai.ModelSettings()).resolve(ai.ModelSettings(**overrides))
        return dataclasses.replace(self._config, model_settings=settings)


class _AgentsTranslator:
    """Translates the SDK's events."""

    def __init__(self, agent: Any, request: AgentRequest, denied: Collection[str]) -> None:
        self._agent = agent
        self._tools = {tool.name: tool for tool in request.tools}
        self._results = (request.resume or Resume({})).results
        self._denied = denied
        self._calls: dict[int, str] = {}  # ids of open calls, by output index in the model's answer
        self.has_sent_text = False
        self.finish_reason: Any = None

    def translate(self, event: Any) -> Iterator[AgentEvent]:
        match event.type:
            case "raw_response_event":
                yield from self._translate_model_event(event.data)
            case "agent_updated_stream_event" if event.new_agent is not self._agent:
                self._agent = event.new_agent
                yield MessageBreak()
                yield Progress("agent", self._agent.name, f"{self._agent.name} goes on", done=True)
            case "run_item_stream_event" if event.name == "tool_output":
                self.has_sent_text = False
                call_id: str = event.item.call_id
                if call_id not in self._results:
                    # The SDK's result of a denied call looks like any other.
                    yield ToolResult(call_id, str(event.item.output), denied=call_id in self._denied)
            case _:
                pass

    def _translate_model_event(self, event: Any) -> Iterator[AgentEvent]:
        match event.type:
            case "response.output_text.delta":
                self.has_sent_text = True
                yield TextDelta(event.delta)
            case "response.refusal.delta":
                self.has_sent_text = True
                yield RefusalDelta(event.delta)
            case "response.reasoning_summary_text.delta" | "response.reasoning_text.delta":
                yield ReasoningDelta(event.delta)
            case "response.output_item.added":
                yield from self._on_item_added(event.output_index, event.item)
            case "response.function_call_arguments.delta" if event.output_index in self._calls:
                yield ToolCallDelta(self._calls[event.output_index], event.delta)
            case "response.output_item.done":
                yield from self._on_item_done(event.item)
            case "response.incomplete":
                self.finish_reason = REASONS.get(event.response.incomplete_details.reason)
            case _:
                pass

    def _on_item_added(self, index: int, item: Any) -> Iterator[AgentEvent]:
        self._calls.pop(index, None)
        if item.type == "function_call" and not self._is_handoff(item) and not self._is_custom(item.name):
            self._calls[index] = item.call_id
            yield ToolCallStarted(item.call_id, item.name, self._executor(item.name))

    def _on_item_done(self, item: Any) -> Iterator[AgentEvent]:
        if item.type == "function_call" and not self._is_handoff(item):
            yield ToolCallReady(item.call_id, item.name, self._arguments(item), self._executor(item.name))
        elif item.type.endswith("_call") and getattr(item, "call_id", None) and item.type != "function_call":
            yield ToolCallReady(item.call_id, item.type.removesuffix("_call"), item.model_dump_json(), "agent")
        elif item.type.endswith("_call") and item.type != "function_call":  # a hosted tool, which has already run
            yield Progress("step", item.id, item.type.removesuffix("_call").replace("_", " "), done=True)

    def to_pending_call(self, item: Any) -> PendingCall:
        """A pending call of the run."""
        waits_for: Any = "result" if item.name in self._tools else "approval"
        return PendingCall(item.call_id, item.name, self._arguments(item), waits_for)

    def _arguments(self, item: Any) -> str:
        text: str = item.arguments or "{}"
        return str(json.loads(text).get("input", "")) if self._is_custom(item.name) else text

    def _is_custom(self, name: str) -> bool:
        return isinstance(self._tools.get(name), CustomTool)

    def _is_handoff(self, item: Any) -> bool:
        return item.name in map(_handoff_tool_name, self._agent.handoffs)

    def _executor(self, name: str) -> Executor:
        return "client" if name in self._tools else "agent"


def _omit_context(_: object) -> dict[str, Any]:
    """Leave the context out of a saved run, since each turn makes a new context."""
    return {}


async def _run_input(agent: Any, request: AgentRequest, run_context: Any) -> tuple[Any, Collection[str]]:
    """The input of a run (the conversation, or the paused run to resume), and the ids of the denied calls."""
    conversation = [item for message in request.messages for item in _input_items(message)]
    resume = request.resume
    if resume is None or resume.state is None:
        return conversation, ()
    denied: set[str] = set()
    state = await ai.RunState.from_json(agent, dict(resume.state), context_override=run_context)
    for item in state.get_interruptions():
        decision = resume.decisions.get(item.call_id)
        if item.call_id in resume.results or (decision is not None and decision.approved):
            state.approve(item)
        elif decision is not None or resume.superseded:
            denied.add(item.call_id)
            state.reject(item, rejection_message=decision.reason if decision is not None else None)
    user_messages = [message for message in request.new_messages if isinstance(message, UserMessage)]
    if user_messages and (resume.superseded or not resume.decisions):
        try:
            state.add_input([item for message in user_messages for item in _input_items(message)])
        except ai.UserError:  # the resumed run does not call the model again
            return conversation, ()
    return state, denied


def _clone_for_request(agent: Any, request: AgentRequest, clones: dict[int, Any]) -> Any:
    """A copy of the agent and of the agents of its handoffs, with the request's tools and response format."""
    if id(agent) in clones:
        return clones[id(agent)]
    resume = request.resume or Resume({})
    tools = [_client_tool(tool, resume.results) for tool in request.tools]
    withdrawn = {message.name for message in resume.results.values()} - {tool.name for tool in request.tools}
    tools += [_client_tool(FunctionTool(name), resume.results, is_offered=False) for name in withdrawn]
    # A clone for each turn: all turns share the agent, and the client's tools belong to one request.
    clone = agent.clone(tools=[*agent.tools, *tools])
    if request.response_format is not None:
        clone.output_type = _AnswerSchema(request)
    clones[id(agent)] = clone  # before the handoffs, which may lead back to this agent
    clone.handoffs = [
        _clone_for_request(handoff, request, clones) if isinstance(handoff, ai.Agent) else handoff
        for handoff in agent.handoffs
    ]
    return clone


def _reachable_agents(agent: Any, found: dict[int, Any]) -> dict[int, Any]:
    """The agent and all agents that its handoffs reach, by `id`."""
    if id(agent) not in found:
        found[id(agent)] = agent
        for handoff in agent.handoffs:
            if isinstance(handoff, ai.Agent):
                _reachable_agents(handoff, found)
    return found


def _handoff_tool_name(handoff: Any) -> str:
    name: str = ai.Handoff.default_tool_name(handoff) if isinstance(handoff, ai.Agent) else handoff.tool_name
    return name


def _client_tool(tool: Tool, results: Mapping[str, ToolMessage], *, is_offered: bool = True) -> Any:
    """A client tool: its call waits as if for approval, and then returns the client's result."""
    awaited = {call_id for call_id, message in results.items() if message.name == tool.name}

    async def result(context: Any, _: str) -> Any:
        awaited.discard(context.tool_call_id)  # until then the tool must stay enabled, even if no longer offered
        message = results[context.tool_call_id]
        return (
            [ai.ToolOutputText(text=message.text), *map(_to_output_part, message.media)]
            if message.media
            else message.text
        )

    def is_enabled(*_: Any) -> bool:
        return is_offered or bool(awaited)

    return ai.FunctionTool(
        name=tool.name,
        description=tool.description or "",
        params_json_schema=copy.deepcopy(tool.input_schema),
        on_invoke_tool=result,
        is_enabled=is_enabled,
        strict_json_schema=isinstance(tool, FunctionTool) and tool.strict is True,
        needs_approval=True,  # the SDK's only way to pause before a call and resume later
    )


class _AnswerSchema(AgentOutputSchemaBase):
    """The answer format that a request demands; the server validates the answer."""

    def __init__(self, request: AgentRequest) -> None:
        self._wanted = request.json_schema or JsonSchema("answer", {"type": "object"}, strict=False)

    def is_plain_text(self) -> bool:
        return False

    def name(self) -> str:
        return self._wanted.name

    def json_schema(self) -> dict[str, Any]:
        return dict(self._wanted.schema)

    def is_strict_json_schema(self) -> bool:
        return self._wanted.strict

    def validate_json(self, json_str: str) -> str:
        # The server validates the answer against the same schema, and can request a repair.
        return json_str


def _input_items(message: Message) -> Iterator[dict[str, Any]]:
    match message:
        case SystemMessage():
            yield {"role": message.role, "content": message.text}
        case UserMessage():
            yield {"role": "user", "content": [_to_input_part(part) for part in message.parts]}
        case ToolMessage():
            output = (
                [_to_input_part(part) for part in (TextPart(message.text), *message.media)]
                if message.media
                else message.text
            )
            yield {"type": "function_call_output", "call_id": message.call_id, "output": output}
        case AssistantMessage():
            if message.text:
                yield {"role": "assistant", "content": message.text}
            for call in message.tool_calls:
                written = json.dumps({"input": call.arguments}) if call.kind == "custom" else call.arguments
                yield {"type": "function_call", "call_id": call.call_id, "name": call.name, "arguments": written}


def _to_input_part(part: InputPart) -> dict[str, Any]:
    match part:
        case TextPart():
            return {"type": "input_text", "text": part.text}
        case ImagePart():
            return {"type": "input_image", "image_url": part.url, "detail": part.detail}
        case _:
            fields = dataclasses.asdict(part)
            return {"type": "input_file", **{name: value for name, value in fields.items() if value is not None}}


def _to_output_part(part: InputPart) -> Any:
    fields = _to_input_part(part)
    kind = fields.pop("type")
    return ai.ToolOutputImage(**fields) if kind == "input_image" else ai.ToolOutputFileContent(**fields)


def _usage(used: Any) -> UsageReported:
    of_input, of_output = used.input_tokens_details, used.output_tokens_details
    return UsageReported(
        used.input_tokens,
        used.output_tokens,
        cached_tokens=of_input.cached_tokens,
        reasoning_tokens=of_output.reasoning_tokens,
        cache_write_tokens=getattr(of_input, "cache_write_tokens", None),
    )
