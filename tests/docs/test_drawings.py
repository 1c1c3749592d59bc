"""The diagrams of the documentation match the tables in the code."""

from __future__ import annotations

import re

import pytest

from docs.pictures.diagrams import SEQUENCES, diagrams, events
from tests.docs.served import ROOT

PAGES = "".join([path.read_text("utf-8") for path in (ROOT / "docs").rglob("*.md")])


def test_the_diagrams_are_those_of_the_code() -> None:
    for name, picture in diagrams().items():
        drawn = (ROOT / "docs/img" / name).read_text("utf-8")
        assert drawn == picture, "draw them with `python -m docs.pictures diagrams`"


def test_each_diagram_is_shown_and_can_stand_in_a_page() -> None:
    for name, picture in diagrams().items():
        assert f'<figure>\n--8<-- "docs/img/{name}"\n</figure>' in PAGES
        assert "\n\n" not in picture.strip(), "Markdown would end the picture there"
        assert re.findall(r"https?://[^\"]+", picture) == ["http://www.w3.org/2000/svg"]


@pytest.mark.parametrize("name", SEQUENCES)
def test_a_diagram_shows_every_step(name: str) -> None:
    table = SEQUENCES[name]
    picture = events(name, table)
    ends = [event for event, following in table.items() if not following]

    assert picture.count('class="edge"') == sum(map(len, table.values())) + len(ends)
    for event in set(table) - {"start"}:
        assert f">{event.removeprefix('response.')}</text>" in picture
