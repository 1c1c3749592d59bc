"""Decisions: the input of decide functions, and what becomes of their results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args, get_type_hints

import httpx2
import pytest
from openai.types import decision as sdk
from openai.types import decision_create_params as asked_types

from openai_compat import DecisionQuestion, Server
from openai_compat.messages import AssistantMessage, ImagePart, ToolMessage, UserMessage
from openai_compat.wire.decisions import request_types, serialize
from tests.connecting import Connect, Http, in_process
from tests.requirements import requirement
from tests.support.agents import Says

pytestmark = pytest.mark.anyio

URL = "/v1/decisions"
PREDICATE: dict[str, Any] = {"type": "predicate", "instructions": "It is so.", "name": "so"}
CHOICE: dict[str, Any] = {
    "type": "choice",
    "instructions": "Which?",
    "choices": [{"value": "true", "description": "a text"}, {"value": True}, {"value": "c"}],
}
SCORE: dict[str, Any] = {
    "type": "score",
    "instructions": [{"type": "input_text", "text": "How good?"}, {"type": "input_json", "data": {"of": [1]}}],
    "levels": [{"label": "bad"}, {"label": "fair"}, {"label": "good", "description": "very"}],
}
ALL = [PREDICATE, CHOICE, SCORE]


def answering(*answers: Any) -> Any:
    def decide(text: str, questions: list[DecisionQuestion]) -> Sequence[Any]:
        return answers

    return decide


async def posted(http: Http, function: Any, **fields: Any) -> httpx2.Response:
    async with http(Says("Hi"), decisions={"judge": function}) as client:
        return await client.post(URL, json={"model": "judge", "input": "text", "questions": ALL, **fields})


def error_of(answer: httpx2.Response) -> tuple[int, str | None, str | None]:
    error = answer.json()["error"]
    return answer.status_code, error["code"], error["param"]


@requirement("decisions.answer")
async def test_the_sdk_gets_an_answer_for_each_question_in_order(connect: Connect) -> None:
    likely = answering(0.75, {True: 0.75, "true": 0.25}, {"good": 0.5, "fair": 0.5})
    async with connect(Says("Hi"), decisions={"judge": likely}) as client:
        found = await client.decisions.create(model="judge", input="text", questions=ALL)
    so, which, good = found.answers
    assert (so.type, so.name, so.probability) == ("predicate", "so", 0.75)
    assert which.to_dict() == {
        "type": "choice",
        "name": None,
        "choice": True,
        "confidence": 0.75,
        "probabilities": [
            {"value": "true", "probability": 0.25},
            {"value": True, "probability": 0.75},
            {"value": "c", "probability": 0.0},
        ],
    }
    assert good.to_dict() == {
        "type": "score",
        "name": None,
        "score": 1.5,
        "confidence": 0.5,
        "probabilities": [
            {"label": "bad", "value": 0, "probability": 0.0},
            {"label": "fair", "value": 1, "probability": 0.5},
            {"label": "good", "value": 2, "probability": 0.5},
        ],
    }
    assert (found.model, found.usage.input_tokens, found.usage.total_tokens) == ("judge", 11, 11)


@requirement("decisions.answer")
@in_process
@pytest.mark.parametrize(
    ("answers", "found"),
    [
        ([True, "c", "fair"], [1.0, "c", 1.0]),
        ([0, True, 2], [0.0, True, 2.0]),
        ([None, None, None], ["refusal"] * 3),
    ],
)
async def test_an_answer_may_be_the_option_itself_or_none(answers: list[Any], found: list[Any], http: Http) -> None:
    told = (await posted(http, answering(*answers))).json()["answers"]
    first = [answer.get("probability", answer.get("choice", answer.get("score", answer["type"]))) for answer in told]
    assert first == found
    assert [answer["name"] for answer in told] == ["so", None, None]


@requirement("decisions.functions")
@in_process
@pytest.mark.parametrize(
    "answers",
    [
        [1.5, "c", "fair"],
        [float("nan"), "c", "fair"],
        [0.5, "d", "fair"],
        [0.5, {"c": 0.5}, "fair"],
        [0.5, "c", 3],
        [0.5, "c", True],
        [0.5, "c"],
        ["very", "c", "fair"],
    ],
)
async def test_what_fits_no_question_is_the_functions_fault(answers: list[Any], http: Http) -> None:
    assert error_of(await posted(http, answering(*answers))) == (500, "invalid_decision", None)


@requirement("decisions.functions")
@in_process
async def test_a_function_gets_what_it_has_parameters_for(http: Http) -> None:
    given: list[Any] = []

    async def decide(messages: Any, questions: Any, text: str = "", user: str | None = None) -> list[Any]:
        given.append((messages, questions, text, user))
        return [None] * len(questions)

    conversation = [
        {"role": "user", "content": [{"type": "input_text", "text": "Look"}, {"type": "input_image", "image_url": "http://a.example/b"}]},
        {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "seen"},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "It is a cat."}]},
        {"role": "user", "content": [{"type": "input_json", "data": {"cat": True}}]},
    ]  # fmt: skip
    answer = await posted(http, decide, input=conversation, safety_identifier="ann")
    assert answer.status_code == 200, answer.text
    ((messages, questions, text, user),) = given
    assert [type(message) for message in messages] == [
        UserMessage,
        AssistantMessage,
        ToolMessage,
        AssistantMessage,
        UserMessage,
    ]
    assert messages[0].parts[1] == ImagePart("http://a.example/b")
    assert messages[-1].text == '{"cat":true}'
    assert "It is a cat." in text
    assert user == "ann"
    assert [(question.kind, question.instructions) for question in questions] == [
        ("predicate", "It is so."),
        ("choice", "Which?"),
        ("score", 'How good?\n{"of":[1]}'),
    ]
    assert questions[1].options == ("true", True, "c")
    assert questions[2].descriptions == {"good": "very"}
    pictures = await posted(http, answering(None, None, None), input=conversation)
    assert error_of(pictures) == (400, "unsupported_value", "input")


@requirement("decisions.functions")
def test_what_is_no_decide_function_is_refused_when_the_server_is_made() -> None:
    for wrong in (lambda text: [], lambda questions: [], lambda text, questions, more: [], 5):
        with pytest.raises(TypeError, match=r"decide function|questions"):
            Server(Says("Hi"), decisions={"judge": wrong})


@in_process
@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"questions": []}, ("invalid_value", "questions")),
        ({"questions": [PREDICATE] * 401}, ("invalid_value", "questions")),
        ({"questions": [{"type": "guess"}]}, ("invalid_value", "questions[0].type")),
        ({"questions": [{**CHOICE, "choices": [{"value": "a"}]}]}, ("invalid_value", "questions[0].choices")),
        ({"questions": [{**CHOICE, "choices": [{"value": "a"}] * 2}]}, ("invalid_value", "questions[0].choices")),
        ({"questions": [{**SCORE, "levels": [{"label": "a"}] * 2}]}, ("invalid_value", "questions[0].levels")),
        ({"input": ""}, ("invalid_value", "input")),
        ({"input": [{"role": "robot", "content": "x"}]}, ("invalid_value", "input[0].role")),
        (
            {"input": [{"type": "function_call_output", "call_id": "c", "output": "x"}]},
            ("invalid_value", "input[0].call_id"),
        ),
        ({"model": "agent"}, ("unsupported_value", "model")),
    ],
)
async def test_what_is_wrong_is_told_by_its_place(fields: dict[str, Any], error: tuple[str, str], http: Http) -> None:
    assert error_of(await posted(http, answering(None, None, None), **fields)) == (400, *error)


@in_process
async def test_what_decides_is_a_model_that_answers_no_conversation(http: Http) -> None:
    async with http(Says("Hi"), decisions={"judge": answering()}) as client:
        models = (await client.get("/v1/models")).json()["data"]
        asked = await client.post(
            "/v1/chat/completions", json={"model": "judge", "messages": [{"role": "user", "content": "x"}]}
        )
    assert [(model["id"], model["capabilities"]["decisions"]) for model in models] == [
        ("agent", False),
        ("judge", True),
    ]
    assert asked.json()["error"]["message"] == "This model only makes decisions."


@requirement("decisions.answer")
@in_process
async def test_what_is_sent_and_answered_is_valid_by_the_sdks_types(http: Http) -> None:
    told = (await posted(http, answering(0.5, "c", None))).json()
    sdk.Decision.model_validate(told, strict=True)
    ours = {
        sdk.Decision: serialize.DecisionResult,
        sdk.Usage: serialize.DecisionUsage,
        sdk.AnswerAnswerResourcePredicate: serialize.PredicateAnswer,
        sdk.AnswerAnswerResourceChoice: serialize.ChoiceAnswer,
        sdk.AnswerAnswerResourceScore: serialize.ScoreAnswer,
        sdk.AnswerAnswerResourceRefusal: serialize.RefusedAnswer,
        sdk.AnswerAnswerResourceChoiceProbability: serialize.OptionProbability,
        sdk.AnswerAnswerResourceScoreProbability: serialize.LevelProbability,
    }
    for theirs, known in ours.items():
        assert set(theirs.model_fields) == set(get_type_hints(known)), theirs.__name__
    asked = {
        asked_types.DecisionCreateParams: request_types.DecisionRequest,
        asked_types.QuestionQuestionParamPredicate: request_types.PredicateParam,
        asked_types.QuestionQuestionParamChoice: request_types.ChoiceParam,
        asked_types.QuestionQuestionParamScore: request_types.ScoreParam,
    }
    for params, model in asked.items():
        assert set(get_type_hints(params)) == set(model.model_fields), params.__name__
    assert len(get_args(asked_types.Question)) == 3
