"""Which names a server without a key answers to."""

from __future__ import annotations

import pytest

from openai_compat.errors import Forbidden
from openai_compat.http import HttpRequest
from openai_compat.policies.hosts import Hosts
from tests.support.exchanges import one


def check(hosts: Hosts, *names: bytes) -> bool:
    try:
        hosts.check(HttpRequest("GET", "/", "", [(b"host", name) for name in names], one(b"")))
    except Forbidden:
        return False
    return True


@pytest.mark.parametrize(
    "name",
    [
        b"localhost",
        b"LOCALHOST",
        b"localhost:8083",
        b"127.0.0.1",
        b"127.0.0.1:1",
        b"[::1]",
        b"[::1]:8083",
        b"localhost:",
    ],
)
def test_loopback_names_pass(name: bytes) -> None:
    assert check(Hosts(), name)


@pytest.mark.parametrize(
    "name",
    [
        b"evil.example",
        b"localhost.evil.example",
        b"evil.example:80",
        b"localhost@evil.example",
        b"localhost, evil.example",
        b"127.0.0.1.evil.example",
        b"127.0.0.2",
        b"::1",
        b"[::1",
        b"[::2]",
        b"localhost:80:80",
        b"localhost:a",
        b"localhost\x00",
        b"localh\xf6st",
        b" localhost",
        b"",
    ],
)
def test_any_other_name_does_not(name: bytes) -> None:
    assert not check(Hosts(), name)


def test_two_hosts_are_none() -> None:
    assert not check(Hosts(), b"localhost", b"localhost")


def test_http_1_0_needs_no_host() -> None:
    assert check(Hosts())


def test_other_names_can_be_allowed() -> None:
    assert check(Hosts(["Box.Local"]), b"box.local:8083")
    assert not check(Hosts(["box.local"]), b"localhost")
    assert check(Hosts(["*"]), b"anything.example")


def test_the_refusal_says_why() -> None:
    with pytest.raises(Forbidden) as caught:
        Hosts().check(HttpRequest("GET", "/", "", [(b"host", b"evil.example")], one(b"")))
    assert (caught.value.status, caught.value.code) == (403, "host_not_allowed")
    assert "evil" not in caught.value.message
