"""Decide functions: questions about an input in, one answer per question out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, cast

from ..errors import AgentError
from ..wire.decisions.questions import DecisionInput, DecisionQuestion
from ..wire.decisions.serialize import Probabilities
from .describe import describe
from .function_call import FunctionCaller, named_parameters, parameters_of, unknown_required

DecideFunction: TypeAlias = Callable[..., Any]
"""`def` or `async def decide(text: str, questions: list[DecisionQuestion]) -> list`."""

DECIDE_ARGUMENTS = ("text", "messages", "questions", "user")

TOLERANCE = 0.01
"""Allowed distance of the sum of all probabilities from 1."""


class Decider:
    """Calls a decide function; a plain (blocking) one in a dedicated thread, off the event loop.

    Arguments are passed by parameter name: `questions` and at least one of `text` and `messages`; optionally `user`.
    Raises TypeError for anything but a decide function.

    Attributes:
        takes: the names in `DECIDE_ARGUMENTS` that the function accepts.
    """

    def __init__(self, function: DecideFunction) -> None:
        found = parameters_of(function, "a decide function takes questions and returns answers")
        named = named_parameters(found, DECIDE_ARGUMENTS)
        if unknown_required(found, named) or "questions" not in named or not named.keys() & {"text", "messages"}:
            names = ", ".join([each.name for each in found]) or "none"
            raise TypeError(
                f"{describe(function)} has parameters {names}; a decide function has questions, and text or messages, "
                "and may have user"
            )
        self._function = function
        self._caller = FunctionCaller(function)
        self.takes = frozenset(named)

    async def decide(self, decision_input: DecisionInput) -> list[Probabilities]:
        """Return one answer to each question.

        Raises AgentError (500 `invalid_decision`) for any other return value; the function's exceptions pass through.
        """
        given = {
            "text": decision_input.text,
            "messages": list(decision_input.messages),
            "questions": list(decision_input.questions),
        }
        sent: dict[str, Any] = {**given, "user": decision_input.user}
        arguments = {name: sent[name] for name in self.takes}
        result = await self._caller.run(lambda: self._function(**arguments))
        try:
            return [
                _option_probabilities(q, a)
                for q, a in zip(decision_input.questions, cast("Sequence[Any]", result), strict=True)
            ]
        except Exception as error:
            text = "The decide function did not return one answer for each question."
            raise AgentError(text, code="invalid_decision") from error


def _option_probabilities(question: DecisionQuestion, answer: Any) -> Probabilities:
    """The probability of each option. Raises ValueError, or any exception of an unexpected object."""
    if answer is None:
        return None
    if question.kind == "predicate":
        return [_to_probability(answer)]
    if not isinstance(answer, Mapping):  # the option itself
        return [1.0 if index == _option_index(question, answer) else 0.0 for index in range(len(question.options))]
    probabilities = [0.0] * len(question.options)
    for option, probability in cast("Mapping[Any, Any]", answer).items():
        probabilities[_option_index(question, option)] = _to_probability(probability)
    if abs(sum(probabilities) - 1) > TOLERANCE:
        raise ValueError(f"probabilities that are {sum(probabilities)} together")
    return probabilities


def _option_index(question: DecisionQuestion, option: Any) -> int:
    """The index of an option; a level of a score may also be given by its index."""
    if question.kind == "score" and isinstance(option, int) and not isinstance(option, bool):
        if not 0 <= option < len(question.options):
            raise ValueError(f"no level {option}")
        return option
    return question.options.index(option)


def _to_probability(value: Any) -> float:
    number = float(value)
    if not 0 <= number <= 1 or math.isnan(number):
        raise ValueError(f"{number} is no probability")
    return number
