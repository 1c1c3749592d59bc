"""Allow-lists of calls that need no approval, by the exact words of a command, or by exact arguments.

A pattern consists of words, as a program gets them. No shell interprets them, so nothing can be injected: "git status"
allows the two words `git`, `status`, but not `git push`, `git status -s` or `git "status; rm -rf /"`.

    git status          exactly these words
    git show *          one more word that is not an option: it must not begin with "-"
    git log **          any number of further words, including options

A function may have more arguments than the words: a directory, an environment. A pattern only covers the words, so it
allows only calls with all other arguments at their defaults, or equal to the values given with the pattern:

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
SHELL_CHARACTERS = frozenset(";|&<>()$`\\\n\r\0")
"""Characters with a meaning in a shell: in a pattern they would never do what its author expects."""


@dataclass(frozen=True, slots=True)
class ArgvPattern:
    """Allows commands by their words. With `exact`, every word is literal, including `*`.

    `others` is the canonical JSON of the call's other arguments, without those at their defaults.
    """

    words: tuple[str, ...]
    exact: bool = False
    others: str = "{}"

    @classmethod
    def parse(cls, text: str) -> ArgvPattern:
        """Parse a pattern as people write it, with quotes around words that contain spaces. Raises ValueError with the reason.

        `*` and `**` must be separate words, and `**` the last one.
        """
        if SHELL_CHARACTERS & set(text):
            raise ValueError(f"a pattern is no shell command: {text!r}; give words that hold such characters as a list")
        words = tuple(shlex.split(text))
        _check_words(words, text)
        return cls(words)

    def matches(self, argv: Sequence[str], others: Mapping[str, Any] = MappingProxyType({})) -> bool:
        """True if a command of these words is allowed, given the other arguments that are not at their defaults."""
        if canonical_json(others) != self.others:
            return False
        if self.exact:
            return tuple(argv) == self.words
        words = self.words
        if words[-1] == REST:
            words = words[:-1]
            argv = argv[: len(words)]
        # `*` matches no option: `git log *` must not allow `git log --output=FILE`
        return len(argv) == len(words) and all(
            [not word.startswith("-") if each == ONE else word == each for each, word in zip(words, argv, strict=True)]
        )

    def __str__(self) -> str:
        """The words as people write a pattern, with quotes where needed."""
        literal = () if self.exact else (ONE, REST)
        words = " ".join([word if word in literal else shlex.quote(word) for word in self.words])
        return words if self.others == "{}" else f"{words} {self.others}"


@dataclass(frozen=True, slots=True)
class ExactArguments:
    """Allows a call with exactly these arguments: `arguments` is their canonical JSON."""

    arguments: str

    def matches(self, arguments: Mapping[str, Any]) -> bool:
        """True if a call with these arguments is allowed."""
        return canonical_json(arguments) == self.arguments

    def __str__(self) -> str:
        return self.arguments


Allow: TypeAlias = ArgvPattern | ExactArguments
"""An entry of an allow-list."""


def parse_allow(allow: str | Sequence[str] | Mapping[str, Any]) -> Allow:
    """Parse an allow-list entry: a pattern, the exact words of a command, or exact arguments. Raises ValueError.

    Arguments whose `argv` is a string are a pattern, with the other arguments that it allows.
    """
    if isinstance(allow, str):
        return ArgvPattern.parse(allow)
    if isinstance(allow, Mapping):
        pattern = allow.get("argv")
        if isinstance(pattern, str):
            others = {name: value for name, value in allow.items() if name != "argv"}
            return replace(ArgvPattern.parse(pattern), others=canonical_json(others))
        return ExactArguments(canonical_json(allow))
    if not allow:
        raise ValueError("a command has at least one word")
    return ArgvPattern(tuple(allow), exact=True)


def allow_to_json(allow: Allow) -> dict[str, Any]:
    """Convert an allow-list entry to JSON for storage; the inverse of `allow_from_json`."""
    if isinstance(allow, ExactArguments):
        return {"arguments": from_json(allow.arguments)}
    # In the form that people write, so that a stored grant can be read and revoked.
    words = {"argv": list(allow.words)} if allow.exact else {"pattern": str(replace(allow, others="{}"))}
    return words if allow.others == "{}" else {**words, "others": from_json(allow.others)}


def allow_from_json(value: Mapping[str, Any]) -> Allow:
    """Parse the output of `allow_to_json`. Raises ValueError for anything else."""
    kept = [value[key] for key in ("arguments", "argv", "pattern") if key in value]
    if len(kept) != 1:
        raise ValueError("an allowance has one of 'pattern', 'argv' and 'arguments'")
    allow = parse_allow(kept[0])
    others = value.get("others")
    return replace(allow, others=canonical_json(others)) if others and isinstance(allow, ArgvPattern) else allow


def canonical_json(value: object) -> str:
    """Return JSON that is the same for equal values, whatever the order of their keys."""
    return to_json(_sort_keys(value), inf_nan_mode="strings").decode()


def _sort_keys(value: object) -> object:
    if isinstance(value, Mapping):
        mapping = cast("Mapping[str, object]", value)
        return {key: _sort_keys(mapping[key]) for key in sorted(mapping)}
    return [_sort_keys(item) for item in cast("list[object]", value)] if isinstance(value, list | tuple) else value


def _check_words(words: tuple[str, ...], text: str) -> None:
    if not words:
        raise ValueError("a pattern has at least one word")
    if words[0] in (ONE, REST):
        raise ValueError(f"a pattern begins with the program's name: {text!r}")
    if REST in words[:-1]:
        raise ValueError(f"'**' is the last word of a pattern: {text!r}")
    wrong = [word for word in words if "*" in word and word not in (ONE, REST)]
    if wrong:
        raise ValueError(f"'*' and '**' are words of their own, unlike in {wrong[0]!r}: {text!r}")
