"""Hooks: each turn of each API is reported once, in order, in the agent's task; a failing hook changes nothing."""

from __future__ import annotations

import contextvars
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import anyio
import pytest

from openai_compat import (
    AgentBackend,
    AgentEvent,
    AgentRequest,
    Capabilities,
    Deadlines,
    Finished,
    Hooks,
    Limits,
    RunContext,
    Server,
    ToolCallReady,
    ToolResult,
    TurnInfo,
    TurnOutcome,
)
from openai_compat.errors import AgentError, Forbidden, RateLimited
from openai_compat.messages import ToolMessage
from openai_compat.turns.slots import Admission
from tests.api.chat_websocket.client import chat
from tests.conftest import anyio_backend as anyio_backend
from tests.requirements import requirement
from tests.support.exchanges import answer, request
from tests.support.hooked import APIS, EVERY_API, HTTP_APIS, OWN_FORMS, Diary, EndsAs, ask, hooked_server, run_turn

pytestmark = pytest.mark.anyio

EXPECTED: dict[str, tuple[str | None, str | None, str | None]] = {
    "ok": ("stop", None, None),
    "error": (None, "broken", None),
    "cancel": (None, None, "client"),
    "pause": ("paused", None, None),
}


@requirement("hooks.once")
@pytest.mark.parametrize("ending", EXPECTED)
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "plain"])
@pytest.mark.parametrize("api", EVERY_API)
async def test_each_turn_of_each_api_is_told_of_once(api: str, stream: bool, ending: str) -> None:
    agent, diary = EndsAs(), Diary()
    server = hooked_server(agent, diary)
    async with server.lifespan():
        await run_turn(server, agent, api, ending, stream=stream)
        await diary.until("settled")
    assert diary.names == ["admit", "started", "event", "ended", "settled"]
    (started,), (ended,), (settled,) = diary.turns("started"), diary.of("ended"), diary.of("settled")
    assert (started.api, started.agent, started.request.prompt) == (api, "agent", ending)
    assert {turn for name, turn, _ in diary.told if name != "admit"} == {started}
    finish, code, cancelled = EXPECTED[ending]
    stopped = "stopped" if api == "chat_websocket" and ending == "cancel" else code
    for outcome in (ended, settled):
        assert (outcome.finish, outcome.error and outcome.error.code, outcome.cancelled) == (finish, stopped, cancelled)
        assert (outcome.usage.input_tokens, outcome.usage.output_tokens) == (3, 2)
        assert 0 <= outcome.first_event <= outcome.seconds
    # Nothing is stored for chat without a conversation, unless it has asked a person.
    kept = api in ("responses", "chat_websocket") or (
        api in ("chat", "anthropic_messages", "ollama") and ending == "pause"
    )
    kept = kept and ending in ("ok", "pause")
    assert (ended.committed, settled.committed) == (None, kept)


@requirement("hooks.once")
async def test_each_choice_is_a_turn_of_its_own() -> None:
    diary = Diary()
    server = hooked_server(EndsAs(), diary)
    await ask(server, "chat", "ok", stream=True, n=3)
    await diary.until("settled", 3)
    assert sorted([turn.index for turn in diary.turns("started")]) == [0, 1, 2]
    assert len({turn.id for turn in diary.turns("ended")}) == 3
    assert len({turn.response_id for turn in diary.turns("ended")}) == 1
    assert len(diary.of("admit")) == 1


@requirement("hooks.once")
async def test_a_choice_that_is_stopped_since_another_one_has_failed_is_told_with_that_failure() -> None:
    async def agent(request: AgentRequest, context: RunContext) -> AsyncIterator[str]:
        if context.turn_id.endswith("-1"):
            raise AgentError("It broke.", code="broken")
        yield "one"
        await anyio.sleep_forever()

    diary = Diary()
    await ask(hooked_server(agent, diary), "chat", "ok", stream=False, n=2)
    codes = {turn.index: outcome.error.code for name, turn, outcome in diary.told if name == "ended"}
    assert codes == {0: "broken", 1: "broken"}


@requirement("hooks.once")
@pytest.mark.parametrize("api", HTTP_APIS | OWN_FORMS)
async def test_a_turn_that_takes_too_long_is_told_with_its_deadline(api: str) -> None:
    diary = Diary()
    server = hooked_server(EndsAs(), diary, deadlines=Deadlines(request=0.05))
    await ask(server, api, "cancel", stream=False)
    (outcome,) = diary.of("ended")
    assert (outcome.cancelled, outcome.error.code) == ("deadline", "timeout")


@requirement("hooks.once")
async def test_a_turn_that_the_shutdown_ends_is_told_so() -> None:
    agent, diary = EndsAs(), Diary()
    server = hooked_server(agent, diary)
    async with anyio.create_task_group() as group:
        async with server.lifespan():
            group.start_soon(lambda: ask(server, "chat", "cancel", stream=False))
            await agent.waits.wait()
    assert diary.names == ["admit", "started", "event", "ended", "settled"]
    assert diary.of("ended")[0].cancelled == "shutdown"


@requirement("hooks.once")
async def test_a_turn_that_a_newer_message_takes_the_place_of_is_told_so() -> None:
    agent, diary = EndsAs(), Diary()
    async with chat(hooked_server(agent, diary)) as client:
        await client.say("cancel")
        await agent.waits.wait()
        await client.say("ok")
        await client.until("message")
        await diary.until("settled", 2)
    assert [outcome.cancelled for outcome in diary.of("ended")] == ["superseded", None]


@requirement("hooks.once")
async def test_a_response_in_the_background_is_told_of_when_it_is_cancelled() -> None:
    agent, diary = EndsAs(), Diary()
    server = hooked_server(agent, diary)
    async with server.lifespan():
        made = (await ask(server, "responses", "cancel", stream=False, background=True)).json
        await agent.waits.wait()
        await answer(server, request(f"/v1/responses/{made['id']}/cancel", b""))
        await diary.until("settled")
    (started,), (ended,) = diary.turns("started"), diary.of("ended")
    assert (started.background, started.response_id) == (True, made["id"])
    assert (ended.cancelled, ended.error.code) == ("client", "cancelled")
    assert diary.of("settled")[0].committed is False


@requirement("hooks.once")
async def test_a_summary_is_a_turn() -> None:
    diary = Diary()
    made = await answer(
        hooked_server(EndsAs(), diary), request("/v1/responses/compact", {"model": "agent", "input": "ok"})
    )
    (started,) = diary.turns("started")
    assert (started.request.purpose, started.response_id) == ("summary", made.json["id"])
    assert len(diary.of("ended")) == 1


class Repairing:
    """Answers with JSON only when asked a second time."""

    capabilities = Capabilities(repairs_output=True)

    async def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[str]:
        yield '{"a": 1}' if "JSON" in request.prompt else "no"


@requirement("hooks.once")
async def test_a_repair_is_another_run_of_the_same_turn() -> None:
    diary = Diary()
    form = {"format": {"type": "json_schema", "name": "a", "schema": {"type": "object"}, "strict": False}}
    made = await ask(hooked_server(Repairing(), diary), "responses", "hi", stream=False, text=form)
    assert made.json["output"][0]["content"][0]["text"] == '{"a": 1}'
    await diary.until("settled", 2)
    assert diary.names[:7] == ["admit", "started", "event", "ended", "started", "event", "ended"]
    assert [turn.run for turn in diary.turns("started")] == [0, 1]
    assert [outcome.committed for outcome in diary.of("settled")] == [True, True]


@requirement("hooks.once")
async def test_a_client_of_the_chat_websocket_that_runs_a_tool_has_two_runs() -> None:
    async def agent(request: AgentRequest) -> AsyncIterator[Any]:
        if isinstance(request.messages[-1], ToolMessage):
            yield "sunny"
        else:
            yield ToolCallReady("call_1", "weather", "{}")

    diary = Diary()
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    async with chat(hooked_server(agent, diary)) as client:
        await client.say("hi", tools=[tool])
        call = (await client.until("tool_call"))[-1]
        await client.send(type="tool_result", thread_id="t", tool_call_id=call["tool_call_id"], output="sun", ok=True)
        await client.until("message")
        await diary.until("settled", 2)
    assert [outcome.finish for outcome in diary.of("ended")] == ["tool_calls", "stop"]
    assert [turn.run for turn in diary.turns("started")] == [0, 1]
    assert [outcome.tool_calls for outcome in diary.of("ended")] == [1, 0]


@requirement("hooks.once")
async def test_an_agent_that_waits_for_a_decision_ends_one_turn_and_begins_another_where_it_is() -> None:
    user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")
    resets: list[str] = []

    class Sets(Diary):
        def started(self, turn: TurnInfo) -> None:
            super().started(turn)
            self.token = user.set(f"run of {turn.id[:5]}")

        def ended(self, turn: TurnInfo, outcome: TurnOutcome) -> None:
            super().ended(turn, outcome)
            resets.append(user.get())
            user.reset(self.token)  # raises in any context other than the one in which it was set

    async def agent(prompt: str, context: RunContext) -> AsyncIterator[str]:
        yield user.get()
        decisions: list[Any] = []

        async def approve(name: str) -> None:
            decisions.append(await context.approve(name, "{}"))

        async with anyio.create_task_group() as group:
            group.start_soon(approve, "delete")  # asks in a task other than the agent's
        yield f" then {user.get()} {decisions[0].approved}"

    diary = Sets()
    server = hooked_server(agent, diary)
    asked = (await ask(server, "chat", "Delete a", stream=False)).json["choices"][0]["message"]["content"]
    said = [
        {"role": "user", "content": "Delete a"},
        {"role": "assistant", "content": asked},
        {"role": "user", "content": "yes"},
    ]
    await diary.until("settled")
    told = await ask(server, "chat", "", stream=False, messages=said)
    assert told.text == " then run of chatc True"
    assert [outcome.finish for outcome in diary.of("ended")] == ["paused", "stop"]
    assert diary.names[:7] == ["admit", "started", "event", "ended", "settled", "admit", "started"]
    assert len({turn.id for turn in diary.turns("started")}) == 2
    assert resets == ["run of chatc"] * 2


@requirement("hooks.once")
async def test_an_agent_that_nobody_answers_belongs_to_no_turn_when_it_ends() -> None:
    gone = anyio.Event()

    async def agent(prompt: str, context: RunContext) -> AsyncIterator[str]:
        yield "Let me see."
        decision = await context.approve("delete", "{}")
        gone.set()
        yield str(decision.approved)

    diary = Diary()
    server = hooked_server(agent, diary)
    async with server.lifespan():
        await ask(server, "chat", "Delete a", stream=False)
    assert gone.is_set()
    assert diary.names == ["admit", "started", "event", "ended", "settled"]


@requirement("hooks.task")
@pytest.mark.parametrize("plain", [True, False])
async def test_a_context_variable_that_a_hook_sets_is_the_agents(plain: bool) -> None:
    tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="none")

    class Tenant(Hooks):
        def started(self, turn: TurnInfo) -> None:
            tenant.set(turn.principal.id)

    def function(prompt: str) -> str:
        return tenant.get()

    async def coroutine(prompt: str) -> str:
        return tenant.get()

    made = await ask(hooked_server(function if plain else coroutine, Tenant()), "chat", "hi", stream=False)
    assert (made.text, tenant.get()) == ("anonymous", "none")


@requirement("hooks.task")
async def test_hooks_are_told_in_the_order_given_and_of_the_end_in_reverse() -> None:
    order: list[str] = []

    class Named(Hooks):
        def __init__(self, name: str) -> None:
            self.name = name

        async def admit(self, turn: TurnInfo) -> None:
            order.append(f"admit {self.name}")

        def started(self, turn: TurnInfo) -> None:
            order.append(f"started {self.name}")

        def event(self, turn: TurnInfo, item: AgentEvent | str) -> None:
            if item == "hi":
                order.append(f"event {self.name}")

        def ended(self, turn: TurnInfo, outcome: TurnOutcome) -> None:
            order.append(f"ended {self.name}")

    def echo(prompt: str) -> str:
        return prompt

    await ask(hooked_server(echo, Named("a"), Named("b")), "chat", "hi", stream=False)
    assert [line.split()[0] for line in order] == [
        name for name in ("admit", "started", "event", "ended") for _ in "ab"
    ]
    assert [line.split()[1] for line in order] == ["a", "b", "a", "b", "a", "b", "b", "a"]


@requirement("hooks.task")
async def test_events_are_those_that_are_left_of_what_the_agent_says() -> None:
    async def agent(prompt: str) -> AsyncIterator[Any]:
        yield ToolCallReady("call_1", "look", "{}", "agent")
        yield ToolResult("call_1", "seen")
        yield "one STOP two"

    diary = Diary()
    await ask(hooked_server(agent, diary), "chat", "hi", stream=True, stop=["STOP"])
    said = [item for item in diary.of("event") if isinstance(item, str) or type(item).__name__ == "TextDelta"]
    assert "".join([item if isinstance(item, str) else item.text for item in said]) == "one "
    assert diary.of("event")[-1] == Finished("stop", "STOP")
    assert diary.of("ended")[0].tool_calls == 1


class Raises(Hooks):
    """Raises in every method, except where that would refuse a turn."""

    def started(self, turn: TurnInfo) -> None:
        raise ValueError("secret")

    def event(self, turn: TurnInfo, item: AgentEvent | str) -> None:
        raise SystemExit("secret")

    def ended(self, turn: TurnInfo, outcome: TurnOutcome) -> None:
        raise ValueError("secret")

    async def settled(self, turn: TurnInfo, outcome: TurnOutcome) -> None:
        raise ValueError("secret")


@requirement("hooks.isolated")
@pytest.mark.parametrize("ending", ["ok", "error", "pause"])
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "plain"])
@pytest.mark.parametrize("api", HTTP_APIS | OWN_FORMS)
async def test_a_hook_that_fails_changes_no_byte_and_is_logged_once(
    api: str, stream: bool, ending: str, caplog: pytest.LogCaptureFixture
) -> None:
    diary = Diary()
    failing = await ask(hooked_server(EndsAs(), Raises(), diary), api, ending, stream=stream)
    without = await ask(hooked_server(EndsAs()), api, ending, stream=stream)
    await diary.until("settled")
    assert _shape(failing.data) == _shape(without.data)
    logged = [record for record in caplog.records if "Raises." in record.getMessage()]
    assert [record.getMessage().split(": ")[1] for record in logged] == [
        "Raises.started failed",
        "Raises.settled failed",
    ]
    assert diary.names == ["admit", "started", "event", "ended", "settled"]


def _shape(data: bytes) -> str:
    """An answer without its ids and times."""
    return re.sub(
        r"[a-z_]*duration\":\d+|[a-z]+[_-][0-9a-f]{8,}[0-9a-f-]*|\d{10}|\d\d\d\d-\d\d-\d\dT[0-9:.]+Z|[A-Za-z0-9_-]{16,}",
        "X",
        data.decode(),
    )


@requirement("hooks.admit")
@pytest.mark.parametrize("api", APIS)
async def test_a_hook_refuses_a_turn_and_no_agent_is_started(api: str) -> None:
    class Refuses(Diary):
        async def admit(self, turn: TurnInfo) -> None:
            await super().admit(turn)
            raise Forbidden("Not today.", code="closed")

    agent, diary = EndsAs(), Refuses()
    server = hooked_server(agent, diary)
    if api == "chat_websocket":
        async with chat(server) as client:
            await client.say("ok")
            assert (await client.until())[-1]["error"]["code"] == "closed"
    else:
        refused = await ask(server, api, "ok", stream=True)
        assert (refused.status, refused.error["code"]) == (403, "closed")
    assert (diary.names, agent.prompts, server.services.live.slots.used) == (["admit"], [], 0)


@requirement("hooks.admit")
async def test_a_hook_that_cannot_tell_refuses_with_a_503_that_tells_nothing(caplog: pytest.LogCaptureFixture) -> None:
    class Breaks(Hooks):
        async def admit(self, turn: TurnInfo) -> None:
            raise ValueError("secret")

    agent = EndsAs()
    refused = await ask(hooked_server(agent, Breaks()), "chat", "ok", stream=False)
    assert (refused.status, refused.error["code"]) == (503, "hook_failed")
    assert "secret" not in refused.data.decode()
    assert "retry-after" in refused.headers
    assert [record.levelname for record in caplog.records if "Breaks.admit failed" in record.getMessage()] == ["ERROR"]
    assert agent.prompts == []


@requirement("hooks.admit")
async def test_a_refusal_is_told_even_where_busy_has_words() -> None:
    class Limited(Hooks):
        async def admit(self, turn: TurnInfo) -> None:
            raise RateLimited("No more today.", code="insufficient_quota")

    server = hooked_server(EndsAs(), Limited(), admission=Admission(busy="I am busy."))
    refused = await ask(server, "chat", "ok", stream=False)
    assert (refused.status, refused.error["code"]) == (429, "insufficient_quota")


@requirement("hooks.admit")
async def test_the_time_in_the_queue_is_told() -> None:
    agent, diary = EndsAs(), Diary()
    server = hooked_server(agent, diary, limits=Limits(slots=1), admission=Admission(queue=5))
    first = anyio.CancelScope()

    async def until_it_leaves() -> None:
        with first:
            await ask(server, "chat", "cancel", stream=False)

    async with anyio.create_task_group() as group:
        group.start_soon(until_it_leaves)
        await agent.waits.wait()
        group.start_soon(lambda: ask(server, "chat", "ok", stream=False))
        await diary.until("admit", 2)
        await anyio.sleep(0.02)  # the test measures time
        first.cancel()
        await diary.until("ended", 2)
    assert [turn.queued for turn in diary.turns("admit")] == [0, 0]
    first_run, second = diary.turns("started")
    assert first_run.queued < 0.01 < second.queued
    assert second.request.prompt == "ok"


@requirement("hooks.settled")
async def test_a_server_that_shuts_down_waits_for_those_who_are_told_of_the_end() -> None:
    class Slow(Hooks):
        done = False

        async def settled(self, turn: TurnInfo, outcome: TurnOutcome) -> None:
            await anyio.sleep(0.05)
            self.done = True

    slow = Slow()
    server = hooked_server(EndsAs(), slow)
    async with server.lifespan():
        made = await ask(server, "chat", "ok", stream=False)
        assert (made.status, slow.done) == (200, False)
    assert slow.done


@requirement("hooks.settled")
async def test_one_that_never_ends_is_given_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Hangs(Hooks):
        async def settled(self, turn: TurnInfo, outcome: TurnOutcome) -> None:
            await anyio.sleep_forever()

    monkeypatch.setattr("openai_compat.turns.hooked_run.SETTLED_TIMEOUT", 0.05)
    server = hooked_server(EndsAs(), Hangs())
    with anyio.fail_after(5):
        async with server.lifespan():
            await ask(server, "chat", "ok", stream=False)
    assert "Hangs.settled failed" in caplog.text


class Shouting:
    """A wrapper of another backend."""

    def __init__(self, inner: AgentBackend, mark: str) -> None:
        self._inner, self._mark = inner, mark
        self.capabilities = inner.capabilities

    async def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[Any]:
        async for item in self._inner.run(replace(request), context):
            yield item.upper() + self._mark if isinstance(item, str) else item


@requirement("hooks.wrap")
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "plain"])
@pytest.mark.parametrize("api", HTTP_APIS | OWN_FORMS)
async def test_what_changes_a_turn_wraps_the_backend_on_every_api(api: str, stream: bool) -> None:
    names: list[str] = []

    def wrap(backend: AgentBackend, name: str) -> AgentBackend:
        names.append(name)
        return Shouting(backend, "!")

    def asking(backend: AgentBackend, name: str) -> AgentBackend:
        return Shouting(backend, "?")

    server = hooked_server(EndsAs(), wrap=[wrap, asking])
    made = await ask(server, api, "ok", stream=stream)
    assert ("ONE ?!" in made.data.decode(), names) == (True, ["agent"])


@requirement("hooks.wrap")
async def test_a_wrapped_backend_keeps_the_methods_that_the_server_asks_for() -> None:
    closed: list[str] = []

    class Closable(EndsAs):
        capabilities = Capabilities()

        async def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[Any]:
            yield "x"

        async def aclose(self) -> None:
            closed.append("closed")

    def silent(backend: AgentBackend, name: str) -> AgentBackend:
        return Shouting(backend, "")

    server = hooked_server(Closable(), wrap=[silent])
    async with server.lifespan():
        pass
    assert closed == ["closed"]


@requirement("hooks.isolated")
@pytest.mark.parametrize("hooks", [[object()], [Diary], ["hook"]])
def test_what_is_no_hook_is_refused_when_the_server_is_made(hooks: Any) -> None:
    with pytest.raises(TypeError, match="each of hooks"):
        Server(EndsAs(), hooks=hooks)


def test_a_method_that_nobody_would_wait_for_is_refused() -> None:
    class Waits(Hooks):
        async def ended(self, turn: TurnInfo, outcome: TurnOutcome) -> None:
            pass

    class Blocks(Hooks):
        def settled(self, turn: TurnInfo, outcome: TurnOutcome) -> None:
            pass

    with pytest.raises(TypeError, match=r"Waits.ended has to be written with `def`"):
        Server(EndsAs(), hooks=[Waits()])
    with pytest.raises(TypeError, match=r"Blocks.settled has to be written with `async def`"):
        Server(EndsAs(), hooks=[Blocks()])


def test_what_is_no_backend_cannot_stand_in_for_one() -> None:
    with pytest.raises(TypeError, match="each of wrap has to return a backend"):
        Server(EndsAs(), wrap=[lambda backend, name: None])


@requirement("hooks.none")
async def test_a_hook_that_overrides_nothing_is_no_hook() -> None:
    server = hooked_server(EndsAs(), Hooks())
    hooks = server.services.live.runner.hooks
    assert (hooks.admits, hooks.watches) == (False, False)
    assert (await ask(server, "chat", "ok", stream=False)).text == "one two"


@requirement("hooks.none")
async def test_only_what_is_overridden_is_called() -> None:
    seen: list[TurnOutcome] = []

    class OnlyEnds(Hooks):
        def ended(self, turn: TurnInfo, outcome: TurnOutcome) -> None:
            seen.append(outcome)

    server = hooked_server(EndsAs(), OnlyEnds())
    hooks = server.services.live.runner.hooks
    assert (hooks.admits, hooks.started, hooks.event, hooks.settled) == (False, [], [], [])
    await ask(server, "chat", "ok", stream=False)
    assert [outcome.finish for outcome in seen] == ["stop"]
