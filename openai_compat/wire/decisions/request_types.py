"""The request of `POST /v1/decisions`. Source: the types of OpenAI's SDK; there is no other documentation yet."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias, cast

from annotated_types import MaxLen, MinLen
from pydantic import BeforeValidator, Field, StrictBool, StrictStr

from ..chat.request_types import WireModel

MAX_QUESTIONS = 400
MAX_OPTIONS = 255


class JsonPartParam(WireModel):
    """One or several JSON objects, passed on as text."""

    type: Literal["input_json"]
    data: dict[str, Any] | list[dict[str, Any]]


class TextPartParam(WireModel):
    """Text of the input or of the assistant."""

    type: Literal["input_text", "output_text"]
    text: str


class ImagePartParam(WireModel):
    """An image, as a URL or a `data:` URL."""

    type: Literal["input_image"]
    image_url: Annotated[str, MinLen(1)]
    detail: Literal["auto", "low", "high", "original"] | None = None


class RefusalPartParam(WireModel):
    """The assistant's refusal to answer."""

    type: Literal["refusal"]
    refusal: str


DecisionPart: TypeAlias = Annotated[
    TextPartParam | ImagePartParam | JsonPartParam | RefusalPartParam, Field(discriminator="type")
]
Parts: TypeAlias = str | list[DecisionPart]


class DecisionMessageParam(WireModel):
    """A message to decide about."""

    type: Literal["message"]
    role: Literal["user", "assistant", "system", "developer"]
    content: Parts


class DecisionCallParam(WireModel):
    """A call made by the assistant."""

    type: Literal["function_call", "custom_tool_call"]
    call_id: Annotated[str, MinLen(1)]
    name: Annotated[str, MinLen(1)]
    arguments: str | None = None
    input: str | None = None


class DecisionOutputParam(WireModel):
    """The output of a call."""

    type: Literal["function_call_output", "custom_tool_call_output"]
    call_id: Annotated[str, MinLen(1)]
    output: Parts


def _add_type(item: Any) -> Any:
    """Add the `type` that a message may omit."""
    if not isinstance(item, dict) or "role" not in item:
        return cast("Any", item)
    return {"type": "message", **cast("dict[str, Any]", item)}


DecisionItem = Annotated[
    Annotated[DecisionMessageParam | DecisionCallParam | DecisionOutputParam, Field(discriminator="type")],
    BeforeValidator(_add_type),
]


class QuestionParam(WireModel):
    """Fields shared by all questions: the question itself, and a name that identifies its answer."""

    instructions: Annotated[str, MinLen(1)] | Annotated[list[DecisionPart], MinLen(1)]
    name: str | None = None


class PredicateParam(QuestionParam):
    """Asks how likely a statement is to be true."""

    type: Literal["predicate"]


class ChoiceOptionParam(WireModel):
    """One value to choose from."""

    value: StrictStr | StrictBool
    description: str | None = None


class ChoiceParam(QuestionParam):
    """Asks which of several values applies."""

    type: Literal["choice"]
    choices: Annotated[list[ChoiceOptionParam], MinLen(2), MaxLen(MAX_OPTIONS)]


class ScoreLevelParam(WireModel):
    """One level of a score; levels are listed from the lowest."""

    label: Annotated[str, MinLen(1)]
    description: str | None = None


class ScoreParam(QuestionParam):
    """Asks which of several levels, from the lowest to the highest, applies."""

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
