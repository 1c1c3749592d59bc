"""The line of a request for people: what was asked of which agent, how it went, how long it took, and what it cost."""

from __future__ import annotations

import sysconfig
from pathlib import Path
from types import TracebackType

import openai_compat
from openai_compat.api.access_record import AccessLine

from ._terminal_colors import Color, colored

AGENT, REQUEST, TIME = 12, 27, 9
"""Columns, so that lines stand below each other. What is longer takes its room."""

GOOD = frozenset({None, "ok", "paused"})
"""Outcomes that no color warns of."""

ORDINARY = frozenset({None, "stop", "paused"})
"""Ends of an agent that are not told."""

NOT_ONES_OWN = (
    *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
    str(Path(openai_compat.__file__).parent),
    str(Path(__file__).parent),
)
"""Where the code of people's own agents is not."""


def request_line(line: AccessLine, *, colors: bool) -> str:
    """The line without its time of day.

    Columns: status, agent, method and path, seconds. Then what is known: until the agent said something, for how long it
    waited for a place, tokens in and out, tools, how it ended. Last, dim, who asked and the id of the request.
    """
    of_turn = line.event == "turn"
    status, agent = str(line.status or " - "), (line.agent or "") if of_turn else ""
    asked, seconds = f"{line.method} {line.path}".ljust(REQUEST), f"{line.ms / 1000:.2f} s".rjust(TIME)
    measured, ending = _measured(line) if of_turn else "", _ending(line, of_turn=of_turn)
    who = line.principal
    last = line.request_id if who is None or who == "anonymous" else f"{who} {line.request_id}"
    if not colors:
        return f"{status} {agent.ljust(AGENT)} {asked} {seconds}{measured}{ending} {last}"
    well = _color(line)
    agent = colored(agent, "bold") + " " * (AGENT - len(agent))
    measured, ending, last = colored(measured, "dim"), colored(ending, *well), colored(last, "dim")
    return f"{colored(status, *well)} {agent} {asked} {seconds}{measured}{ending} {last}"


def own_frame(traceback: TracebackType | None) -> str:
    """`agent.py:31 in look_up`: the innermost frame of people's own code; "" where there is none."""
    found = ""
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if not code.co_filename.startswith(("<frozen", *NOT_ONES_OWN)):
            found = f"{Path(code.co_filename).name}:{traceback.tb_lineno} in {code.co_name}"
        traceback = traceback.tb_next
    return found


def _color(line: AccessLine) -> tuple[Color, ...]:
    status = line.status or 0
    if status >= 500 or (status < 400 and line.outcome == "failed"):
        return ("bold", "red")
    good = status < 400 and line.outcome in GOOD
    return ("bold", "green") if good else ("bold", "yellow")


# Each word brings the space before it: the whole is one string that grows, instead of lists that are joined.


def _measured(line: AccessLine) -> str:
    words = "" if line.first_ms is None else f" first {line.first_ms} ms"
    if line.queue_ms:
        words += f" queued {line.queue_ms} ms"
    if line.input_tokens or line.output_tokens:
        words += f" {_known(line.input_tokens)}→{_known(line.output_tokens)} tok"
    if line.tool_calls:
        words += f" {line.tool_calls} tool{'s' if line.tool_calls > 1 else ''}"
    return words


def _known(number: int | None) -> str:
    return "?" if number is None else str(number)


def _ending(line: AccessLine, *, of_turn: bool) -> str:
    words = ""
    # The ordinary is not worth a word, and what a note says is not said twice.
    if of_turn:
        if line.stream:
            words = " stream"
        if line.asks:
            words += f" asks: {', '.join(line.asks)}"
        if line.finish not in ORDINARY:
            words += f" {line.finish}"
    if line.outcome not in GOOD and not line.note:
        words += f" {line.outcome}"
    if line.reason:
        words += f" {line.reason}"
    return f"{words} {line.note}" if line.note else words
