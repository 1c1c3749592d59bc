"""Secrets in a command's output are removed before anything is sent or logged."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest

from openai_compat import (
    AgentError,
    AgentEvent,
    Citation,
    Finished,
    Notice,
    Progress,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
    ToolCallReady,
    ToolCallStarted,
    ToolResult,
)
from openai_compat.backends.subprocess import SubprocessBackend
from openai_compat.backends.subprocess.redaction import Redaction
from tests.backends.support import command, run


def redact(text: str) -> str:
    return re.sub(r"sk-\w+", "[key]", text)


def seen(*items: AgentEvent | str) -> list[AgentEvent]:
    return list(Redaction(redact).apply([*items, Finished()]))


def test_a_secret_is_found_however_it_is_cut_into_pieces() -> None:
    assert seen("the key: s", "k-12", "34", " and\nmore") == [
        TextDelta("the key: [key] and\n"),
        TextDelta("more"),
        Finished(),
    ]


def test_reasoning_and_refusals_are_text_too_and_stay_apart() -> None:
    assert seen(ReasoningDelta("sk-"), ReasoningDelta("1"), "x", RefusalDelta("no sk-2")) == [
        ReasoningDelta("[key]"),
        TextDelta("x"),
        RefusalDelta("no [key]"),
        Finished(),
    ]


def test_text_comes_before_the_event_that_follows_it() -> None:
    assert seen("I call", ToolCallStarted("1", "t")) == [TextDelta("I call"), ToolCallStarted("1", "t"), Finished()]


def test_whatever_else_can_hold_a_secret_is_looked_through() -> None:
    assert seen(
        ToolCallDelta("1", "sk-"),
        ToolCallDelta("1", "1"),
        ToolCallReady("1", "t", '"sk-1"'),
        ToolResult("1", "it is sk-1"),
        Progress("step", "1", "using sk-1", data={"key": "sk-1"}),
        Notice("sk-1 expires"),
        Citation("https://x/?key=sk-1", "sk-1", 0, 1),
    ) == [
        ToolCallReady("1", "t", '"[key]"'),
        ToolResult("1", "it is [key]"),
        Progress("step", "1", "using [key]"),
        Notice("[key] expires"),
        Citation("https://x/?key=[key]", "[key]", 0, 1),
        Finished(),
    ]


def test_a_line_without_an_end_is_not_held_back_for_ever() -> None:
    redaction = Redaction(redact)
    assert list(redaction.apply(["x" * 70_000])) == [TextDelta("x" * 70_000)]


@pytest.mark.anyio
async def test_neither_the_answer_nor_the_log_shows_what_was_taken_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    code = "print('s', end='', flush=True); time.sleep(0.05); print('k-1'); print('using sk-2', file=sys.stderr)"
    with caplog.at_level(logging.DEBUG, "openai_compat"):
        assert await run(SubprocessBackend(command(tmp_path, code), redact=redact)) == [TextDelta("[key]"), Finished()]
    assert caplog.messages == ["req_1: stderr: using [key]"]


@pytest.mark.anyio
async def test_nor_does_the_cause_of_an_error(tmp_path: Path) -> None:
    line = '{"type": "turn.failed", "error": {"message": "bad key sk-3"}}'
    with pytest.raises(AgentError) as raised:
        await run(SubprocessBackend(command(tmp_path, f"print({line!r})"), output="codex", redact=redact))
    assert str(raised.value.__cause__) == "Codex: bad key [key]"
