"""Checks of further APIs: Claude Code and Ollama's clients get the same answers as chat clients, and can act on them safely.

```python
class TestClaudeCode(MessagesConformance):
    agent = my_agent


class TestOllama(OllamaConformance):
    agent = my_agent
```
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ...api.anthropic_messages import AnthropicMessages
from ...api.ollama import Ollama
from ...backend import AgentBackend
from ...events import ReasoningDelta
from ...server import Server
from ...wire.reducer import Item
from ..answer import Answer
from ..client_call import http_request
from ..faults import raise_at
from ..scripted import ScriptedBackend
from ..subject import ObservedExchange, ask
from ..wrapping import Wrap
from .base import SECRET, Examination, expect, skip

Event = dict[str, Any]

SILENT_OUTPUTS: Mapping[str, Sequence[Item]] = {
    "nothing": (),
    "a blank": (" \n",),
    "a thought alone": (ReasoningDelta("Hm."),),
}
"""Outputs of agents without any visible text."""


class TransportChecks(Examination):
    """Checks of an agent over one further API. A subclass implements its format."""

    def serve(self, agent: AgentBackend) -> object:
        """Serve the agent over these APIs too. Override it to use your own policies."""
        return Server(agent, apis=[AnthropicMessages(), Ollama()])

    # the format of the API

    def request_path(self) -> str:
        """The path to which requests are posted."""
        raise NotImplementedError

    def request_body(self, prompt: str, *, stream: bool, tools: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The body of a request in the API's format, with `prompt` as the user's message."""
        raise NotImplementedError

    def events(self, answer: Answer) -> list[Event]:
        """The events of a stream."""
        raise NotImplementedError

    def order_fault(self, events: Sequence[Event]) -> str:
        """The fault in the order of a complete stream; empty if there is none."""
        raise NotImplementedError

    def answer_text(self, told: Sequence[Event]) -> str:
        """The text in the events of a stream, or in a plain answer."""
        raise NotImplementedError

    def calls(self, told: Sequence[Event]) -> list[tuple[str, Any]]:
        """The names and arguments of the calls in the events of a stream, or in a plain answer."""
        raise NotImplementedError

    def silence_fault(self, told: Sequence[Event]) -> str:
        """The fault in the answer of an agent that has no visible output; empty if there is none."""
        raise NotImplementedError

    def failure_fault(self, events: Sequence[Event]) -> str:
        """The fault at the end of a stream whose agent has failed; empty if there is none."""
        raise NotImplementedError

    def send(self, prompt: str, *, stream: bool, wrap: Wrap | None = None, offers: bool = False) -> ObservedExchange:
        """Send a request over this API; with `offers`, the client offers tools."""
        body = self.request_body(prompt, stream=stream, tools=self.tools if offers else ())
        request = http_request("POST", self.request_path(), body, self.headers)
        subject = self.subject(wrap)
        exchange = self.run(lambda: ask(subject, self.watched(subject), request, self.patience))
        if exchange.answer.status == 404:
            skip(f"nothing is served at {self.request_path()}")
        return exchange

    # the checks

    def test_it_says_what_chat_says(self) -> None:
        """The answer has the same text as the chat completion.

        Users get the same agent through any program. To fix: make all answers from the same events.
        """
        if not self.repeatable:
            skip("the agent is declared not `repeatable`")
        expected = self.plain.answer.said().split()
        whole, streamed = self.send(self.prompt, stream=False), self.send(self.prompt, stream=True)
        for how, told in (("whole", [whole.answer.json]), ("streamed", self.events(streamed.answer))):
            expect(
                self.answer_text(told).split() == expected,
                f"{how}: chat says {expected}, this API {self.answer_text(told)!r}",
            )

    def test_a_stream_is_in_order(self) -> None:
        """The events of a stream come in the order that the API's clients expect.

        Clients assemble an answer as it arrives, and stop reading, or crash, at an unexpected event. To fix: send the
        events in the order of the API.
        """
        fault = self.order_fault(self.events(self.send(self.prompt, stream=True).answer))
        expect(not fault, fault)

    def test_a_call_of_the_clients_is_whole(self) -> None:
        """A call of a client tool is complete: an offered name, and all arguments as a JSON object.

        Programs run a call as soon as they see it. To fix: send a call only once its arguments are complete, and only for tools
        that the client offers.
        """
        offered = {tool["function"]["name"] for tool in self.tools}
        for stream in (True, False):
            answer = self.send(self.tool_prompt, stream=stream, offers=True).answer
            calls = self.calls(self.events(answer) if stream else [answer.json])
            if not calls:
                skip("`tool_prompt` leads to no call")
            wrong = [name for name, arguments in calls if name not in offered or not isinstance(arguments, dict)]
            expect(not wrong, f"calls that no client can run: {wrong}")

    def test_the_agents_own_tools_are_no_calls(self) -> None:
        """Calls of the agent's own tools are not shown to the client as tool calls.

        Programs run every call that they see, and look for a tool of that name. To fix: do not send the calls that the agent runs
        itself in the format of tool calls.
        """
        for stream in (True, False):
            answer = self.send(self.own_tool_prompt or self.prompt, stream=stream).answer
            calls = self.calls(self.events(answer) if stream else [answer.json])
            expect(not calls, f"to a client without tools calls are shown: {calls}")

    def test_an_answer_without_a_word_is_one(self) -> None:
        """An answer without any text is still a valid answer, and is not retried.

        An agent without output may still have acted: its client must see an answer, and must not retry. To fix: end the stream or
        the answer as the API requires, with a visible text if its clients need one.
        """
        self._expect_watchable()
        for what, items in SILENT_OUTPUTS.items():
            for stream in (True, False):
                exchange = self.send(self.prompt, stream=stream, wrap=yield_only(items))
                answer = exchange.answer
                expect(answer.status == 200, f"an agent that says {what} is answered for with {answer.status}")
                expect(len(exchange.runs) == 1, f"the agent has run {len(exchange.runs)} times")
                fault = self.silence_fault(self.events(answer) if stream else [answer.json])
                expect(not fault, f"the agent says {what}: {fault}")

    def test_a_failed_answer_is_safe(self) -> None:
        """A failed answer ends with an error that no client retries, and contains no call to run.

        A failed agent may have acted: no client may treat the answer as complete, run its calls, or retry on its own. To fix: end
        the stream with an error in the format of the API, and send nothing after it.
        """
        self._expect_watchable()
        for after in (0, self.pieces_to_text):
            exchange = self.send(self.prompt, stream=True, wrap=_failing_after(after))
            expect(SECRET.encode() not in exchange.answer.body, "the answer shows the text of the exception")
            expect(len(exchange.runs) == 1, f"the agent has run {len(exchange.runs)} times")
            if exchange.answer.status == 200:
                fault_told = self.failure_fault(self.events(exchange.answer))
                expect(not fault_told, fault_told)

    def _expect_watchable(self) -> None:
        if not self.can_be_watched:
            skip("no fault can be put into an agent inside an ASGI application")


def yield_only(items: Sequence[Item]) -> Wrap:
    """Replaces an agent by one that yields these items."""
    return lambda agent: ScriptedBackend(items, capabilities=agent.capabilities)


def _failing_after(items: int) -> Wrap:
    return lambda agent: raise_at(agent, items, RuntimeError(SECRET))


def parse_json(text: str | bytes) -> Any:
    """The JSON value of a text, an empty object for an empty text, None for invalid JSON."""
    try:
        return json.loads(text or "{}")
    except ValueError:
        return None
