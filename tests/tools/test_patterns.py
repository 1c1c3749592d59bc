"""Allow-lists: a pattern allows its calls, and nothing else."""

from __future__ import annotations

import json
import shlex

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from openai_compat.tools import ArgvPattern, allow_from_json, allow_to_json, call_digest, parse_allow
from openai_compat.tools.patterns import SHELL_CHARACTERS

words = st.text(min_size=1, max_size=12).filter(lambda word: "*" not in word)
argvs = st.lists(words, min_size=1, max_size=5)
plain = st.lists(
    st.text(st.characters(exclude_characters="".join(SHELL_CHARACTERS) + "*", codec="utf-8"), min_size=1, max_size=12),
    min_size=1,
    max_size=5,
)


@pytest.mark.parametrize(
    ("pattern", "allowed", "refused"),
    [
        ("git status", ["git status"], ["git", "git status -s", "git push", "git status status", "GIT status", "ls"]),
        ("ls", ["ls"], ["lsof", "ls -l", "l", "/bin/ls", "./ls"]),
        ("git show *", ["git show HEAD", "git show ''"], ["git show", "git show --output=x", "git show a b"]),
        ("git log **", ["git log", "git log -n 3", "git log a b c"], ["git", "git push", "git logs"]),
        ("grep 'two words' *", ["grep 'two words' file"], ["grep two words file", "grep 'two words' -r"]),
    ],
)
def test_a_pattern_allows_its_words_and_no_others(pattern: str, allowed: list[str], refused: list[str]) -> None:
    parsed = ArgvPattern.parse(pattern)

    assert [line for line in allowed if not parsed.matches(shlex.split(line))] == []
    assert [line for line in refused if parsed.matches(shlex.split(line))] == []


@pytest.mark.parametrize(
    "pattern",
    [
        *("", "  ", "*", "** x", "git l*", "git ** x", "'unclosed", "git --x=*", "git 'sta*'"),
        *("git *;", "git status && ls", "git `id`", "echo $HOME", "a | b", "a > b", "a\nb", "a\0b"),
    ],
)
def test_a_pattern_that_would_not_do_what_it_seems_to_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"pattern|word|quotation"):
        ArgvPattern.parse(pattern)


@given(plain, argvs)
def test_a_pattern_without_wildcards_allows_exactly_one_command(pattern: list[str], argv: list[str]) -> None:
    parsed = ArgvPattern.parse(shlex.join(pattern))

    assert parsed.matches(pattern)
    assert parsed.matches(argv) == (argv == pattern)


@given(argvs)
def test_exact_words_allow_that_command_alone_whatever_they_hold(argv: list[str]) -> None:
    allow = parse_allow([*argv, "*", "**"])

    assert allow.matches([*argv, "*", "**"])
    assert not allow.matches([*argv, "x", "**"])
    assert not allow.matches([*argv, "*", "**", "more"])


@given(plain, st.text(max_size=12), st.sampled_from([";", "&&", "|", "$(id)", "`id`", "\n", ">", " "]))
def test_a_word_cannot_carry_another_command_into_an_allowed_one(pattern: list[str], more: str, glue: str) -> None:
    smuggled = [*pattern[:-1], pattern[-1] + glue + more]
    assume(smuggled != pattern)

    assert not ArgvPattern.parse(shlex.join(pattern)).matches(smuggled)


@given(plain, words)
def test_one_more_word_is_no_option(pattern: list[str], word: str) -> None:
    parsed = ArgvPattern.parse(f"{shlex.join(pattern)} *")

    assert parsed.matches([*pattern, word]) == (not word.startswith("-"))
    assert not parsed.matches(pattern)
    assert not parsed.matches([*pattern, word, word])


@given(st.one_of(plain.map(shlex.join).map(ArgvPattern.parse), argvs.map(parse_allow)))
def test_an_allowance_survives_being_kept(allow: ArgvPattern) -> None:
    assert allow_from_json(json.loads(json.dumps(allow_to_json(allow)))) == allow


@pytest.mark.parametrize("kept", [{}, {"pattern": "a", "argv": ["a"]}, {"argv": []}, {"pattern": "a;b"}])
def test_what_was_not_kept_by_us_is_refused(kept: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        allow_from_json(kept)


def test_exact_arguments_allow_equal_ones_in_any_order_and_no_others() -> None:
    allow = parse_allow({"city": "Oslo", "days": [1, 2]})

    assert allow.matches({"days": [1, 2], "city": "Oslo"})
    assert not allow.matches({"days": [2, 1], "city": "Oslo"})
    assert not allow.matches({"days": [1, 2], "city": "Oslo", "more": 1})
    assert not allow.matches({"days": [1.0, 2], "city": "Oslo"})
    assert allow_from_json(allow_to_json(allow)) == allow
    assert str(allow) == '{"city":"Oslo","days":[1,2]}'


def test_a_digest_is_bound_to_the_tool_and_to_what_its_arguments_say() -> None:
    assert call_digest("a", '{"x": 1, "y": 2}') == call_digest("a", '{"y":2,"x":1}')
    assert call_digest("a", "") == call_digest("a", "{}")
    assert len({call_digest("a", '{"x": 1}'), call_digest("b", '{"x": 1}'), call_digest("a", '{"x": 2}')}) == 3
    assert call_digest("a", "no json") != call_digest("a", "no json either")
