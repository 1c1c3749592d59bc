"""Data of principals in memory: bounded for each and in total, and nobody loses data because of another."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openai_compat.stores.bounded_tables import OVERHEAD, Shares, Table, size_of_text

TOTAL, EACH, MOST = 40 * OVERHEAD, 12 * OVERHEAD, 8

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["rest", "rest", "rest", "hold", "use", "pop"]),
        st.sampled_from("abcde"),
        st.integers(0, 9),
        st.integers(0, 6),
        st.integers(0, 1),
    ),
    max_size=120,
)


def names(table: Table[int, Any], principal: str) -> list[int]:
    return [identifier for identifier, _ in table.entries(principal)]


@given(STEPS)
def test_the_bounds_hold_after_every_step_and_what_is_counted_is_what_there_is(steps: list[Any]) -> None:
    shares = Shares(TOTAL, EACH)
    tables: list[Table[int, int]] = [Table(shares, MOST), Table(shares, MOST)]
    held: set[tuple[str, int, int]] = set()
    for what, principal, number, size, which in steps:
        table: Table[int, int] = tables[int(which)]
        if what == "rest":
            table.put(principal, number, size * OVERHEAD, size * OVERHEAD)
            held.discard((principal, number, which))
            assert table.get(principal, number) is not None  # the latest value stays
        elif what == "hold":
            table.hold(principal, number, size * OVERHEAD)
            held.add((principal, number, which))
        elif what == "use":
            table.use(principal, number, 0.0)
        else:
            table.pop(principal, number)
            held.discard((principal, number, which))

        resting = [(whose, value + OVERHEAD) for one in tables for whose, _, value in one.values_at_rest()]
        assert shares.size == sum([size for _, size in resting]) <= TOTAL + 7 * OVERHEAD
        for whose in "abcde":
            assert shares.size_of(whose) == sum([size for one, size in resting if one == whose])
            assert shares.size_of(whose) <= EACH
        for whose, name, where in held:
            assert tables[where].get(whose, name) is not None  # data of a running turn is never dropped


@given(STEPS)
def test_whoever_holds_least_loses_nothing_whatever_others_do(steps: list[Any]) -> None:
    shares = Shares(TOTAL, EACH)
    table = Table[int, str](shares, MOST)
    table.put("small", 1, "kept", 10)
    for what, principal, number, size, _ in steps:
        if what == "hold":
            table.hold(principal, number, "held")
        else:
            table.put(principal, number, "more", size * OVERHEAD)
        assert table.get("small", 1) == "kept"


def test_what_was_used_longest_ago_goes_first_whichever_table_it_is_in() -> None:
    shares = Shares(TOTAL, 4 * OVERHEAD)
    first, second = Table[int, str](shares, MOST), Table[int, str](shares, MOST)
    for table, number in ((first, 1), (second, 2), (first, 3), (second, 4)):
        table.put("a", number, "kept", 0)
    first.use("a", 1, 0.0)
    first.put("a", 5, "new", 0)
    assert (names(first, "a"), names(second, "a")) == ([3, 1, 5], [4])


def test_the_one_who_holds_most_gives_way_when_all_is_full() -> None:
    shares = Shares(10 * OVERHEAD, 10 * OVERHEAD)
    table = Table[int, str](shares, 100)
    for number in range(8):
        table.put("large", number, "", 0)
    for number in range(4):
        table.put("small", number, "", 0)
    assert (names(table, "large"), names(table, "small")) == ([2, 3, 4, 5, 6, 7], [0, 1, 2, 3])
    for number in range(4, 9):
        table.put("small", number, "", 0)
    assert (len(names(table, "large")), len(names(table, "small"))) == (5, 5)


def test_text_is_counted_without_being_read_and_never_for_less_than_it_takes() -> None:
    assert size_of_text("abc", None, "") == 3
    assert size_of_text("é", "\U0001f600") >= len("é\U0001f600".encode())


@pytest.mark.parametrize("bounds", [(0, 0), (10, 0), (10, 11)])
def test_bounds_that_make_no_sense_are_refused(bounds: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="each may hold"):
        Shares(*bounds)
