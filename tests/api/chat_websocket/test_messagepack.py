"""MessagePack from strangers: the refusals and their cost; everything else arrives as it was sent."""

from __future__ import annotations

import sys
import tracemalloc
from contextlib import suppress
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openai_compat.errors import InvalidRequest
from openai_compat.wire.messagepack import MAX_DEPTH, MAX_VALUES, packb, unpack_object
from tests.requirements import requirement

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
NUMBERS = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=20,
)
OBJECTS = st.dictionaries(TEXT, VALUES)

BOMBS = {
    "truncated": b"\x82\xa1a\x01",
    "no value": b"",
    "two values": b"\x80\x80",
    "four billion elements": b"\xdd\xff\xff\xff\xff",
    "four billion pairs": b"\xdf\xff\xff\xff\xff\xa1a",
    "four billion bytes": b"\x81\xa1a\xc6\xff\xff\xff\xff",
    "four billion characters": b"\xdb\xff\xff\xff\xff",
    "many arrays that claim all there is": (b"\xdd\x00\x0f\x42\x40" * 100) + b"\xc0" * 1_000_000,
    "100,000 levels": b"\x91" * 100_000 + b"\xc0",
    "100,000 levels of maps": b"\x81\xa1a" * 100_000 + b"\xc0",
    "empty maps": b"\xdd\x00\x4c\x4b\x40" + b"\x80" * 5_000_000,
    "nils": b"\xdd\x00\x4c\x4b\x40" + b"\xc0" * 5_000_000,
    "an extension": msgpack.packb({"a": msgpack.ExtType(5, b"x")}),
    "a timestamp": msgpack.packb({"a": msgpack.Timestamp(1)}),
    "a large extension": b"\x81\xa1a\xc9\xff\xff\xff\xff\x05",
    "a reserved byte": b"\xc1",
    "a number for a key": msgpack.packb({1: 2}),
    "bytes for a key": msgpack.packb({b"a": 2}),
    "a map for a key": b"\x81\x80\x01",
    "no UTF-8": b"\x81\xa1a\xa1\xff",
    "no UTF-8 in a key": b"\x81\xa1\xff\x01",
    "an array": msgpack.packb([1]),
    "text": msgpack.packb("text"),
}


@requirement("chatws.bombs")
@pytest.mark.parametrize("name", list(BOMBS))
def test_a_bomb_is_refused_with_memory_flat(name: str) -> None:  # 51
    tracemalloc.start()
    try:
        with pytest.raises(InvalidRequest) as refused:
            unpack_object(BOMBS[name])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (refused.value.status, refused.value.code) == (400, "invalid_frame")
    assert peak < 100_000, peak


@given(OBJECTS)
def test_everything_else_arrives_as_it_was_sent(value: dict[str, Any]) -> None:
    assert unpack_object(msgpack.packb(value)) == value
    assert unpack_object(packb(value)) == value


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    with suppress(InvalidRequest):
        assert isinstance(unpack_object(data), dict)


@given(OBJECTS, st.data())
def test_no_cut_or_changed_message_raises_anything_else(value: dict[str, Any], data: st.DataObject) -> None:
    packed = bytearray(msgpack.packb(value))
    place = data.draw(st.integers(0, len(packed) - 1))
    packed[place] = data.draw(st.integers(0, 255))
    for damaged in (bytes(packed), bytes(packed[:place])):
        with suppress(InvalidRequest):
            assert isinstance(unpack_object(damaged), dict)


def test_the_bounds_are_exact() -> None:
    assert len(unpack_object(msgpack.packb({"a": [0] * (MAX_VALUES - 3)}))["a"]) == MAX_VALUES - 3
    with pytest.raises(InvalidRequest):
        unpack_object(msgpack.packb({"a": [0] * (MAX_VALUES - 2)}))
    deep: Any = 1
    for _ in range(MAX_DEPTH - 2):
        deep = [deep]
    assert unpack_object(msgpack.packb({"a": deep}))
    with pytest.raises(InvalidRequest):
        unpack_object(msgpack.packb({"a": [deep]}))


def test_what_messagepack_cannot_carry_is_sent_as_text() -> None:
    sent = packb({"big": 2**70, "text": "a\ud800b", "set": {1}, "many": (1, 2), "yes": True, "half": 0.5, "none": None})
    assert unpack_object(sent) == {
        "big": str(2**70),
        "text": "a\ufffd\ufffd\ufffdb",
        "set": "{1}",
        "many": [1, 2],
        "yes": True,
        "half": 0.5,
        "none": None,
    }


def test_without_the_package_a_client_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "msgpack", None)
    with pytest.raises(InvalidRequest) as refused:
        unpack_object(b"\x80")
    assert refused.value.code == "msgpack_not_installed"
