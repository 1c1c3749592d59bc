"""What is asked by `POST /v1/decisions`. Source: the types of OpenAI's SDK; it has no other document yet."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias, cast

from annotated_types import MaxLen, MinLen
from pydantic import BeforeValidator, Field, StrictBool, StrictStr

from ..chat.request_types import WireModel

MAX_QUESTIONS = 400
MAX_OPTIONS = 255


class JsonPartParam(WireModel):
    """An object, or several, which are told as text."""

    type: Literal["input_json"]
    data: dict[str, Any] | list[dict[str, Any]]


class TextPartParam(WireModel):
    """Text, that somebody has sent or the assistant has said."""

    type: Literal["input_text", "output_text"]
    text: str


class ImagePartParam(WireModel):
    """A picture, by URL or as a `data:` URL."""

    type: Literal["input_image"]
    image_url: Annotated[str, MinLen(1)]
    detail: Literal["auto", "low", "high", "original"] | None = None


class RefusalPartParam(WireModel):
    """What the assistant has said instead of an answer."""

    type: Literal["refusal"]
    refusal: str


DecisionPart: TypeAlias = Annotated[
    TextPartParam | ImagePartParam | JsonPartParam | RefusalPartParam, Field(discriminator="type")
]
Parts: TypeAlias = str | list[DecisionPart]


class DecisionMessageParam(WireModel):
    """A message that is decided about."""

    type: Literal["message"]
    role: Literal["user", "assistant", "system", "developer"]
    content: Parts


class DecisionCallParam(WireModel):
    """A call that the assistant made."""

    type: Literal["function_call", "custom_tool_call"]
    call_id: Annotated[str, MinLen(1)]
    name: Annotated[str, MinLen(1)]
    arguments: str | None = None
    input: str | None = None


class DecisionOutputParam(WireModel):
    """What such a call has come to."""

    type: Literal["function_call_output", "custom_tool_call_output"]
    call_id: Annotated[str, MinLen(1)]
    output: Parts


def _typed(item: Any) -> Any:
    """A message need not say what it is."""
    if not isinstance(item, dict) or "role" not in item:
        return cast("Any", item)
    return {"type": "message", **cast("dict[str, Any]", item)}


DecisionItem = Annotated[
    Annotated[DecisionMessageParam | DecisionCallParam | DecisionOutputParam, Field(discriminator="type")],
    BeforeValidator(_typed),
]


class QuestionParam(WireModel):
    """What questions of every kind have: what is asked, and a name to tell the answers apart."""

    instructions: Annotated[str, MinLen(1)] | Annotated[list[DecisionPart], MinLen(1)]
    name: str | None = None


class PredicateParam(QuestionParam):
    """How likely is it that this is true?"""

    type: Literal["predicate"]


class ChoiceOptionParam(WireModel):
    """One of the values to choose from."""

    value: StrictStr | StrictBool
    description: str | None = None


class ChoiceParam(QuestionParam):
    """Which of these is it?"""

    type: Literal["choice"]
    choices: Annotated[list[ChoiceOptionParam], MinLen(2), MaxLen(MAX_OPTIONS)]


class ScoreLevelParam(WireModel):
    """One of the levels, the lowest first."""

    label: Annotated[str, MinLen(1)]
    description: str | None = None


class ScoreParam(QuestionParam):
    """How high is it, on levels from the lowest to the highest?"""

    type: Literal["score"]
    levels: Annotated[list[ScoreLevelParam], MinLen(2), MaxLen(MAX_OPTIONS)]


AnyQuestionParam = Annotated[PredicateParam | ChoiceParam | ScoreParam, Field(discriminator="type")]


class DecisionRequest(WireModel):
    """The body of `POST /v1/decisions`."""

    model: Annotated[str, MinLen(1)]
    input: Annotated[str, MinLen(1)] | Annotated[list[DecisionItem], MinLen(1)]
    questions: Annotated[list[AnyQuestionParam], MinLen(1), MaxLen(MAX_QUESTIONS)]
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: dict[str, Any] | None = None
