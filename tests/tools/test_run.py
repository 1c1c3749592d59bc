"""One call of a tool: timeout, output, failures. No tool can end a turn, or leak an exception."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Any

import anyio
import pytest

from openai_compat import AgentError
from openai_compat.tools import CallResult, ToolContext, ToolError, as_tool, tool
from openai_compat.tools.call_tool import FAILED, call_tool
from openai_compat.tools.tool_threads import MAX_ABANDONED
from tests.tools.support import new_context, request_for

pytestmark = pytest.mark.anyio

BOUND = 20


async def outcome(function: Callable[..., Any], arguments: str = "{}", **settings: Any) -> CallResult:
    made = as_tool(tool(**settings)(function))
    context = ToolContext("call_1", request_for(), new_context())
    with anyio.fail_after(BOUND):
        return await call_tool(made, made.check(arguments), context)


async def test_an_async_function_is_awaited_and_a_plain_one_runs_off_the_event_loop() -> None:
    threads: list[str] = []

    async def here() -> str:
        threads.append(threading.current_thread().name)
        return "here"

    def there() -> str:
        threads.append(threading.current_thread().name)
        return "there"

    def makes_a_coroutine() -> Any:
        return here()

    assert [(await outcome(each)).text for each in (here, there, makes_a_coroutine)] == ["here", "there", "here"]
    assert threads == ["MainThread", "openai-compat tool", "MainThread"]


async def test_more_plain_calls_run_at_once_than_anyios_shared_pool_has_threads() -> None:
    together = threading.Barrier(50)

    def meet() -> int:
        return together.wait(BOUND)

    outcomes: list[CallResult] = []

    async def one() -> None:
        outcomes.append(await outcome(meet))

    async with anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(one)

    assert sorted([int(each.text) for each in outcomes]) == list(range(50))


@dataclass
class Point:
    x: int
    when: date


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("as it is: ä", "as it is: ä"),
        (None, "null"),
        (3.5, "3.5"),
        (float("nan"), '"NaN"'),
        ([Point(1, date(2026, 11, 21))], '[{"x":1,"when":"2026-11-21"}]'),
        ({"a": {1}}, '{"a":[1]}'),
        (b"bytes", '"bytes"'),
        ("half \ud83d", "half ?"),
    ],
)
async def test_a_result_of_any_json_able_type_becomes_text(value: object, text: str) -> None:
    assert await outcome(lambda: value, name="it") == CallResult(text)


async def test_a_result_that_is_no_json_is_a_failure_that_says_so() -> None:
    loop: list[Any] = []
    loop.append(loop)
    unwritable = CallResult("The tool's result cannot be written as text.", is_error=True)

    assert await outcome(lambda: object(), name="it") == unwritable
    assert await outcome(lambda: b"\xff", name="it") == unwritable
    assert await outcome(lambda: loop, name="it") == unwritable


async def test_output_over_the_limit_is_cut_with_a_note() -> None:
    long = await outcome(lambda: "x" * 1000, name="it", output_limit=10)
    exact = await outcome(lambda: "x" * 10, name="it", output_limit=10)

    assert long.text == "x" * 10 + "\n[Cut off here, after 10 characters.]"
    assert exact.text == "x" * 10


async def test_the_model_reads_what_a_tool_raises_for_it_and_of_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    def declared() -> None:
        raise ToolError("There is no city of that name.")

    def for_clients() -> None:
        raise AgentError("The calendar is closed today.")

    def unexpected() -> None:
        raise RuntimeError("password=hunter2")

    async def at_the_end_of_its_wits() -> None:
        raise SystemExit("password=hunter2")

    caplog.set_level(logging.ERROR, "openai_compat")
    assert await outcome(declared) == CallResult("There is no city of that name.", is_error=True)
    assert await outcome(for_clients) == CallResult("The calendar is closed today.", is_error=True)
    assert await outcome(unexpected) == CallResult(FAILED, is_error=True)
    assert await outcome(at_the_end_of_its_wits) == CallResult(FAILED, is_error=True)
    assert [record.getMessage() for record in caplog.records] == [
        "req_1: the tool 'unexpected' failed",
        "req_1: the tool 'at_the_end_of_its_wits' failed",
    ]
    assert "hunter2" in caplog.text


async def test_a_tool_that_raises_its_own_timeout_error_has_failed_not_run_out_of_time() -> None:
    def slow() -> None:
        raise TimeoutError

    assert await outcome(slow) == CallResult(FAILED, is_error=True)


async def test_an_async_tool_that_takes_too_long_is_cancelled() -> None:
    ended = anyio.Event()

    async def never() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.set()

    late = await outcome(never, timeout=0.05)
    assert late == CallResult("The tool did not end within 0.05 seconds, and was stopped.", is_error=True)
    assert ended.is_set()


async def test_a_plain_tool_that_takes_too_long_is_left_behind_and_not_waited_for() -> None:
    go = threading.Event()

    assert (await outcome(lambda: go.wait(BOUND), name="it", timeout=0.05)).is_error
    go.set()


async def test_a_tool_whose_calls_all_hang_is_not_started_again_until_one_has_ended() -> None:
    go, ended = threading.Event(), threading.Semaphore(0)

    def hang(wait: bool) -> str:
        if wait:
            go.wait(BOUND)
        ended.release()
        return "done"

    made = as_tool(tool(timeout=0.02)(hang))
    patient = as_tool(hang)
    context = ToolContext("call_1", request_for(), new_context())
    for _ in range(MAX_ABANDONED):
        assert "did not end" in (await call_tool(made, made.check('{"wait": true}'), context)).text

    refused = await call_tool(made, made.check('{"wait": false}'), context)
    another = await call_tool(patient, patient.check('{"wait": false}'), context)
    go.set()
    for _ in range(MAX_ABANDONED + 1):
        assert ended.acquire(timeout=BOUND)

    assert refused == CallResult("The tool does not answer: earlier calls still run.", is_error=True)
    assert another == CallResult("done")


async def test_a_tool_can_know_who_asks_and_sees_the_callers_context_variables() -> None:
    def who(context: ToolContext) -> str:
        return f"{context.call_id} {context.request.principal.id} {context.run.request_id} {context.sandbox}"

    assert (await outcome(who)).text == "call_1 anonymous req_1 None"
