"""Requests without a user message run with what they have, unless a policy requires a user message."""

from __future__ import annotations

from typing import Any

import pytest

from openai_compat import AgentRequest, ChatRest, Conversations, MessagePolicy, Server
from openai_compat.messages import Message
from tests.connecting import Connect, Http, in_process
from tests.requirements import requirement
from tests.support.agents import HELLO, Says

pytestmark = [pytest.mark.anyio, in_process]

SYSTEM = {"role": "system", "content": "Say hello."}
DEVELOPER = {"role": "developer", "content": "Say hello."}
EMPTY = {"role": "user", "content": ""}
BLANK = {"role": "user", "content": [{"type": "text", "text": " "}]}
ASSISTANT = {"role": "assistant", "content": "Well then."}

SILENT: list[tuple[list[Any], str]] = [
    ([SYSTEM], "Say hello."),
    ([DEVELOPER], "Say hello."),
    ([{"role": "developer", "content": [{"type": "text", "text": "Say hello."}]}], "Say hello."),
    ([SYSTEM, DEVELOPER], "Say hello."),
    ([EMPTY], ""),
    ([BLANK], " "),
    ([SYSTEM, EMPTY], ""),
    ([ASSISTANT], "Well then."),
    ([SYSTEM, ASSISTANT], "Well then."),
    ([*HELLO, ASSISTANT], "Hello"),
    ([*HELLO, ASSISTANT, EMPTY], ""),
]
"""Conversations, each with the resulting prompt."""

of_each = pytest.mark.parametrize(("messages", "prompt"), SILENT)


def as_input(messages: list[Any]) -> list[Any]:
    """The messages as items of the Responses API."""
    return [m if isinstance(m["content"], str) else m | {"content": m["content"][0]["text"]} for m in messages]


@requirement("messages.no_user")
@of_each
@pytest.mark.parametrize("stream", [False, True])
async def test_a_chat_in_which_the_user_says_nothing_is_answered(
    http: Http, messages: list[Any], prompt: str, stream: bool
) -> None:
    agent = Says("Hi")
    body = {"model": "agent", "messages": messages, "stream": stream}
    async with http(agent) as client:
        answer = await client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200
    assert (agent.request.raw_messages, agent.request.prompt) == (messages, prompt)


@requirement("messages.no_user")
@of_each
@pytest.mark.parametrize("stream", [False, True])
async def test_a_response_in_which_the_user_says_nothing_is_made(
    http: Http, messages: list[Any], prompt: str, stream: bool
) -> None:
    agent = Says("Hi")
    body = {"model": "agent", "input": as_input(messages), "stream": stream}
    async with http(agent) as client:
        answer = await client.post("/v1/responses", json=body)
    assert answer.status_code == 200
    assert [message["role"] for message in agent.request.raw_messages] == [message["role"] for message in messages]
    assert agent.request.prompt == prompt


@requirement("messages.no_user")
async def test_an_input_without_any_text_in_it_is_the_users(connect: Connect) -> None:
    agent = Says("Hi")
    async with connect(agent) as client:
        answer = await client.responses.create(model="agent", input="", instructions="Say hello.")
    assert answer.output_text == "Hi"
    assert [message["role"] for message in agent.request.raw_messages] == ["system", "user"]


@requirement("messages.no_user")
@of_each
async def test_an_agent_that_takes_a_prompt_gets_the_text_that_there_is(
    connect: Connect, messages: list[Any], prompt: str
) -> None:
    async with connect(lambda prompt: f"<{prompt}>") as client:
        answer = await client.chat.completions.create(model="agent", messages=messages)
    assert answer.choices[0].message.content == f"<{prompt}>"


@requirement("messages.no_user")
@pytest.mark.parametrize("agent", [lambda messages: f"{len(messages)}", lambda request: f"{len(request.messages)}"])
async def test_agents_that_take_the_conversation_get_it_as_it_is(connect: Connect, agent: Any) -> None:
    messages: list[Any] = [DEVELOPER, SYSTEM]
    async with connect(agent) as client:
        answer = await client.chat.completions.create(model="agent", messages=messages)
    assert answer.choices[0].message.content == "2"


@requirement("messages.no_user")
async def test_nothing_at_all_is_still_refused(http: Http) -> None:
    async with http(Says("Hi"), conversations=Conversations()) as client:
        chat = await client.post("/v1/chat/completions", json={"model": "agent", "messages": []})
        made = await client.post("/v1/conversations", json={})
        empty = [{"input": []}, {"input": None}, {}, {"input": [], "conversation": made.json()["id"]}]
        responses = [await client.post("/v1/responses", json={"model": "agent", **fields}) for fields in empty]
    assert [answer.status_code for answer in (chat, *responses)] == [400] * 5
    assert chat.json()["error"]["param"] == "messages"
    assert [answer.json()["error"]["param"] for answer in responses] == ["input"] * 4
    assert {answer.json()["error"]["code"] for answer in responses} == {"missing_required_parameter"}


@requirement("messages.no_user")
async def test_the_rest_api_answers_instructions_alone(http: Http) -> None:
    agent = Says("Hi")
    body = {"messages": [{"role": "system", "content": "Say hello."}]}
    async with http(Server(agent, chat_rest=ChatRest())) as client:
        answer = await client.post("/api/chat/completions", json=body)
    assert answer.status_code == 200
    assert agent.request.prompt == "Say hello."


@requirement("messages.no_user")
async def test_a_conversation_that_begins_with_instructions_alone_is_kept(http: Http) -> None:
    seen: list[tuple[Message, ...]] = []

    async def agent(request: AgentRequest) -> str:
        seen.append(request.messages)
        return "Hi"

    async with http(agent, conversations=Conversations()) as client:
        for messages in ([DEVELOPER], HELLO):
            body = {"model": "agent", "messages": messages}
            answer = await client.post("/v1/chat/completions", json=body, headers={"x-conversation-id": "c"})
            assert answer.status_code == 200
    assert [type(message).__name__ for message in seen[1]] == ["SystemMessage", "AssistantMessage", "UserMessage"]


@requirement("messages.user_required")
@pytest.mark.parametrize("messages", [[SYSTEM], [DEVELOPER], [EMPTY], [BLANK], [ASSISTANT], [SYSTEM, ASSISTANT]])
async def test_a_policy_can_demand_a_user_message(http: Http, messages: list[Any]) -> None:
    agent = Says("Hi")
    async with http(agent, messages=MessagePolicy(user="required")) as client:
        chat = await client.post("/v1/chat/completions", json={"model": "agent", "messages": messages})
        response = await client.post("/v1/responses", json={"model": "agent", "input": as_input(messages)})
        asked = await client.post("/v1/chat/completions", json={"model": "agent", "messages": [*messages, *HELLO]})
    expected = {"message": "No user message found in 'messages'.", "type": "invalid_request_error"}
    assert (chat.status_code, response.status_code, asked.status_code) == (400, 400, 200)
    assert chat.json() == {"error": {**expected, "param": "messages", "code": "invalid_request"}}
    assert response.json()["error"]["param"] == "input"
    assert agent.request.prompt == "Hello"


@requirement("messages.user_required")
async def test_a_picture_is_something_that_the_user_says(http: Http) -> None:
    picture = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    body = {"model": "agent", "messages": [{"role": "user", "content": [picture]}]}
    async with http(Says("Hi"), messages=MessagePolicy(user="required")) as client:
        assert (await client.post("/v1/chat/completions", json=body)).status_code == 200


@requirement("messages.user_required")
async def test_where_instructions_are_ignored_a_request_with_nothing_else_is_refused(http: Http) -> None:
    agent = Says("Hi")
    async with http(agent, messages=MessagePolicy(system="ignore")) as client:
        answer = await client.post("/v1/chat/completions", json={"model": "agent", "messages": [SYSTEM]})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "messages")
    assert not agent.requests
