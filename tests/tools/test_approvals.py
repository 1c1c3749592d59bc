"""Approvals: a call waits for a person's decision, made at once or in a later request, in this process or another."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Any, cast

import anyio
import pytest

from openai_compat import (
    AgentError,
    Finished,
    Paused,
    PendingCall,
    Principal,
    RunContext,
    ToolCallDelta,
    ToolCallReady,
    ToolCallStarted,
    ToolResult,
    UsageReported,
)
from openai_compat.agent_request import Decision, Resume
from openai_compat.errors import Unavailable
from openai_compat.messages import ToolMessage
from openai_compat.testing import ScriptedBackend
from openai_compat.tools import Approver, AskLater, MemoryGrants, Question, ToolLoop, call_digest, parse_allow, tool
from tests.tools.support import after, call, function, new_context, request_for, results, run, text, user

pytestmark = pytest.mark.anyio

YES, NO = Decision(approved=True), Decision(approved=False)


class Shop:
    """Tools that record their calls."""

    def __init__(self) -> None:
        self.did: list[str] = []

    @property
    def tools(self) -> list[Callable[..., Any]]:
        @tool(danger="safe")
        def look(what: str) -> str:
            self.did.append(f"look {what}")
            return f"saw {what}"

        def buy(what: str, pieces: int = 1) -> str:
            self.did.append(f"buy {pieces} {what}")
            return f"bought {pieces} {what}"

        @tool(danger="dangerous")
        def burn(what: str) -> str:
            self.did.append(f"burn {what}")
            return f"burnt {what}"

        def git(argv: list[str]) -> str:
            self.did.append(" ".join(argv))
            return "done"

        return [look, buy, burn, git]


class Answers:
    """An approver that answers at once."""

    def __init__(self, *decisions: Decision | Exception | None) -> None:
        self._decisions = list(decisions)
        self.questions: list[Question] = []

    async def decide(self, question: Question, context: RunContext) -> Decision | None:
        self.questions.append(question)
        decision = self._decisions.pop(0)
        if isinstance(decision, Exception):
            raise decision
        return decision


def loop_of(shop: Shop, *scripts: list[Any], approver: Approver | None = None, **settings: Any) -> ToolLoop:
    return ToolLoop(ScriptedBackend(*scripts), shop.tools, approver=approver or AskLater(), **settings)


def paused(said: list[Any]) -> Paused:
    assert isinstance(said[-1], Paused)
    return said[-1]


def outcome_of(request_id: str, said: list[Any]) -> ToolResult:
    return next(result for result in results(said) if result.call_id == request_id)


# decided at once


async def test_somebody_who_says_yes_lets_the_call_run() -> None:
    shop, somebody = Shop(), Answers(YES)
    request = replace(request_for("Buy bread"), principal=Principal("ann"), conversation_id="conv_1")

    said = await run(loop_of(shop, [call("a", "buy", what="bread")], ["Bought."], approver=somebody), request)

    (question,) = somebody.questions
    assert (shop.did, text(said)) == (["buy 1 bread"], "Bought.")
    assert (question.call_id, question.tool, question.arguments) == ("a", "buy", '{"what": "bread"}')
    assert (question.principal.id, question.conversation_id, question.danger) == ("ann", "conv_1", "risky")
    assert question.digest == call_digest("buy", '{"what":"bread"}')
    assert str(question.always) == '{"what":"bread"}'


async def test_somebody_who_says_no_is_heard_by_the_model() -> None:
    shop = Shop()
    no = Decision(approved=False, reason="too dear")

    said = await run(loop_of(shop, [call("a", "buy", what="gold")], ["Pity."], approver=Answers(no)))

    assert results(said) == [ToolResult("a", "Denied by the user: too dear", denied=True)]
    assert (shop.did, text(said)) == ([], "Pity.")


async def test_arguments_that_somebody_has_changed_are_the_ones_that_count_and_the_model_is_told() -> None:
    shop = Shop()
    changed = Decision(approved=True, arguments='{"what": "bread", "pieces": 2}')

    said = await run(loop_of(shop, [call("a", "buy", what="gold")], ["Hm."], approver=Answers(changed)))

    assert shop.did == ["buy 2 bread"]
    note = '(The user has changed the arguments to {"what": "bread", "pieces": 2})\n'
    assert results(said) == [ToolResult("a", f"{note}bought 2 bread")]


async def test_arguments_that_somebody_has_changed_are_checked_too() -> None:
    shop = Shop()
    changed = Decision(approved=True, arguments='{"what": 3}')

    said = await run(loop_of(shop, [call("a", "buy", what="gold")], ["Hm."], approver=Answers(changed)))

    assert results(said)[0].is_error
    assert shop.did == []


async def test_nobody_is_asked_about_a_call_that_cannot_run() -> None:
    somebody = Answers()

    said = await run(loop_of(Shop(), [call("a", "buy", who="?")], ["Hm."], approver=somebody))

    assert somebody.questions == []
    assert results(said)[0].is_error


async def test_an_approver_that_fails_has_not_said_yes(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "openai_compat")
    shop = Shop()

    said = await run(loop_of(shop, [call("a", "buy", what="x")], ["Hm."], approver=Answers(RuntimeError("secret"))))

    assert shop.did == []
    assert results(said) == [ToolResult("a", "Denied: It needs approval, and there is nobody to ask.", denied=True)]


async def test_questions_of_one_step_are_asked_at_once_while_safe_calls_run() -> None:
    shop, both, asked = Shop(), anyio.Event(), list[str]()

    class Together:
        async def decide(self, question: Question, context: RunContext) -> Decision | None:
            asked.append(question.call_id)
            if len(asked) == 2:
                both.set()
            await both.wait()
            return YES

    step = [call("a", "buy", what="x"), call("b", "buy", what="y"), call("c", "look", what="z")]
    await run(loop_of(shop, step, ["Done."], approver=Together()))

    assert sorted(shop.did) == ["buy 1 x", "buy 1 y", "look z"]


async def test_a_call_that_may_not_run_is_shown_when_it_does_and_not_before() -> None:
    shop, request = Shop(), request_for()
    step = [ToolCallStarted("a", "buy"), ToolCallDelta("a", '{"what": '), ToolCallReady("a", "buy", '{"what": "x"}')]

    later = await run(loop_of(shop, ["May I?", *step]), request)
    denied = await run(loop_of(shop, step, ["Pity."], approver=Answers(NO)), request)
    full = await run(loop_of(shop, step, ["Done."], security="full"), request)

    assert [type(event).__name__ for event in later] == ["TextDelta", "Paused"]
    shown = [ToolCallStarted("a", "buy", "agent"), ToolCallDelta("a", '{"what": "x"}')]
    ready = ToolCallReady("a", "buy", '{"what": "x"}', "agent")
    assert denied[:4] == [*shown, ready, ToolResult("a", "Denied by the user.", denied=True)]
    assert full[1] == ToolCallDelta("a", '{"what": ')


async def test_a_call_that_was_allowed_is_shown_while_it_runs() -> None:
    go = anyio.Event()

    async def slow() -> str:
        await go.wait()
        return "done"

    loop = ToolLoop(ScriptedBackend([call("a", "slow")], ["Done."]), [slow], approver=Answers(YES))
    with anyio.fail_after(10):
        async with aclosing(cast("Any", loop.run(request_for(), new_context()))) as items:
            seen = []
            async for item in items:
                seen.append(item)
                if isinstance(item, ToolCallReady):
                    go.set()

    assert seen[:2] == [ToolCallReady("a", "slow", "{}", "agent"), ToolResult("a", "done")]


# always allowed


async def test_always_allows_the_same_call_again_and_no_other_one() -> None:
    shop, somebody = Shop(), Answers(replace(YES, always=True), NO, NO)
    steps = [[call(what, "buy", what=what)] for what in ("bread", "bread", "gold")]
    loop = loop_of(shop, *steps, [call("p", "buy", what="bread", pieces=2)], ["Done."], approver=somebody)

    await run(loop)

    assert shop.did == ["buy 1 bread", "buy 1 bread"]
    assert len(somebody.questions) == 3


async def test_always_for_a_command_is_for_its_exact_words() -> None:
    shop, somebody = Shop(), Answers(replace(YES, always=True), NO, NO)
    words = [["git", "status"], ["git", "status"], ["git", "push"], ["git", "status", "; rm -rf /"]]
    loop = loop_of(shop, *[[call("g", "git", argv=argv)] for argv in words], ["Done."], approver=somebody)

    await run(loop)

    assert shop.did == ["git status", "git status"]
    assert [str(question.always) for question in somebody.questions] == [
        "git status",
        "git push",
        "git status '; rm -rf /'",
    ]


async def test_always_with_a_pattern_allows_what_it_names_and_one_that_cannot_be_read_just_the_call() -> None:
    for pattern, did in [("git log **", ["git log", "git log -3"]), ("git log; rm", ["git log"])]:
        shop, somebody = Shop(), Answers(replace(YES, always=True, pattern=pattern), NO)
        words = [["git", "log"], ["git", "log", "-3"]]
        await run(loop_of(shop, *[[call("g", "git", argv=argv)] for argv in words], ["Done."], approver=somebody))
        assert shop.did == did


async def test_what_is_dangerous_is_asked_about_each_time() -> None:
    shop, somebody = Shop(), Answers(replace(YES, always=True), NO)
    loop = loop_of(shop, [call("a", "burn", what="x")], [call("b", "burn", what="x")], ["Done."], approver=somebody)

    await run(loop)

    assert shop.did == ["burn x"]
    assert [question.always for question in somebody.questions] == [None, None]


async def test_always_is_for_the_one_who_said_it() -> None:
    shop, grants = Shop(), MemoryGrants()
    script = ([call("a", "buy", what="bread")], ["Done."])
    by_ann = replace(request_for(), principal=Principal("ann"))
    by_bob = replace(request_for(), principal=Principal("bob"))

    await run(loop_of(shop, *script, approver=Answers(replace(YES, always=True)), grants=grants), by_ann)
    await run(loop_of(shop, *script, approver=Answers(NO), grants=grants), by_bob)

    assert shop.did == ["buy 1 bread"]


class LostGrants:
    async def allowed(self, principal: str, tool: str) -> list[Any]:
        raise Unavailable("The store is gone.", code="store_unavailable")

    async def add(self, principal: str, tool: str, allow: object) -> None:
        raise AssertionError


async def test_grants_that_cannot_be_read_end_the_turn_and_nothing_runs() -> None:
    shop = Shop()

    with pytest.raises(Unavailable):
        await run(loop_of(shop, [call("a", "buy", what="x"), call("b", "buy", what="y")], grants=LostGrants()))
    assert shop.did == []


async def test_grants_in_memory_are_bounded_for_each_principal_and_nobody_loses_anothers() -> None:
    grants = MemoryGrants(most=2, each=2)
    await grants.add("bob", "pay", parse_allow("ls"))
    for name in ("pay", "move", "look"):
        for word in ("a", "b", "c"):
            await grants.add("ann", name, parse_allow(word))

    assert [len(await grants.allowed("ann", name)) for name in ("pay", "move", "look")] == [0, 2, 2]
    assert await grants.allowed("ann", "look") == (parse_allow("b"), parse_allow("c"))
    assert await grants.allowed("bob", "pay") == (parse_allow("ls"),)


async def test_a_turn_pauses_for_approval_and_goes_on_in_another_process() -> None:
    shop, request = Shop(), request_for("Buy bread")
    step = ["Let me buy it.", call("a", "buy", what="bread"), UsageReported(5, 5)]

    said = await run(loop_of(shop, step), request)
    assert paused(said).pending == (PendingCall("a", "buy", '{"what": "bread"}', "approval"),)
    assert (shop.did, results(said)) == ([], [])

    model = ScriptedBackend(["Bought."])
    elsewhere = ToolLoop(model, shop.tools, approver=AskLater())
    said = await run(elsewhere, after(request, paused(said), decisions={"a": YES}))

    assert shop.did == ["buy 1 bread"]
    assert said[0] == ToolCallStarted("a", "buy", "agent")
    assert ToolCallReady("a", "buy", '{"what": "bread"}', "agent") in said
    assert results(said) == [ToolResult("a", "bought 1 bread")]
    assert (text(said), said[-1]) == ("Bought.", Finished("stop"))
    assert [message["role"] for message in model.requests[0].raw_messages] == ["user", "assistant", "tool"]
    assert model.requests[0].raw_messages[1]["content"] == "Let me buy it."
    assert model.requests[0].messages[-1] == ToolMessage("a", "bought 1 bread", "buy")


async def test_what_the_server_shows_of_the_paused_turn_is_not_told_to_the_model_twice() -> None:
    shop, request = Shop(), request_for("Buy bread")
    said = await run(loop_of(shop, ["Let me buy it.", call("a", "buy", what="bread")]), request)

    history = [user("Buy bread"), {"role": "assistant", "content": "Let me buy it."}]
    shown = replace(request, raw_messages=history, messages=request_for(history).messages)
    model = ScriptedBackend(["Bought."])
    await run(ToolLoop(model, shop.tools), after(shown, paused(said), decisions={"a": YES}))

    assert [message["role"] for message in model.requests[0].raw_messages] == ["user", "assistant", "tool"]
    assert len(model.requests[0].messages) == 3


async def test_a_denial_by_a_later_request_is_heard_by_the_model() -> None:
    shop, request = Shop(), request_for("Buy gold")
    loop = loop_of(shop, [call("a", "buy", what="gold")], ["Pity."])
    said = await run(loop, request)

    said = await run(loop, after(request, paused(said), decisions={"a": NO}))

    assert results(said) == [ToolResult("a", "Denied by the user.", denied=True)]
    assert (shop.did, text(said)) == ([], "Pity.")


async def test_arguments_that_were_changed_before_a_later_yes_are_shown_with_the_call() -> None:
    shop, request = Shop(), request_for("Buy gold")
    loop = loop_of(shop, [call("a", "buy", what="gold")], ["Hm."])
    changed = Decision(approved=True, arguments='{"what":"tin"}')

    said = await run(loop, after(request, paused(await run(loop, request)), decisions={"a": changed}))

    assert shop.did == ["buy 1 tin"]
    assert ToolCallReady("a", "buy", '{"what":"tin"}', "agent") in said


async def test_calls_that_need_no_approval_run_before_the_pause_and_only_once() -> None:
    shop, request = Shop(), request_for()
    loop = loop_of(shop, [call("a", "look", what="bread"), call("b", "buy", what="bread")], ["Done."])

    said = await run(loop, request)
    assert results(said) == [ToolResult("a", "saw bread")]
    assert [pending.call_id for pending in paused(said).pending] == ["b"]

    said = await run(loop, after(request, paused(said), decisions={"b": YES}))
    assert shop.did == ["look bread", "buy 1 bread"]
    assert [result.call_id for result in results(said)] == ["b"]


async def test_decisions_may_come_one_by_one() -> None:
    shop, request = Shop(), request_for()
    loop = loop_of(shop, [call("a", "buy", what="x"), call("b", "buy", what="y")], ["Done."])

    said = await run(loop, request)
    said = await run(loop, after(request, paused(said), decisions={"b": YES}))
    assert (shop.did, [pending.call_id for pending in paused(said).pending]) == (["buy 1 y"], ["a"])

    said = await run(loop, after(request, paused(said), decisions={"a": NO}))
    assert (shop.did, text(said)) == (["buy 1 y"], "Done.")


async def test_always_for_one_call_lets_the_same_one_beside_it_run() -> None:
    shop, request = Shop(), request_for()
    loop = loop_of(shop, [call("a", "buy", what="x")], [call("b", "buy", what="x")], ["Done."])

    said = await run(loop, after(request, paused(await run(loop, request)), decisions={"a": replace(YES, always=True)}))

    assert (shop.did, text(said)) == (["buy 1 x", "buy 1 x"], "Done.")


async def test_another_message_instead_of_a_decision_is_a_denial_and_then_that_message() -> None:
    shop, request = Shop(), request_for("Buy gold")
    model = ScriptedBackend([call("a", "buy", what="gold")], ["Fine."])
    loop = ToolLoop(model, shop.tools, approver=AskLater())
    said = await run(loop, request)

    history = [user("Buy gold"), {"role": "assistant", "content": "May I?"}, user("Never mind.")]
    said = await run(loop, after(request_for(history), paused(said)))

    reason = "Denied by the user: the user has gone on with another message instead."
    assert results(said) == [ToolResult("a", reason, denied=True)]
    assert (shop.did, text(said)) == ([], "Fine.")
    assert [message["role"] for message in model.requests[1].raw_messages] == ["user", "assistant", "tool", "user"]
    assert model.requests[1].raw_messages[-1] == user("Never mind.")
    assert len(model.requests[1].messages) == 4


async def test_a_decision_that_comes_with_another_message_still_counts() -> None:
    shop, request = Shop(), request_for("Buy bread")
    loop = loop_of(shop, [call("a", "buy", what="bread"), call("b", "buy", what="gold")], ["Fine."])
    said = await run(loop, request)

    await run(
        loop, after(request_for([user("Buy bread"), user("Only the bread.")]), paused(said), decisions={"a": YES})
    )

    assert shop.did == ["buy 1 bread"]


async def test_a_step_may_wait_for_the_client_and_for_approval_together() -> None:
    shop, request = Shop(), request_for("Go", tools=[function("pick_file")])
    model = ScriptedBackend([call("c", "pick_file"), call("a", "buy", what="x")], ["Done."])
    loop = ToolLoop(model, shop.tools, approver=AskLater())

    said = await run(loop, request)
    assert {pending.call_id: pending.waits_for for pending in paused(said).pending} == {"c": "result", "a": "approval"}

    half = await run(loop, after(request, paused(said), decisions={"a": YES}))
    assert {pending.call_id: pending.waits_for for pending in paused(half).pending} == {"c": "result"}
    other_half = await run(loop, after(request, paused(said), client={"c": "a.txt"}))
    assert {pending.call_id: pending.waits_for for pending in paused(other_half).pending} == {"a": "approval"}

    both = await run(loop, after(request, paused(other_half), decisions={"a": NO}))
    assert text(both) == "Done."
    assert [message.text for message in model.requests[1].messages if isinstance(message, ToolMessage)] == [
        "a.txt",
        "Denied by the user.",
    ]


async def test_a_call_of_the_clients_that_nobody_answered_has_no_result_when_the_user_goes_on() -> None:
    request = request_for("Go", tools=[function("pick_file")])
    model = ScriptedBackend([call("c", "pick_file"), call("a", "buy", what="x")], ["Done."])
    loop = ToolLoop(model, Shop().tools, approver=AskLater())
    said = await run(loop, request)

    history = request_for([user("Go"), user("Stop.")], tools=[function("pick_file")])
    assert text(await run(loop, after(history, paused(said)))) == "Done."
    assert "There is no result." in [
        message.text for message in model.requests[1].messages if isinstance(message, ToolMessage)
    ]


async def test_roundtrips_and_tokens_go_on_counting_over_a_pause() -> None:
    shop, request = Shop(), request_for()
    step = [call("a", "buy", what="x"), UsageReported(50, 50)]
    loop = loop_of(shop, step, step, roundtrips=1)
    said = await run(loop, after(request, paused(await run(loop, request)), decisions={"a": YES}))
    assert (shop.did, said[-1]) == (["buy 1 x"], Finished("length"))

    thrifty = loop_of(shop, step, step, ["never asked"], budget=150)
    said = await run(thrifty, after(request, paused(await run(thrifty, request)), decisions={"a": YES}))
    assert (said[-1], [result.is_error for result in results(said)]) == (Finished("length"), [False, True])


async def test_a_mode_that_was_tightened_in_the_meantime_counts() -> None:
    shop, request = Shop(), request_for()
    said = await run(loop_of(shop, [call("a", "buy", what="x")]), request)

    said = await run(loop_of(shop, ["Hm."], security="deny"), after(request, paused(said), decisions={"a": YES}))

    assert (shop.did, results(said)[0].denied) == ([], True)


async def test_a_tool_that_is_gone_in_the_meantime_is_unknown() -> None:
    request = request_for()
    said = await run(loop_of(Shop(), [call("a", "buy", what="x")]), request)

    said = await run(ToolLoop(ScriptedBackend(["Hm."]), []), after(request, paused(said), decisions={"a": YES}))

    assert outcome_of("a", said).output == "There is no tool of that name."


async def test_a_model_that_waits_for_approvals_of_its_own_is_none_to_loop_with() -> None:
    nested = Paused((PendingCall("a", "buy", "{}", "approval"),), {})

    with pytest.raises(AgentError, match="an approval of its own"):
        await run(loop_of(Shop(), [nested]))


async def test_a_state_that_is_not_ours_is_refused() -> None:
    for state in ({}, {"users": "x"}, {"users": 1, "messages": [{"role": "nobody"}], "calls": []}):
        request = replace(request_for(), resume=Resume({}, {"a": YES}, state))
        with pytest.raises(AgentError) as caught:
            await run(loop_of(Shop(), ["Hi."]), request)
        assert (caught.value.status, caught.value.code) == (409, "pause_lost")


async def test_a_decision_about_a_call_that_does_not_wait_does_nothing() -> None:
    shop, request = Shop(), request_for()
    loop = loop_of(shop, [call("a", "buy", what="x")], ["Done."])
    said = await run(loop, request)

    again = await run(loop, after(request, paused(said), decisions={"b": YES}))

    assert (shop.did, paused(again).pending) == ([], paused(said).pending)


async def test_the_state_is_json_and_does_not_hold_what_came_before_the_turn() -> None:
    history = [user("secret"), {"role": "assistant", "content": "ok"}, user("Buy bread")]
    said = await run(loop_of(Shop(), ["Let me.", call("a", "buy", what="bread")]), request_for(history))

    written = json.dumps(paused(said).state)
    assert ("secret" in written, "Let me." in written) == (False, True)
