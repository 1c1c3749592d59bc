"""Functions as tools: their description for the model, and the validation of arguments."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from openai_compat.tools import (
    AgentTool,
    Toolbox,
    ToolContext,
    ToolError,
    allow_from_json,
    allow_to_json,
    as_tool,
    tool,
)
from openai_compat.tools.docstring import read_docstring
from tests.requirements import requirement
from tests.tools.support import new_context, request_for


class Address(BaseModel):
    street: str
    number: int = 1


@dataclass
class Place:
    name: str


def weather(city: str, day: date | None = None, units: Literal["c", "f"] = "c") -> str:
    """The weather of a city.

    Ask for one city at a time.

    Args:
        city: its English name,
            without the country.
        day (date): the day: today if left out.

    Returns:
        Text for people.
    """
    return f"{city} {day} {units}"


def test_the_model_is_told_a_functions_name_text_and_typed_arguments() -> None:
    made = as_tool(weather)

    assert made.name == "weather"
    assert made.description == "The weather of a city.\n\nAsk for one city at a time."
    assert made.parameters == {
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": "its English name, without the country."},
            "day": {
                "anyOf": [{"type": "string", "format": "date"}, {"type": "null"}],
                "default": None,
                "description": "the day: today if left out.",
            },
            "units": {"type": "string", "enum": ["c", "f"], "default": "c"},
        },
        "required": ["city"],
        "additionalProperties": False,
    }


def test_a_docstring_needs_no_sections_and_none_at_all_will_do() -> None:
    def plain() -> None:
        """Just a line."""

    def bare(x: int) -> None: ...

    assert as_tool(plain).description == "Just a line."
    assert as_tool(plain).parameters == {"type": "object", "properties": {}, "additionalProperties": False}
    assert (as_tool(bare).description, as_tool(bare).offer.description) == ("", None)


def test_only_the_section_of_arguments_is_read() -> None:
    def raising(x: int) -> None:
        """Does it.

        Arguments:
            x: a number
              and more: of it.

        Raises:
            ValueError: never.

        Example:
            x: 3
        """

    assert read_docstring(raising).text == "Does it."
    assert read_docstring(raising).parameters == {"x": "a number and more: of it."}


def test_values_are_what_the_types_say() -> None:
    def visit(
        place: Place, address: Address, days: list[date], note: Annotated[str, Field(max_length=3)] = ""
    ) -> None: ...

    values = (
        as_tool(visit)
        .check('{"place": {"name": "Oslo"}, "address": {"street": "Gata"}, "days": ["2026-11-21"]}')
        .values
    )

    assert values == {"place": Place("Oslo"), "address": Address(street="Gata"), "days": [date(2026, 11, 21)]}


def test_arguments_may_be_called_what_a_pydantic_model_has_itself() -> None:
    def odd(schema: str, model_config: int, copy: bool, self_: str, json: str = "j") -> None: ...

    text = '{"schema": "s", "model_config": 1, "copy": true, "self_": "x"}'
    assert as_tool(odd).check(text).values == {"schema": "s", "model_config": 1, "copy": True, "self_": "x"}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ('{"days": 1}', "city: is missing\ndays: is not known here"),
        ('{"city": 5}', "city: should be text"),
        ('{"city": "Oslo", "units": "k"}', "units: should be 'c' or 'f'"),
        ('{"city": "Oslo"', "arguments: is not valid JSON: EOF while parsing an object at line 1 column 15"),
        ("[1]", "arguments: should be an object"),
        ("", "city: is missing"),
    ],
)
def test_the_model_is_told_what_is_wrong_with_its_arguments(arguments: str, told: str) -> None:
    with pytest.raises(ToolError) as caught:
        as_tool(weather).check(arguments)
    assert str(caught.value) == f"The arguments are wrong.\n{told}"


def test_numbers_that_json_does_not_have_are_refused_and_long_lists_of_faults_are_cut() -> None:
    def scale(factor: float) -> None: ...
    def many(numbers: list[int]) -> None: ...

    with pytest.raises(ToolError, match="finite number"):
        as_tool(scale).check('{"factor": NaN}')
    with pytest.raises(ToolError, match="and 12 more"):
        as_tool(many).check('{"numbers": [' + ",".join(['"x"'] * 20) + "]}")


def test_deep_arguments_are_refused_not_fatal() -> None:
    def nested(value: Any) -> None: ...

    with pytest.raises(ToolError, match="arguments"):
        as_tool(nested).check('{"value": ' + "[" * 100_000 + "]" * 100_000 + "}")


def test_an_argument_for_the_context_is_not_the_models_to_give() -> None:
    def who(question: str, context: ToolContext) -> str:
        return question

    assert list(as_tool(who).parameters["properties"]) == ["question"]
    with pytest.raises(ToolError, match="context: is not known"):
        as_tool(who).check('{"question": "", "context": {}}')


def untyped(x) -> None: ...
def star(*words: str) -> None: ...
def stars(**words: str) -> None: ...
def positional(x: int, /) -> None: ...
def unknown(x: Nowhere) -> None: ...  # noqa: F821  (of the test)
def strange(x: Callable[[], int]) -> None: ...


@pytest.mark.parametrize("function", [untyped, star, stars, positional, unknown, strange, partial(weather, "Oslo"), 3])
def test_what_cannot_be_a_tool_is_an_error_that_names_it(function: Any) -> None:
    with pytest.raises(TypeError, match=r"^'\w+'|tool is") as caught:
        as_tool(function)
    assert "0x" not in str(caught.value)


def test_settings_say_how_a_function_is_treated_and_leave_it_as_it_is() -> None:
    @tool(name="now", danger="safe", timeout=1.5, output_limit=10, description="The time.")
    def clock() -> str:
        return "noon"

    made = as_tool(clock)
    assert clock() == "noon"
    assert (made.name, made.danger, made.timeout, made.output_limit) == ("now", "safe", 1.5, 10)
    assert made.description == "The time."
    assert as_tool(weather).danger == "risky"


def test_a_decorator_without_settings_changes_nothing() -> None:
    @tool
    def clock() -> str:
        return "noon"

    assert (clock(), as_tool(clock).danger) == ("noon", "risky")


def test_settings_that_make_no_sense_are_refused_where_they_are_written() -> None:
    def plain(x: int) -> None: ...
    def runs(argv: list[str]) -> None: ...

    for wrong in [
        {"name": "no spaces"},
        {"name": "x" * 65},
        {"danger": "mild"},
        {"timeout": 0},
        {"output_limit": 0},
        {"allow": ["git status"]},
        {"allow": [{"x": 1}], "danger": "dangerous"},
    ]:
        with pytest.raises(ValueError):
            tool(**wrong)(plain)
    with pytest.raises(ValueError, match="lambda"):
        as_tool(lambda: None)
    tool(allow=["git status", ["git", "log"], {"argv": ["ls"]}])(runs)


def test_an_allow_list_is_on_the_words_of_a_command_or_on_exact_arguments() -> None:
    @tool(allow=["git status"])
    def runs(argv: list[str]) -> None: ...

    @tool(allow=[{"x": 1}])
    def counts(x: int) -> None: ...

    def allowed(made: AgentTool, arguments: str) -> bool:
        return made.allows(made.allow, made.check(arguments))

    command, number = as_tool(runs), as_tool(counts)
    assert allowed(command, '{"argv": ["git", "status"]}')
    assert not allowed(command, '{"argv": ["git", "status", "; rm -rf /"]}')
    assert allowed(number, '{"x": 1}')
    assert not allowed(number, '{"x": 2}')
    assert str(command.always(command.check('{"argv": ["git", "*"]}'))) == "git '*'"
    assert str(number.always(number.check('{"x": 2}'))) == '{"x":2}'


@tool(allow=["git status", {"argv": "git log **", "cwd": "/srv"}])
def runs(
    argv: list[str], cwd: Path = Path(), env: dict[str, str] | None = None, limit: int = 3, flags: Any = False
) -> None: ...


@requirement("tools.allowed")
@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [
        ({"argv": ["git", "status"]}, True),
        ({"argv": ["git", "status"], "cwd": ".", "env": None, "limit": 3, "flags": False}, True),
        ({"limit": "3", "argv": ["git", "status"]}, True),
        ({"argv": ["git", "status"], "env": {"GIT_EXTERNAL_DIFF": "sh -c id"}}, False),
        ({"env": {}, "argv": ["git", "status"]}, False),
        ({"argv": ["git", "status"], "cwd": "/srv"}, False),
        ({"argv": ["git", "status"], "limit": 4}, False),
        ({"argv": ["git", "status"], "flags": 0}, False),
        ({"argv": ["git", "log", "-3"], "cwd": "/srv"}, True),
        ({"argv": ["git", "log", "-3"]}, False),
        ({"argv": ["git", "log", "-3"], "cwd": "/srv", "env": {"A": "b"}}, False),
        ({"argv": ["git", "log", "-3"], "cwd": "/srv/../etc"}, False),
    ],
)
def test_a_pattern_allows_only_what_leaves_all_other_arguments_alone_or_names_them(
    arguments: dict[str, Any], allowed: bool
) -> None:
    made = as_tool(runs)
    assert made.allows(made.allow, made.check(json.dumps(arguments))) is allowed


@requirement("tools.allowed")
@given(
    st.fixed_dictionaries(
        {"argv": st.lists(st.sampled_from(["git", "status"]), max_size=2)},
        optional={
            "cwd": st.sampled_from([".", "/srv"]),
            "env": st.none() | st.dictionaries(st.sampled_from("AB"), st.sampled_from("xy")),
            "limit": st.integers(2, 4),
            "flags": st.sampled_from([False, 0, None, ""]),
        },
    ).flatmap(lambda first: st.tuples(st.just(first), st.permutations(list(first.items())).map(dict)))
)
def test_always_is_all_the_arguments_in_any_order_and_no_others(pair: tuple[dict[str, Any], dict[str, Any]]) -> None:
    made = as_tool(runs)
    first, reordered = [made.check(json.dumps(arguments)) for arguments in pair]
    always = made.always(first)

    assert allow_from_json(json.loads(json.dumps(allow_to_json(always)))) == always
    assert made.allows([always], reordered)
    for other in ({"env": {"LD_PRELOAD": "x"}}, {"cwd": "/etc"}, {"limit": 9}, {"flags": "-x"}, {"argv": ["ls"]}):
        assert not made.allows([always], made.check(json.dumps({**pair[0], **other})))


def test_a_pattern_that_somebody_chooses_keeps_the_other_arguments_of_the_call() -> None:
    made = as_tool(runs)
    chosen = made.always(made.check('{"argv": ["git", "push"], "cwd": "/srv"}'), "git push **")

    assert str(chosen) == 'git push ** {"cwd":"/srv"}'
    assert made.allows([chosen], made.check('{"argv": ["git", "push", "-f"], "cwd": "/srv"}'))
    assert not made.allows([chosen], made.check('{"argv": ["git", "push", "-f"]}'))
    assert not made.allows([chosen], made.check('{"argv": ["git", "push"], "cwd": "/srv", "env": {"A": "b"}}'))


@pytest.mark.anyio
async def test_a_method_is_a_tool_that_knows_its_object() -> None:
    class Counter:
        def __init__(self, start: int) -> None:
            self.value = start

        def add(self, more: int) -> int:
            """Counts on."""
            self.value += more
            return self.value

        @tool(danger="safe")
        async def look(self) -> int:
            return self.value

    counter = Counter(3)
    made = Toolbox([counter.add, counter.look])
    context = ToolContext("c", request_for(), new_context())
    add, look = (await made.listing()).tools.values()

    assert list(add.parameters["properties"]) == ["more"]
    assert await add.call(add.check('{"more": 4}').values, context) == 7
    assert await look.call({}, context) == 7
    assert look.danger == "safe"


def test_two_tools_of_one_name_are_an_error() -> None:
    with pytest.raises(ValueError, match="two tools are called 'weather'"):
        Toolbox([weather, weather])


class Source:
    def __init__(self, *names: str, error: Exception | None = None) -> None:
        self.name = "source"
        self.closed = False
        self._names = names
        self._error = error

    async def tools(self) -> list[AgentTool]:
        if self._error is not None:
            raise self._error
        return [as_tool(tool(name=name, description="of the source")(lambda: None)) for name in self._names]

    async def aclose(self) -> None:
        self.closed = True


@pytest.mark.anyio
async def test_the_tools_of_sources_are_added_and_yield_to_those_before_them() -> None:
    source, lost = Source("weather", "more"), Source(error=ConnectionError())
    box = Toolbox([weather, source, lost])
    listing = await box.listing()
    await box.aclose()

    assert {name: made.description for name, made in listing.tools.items()} == {
        "weather": as_tool(weather).description,
        "more": "of the source",
    }
    assert (list(listing.unreachable), source.closed) == (["source"], True)
