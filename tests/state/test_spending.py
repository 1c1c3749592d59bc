"""Budgets and rates of tokens: each turn's use is stored with its outcome, across all processes; excess is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import pytest

from openai_compat import Budget, Conversations, MemoryStore, Principal, Rates, Server
from openai_compat.errors import AgentError, Unavailable
from openai_compat.events import UsageReported
from openai_compat.http import HttpRequest
from openai_compat.state.spending import Spending
from openai_compat.stores.port import Key, Store, TurnCommit
from openai_compat.turns.slots import Admission
from tests.api.chat_websocket.client import chat
from tests.conftest import anyio_backend as anyio_backend
from tests.requirements import requirement
from tests.support.exchanges import Recorder, answer, request
from tests.support.hooked import EVERY_API, HTTP_APIS, OWN_FORMS, EndsAs, ask, hooked_server, run_turn

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 11, 30, 18, tzinfo=UTC)


async def spent(server: Server, unit: str = "total", principal: str = "anonymous") -> int:
    """Tokens used today."""
    store: Store = server.services.state.store
    return await store.spent(principal, Budget(1).period(datetime.now(UTC)), unit)


@requirement("budget.refused")
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "plain"])
@pytest.mark.parametrize("api", HTTP_APIS | OWN_FORMS)
async def test_who_has_used_a_budget_up_is_refused_until_the_next_period(api: str, stream: bool) -> None:
    agent = EndsAs()  # uses 5 tokens
    server = hooked_server(agent, budgets=Budget(8), admission=Admission(busy="I am busy."))
    first = await ask(server, api, "ok", stream=stream)
    second = await ask(server, api, "ok", stream=stream)
    refused = await ask(server, api, "ok", stream=stream)
    assert (first.status, second.status, len(agent.prompts)) == (200, 200, 2)
    assert refused.status == 429
    if api not in OWN_FORMS:
        assert (refused.error["type"], refused.error["code"]) == ("insufficient_quota", "insufficient_quota")
    assert (refused.headers["x-should-retry"], refused.headers["x-ratelimit-remaining-tokens"]) == ("false", "0")
    assert 0 < int(refused.headers["retry-after"]) <= 24 * 3600
    left = [made.headers["x-ratelimit-remaining-tokens"] for made in (first, second)]
    assert (left, second.headers["x-ratelimit-limit-tokens"]) == (["8", "3"], "8")


@requirement("budget.refused")
async def test_over_the_chat_websocket_too() -> None:
    async with chat(hooked_server(EndsAs(), budgets=Budget(5))) as client:
        await client.ask("ok")
        assert (await client.ask("ok"))[-1]["error"]["code"] == "insufficient_quota"


@requirement("budget.exact")
@pytest.mark.parametrize("ending", ["ok", "error", "pause", "cancel"])
@pytest.mark.parametrize("api", EVERY_API)
async def test_what_a_turn_has_used_counts_however_it_ends(api: str, ending: str) -> None:
    agent = EndsAs()
    server = hooked_server(agent, budgets=[Budget(100), Budget(100, of="output"), Budget(1000, per="month")])
    await run_turn(server, agent, api, ending, stream=True)
    assert (await spent(server), await spent(server, "output"), await spent(server, "input")) == (5, 2, 0)


@requirement("budget.exact")
async def test_choices_are_counted_together_and_each_principal_alone() -> None:
    server = hooked_server(EndsAs(), budgets=Budget(100), keys={"sk-1": Principal("ann"), "sk-2": Principal("bob")})
    body = {"model": "agent", "messages": [{"role": "user", "content": "ok"}], "n": 3}
    await answer(server, request("/v1/chat/completions", body, (b"authorization", b"Bearer sk-1")))
    assert [await spent(server, principal=name) for name in ("ann", "bob")] == [15, 0]


@requirement("budget.exact")
async def test_tokens_that_were_reported_and_not_read_any_more_count_too() -> None:
    reported = anyio.Event()

    async def agent(prompt: str) -> AsyncIterator[Any]:
        yield "x"
        for _ in range(10):
            yield UsageReported(1, 0)
        reported.set()
        raise AgentError("It broke.", code="broken")

    server = hooked_server(agent, budgets=Budget(100))
    await ask(server, "chat", "hi", stream=False)
    assert await spent(server) == 10


@requirement("budget.exact")
async def test_without_the_outcome_nothing_is_spent_twice(tmp_path: Path) -> None:
    class Failing(MemoryStore):
        failing = True

        async def commit(self, outcome: TurnCommit) -> bool:
            if self.failing and outcome.conversation is not None:
                raise Unavailable("Not now.", code="store_unavailable")
            return await super().commit(outcome)

    store = Failing()
    server = hooked_server(EndsAs(), budgets=Budget(100), store=store, conversations=Conversations())

    async def say() -> Recorder:
        body = {"model": "agent", "messages": [{"role": "user", "content": "ok"}]}
        return await answer(server, request("/v1/chat/completions", body, (b"x-conversation-id", b"trip")))

    assert (await say()).status == 503
    assert await spent(server) == 5  # the agent has run
    store.failing = False
    assert (await say()).status == 200
    assert await spent(server) == 10


@requirement("budget.exact")
async def test_processes_that_share_a_store_add_to_one_sum(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'state.db'}"
    rates = Rates(tokens_per_minute=0.06, token_burst=1000)  # a token in 1000 s
    servers = [hooked_server(EndsAs(), budgets=Budget(1000), rates=rates, store=url) for _ in range(4)]
    async with anyio.create_task_group() as group:
        for server in servers:
            for _ in range(5):
                group.start_soon(lambda server=server: ask(server, "responses", "ok", stream=True))
    assert await spent(servers[0]) == 4 * 5 * 5
    assert round(await servers[0].services.state.store.ahead(Key("anonymous", "tokens")) / 1000) == 4 * 5 * 5
    for server in servers:
        await server.services.state.store.aclose()


class Away(MemoryStore):
    """A store that can be cut off."""

    away = True

    async def spent(self, principal: str, period: str, unit: str) -> int:
        await self._answers()
        return await super().spent(principal, period, unit)

    async def ahead(self, key: Key) -> float:
        await self._answers()
        return await super().ahead(key)

    async def commit(self, outcome: TurnCommit) -> bool:
        await self._answers()
        return await super().commit(outcome)

    async def _answers(self) -> None:
        if self.away:
            raise Unavailable("Not now.", code="store_unavailable")


@requirement("budget.away")
async def test_while_the_store_is_away_the_setting_says_who_is_let_in(caplog: pytest.LogCaptureFixture) -> None:
    admits = hooked_server(EndsAs(), budgets=Budget(1), store=Away())
    refuses = hooked_server(EndsAs(), budgets=Budget(1, without_store="refuse"), store=Away())
    assert (await ask(admits, "chat", "ok", stream=False)).status == 200
    refused = await ask(refuses, "chat", "ok", stream=False)
    assert (refused.status, refused.error["code"]) == (503, "store_unavailable")
    assert "budgets of tokens are not looked at" in caplog.text
    assert "the tokens of a turn could not be counted" in caplog.text


@requirement("budget.away")
async def test_a_store_that_goes_away_meanwhile_takes_no_answer_with_it_unless_the_setting_says_so() -> None:
    statuses: list[int] = []
    for without_store in ("admit", "refuse"):
        store = Away()
        store.away = False

        async def agent(prompt: str, store: Away = store) -> AsyncIterator[Any]:
            store.away = True
            yield "Hello"
            yield UsageReported(3, 2)

        server = hooked_server(agent, budgets=Budget(100, without_store=without_store), store=store)
        statuses.append((await ask(server, "chat", "ok", stream=False)).status)
    assert statuses == [200, 503]


# tokens a minute


@requirement("rates.tokens")
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "plain"])
@pytest.mark.parametrize("api", HTTP_APIS | OWN_FORMS)
async def test_who_is_ahead_of_the_tokens_a_minute_is_refused_and_told_when_to_come_back(
    api: str, stream: bool
) -> None:
    agent, now = EndsAs(), [1000.0]  # uses 5 tokens
    server = hooked_server(agent, rates=Rates(60, tokens_per_minute=6), store=MemoryStore(clock=lambda: now[0]))
    first = await ask(server, api, "ok", stream=stream)
    second = await ask(server, api, "ok", stream=stream)  # one token is left, and the turn uses five
    refused = await ask(server, api, "ok", stream=stream)
    told = [
        tuple([made.headers[f"x-ratelimit-{what}-tokens"] for what in ("limit", "remaining", "reset")])
        for made in (first, second, refused)
    ]
    assert told == [("6", "6", "0ms"), ("6", "1", "50s"), ("6", "0", "1m40s")]
    assert first.headers["x-ratelimit-remaining-requests"] == "59"
    assert (refused.status, len(agent.prompts)) == (429, 2)
    assert api in OWN_FORMS or refused.error["code"] == "rate_limit_exceeded"
    assert "More than 6 tokens in a minute. Try again in 50 s." in refused.data.decode()
    assert (refused.headers["retry-after"], refused.headers["retry-after-ms"]) == ("50", "50000")
    now[0] += 49
    assert (await ask(server, api, "ok", stream=stream)).status == 429
    now[0] += 1
    assert (await ask(server, api, "ok", stream=stream)).status == 200


@requirement("rates.tokens")
async def test_tokens_a_minute_hold_over_the_chat_websocket_too() -> None:
    async with chat(hooked_server(EndsAs(), rates=Rates(tokens_per_minute=5))) as client:
        await client.ask("ok")
        assert (await client.ask("ok"))[-1]["error"]["code"] == "rate_limit_exceeded"


@requirement("rates.tokens")
@pytest.mark.parametrize("ending", ["ok", "error", "pause", "cancel"])
@pytest.mark.parametrize("api", EVERY_API)
async def test_a_turn_is_charged_to_the_rate_however_it_ends(api: str, ending: str) -> None:
    agent, store = EndsAs(), MemoryStore(clock=lambda: 1000.0)
    server = hooked_server(agent, rates=Rates(tokens_per_minute=60), store=store)
    await run_turn(server, agent, api, ending, stream=True)
    assert await store.ahead(Key("anonymous", "tokens")) == 5


@requirement("rates.tokens")
async def test_each_principal_has_its_own_rate_and_a_turn_that_reports_nothing_is_not_charged() -> None:
    def rates(principal: Principal) -> Rates | None:
        return None if principal.id == "staff" else Rates(tokens_per_minute=5)

    async def agent(prompt: str) -> AsyncIterator[Any]:
        yield "Hello"
        if prompt == "count":
            yield UsageReported(5, 0)

    people = {"sk-1": Principal("ann"), "sk-2": Principal("bob"), "sk-3": Principal("staff")}
    server = hooked_server(agent, rates=rates, keys=people)

    async def status(key: bytes, text: str) -> int:
        body = {"model": "agent", "messages": [{"role": "user", "content": text}]}
        return (
            await answer(server, request("/v1/chat/completions", body, (b"authorization", b"Bearer " + key)))
        ).status

    assert [await status(b"sk-1", text) for text in ("nothing", "nothing", "count", "nothing")] == [200, 200, 200, 429]
    assert [await status(key, "count") for key in (b"sk-2", b"sk-3", b"sk-3", b"sk-2")] == [200, 200, 200, 429]


def free(principal: Principal) -> bool:
    return bool(principal.claims["plan"] == "free")


@requirement("auth.limits")
@pytest.mark.parametrize(
    "limited",
    [
        {"rates": lambda who: Rates(tokens_per_minute=0.01) if free(who) else None},
        {"rates": lambda who: Rates(0.01) if free(who) else None},
        {"budgets": lambda who: Budget(1) if free(who) else None},
    ],
)
async def test_every_limit_of_a_caller_may_be_told_by_their_claims(limited: Any) -> None:
    def authenticate(asked: HttpRequest) -> Principal:
        plan = asked.header(b"x-plan") or "free"
        return Principal(f"user:{plan}", claims={"plan": plan})

    server = hooked_server(EndsAs(), authenticate=authenticate, **limited)

    async def statuses(plan: bytes) -> set[int]:
        body = {"model": "agent", "messages": [{"role": "user", "content": "ok"}]}
        asked = [request("/v1/chat/completions", body, (b"x-plan", plan)) for _ in range(2)]
        return {(await answer(server, one)).status for one in asked}

    assert 429 in await statuses(b"free")
    assert await statuses(b"paid") == {200}


@requirement("rates.tokens")
async def test_the_headers_tell_of_a_budget_where_less_is_left_of_it() -> None:
    server = hooked_server(EndsAs(), rates=Rates(tokens_per_minute=100), budgets=Budget(50))
    assert (await ask(server, "chat", "ok", stream=False)).headers["x-ratelimit-limit-tokens"] == "50"
    server = hooked_server(EndsAs(), rates=Rates(tokens_per_minute=20), budgets=Budget(50))
    answers = await ask(server, "chat", "ok", stream=False)
    assert [value for name, value in answers.start.headers if name == b"x-ratelimit-limit-tokens"] == [b"20"]


@requirement("rates.tokens")
async def test_while_the_store_is_away_each_process_counts_tokens_by_itself(caplog: pytest.LogCaptureFixture) -> None:
    server = hooked_server(EndsAs(), rates=Rates(tokens_per_minute=5), store=Away())
    assert [(await ask(server, "chat", "ok", stream=False)).status for _ in range(2)] == [200, 429]
    assert "each process counts tokens a minute by itself" in caplog.text


@requirement("budget.refused")
async def test_a_function_says_who_has_which_budget() -> None:
    def budgets(principal: Principal) -> Budget | None:
        return None if principal.id == "staff" else Budget(0)

    server = hooked_server(EndsAs(), budgets=budgets, keys={"sk-1": Principal("staff"), "sk-2": Principal("ann")})

    async def status(key: bytes) -> int:
        body = {"model": "agent", "messages": [{"role": "user", "content": "ok"}]}
        asked: HttpRequest = request("/v1/chat/completions", body, (b"authorization", b"Bearer " + key))
        return (await answer(server, asked)).status

    assert [await status(key) for key in (b"sk-1", b"sk-2")] == [200, 429]


@requirement("budget.refused")
async def test_a_period_begins_anew_at_midnight_or_with_the_month() -> None:
    store, now = MemoryStore(), [NOW]
    principal = Principal("ann")
    spending = Spending(store, [Budget(5), Budget(5, per="month")], now=lambda: now[0])
    spends, _ = spending.amounts_of(principal, usage_of(5))
    assert [(spend.period, spend.tokens) for spend in spends] == [("2026-11-30", 5), ("2026-11", 5)]
    await store.commit(TurnCommit(principal="ann", token="t", spends=spends))
    with pytest.raises(Exception, match="tokens a day is used up") as refused:
        await spending.check(principal)
    assert (refused.value.retry_after, Budget(5, per="month").left(NOW)) == (6 * 3600, 6 * 3600)
    now[0] = datetime(2026, 12, 1, tzinfo=UTC)
    assert dict(await spending.check(principal))["x-ratelimit-remaining-tokens"] == "5"


def usage_of(tokens: int) -> Any:
    from openai_compat.wire.reducer import Usage

    usage = Usage()
    usage.add(UsageReported(tokens, 0))
    return usage


@pytest.mark.parametrize("wrong", [{"tokens": -1}, {"tokens": "many"}, {"tokens": 1, "per": "week"}])
def test_a_budget_that_makes_no_sense_is_refused(wrong: Any) -> None:
    with pytest.raises((ValueError, TypeError), match=r"Budget\."):
        Budget(**wrong)


@pytest.mark.parametrize("wrong", [5, ["day"], "day"])
def test_what_is_no_budget_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match="budgets"):
        Server(EndsAs(), budgets=wrong)
