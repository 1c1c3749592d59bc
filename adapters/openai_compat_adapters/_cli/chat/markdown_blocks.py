"""Splits streamed Markdown into complete blocks, which can be printed for good."""

from __future__ import annotations

import re
from itertools import chain

FENCE = re.compile(r" *(`{3,}|~{3,})")
ITEM = re.compile(r"( {0,3})([-*+]|\d{1,9}[.)])( +|$)")
HEADING = re.compile(r" {0,3}#{1,6}( |$)")
INTERRUPTS = re.compile(r" {0,3}([-*+]|1[.)]) +\S")
"""A list item that ends a paragraph without a blank line; any other may be a line of text that begins with a number."""


class BlockSplitter:
    """Cuts growing text at the ends of Markdown blocks, inspecting each line once.

    A block is a paragraph, a table, a heading, a quote, a fenced block of code, or a list item with everything below it.
    """

    def __init__(self) -> None:
        self._lines: list[str] = []  # of the open block
        self._rest: list[str] = []  # of the unfinished line
        self._fence = ""
        self._item: int | None = None  # column at which the text of the open list item begins
        self._blank = False

    def tail(self, characters: int) -> str:
        """Return the last `characters` characters of the open block."""
        taken, length = [""], 0
        for part in chain(reversed(self._rest), reversed(self._lines)):
            if length >= characters:
                break
            taken.append(part)
            length += len(part)
        return "".join(reversed(taken))[-characters:]

    def add(self, text: str) -> list[str]:
        """Add text, and return the blocks that it completes."""
        if "\n" not in text:
            self._rest.append(text)
            return []
        finished: list[str] = []
        *lines, rest = ("".join(self._rest) + text).split("\n")
        self._rest = [rest]
        for line in lines:
            finished += self._add_line(line)
        return finished

    def end(self) -> list[str]:
        """End the text, and return the rest as a block."""
        self._lines += self._rest
        left = self._flush()
        self._rest, self._fence, self._item, self._blank = [], "", None, False
        return left

    def _flush(self) -> list[str]:
        block, self._lines = "".join(self._lines), []
        return [block] if block.strip() else []

    def _add_line(self, line: str) -> list[str]:
        finished: list[str] = []
        if self._fence:
            self._lines.append(f"{line}\n")
            if line.strip().startswith(self._fence) and not line.strip().strip(self._fence[0]):
                self._fence = ""
                return [] if self._item is not None else self._flush()
            return []
        if not line.strip():
            if self._item is None:
                return self._flush()
            self._lines.append(f"{line}\n")
            self._blank = True
            return []
        indent = len(line) - len(line.lstrip(" "))
        if self._item is not None and self._blank and indent < self._item:
            finished, self._item = self._flush(), None  # the list may continue with another item
        self._blank = False
        item, fence = ITEM.match(line), FENCE.match(line)
        if (
            item
            and (indent < (self._item or 4))
            and (not self._lines or self._item is not None or INTERRUPTS.match(line))
        ):
            finished += self._flush()
            self._item = item.end() if item[3] else item.end() + 1
        elif self._item is None and (HEADING.match(line) or (fence and indent < 4)):
            finished += self._flush()
        self._lines.append(f"{line}\n")
        opens = FENCE.match(line, item.end() if item else 0)
        is_inline = opens and opens[1][0] == "`" and "`" in line[opens.end() :]
        if opens and not is_inline and (self._item is not None or indent < 4):
            self._fence = opens[1]
        elif self._item is None and HEADING.match(line):
            finished += self._flush()
        return finished
