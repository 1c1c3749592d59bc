"""The drawings of the order of events are those of the tables."""

from __future__ import annotations

from openai_compat.wire.responses.event_order import ITEMS, START
from tests.docs.drawings import PAGE, drawing, drawn


def test_the_page_shows_the_tables_as_they_are() -> None:
    page = PAGE.read_text("utf-8")
    assert page == drawn(page), "write the page with `python -m tests.docs.drawings`"


def test_a_drawing_shows_every_step() -> None:
    for table in ITEMS.values():
        lines = drawing(table).splitlines()
        ends = [event for event, following in table.items() if not following]
        assert sum("-->" in line for line in lines) == sum(map(len, table.values())) + len(ends)
    message = drawing(ITEMS["message"])
    assert "    [*] --> output_item_added\n" in message
    assert "    output_text_delta --> output_text_delta\n" in message
    assert "    content_part_added_refusal: content_part.added refusal\n" in message
    assert f"    {START}" not in message
