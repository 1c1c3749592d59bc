"""Work grows no faster than the text of clients and agents: regular expressions, and string handling by hand."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import openai_compat
import openai_compat_adapters
from openai_compat.backends.subprocess.redaction import Redaction
from openai_compat.policies.housekeeping import _user_texts
from openai_compat.policies.messages import remove_presentation
from openai_compat.turns.stop_sequences import StopScanner
from openai_compat.wire.presentation import remove_activity
from tests.requirements import requirement
from tests.trust.expressions import Matcher, TooManySteps, literals

ROOTS = [Path(openai_compat.__path__[0]), Path(openai_compat_adapters.__path__[0])]
IN_RUST = "pydantic's: it does not backtrack"
OURS = "text of those who run the server"

OUTSIDE: dict[tuple[str, str], str] = {
    ("stores/sql_text", r"[\0\\\ud800-\udfff]"): "search",
    ("stores/sql_text", r"\\(....)"): "search",
    ("wire/json", "[\ud800-\udfff]"): "search",
    ("wire/utf16", "[\ud800-\udfff]"): "search",
    ("wire/items/parse", r"[!-~]{1,128}"): "whole",
    ("wire/responses/parse/websocket", r"[A-Za-z0-9_.-]{1,256}"): "whole",
    ("wire/files", r"[a-z0-9!#$&^_.+-]{1,64}/[a-z0-9!#$&^_.+-]{1,64}"): "whole",
    ("wire/files", r"[/\\]"): "search",
    ("policies/auth", r"bearer +(\S+)"): "whole",
    ("policies/authenticate", r"(\[[0-9a-f:.]+\]|[^:\[\]]+)(?::\d*)?"): "whole",
    ("tools/mcp", r"[^a-zA-Z0-9_-]"): "search",
    ("tools/registry", r"[a-zA-Z0-9_-]{1,64}"): "whole",
    ("backends/anthropic/conversation", r"[^a-zA-Z0-9_-]"): "search",
    ("backends/smolagents", r'\s*\{\s*"answer"\s*:\s*"'): "whole",
    ("state/agent_state", r"(.*)_st([0-9a-f]{24})"): "whole",
    ("api/text_approvals", r"\[((?:appr|mcpr)_[0-9a-f]{32,40})\]"): "search",
    ("_serving/http1", r"[A-Z-]+ [!-~]+ HTTP/1\.[01]\r\n"): "whole",
    ("_serving/http1", r"https?://([^/?#]*)(.*)"): "whole",
    ("_serving/http1", r"\r\nupgrade:[^\r]*"): "search",
    ("_cli/chat/markdown_blocks", r" *(`{3,}|~{3,})"): "whole",
    ("_cli/chat/markdown_blocks", r"( {0,3})([-*+]|\d{1,9}[.)])( +|$)"): "whole",
    ("_cli/chat/markdown_blocks", r" {0,3}#{1,6}( |$)"): "whole",
    ("_cli/chat/markdown_blocks", r" {0,3}([-*+]|1[.)]) +\S"): "whole",
}
"""Expressions that are applied to text of clients or agents, and how they are used."""

INSIDE: dict[tuple[str, str], str] = {
    ("policies/auth", r"\S+"): OURS,
    ("policies/cors", r"https?://[^/?#@\s]+"): OURS,
    ("_cli/modules", r" at 0x[0-9a-fA-F]+"): OURS,
    ("policies/keys", r"\S+"): "the operator's own keys",
    ("policies/keys", r"(?:(?:^|\s+)model=\S+)+$"): "the operator's own keys",
    ("policies/keys", "f'{HASH_PREFIX}([0-9a-f]{{64}})'"): "the operator's own keys",
    ("wire/anthropic_messages/request_types", r"^[a-zA-Z0-9_-]{1,128}$"): IN_RUST,
    ("policies/cors", "regex"): "the operator's own, on origins that are short",
    ("wire/chat_rest/types", r"\S"): IN_RUST,
    ("wire/chat_rest/types", r"^https?://[^/\s]"): IN_RUST,
    ("wire/chat/request_types", r"^[a-zA-Z0-9_-]{1,64}$"): IN_RUST,
    ("wire/responses/tool_types", r"^[a-zA-Z0-9_-]{1,128}$"): IN_RUST,
    ("tools/docstring", r"^(Args|Arguments|Parameters|Returns?|Yields?|Raises|Examples?|Notes?|Attributes):\s*$"): OURS,
    ("tools/docstring", r"^(\s+)\*{0,2}(\w+)\s*(?:\([^)]*\))?:\s*(.*)$"): OURS,
    ("testing/recording", r"\b([a-z]+[-_])(?:[0-9a-f]{16,}|[0-9A-Za-z]{24,})\b"): OURS,
    ("stores/postgres", r"\$(\d+)"): "statements of the store",
    ("stores/postgres", r"\w+"): "statements of the store",
    ("_cli/chat/slash_commands", r"/[a-zA-Z]*(?=\s|$)"): OURS,
    ("_cli/doctor_checks", r"[\s,]+"): OURS,
    ("_cli/doctor_checks", r"[^\d.]"): "what packages say of themselves",
    ("_cli/doctor_checks", r"(>=|<=|==|<|>)\s*([\d.]+)"): "what packages say of themselves",
    (
        "_cli/doctor_checks",
        r"""([\w.-]+)(?:\[[^]]*\])?([^;]*);.*extra == ['"]([\w-]+)['"]""",
    ): "what packages say of themselves",
    ("_cli/doctor_url", r'data:.*"content":\s*"[^"]'): "a line of the server that its operator has looked at",
    ("_cli/server_from_options", "[!#$%&'*+.^`|~0-9A-Za-z-]+"): OURS,
    ("_cli/values", r"(?:(\[[0-9a-fA-F:.]+\]|[^:\[\]]*):)?(\d+)"): OURS,
    ("_cli/values", r"(\d+)([kmg]?)(?:i?b)?"): OURS,
    ("_cli/values", r"(\d+(?:\.\d+)?|\.\d+)(ms|s|m|h|d)"): OURS,
    ("_cli/values", r"(\d+(?:\.\d+)?|\.\d+)(ms|s|m|h|d)?"): OURS,
}
"""All other expressions, and why they are harmless."""

FLAGS = {
    ("state/agent_state", r"(.*)_st([0-9a-f]{24})"): re.DOTALL,
    ("policies/auth", r"bearer +(\S+)"): re.IGNORECASE | re.ASCII,
    ("policies/authenticate", r"(\[[0-9a-f:.]+\]|[^:\[\]]+)(?::\d*)?"): re.IGNORECASE,
    ("_serving/http1", r"https?://([^/?#]*)(.*)"): re.IGNORECASE,
    ("_serving/http1", r"\r\nupgrade:[^\r]*"): re.IGNORECASE,
}


def expressions_in(root: Path) -> Iterator[tuple[str, str]]:
    """Each expression in the source, with its module."""
    for path in sorted(root.rglob("*.py")):
        module = path.relative_to(root).with_suffix("").as_posix()
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            if isinstance(node.func, ast.Attribute) and getattr(node.func.value, "id", "") == "re":
                yield module, _constant(node.args[0])
            for keyword in node.keywords:
                if keyword.arg == "pattern" and getattr(node.func, "id", "") in ("StringConstraints", "Field"):
                    yield module, _constant(keyword.value)


def _constant(node: ast.expr) -> str:
    if not isinstance(node, ast.Constant):
        return ast.unparse(node)
    return node.value.decode("latin-1") if isinstance(node.value, bytes) else node.value


@requirement("text.linear")
def test_each_regular_expression_is_listed_with_the_text_that_it_meets() -> None:
    assert {found for root in ROOTS for found in expressions_in(root)} == OUTSIDE.keys() | INSIDE.keys()


def test_nobody_imports_parts_of_the_module_where_they_would_not_be_found() -> None:
    for root in ROOTS:
        for path in root.rglob("*.py"):
            imports = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
            assert not [node for node in imports if node.module == "re"], path
            named = [
                a for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Import) for a in node.names
            ]
            assert not [alias for alias in named if alias.name == "regex" or (alias.name == "re" and alias.asname)], (
                path
            )


def steps(listed: tuple[str, str], text: str, most: int = 2_000_000) -> int:
    matcher = Matcher(listed[1], FLAGS.get(listed, 0), most)
    (matcher.search_all if OUTSIDE[listed] == "search" else matcher.match_whole)(text)
    return matcher.steps


@requirement("text.linear")
@pytest.mark.parametrize("listed", OUTSIDE, ids=str)
@given(data=st.data())
def test_an_expression_takes_twice_the_steps_for_twice_the_text(listed: tuple[str, str], data: st.DataObject) -> None:
    own = st.lists(st.sampled_from(literals(listed[1])) | st.characters(), max_size=3).map("".join)
    before, again, after = data.draw(own), data.draw(own.filter(bool)), data.draw(own)
    once = steps(listed, before + again * 64 + after)
    twice = steps(listed, before + again * 128 + after, most=once * 10 + 10_000)
    assert twice <= 2.5 * once + 200


def test_the_matcher_tells_an_expression_that_grows_faster() -> None:
    """An expression once used on history, which stopped the server for a megabyte of `<details `: the matcher must catch it."""
    tag = r"<details[^>]*type="
    few, more = Matcher(tag), Matcher(tag)
    few.search_all("<details " * 20)
    more.search_all("<details " * 40)
    assert more.steps > 3 * few.steps
    with pytest.raises(TooManySteps):
        Matcher(tag).search_all("<details " * 2000)


class Counted(str):
    """A string that counts how many of its characters are read."""

    looked = 0

    def find(self, sub: str, start: Any = 0, end: Any = None) -> int:
        stop = len(self) if end is None else end
        found = super().find(sub, start, stop)
        type(self).looked += 1 + (stop if found < 0 else found + len(sub)) - (start or 0)
        return found

    def __getitem__(self, key: Any) -> str:
        piece = super().__getitem__(key)
        type(self).looked += len(piece)
        return piece


DRAWN = ["<details", "<details ", ' type="reasoning"', ">", "</details>", "\n", "[\N{GEAR} ", "[", "]", "]\n", "a", " "]


def looked_at(work: Callable[[str], str], text: str) -> int:
    Counted.looked = 0
    work(Counted(text))
    return Counted.looked


@requirement("text.linear")
@pytest.mark.parametrize("work", [remove_presentation, remove_activity])
@given(
    before=st.lists(st.sampled_from(DRAWN), max_size=3).map("".join),
    again=st.lists(st.sampled_from(DRAWN), min_size=1, max_size=4).map("".join),
    after=st.lists(st.sampled_from(DRAWN), max_size=3).map("".join),
)
def test_what_was_drawn_into_a_text_is_found_by_looking_at_each_character_a_few_times(
    work: Callable[[str], str], before: str, again: str, after: str
) -> None:
    once = looked_at(work, before + again * 64 + after)
    assert looked_at(work, before + again * 128 + after) <= 2.5 * once + 200


ACTIVITY = re.compile("\\[\N{GEAR} [^\\]\n]*\\]\n")
BLOCK = re.compile(
    r'<details\b[^<>]*\stype="(?:tool_calls|reasoning|code_interpreter)"[^<>]*>.*?</details>\n*', re.DOTALL
)


@given(st.lists(st.sampled_from(DRAWN), max_size=12).map("".join))
def test_lines_of_activity_are_what_one_would_write_as_an_expression(text: str) -> None:
    assert remove_activity(text) == ACTIVITY.sub("", text)


TAGS = [
    '<details type="reasoning" done="true">',
    "<details>",
    '<details id="a" type="tool_calls">',
    "</details>",
    "\n",
    "a",
]


@given(st.lists(st.sampled_from(TAGS), max_size=12).map("".join))
def test_folded_blocks_are_what_one_would_write_as_an_expression(text: str) -> None:
    assert remove_presentation(text) == BLOCK.sub("", text)


class Said:
    """A request with a single prompt."""

    def __init__(self, prompt: str) -> None:
        self.prompt = prompt


def test_the_words_of_the_user_are_looked_for_at_both_ends_of_a_long_prompt() -> None:
    text = f"USER: first{' ' * 10_000_000}\nASSISTANT: no\nUSER: last"
    found = _user_texts(Said(text))
    assert (found[0].split()[0], found[-1]) == ("first", "last")


def test_a_line_that_comes_letter_by_letter_is_redacted_once() -> None:
    seen: list[str] = []
    redaction = Redaction(lambda text: seen.append(text) or text)
    list(redaction.apply(["a"] * 1000 + ["\n"]))
    assert seen == ["a" * 1000]


@given(st.lists(st.text("ab", max_size=4), max_size=30), st.lists(st.text("ab", min_size=1, max_size=4), max_size=3))
def test_a_stop_scanner_holds_back_less_than_a_stop_sequence(pieces: list[str], stops: list[str]) -> None:
    scanner = StopScanner(stops)
    for piece in pieces:
        scanner.feed(piece)
        assert len(scanner._held) < max([len(stop) for stop in stops], default=1)
