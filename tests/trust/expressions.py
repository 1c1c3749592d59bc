"""A regular expression matcher that tries what Python's does, in the same order, and counts its steps.

Times say little on a busy machine, and a linear expression is harmless even if it is slow: the tests check how the number
of steps grows with the text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from re import _constants as sre
from re import _parser
from typing import Any

Then = Callable[[int], bool]


class TooManySteps(Exception):
    """The step count has exceeded its limit."""


class Matcher:
    """One expression, and the number of its steps so far."""

    def __init__(self, pattern: str, flags: int = 0, most: int = 2_000_000) -> None:
        self.tree = _parser.parse(pattern, flags)
        self.ignores_case = bool(self.tree.state.flags & re.IGNORECASE)
        self.steps = 0
        self._most = most
        self._text = ""

    def search_all(self, text: str) -> None:
        """Search from each position, as `sub`, `split` and `findall` do."""
        self._text = text.lower() if self.ignores_case else text
        position = 0
        while position <= len(text):
            ends: list[int] = []
            found = self._sequence(list(self.tree), 0, position, lambda end, ends=ends: ends.append(end) or True)
            position = max(ends[0], position + 1) if found else position + 1

    def match_whole(self, text: str) -> None:
        """Match the whole text, as `fullmatch` does."""
        self._text = text.lower() if self.ignores_case else text
        self._sequence(list(self.tree), 0, 0, lambda end: end == len(text))

    def _sequence(self, nodes: list[Any], index: int, at: int, then: Then) -> bool:
        self.steps += 1
        if self.steps > self._most:
            raise TooManySteps
        if index == len(nodes):
            return then(at)
        kind, value = nodes[index]
        after: Then = lambda end: self._sequence(nodes, index + 1, end, then)  # noqa: E731  (reads in order)
        if kind in (sre.LITERAL, sre.NOT_LITERAL, sre.IN, sre.ANY):
            return at < len(self._text) and self._fits(kind, value, self._text[at]) and after(at + 1)
        if kind is sre.SUBPATTERN:
            return self._sequence(list(value[3]), 0, at, after)
        if kind is sre.BRANCH:
            return any(self._sequence(list(branch), 0, at, after) for branch in value[1])
        if kind is sre.AT:
            return self._is_at(value, at) and after(at)
        if kind in (sre.MAX_REPEAT, sre.MIN_REPEAT):
            return self._repeat(kind, value, at, after)
        raise NotImplementedError(f"{kind}: teach it to this matcher, or do without")

    def _repeat(self, kind: Any, value: Any, at: int, after: Then) -> bool:
        least, most, inner = value
        if (least, most) == (0, 1):
            ways = [lambda: self._sequence(list(inner), 0, at, after), lambda: after(at)]
            return any(way() for way in (ways if kind is sre.MAX_REPEAT else reversed(ways)))
        (one, argument), *more = list(inner)
        if more or one not in (sre.LITERAL, sre.NOT_LITERAL, sre.IN, sre.ANY):
            raise NotImplementedError("a repeated group: do without, it is how expressions become slow")
        end = at
        while end < len(self._text) and end - at < most and self._fits(one, argument, self._text[end]):
            self.steps += 1
            end += 1
        ends = range(at + least, end + 1)
        return any(after(stop) for stop in (reversed(ends) if kind is sre.MAX_REPEAT else ends))

    def _fits(self, kind: Any, value: Any, character: str) -> bool:
        if kind is sre.ANY:
            return character != "\n"
        if kind is not sre.IN:
            return (ord(character) == value) is (kind is sre.LITERAL)
        negated = value[0][0] is sre.NEGATE
        return negated is not any(_is_in(one, argument, character) for one, argument in value[negated:])

    def _is_at(self, where: Any, at: int) -> bool:
        if where in (sre.AT_BEGINNING, sre.AT_BEGINNING_STRING):
            return at == 0
        return at == len(self._text)


def _is_in(kind: Any, value: Any, character: str) -> bool:
    if kind is sre.LITERAL:
        return ord(character) == value
    if kind is sre.RANGE:
        return value[0] <= ord(character) <= value[1]
    classes = {
        sre.CATEGORY_DIGIT: character.isdigit(),
        sre.CATEGORY_SPACE: character.isspace(),
        sre.CATEGORY_WORD: character.isalnum() or character == "_",
        sre.CATEGORY_NOT_SPACE: not character.isspace(),
    }
    return classes[value]


def literals(pattern: str, flags: int = 0) -> list[str]:
    """Text that the expression matches literally: runs of literal characters, and a member of each class."""
    found: list[str] = [""]
    for kind, value in _nodes(_parser.parse(pattern, flags)):
        if kind is sre.LITERAL:
            found[-1] += chr(value)
        else:
            found.append("")
            if kind is sre.RANGE:
                found[-1:] = [chr(value[0]), ""]
    return sorted({text for text in found if text} | {"a", " ", "\n"})


def _nodes(tree: Any) -> Iterator[tuple[Any, Any]]:
    for item in tree:
        if isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], type(sre.LITERAL)):
            yield item
            yield from _nodes(item[1]) if isinstance(item[1], list | tuple | _parser.SubPattern) else ()
        elif isinstance(item, list | tuple | _parser.SubPattern):
            yield from _nodes(item)
