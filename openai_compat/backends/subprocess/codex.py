"""Reads the output of `codex exec --json`: threads, turns and items as they start, change and end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...errors import AgentError
from ...events import (
    AgentEvent,
    Finished,
    MessageBreak,
    Notice,
    Progress,
    ReasoningDelta,
    ToolCallReady,
    ToolResult,
    UsageReported,
)
from .json_fields import count, json_text, mapping, objects, text


class CodexRecords:
    """Translates Codex's records to events. `complete` is True once the turn is completed."""

    def __init__(self) -> None:
        self.complete = False
        self._has_begun = False
        self._has_text = False
        self._sent_calls: set[str] = set()
        self._last_error = ""

    def read(self, record: dict[str, Any]) -> Iterator[AgentEvent | str]:
        """The events for one record. Raises AgentError for a failed turn."""
        item = mapping(record.get("item"))
        match record.get("type"):
            case "turn.started":
                self._has_begun = True
            case "item.started" | "item.updated":
                yield from self._translate_update(item)
            case "item.completed":
                yield from self._translate_completed(item)
            case "turn.completed":
                yield from _usage(mapping(record.get("usage")))
                self.complete = True
            case "turn.failed":
                raise _failure(text(mapping(record.get("error")).get("message")))
            case "error":  # may be a failed attempt to reconnect; a fatal error ends in turn.failed
                self._last_error = text(record.get("message"))
            case _:
                pass

    def end(self) -> Iterator[AgentEvent | str]:
        """The final event. Raises AgentError if the turn was not completed."""
        if not self.complete:
            raise _failure(self._last_error or "no turn.completed")
        yield Finished()

    def _translate_update(self, item: dict[str, Any]) -> Iterator[AgentEvent]:
        if item.get("type") == "todo_list":
            yield _plan_progress(item, done=False)
        else:
            yield from self._translate_call(item)

    def _translate_completed(self, item: dict[str, Any]) -> Iterator[AgentEvent | str]:
        match item.get("type"):
            case "agent_message":
                if self._has_text:
                    yield MessageBreak()
                self._has_text = True
                yield text(item.get("text"))
            case "reasoning":
                yield ReasoningDelta(text(item.get("text")) + "\n")
            case "todo_list":
                yield _plan_progress(item, done=True)
            case "error" if self._has_begun:  # earlier ones concern the configuration, hence only the operator
                yield Notice(text(item.get("message")), "warning")
            case _:
                yield from self._translate_call(item)
                if text(item.get("id")) in self._sent_calls:
                    yield _to_tool_result(item)

    def _translate_call(self, item: dict[str, Any]) -> Iterator[AgentEvent]:
        call = _tool_call(item)
        identity = text(item.get("id"))
        # Some items come only when completed: their call is sent then.
        if call is not None and identity and identity not in self._sent_calls:
            self._sent_calls.add(identity)
            name, arguments = call
            yield ToolCallReady(identity, name, json_text(arguments), "agent")


def _tool_call(item: dict[str, Any]) -> tuple[str, object] | None:
    """The tool name and the arguments of an item; None if the item is no tool call."""
    match item.get("type"):
        case "command_execution":
            return "shell", {"command": item.get("command")}
        case "file_change":
            return "apply_patch", {"changes": item.get("changes")}
        case "web_search":
            return "web_search", {"query": item.get("query")}
        case "mcp_tool_call":
            return f"{text(item.get('server'))}.{text(item.get('tool'))}", item.get("arguments")
        case "collab_tool_call":
            return text(item.get("tool")), {"prompt": item.get("prompt")}
        case _:
            return None


def _to_tool_result(item: dict[str, Any]) -> ToolResult:
    status, exit_code = item.get("status"), item.get("exit_code")
    error = mapping(item.get("error"))
    output = text(item.get("aggregated_output")) or text(error.get("message"))
    for block in objects(mapping(item.get("result")).get("content")):
        output += text(block.get("text"))
    failed = status in ("failed", "declined") or bool(exit_code) or bool(error)
    return ToolResult(text(item.get("id")), output, is_error=failed, denied=status == "declined")


def _plan_progress(item: dict[str, Any], *, done: bool) -> Progress:
    steps = objects(item.get("items"))
    ahead = [text(step.get("text")) for step in steps if step.get("completed") is not True]
    status = ahead[0] if ahead else "Plan completed"
    return Progress("plan", text(item.get("id")), status, done=done, data={"items": steps})


def _usage(usage: dict[str, Any]) -> Iterator[AgentEvent]:
    if usage:
        reasoning = usage.get("reasoning_output_tokens")
        yield UsageReported(
            count(usage.get("input_tokens")),
            count(usage.get("output_tokens")),
            cached_tokens=count(usage.get("cached_input_tokens")),
            reasoning_tokens=None if reasoning is None else count(reasoning),
        )


def _failure(reason: str) -> AgentError:
    error = AgentError("The agent failed.", status=502, code="agent_command_failed")
    error.__cause__ = RuntimeError(f"Codex: {reason}"[:2000])  # for the log only
    return error
