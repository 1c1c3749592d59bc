"""The access line of a request, for people: its agent, outcome, duration and tokens."""

from __future__ import annotations

import sysconfig
from functools import lru_cache
from pathlib import Path
from types import TracebackType

import openai_compat
from openai_compat.api.access_record import Common, Line, escape_text

from ._terminal_colors import Color, colored

AGENT_WIDTH, REQUEST_WIDTH = 12, 27
"""Column widths that align the lines; a longer value overflows."""

GOOD_OUTCOMES = frozenset({None, "ok", "paused"})
"""Outcomes without a warning color."""

ORDINARY_FINISHES = frozenset({None, "stop", "paused"})
"""Finish reasons that the line omits."""

LIBRARY_FOLDERS = (
    *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
    str(Path(openai_compat.__file__).parent),
    str(Path(__file__).parent),
)
"""Folders without code of the user's agents."""


def request_line(line: Line, *, colors: bool) -> str:
    """Format the line, without its time of day.

    Columns: status, agent, method and path, seconds. Then, if known: time to the first event, time in the queue, tokens in
    and out, tool calls, outcome. Last, dimmed: the caller and the id of the request.
    """
    common, (request_id, who, ms, queue_ms, first_ms, _, _, sent, got, _) = line
    begin, ending = _shared_parts(common, colors)
    last = request_id if who is None or who == "anonymous" else f"{escape_text(who)} {request_id}"
    # Each part has its leading space, so that one string grows and no lists are joined.
    measured = "" if first_ms is None else f" first {first_ms} ms"
    if queue_ms:
        measured += f" queued {queue_ms} ms"
    if sent or got:
        measured += f" {_token_count(sent)}→{_token_count(got)} tok"
    if colors:
        measured, last = colored(measured, "dim"), colored(last, "dim")
    return f"{begin} {'%7.2f' % (ms / 1000)} s{measured}{ending} {last}"


@lru_cache(512)
def _shared_parts(common: Common, colors: bool) -> tuple[str, str]:
    """The parts that many lines share, cached: the columns before the duration, and the outcome."""
    _, method, path, _, status, stream, agent, _, tools, finish, asks, outcome, reason, _, note = common
    number, name = str(status or " - "), (agent or "").ljust(AGENT_WIDTH)
    used, ending = f" {tools} tool{'s' if tools > 1 else ''}" if tools else "", ""
    # Ordinary outcomes are omitted, and the outcome does not repeat a note.
    if stream:
        ending = " stream"
    if asks:
        ending += f" asks: {', '.join([escape_text(each) for each in asks])}"
    if finish not in ORDINARY_FINISHES:
        ending += f" {finish}"
    if outcome not in GOOD_OUTCOMES and not note:
        ending += f" {outcome}"
    if reason:
        ending += f" {reason}"
    if note:
        ending += f" {escape_text(note)}"
    if colors:
        well = _color(status or 0, outcome)
        number, ending = colored(number, *well), colored(ending, *well)
        used, name = colored(used, "dim"), colored(agent or "", "bold") + " " * (AGENT_WIDTH - len(agent or ""))
    return f"{number} {name} {f'{method} {escape_text(path)}'.ljust(REQUEST_WIDTH)}", used + ending


def innermost_user_frame(traceback: TracebackType | None) -> str:
    """Return the innermost frame of the user's code, as `agent.py:31 in look_up`; "" if there is none."""
    found = ""
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if not code.co_filename.startswith(("<frozen", *LIBRARY_FOLDERS)):
            found = f"{Path(code.co_filename).name}:{traceback.tb_lineno} in {code.co_name}"
        traceback = traceback.tb_next
    return found


def _color(status: int, outcome: str | None) -> tuple[Color, ...]:
    if status >= 500 or (status < 400 and outcome == "failed"):
        return ("bold", "red")
    good = status < 400 and outcome in GOOD_OUTCOMES
    return ("bold", "green") if good else ("bold", "yellow")


def _token_count(number: int | None) -> str:
    return "?" if number is None else str(number)
