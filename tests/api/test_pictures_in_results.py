"""Images in results of the client's tools reach the agent, over every API, and in later turns too."""

from __future__ import annotations

from typing import Any

import pytest

from openai_compat import AgentRequest, Capabilities, Conversations
from openai_compat.backends.openai.params import separate_pictures
from openai_compat.messages import FilePart, ImagePart, ToolMessage
from tests.connecting import Http, in_process
from tests.requirements import requirement
from tests.support.agents import HELLO, Says

pytestmark = pytest.mark.anyio

CHAT, RESPONSES = "/v1/chat/completions", "/v1/responses"
URL = "data:image/png;base64,iVBORw0KGgo="
PICTURE = {"type": "image_url", "image_url": {"url": URL}}
WRITTEN = {"type": "image_url", "image_url": {"url": URL, "detail": "auto"}}
TEXT = {"type": "text", "text": "Here it is."}
CALL = {"id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}}
ASKED: list[Any] = [*HELLO, {"role": "assistant", "content": None, "tool_calls": [CALL]}]
LATER: list[Any] = [{"role": "assistant", "content": "A cat."}, {"role": "user", "content": "And now?"}]
CALLED = {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}"}


def result(*parts: Any) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": "c", "content": list(parts)}


def result_of(request: AgentRequest) -> ToolMessage:
    (found,) = [message for message in request.messages if isinstance(message, ToolMessage)]
    return found


@requirement("tools.pictures")
@pytest.mark.parametrize("later", [[], LATER])
@pytest.mark.parametrize("parts", [[PICTURE], [TEXT, PICTURE], [PICTURE, TEXT, PICTURE]])
@in_process
async def test_pictures_in_a_tool_message_reach_the_agent(http: Http, parts: list[Any], later: list[Any]) -> None:
    agent = Says("A cat.")
    messages = [*ASKED, result(*parts), *later]
    async with http(agent) as client:
        answer = await client.post(CHAT, json={"model": "agent", "messages": messages})
    assert answer.status_code == 200
    assert agent.request.raw_messages == messages
    found = result_of(agent.request)
    assert found.media == (ImagePart(URL),) * parts.count(PICTURE)
    assert (found.text, found.name) == ("Here it is." if TEXT in parts else "", "look")


@requirement("tools.pictures")
@in_process
async def test_pictures_in_a_function_calls_output_reach_agents_that_take_messages(http: Http) -> None:
    seen: list[Any] = []

    async def agent(messages: list[Any]) -> str:
        seen.append(messages)
        return "A cat."

    parts = [{"type": "input_text", "text": "Here it is."}, {"type": "input_image", "image_url": URL}]
    async with http({"agent": agent}) as client:
        for output in (parts, parts[1:]):
            result = {"type": "function_call_output", "call_id": "c", "output": output}
            items: list[Any] = [{"role": "user", "content": "Hello"}, CALLED, result]
            answer = await client.post(RESPONSES, json={"model": "agent", "input": items})
            assert answer.status_code == 200
            again = {"model": "agent", "input": "And now?", "previous_response_id": answer.json()["id"]}
            assert (await client.post(RESPONSES, json=again)).status_code == 200
    results = [[message for message in messages if message["role"] == "tool"] for messages in seen]
    both = {"role": "tool", "tool_call_id": "c", "content": [TEXT, WRITTEN]}
    assert results == [[both], [both], [{**both, "content": [WRITTEN]}], [{**both, "content": [WRITTEN]}]]


@requirement("tools.pictures")
@in_process
async def test_pictures_in_results_are_kept_with_the_conversation(http: Http) -> None:
    agent = Says("A cat.")
    async with http(agent, conversations=Conversations()) as client:
        for messages in ([*ASKED, result(TEXT, PICTURE)], LATER[1:]):
            body = {"model": "agent", "messages": messages}
            answer = await client.post(CHAT, json=body, headers={"x-conversation-id": "c1"})
            assert answer.status_code == 200
    assert result_of(agent.requests[1]).media == (ImagePart(URL),)
    assert agent.requests[1].raw_messages[2]["content"] == [TEXT, WRITTEN]


@requirement("tools.pictures")
@in_process
async def test_an_agent_that_sees_no_pictures_refuses_them_by_their_place(http: Http) -> None:
    agent = Says("A cat.", can=Capabilities(vision=False))
    async with http(agent) as client:
        answer = await client.post(CHAT, json={"model": "agent", "messages": [*ASKED, result(TEXT, PICTURE)]})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, "messages[2].content[1]")
    assert error["code"] == "unsupported_parameter"


@requirement("tools.pictures")
@in_process
async def test_documents_in_results_reach_the_agent_too(http: Http) -> None:
    agent = Says("A page.")
    document = {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBERi0=", "filename": "a.pdf"}}
    async with http(agent) as client:
        answer = await client.post(CHAT, json={"model": "agent", "messages": [*ASKED, result(document)]})
    assert answer.status_code == 200
    (part,) = result_of(agent.request).media
    assert isinstance(part, FilePart)
    assert part.filename == "a.pdf"


def test_a_model_behind_openais_api_gets_pictures_of_results_in_a_user_message() -> None:
    other = {"role": "tool", "tool_call_id": "d", "content": "done"}
    sent = separate_pictures([*ASKED, result(PICTURE), other, *LATER, *ASKED, result(TEXT, PICTURE)])
    assert sent == [
        *ASKED,
        {"role": "tool", "tool_call_id": "c", "content": "(The result is in the next message.)"},
        other,
        {"role": "user", "content": [PICTURE]},
        *LATER,
        *ASKED,
        result(TEXT),
        {"role": "user", "content": [PICTURE]},
    ]
    assert separate_pictures(ASKED) == ASKED
