"""Stored conversations and idempotency keys, used by many, at once, and by the wrong callers.

Numbers refer to the list of faults. What a single turn leaves behind, however it ends (130, 131), is stepped through
in tests/turns/test_every_step.py; idempotency keys (133-136) are in tests/api/test_idempotency.py.
"""

from __future__ import annotations

import gc
import json
import logging
import random
import threading
import tracemalloc
import unicodedata
from collections.abc import AsyncIterator
from typing import Any

import anyio
import anyio.lowlevel
import httpx2
import openai
import pytest

from openai_compat import Admission, AgentRequest, Conversations, Limits, MemoryStore, Principal, Server
from openai_compat.agent_request import ANONYMOUS
from openai_compat.stores.port import Key
from openai_compat.wire.serialize_messages import chat_messages_of
from tests.support.exchanges import answer, request
from tests.transports import uvicorn_socket
from tests.trust.probe import CHAT, ask, error_of, eventually, in_process, soon
from tests.trust.wire import RawClient

pytestmark = pytest.mark.anyio
KEYS = {"key-a": Principal("alice"), "key-b": Principal("bob")}


@pytest.fixture
def anyio_backend() -> str:
    """The openai SDK leaves generators to the garbage collector, which trio reports: asyncio only."""
    return "asyncio"


class Chronicler:
    """Answers "re: PROMPT" in several steps; records its conversations and how many ran at once."""

    def __init__(self) -> None:
        self.seen: list[list[str]] = []
        self.running = 0
        self.most = 0

    async def __call__(self, request: AgentRequest) -> AsyncIterator[str]:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            self.seen.append([str(message["content"]) for message in request.raw_messages])
            yield "re: "
            for _ in range(3):
                await anyio.lowlevel.checkpoint()
            yield request.prompt
        finally:
            self.running -= 1


def asking(text: str, **fields: Any) -> dict[str, Any]:
    return ask(messages=[{"role": "user", "content": text}], **fields)


def as_who(key: str, conversation: str | None = None) -> list[tuple[bytes, bytes]]:
    headers = [(b"authorization", f"Bearer {key}".encode())]
    return headers if conversation is None else [*headers, (b"x-conversation-id", conversation.encode())]


def pairs(history: list[str]) -> list[tuple[str, str]]:
    assert len(history) % 2 == 0
    return list(zip(history[::2], history[1::2], strict=True))


# ownership


async def test_the_same_id_under_another_key_is_another_conversation() -> None:
    """74, 76: and the conversations API does not find the other caller's"""
    agent = Chronicler()
    async with in_process(Server(agent, keys=KEYS, conversations=Conversations())) as client:
        await client.post(CHAT, json=asking("alice's secret"), headers=as_who("key-a", "c"))
        path = "/v1/chat/conversations/c"
        foreign = [await client.request(method, path, headers=as_who("key-b")) for method in ("GET", "DELETE")]
        await client.post(CHAT, json=asking("bob's"), headers=as_who("key-b", "c"))
        theirs = [(await client.get(path, headers=as_who(key))).json()["messages"] for key in KEYS]
    assert [error_of(refused)[:3] for refused in foreign] == [
        (404, "invalid_request_error", "conversation_not_found")
    ] * 2
    assert agent.seen == [["alice's secret"], ["bob's"]]
    assert [messages[0]["content"] for messages in theirs] == ["alice's secret", "bob's"]


async def test_ids_that_look_alike_are_apart() -> None:
    """75"""
    nfc, nfd = unicodedata.normalize("NFC", "é"), unicodedata.normalize("NFD", "é")
    ids = ["a", "A", "a:b", "a/b", "a b", "a%20b", "..", nfc, nfd, "x" * 255, "x" * 256, "null", "0", "__class__"]
    keys = {"k1": Principal("p"), "k2": Principal("p:a"), "k3": Principal("P"), "k4": Principal("p\0a")}
    agent = Chronicler()
    async with in_process(Server(agent, keys=keys, conversations=Conversations())) as client:
        for key in keys:
            for identifier in [*ids, "b", "a:b"]:
                name = f"{key} {identifier}"
                await client.post(CHAT, json=asking(name), headers=as_who(key, identifier))
                shown = agent.seen[-1]
                assert [words for words in shown if words not in (name, f"re: {name}")] == []


async def test_eight_principals_with_the_same_ids_at_once_see_only_their_own() -> None:
    """74, 128"""
    agent = Chronicler()
    names = [f"principal {number}" for number in range(8)]
    server = Server(
        agent, keys={name.replace(" ", "-"): Principal(name) for name in names}, conversations=Conversations()
    )
    async with in_process(server) as client:

        async def chat(name: str, conversation: str) -> None:
            for turn in range(5):
                text = f"{name} in {conversation}, turn {turn}"
                got = await client.post(CHAT, json=asking(text), headers=as_who(name.replace(" ", "-"), conversation))
                assert got.json()["choices"][0]["message"]["content"] == f"re: {text}"

        async with anyio.create_task_group() as group:
            for name in names:
                for conversation in ("one", "two"):
                    group.start_soon(chat, name, conversation)
    assert len(agent.seen) == 8 * 2 * 5
    for shown in agent.seen:
        owner = shown[-1].rpartition(", turn ")[0]
        assert shown == [words for turn in range(len(shown) // 2) for words in _turn(owner, turn)] + [shown[-1]]


def _turn(owner: str, number: int) -> list[str]:
    return [f"{owner}, turn {number}", f"re: {owner}, turn {number}"]


async def test_an_idempotency_key_belongs_to_its_principal() -> None:
    """78"""
    agent = Chronicler()
    async with in_process(Server(agent, keys=KEYS)) as client:
        headers = {key: [*as_who(key), (b"idempotency-key", b"order-17")] for key in KEYS}
        answers = [
            await client.post(CHAT, json=asking(text), headers=headers[key])
            for key, text in (
                ("key-a", "for alice"),
                ("key-b", "for bob"),
                ("key-a", "for alice"),
                ("key-b", "for bob"),
            )
        ]
    said = [answer.json()["choices"][0]["message"]["content"] for answer in answers]
    assert said == ["re: for alice", "re: for bob"] * 2
    assert agent.seen == [["for alice"], ["for bob"]]


async def test_a_stored_completion_belongs_to_its_principal() -> None:
    """77"""
    async with in_process(Server(Chronicler(), keys=KEYS)) as client:
        kept = (await client.post(CHAT, json=asking("secret", store=True), headers=as_who("key-a"))).json()["id"]
        path = f"{CHAT}/{kept}"
        foreign = [
            await client.get(path, headers=as_who("key-b")),
            await client.get(f"{path}/messages", headers=as_who("key-b")),
            await client.post(path, json={"metadata": {"a": "b"}}, headers=as_who("key-b")),
            await client.delete(path, headers=as_who("key-b")),
        ]
        lists = [(await client.get(CHAT, headers=as_who(key))).json()["data"] for key in KEYS]
    assert [error_of(refused)[0] for refused in foreign] == [404] * 4
    assert [len(found) for found in lists] == [1, 0]


async def test_nothing_in_a_body_makes_one_somebody_else() -> None:
    """The API key decides the owner, whatever `user` and similar fields say."""
    agent = Chronicler()
    claims = {"user": "bob", "safety_identifier": "bob", "metadata": {"user_id": "bob"}, "principal": "bob"}
    async with in_process(Server(agent, keys=KEYS, conversations=Conversations())) as client:
        await client.post(CHAT, json=asking("bob's secret"), headers=as_who("key-b", "c"))
        headers = [*as_who("key-a", "c"), (b"x-user-id", b"bob"), (b"x-openwebui-user-id", b"bob")]
        await client.post(CHAT, json=asking("mine", **claims), headers=headers)
    assert agent.seen == [["bob's secret"], ["mine"]]


# concurrency


async def test_twenty_turns_keep_their_order() -> None:
    """132: alternately streamed and plain"""
    agent = Chronicler()
    async with in_process(Server(agent, conversations=Conversations())) as client:
        for number in range(20):
            body = asking(f"turn {number}", stream=number % 2 == 0)
            assert (await client.post(CHAT, json=body, headers={"x-conversation-id": "c"})).status_code == 200
    assert agent.seen[-1] == [words for number in range(19) for words in (f"turn {number}", f"re: turn {number}")] + [
        "turn 19"
    ]


async def test_four_turns_at_once_in_one_conversation_never_overlap() -> None:
    """129: each over its own connection"""
    agent = Chronicler()
    statuses: list[int] = []
    with uvicorn_socket(Server(agent, conversations=Conversations())) as url:
        async with httpx2.AsyncClient(base_url=url, timeout=30, headers={"x-conversation-id": "c"}) as client:

            async def turn(name: str) -> None:
                got = await client.post(CHAT, json=asking(name))
                assert got.status_code == 200 or error_of(got)[2] == "conversation_busy"
                statuses.append(got.status_code)

            for round_ in range(10):
                async with anyio.create_task_group() as group:
                    for number in range(4):
                        group.start_soon(turn, f"{round_}.{number}")
            kept = (await client.get("/v1/chat/conversations/c")).json()
    assert agent.most == 1
    assert kept["turns"] == statuses.count(200) == len(agent.seen) >= 10
    for question, reply in pairs([message["content"] for message in kept["messages"]]):
        assert reply == f"re: {question}"


@pytest.mark.parametrize("busy", ["reject", "queue"])
async def test_two_openai_clients_racing_on_one_conversation_never_interleave(busy: Any) -> None:
    """129: fifty rounds each, with a random number of steps in between"""
    agent, dice = Chronicler(), random.Random(50)
    told: list[str] = []
    codes: set[str | None] = set()

    async def race(client: openai.AsyncOpenAI, name: str) -> None:
        for number in range(50):
            for _ in range(dice.randrange(30)):
                await anyio.lowlevel.checkpoint()
            text = f"{name} {number}"
            try:
                got = await client.chat.completions.create(
                    model="agent",
                    messages=[{"role": "user", "content": text}],
                    extra_headers={"X-Conversation-Id": "c"},
                )
            except openai.ConflictError as refused:
                codes.add(refused.code)
            else:
                assert got.choices[0].message.content == f"re: {text}"
                told.append(text)

    server = Server(agent, conversations=Conversations(busy=busy))
    async with in_process(server) as one, in_process(server) as two, anyio.create_task_group() as group:
        for http, name in ((one, "one"), (two, "two")):
            sdk = openai.AsyncOpenAI(base_url="http://localhost/v1", api_key="any", http_client=http, max_retries=0)
            group.start_soon(race, sdk, name)
    kept = await server.services.state.store.read(Key(ANONYMOUS.id, "c"))
    assert kept is not None
    history = [m["content"] for m in chat_messages_of([json.loads(item.body) for item in kept.items])]
    assert agent.most == 1
    assert [question for question, _ in pairs(history)] == [shown[-1] for shown in agent.seen]
    assert all([reply == f"re: {question}" for question, reply in pairs(history)])
    assert sorted(question for question, _ in pairs(history)) == sorted(told)
    assert all([shown == history[: len(shown)] for shown in agent.seen])
    assert {text.split()[0] for text in told} == {"one", "two"}
    assert codes <= {"conversation_busy"} if busy == "reject" else len(told) == 100


# leaving a queue


@pytest.mark.parametrize("for_what", ["slot", "conversation"])
async def test_a_place_in_a_queue_is_given_up_by_those_who_leave(for_what: str) -> None:
    """147: neither a slot nor the conversation is ever granted to a client that has left"""
    runs: list[str] = []
    go_on = anyio.Event()

    async def agent(prompt: str) -> str:
        runs.append(prompt)
        await go_on.wait()
        return "done"

    settings: Any = (
        {"limits": Limits(slots=1), "admission": Admission(queue=60)}
        if for_what == "slot"
        else {"conversations": Conversations(busy="queue", queue=60)}
    )
    server = Server(agent, **settings)
    async with in_process(server) as client, anyio.create_task_group() as group:
        headers = {"x-conversation-id": "c"}

        async def turn(text: str) -> None:
            assert (await client.post(CHAT, json=asking(text), headers=headers)).status_code == 200

        group.start_soon(turn, "first")
        await soon(lambda: runs == ["first"])
        with anyio.move_on_after(0.05):
            await turn("leaves")
        group.start_soon(turn, "stays")
        with anyio.move_on_after(0.05):
            await turn("leaves too")
        go_on.set()
    assert runs == ["first", "stays"]
    assert server.services.live.slots.used == 0


def test_one_who_hangs_up_while_queueing_is_not_served_later(caplog: pytest.LogCaptureFixture) -> None:
    """147: over a socket"""
    caplog.set_level(logging.INFO, logger="openai_compat")
    runs: list[str] = []
    go_on = threading.Event()

    async def agent(prompt: str) -> str:
        runs.append(prompt)
        while not go_on.is_set():
            await anyio.sleep(0.005)
        return "done"

    with uvicorn_socket(Server(agent, conversations=Conversations(busy="queue", queue=60))) as url:
        with RawClient(url) as first, RawClient(url) as second:
            for client, text in ((first, "first"), (second, "second")):
                body = json.dumps(asking(text)).encode()
                client.head("Content-Type: application/json", "X-Conversation-Id: c", f"Content-Length: {len(body)}")
                client.socket.sendall(body)
                eventually(lambda: runs == ["first"])
            second.reset()
            eventually(lambda: "client left" in caplog.text or "ClientDisconnected" in caplog.text)
            go_on.set()
            assert first.answer()[0] == 200
        following = httpx2.post(f"{url}{CHAT}", json=asking("next"), headers={"x-conversation-id": "c"}, timeout=20)
    assert following.status_code == 200
    assert runs == ["first", "next"]


# stored data is bounded


@pytest.mark.parametrize("what", ["x-conversation-id", "idempotency-key"])
async def test_two_thousand_of_them_take_no_more_memory_than_the_limit_allows(what: str) -> None:
    """120"""

    async def agent(prompt: str) -> str:
        return "x" * 1000

    store = MemoryStore(max_items=100)
    server = Server(agent, conversations=Conversations(), store=store)

    async def use(first: int, last: int) -> None:
        for number in range(first, last):
            header = (what.encode(), f"number {number}".encode())
            sent = await answer(server, request(CHAT, asking("y" * 1000), header))
            assert sent.status == 200

    await use(0, 300)
    tracemalloc.start()
    try:
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        await use(300, 2300)
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 1_000_000  # 100 of a few kB each were added; 2,000 would be 6 MB
