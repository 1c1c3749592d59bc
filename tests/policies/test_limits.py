"""The size of request bodies is limited while they are read."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from openai_compat.errors import RequestTooLarge
from openai_compat.http import HttpRequest
from openai_compat.policies.limits import Deadlines, Limits
from tests.support.exchanges import exchange_of

pytestmark = pytest.mark.anyio
LIMITS, DEADLINES = Limits(body=100), Deadlines(body=20)


class Sending:
    """A body of 10-byte pieces that records how much was read, and if it was closed."""

    def __init__(self, pieces: int, *headers: tuple[bytes, bytes]) -> None:
        self.read = 0
        self.closed = False
        self.request = HttpRequest("POST", "/", "", headers, self._body(pieces))

    async def _body(self, pieces: int) -> AsyncIterator[bytes]:
        try:
            for _ in range(pieces):
                self.read += 10
                yield b"0123456789"
        finally:
            self.closed = True


@pytest.mark.parametrize("pieces", [0, 1, 10])
async def test_a_body_up_to_the_limit_is_read(pieces: int) -> None:
    sending = Sending(pieces)
    assert await exchange_of(sending.request).read_body(LIMITS, DEADLINES) == b"0123456789" * pieces
    assert sending.closed


async def test_a_body_over_the_limit_is_not_read_to_its_end() -> None:
    sending = Sending(1000)
    with pytest.raises(RequestTooLarge) as caught:
        await exchange_of(sending.request).read_body(LIMITS, DEADLINES)
    assert (sending.read, sending.closed) == (110, True)
    assert (caught.value.status, caught.value.code) == (413, "request_too_large")
    assert caught.value.headers == {"Connection": "close"}


async def test_a_body_that_is_announced_to_be_over_the_limit_is_not_read_at_all() -> None:
    sending = Sending(1, (b"content-length", b"101"))
    with pytest.raises(RequestTooLarge):
        await exchange_of(sending.request).read_body(LIMITS, DEADLINES)
    assert sending.read == 0


@pytest.mark.parametrize("length", [b"-1", b"+5", b"0x10", b"1e3", b"9" * 40, b"5,6", b"", b"\xb2"])
async def test_a_length_that_is_none_is_not_believed(length: bytes) -> None:
    assert (
        await exchange_of(Sending(10, (b"content-length", length)).request).read_body(LIMITS, DEADLINES)
        == b"0123456789" * 10
    )
    with pytest.raises(RequestTooLarge):
        await exchange_of(Sending(11, (b"content-length", length)).request).read_body(LIMITS, DEADLINES)


async def test_a_small_body_that_is_refused_is_read_to_its_end() -> None:
    """Otherwise the rest arrives at a closed connection, which is reset: the client never sees the response."""
    sending = Sending(9, (b"content-length", b"90"))

    def refuse(piece: bytes) -> None:
        raise RequestTooLarge("One part of it is too large.")

    with pytest.raises(RequestTooLarge):
        await exchange_of(sending.request).feed_body(100, 20, refuse)
    assert (sending.read, sending.closed) == (90, True)
