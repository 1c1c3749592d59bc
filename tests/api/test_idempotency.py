"""`Idempotency-Key`: one run, however often a request is sent."""

from __future__ import annotations

from typing import Any

import anyio
import httpx2
import pytest

from openai_compat import Conversations, Deadlines, Disconnect
from tests.connecting import Http
from tests.requirements import requirement
from tests.support.operated import Gate, Recorder

pytestmark = pytest.mark.anyio
KEY = {"Idempotency-Key": "order-17"}


def body(text: str, **options: Any) -> dict[str, Any]:
    return {"model": "agent", "messages": [{"role": "user", "content": text}], **options}


async def post(client: httpx2.AsyncClient, text: str, headers: dict[str, str] = KEY, **options: Any) -> httpx2.Response:
    return await client.post("/v1/chat/completions", json=body(text, **options), headers=headers)


@requirement("idempotency.replay")
@pytest.mark.parametrize("stream", [False, True])
async def test_the_same_request_gets_the_same_answer_without_another_run(http: Http, stream: bool) -> None:
    agent = Recorder()
    async with http(agent) as client:
        first, second = [await post(client, "hi", stream=stream) for _ in range(2)]
    assert len(agent.seen) == 1
    assert first.content == second.content
    assert first.headers["content-type"] == second.headers["content-type"]
    assert (first.headers.get("idempotent-replayed"), second.headers["idempotent-replayed"]) == (None, "true")
    assert first.headers["x-request-id"] != second.headers["x-request-id"]


@requirement("idempotency.replay")
async def test_a_repeated_answer_says_too_which_conversation_it_belongs_to(http: Http) -> None:
    async with http(Recorder(), conversations=Conversations(by_transcript=True)) as client:
        first, second = [await post(client, "hi") for _ in range(2)]
        kept = await client.get(f"/v1/chat/conversations/{first.headers['x-conversation-id']}")
    assert first.headers["x-conversation-id"] == second.headers["x-conversation-id"]
    assert kept.json()["turns"] == 1


@requirement("idempotency.replay")
async def test_a_failure_is_replayed_too(http: Http) -> None:
    agent = Recorder()
    async with http(agent) as client:
        first, second = [await post(client, "fail") for _ in range(2)]
    assert len(agent.seen) == 1
    assert (first.status_code, first.content) == (second.status_code, second.content) == (500, first.content)
    assert second.headers["x-should-retry"] == "false"


@requirement("idempotency.other")
async def test_another_request_with_the_same_key_is_refused(http: Http) -> None:
    agent = Recorder()
    async with http(agent) as client:
        await post(client, "hi")
        refused = await post(client, "something else")
    assert (refused.status_code, refused.json()["error"]["code"]) == (422, "idempotency_key_reused")
    assert len(agent.seen) == 1


@requirement("idempotency.once")
async def test_five_at_once_are_one_run(http: Http) -> None:
    gate = Gate()
    answers: list[bytes] = []

    async def send() -> None:
        answers.append((await post(client, "hi")).content)

    async with http(gate) as client, anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(send)
        await gate.wait_begun()
        gate.opened.set()
    assert gate.runs == 1
    assert len(answers) == 5
    assert len(set(answers)) == 1


@requirement("idempotency.refused")
async def test_a_request_refused_before_its_agent_started_leaves_the_key_free(http: Http) -> None:
    agent = Recorder()
    async with http(agent) as client:
        refused = await client.post("/v1/chat/completions", json={**body("hi"), "model": "unknown"}, headers=KEY)
        accepted = await post(client, "hi")
    assert (refused.status_code, accepted.status_code) == (404, 200)


@requirement("idempotency.lost")
async def test_a_run_whose_client_left_is_not_run_again(http: Http) -> None:
    gate = Gate()
    async with http(gate, deadlines=Deadlines(heartbeat=0.05)) as client:
        async with client.stream("POST", "/v1/chat/completions", json=body("hi", stream=True), headers=KEY):
            await gate.wait_begun()
        with anyio.fail_after(10):
            while not gate.ended:
                await anyio.sleep(0.01)
        gate.opened.set()
        again = await post(client, "hi", stream=True)
    assert (again.status_code, again.json()["error"]["code"]) == (409, "idempotency_outcome_unknown")
    assert again.headers["x-should-retry"] == "false"
    assert gate.runs == 1


@requirement("disconnect.finish")
async def test_a_run_that_may_finish_without_its_client_can_be_fetched_with_its_key(http: Http) -> None:
    gate = Gate()
    async with http(gate, disconnect=Disconnect("finish"), deadlines=Deadlines(heartbeat=0.05)) as client:
        async with client.stream("POST", "/v1/chat/completions", json=body("hi", stream=True), headers=KEY):
            await gate.wait_begun()
        gate.opened.set()
        again = await post(client, "hi", stream=True)
    assert '"content":"hi"' in again.text
    assert again.text.endswith("data: [DONE]\n\n")
    assert (gate.runs, gate.ended) == (1, ["finished"])


@requirement("idempotency.key")
@pytest.mark.parametrize("key", ["x" * 256, "a\tb"])
async def test_a_key_too_long_or_unprintable_is_refused(http: Http, key: str) -> None:
    async with http(Recorder()) as client:
        answer = await post(client, "hi", {"Idempotency-Key": key})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "Idempotency-Key")


@requirement("idempotency.place")
@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/v1/chat/completions", {"X-Conversation-Id": "two"}),
        ("/v1/chat/completions", {}),
        ("/v1/chat/completions", {"X-Conversation-Id": "one", "X-OpenWebUI-Chat-Id": "other"}),
        ("/v1/chat/completions", {"X-Conversation-Id": "one", "X-User": "him"}),
        ("/v1/chat/completions?user=him", {"X-Conversation-Id": "one"}),
        ("/v1/responses", {"X-Conversation-Id": "two"}),
    ],
)
async def test_a_key_is_for_one_conversation_and_one_set_of_headers(http: Http, path: str, told: Any) -> None:
    agent = Recorder()
    asked = {"model": "agent", "messages": [{"role": "user", "content": "hi"}], "input": "hi"}
    sent = {name: asked[name] for name in ("model", "input" if "responses" in path else "messages")}
    async with http(agent, conversations=Conversations(), agent_headers=["X-User"]) as client:
        first = await client.post(path.partition("?")[0], json=sent, headers={**KEY, "X-Conversation-Id": "one"})
        other = await client.post(path, json=sent, headers={**KEY, **told})
        again = await client.post(path.partition("?")[0], json=sent, headers={**KEY, "X-Conversation-Id": "one"})
    assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_key_reused")
    assert (again.content, len(agent.seen)) == (first.content, 1)
