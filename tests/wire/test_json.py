"""Encodes any value as strict JSON and as server-sent events."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from openai_compat.wire.json import DONE, KEEP_ALIVE, dump_texts, dumps, sse
from tests.support import strategies
from tests.support.exchanges import sse_events, strict_json

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | strategies.texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(strategies.texts, inner, max_size=3),
    max_leaves=8,
)


def without_unsupported(value: Any) -> Any:
    """Return `value` with everything that JSON cannot carry replaced: lone surrogates, NaN and infinities."""
    if isinstance(value, str):
        return "".join(["\ufffd" if "\ud800" <= c <= "\udfff" else c for c in value])
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None
    if isinstance(value, dict):
        return {without_unsupported(key): without_unsupported(item) for key, item in value.items()}
    return [without_unsupported(item) for item in value] if isinstance(value, list) else value


@given(anything)
def test_every_value_becomes_strict_json_of_the_same_meaning(value: Any) -> None:
    assert strict_json(dumps(value)) == without_unsupported(value)


@given(st.lists(strategies.texts))
def test_many_texts_are_written_as_each_of_them_is(texts: list[str]) -> None:
    assert dump_texts(texts) == [dumps(text) for text in texts]


@given(st.lists(anything))
def test_events_are_one_line_each_and_told_apart_whatever_is_in_them(values: list[Any]) -> None:
    written = b"".join([sse(value) for value in values])
    assert sse_events(written) == [without_unsupported(value) for value in values]
    assert written.count(b"\n") == 2 * len(values)
    assert b"\r" not in written


def test_the_end_mark_and_the_comment_are_events_of_their_own() -> None:
    assert sse_events(KEEP_ALIVE + sse({"a": 1}) + KEEP_ALIVE + DONE) == [{"a": 1}, "[DONE]"]
