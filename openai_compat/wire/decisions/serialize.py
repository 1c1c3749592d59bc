"""Answers to questions, with how likely each is. Source: the types of OpenAI's SDK."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

from typing_extensions import TypedDict

from ...backend import CHARACTERS_PER_TOKEN
from ..json import dumps
from .questions import DecisionInput, DecisionQuestion

Decided: TypeAlias = Sequence[float] | None
"""How likely each option is, or, of a predicate, that it is true; None where the question was not answered."""


class OptionProbability(TypedDict):
    """How likely one value of a choice is."""

    value: str | bool
    probability: float


class LevelProbability(TypedDict):
    """How likely one level of a score is; `value` is its place, from 0."""

    label: str
    value: int
    probability: float


class PredicateAnswer(TypedDict):
    """How likely it is that a statement is true."""

    type: Literal["predicate"]
    name: str | None
    probability: float


class ChoiceAnswer(TypedDict):
    """The likeliest value, and how likely all of them are."""

    type: Literal["choice"]
    name: str | None
    choice: str | bool
    confidence: float
    probabilities: list[OptionProbability]


class ScoreAnswer(TypedDict):
    """The places of the levels, each as much as it is likely; `confidence` is that of the likeliest."""

    type: Literal["score"]
    name: str | None
    score: float
    confidence: float
    probabilities: list[LevelProbability]


class RefusedAnswer(TypedDict):
    """No answer to this question."""

    type: Literal["refusal"]
    name: str | None


class DecisionInputDetails(TypedDict):
    """Where tokens that were read came from."""

    cache_write_tokens: int
    cached_tokens: int


class DecisionOutputDetails(TypedDict):
    """What tokens that were written were for."""

    reasoning_tokens: int


class DecisionUsage(TypedDict):
    """Tokens of the input and the questions; estimated."""

    input_tokens: int
    input_tokens_details: DecisionInputDetails
    output_tokens: int
    output_tokens_details: DecisionOutputDetails
    total_tokens: int


class DecisionResult(TypedDict):
    """The answers, in the order of the questions."""

    answers: list[PredicateAnswer | ChoiceAnswer | ScoreAnswer | RefusedAnswer]
    model: str
    usage: DecisionUsage


def decision(model: str, asked: DecisionInput, decided: Sequence[Decided]) -> bytes:
    """The body of the answer, with what was decided about each question in its order."""
    told = asked.text, *[question.instructions for question in asked.questions]
    read = sum([-(-len(text) // CHARACTERS_PER_TOKEN) for text in told])
    answer: DecisionResult = {
        "answers": [_answer(question, found) for question, found in zip(asked.questions, decided, strict=True)],
        "model": model,
        # A function decides, and counts nothing; the SDK's types require the counts all the same.
        "usage": {
            "input_tokens": read,
            "input_tokens_details": {"cache_write_tokens": 0, "cached_tokens": 0},
            "output_tokens": 0,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": read,
        },
    }
    return dumps(answer)


def _answer(
    question: DecisionQuestion, decided: Decided
) -> PredicateAnswer | ChoiceAnswer | ScoreAnswer | RefusedAnswer:
    if decided is None:
        return {"type": "refusal", "name": question.name}
    if question.kind == "predicate":
        return {"type": "predicate", "name": question.name, "probability": decided[0]}
    likeliest = max(range(len(decided)), key=decided.__getitem__)
    if question.kind == "choice":
        return {
            "type": "choice",
            "name": question.name,
            "choice": question.options[likeliest],
            "confidence": decided[likeliest],
            "probabilities": [
                {"value": option, "probability": found} for option, found in zip(question.options, decided, strict=True)
            ],
        }
    return {
        "type": "score",
        "name": question.name,
        "score": sum([place * found for place, found in enumerate(decided)]),
        "confidence": decided[likeliest],
        "probabilities": [
            {"label": str(label), "value": place, "probability": found}
            for place, (label, found) in enumerate(zip(question.options, decided, strict=True))
        ],
    }
