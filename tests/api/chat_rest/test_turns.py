"""Turns of the chat REST API: completions, messages, tools and agentic streams."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from openai_compat import AgentError, AgentRequest, ReasoningDelta, UsageReported
from openai_compat.events import Compacted, MediaDelta
from tests.api.chat_rest.support import API, BOUGHT, BUYS, Shop, call, conversation, error_of, frames, serving, shopper
from tests.connecting import Http, in_process
from tests.requirements import requirement

pytestmark = pytest.mark.anyio

HELLO: Any = {"messages": [{"role": "user", "content": "Hello"}]}


class Parrot:
    """Repeats its input, and records the requests."""

    def __init__(self) -> None:
        self.requests: list[AgentRequest] = []

    async def __call__(self, request: AgentRequest) -> AsyncIterator[Any]:
        self.requests.append(request)
        if "fail" in request.prompt:
            yield "half an ans"
            raise AgentError("The parrot is tired.", status=409, code="tired")
        yield ReasoningDelta("Hm.")
        yield "You said: "
        yield request.prompt
        yield UsageReported(4, 2)


@requirement("chat_rest.completion")
async def test_a_completion_has_the_documented_shape(http: Http) -> None:
    parrot = Parrot()
    async with http(serving({"parrot": parrot, "other": Parrot()})) as client:
        body = {**HELLO, "systemPrompt": "Be brief.", "temperature": 0.7, "maxTokens": 50, "taskId": "task_1"}
        answer = (await client.post(f"{API}/completions", json=body)).json()

    assert answer.pop("duration") >= 0
    assert answer.pop("id")
    assert answer == {
        "provider": "openai-compat",
        "model": "parrot",
        "message": {"role": "assistant", "content": "You said: Hello"},
        "finishReason": "stop",
        "usage": {"promptTokens": 4, "completionTokens": 2, "totalTokens": 6},
    }
    (request,) = parrot.requests
    assert request.raw_messages[0] == {"role": "system", "content": "Be brief."}
    assert (request.sampling.temperature, request.sampling.max_tokens) == (0.7, 50)
    assert request.metadata == {"taskId": "task_1"}


@requirement("chat_rest.stream")
async def test_a_streamed_completion_is_an_event_stream_that_sums_up_at_its_end(http: Http) -> None:
    async with http(serving(Parrot())) as client:
        answer = await client.post(f"{API}/completions", json={**HELLO, "stream": True})

    told = frames(answer)
    assert "".join([frame.get("content", "") for frame in told]) == "You said: Hello"
    assert "".join([frame.get("thinking", "") for frame in told]) == "Hm."
    usage = {"promptTokens": 4, "completionTokens": 2, "totalTokens": 6}
    assert told[-1] == {"done": True, "usage": usage, "finishReason": "stop"}


async def test_a_conversation_goes_on(http: Http) -> None:
    parrot = Parrot()
    async with http(serving(parrot)) as client:
        name = await conversation(client, taskId="task_1")
        first = (await client.post(f"{API}/conversations/{name}/messages", json={"content": "One"})).json()
        second = await client.post(f"{API}/conversations/{name}/messages", json={"content": "Two", "stream": True})
        third = (await client.post(f"{API}/completions", json={**HELLO, "conversationId": name})).json()
        found = (await client.get(f"{API}/conversations/{name}")).json()

    assert first["userMessage"]["content"] == "One"
    assert first["assistantMessage"]["content"] == "You said: One"
    assert first["assistantMessage"]["tokenUsage"] == {"prompt": 4, "completion": 2, "total": 6}
    assert (first["finishReason"], first["compaction"]) == ("stop", None)
    assert third["conversationId"] == name
    done = frames(second)[-1]
    messages = found["messages"]
    assert [(message["role"], message["content"]) for message in messages] == [
        ("user", "One"),
        ("assistant", "You said: One"),
        ("user", "Two"),
        ("assistant", "You said: Two"),
        ("user", "Hello"),
        ("assistant", "You said: Hello"),
    ]
    assert [messages[0], messages[1]] == [first["userMessage"], first["assistantMessage"]]
    assert [messages[2]["id"], messages[3]["id"]] == [done["userMessageId"], done["messageId"]]
    assert found["conversation"]["title"] == "One"
    assert [len(request.messages) for request in parrot.requests] == [1, 3, 5]
    assert parrot.requests[1].metadata == {"taskId": "task_1"}


@requirement("chat_rest.commit")
@pytest.mark.parametrize("stream", [True, False])
async def test_a_turn_that_fails_leaves_nothing(http: Http, stream: bool) -> None:
    async with http(serving(Parrot())) as client:
        name = await conversation(client)
        answer = await client.post(f"{API}/conversations/{name}/messages", json={"content": "fail", "stream": stream})
        after = (await client.get(f"{API}/conversations/{name}")).json()
        again = await client.post(f"{API}/conversations/{name}/messages", json={"content": "Hello"})

    if stream:
        assert frames(answer)[-1]["error"]["code"] == "tired"
    else:
        assert error_of(answer) == (409, "tired", None)
    assert after["messages"] == []
    assert again.json()["assistantMessage"]["content"] == "You said: Hello"


async def test_quick_answers_one_prompt(http: Http) -> None:
    async with http(serving(Parrot())) as client:
        answer = (await client.post(f"{API}/quick", json={"prompt": "What is 2+2?"})).json()
    assert answer == {
        "content": "You said: What is 2+2?",
        "model": "agent",
        "provider": "openai-compat",
        "usage": {"promptTokens": 4, "completionTokens": 2, "totalTokens": 6},
    }


async def test_tools_run_and_are_told(http: Http) -> None:
    shop = Shop()
    agent = shopper(shop, ["Let me look.", call("c1", "look", what="bread"), UsageReported(1, 1)], ["Fine."])
    async with http(serving(agent)) as client:
        name = await conversation(client)
        path = f"{API}/conversations/{name}/messages/with-tools"
        answer = (await client.post(path, json={"content": "Look", "enableTools": True})).json()
        found = (await client.get(f"{API}/conversations/{name}")).json()

    looked = {"id": "c1", "name": "look", "arguments": {"what": "bread"}, "status": "success", "result": "saw bread"}
    assert answer["toolCalls"] == [looked]
    assert answer["pendingApprovals"] == []
    assert answer["toolSupport"] == {"requested": True, "supported": True, "used": True, "recommendation": None}
    assert answer["assistantMessage"]["toolCalls"] == [looked]
    assert found["messages"][-1] == answer["assistantMessage"]
    assert found["messages"][-1]["content"] == "Let me look.\n\nFine."


@in_process
@pytest.mark.parametrize("body", [{"enableTools": False}, {"securityMode": "deny"}])
async def test_tools_can_be_left_out(http: Http, body: dict[str, Any]) -> None:
    shop = Shop()
    agent = shopper(shop, *BUYS, *BOUGHT, security="full")
    async with http(serving(agent)) as client:
        name = await conversation(client)
        path = f"{API}/conversations/{name}/messages/with-tools"
        await client.post(path, json={"content": "Buy", **body})
    assert shop.did == []


@requirement("chat_rest.agentic")
async def test_an_agentic_turn_is_told_step_by_step(http: Http) -> None:
    shop = Shop()
    agent = shopper(shop, *BUYS, *BOUGHT, security="full", most_roundtrips=50)
    async with http(serving(agent)) as client:
        name = await conversation(client)
        body = {"content": "Buy bread", "maxSteps": 3, "maxBudget": 5000, "effort": "low"}
        answer = await client.post(f"{API}/conversations/{name}/messages/agentic", json=body)
        found = (await client.get(f"{API}/conversations/{name}")).json()

    told = frames(answer)
    assert all(isinstance(frame["timestamp"], int) for frame in told)
    kinds = [frame["type"] for frame in told]
    assert kinds == [
        "user_message",
        "session:start",
        "step:start",
        "thinking:start",
        "thinking:update",
        "thinking:end",
        "text:delta",
        "tool:call",
        "step:complete",
        "tool:result",
        "step:start",
        "text:delta",
        "step:complete",
        "summary",
        "complete",
        "message_saved",
    ]
    data = {frame["type"]: frame["data"] for frame in told}
    assert data["step:complete"] == {
        "step": 2,
        "usedBudget": 17,
        "budgetRemaining": 4983,
        "stepsRemaining": 1,
        "toolCallsInStep": 0,
    }
    assert (data["tool:result"]["status"], data["tool:result"]["result"]) == ("success", "bought 1 bread")
    assert (data["complete"]["totalSteps"], data["complete"]["totalTokens"]) == (2, 17)
    assert data["summary"]["summary"] == "Let me buy it.\n\nYou have bread now."
    assert found["messages"][0]["id"] == data["user_message"]["id"]
    assert found["messages"][1]["id"] == data["message_saved"]["id"]


async def test_a_conversation_that_was_made_shorter_says_so(http: Http) -> None:
    async def agent(prompt: str) -> AsyncIterator[Any]:
        yield Compacted("They spoke of bread.")
        yield "Right."

    async with http(serving(agent)) as client:
        name = await conversation(client)
        answer = (await client.post(f"{API}/conversations/{name}/messages", json={"content": "Go on"})).json()
    assert answer["compaction"] == {"summary": "They spoke of bread."}


@in_process
async def test_pictures_are_artifacts(http: Http) -> None:
    async def painter(prompt: str) -> AsyncIterator[Any]:
        yield "Here."
        yield MediaDelta(b"png", "image/png")

    async with http(serving(painter)) as client:
        name = await conversation(client)
        message = (await client.post(f"{API}/conversations/{name}/messages", json={"content": "Draw"})).json()
        once = (await client.post(f"{API}/completions", json=HELLO)).json()
        path = f"{API}/conversations/{name}/messages/agentic"
        told = frames(await client.post(path, json={"content": "Draw"}))
    picture = [{"type": "image/png", "data": "cG5n"}]
    assert message["artifacts"] == once["artifacts"] == picture
    assert next(frame["data"] for frame in told if frame["type"] == "complete")["artifacts"] == picture
