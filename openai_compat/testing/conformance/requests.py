"""Checks that all parts of a request reach the agent, or are refused by name."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import fields, replace
from typing import Any

from ...agent_request import AgentRequest, Sampling
from ...backend import AgentBackend, RunContext
from ...events import AgentEvent, ToolCallReady, ToolCallStarted
from ...messages import ImagePart, UserMessage
from ..subject import ObservedExchange
from ..watch import Watched
from ..wrapping import Wrapper
from .base import Examination, expect, skip

# No client's defaults, and exact in binary, so that they can be compared however they were written.
PARAMETERS: Mapping[str, Any] = {"temperature": 0.25, "top_p": 0.5, "seed": 4711, "frequency_penalty": 0.125}

PICTURE = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="

FORMAT: Mapping[str, Any] = {
    "type": "json_schema",
    "json_schema": {
        "name": "greeting",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"text": {"type": "string"}},
            "required": ["text"],
            "additionalProperties": False,
        },
    },
}


class _ParameterRecorder(Wrapper):
    """Records the sampling parameters that its agent reads."""

    def __init__(self, agent: AgentBackend, names_read: set[str]) -> None:
        super().__init__(agent)

        class RecordingSampling(Sampling):  # without new fields, so that `replace` also makes a RecordingSampling
            def __getattribute__(self, name: str) -> Any:
                names_read.add(name)
                return super().__getattribute__(name)

        self._recording = RecordingSampling

    def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[AgentEvent | str]:
        """Run the agent with watched parameters."""
        # Read before watching, or all parameters would count as read.
        values = {each.name: getattr(request.sampling, each.name) for each in fields(Sampling)}
        return super().run(replace(request, sampling=self._recording(**values)), context)


class RequestChecks(Examination):
    """Checks of the request that reaches the agent; they need an agent that can be watched."""

    def test_parameters_reach_the_agent(self) -> None:
        """Sampling parameters reach the agent, or are refused with a 400 that names them.

        A client whose `temperature` is dropped gets other answers, and cannot find out why. To fix: pass the parameters on as
        `request.sampling`, or refuse those that you do not support with a 400 whose `param` names them.
        """
        request = self._received_request(self.ask(self.body(self.prompt, **PARAMETERS)), PARAMETERS)
        if request is not None:
            seen = {name: getattr(request.sampling, name) for name in PARAMETERS}
            expect(seen == PARAMETERS, f"sent were {dict(PARAMETERS)}, the agent got {seen}")

    def test_a_parameter_is_passed_on_or_told(self) -> None:
        """Sampling parameters without effect are reported to the client in `X-Ignored-Parameters`.

        A client that does not know that a parameter has no effect looks for the cause in its prompt. To fix: declare
        the parameters that reach your model, `Capabilities(parameters={…})`, and pass on every declared one. The server
        names the others in `X-Ignored-Parameters`.
        """
        can, names_read = self._watched_agent.capabilities, set[str]()
        if can.parameters is None:
            skip("it is not told which parameters are passed on: declare Capabilities(parameters=…)")
        exchange = self.ask(self.body(self.prompt, **PARAMETERS), lambda agent: _ParameterRecorder(agent, names_read))
        request = self._received_request(exchange, PARAMETERS)
        if request is not None:
            header = exchange.answer.header("x-ignored-parameters") or ""
            told = {name.strip() for name in header.split(",")} - {""}
            ignored = can.ignored(request.sampling)
            expect(told == set(ignored), f"ignored are {sorted(ignored)}, X-Ignored-Parameters names {sorted(told)}")
            lost = sorted((PARAMETERS.keys() & can.parameters) - names_read)
            expect(not lost, f"declared as passed on, but the agent never looks at them: {lost}")

    def test_a_picture_reaches_the_agent_or_is_refused(self) -> None:
        """A picture reaches the agent, or is refused with a 400.

        An agent that gets only the text answers about a picture that it has not seen. To fix: pass the picture on, or declare
        `Capabilities(vision=False)`: then the answer is a 400 that names the part.
        """
        parts = [{"type": "text", "text": self.prompt}, {"type": "image_url", "image_url": {"url": PICTURE}}]
        body = self.body(self.prompt) | {"messages": [{"role": "user", "content": parts}]}
        request = self._received_request(self.ask(body), ["messages"], can=self._watched_agent.capabilities.vision)
        if request is not None:
            last = request.messages[-1]
            kinds = [type(part).__name__ for part in last.parts] if isinstance(last, UserMessage) else []
            expect(ImagePart.__name__ in kinds, f"the agent got a message of {kinds or type(last).__name__}")

    def test_response_format_reaches_the_agent_or_is_refused(self) -> None:
        """`response_format` reaches the agent, or is refused with a 400.

        A program that requests JSON parses the answer without checking it, and crashes on plain text. To fix: follow
        `request.response_format`, or declare `Capabilities(structured_output=False)`: then the answer is a 400.
        """
        exchange = self.ask(self.body(self.prompt, response_format=FORMAT))
        request = self._received_request(
            exchange, ["response_format"], can=self._watched_agent.capabilities.structured_output
        )
        if request is not None:
            expect(request.response_format == FORMAT, f"the agent got {request.response_format!r}")

    def test_a_client_cannot_take_the_place_of_an_own_tool(self) -> None:
        """A client's tool with the name of one of the agent's own tools does not replace that tool.

        Otherwise the client gets the call, and can write its result. To fix: declare the names of your tools with
        `Capabilities(own_tools={…})`, or with a method `tool_names(request)` of the backend.
        """
        names = self._own_tool_names()
        if not names:
            skip("the agent used no tool of its own; set `own_tool_prompt` so that it does")
        for name in names:
            tool = {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}
            answer = self.ask(self.body(self.own_tool_prompt or self.prompt, tools=[tool])).answer
            expect(not answer.tool_call_pieces, f"the client was asked to run the agent's own tool {name!r}")

    @property
    def _watched_agent(self) -> Watched:
        watched = self.watched(self.subject())
        if watched is None:
            skip("the agent cannot be watched inside an ASGI application; hand over the agent or its Server")
        return watched

    def _received_request(self, exchange: ObservedExchange, names: Any, *, can: bool = True) -> AgentRequest | None:
        """The request as the agent got it; None if it was refused with an error that names one of `names`."""
        answer, _ = exchange.answer, self._watched_agent
        if answer.status == 400:
            param = str(answer.error.get("param"))
            expect(
                any([param.startswith(name) for name in names]), f"refused, but `param` is {param!r}: {answer.error}"
            )
            expect(not exchange.runs, "refused, but the agent was run")
            return None
        expect(can, f"the agent declares that it cannot take this, and the answer is {answer.status}, not 400")
        expect(exchange.runs, f"the agent was not run; the answer is {answer.status}: {answer.error}")
        return exchange.runs[0].request

    def _own_tool_names(self) -> list[str]:
        self._watched_agent  # noqa: B018  (skips)
        exchange = self.streamed if self.own_tool_prompt is None else self.ask(self.body(self.own_tool_prompt))
        items = [item for run in exchange.runs for item in run.items]
        return sorted({item.name for item in items if isinstance(item, ToolCallStarted | ToolCallReady)})
