"""The agent over further APIs: what Claude Code and Ollama's clients have of it is what chat says, and safe to act on.

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
from typing import Any, cast

from ...api.anthropic_messages import AnthropicMessages
from ...api.ollama import Ollama
from ...backend import AgentBackend
from ...server import Server
from ..answer import Answer
from ..client_call import http_request
from ..faults import raise_at
from ..subject import ObservedExchange, ask
from ..wrapping import Wrap
from .base import SECRET, Examination, expect, skip

Event = dict[str, Any]


class TransportChecks(Examination):
    """Checks of an agent over one further API. A subclass says how that is spoken."""

    def serve(self, agent: AgentBackend) -> object:
        """Serve the agent over these APIs too. Override it for policies of yours."""
        return Server(agent, apis=[AnthropicMessages(), Ollama()])

    # how the API is spoken

    def request_path(self) -> str:
        """Where an agent is asked."""
        raise NotImplementedError

    def request_body(self, prompt: str, *, stream: bool, tools: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """What asks it."""
        raise NotImplementedError

    def events(self, answer: Answer) -> list[Event]:
        """The events of a stream."""
        raise NotImplementedError

    def out_of_order(self, events: Sequence[Event]) -> str:
        """What is wrong with the order of a whole stream; empty if nothing is."""
        raise NotImplementedError

    def said(self, told: Sequence[Event]) -> str:
        """The text in the events of a stream, or in a whole answer."""
        raise NotImplementedError

    def calls(self, told: Sequence[Event]) -> list[tuple[str, Any]]:
        """The names and arguments of the calls in the same."""
        raise NotImplementedError

    def unsafe_failure(self, events: Sequence[Event]) -> str:
        """What is wrong with the end of a stream whose agent has failed; empty if nothing is."""
        raise NotImplementedError

    def over(self, prompt: str, *, stream: bool, wrap: Wrap | None = None, offers: bool = False) -> ObservedExchange:
        """Ask the agent over this API; `offers` says whether the client has tools."""
        body = self.request_body(prompt, stream=stream, tools=self.tools if offers else ())
        request = http_request("POST", self.request_path(), body, self.headers)
        subject = self.subject(wrap)
        exchange = self.run(lambda: ask(subject, self.watched(subject), request, self.patience))
        if exchange.answer.status == 404:
            skip(f"nothing is served at {self.request_path()}")
        return exchange

    # the checks

    def test_it_says_what_chat_says(self) -> None:
        """People choose a program, and get the same agent: make all answers from the same events."""
        if not self.repeatable:
            skip("the agent is declared not `repeatable`")
        expected = self.plain.answer.said().split()
        whole, streamed = self.over(self.prompt, stream=False), self.over(self.prompt, stream=True)
        for how, told in (("whole", [whole.answer.json]), ("streamed", self.events(streamed.answer))):
            expect(self.said(told).split() == expected, f"{how}: chat says {expected}, this API {self.said(told)!r}")

    def test_a_stream_is_in_order(self) -> None:
        """Clients put an answer together as it comes, and stop reading, or crash, at what does not come next."""
        fault = self.out_of_order(self.events(self.over(self.prompt, stream=True).answer))
        expect(not fault, fault)

    def test_a_call_of_the_clients_is_whole(self) -> None:
        """Programs run a call when they see it: all of its arguments have to be there, as an object."""
        offered = {tool["function"]["name"] for tool in self.tools}
        for stream in (True, False):
            answer = self.over(self.tool_prompt, stream=stream, offers=True).answer
            calls = self.calls(self.events(answer) if stream else [answer.json])
            if not calls:
                skip("`tool_prompt` leads to no call")
            wrong = [name for name, arguments in calls if name not in offered or not isinstance(arguments, dict)]
            expect(not wrong, f"calls that no client can run: {wrong}")

    def test_a_failed_answer_is_safe(self) -> None:
        """An agent that fails has acted: no client may take its answer for whole, run its calls, or ask again by itself.

        The stream ends with an error in the form of the API, after which nothing comes.
        """
        if not self.can_be_watched:
            skip("no fault can be put into an agent inside an ASGI application")
        for after in (0, self.pieces_to_text):
            exchange = self.over(self.prompt, stream=True, wrap=_failing_after(after))
            expect(SECRET.encode() not in exchange.answer.body, "the answer shows the text of the exception")
            expect(len(exchange.runs) == 1, f"the agent has run {len(exchange.runs)} times")
            if exchange.answer.status == 200:
                fault_told = self.unsafe_failure(self.events(exchange.answer))
                expect(not fault_told, fault_told)


class MessagesConformance(TransportChecks):
    """The agent as Claude Code and Anthropic's SDKs have it. Set what `Conformance` has."""

    def request_path(self) -> str:
        """`/v1/messages`."""
        return f"{self.path}/messages"

    def request_body(self, prompt: str, *, stream: bool, tools: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """A request as Claude Code sends it."""
        body = {**self.body(prompt, stream=stream), "max_tokens": 32_000, "thinking": {"type": "adaptive"}}
        functions = [tool["function"] for tool in tools]
        offered = [
            {"name": told["name"], "description": told.get("description", ""), "input_schema": told["parameters"]}
            for told in functions
        ]
        return {**body, "tools": offered} if offered else body

    def events(self, answer: Answer) -> list[Event]:
        """The data of the events."""
        return answer.events

    def out_of_order(self, events: Sequence[Event]) -> str:
        """One block at a time, counted from 0, between the first and the last event."""
        kinds = [str(event.get("type")) for event in events if event.get("type") != "ping"]
        if kinds[:1] != ["message_start"] or kinds[-2:] != ["message_delta", "message_stop"]:
            return f"a stream begins with message_start, and ends with message_stop, not {kinds}"
        if not all([event.get("usage") for event in events if event.get("type") == "message_delta"]):
            return "there is no usage in message_delta"
        return _blocks_out_of_order(events)

    def said(self, told: Sequence[Event]) -> str:
        """The texts of its blocks."""
        if len(told) == 1 and "content" in told[0]:
            return "\n\n".join([b["text"] for b in told[0]["content"] if b.get("type") == "text"])
        pieces = [
            "\n\n" if e["type"] == "content_block_start" else e["delta"].get("text", "") for e in _of_blocks(told)
        ]
        return "".join(pieces)

    def calls(self, told: Sequence[Event]) -> list[tuple[str, Any]]:
        """Its `tool_use` blocks, whose arguments are in their deltas alone: Claude Code reads no others."""
        if len(told) == 1 and "content" in told[0]:
            return [(b["name"], b["input"]) for b in told[0]["content"] if b.get("type") == "tool_use"]
        names: list[str] = []
        arguments: list[str] = []
        for event in _of_blocks(told):
            if event.get("content_block", {}).get("type") == "tool_use":
                names.append(event["content_block"]["name"])
                arguments.append("")
            elif "partial_json" in event.get("delta", {}):
                arguments[-1] += event["delta"]["partial_json"]
        return list(zip(names, map(_parsed, arguments), strict=True))

    def unsafe_failure(self, events: Sequence[Event]) -> str:
        """Claude Code asks again where no block is whole, and at some types of errors; it runs each call it sees."""
        kinds = [str(event.get("type")) for event in events if event.get("type") != "ping"]
        if kinds[-1:] != ["error"]:
            return f"a stream that has failed ends with an error, not {kinds[-1:]}"
        if "content_block_stop" not in kinds or kinds.count("content_block_start") != kinds.count("content_block_stop"):
            return f"before the error a block has to be whole, and none open: {kinds}"
        told = events[-1].get("error", {}).get("type")
        if told in ("api_error", "overloaded_error", "timeout_error", "rate_limit_error"):
            return f"Claude Code sends the request again at an error of the type {told}"
        return "a call was shown although the answer failed" if self.calls(events) else ""


class OllamaConformance(TransportChecks):
    """The agent as Ollama's clients have it. Set what `Conformance` has."""

    def request_path(self) -> str:
        """`/api/chat`, beside `/v1`."""
        return f"{self.path.removesuffix('/v1')}/api/chat"

    def request_body(self, prompt: str, *, stream: bool, tools: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """A request as Ollama's package sends it."""
        body = self.body(prompt, stream=stream)
        return {**body, "tools": list(tools)} if tools else body

    def events(self, answer: Answer) -> list[Event]:
        """The lines."""
        return [cast("Event", found) for line in answer.body.splitlines() if isinstance(found := _parsed(line), dict)]

    def out_of_order(self, events: Sequence[Event]) -> str:
        """The last line alone is done, and each has a message."""
        done = [event.get("done") for event in events]
        if done != [*[False] * (len(done) - 1), True]:
            return f"the last line, and no other one, is done: {done}"
        bare = [event for event in events if not isinstance(event.get("message", {}).get("content"), str)]
        return f"lines without a message: {bare}" if bare else ""

    def said(self, told: Sequence[Event]) -> str:
        """The texts of its messages."""
        return "".join([event.get("message", {}).get("content", "") for event in told])

    def calls(self, told: Sequence[Event]) -> list[tuple[str, Any]]:
        """The calls of its messages."""
        calls = [call["function"] for event in told for call in event.get("message", {}).get("tool_calls", ())]
        return [(call["name"], call["arguments"]) for call in calls]

    def unsafe_failure(self, events: Sequence[Event]) -> str:
        """The last line is an error, and no other one is done."""
        if not events or "error" not in events[-1] or any([event.get("done") for event in events]):
            return f"a stream that has failed ends with an error, and no line is done: {events}"
        return "a call was shown although the answer failed" if self.calls(events) else ""


def _failing_after(items: int) -> Wrap:
    return lambda agent: raise_at(agent, items, RuntimeError(SECRET))


def _of_blocks(events: Sequence[Event]) -> list[Event]:
    return [event for event in events if event.get("type") in ("content_block_start", "content_block_delta")]


def _blocks_out_of_order(events: Sequence[Event]) -> str:
    index, is_open = -1, False
    for event in events:
        kind = str(event.get("type"))
        if not kind.startswith("content_block"):
            continue
        if (kind == "content_block_start") is is_open:
            return f"{kind} comes while a block is {'open' if is_open else 'closed'}"
        if kind == "content_block_start":
            index, is_open = index + 1, True
        elif kind == "content_block_stop":
            is_open = False
        if event.get("index") != index:
            return f"{kind} is of block {event.get('index')}, not {index}"
    return "a block is open at the end" if is_open else ""


def _parsed(text: str | bytes) -> Any:
    try:
        return json.loads(text or "{}")
    except ValueError:
        return None
