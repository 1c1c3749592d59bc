"""The line of a request for people: what was asked of which agent, how it went, how long it took, and what it cost."""

from __future__ import annotations

import sysconfig
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import openai_compat

from ._terminal_colors import Color, colored

AGENT, REQUEST, TIME = 12, 27, 9
"""Columns, so that lines stand below each other. What is longer takes its room."""

GOOD = frozenset({None, "ok", "paused"})
"""Outcomes that no color warns of."""

NOT_ONES_OWN = (
    *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
    str(Path(openai_compat.__file__).parent),
    str(Path(__file__).parent),
)
"""Where the code of people's own agents is not."""


def request_line(fields: Mapping[str, Any], *, colors: bool) -> str:
    """The line without its time of day. `fields` are those of `openai_compat.api.access_log`.

    Columns: status, agent, method and path, seconds. Then what is known: until the agent said something, for how long it
    waited for a place, tokens in and out, tools, how it ended. Last, dim, who asked and the id of the request.
    """
    paint = colored if colors else _plain
    status, seconds = fields["status"], f"{fields['ms'] / 1000:.2f} s"
    agent = fields.get("agent") or ""
    columns = [
        paint(str(status or " - "), *_color(fields)),
        paint(agent, "bold") + " " * (AGENT - len(agent)),
        f"{fields['method']} {fields['path']}".ljust(REQUEST),
        seconds.rjust(TIME),
    ]
    ending = paint(" ".join(_ending(fields)), *_color(fields))
    who = "" if fields["principal"] == "anonymous" else fields["principal"] or ""
    last = paint(" ".join(filter(None, [who, fields["request_id"]])), "dim")
    return " ".join([*columns, *filter(None, [paint(" ".join(_measured(fields)), "dim"), ending]), last])


def own_frame(traceback: TracebackType | None) -> str:
    """`agent.py:31 in look_up`: the innermost frame of people's own code; "" where there is none."""
    found = ""
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if not code.co_filename.startswith(("<frozen", *NOT_ONES_OWN)):
            found = f"{Path(code.co_filename).name}:{traceback.tb_lineno} in {code.co_name}"
        traceback = traceback.tb_next
    return found


def _plain(text: str, *colors: Color) -> str:
    return text


def _color(fields: Mapping[str, Any]) -> tuple[Color, ...]:
    status = fields["status"] or 0
    if status >= 500 or (status < 400 and fields["outcome"] == "failed"):
        return ("bold", "red")
    good = status < 400 and fields["outcome"] in GOOD
    return ("bold", "green") if good else ("bold", "yellow")


def _measured(fields: Mapping[str, Any]) -> list[str]:
    first, queued, tools = fields.get("first_ms"), fields.get("queue_ms"), fields.get("tool_calls")
    tokens = [fields.get("input_tokens"), fields.get("output_tokens")]
    words = [f"first {first} ms"] if first is not None else []
    words += [f"queued {queued} ms"] if queued else []
    words += ["→".join(["?" if number is None else str(number) for number in tokens]) + " tok"] if any(tokens) else []
    words += [f"{tools} tool{'s' if tools > 1 else ''}"] if tools else []
    return words


def _ending(fields: Mapping[str, Any]) -> list[str]:
    asks, finish, outcome, note = fields.get("asks"), fields.get("finish"), fields["outcome"], fields["note"]
    words = ["stream"] if fields.get("stream") else []
    words += [f"asks: {', '.join(asks)}"] if asks else []
    # The ordinary is not worth a word, and what a note says is not said twice.
    words += [finish] if finish not in (None, "stop", "paused") else []
    words += [outcome] if outcome not in GOOD and not note else []
    words += [fields["reason"]] if fields.get("reason") else []
    return words + ([note] if note else [])
