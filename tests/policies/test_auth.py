"""API keys: their sources, and the tokens that are accepted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openai_compat import Server, key_from_env, key_from_file
from openai_compat.errors import Unauthorized, Unavailable
from openai_compat.http import HttpRequest
from openai_compat.policies.auth import ApiKeys, with_key_of_headers
from openai_compat.policies.authenticate import OpenAccess
from tests.support.exchanges import answer, one, request

pytestmark = pytest.mark.anyio


def bearing(*values: bytes) -> HttpRequest:
    return HttpRequest("GET", "/v1/models", "", [(b"authorization", value) for value in values], one(b""))


async def opens(auth: ApiKeys, *values: bytes) -> bool:
    try:
        await auth.principal(bearing(*values))
    except Unauthorized:
        return False
    return True


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"Bearer key", True),
        (b"bearer key", True),
        (b"BEARER   key", True),
        (b"Bearer Key", False),
        (b"Bearer ke", False),
        (b"Bearer keys", False),
        (b"Bearer key ", False),
        (b" Bearer key", False),
        (b"Bearer\tkey", False),
        (b"Bearer", False),
        (b"Bearer ", False),
        (b"key", False),
        (b"Basic a2V5", False),
        (b"Token key", False),
        (b"Bearer key\x00", False),
        (b"Bearer k\xe9y", False),
        (b"", False),
    ],
)
async def test_exactly_the_key_in_the_bearer_scheme_opens(value: bytes, expected: bool) -> None:
    assert await opens(ApiKeys("key"), value) is expected


async def test_two_headers_are_no_key_even_if_both_are_right() -> None:
    assert not await opens(ApiKeys("key"), b"Bearer key", b"Bearer key")
    assert not await opens(ApiKeys("key"))


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([(b"api-key", b"key")], True),
        ([(b"api-key", b"wrong")], False),
        ([(b"api-key", b"")], False),
        ([(b"api-key", b"Bearer key")], False),
        ([(b"api-key", b" key")], False),
        ([(b"api-key", b"key"), (b"api-key", b"key")], False),
        ([(b"api-key", b"key"), (b"authorization", b"Bearer key")], True),
        ([(b"api-key", b"key"), (b"authorization", b"Bearer wrong")], False),
        ([(b"api-key", b"wrong"), (b"authorization", b"Bearer key")], False),
        ([(b"api-key", b"key"), (b"authorization", b"Basic a2V5")], False),
        ([(b"api-key", b"key"), (b"authorization", b"")], False),
    ],
)
async def test_azures_header_opens_as_well_and_two_that_differ_do_not(headers: Any, expected: bool) -> None:
    found = HttpRequest("GET", "/v1/models", "", headers, one(b""))
    try:
        await ApiKeys("key").principal(found)
    except Unauthorized:
        assert not expected
    else:
        assert expected


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([(b"x-own", b"key")], True),
        ([(b"x-own", b"key"), (b"x-other", b"key")], True),
        ([(b"x-own", b"key"), (b"api-key", b"key")], True),
        ([(b"x-own", b"key"), (b"authorization", b"Bearer key")], True),
        ([(b"x-own", b"key"), (b"api-key", b"key"), (b"authorization", b"Bearer key")], True),
        ([(b"x-own", b"key"), (b"x-other", b"wrong")], False),
        ([(b"x-own", b"key"), (b"api-key", b"wrong")], False),
        ([(b"x-own", b"wrong"), (b"api-key", b"key")], False),
        ([(b"x-own", b"key"), (b"api-key", b"key"), (b"authorization", b"Bearer wrong")], False),
        ([(b"x-own", b"")], False),
        ([], False),
    ],
)
async def test_the_same_key_in_several_headers_is_one_key(headers: Any, expected: bool) -> None:
    found = HttpRequest("GET", "/v1/models", "", headers, one(b""))
    try:
        await ApiKeys("key").principal(with_key_of_headers(found, ["x-own", "x-other"]))
    except Unauthorized:
        assert not expected
    else:
        assert expected


@given(st.text(st.characters(exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"]), min_size=1, max_size=20))
def test_any_key_without_spaces_opens_as_utf_8(key: str) -> None:
    principal = _finish(ApiKeys(key).principal(bearing(b"Bearer " + key.encode())))
    assert key not in principal.id or len(key) < 5


@given(st.binary(max_size=40))
def test_no_bytes_but_the_key_open_and_none_make_it_fail(value: bytes) -> None:
    with pytest.raises(Unauthorized):
        _finish(ApiKeys("long and s3cret".replace(" ", "-")).principal(bearing(value)))


def _finish(coroutine: Any) -> Any:
    """Run a coroutine that never waits, so that hypothesis needs no event loop."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waited")


async def test_who_calls_is_told_apart_by_key_and_the_name_is_not_the_key() -> None:
    auth = ApiKeys(["key-of-ann", "key-of-bob"])
    ann, bob = await auth.principal(bearing(b"Bearer key-of-ann")), await auth.principal(bearing(b"Bearer key-of-bob"))
    assert ann == await auth.principal(bearing(b"bearer key-of-ann"))
    assert ann != bob
    assert "ann" not in ann.id


async def async_source() -> list[str]:
    return ["key"]


@pytest.mark.parametrize(
    "keys", ["key", ["other", "key"], {"key"}, lambda: "key", lambda: iter(["key", ""]), async_source]
)
async def test_keys_come_from_anywhere(keys: Any) -> None:
    auth = ApiKeys(keys)
    for _ in range(2):
        assert await opens(auth, b"Bearer key")
    assert not await opens(auth, b"Bearer wrong")


async def test_keys_that_can_be_read_only_once_are_kept() -> None:
    auth = ApiKeys(iter(["key"]))
    assert [await opens(auth, b"Bearer key") for _ in range(2)] == [True, True]


@pytest.mark.parametrize("keys", ["", [], [""], lambda: None, lambda: "", list, lambda: ["", ""]])
@pytest.mark.parametrize("sent", [b"Bearer key", b"Bearer ", b""])
async def test_a_source_without_a_key_disables_and_never_opens(keys: Any, sent: bytes) -> None:
    with pytest.raises(Unavailable) as caught:
        await ApiKeys(keys).principal(bearing(sent))
    assert (caught.value.status, caught.value.code) == (503, "chat_endpoint_disabled")
    assert caught.value.should_retry is False


async def test_keys_from_the_environment_are_read_for_every_request(monkeypatch: pytest.MonkeyPatch) -> None:
    auth = ApiKeys(key_from_env("TEST_KEYS"))
    monkeypatch.setenv("TEST_KEYS", "one, two ,")
    assert [await opens(auth, b"Bearer " + key) for key in (b"one", b"two", b"three")] == [True, True, False]
    monkeypatch.setenv("TEST_KEYS", "three")
    assert [await opens(auth, b"Bearer " + key) for key in (b"one", b"two", b"three")] == [False, False, True]
    monkeypatch.delenv("TEST_KEYS")
    with pytest.raises(Unavailable):
        await opens(auth, b"Bearer three")


async def test_keys_from_a_file_are_read_for_every_request(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    auth = ApiKeys(key_from_file(path))
    with pytest.raises(Unavailable):
        await opens(auth, b"Bearer one")
    path.write_text("# of the team\n\n  one  \r\ntwo\n  # three\n", "utf-8")
    assert [await opens(auth, b"Bearer " + key) for key in (b"one", b"two", b"#", b"three")] == [
        True,
        True,
        False,
        False,
    ]
    path.write_text("", "utf-8")
    with pytest.raises(Unavailable):
        await opens(auth, b"Bearer one")


def broken() -> str:
    raise PermissionError("s3cr3t path")


@pytest.mark.parametrize("source", [broken, lambda: 5, lambda: [5]])
async def test_a_source_that_fails_lets_nobody_in(source: Callable[[], Any], caplog: pytest.LogCaptureFixture) -> None:
    sent = await answer(
        Server(lambda prompt: "hi", keys=source),
        request("/v1/models", None, (b"authorization", b"Bearer key"), method="GET"),
    )
    assert (sent.status, sent.error["code"]) == (500, "internal_error")
    assert b"s3cr3t" not in sent.data
    assert "unexpected error" in caplog.text


async def test_open_access_knows_nobody() -> None:
    assert (await OpenAccess().principal(bearing())).id == "anonymous"
