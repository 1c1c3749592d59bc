"""`Server(rates=…)`: the number of requests that a caller may send."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from openai_compat import Conversations, Cors, MemoryStore, Principal, Rates, Server
from openai_compat.errors import Unavailable
from openai_compat.policies.rates import format_duration
from openai_compat.stores.port import Allowance, Key
from tests.connecting import Http, in_process
from tests.connecting import anyio_backend as anyio_backend
from tests.requirements import requirement
from tests.support.operated import Recorder
from tests.transports import reach

pytestmark = pytest.mark.anyio

TWO = Rates(2)
"""Two requests at once, then one each 30 seconds."""


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def ask(client: httpx2.AsyncClient, text: str = "hi", key: str = "", **options: Any) -> httpx2.Response:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    headers |= options.pop("headers", {})
    body = {"model": "agent", "messages": [{"role": "user", "content": text}], **options}
    return await client.post("/v1/chat/completions", json=body, headers=headers)


def told(answer: httpx2.Response) -> tuple[str | None, ...]:
    return tuple([answer.headers.get(f"x-ratelimit-{what}-requests") for what in ("limit", "remaining", "reset")])


@requirement("rates.refused")
async def test_more_requests_than_allowed_are_refused_and_told_when_to_come_back(http: Http) -> None:
    agent, clock = Recorder(), Clock()
    async with http(agent, rates=TWO, store=MemoryStore(clock=clock)) as client:
        first, second = [await ask(client, stream=stream) for stream in (False, True)]
        clock.now += 10
        refused = await ask(client)
        clock.now += 20
        later = await ask(client)
    assert [first.status_code, second.status_code, later.status_code] == [200, 200, 200]
    assert (refused.status_code, len(agent.seen)) == (429, 3)
    assert refused.json()["error"] == {
        "message": "More than 2 requests in a minute. Try again in 20 s.",
        "type": "rate_limit_error",
        "param": None,
        "code": "rate_limit_exceeded",
    }
    assert (refused.headers["retry-after"], refused.headers["retry-after-ms"]) == ("20", "20000")


@requirement("rates.headers")
async def test_every_answer_tells_what_is_left(http: Http) -> None:
    clock = Clock()
    async with http(Recorder(), rates=TWO, store=MemoryStore(clock=clock)) as client:
        plain = await ask(client)
        completion = await client.post("/v1/completions", json={"model": "agent", "prompt": "hi"})
        clock.now += 10
        refused = await ask(client)
        clock.now += 50
        failed, unknown = await ask(client, "fail"), await ask(client, model="other")
        models = await client.get("/v1/models")
        clock.now += 60
        stream = await ask(client, stream=True)
    assert told(plain) == ("2", "1", "30s")
    assert told(completion) == ("2", "0", "1m0s")
    assert told(refused) == ("2", "0", "50s")
    assert (failed.status_code, told(failed)) == (500, ("2", "1", "30s"))
    assert (unknown.status_code, told(unknown)) == (404, ("2", "0", "1m0s"))
    assert told(models) == (None, None, None)
    assert told(stream) == ("2", "1", "30s")


@requirement("rates.replay")
async def test_a_repeated_answer_is_not_counted(http: Http) -> None:
    key = {"Idempotency-Key": "k"}
    async with http(Recorder(), rates=TWO, store=MemoryStore(clock=Clock())) as client:
        answers = [await ask(client, headers=key) for _ in range(3)]
        another = await ask(client)
    assert [answer.headers.get("idempotent-replayed") for answer in answers] == [None, "true", "true"]
    assert told(answers[1]) == (None, None, None)
    assert told(another) == ("2", "0", "1m0s")


@requirement("rates.replay")
async def test_what_a_chat_program_asks_for_itself_is_not_counted(http: Http) -> None:
    async with http(Recorder(), rates=TWO, store=MemoryStore(clock=Clock())) as client:
        chores = [await ask(client, headers={"X-Task": "title"}) for _ in range(3)]
        counted = await ask(client)
    assert [(answer.status_code, told(answer)) for answer in chores] == [(200, (None, None, None))] * 3
    assert told(counted) == ("2", "1", "30s")


@requirement("rates.replay")
async def test_a_refused_request_leaves_its_key_and_its_conversation_free(http: Http) -> None:
    clock, headers = Clock(), {"Idempotency-Key": "k", "X-Conversation-Id": "c"}
    async with http(Recorder(), rates=TWO, store=MemoryStore(clock=clock), conversations=Conversations()) as client:
        for _ in range(2):
            await ask(client)
        refused = await ask(client, headers=headers)
        clock.now += 30
        accepted = await ask(client, headers=headers)
    assert (refused.status_code, accepted.status_code) == (429, 200)


@requirement("rates.principal")
async def test_each_keys_owner_has_a_limit_of_its_own(http: Http) -> None:
    keys = {"a": Principal("ann"), "b": Principal("bob"), "b2": Principal("bob"), "c": Principal("carl")}

    def rates(principal: Principal) -> Rates | None:
        return {"ann": Rates(60, burst=1), "bob": TWO}.get(principal.id)

    async with http(Recorder(), rates=rates, keys=keys, store=MemoryStore(clock=Clock())) as client:
        statuses = {key: [(await ask(client, key=key)).status_code for _ in range(2)] for key in keys}
        unlimited = await ask(client, key="c")
    assert statuses == {"a": [200, 429], "b": [200, 200], "b2": [429, 429], "c": [200, 200]}
    assert told(unlimited) == (None, None, None)


@in_process
async def test_web_pages_may_read_what_is_left(http: Http) -> None:
    origin = {"Origin": "https://app.example"}
    async with http(Recorder(), rates=TWO, cors=Cors([origin["Origin"]])) as client:
        answer = await ask(client, headers=origin)
    exposed = answer.headers["access-control-expose-headers"].split(", ")
    assert {"x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"} <= {*exposed}


class Away(MemoryStore):
    """A store that can be cut off."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False
        self.asked = 0

    async def allow(self, key: Key, per_second: float, burst: int) -> Allowance:
        self.asked += 1
        if self.away:
            raise Unavailable("The store cannot be reached.", code="store_unavailable")
        return await super().allow(key, per_second, burst)


@requirement("rates.outage")
async def test_while_the_store_is_away_each_process_counts_by_itself(caplog: pytest.LogCaptureFixture) -> None:
    store = Away()
    store.away = True
    async with reach(Server(Recorder(), rates=TWO, store=store), "in-process") as client:
        statuses = [(await ask(client)).status_code for _ in range(3)]
    assert statuses == [200, 200, 429]
    assert store.asked == 1  # not once for each request
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert warnings == [
        "the store does not answer: each process counts its own requests against the rate limits",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0ms"), (0.0001, "1ms"), (0.06, "60ms"), (1, "1s"), (59.2, "1m0s"), (360, "6m0s"), (3661, "1h1m1s")],
)
def test_times_are_written_as_openai_writes_them(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    "wrong",
    [
        (0,),
        (-1,),
        (float("inf"),),
        (float("nan"),),
        (60, 0),
        (None, 5),
        (None, None, 0),
        (None, None, 60, 0),
        (60, 5, None, 9),
        (),
    ],
)
def test_a_limit_below_any_request_is_refused_when_it_is_set(wrong: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError, match=r"_per_minute|burst"):
        Rates(*wrong)
