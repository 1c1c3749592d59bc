"""A terminal screen: interprets a program's output, and draws it as SVG that refers to nothing external."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any, NamedTuple

TOKEN = re.compile(
    r"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"  # a title or a link: not shown
    r"|\x1b\[(?P<mode>[?>=]?)(?P<numbers>[\d;]*)[ ]?(?P<end>[@-~])"
    r"|\x1b[()].|\x1b."
    r"|(?P<control>[\x00-\x1f])"
    r"|(?P<words>[^\x1b\x00-\x1f]+)",
    re.DOTALL,
)
STEP, LINE, EDGE, BAR = 8.43, 19, 16, 34
"""Letter width, line height, padding, and height of the title bar, in pixels."""

COLOURS = ("#586069", "#e5534b", "#57ab5a", "#c69026", "#539bf5", "#b083f0", "#39c5cf", "#d5d9e0")
BRIGHT = ("#8b949e", "#ff938a", "#6bc46d", "#daaa3f", "#6cb6ff", "#dcbdfb", "#56d4dd", "#ffffff")
FONT = 'font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, DejaVu Sans Mono, monospace" font-size="14"'
INK, PAPER = "#d5d9e0", "#1c2128"


class Look(NamedTuple):
    """The style of a letter; colours in SVG syntax."""

    colour: str = INK
    paper: str = ""
    bold: bool = False
    dim: bool = False
    italic: bool = False
    underline: bool = False


SWITCHES: dict[int, dict[str, Any]] = {
    1: {"bold": True},
    2: {"dim": True},
    3: {"italic": True},
    4: {"underline": True},
    22: {"bold": False, "dim": False},
    23: {"italic": False},
    24: {"underline": False},
    39: {"colour": INK},
    49: {"paper": ""},
    **{
        first + number: {"colour": colours[number]}
        for first, colours in ((30, COLOURS), (90, BRIGHT))
        for number in range(8)
    },
    **{
        first + number: {"paper": colours[number]}
        for first, colours in ((40, COLOURS), (100, BRIGHT))
        for number in range(8)
    },
}
"""Effects of the codes of `ESC [ … m`."""


class Screen:
    """A program's visible output, in a window of unlimited height."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self._rows: list[list[tuple[str, Look]]] = [[]]
        self._row = self._column = 0
        self._look = Look()

    def write(self, output: str) -> None:
        """Interpret a program's output: letters, colours, and cursor movements."""
        for token in TOKEN.finditer(output):
            if token["words"]:
                for letter in token["words"]:
                    self._put(letter)
            elif token["control"]:
                self._control(token["control"])
            elif token["end"] and not token["mode"]:
                self._command(token["end"], [int(number or 0) for number in token["numbers"].split(";")])

    @property
    def text(self) -> str:
        """The visible text, without trailing spaces."""
        return "\n".join(["".join([letter for letter, _ in row]).rstrip() for row in self._rows]).rstrip()

    def rewrite(self, pattern: str, instead: Sequence[str]) -> None:
        """Replace the successive matches of the pattern by `instead`."""
        left = iter(instead)
        for row in self._rows:
            places = list(re.finditer(pattern, "".join([letter or " " for letter, _ in row])))
            words = [next(left, place[0]) for place in places]
            for place, word in reversed(list(zip(places, words, strict=True))):
                row[place.start() : place.end()] = [(letter, row[place.start()][1]) for letter in word]

    def _put(self, letter: str) -> None:
        width = 0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        if self._column + width > self.columns:
            self._row, self._column = self._row + 1, 0
        row = self._here()
        row += [(" ", Look())] * (self._column + width - len(row))
        row[self._column : self._column + width] = [(letter, self._look), *[("", self._look)] * (width - 1)]
        self._column += width

    def _here(self) -> list[tuple[str, Look]]:
        self._rows += [[] for _ in range(self._row + 1 - len(self._rows))]
        return self._rows[self._row]

    def _control(self, control: str) -> None:
        if control == "\n":
            self._row += 1
            self._here()
        elif control == "\r":
            self._column = 0
        elif control == "\b":
            self._column = max(0, self._column - 1)
        elif control == "\t":
            self._column = min(self.columns - 1, self._column // 8 * 8 + 8)

    def _command(self, end: str, numbers: list[int]) -> None:
        many = max(1, numbers[0])
        if end == "m":
            self._paint(numbers)
        elif end == "A":
            self._row = max(0, self._row - many)
        elif end == "B":
            self._row += many
        elif end == "C":
            self._column = min(self.columns - 1, self._column + many)
        elif end == "D":
            self._column = max(0, self._column - many)
        elif end == "G":
            self._column = many - 1
        elif end == "K":
            row = self._here()
            row[:] = row[: self._column] if numbers[0] == 0 else []
        elif end == "J":
            row = self._here()
            row[:] = row[: self._column] if numbers[0] == 0 else []
            del self._rows[self._row + 1 :]

    def _paint(self, numbers: list[int]) -> None:
        codes = iter(numbers)
        for code in codes:
            look = self._look
            if code == 0:
                look = Look()
            elif code in SWITCHES:
                look = look._replace(**SWITCHES[code])
            elif code == 7:
                look = look._replace(colour=look.paper or PAPER, paper=look.colour)
            elif code in (38, 48):
                look = look._replace(**{"colour" if code == 38 else "paper": _colour(next(codes), codes)})
            self._look = look

    def svg(self, title: str) -> str:
        """The screen as a picture; `title` is shown in its bar and is its label for screen readers."""
        rows = len(self.text.split("\n"))
        width, height = round(self.columns * STEP + 2 * EDGE), rows * LINE + EDGE + BAR
        size, label = f'width="{width}" height="{height}"', f'role="img" aria-label="{escape(title)}"'
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {width} {height}" {label} {FONT}>',
            f'<rect {size} rx="9" fill="{PAPER}"/>',
            *[f'<circle cx="{20 + 18 * n}" cy="17" r="5.5" fill="#444c56"/>' for n in range(3)],
            f'<text x="{width // 2}" y="22" text-anchor="middle" fill="{BRIGHT[0]}">{escape(title)}</text>',
        ]
        for number in range(rows):
            parts += self._drawn(number)
        return "\n".join([*parts, "</svg>"]) + "\n"

    def _drawn(self, number: int) -> list[str]:
        """SVG of one row: runs of letters with the same style, each as wide as its columns."""
        row, top = self._rows[number], BAR + number * LINE
        parts: list[str] = []
        begin = 0
        while begin < len(row):
            end = begin
            while end < len(row) and row[end][1] == row[begin][1]:
                end += 1
            words, look = "".join([letter for letter, _ in row[begin:end]]), row[begin][1]
            left, width = EDGE + begin * STEP, (end - begin) * STEP
            if look.paper:
                parts.append(
                    f'<rect x="{left:.1f}" y="{top}" width="{width:.1f}" height="{LINE}" fill="{look.paper}"/>'
                )
            if words.strip():
                parts.append(
                    f'<text x="{left:.1f}" y="{top + 14}" textLength="{width:.1f}" xml:space="preserve"'
                    f' fill="{look.colour}"{_style(look)}>{escape(words)}</text>'
                )
            begin = end
        return parts


def _style(look: Look) -> str:
    return "".join(
        [
            ' font-weight="700"' if look.bold else "",
            ' opacity="0.65"' if look.dim else "",
            ' font-style="italic"' if look.italic else "",
            ' text-decoration="underline"' if look.underline else "",
        ]
    )


def _colour(kind: int, codes: Iterator[int]) -> str:
    """A colour of the 256-colour palette, or one given by red, green and blue."""
    if kind == 2:
        return "#" + "".join([f"{next(codes):02x}" for _ in range(3)])
    number = next(codes)
    if number < 16:
        return (*COLOURS, *BRIGHT)[number]
    if number > 231:
        return "#" + f"{8 + 10 * (number - 232):02x}" * 3
    levels = (0, 95, 135, 175, 215, 255)
    return "#" + "".join([f"{levels[(number - 16) // step % 6]:02x}" for step in (36, 6, 1)])
