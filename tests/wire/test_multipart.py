"""Multipart forms parse the same, however the network splits them."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openai_compat.errors import InvalidRequest, RequestTooLarge
from openai_compat.wire.files import parse_upload, upload_form
from openai_compat.wire.multipart import MultipartForm

KIND = 'multipart/form-data; boundary="a-b"'
CONTENT = b"\r\n--a-c\r\n--a-\x00\xff\r\n\r\n"
BODY = (
    b'--a-b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nvision\r\n'
    b'--a-b\r\ncontent-disposition: form-data; name="file"; filename="a.png"\r\nContent-TYPE: image/png\r\n\r\n'
    + CONTENT
    + b"\r\n--a-b--\r\n"
)


def feed_form(*pieces: bytes, limit: int = 1000) -> MultipartForm:
    form = upload_form(KIND, limit)
    for piece in pieces:
        form.feed(piece)
    return form


@pytest.mark.parametrize("cut", range(len(BODY) + 1))
def test_a_form_says_the_same_wherever_it_is_cut(cut: int) -> None:
    upload = parse_upload(feed_form(BODY[:cut], BODY[cut:]).parts())
    assert (upload.filename, upload.media_type, upload.purpose) == ("a.png", "image/png", "vision")
    assert upload.content == CONTENT


def test_a_form_may_come_byte_by_byte() -> None:
    assert parse_upload(feed_form(*[bytes([byte]) for byte in BODY]).parts()).content == CONTENT


@pytest.mark.parametrize("length", range(BODY.rindex(b"--\r\n")))
def test_a_form_that_is_cut_off_is_none(length: int) -> None:
    with pytest.raises(InvalidRequest) as caught:
        feed_form(BODY[:length]).parts()
    assert (caught.value.status, caught.value.code) == (400, "invalid_request")


@given(st.binary(max_size=2000), st.integers(1, 7))
def test_any_bytes_come_back_as_they_were(content: bytes, size: int) -> None:
    body = BODY.replace(CONTENT, content)
    if b"\r\n--a-b" in content:
        return
    form = feed_form(*[body[start : start + size] for start in range(0, len(body), size)], limit=2000)
    assert form.parts()["file"].content == content


@given(st.binary(max_size=500))
def test_what_is_no_form_is_refused_and_nothing_else_happens(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        feed_form(body).parts()


@given(st.lists(st.sampled_from([BODY[:80], BODY[80:], b"--a-b", b"--", b"\r\n", b": ", b'name="file"', b"\x00"])))
def test_shuffled_forms_are_read_or_refused(pieces: list[bytes]) -> None:
    with suppress(InvalidRequest):
        assert set(feed_form(*pieces).parts()) <= {"file", "purpose"}


def test_a_file_over_the_limit_is_refused_at_the_byte_that_is_too_much() -> None:
    start = BODY.index(CONTENT)
    form = feed_form(BODY[:start], limit=10)
    form.feed(b"x" * 10)
    with pytest.raises(RequestTooLarge) as caught:
        form.feed(b"xyz" * 100)
    assert caught.value.param == "file"
