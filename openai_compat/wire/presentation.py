"""Presents a turn to chat clients: chat has a single message and no place for the agent's own tools.

Runs before both the stream serializer and the reducer, so both show the same. The agent's own tool calls are never shown
as `tool_calls`: clients would run them, and several would then call the server in an endless loop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal, TypeAlias, assert_never

from ..events import (
    Citation,
    Compacted,
    Finished,
    MediaDelta,
    MessageBreak,
    Notice,
    Paused,
    PendingCall,
    Progress,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
    ToolCallReady,
    ToolCallStarted,
    ToolResult,
    UsageReported,
)
from .chat.call_order import CallOrder
from .reducer import BETWEEN_MESSAGES, Item, Texts

Visibility: TypeAlias = Literal["status", "hidden", "reasoning", "text"]
"""Where users see the agent's activity: in a status line (drawn by Open WebUI), nowhere, or in the answer."""

TOOL_KIND = "tool"
"""The `kind` of Progress events about the agent's own tools; their id is the call's id."""

ACTIVITY_MARK = "\N{GEAR}"
ACTIVITY, ACTIVITY_END = f"[{ACTIVITY_MARK} ", "]\n"
"""Start and end of an activity line in the text, as written by visibility "text"."""


class Presentation:
    """Rewrites one turn's items for chat. Stateful: feed it every item of the turn, in order.

    `ask` returns the items that ask users about calls waiting for approval. With `call_order`, the client's calls are
    shown one after another. `length` is the length in characters of the text shown earlier.
    """

    _break_due = False

    def __init__(
        self,
        visibility: Visibility = "status",
        *,
        refusal_as_text: bool = False,
        ask: Callable[[Paused], Sequence[Item]] | None = None,
        call_order: CallOrder | None = None,
        length: int = 0,
    ) -> None:
        self._has_text, self._length = length > 0, length
        self._visibility: Visibility = visibility
        self._ask = ask
        self._call_order = call_order
        self._refusal_as_text = refusal_as_text
        self._tool_names: dict[str, str] = {}
        self._put_in: list[tuple[int, int]] = []

    def show(self, items: list[Item]) -> list[Item]:
        """Return the items to show in place of `items`."""
        if type(items) is Texts and not self._break_due:  # nearly always
            self._has_text = True
            self._length += sum(map(len, items))
            return items
        return [shown for item in items for shown in self._show_item(item)]

    def _show_item(self, item: Item) -> Sequence[Item]:
        match item:
            case Finished():
                return (item,)
            case str() | TextDelta():
                return self._show_text(item)
            # The blank line is added only before more text; at the end of the answer it would be left over.
            case MessageBreak():
                self._break_due = self._has_text
                return ()
            case ToolCallStarted() | ToolCallDelta() | ToolCallReady() | ToolResult():
                return self._show_tool_event(item)
            case Progress():
                return self._show_activity(item)
            case RefusalDelta():
                return self._show_text(item.text) if self._refusal_as_text else (item,)
            case Citation():
                # Citation indexes must refer to the shown text, which is longer than the agent's text.
                before = sum([length for at, length in self._put_in if at <= item.start_index])
                until = sum([length for at, length in self._put_in if at < item.end_index])
                start, end = item.start_index + before, item.end_index + until
                return (replace(item, start_index=start, end_index=end) if until else item,)
            case ReasoningDelta() | MediaDelta() | Notice() | Compacted() | UsageReported():
                return (item,)
            case Paused():
                return (*self._approval_questions(item), item)
            case _:
                assert_never(item)

    def _approval_questions(self, paused: Paused) -> Sequence[Item]:
        # A call that only waits for the client's result needs no approval.
        if self._ask is None or all([call.waits_for == "result" for call in paused.pending]):
            return ()
        self._break_due = self._has_text
        return [shown for item in self._ask(paused) for shown in self._show_item(item)]

    def _show_text(self, item: str | TextDelta, *, own: bool = True) -> Sequence[Item]:
        """Show text of the agent (`own`) or inserted text, after a blank line if one is due."""
        # Citation indexes refer to the agent's own text; inserted text shifts them.
        due, self._break_due, self._has_text = self._break_due, False, True
        if due:
            self._put_in.append((self._length, len(BETWEEN_MESSAGES)))
        length = len(item if isinstance(item, str) else item.text)
        if own:
            self._length += length
        else:
            self._put_in.append((self._length, length))
        return (BETWEEN_MESSAGES, item) if due else (item,)

    def _show_tool_event(self, item: ToolCallStarted | ToolCallDelta | ToolCallReady | ToolResult) -> Sequence[Item]:
        if isinstance(item, ToolCallStarted) and item.executor == "agent":
            self._tool_names[item.call_id] = item.name
            return ()
        if isinstance(item, ToolResult):
            name = self._tool_names.get(item.call_id, "tool")
            return self._show_activity(Progress(TOOL_KIND, item.call_id, tool_ended_line(item, name), done=True))
        if item.call_id not in self._tool_names:  # the client's own tools
            return (item,) if self._call_order is None else self._call_order.show(item)
        if isinstance(item, ToolCallReady):
            return self._show_activity(Progress(TOOL_KIND, item.call_id, tool_running_line(item.name)))
        return ()

    def _show_activity(self, progress: Progress) -> Sequence[Item]:
        match self._visibility:
            case "status":
                return (progress,)
            case "hidden":
                return ()
            case "reasoning":
                return (ReasoningDelta(progress.status + "\n"),)
            case "text":
                return self._show_text(f"{ACTIVITY}{progress.status}{ACTIVITY_END}", own=False)
            case _:
                assert_never(self._visibility)


def remove_activity(text: str) -> str:
    """Remove activity lines from the text of replayed history. Linear: each character is scanned a few times at most."""
    kept: list[str] = []
    end = 0
    newline = -1
    start = text.find(ACTIVITY)
    while start >= 0:
        if newline < start:
            newline = text.find("\n", start)
            if newline < 0:
                break
        close = text.find("]", start, newline)
        following = (newline if close < 0 else close) + 1
        if close == newline - 1:
            kept.append(text[end:start])
            end = following = newline + 1
        start = text.find(ACTIVITY, following)
    return "".join([*kept, text[end:]])


def tool_running_line(name: str) -> str:
    """Return the status line for a running tool."""
    return f"Running {name} …"


def tool_ended_line(result: ToolResult, name: str) -> str:
    """Return the status line for a finished tool."""
    outcome = "was denied" if result.denied else "failed" if result.is_error else "done"
    return f"{name} {outcome}"


QUESTION_PREFIX = "May I run "
"""Prefix of every approval question in text."""


def approval_question(call: PendingCall) -> str:
    """Return an approval question as text, for clients with no other way to ask users."""
    return f"{QUESTION_PREFIX}{call.name} with {call.arguments}? Answer yes, no or always."
