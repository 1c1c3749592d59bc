"""The agent as Claude Code and Anthropic's SDKs have it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import anyio

from ...messages import UserMessage
from ..answer import Answer
from ..client_call import Call, http_request
from ..subject import ObservedExchange, ask
from ..wrapping import Wrap
from .base import expect, skip
from .transports import Event, TransportChecks, parsed, saying

AT_ONCE = 14
"""Counts that Claude Code asks for at once."""

DELTAS = {
    "text_delta": "text",
    "citations_delta": "text",
    "thinking_delta": "thinking",
    "signature_delta": "thinking",
    "input_json_delta": "tool_use",
}
"""The block that each delta belongs to: Claude Code asks again, or stops, where one comes in another."""

LONG = 50
"""How often a text has the prompt that is to count for more."""

MOST = 32_000
"""The `max_tokens` of Claude Code."""

UNENDED = {
    "max_tokens": "ends for its length: Claude Code asks for the rest, and the agent runs again",
    "model_context_window_exceeded": "ends for its length: Claude Code asks for the rest, and the agent runs again",
    "pause_turn": "is not over: Anthropic's tool runner sends it again, and the agent runs again",
    "refusal": "is refused: Claude Code asks again, and shows a text of its own",
}
"""What is wrong with an answer that has one of these for its `stop_reason`."""


class MessagesConformance(TransportChecks):
    """The agent as Claude Code and Anthropic's SDKs have it. Set what `Conformance` has."""

    @property
    def headers(self) -> dict[str, str]:
        """Those of a client that knows blocks for the agent's own tools, as Claude Code does."""
        return {**super().headers, "anthropic-beta": "mcp-client-2025-11-20"}

    def request_path(self) -> str:
        """Where Anthropic's clients post what they ask."""
        return f"{self.path}/messages"

    def request_body(self, prompt: str, *, stream: bool, tools: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """A request as Claude Code sends it."""
        body = {**self.body(prompt, stream=stream), "max_tokens": MOST, "thinking": {"type": "adaptive"}}
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
        told = [events[0].get("message", {}), *[event for event in events if event.get("type") == "message_delta"]]
        if not all([about.get("usage") for about in told]):
            return "there is no usage in message_start, or in message_delta"
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
        return list(zip(names, map(parsed, arguments), strict=True))

    def told_nothing(self, told: Sequence[Event]) -> str:
        """Claude Code asks again where no text is seen."""
        return "" if self.said(told).strip() else "Claude Code sends a request again whose answer shows no text"

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

    # the end of an answer

    def test_a_whole_answer_ends_with_its_turn(self) -> None:
        """Claude Code asks for the rest of an answer that ends for its length, and shows its own text for a refused one.

        Not of an agent's work that is done, also where it is longer than the server thinks 32,000 tokens are.
        """
        asked = [(self.over(self.prompt, stream=stream), "the answer") for stream in (True, False)]
        if self.can_be_watched:
            long = "word " * MOST  # which are more tokens, at four characters each
            asked.append((self._as_claude_code(saying([long])), f"an answer of {MOST} words"))
        for exchange, what in asked:
            told = self.events(exchange.answer) or [exchange.answer.json]
            reasons = [
                e.get("delta", e).get("stop_reason") for e in told if e.get("type") in ("message_delta", "message")
            ]
            fault = UNENDED.get(str(reasons[-1] if reasons else None))
            expect(not fault, f"{what} {fault}")

    def _as_claude_code(self, wrap: Wrap) -> ObservedExchange:
        subject, headers = self.subject(wrap), {**self.headers, "x-claude-code-session-id": "conformance-kit"}
        body = self.request_body(self.prompt, stream=True, tools=())
        request = http_request("POST", self.request_path(), body, headers)
        return self.run(lambda: ask(subject, self.watched(subject), request, self.patience))

    # threads and counts

    def test_a_thread_goes_on_or_is_gone(self) -> None:
        """Anthropic's tool runner begins a thread, and then sends only what is new.

        A server that passes over `thread` has an agent that knows nothing of what was said before. One that keeps none
        answers with 404 and `thread_not_found`, and gets all of it again.
        """
        first = self._in_thread({"type": "create"}).answer
        if _code(first) == "thread_unsupported_request":
            skip("there are no threads")
        expect(first.status == 200, f"a thread is begun with {first.status}: {first.error}")
        unknown = self._in_thread({"type": "continue", "previous_message_id": "msg_of_no_thread"})
        _expect_not_found(unknown.answer)
        expect(not unknown.runs, "the agent has run for a thread that is not kept")
        second = self._in_thread({"type": "continue", "previous_message_id": first.json.get("id")})
        if second.answer.status != 200:
            _expect_not_found(second.answer)
        for run in second.runs:
            asked = [message for message in run.request.messages if isinstance(message, UserMessage)]
            expect(len(asked) == 2, f"of a thread with two questions the agent was given {len(asked)}")

    def test_tokens_are_counted_beside_the_agent(self) -> None:
        """Claude Code counts a dozen times at once, to show what fills its context: no run, no slot, no part of a rate."""
        counts, runs = self.run(self._count)
        if any([answer.status == 404 for answer in counts]):
            skip("nothing is counted here")
        refused = {answer.status for answer in counts if answer.status != 200}
        expect(not refused, f"some of {len(counts)} counts at once are answered with {refused}")
        expect(runs == 0, f"the agent has run {runs} times, to count")
        short, *_, long = [answer.json.get("input_tokens") for answer in counts]
        whole = isinstance(short, int) and isinstance(long, int) and 0 < short < long
        expect(whole, f"{short!r} tokens are in the prompt, and {long!r} in a text that has it {LONG} times")

    def _in_thread(self, thread: Mapping[str, Any]) -> ObservedExchange:
        subject = self.once("subject of threads", self.subject)  # which keeps them
        body = {**self.request_body(self.prompt, stream=False, tools=()), "thread": thread}
        request = http_request("POST", self.request_path(), body, self.headers)
        return self.run(lambda: ask(subject, self.watched(subject), request, 0))

    async def _count(self) -> tuple[list[Answer], int]:
        """The answers, the first one for `prompt` and the last one for a long text, and how often the agent has run."""
        subject = self.subject()
        prompts = [*[self.prompt] * (AT_ONCE - 1), " ".join([self.prompt] * LONG)]
        answers = [Answer()] * AT_ONCE

        async def count(place: int) -> None:
            body = {"model": self.model_name, "messages": [{"role": "user", "content": prompts[place]}]}
            request = http_request("POST", f"{self.request_path()}/count_tokens", body, self.headers)
            async with Call(subject.target, request) as call:
                answers[place] = await call.read_all()

        async with anyio.create_task_group() as group:
            for place in range(AT_ONCE):
                group.start_soon(count, place)
        return answers, sum([len(agent.runs) for agent in subject.watched.values()])


def _code(answer: Answer) -> object:
    details = answer.error.get("details")
    return cast("dict[str, Any]", details).get("error_code") if isinstance(details, dict) else None


def _expect_not_found(answer: Answer) -> None:
    told = answer.status, _code(answer)
    expect(told == (404, "thread_not_found"), f"a thread that is not kept is 404 thread_not_found, not {told}")


def _of_blocks(events: Sequence[Event]) -> list[Event]:
    return [event for event in events if event.get("type") in ("content_block_start", "content_block_delta")]


def _blocks_out_of_order(events: Sequence[Event]) -> str:
    index, is_open, block = -1, False, ""
    for event in events:
        kind = str(event.get("type"))
        if not kind.startswith("content_block"):
            continue
        if (kind == "content_block_start") is is_open:
            return f"{kind} comes while a block is {'open' if is_open else 'closed'}"
        if kind == "content_block_start":
            index, is_open, block = index + 1, True, event.get("content_block", {}).get("type")
        elif kind == "content_block_stop":
            is_open = False
        elif DELTAS.get(delta := str(event.get("delta", {}).get("type"))) != block:
            return f"a {delta} comes in a block of the type {block}"
        if event.get("index") != index:
            return f"{kind} is of block {event.get('index')}, not {index}"
    return "a block is open at the end" if is_open else ""
