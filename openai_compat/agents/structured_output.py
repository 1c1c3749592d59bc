"""Checks that an answer is the JSON that the request demanded (`text.format`, `response_format`).

`pattern` and `format` are not checked: a regular expression from a client could keep the whole server busy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..agent_request import AgentRequest
from ..aio.off_loop import run_off_loop
from ..errors import InvalidRequest
from ..messages import AssistantMessage, TextPart, UserMessage
from ..wire.json import check_values, invalid_schema, parse_json, parse_schema
from ..wire.json_schema import TooManySteps
from ..wire.serialize_messages import chat_message

QUICK_STEPS = 5_000
"""Limit of steps and of characters for a check on the event loop; longer checks run in a thread."""

MAX_STEPS = 100_000
"""Limit of steps for the check of one answer: some tenths of a second."""


class OutputFormat:
    """The required format of an answer. Raises InvalidRequest for an invalid schema; `param` names the request field."""

    def __init__(self, wanted: Mapping[str, Any], param: str) -> None:
        schema = wanted["json_schema"].get("schema") if wanted["type"] == "json_schema" else {"type": "object"}
        self._param = param
        self._schema = None if schema is None else parse_schema(schema, param)

    async def problem(self, text: str) -> str | None:
        """Describe the fault of an answer, for the agent to read; None for a valid answer.

        Raises InvalidRequest if the check takes too long, since the client's schema is to blame.
        """
        # Most answers are short: a thread would cost more than the check.
        if len(text) <= QUICK_STEPS:
            try:
                return self._problem(text, QUICK_STEPS)
            except TooManySteps:
                pass
        try:
            return await run_off_loop(self._problem, text, MAX_STEPS)
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


def repair_request(request: AgentRequest, text: str, problem: str) -> AgentRequest:
    """The request for a second attempt: the first answer and its fault are appended to the conversation history."""
    prompt = f"Your answer does not have the required form. {problem} Answer again, with the JSON alone."
    more = (AssistantMessage((TextPart(text),)), UserMessage((TextPart(prompt),)))
    raw = [*request.raw_messages, *[chat_message(message) for message in more]]
    # The first attempt has consumed the results and decisions.
    return replace(request, messages=(*request.messages, *more), raw_messages=raw, resume=None)
