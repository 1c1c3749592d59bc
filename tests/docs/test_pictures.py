"""The pictures of the documentation are small, refer to no other file, and show the program's current output."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest

from docs.pictures.screen import Screen
from tests.docs.served import ROOT

IMAGES = ROOT / "docs" / "img"
MOST = 150_000
"""Size limit of a picture, in bytes: a reader waits for the whole page."""


def test_pictures_are_small() -> None:
    assert {path.name: path.stat().st_size for path in IMAGES.iterdir() if path.stat().st_size > MOST} == {}


def test_every_picture_is_shown_somewhere() -> None:
    pages = "".join([path.read_text("utf-8") for path in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md"))])
    assert [path.name for path in IMAGES.iterdir() if f"img/{path.name}" not in pages] == []


def test_no_drawing_refers_to_anything_outside_itself() -> None:
    for path in IMAGES.glob("*.svg"):
        for element in ET.parse(path).iter():
            kind = element.tag.rpartition("}")[2]
            assert kind not in ("script", "style", "image", "foreignObject", "use"), path.name
            assert [name for name in element.attrib if name.rpartition("}")[2] in ("href", "src")] == [], path.name
            assert not re.search(r"://|url\(", " ".join(element.attrib.values())), path.name


@pytest.mark.timeout(180)
def test_the_terminal_is_drawn_as_it_is() -> None:
    pytest.importorskip("rich")
    from docs.pictures.terminal import pictures

    for name, picture in pictures().items():
        assert (IMAGES / name).read_text("utf-8") == picture, "draw them with `python -m docs.pictures terminal`"


def test_a_screen_shows_what_is_left_after_all_movements() -> None:
    screen = Screen(10)
    screen.write("\x1b]0;title\x07\x1b[1mab\x1b[0m\x1b[?25l\r\n12345678901234\rx\x1b[2A\x1b[G*\x1b[K\x1b[B\x1b[3Cy")
    assert screen.text == "*\n1234y67890\nx234"
    screen.write("\r\x1b[J\x1b[38;5;196m<&\x1b[31;48;2;1;2;3m€")
    assert screen.text == "*\n<&€"
    assert 'fill="#ff0000">&lt;&amp;</text>' in screen.svg("t")
    assert 'fill="#010203"/>' in screen.svg("t")
    screen.rewrite("&|€", ["and", "euro"])
    assert screen.text == "*\n<andeuro"
