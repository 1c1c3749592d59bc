"""Compressed bodies: decompressed for any division into pieces, and never beyond the limit."""

from __future__ import annotations

import gzip
import json
import random
import zlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openai_compat import Limits, Server
from openai_compat.errors import InvalidRequest, RequestTooLarge, UnsupportedMedia
from openai_compat.http import HttpRequest
from openai_compat.policies.content import OUTPUT_STEP, Decompressor, content_coding
from openai_compat.policies.limits import Deadlines
from tests.requirements import requirement
from tests.support.exchanges import answer, ask, exchange_of, one, request

pytestmark = pytest.mark.anyio


def raw_deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush()


CODINGS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "deflate": ("deflate", zlib.compress),
    "deflate without a header": ("deflate", raw_deflate),
}


def sent(body: bytes, *codings: bytes, pieces: int | None = None) -> HttpRequest:
    headers = [(b"content-encoding", coding) for coding in codings]
    return replace(request("/v1/chat/completions", body, *headers), body=in_pieces(body, pieces or len(body) or 1))


async def in_pieces(body: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


@given(st.binary(max_size=2000), st.integers(1, 50), st.sampled_from(list(CODINGS)), st.booleans())
def test_what_was_compressed_comes_out_whatever_the_pieces(data: bytes, size: int, name: str, often: bool) -> None:
    coding, compress = CODINGS[name]
    data *= 500 if often else 1
    decompressor, opened = Decompressor(coding), list[bytes]()
    compressed = compress(data)
    for start in range(0, len(compressed), size):
        opened += decompressor.feed(compressed[start : start + size])
    decompressor.end()
    assert b"".join(opened) == data
    assert max(map(len, opened), default=0) <= OUTPUT_STEP


@requirement("body.compressed")
@pytest.mark.parametrize("name", CODINGS)
async def test_a_compressed_request_is_answered_as_the_plain_one(name: str) -> None:
    coding, compress = CODINGS[name]
    body = compress(json.dumps(ask()).encode())
    for header in (coding, coding.upper(), f" {coding} ", f"identity, {coding}"):
        found = await answer(Server(lambda prompt: f"heard {prompt}"), sent(body, header.encode(), pieces=7))
        assert found.text == "heard hi"


@requirement("body.compressed")
@pytest.mark.parametrize("limit", [0, 1, 1000, OUTPUT_STEP, OUTPUT_STEP + 1])
@pytest.mark.parametrize("name", CODINGS)
async def test_it_is_bounded_by_what_it_becomes(name: str, limit: int) -> None:
    coding, compress = CODINGS[name]
    received: list[bytes] = []
    for size, fits in ((limit, True), (limit + 1, False)):
        body = compress(bytes(size))
        try:
            await exchange_of(sent(body, coding.encode())).feed_body(max(limit, len(body)), 5, received.append)
        except RequestTooLarge:
            assert not fits
        else:
            assert fits or len(body) > limit


@requirement("body.compressed")
@pytest.mark.parametrize("name", CODINGS)
async def test_what_comes_in_is_bounded_too(name: str) -> None:
    coding, compress = CODINGS[name]
    body = compress(random.Random(1).randbytes(1000))  # random data, which compression makes longer
    with pytest.raises(RequestTooLarge):
        exchange = exchange_of(sent(body, coding.encode(), pieces=500))
        await exchange.feed_body(1000, Deadlines().body, lambda piece: None)


def broken() -> dict[str, bytes]:
    whole = gzip.compress(b"{}" * 100)
    return {
        "cut short": whole[:-3],
        "without its end": whole[:12],
        "nothing": b"",
        "a head only": whole[:10],
        "not gzip": b"{}",
        "with another checksum": whole[:-8] + bytes(8),
        "with something after it": whole + b"x",
        "two of them": whole + whole,
        "a head without end": b"\x1f\x8b\x08\x08" + bytes([0, 0, 0, 0, 0, 0]) + b"x" * 3000,
    }


@requirement("body.compressed")
@pytest.mark.parametrize("name", broken())
@pytest.mark.parametrize("pieces", [1, 5, None])
async def test_what_is_not_whole_is_refused(name: str, pieces: int | None) -> None:
    with pytest.raises(InvalidRequest, match=r"gzip body|not valid gzip"):
        await exchange_of(sent(broken()[name], b"gzip", pieces=pieces)).feed_body(10_000, 5, lambda piece: None)


@requirement("body.compressed")
@pytest.mark.parametrize(
    "codings", [[b"br"], [b"zstd"], [b"compress"], [b"gzip, gzip"], [b"gzip", b"deflate"], [b"\xff"]]
)
def test_other_codings_and_several_at_once_are_refused(codings: Any) -> None:
    with pytest.raises(UnsupportedMedia):
        content_coding(sent(b"", *codings))


async def test_a_form_may_be_compressed_too() -> None:
    form = (
        b'--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nuser_data\r\n'
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\nHi\r\n--x--\r\n'
    )
    headers = [
        (b"host", b"localhost"),
        (b"content-type", b"multipart/form-data; boundary=x"),
        (b"content-encoding", b"gzip"),
    ]
    for size, status in ((len(form), 200), (10, 413)):
        server = Server(lambda prompt: prompt, limits=Limits(file=size))
        body = form if status == 200 else form.replace(b"Hi", b"Hi" * 50)
        found = await answer(server, HttpRequest("POST", "/v1/files", "", headers, one(gzip.compress(body))))
        assert found.start.status == status


@requirement("body.mark")
async def test_a_byte_order_mark_is_passed_over_once() -> None:
    body = json.dumps(ask()).encode()
    for marks, status in ((0, 200), (1, 200), (2, 400)):
        found = await answer(
            Server(lambda prompt: prompt), request("/v1/chat/completions", b"\xef\xbb\xbf" * marks + body)
        )
        assert found.start.status == status
