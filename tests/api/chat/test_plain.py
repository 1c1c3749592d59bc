"""Chat completions that are not streamed, and the request that the agent gets."""

from __future__ import annotations

import json
from typing import Any

import pytest

from openai_compat import Server, UsageReported
from openai_compat.messages import AssistantMessage, RefusalPart, SystemMessage, TextPart, UserMessage
from openai_compat_adapters.client import sync_openai
from tests.connecting import Connect, Http, in_process
from tests.requirements import requirement
from tests.support.agents import HELLO, PROMPT_ONLY, Says

pytestmark = pytest.mark.anyio


@requirement("chat.plain")
@requirement("chat.nullable_keys")
async def test_a_plain_answer_is_one_chat_completion_object(http: Http) -> None:
    agent = Says("Hello, ", "Bob", UsageReported(7, 2), UsageReported(3, 1))
    async with http({"greeter": agent}) as client:
        answer = await client.post("/v1/chat/completions", json={"model": "greeter", "messages": HELLO})
    body = json.loads(answer.content)
    # either id leads to the other, in logs and traces
    assert body.pop("id") == answer.headers["x-request-id"].replace("req_", "chatcmpl-")
    assert body.pop("created") > 1_700_000_000
    assert body == {
        "object": "chat.completion",
        "model": "greeter",
        "system_fingerprint": None,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello, Bob", "refusal": None, "annotations": []},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13},
    }
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-length"] == str(len(answer.content))
    assert int(answer.headers["openai-processing-ms"]) < 10_000


@requirement("chat.raw-response")
async def test_a_raw_response_has_headers_and_parses_to_the_same_answer(connect: Connect) -> None:
    async with connect(Says("Hi")) as client:
        raw = await client.chat.completions.with_raw_response.create(model="agent", messages=HELLO)
        answer = raw.parse()
    assert answer.choices[0].message.content == "Hi"
    assert raw.http_response.headers["x-request-id"] == raw.request_id == answer._request_id


@requirement("chat.sync-client")
def test_a_blocking_client_is_answered() -> None:
    with sync_openai(Server({"greeter": lambda prompt: f"Hello, {prompt}"}), max_retries=0) as client:
        answer = client.chat.completions.create(model="greeter", messages=[{"role": "user", "content": "Bob"}])
    assert answer.choices[0].message.content == "Hello, Bob"


@requirement("chat.messages")
async def test_the_agent_gets_the_whole_conversation_with_types_and_as_it_was_sent(connect: Connect) -> None:
    agent = Says("ok")
    messages: list[Any] = [
        {"role": "system", "content": "Be brief."},
        {"role": "developer", "content": [{"type": "text", "text": "In"}, {"type": "text", "text": "English."}]},
        {"role": "user", "content": "How are you?", "name": "bob"},
        {"role": "assistant", "content": "Fine.", "reasoning_content": "They ask how I am.", "name": "helper"},
        {"role": "user", "content": [{"type": "text", "text": "Sing"}]},
        {"role": "assistant", "content": None, "refusal": "No."},
        {"role": "user", "content": "Why?"},
    ]
    async with connect(agent) as client:
        await client.chat.completions.create(model="agent", messages=messages)
    assert agent.request.messages == (
        SystemMessage("Be brief."),
        SystemMessage("In\nEnglish.", role="developer"),
        UserMessage((TextPart("How are you?"),), name="bob"),
        AssistantMessage((TextPart("Fine."),), reasoning="They ask how I am.", name="helper"),
        UserMessage((TextPart("Sing"),)),
        AssistantMessage((RefusalPart("No."),)),
        UserMessage((TextPart("Why?"),)),
    )
    assert agent.request.raw_messages == messages
    assert agent.request.prompt == "Why?"
    assert agent.request.new_messages == (UserMessage((TextPart("Why?"),)),)
    assert agent.request.resume is None


@requirement("chat.messages")
@pytest.mark.parametrize(
    ("messages", "prompt"),
    [
        ([{"role": "user", "content": ""}, {"role": "user", "content": "Hi"}], "Hi"),
        ([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Go on"}], "Hi"),
        ([{"role": "user", "content": "Hi"}, {"role": "system", "content": "Now be brief."}], "Hi"),
        ([{"role": "assistant", "content": ""}, {"role": "user", "content": "Hi"}], "Hi"),
        ([{"role": "assistant", "content": [{"type": "refusal", "refusal": "No"}]}, *HELLO], "Hello"),
        ([{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}], "a\nb"),
        ([{"role": "user", "content": "Hi", "unknown": {"deep": [1]}}], "Hi"),
        ([{"role": "assistant", "tool_calls": [], "content": "x"}, *HELLO], "Hello"),
        ([{"role": "assistant", "tool_calls": None, "audio": None, "function_call": None}, *HELLO], "Hello"),
    ],
)
@in_process
async def test_unusual_but_legal_conversations_are_taken(messages: Any, prompt: str, connect: Connect) -> None:
    agent = Says("ok")
    async with connect(agent) as client:
        await client.chat.completions.create(model="agent", messages=messages)
    assert agent.request.prompt == prompt


@requirement("chat.extra")
@in_process
async def test_unknown_fields_are_handed_to_the_agent(connect: Connect) -> None:
    agent = Says("ok")
    async with connect(agent, agent_headers=["X-Chat-Id"]) as client:
        await client.chat.completions.create(
            model="agent",
            messages=HELLO,
            metadata={"topic": "tea"},
            user="bob",
            extra_body={"chat_id": "c1", "__class__": "x", "options": {"num_ctx": 8192}},
            extra_headers={"X-Chat-Id": "c1", "X-Other": "not passed on"},
        )
    request = agent.request
    assert request.extra == {"chat_id": "c1", "__class__": "x", "options": {"num_ctx": 8192}}
    assert request.metadata == {"topic": "tea"}
    assert request.user == "bob"
    assert request.headers == {"x-chat-id": "c1"}


@requirement("chat.extra")
@in_process
async def test_the_user_may_be_an_object_as_open_webui_sends_it(connect: Connect) -> None:
    agent = Says("ok")
    async with connect(agent) as client:
        await client.chat.completions.create(
            model="agent", messages=HELLO, extra_body={"user": {"id": "1", "name": "Bob"}}
        )
    assert agent.request.user == {"id": "1", "name": "Bob"}


@requirement("chat.tolerant")
@in_process
async def test_an_agent_that_sees_only_the_prompt_still_takes_what_clients_send_with_every_request(
    connect: Connect,
) -> None:
    agent = Says("ok", can=PROMPT_ONLY)
    tool: Any = {"type": "function", "function": {"name": "look"}}
    async with connect(agent) as client:
        answer = await client.chat.completions.create(
            model="agent",
            messages=[{"role": "system", "content": "x"}, *HELLO],
            tools=[tool],
            tool_choice="auto",
            response_format={"type": "text"},
            temperature=0,
            logprobs=False,
            store=False,
        )
    assert answer.choices[0].message.content == "ok"


@requirement("chat.tolerant")
@pytest.mark.parametrize("kind", ["application/json", "application/json; charset=utf-8", "text/plain", None])
@in_process
async def test_programs_need_no_content_type(kind: str | None, http: Http) -> None:
    body = json.dumps({"model": "agent", "messages": HELLO}).encode()
    async with http(Says("ok")) as client:
        headers = {} if kind is None else {"content-type": kind}
        answer = await client.post("/v1/chat/completions", content=body, headers=headers)
    assert answer.status_code == 200
