"""Checks that an answer is the JSON that its request asked for (`text.format`, `response_format`).

`pattern` and `format` are not checked: a regular expression from a client could keep the whole server busy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..agent_request import AgentRequest
from ..aio.off_loop import off_loop
from ..errors import InvalidRequest
from ..messages import AssistantMessage, TextPart, UserMessage
from ..wire.json import check_values, invalid_schema, parse_json, parse_schema
from ..wire.json_schema import TooManySteps
from ..wire.serialize_messages import chat_message

QUICK = 5_000
"""Steps, and characters of an answer, that the event loop has time for; what is longer is done in a thread."""

STEPS = 100_000
"""Steps that the check of one answer may take: some tenths of a second."""


class OutputFormat:
    """The format that an answer must have. Raises InvalidRequest for an invalid schema; `param` is where it was sent."""

    def __init__(self, wanted: Mapping[str, Any], param: str) -> None:
        schema = wanted["json_schema"].get("schema") if wanted["type"] == "json_schema" else {"type": "object"}
        self._param = param
        self._schema = None if schema is None else parse_schema(schema, param)

    async def problem(self, text: str) -> str | None:
        """The fault of an answer, for the agent to read; None if there is none.

        Raises InvalidRequest if it would take too long to find out: the schema is to blame.
        """
        # Most answers are short: checked at once, a thread would cost more.
        if len(text) <= QUICK:
            try:
                return self._problem(text, QUICK)
            except TooManySteps:
                pass
        try:
            return await off_loop(self._problem, text, STEPS)
        except TooManySteps:
            raise invalid_schema("checking the answer against it takes too long", self._param) from None

    def _problem(self, text: str, steps: int) -> str | None:
        data = text.encode("utf-8", "surrogatepass")
        try:
            check_values(data)
            value = parse_json(data)
        except InvalidRequest as error:
            return "It holds too many values." if error.code == "too_many_values" else "It is not valid JSON."
        return None if self._schema is None else self._schema.problem(value, steps)


def repair(request: AgentRequest, text: str, problem: str) -> AgentRequest:
    """The same request once more, after an answer that was not what it asked for."""
    asked = f"Your answer does not have the required form. {problem} Answer again, with the JSON alone."
    more = (AssistantMessage((TextPart(text),)), UserMessage((TextPart(asked),)))
    raw = [*request.raw_messages, *[chat_message(message) for message in more]]
    # Results and decisions were used up by the answer that is repaired.
    return replace(request, messages=(*request.messages, *more), raw_messages=raw, resume=None)
