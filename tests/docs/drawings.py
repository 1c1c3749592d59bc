"""Draws the order of the events of a Responses stream from the tables that hold it.

python -m tests.docs.drawings        writes the drawings into their page
"""

from __future__ import annotations

import re

from openai_compat.wire.responses.event_order import ITEMS, RESPONSE, SPEECH, START, Table
from tests.docs.served import ROOT

PAGE = ROOT / "docs" / "explanation" / "responses-events.md"
BEGIN, END = "<!-- drawn from openai_compat/wire/responses/event_order.py -->\n", "<!-- end of the drawings -->"


def drawing(table: Table) -> str:
    """A state diagram in Mermaid's language; states are events, without their `response.`."""
    events = [event.removeprefix("response.") for event in table if event != START]
    named = [f"    {_state(event)}: {event}" for event in events if event != _state(event)]
    arrows = [f"    {_state(before)} --> {_state(after)}" for before in table for after in sorted(table[before])]
    ends = [f"    {_state(event)} --> [*]" for event, following in table.items() if not following]
    return "\n".join(["```mermaid", "stateDiagram-v2", *named, *arrows, *ends, "```"])


def _state(event: str) -> str:
    return "[*]" if event == START else re.sub(r"\W", "_", event.removeprefix("response."))


def drawings() -> str:
    """All of them, with their headings."""
    tables = {"The response": RESPONSE, **{f"`{kind}`": table for kind, table in ITEMS.items()}, "Speech": SPEECH}
    return "".join([f"\n### {heading}\n\n{drawing(table)}\n" for heading, table in tables.items()]) + "\n"


def drawn(page: str) -> str:
    """`page` with the drawings as they are now."""
    before, rest = page.split(BEGIN)
    return before + BEGIN + drawings() + END + rest.split(END)[1]


if __name__ == "__main__":
    PAGE.write_text(drawn(PAGE.read_text("utf-8")), "utf-8")
