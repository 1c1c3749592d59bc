"""Runs agents of smolagents: `SmolagentsBackend`. Needs `openai-compat[smolagents]`."""

from __future__ import annotations

import importlib
import inspect
import io
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterable, Iterator
from contextlib import aclosing, suppress
from typing import Any, cast

import anyio
import anyio.from_thread
import anyio.lowlevel

from ..agent_request import AgentRequest, Decision, FunctionTool, Tool
from ..agents.worker_thread import ThreadRun
from ..backend import Capabilities, RunContext
from ..errors import InvalidRequest
from ..events import AgentEvent, MessageBreak, ReasoningDelta, TextDelta, ToolCallReady, ToolResult, UsageReported
from ..messages import ImagePart, InputPart, TextPart, UserTurn
from ..package import needs

__all__ = ("SmolagentsBackend",)

# Untyped: type checking would need the framework installed. Tests run against its real versions.
with needs(__name__, "smolagents"):
    smol: Any = importlib.import_module("smolagents")
    memory: Any = importlib.import_module("smolagents.memory")
    monitoring: Any = importlib.import_module("smolagents.monitoring")
    Console: Any = importlib.import_module("rich.console").Console
    Image: Any = importlib.import_module("PIL.Image")

ANSWER_TOOL = "final_answer"
"""The tool with which an agent gives its answer."""


class SmolagentsBackend:
    """Runs an agent of smolagents for each turn, in a thread. An agent holds one conversation, so each turn gets a new agent.

    Args:
        make: makes the agent; may be a coroutine function. Gets the `AgentRequest` if it has a parameter `request`, or
            one without a default.
        approve: the tools of a `ToolCallingAgent` whose calls need approval. The run waits for the decision (see
            `RunContext.approve`).
        parameters: the fields of `Sampling` that `make` applies to its model.
    """

    def __init__(
        self, make: Callable[..., Any], *, approve: Iterable[str] = (), parameters: Iterable[str] = ()
    ) -> None:
        if isinstance(make, smol.MultiStepAgent):
            raise TypeError("an agent of smolagents holds one conversation: give a function that makes it")
        self._make = make
        accepted = inspect.signature(make).parameters.values()
        self._takes_request = any([each.name == "request" or each.default is each.empty for each in accepted])
        self._approval_tools = frozenset(approve)
        model_parameters = frozenset(parameters)
        self.capabilities = Capabilities(
            approvals="edit" if self._approval_tools else "none",
            audio_input=False,
            files=False,
            structured_output=False,
            counts_tokens="max_tokens" in model_parameters,
            parameters=model_parameters,
        )

    async def tool_names(self, request: AgentRequest) -> list[str]:
        """The names of the agent's tools and of its managed agents."""
        agent = await self._build_agent(request)
        return [*agent.tools, *agent.managed_agents]

    async def _build_agent(self, request: AgentRequest) -> Any:
        agent = self._make(request) if self._takes_request else self._make()
        return await agent if inspect.isawaitable(agent) else agent

    async def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[AgentEvent]:
        """Run the agent, and yield its events."""
        agent = await self._build_agent(request)
        calls = isinstance(agent, smol.ToolCallingAgent)
        if not calls and self._approval_tools:
            raise TypeError("only the tools of a ToolCallingAgent can wait for approval")
        if not calls and request.tool_choice.required:
            raise InvalidRequest("This agent cannot call tools of the client.", param="tool_choice")
        for each in (agent, *agent.managed_agents.values()):  # silence their output, which is for a terminal
            each.logger = each.monitor.logger = monitoring.AgentLogger(smol.LogLevel.OFF, Console(quiet=True))
        agent.stream_outputs = hasattr(agent.model, "generate_stream")
        agent.instructions = "\n\n".join([text for text in (agent.instructions, request.system) if text]) or None
        translator = _SmolagentsTranslator(calls, bool(agent.final_answer_checks))
        if calls:
            agent.tools |= {tool.name: _client_tool(tool) for tool in request.tools}
            gate = _SmolagentsGate(agent, self._approval_tools, {tool.name for tool in request.tools}, context)
            translator.denied, translator.hidden = gate.denied, gate.clients
            agent.process_tool_calls = gate.process_tool_calls
        task, images = _load_conversation(agent, request)
        items = cast("AsyncGenerator[Any]", ThreadRun(lambda: _stream_steps(agent, task, images)).items())
        async with aclosing(items) as steps:
            async for item in steps:
                for event in translator.translate(item):
                    yield event


class _SmolagentsGate:
    """Gets approvals and client results before the calls of a step run.

    Attributes:
        denied: the ids of denied calls.
        clients: the names of the client's tools.
    """

    def __init__(self, agent: Any, approval_tools: frozenset[str], clients: set[str], context: RunContext) -> None:
        self._run_calls: Callable[..., Any] = agent.process_tool_calls
        self._approval_tools = approval_tools
        self._context = context
        self._loop = anyio.lowlevel.current_token()
        self.clients = clients
        self.denied: set[str] = set()

    def process_tool_calls(self, message: Any, step: Any) -> Iterator[Any]:
        """Replaces the agent's method: runs the calls that may run here, in the agent's thread."""
        asking = [call for call in message.tool_calls if call.function.name in self._approval_tools | self.clients]
        answers: dict[str, str] = anyio.from_thread.run(self._get_answers, asking, token=self._loop) if asking else {}
        answered_calls = [call for call in message.tool_calls if call.id in answers]
        message.tool_calls = [call for call in message.tool_calls if call.id not in answers]
        yield from self._run_calls(message, step)
        for call in answered_calls:
            client_call = memory.ToolCall(call.function.name, call.function.arguments, call.id)
            step.tool_calls.append(client_call)
            step.observations = f"{step.observations}\n{answers[call.id]}".lstrip("\n")
            yield client_call
            yield smol.agents.ToolOutput(call.id, answers[call.id], False, answers[call.id], client_call)  # noqa: FBT003  (is_final_answer)
        message.tool_calls += answered_calls

    async def _get_answers(self, calls: list[Any]) -> dict[str, str]:
        """Return client results and denials, by call id."""
        answers: dict[str, str] = {}
        async with anyio.create_task_group() as group:
            for call in calls:
                group.start_soon(self._get_answer, call, answers)
        return answers

    async def _get_answer(self, call: Any, answers: dict[str, str]) -> None:
        arguments = json.dumps(call.function.arguments)
        if call.function.name in self.clients:
            answers[call.id] = (await self._context.call_client_tool(call.function.name, arguments)).text
            return
        decision: Decision = await self._context.approve(call.function.name, arguments)
        if decision.arguments is not None:
            call.function.arguments = json.loads(decision.arguments)
        if not decision.approved:
            self.denied.add(call.id)
            answers[call.id] = decision.reason or "Nobody has approved this call."


class _SmolagentsTranslator:
    """Translates the stream of an agent to events."""

    def __init__(self, calls: bool, is_checked: bool) -> None:
        self._calls = calls  # False for agents that write code, whose text is reasoning
        self._streams = calls and not is_checked  # an answer that a check may refuse is not streamed
        self._answer_index: int | None = None  # index of the call that answers, among the calls of a step
        self._answer_text = _AnswerText()
        self._answer_chunks: list[str] = []  # streamed chunks of the answer
        self._code_call: str | None = None
        self._step: Any = None
        self.denied: set[str] = set()
        self.hidden: set[str] = set()

    def translate(self, item: Any) -> Iterator[AgentEvent]:
        match type(item).__name__:
            case "ChatMessageStreamDelta":
                yield from self._translate_delta(item)
            case "ToolCall" if item.name not in {ANSWER_TOOL, *self.hidden}:
                self._code_call = None if self._calls else item.id
                plain = item.arguments if self._calls else {"code": item.arguments}
                yield ToolCallReady(item.id, item.name, json.dumps(plain, default=str), "agent")
            case "ToolOutput" if item.tool_call.name not in {ANSWER_TOOL, *self.hidden}:
                yield ToolResult(item.id, item.observation, denied=item.id in self.denied)
            case "ActionStep" if item is not self._step:
                yield from self._end_step(item)
            case "PlanningStep":
                yield from _usage(item)
            case "FinalAnswerStep":
                yield from self._final_answer(item.output)
            case _:
                pass

    def _translate_delta(self, delta: Any) -> Iterator[AgentEvent]:
        if delta.content:
            yield TextDelta(delta.content) if self._calls else ReasoningDelta(delta.content)
        for call in delta.tool_calls or ():
            if call.function is not None and call.function.name == ANSWER_TOOL:
                self._answer_index, self._answer_text, self._answer_chunks = call.index, _AnswerText(), []
            if call.index == self._answer_index and call.function is not None and self._streams:
                text = self._answer_text.feed(call.function.arguments or "")
                if text:
                    if not self._answer_chunks:
                        yield MessageBreak()
                    yield TextDelta(text)
                    self._answer_chunks.append(text)

    def _end_step(self, step: Any) -> Iterator[AgentEvent]:
        self._step, self._answer_index = step, None
        if self._code_call is not None:
            code, self._code_call = self._code_call, None
            failed = step.error is not None
            yield ToolResult(code, str(step.error if failed else step.observations or ""), is_error=failed)
        yield from _usage(step)

    def _final_answer(self, output: Any) -> Iterator[AgentEvent]:
        if isinstance(output, list):  # the text of an exception: the answer after the last step has failed
            raise RuntimeError("the model has failed to answer after the last step")
        if str(output) != "".join(self._answer_chunks):
            yield MessageBreak()
            yield TextDelta(str(output))


class _AnswerText:
    """Extracts the answer from `{"answer": "…` while that JSON is streamed; each chunk is parsed once."""

    BEGINNING = re.compile(r'\s*\{\s*"answer"\s*:\s*"')

    def __init__(self) -> None:
        self._unread = ""
        self._has_begun = self._has_ended = False

    def feed(self, delta: str) -> str:
        """The text that a chunk completes, including an escape that an earlier chunk began."""
        self._unread += delta
        if not self._has_begun:
            beginning = self.BEGINNING.match(self._unread)
            if beginning is None:
                return ""
            self._has_begun, self._unread = True, self._unread[beginning.end() :]
        if self._has_ended:
            return ""
        whole = _complete_length(self._unread)
        read, self._unread = f'"{self._unread[:whole]}"', self._unread[whole:]
        try:
            text, end = STRINGS.raw_decode(read)
        except ValueError:  # invalid JSON, which smolagents reports to the model
            self._has_ended = True
            return ""
        self._has_ended = end < len(read)  # the closing quotation mark has come
        return str(text)


STRINGS = json.JSONDecoder(strict=False)
"""Not strict, since models write raw line breaks in strings."""


def _complete_length(text: str) -> int:
    """Length of a JSON string without an incomplete escape at its end."""
    position = 0
    while (escape := text.find("\\", position)) >= 0:
        position = escape + (6 if text[escape + 1 : escape + 2] == "u" else 2)
        if text[escape + 1 : escape + 4].lower() in ("ud8", "ud9", "uda", "udb"):
            position += 6  # the other half of a surrogate pair
        if position > len(text):
            return escape
    return len(text)


def _stream_steps(agent: Any, task: str, images: list[Any]) -> Generator[Any]:
    """Run the agent, in its thread, and yield its stream."""
    stream = agent.run(task, stream=True, reset=False, images=images or None)
    if not task and not images:  # the last turn has only tool results: drop the empty task
        agent.memory.steps.pop()
    try:
        for item in stream:  # noqa: UP028  (it is closed as told below)
            yield item
    finally:
        with suppress(RuntimeError):  # smolagents yields once more while it is closed
            stream.close()


def _client_tool(tool: Tool) -> Any:
    """A client tool as shown to the model. It is never called: `_SmolagentsGate` gets the client's result."""
    schema: Any = {"properties": {"input": {"type": "string"}}, "required": ["input"]}
    if isinstance(tool, FunctionTool):
        schema = tool.parameters or {}
    required = schema.get("required", ())
    inputs = {
        name: {"type": "any", "description": "", **about, **({} if name in required else {"nullable": True})}
        for name, about in schema.get("properties", {}).items()
    }
    shown = smol.Tool.__new__(smol.Tool)  # skips its checks, which require a Python method `forward`
    shown.name, shown.description, shown.inputs, shown.output_type = tool.name, tool.description or "", inputs, "string"
    shown.is_initialized = True
    return shown


def _usage(step: Any) -> Iterator[UsageReported]:
    if step.token_usage is not None:
        yield UsageReported(step.token_usage.input_tokens, step.token_usage.output_tokens)


def _load_conversation(agent: Any, request: AgentRequest) -> tuple[str, list[Any]]:
    """Load the earlier messages into the agent's memory. Returns the text and the pictures of the user's last message."""
    earlier, last = [*request.turns], UserTurn()
    if earlier and isinstance(newest := earlier[-1], UserTurn):
        earlier[-1], last = UserTurn(newest.results), UserTurn(parts=newest.parts)
    steps = agent.memory.steps
    for turn in earlier:
        if isinstance(turn, UserTurn):
            if turn.results and steps:
                steps[-1].observations = "\n".join([result.text for result in turn.results])
            if turn.parts:
                steps.append(memory.TaskStep(turn.text, task_images=_open_images(turn.parts)))
            continue
        tool_calls = [memory.ToolCall(call.name, call.arguments, call.call_id) for call in turn.tool_calls]
        timing = monitoring.Timing(start_time=0.0, end_time=0.0)
        steps.append(
            memory.ActionStep(len(steps), timing, model_output=turn.text or None, tool_calls=tool_calls or None)
        )
    return last.text, _open_images(last.parts)


def _open_images(parts: Iterable[InputPart]) -> list[Any]:
    """The pictures. Raises InvalidRequest for a picture by URL, since nothing is fetched here."""
    images: list[Any] = []
    for part in parts:
        if isinstance(part, ImagePart):
            if part.content is None:
                text = "This agent takes pictures by a 'data:' URL only."
                raise InvalidRequest(text, param="messages", code="invalid_value")
            images.append(Image.open(io.BytesIO(part.content)))
        elif not isinstance(part, TextPart):
            raise InvalidRequest("This agent takes text and pictures.", param="messages", code="invalid_value")
    return images
