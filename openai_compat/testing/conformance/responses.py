"""Checks of the Responses API: the same answer as chat, in a stream with numbered events and a proper end."""

from __future__ import annotations

from typing import Any

from ..subject import ObservedExchange
from .base import Examination, expect, skip


class ResponsesChecks(Examination):
    """Checks of `/responses`; they are skipped if it does not exist."""

    @property
    def responses(self) -> dict[str, ObservedExchange]:
        """The plain and the streamed answer to `prompt`."""
        return self.once("responses", self._ask_both)

    def _ask_both(self) -> dict[str, ObservedExchange]:
        plain = self.respond({"input": self.prompt})
        if 400 <= plain.answer.status < 500:
            skip(f"there is no Responses API ({plain.answer.status})")
        streamed = self.respond({"input": self.prompt, "stream": True})
        for how, exchange in (("plain", plain), ("streamed", streamed)):
            expect(exchange.answer.status == 200, f"{how}: {exchange.answer.status}: {exchange.answer.error}")
        return {"plain": plain, "streamed": streamed}

    def test_a_response_says_what_chat_says(self) -> None:
        """A response has the same text as the chat completion, and the status "completed".

        Users get the same agent through any API that their client chooses. To fix: make both answers from the same events.
        """
        if not self.repeatable:
            skip("the agent is declared not `repeatable`")
        plain, streamed = self.responses["plain"].answer.json, _final_response(self.responses["streamed"])
        for how, body, chat in (("plain", plain, self.plain), ("streamed", streamed, self.streamed)):
            said, expected = _response_text(body), chat.answer.said()
            expect(body.get("status") == "completed", f"{how}: the status is {body.get('status')!r}")
            same = said.split() == expected.split()  # chat puts a blank line between two messages
            expect(same, f"{how}: chat says {expected!r}, the response {said!r}")

    def test_the_events_of_a_response_are_numbered_and_end_with_it(self) -> None:
        """The events of a response are numbered from 0 without a gap, and end with `response.completed`.

        A reader that was cut off resumes after a number; a gap or a missing end looks like a broken connection. To fix:
        number the events without a gap, begin with `response.created`, end with `response.completed`, and let the
        deltas add up to the text.
        """
        events = self.responses["streamed"].answer.events
        numbers = [event.get("sequence_number") for event in events]
        expect(numbers == list(range(len(events))), f"the events are numbered {numbers}")
        kinds = [str(event.get("type")) for event in events]
        expect(kinds[:1] == ["response.created"], f"the first event is {kinds[:1]}")
        expect(kinds[-1:] == ["response.completed"], f"the last event is {kinds[-1:]}")
        deltas = [str(event.get("delta")) for event in events if event.get("type") == "response.output_text.delta"]
        said = _response_text(_final_response(self.responses["streamed"]))
        expect("".join(deltas) == said, f"the deltas add up to {''.join(deltas)!r}, the text is {said!r}")


def _final_response(exchange: ObservedExchange) -> dict[str, Any]:
    events = exchange.answer.events
    return (events[-1].get("response") or {}) if events else {}


def _response_text(body: dict[str, Any]) -> str:
    messages = [item for item in body.get("output") or () if item.get("type") == "message"]
    parts = [part for item in messages for part in item.get("content") or ()]
    return "".join([part.get("text", "") for part in parts])
