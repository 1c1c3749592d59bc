"""Answers to questions, with probabilities. Source: the types of OpenAI's SDK."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

from typing_extensions import TypedDict

from ...backend import CHARACTERS_PER_TOKEN
from ..json import dumps
from .questions import DecisionInput, DecisionQuestion

Probabilities: TypeAlias = Sequence[float] | None
"""The probability of each option or, for a predicate, of its truth; None if the question was not answered."""


class OptionProbability(TypedDict):
    """The probability of one value of a choice."""

    value: str | bool
    probability: float


class LevelProbability(TypedDict):
    """The probability of one level of a score; `value` is its index, from 0."""

    label: str
    value: int
    probability: float


class PredicateAnswer(TypedDict):
    """The probability that a statement is true."""

    type: Literal["predicate"]
    name: str | None
    probability: float


class ChoiceAnswer(TypedDict):
    """The most likely value, and the probabilities of all values."""

    type: Literal["choice"]
    name: str | None
    choice: str | bool
    confidence: float
    probabilities: list[OptionProbability]


class ScoreAnswer(TypedDict):
    """The mean level index, weighted by probability; `confidence` is the probability of the most likely level."""

    type: Literal["score"]
    name: str | None
    score: float
    confidence: float
    probabilities: list[LevelProbability]


class RefusedAnswer(TypedDict):
    """A question that was not answered."""

    type: Literal["refusal"]
    name: str | None


class DecisionInputDetails(TypedDict):
    """Cache use of the input tokens."""

    cache_write_tokens: int
    cached_tokens: int


class DecisionOutputDetails(TypedDict):
    """Breakdown of the output tokens."""

    reasoning_tokens: int


class DecisionUsage(TypedDict):
    """Token counts of the input and the questions; estimated."""

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


def encode_decision(model: str, asked: DecisionInput, decided: Sequence[Probabilities]) -> bytes:
    """Encode the response, with one decision per question in the same order."""
    texts = asked.text, *[question.instructions for question in asked.questions]
    read = sum([-(-len(text) // CHARACTERS_PER_TOKEN) for text in texts])
    answer: DecisionResult = {
        "answers": [_answer(question, found) for question, found in zip(asked.questions, decided, strict=True)],
        "model": model,
        # A decide function counts no tokens, but the SDK's types require the counts.
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
    question: DecisionQuestion, decided: Probabilities
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
