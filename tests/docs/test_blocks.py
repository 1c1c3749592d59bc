"""Every code block of the README and of the documentation runs, and every page is in the navigation."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from sybil import Sybil

from tests.docs.blocks import DATABASE, INCLUDE, Page
from tests.docs.served import EXAMPLES, ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


@pytest.mark.timeout(180)
@pytest.mark.parametrize("path", PAGES, ids=[str(path.relative_to(ROOT)) for path in PAGES])
def test_the_blocks_of_a_page_run(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.chdir(tmp_path)  # keeps files that a page writes out of the repository
    monkeypatch.setenv("OPENAI_API_KEY", "sk-nothing-is-sent")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-nothing-is-sent")
    monkeypatch.setenv("ANTHROPIC_MODEL", "none-is-asked")
    needs_database = DATABASE in path.read_text()
    page = Page(tmp_path, request.getfixturevalue("postgres_url") if needs_database else DATABASE)
    try:
        for example in Sybil([page.parse], pattern="*").parse(path).examples():
            example.evaluate()
    finally:
        page.close()


def test_commands_can_be_copied_as_they_are() -> None:
    for path in PAGES:
        assert not re.findall(r"^ *\$ .*$|^ *```console$", path.read_text(), re.MULTILINE), path


def test_every_page_is_in_the_navigation() -> None:
    listed = set(re.findall(r"[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text()))

    assert listed == {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}


def test_every_example_is_shown_or_linked_somewhere() -> None:
    text = "".join([path.read_text() for path in PAGES])
    included = {match[1] for match in INCLUDE.finditer(text)}

    for example in EXAMPLES.glob("*.py"):
        name = f"examples/{example.name}"
        assert name in included or name in text, name
