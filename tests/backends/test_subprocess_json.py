"""Commands that write JSON: events of Claude Code's and Codex's records, and the limits of lines."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from openai_compat import (
    AgentError,
    AgentEvent,
    Finished,
    MessageBreak,
    Notice,
    Progress,
    ReasoningDelta,
    ToolCallReady,
    ToolCallStarted,
    ToolResult,
    UsageReported,
)
from openai_compat.backends.subprocess import Grace, SubprocessBackend
from tests.backends.support import alive, command, pids, run

pytestmark = pytest.mark.anyio


def printing(folder: Path, *lines: Any, then: str = "") -> list[str]:
    """A command that prints these lines; values other than strings are written as JSON."""
    text = "".join([line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines])
    (folder / "lines").write_bytes(text.encode("utf-8", "surrogateescape"))
    code = "sys.stdout.buffer.write(open(sys.argv[1], 'rb').read()); sys.stdout.flush()\n" + then
    return command(folder, code, str(folder / "lines"), str(folder / "pid"))


# Claude Code

INIT = {"type": "system", "subtype": "init", "session_id": "s", "tools": ["Bash"], "model": "claude-sonnet-5"}
SONNET = "claude-sonnet-5"


def assistant(identity: str, *blocks: dict[str, Any], model: str = SONNET, parent: str | None = None) -> dict[str, Any]:
    message = {"id": identity, "type": "message", "role": "assistant", "model": model, "content": list(blocks)}
    return {"type": "assistant", "message": message, "parent_tool_use_id": parent, "session_id": "s"}


def tool_result(call_id: str, content: Any, **fields: Any) -> dict[str, Any]:
    block = {"type": "tool_result", "tool_use_id": call_id, "content": content, **fields}
    return {"type": "user", "message": {"role": "user", "content": [block]}, "parent_tool_use_id": None}


def partial(event: dict[str, Any], parent: str | None = None) -> dict[str, Any]:
    return {"type": "stream_event", "event": event, "parent_tool_use_id": parent, "session_id": "s"}


def partial_delta(**delta: Any) -> dict[str, Any]:
    return partial({"type": "content_block_delta", "index": 0, "delta": delta})


def result(text: str = "", **fields: Any) -> dict[str, Any]:
    return {"type": "result", "subtype": "success", "is_error": False, "result": text, **fields}


def text_block(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


BASH = {"type": "tool_use", "id": "toolu_1", "name": "Bash", "input": {"command": "uptime"}}
USAGE = {
    "input_tokens": 10,
    "cache_creation_input_tokens": 200,
    "cache_read_input_tokens": 3000,
    "output_tokens": 42,
    "output_tokens_details": {"thinking_tokens": 30},
}
WHOLE = [
    INIT,
    assistant("msg_1", {"type": "thinking", "thinking": "Let me see.", "signature": "x"}),
    assistant("msg_1", text_block("Looking …")),
    assistant("msg_1", BASH),
    tool_result("toolu_1", "up 3 days"),
    assistant("msg_2", text_block("It is up.")),
    result("It is up.", usage=USAGE, stop_reason="end_turn"),
]
PARTIAL = [
    INIT,
    partial({"type": "message_start", "message": {"id": "msg_1", "content": []}}),
    partial({"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}}),
    partial_delta(type="thinking_delta", thinking="Let me see."),
    partial_delta(type="signature_delta", signature="x"),
    WHOLE[1],
    partial({"type": "content_block_stop", "index": 0}),
    partial({"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}}),
    partial_delta(type="text_delta", text="Look"),
    partial_delta(type="text_delta", text="ing …"),
    WHOLE[2],
    partial({"type": "content_block_start", "index": 2, "content_block": {**BASH, "input": {}}}),
    partial_delta(type="input_json_delta", partial_json='{"command": "uptime"}'),
    WHOLE[3],
    partial({"type": "message_stop"}),
    WHOLE[4],
    partial({"type": "message_start", "message": {"id": "msg_2", "content": []}}),
    partial_delta(type="text_delta", text="It is up."),
    WHOLE[5],
    WHOLE[6],
]
READY = ToolCallReady("toolu_1", "Bash", '{"command":"uptime"}', "agent")
AFTER = [
    ToolResult("toolu_1", "up 3 days"),
    MessageBreak(),
    "It is up.",
    UsageReported(3210, 42, cached_tokens=3000, reasoning_tokens=30),
    Finished(),
]


async def test_claude_codes_messages_tools_and_usage_become_events(tmp_path: Path) -> None:
    said = await run(SubprocessBackend(printing(tmp_path, *WHOLE), output="claude"))
    assert said == [ReasoningDelta("Let me see."), "Looking …", READY, *AFTER]


async def test_partial_messages_say_the_same_and_nothing_twice(tmp_path: Path) -> None:
    said = await run(SubprocessBackend(printing(tmp_path, *PARTIAL), output="claude"))
    started = ToolCallStarted("toolu_1", "Bash", "agent")
    assert said == [ReasoningDelta("Let me see."), "Looking …", started, READY, *AFTER]


async def test_a_failed_tool_and_one_that_answers_in_blocks(tmp_path: Path) -> None:
    blocks = [text_block("a"), {"type": "image", "source": {}}, text_block("b")]
    lines = [
        assistant("msg_1", BASH),
        tool_result("toolu_1", blocks, is_error=True),
        result("done"),
    ]
    said = await run(SubprocessBackend(printing(tmp_path, *lines), output="claude"))
    assert said == [READY, ToolResult("toolu_1", "a\n[image]\nb", is_error=True), "done", Finished()]


async def test_what_sub_agents_say_is_not_the_answer_but_what_they_do_is_shown(tmp_path: Path) -> None:
    lines = [
        assistant("msg_2", text_block("I am a sub-agent."), BASH, parent="toolu_0"),
        partial({"type": "message_start", "message": {"id": "msg_3"}}, parent="toolu_0"),
        partial(partial_delta(type="text_delta", text="me too")["event"], parent="toolu_0"),
        assistant("msg_4", text_block("The answer.")),
        result("The answer."),
    ]
    said = await run(SubprocessBackend(printing(tmp_path, *lines), output="claude"))
    assert said == [READY, "The answer.", Finished()]


async def test_an_answer_that_is_only_in_the_result_is_said(tmp_path: Path) -> None:
    lines = [INIT, assistant("1", text_block("No response requested."), model="<synthetic>"), result("Total cost: $0")]
    said = await run(SubprocessBackend(printing(tmp_path, *lines), output="claude"))
    assert said == ["Total cost: $0", Finished()]


@pytest.mark.parametrize(
    ("ending", "reason"),
    [
        (result(stop_reason="max_tokens"), "length"),
        (result(stop_reason="refusal"), "content_filter"),
    ],
)
async def test_why_claude_code_stopped_is_the_finish_reason(tmp_path: Path, ending: Any, reason: Any) -> None:
    lines = [assistant("msg_1", text_block("So far.")), ending]
    said = await run(SubprocessBackend(printing(tmp_path, *lines), output="claude"))
    assert said == ["So far.", Finished(reason)]


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"api_error_status": 429}, 429, "rate_limit_exceeded"),
        ({"api_error_status": 401}, 502, "upstream_auth"),
        ({"api_error_status": 529}, 503, "upstream_unavailable"),
        ({"api_error_status": 400, "result": "Prompt is too long"}, 400, "context_length_exceeded"),
        ({"subtype": "error_max_turns", "errors": ["Reached maximum number of turns (1)"]}, 502, "agent_max_turns"),
        ({"api_error_status": None, "stop_reason": "refusal"}, 400, "content_filter"),
        ({"subtype": "error_during_execution", "errors": ["no"], "is_error": False}, 502, "agent_command_failed"),
    ],
)
async def test_a_result_that_is_an_error_fails_the_turn_even_if_the_command_exits_with_0(
    tmp_path: Path, fields: Any, status: int, code: str
) -> None:
    lines = [result(**{"result": "API Error: secret details", "is_error": True, **fields})]
    with pytest.raises(AgentError) as raised:
        await run(SubprocessBackend(printing(tmp_path, *lines), output="claude"))
    assert (raised.value.status, raised.value.code) == (status, code)
    assert "secret" not in raised.value.message


@pytest.mark.parametrize("output", ["claude", "codex"])
async def test_output_that_breaks_off_fails_the_turn_even_if_the_command_exits_with_0(
    tmp_path: Path, output: Any
) -> None:
    lines = [assistant("msg_1", text_block("Half an")), {"type": "turn.started"}]
    with pytest.raises(AgentError) as raised:
        await run(SubprocessBackend(printing(tmp_path, *lines), output=output))
    assert raised.value.status == 502


async def test_a_command_that_has_said_its_result_and_does_not_exit_does_not_hang_the_turn(tmp_path: Path) -> None:
    argv = printing(tmp_path, result("done"), then="open(sys.argv[2], 'w').write(str(os.getpid())); time.sleep(60)")
    backend = SubprocessBackend(argv, output="claude", grace=Grace(end=0.3))
    assert await run(backend) == ["done", Finished()]
    assert [alive(pid) for pid in pids(tmp_path / "pid")] == [False]


async def test_a_result_does_not_make_up_for_a_bad_exit(tmp_path: Path) -> None:
    with pytest.raises(AgentError):
        await run(SubprocessBackend(printing(tmp_path, result("done"), then="sys.exit(1)"), output="claude"))


# Codex


def completed(**item: Any) -> dict[str, Any]:
    return {"type": "item.completed", "item": item}


SHELL: dict[str, Any] = {"id": "item_1", "type": "command_execution", "command": "ls", "aggregated_output": ""}
MCP: dict[str, Any] = {"id": "item_4", "type": "mcp_tool_call", "server": "docs", "tool": "search"}
CODEX = [
    {"type": "thread.started", "thread_id": "t"},
    completed(id="item_9", type="error", message="Model metadata not found."),
    {"type": "turn.started"},
    completed(id="item_0", type="reasoning", text="**Looking**"),
    {"type": "item.started", "item": {**SHELL, "status": "in_progress"}},
    completed(**{**SHELL, "aggregated_output": "a.txt\n", "exit_code": 0, "status": "completed"}),
    completed(id="item_2", type="agent_message", text="There is one file."),
    {
        "type": "item.started",
        "item": {"id": "item_3", "type": "todo_list", "items": [{"text": "Read", "completed": False}]},
    },
    {"type": "item.started", "item": {**MCP, "arguments": {"q": 1}, "status": "in_progress"}},
    completed(**{**MCP, "arguments": {"q": 1}, "status": "failed", "error": {"message": "no such page"}}),
    completed(id="item_5", type="file_change", changes=[{"path": "b", "kind": "add"}], status="completed"),
    {"type": "error", "message": "Reconnecting... 1/5"},
    completed(id="item_6", type="error", message="a warning"),
    completed(id="item_7", type="item_from_the_future", text="?"),
    completed(id="item_3", type="todo_list", items=[{"text": "Read", "completed": True}]),
    completed(id="item_8", type="agent_message", text="Done."),
    {"type": "turn.completed", "usage": {"input_tokens": 100, "cached_input_tokens": 80, "output_tokens": 9}},
]


async def test_codexs_items_and_usage_become_events(tmp_path: Path) -> None:
    said = await run(SubprocessBackend(printing(tmp_path, *CODEX), output="codex"))
    assert said == [
        ReasoningDelta("**Looking**\n"),
        ToolCallReady("item_1", "shell", '{"command":"ls"}', "agent"),
        ToolResult("item_1", "a.txt\n"),
        "There is one file.",
        Progress("plan", "item_3", "Read", data={"items": [{"text": "Read", "completed": False}]}),
        ToolCallReady("item_4", "docs.search", '{"q":1}', "agent"),
        ToolResult("item_4", "no such page", is_error=True),
        ToolCallReady("item_5", "apply_patch", '{"changes":[{"path":"b","kind":"add"}]}', "agent"),
        ToolResult("item_5", ""),
        Notice("a warning", "warning"),
        Progress("plan", "item_3", "Plan completed", done=True, data={"items": [{"text": "Read", "completed": True}]}),
        MessageBreak(),
        "Done.",
        UsageReported(100, 9, cached_tokens=80),
        Finished(),
    ]


async def test_a_command_that_codex_was_not_allowed_to_run_is_denied(tmp_path: Path) -> None:
    lines = [completed(**{**SHELL, "status": "declined"}), {"type": "turn.completed"}]
    said = await run(SubprocessBackend(printing(tmp_path, *lines), output="codex"))
    assert said[1] == ToolResult("item_1", "", is_error=True, denied=True)


async def test_a_failed_turn_of_codex_fails_ours(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines = [{"type": "turn.started"}, {"type": "turn.failed", "error": {"message": "usage limit reached"}}]
    with pytest.raises(AgentError) as raised:
        await run(SubprocessBackend(printing(tmp_path, *lines), output="codex"))
    assert (raised.value.status, raised.value.code) == (502, "agent_command_failed")
    assert "limit" not in raised.value.message
    assert "usage limit reached" in str(raised.value.__cause__)


# lines


async def test_a_line_over_the_limit_fails_the_turn_and_ends_the_command(tmp_path: Path) -> None:
    then = "open(sys.argv[2], 'w').write(str(os.getpid()))\nwhile True: os.write(1, b'x' * 65536)"
    with pytest.raises(AgentError) as raised:
        await run(SubprocessBackend(printing(tmp_path, INIT, '{"type": "', then=then), output="claude"))
    assert (raised.value.status, raised.value.code) == (502, "agent_output_invalid")
    assert [alive(pid) for pid in pids(tmp_path / "pid")] == [False]


async def test_the_limit_is_a_mebibyte_unless_it_is_set(tmp_path: Path) -> None:
    def line_of(size: int) -> str:
        empty = len(json.dumps(result("")))
        return json.dumps(result("x" * (size - empty))) + "\n"

    at_the_limit = SubprocessBackend(printing(tmp_path, line_of(1024 * 1024)), output="claude")
    assert len((await run(at_the_limit))[0]) > 1_000_000
    with pytest.raises(AgentError):
        await run(SubprocessBackend(printing(tmp_path, line_of(1024 * 1024 + 1)), output="claude"))
    raised_limit = SubprocessBackend(printing(tmp_path, line_of(2_000_000)), output="claude", line_limit=2_000_000)
    assert (await run(raised_limit))[-1] == Finished()


async def test_lines_that_are_no_objects_are_logged_and_odd_objects_ignored(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    odd = [
        "\n",
        "npm warn deprecated\n",
        "[1, 2]\n",
        '{"type": "assistant"\n',
        "\udcff\udcfe\n",
        "{" * 100_000 + "\n",
        {"type": ["assistant"]},
        {"type": "assistant", "message": None},
        {"type": "assistant", "message": {"content": [None, 1, {"type": "text", "text": None}]}},
        {"type": "stream_event", "event": 1},
        {"type": "user", "message": {"content": "an echoed prompt"}},
        {"type": "system", "subtype": "of the future"},
    ]
    with caplog.at_level(logging.INFO, "openai_compat"):
        said = await run(SubprocessBackend(printing(tmp_path, *odd, result("fine")), output="claude"))
    assert said == ["fine", Finished()]
    assert "req_1: stderr: stdout: npm warn deprecated" in caplog.messages


async def test_the_last_line_needs_no_end(tmp_path: Path) -> None:
    said = await run(SubprocessBackend(printing(tmp_path, json.dumps(result("fine"))), output="claude"))
    assert said == ["fine", Finished()]


class Counting:
    """A custom format."""

    def __init__(self) -> None:
        self.complete = False

    def read(self, record: dict[str, Any]) -> Iterator[AgentEvent | str]:
        yield str(record["n"])

    def end(self) -> Iterator[AgentEvent | str]:
        yield Finished("length")


async def test_a_program_with_a_format_of_its_own_has_a_reader_of_its_own(tmp_path: Path) -> None:
    said = await run(SubprocessBackend(printing(tmp_path, {"n": 1}, {"n": 2}), output=Counting))
    assert said == ["12", Finished("length")]
