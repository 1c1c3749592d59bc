"""Checks of the agent as Claude Code and Anthropic's SDKs see it."""

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
from .transports import Event, TransportChecks, parse_json, yield_only

CONCURRENT_COUNTS = 14
"""Number of token counts that Claude Code requests at once."""

DELTAS = {
    "text_delta": "text",
    "citations_delta": "text",
    "thinking_delta": "thinking",
    "signature_delta": "thinking",
    "input_json_delta": "tool_use",
}
"""The block type of each delta: Claude Code retries, or stops, if a delta comes in another block."""

LONG_REPETITIONS = 50
"""Number of repetitions of the prompt in the long text of the counting check."""

MAX_TOKENS = 32_000
"""The `max_tokens` of Claude Code."""

UNENDED_FAULTS = {
    "max_tokens": "ends for its length: Claude Code asks for the rest, and the agent runs again",
    "model_context_window_exceeded": "ends for its length: Claude Code asks for the rest, and the agent runs again",
    "pause_turn": "is not over: Anthropic's tool runner sends it again, and the agent runs again",
    "refusal": "is refused: Claude Code asks again, and shows a text of its own",
}
"""The fault of an answer with one of these values of `stop_reason`."""


class MessagesConformance(TransportChecks):
    """The agent as Claude Code and Anthropic's SDKs see it. Its settings are those of `Conformance`."""

    @property
    def headers(self) -> dict[str, str]:
        """The headers of a client that supports blocks for the agent's own tools, such as Claude Code."""
        return {**super().headers, "anthropic-beta": "mcp-client-2025-11-20"}

    def request_path(self) -> str:
        """The path to which Anthropic's clients post messages."""
        return f"{self.path}/messages"

    def request_body(self, prompt: str, *, stream: bool, tools: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """A request as Claude Code sends it."""
        body = {**self.body(prompt, stream=stream), "max_tokens": MAX_TOKENS, "thinking": {"type": "adaptive"}}
        functions = [tool["function"] for tool in tools]
        offered = [
            {"name": told["name"], "description": told.get("description", ""), "input_schema": told["parameters"]}
            for told in functions
        ]
        return {**body, "tools": offered} if offered else body

    def events(self, answer: Answer) -> list[Event]:
        """The JSON data of the events."""
        return answer.events

    def order_fault(self, events: Sequence[Event]) -> str:
        """One block at a time, counted from 0, between the first and the last event."""
        kinds = [str(event.get("type")) for event in events if event.get("type") != "ping"]
        if kinds[:1] != ["message_start"] or kinds[-2:] != ["message_delta", "message_stop"]:
            return f"a stream begins with message_start, and ends with message_stop, not {kinds}"
        told = [events[0].get("message", {}), *[event for event in events if event.get("type") == "message_delta"]]
        if not all([about.get("usage") for about in told]):
            return "there is no usage in message_start, or in message_delta"
        return _block_order_fault(events)

    def answer_text(self, told: Sequence[Event]) -> str:
        """The texts of the answer's blocks."""
        if len(told) == 1 and "content" in told[0]:
            return "\n\n".join([b["text"] for b in told[0]["content"] if b.get("type") == "text"])
        pieces = [
            "\n\n" if e["type"] == "content_block_start" else e["delta"].get("text", "") for e in _block_events(told)
        ]
        return "".join(pieces)

    def calls(self, told: Sequence[Event]) -> list[tuple[str, Any]]:
        """The `tool_use` blocks. Their arguments are only read from the deltas, as Claude Code does."""
        if len(told) == 1 and "content" in told[0]:
            return [(b["name"], b["input"]) for b in told[0]["content"] if b.get("type") == "tool_use"]
        names: list[str] = []
        arguments: list[str] = []
        for event in _block_events(told):
            if event.get("content_block", {}).get("type") == "tool_use":
                names.append(event["content_block"]["name"])
                arguments.append("")
            elif "partial_json" in event.get("delta", {}):
                arguments[-1] += event["delta"]["partial_json"]
        return list(zip(names, map(parse_json, arguments), strict=True))

    def silence_fault(self, told: Sequence[Event]) -> str:
        """The fault of an answer without visible text, at which Claude Code retries."""
        return "" if self.answer_text(told).strip() else "Claude Code sends a request again whose answer shows no text"

    def failure_fault(self, events: Sequence[Event]) -> str:
        """The fault of a failed stream. Claude Code retries if no block is complete, or at some errors; it runs every call."""
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
        """A whole answer ends with `stop_reason` "end_turn" or another one that ends the turn, even if it is very long.

        Claude Code requests the rest of an answer that ends because of its length, and replaces a refused one by its own text. So
        the work of an agent would be repeated. To fix: do not report a length limit for a complete answer, even if the server
        estimates it at more than 32,000 tokens.
        """
        asked = [(self.send(self.prompt, stream=stream), "the answer") for stream in (True, False)]
        if self.can_be_watched:
            long = "word " * MAX_TOKENS  # more than MAX_TOKENS tokens, at four characters per token
            asked.append((self._send_as_claude_code(yield_only([long])), f"an answer of {MAX_TOKENS} words"))
        for exchange, what in asked:
            told = self.events(exchange.answer) or [exchange.answer.json]
            reasons = [
                e.get("delta", e).get("stop_reason") for e in told if e.get("type") in ("message_delta", "message")
            ]
            fault = UNENDED_FAULTS.get(str(reasons[-1] if reasons else None))
            expect(not fault, f"{what} {fault}")

    def _send_as_claude_code(self, wrap: Wrap) -> ObservedExchange:
        subject, headers = self.subject(wrap), {**self.headers, "x-claude-code-session-id": "conformance-kit"}
        body = self.request_body(self.prompt, stream=True, tools=())
        request = http_request("POST", self.request_path(), body, headers)
        return self.run(lambda: ask(subject, self.watched(subject), request, self.patience))

    # threads and counts

    def test_a_thread_goes_on_or_is_gone(self) -> None:
        """A thread is continued with its history, or is refused with 404 `thread_not_found`.

        Anthropic's tool runner begins a thread, and then sends only new messages. If the server ignores `thread`, the
        agent misses the history. To fix: keep the history of threads; or answer 404 with `thread_not_found`, and the
        client sends all of it again.
        """
        first = self._send_in_thread({"type": "create"}).answer
        if _error_code(first) == "thread_unsupported_request":
            skip("there are no threads")
        expect(first.status == 200, f"a thread is begun with {first.status}: {first.error}")
        unknown = self._send_in_thread({"type": "continue", "previous_message_id": "msg_of_no_thread"})
        _expect_not_found(unknown.answer)
        expect(not unknown.runs, "the agent has run for a thread that is not kept")
        second = self._send_in_thread({"type": "continue", "previous_message_id": first.json.get("id")})
        if second.answer.status != 200:
            _expect_not_found(second.answer)
        for run in second.runs:
            asked = [message for message in run.request.messages if isinstance(message, UserMessage)]
            expect(len(asked) == 2, f"of a thread with two questions the agent was given {len(asked)}")

    def test_tokens_are_counted_beside_the_agent(self) -> None:
        """Counting tokens does not run the agent, and many counts at once are answered.

        Claude Code requests a dozen counts at once, to show the content of its context window. To fix: count without running the
        agent, without taking a slot, and without charging a rate limit.
        """
        counts, runs = self.run(self._count_tokens)
        if any([answer.status == 404 for answer in counts]):
            skip("nothing is counted here")
        refused = {answer.status for answer in counts if answer.status != 200}
        expect(not refused, f"some of {len(counts)} counts at once are answered with {refused}")
        expect(runs == 0, f"the agent has run {runs} times, to count")
        short, *_, long = [answer.json.get("input_tokens") for answer in counts]
        whole = isinstance(short, int) and isinstance(long, int) and 0 < short < long
        expect(
            whole, f"{short!r} tokens are in the prompt, and {long!r} in a text that has it {LONG_REPETITIONS} times"
        )

    def _send_in_thread(self, thread: Mapping[str, Any]) -> ObservedExchange:
        subject = self.once("subject of threads", self.subject)  # which stores the threads
        body = {**self.request_body(self.prompt, stream=False, tools=()), "thread": thread}
        request = http_request("POST", self.request_path(), body, self.headers)
        return self.run(lambda: ask(subject, self.watched(subject), request, 0))

    async def _count_tokens(self) -> tuple[list[Answer], int]:
        """The answers, first for `prompt` and last for a long text, and the number of agent runs."""
        subject = self.subject()
        prompts = [*[self.prompt] * (CONCURRENT_COUNTS - 1), " ".join([self.prompt] * LONG_REPETITIONS)]
        answers = [Answer()] * CONCURRENT_COUNTS

        async def count(place: int) -> None:
            body = {"model": self.model_name, "messages": [{"role": "user", "content": prompts[place]}]}
            request = http_request("POST", f"{self.request_path()}/count_tokens", body, self.headers)
            async with Call(subject.target, request) as call:
                answers[place] = await call.read_all()

        async with anyio.create_task_group() as group:
            for place in range(CONCURRENT_COUNTS):
                group.start_soon(count, place)
        return answers, sum([len(agent.runs) for agent in subject.watched.values()])


def _error_code(answer: Answer) -> object:
    details = answer.error.get("details")
    return cast("dict[str, Any]", details).get("error_code") if isinstance(details, dict) else None


def _expect_not_found(answer: Answer) -> None:
    told = answer.status, _error_code(answer)
    expect(told == (404, "thread_not_found"), f"a thread that is not kept is 404 thread_not_found, not {told}")


def _block_events(events: Sequence[Event]) -> list[Event]:
    return [event for event in events if event.get("type") in ("content_block_start", "content_block_delta")]


def _block_order_fault(events: Sequence[Event]) -> str:
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
