"""Which calls need no question: allow-lists on the exact words of a command, or on exact arguments.

A pattern is made of words, as a program gets them. There is no shell between a pattern and what it allows, so nothing
can be smuggled in: "git status" allows the two words `git`, `status`, and neither `git push` nor `git status -s` nor
`git "status; rm -rf /"`.

    git status          these words and no others
    git show *          one more word, which is no option: it must not begin with "-"
    git log **          any number of further words, options too

A function may take more than the words: a directory, an environment. A pattern is about the words alone, so it allows
only calls that leave all else at its defaults, or give just what stands beside the pattern:

    {"argv": "git status", "cwd": "/srv/site"}
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, TypeAlias, cast

from pydantic_core import from_json, to_json

ONE = "*"
REST = "**"
SHELL = frozenset(";|&<>()$`\\\n\r\0")
"""What a shell would make something of: in a pattern it would never do what its author expects."""


@dataclass(frozen=True, slots=True)
class ArgvPattern:
    """Allows commands by their words. `exact` takes every word literally, `*` too.

    `others` is the canonical JSON of the call's other arguments, those at their defaults left out.
    """

    words: tuple[str, ...]
    exact: bool = False
    others: str = "{}"

    @classmethod
    def parse(cls, text: str) -> ArgvPattern:
        """Read a pattern as people write it, words with spaces in quotes. Raises ValueError, which says what is wrong.

        `*` and `**` are words of their own, and `**` is the last one.
        """
        if SHELL & set(text):
            raise ValueError(f"a pattern is no shell command: {text!r}; give words that hold such characters as a list")
        words = tuple(shlex.split(text))
        _check(words, text)
        return cls(words)

    def matches(self, argv: Sequence[str], others: Mapping[str, Any] = MappingProxyType({})) -> bool:
        """True if a command of these words is allowed, with these other arguments that are not at their defaults."""
        if canonical(others) != self.others:
            return False
        if self.exact:
            return tuple(argv) == self.words
        words = self.words
        if words[-1] == REST:
            words = words[:-1]
            argv = argv[: len(words)]
        # `*` fits no option: `git log *` must not allow `git log --output=FILE`
        return len(argv) == len(words) and all(
            [not word.startswith("-") if each == ONE else word == each for each, word in zip(words, argv, strict=True)]
        )

    def __str__(self) -> str:
        """The words as people write a pattern, with quotes where they are needed."""
        literal = () if self.exact else (ONE, REST)
        words = " ".join([word if word in literal else shlex.quote(word) for word in self.words])
        return words if self.others == "{}" else f"{words} {self.others}"


@dataclass(frozen=True, slots=True)
class ExactArguments:
    """Allows a call with just these arguments: `arguments` is their canonical JSON."""

    arguments: str

    def matches(self, arguments: Mapping[str, Any]) -> bool:
        """True if a call with these arguments is allowed."""
        return canonical(arguments) == self.arguments

    def __str__(self) -> str:
        return self.arguments


Allow: TypeAlias = ArgvPattern | ExactArguments
"""What an allow-list is made of."""


def parse_allow(allow: str | Sequence[str] | Mapping[str, Any]) -> Allow:
    """A pattern as text, the exact words of a command, or the exact arguments of any tool. Raises ValueError.

    Arguments whose `argv` is text are a pattern, with the other arguments that it allows.
    """
    if isinstance(allow, str):
        return ArgvPattern.parse(allow)
    if isinstance(allow, Mapping):
        pattern = allow.get("argv")
        if isinstance(pattern, str):
            others = {name: value for name, value in allow.items() if name != "argv"}
            return replace(ArgvPattern.parse(pattern), others=canonical(others))
        return ExactArguments(canonical(allow))
    if not allow:
        raise ValueError("a command has at least one word")
    return ArgvPattern(tuple(allow), exact=True)


def allow_to_json(allow: Allow) -> dict[str, Any]:
    """An allowance to be kept; `allow_from_json` reads it."""
    if isinstance(allow, ExactArguments):
        return {"arguments": from_json(allow.arguments)}
    # As people write it, so that a grant that is kept can be read and taken back.
    words = {"argv": list(allow.words)} if allow.exact else {"pattern": str(replace(allow, others="{}"))}
    return words if allow.others == "{}" else {**words, "others": from_json(allow.others)}


def allow_from_json(value: Mapping[str, Any]) -> Allow:
    """Read what `allow_to_json` has written. Raises ValueError for anything else."""
    kept = [value[key] for key in ("arguments", "argv", "pattern") if key in value]
    if len(kept) != 1:
        raise ValueError("an allowance has one of 'pattern', 'argv' and 'arguments'")
    allow = parse_allow(kept[0])
    others = value.get("others")
    return replace(allow, others=canonical(others)) if others and isinstance(allow, ArgvPattern) else allow


def canonical(value: object) -> str:
    """JSON that is the same for equal values, whatever the order of their keys."""
    return to_json(_ordered(value), inf_nan_mode="strings").decode()


def _ordered(value: object) -> object:
    if isinstance(value, Mapping):
        mapping = cast("Mapping[str, object]", value)
        return {key: _ordered(mapping[key]) for key in sorted(mapping)}
    return [_ordered(item) for item in cast("list[object]", value)] if isinstance(value, list | tuple) else value


def _check(words: tuple[str, ...], text: str) -> None:
    if not words:
        raise ValueError("a pattern has at least one word")
    if words[0] in (ONE, REST):
        raise ValueError(f"a pattern begins with the program's name: {text!r}")
    if REST in words[:-1]:
        raise ValueError(f"'**' is the last word of a pattern: {text!r}")
    wrong = [word for word in words if "*" in word and word not in (ONE, REST)]
    if wrong:
        raise ValueError(f"'*' and '**' are words of their own, unlike in {wrong[0]!r}: {text!r}")
