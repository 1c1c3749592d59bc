"""`Server(authenticate=…)`: the function's results and their effect, and the ready-made authenticators of the core."""

from __future__ import annotations

import logging
import threading
from collections.abc import Awaitable
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from openai_compat import (
    ApiKeys,
    Cors,
    Deadlines,
    Principal,
    Server,
    first_of,
    from_header,
    from_scope,
    on_behalf,
    remote_user,
)
from openai_compat.errors import Forbidden, RateLimited, Unauthorized
from openai_compat.http import HttpRequest
from openai_compat.policies.authenticate import Hosts
from openai_compat_adapters.starlette import create_app, endpoint
from tests.requirements import requirement
from tests.support.exchanges import LOCALHOST, Recorder, answer, ask, bearing, one, request
from tests.trust.probe import soon

pytestmark = pytest.mark.anyio
ANN = Principal("user:ann")
KEYED = (b"authorization", b"Bearer token-of-ann")


async def whoami(request: Any) -> str:
    return f"{request.principal.id} {dict(request.principal.claims)}"


async def asked(authenticate: Any, *headers: tuple[bytes, bytes], **settings: Any) -> Recorder:
    server = Server(whoami, authenticate=authenticate, **settings)
    return await answer(server, request("/v1/chat/completions", ask(), *headers))


async def found(authenticate: Any, sent: HttpRequest) -> Any:
    result = authenticate(sent)
    return await result if isinstance(result, Awaitable) else result


@requirement("auth.function")
async def test_a_plain_function_says_who_calls_and_agents_read_the_claims() -> None:
    seen: list[str | None] = []

    def authenticate(request: HttpRequest) -> Principal:
        seen.append(request.header(b"authorization"))
        return Principal("user:ann", claims={"team": "blue"})

    sent = await asked(authenticate, KEYED)
    assert (sent.status, sent.text) == (200, "user:ann {'team': 'blue'}")
    assert seen == ["Bearer token-of-ann"]


@requirement("auth.function")
async def test_an_asynchronous_function_says_who_calls() -> None:
    async def authenticate(request: HttpRequest) -> Principal:
        await anyio.lowlevel.checkpoint()
        return ANN

    assert (await asked(authenticate, KEYED)).text == "user:ann {}"


@requirement("auth.function")
async def test_none_is_a_refusal_that_says_nothing_of_why() -> None:
    sent = await asked(lambda request: None, KEYED)
    assert (sent.status, sent.error["code"]) == (401, "invalid_api_key")
    assert sent.headers["www-authenticate"] == "Bearer"


@requirement("auth.function")
@pytest.mark.parametrize(
    "error",
    [
        Unauthorized("No.", code="invalid_token", headers={"WWW-Authenticate": 'Bearer error="invalid_token"'}),
        Forbidden("No.", code="insufficient_scope"),
        RateLimited("No.", retry_after=7),
    ],
    ids=lambda error: error.code,
)
async def test_one_of_our_errors_is_the_answer_as_it_is(error: Any, caplog: pytest.LogCaptureFixture) -> None:
    def authenticate(request: HttpRequest) -> Principal:
        raise error

    error.add_note("it was never theirs")
    with caplog.at_level(logging.INFO, "openai_compat"):
        sent = await asked(authenticate, KEYED)
    assert (sent.status, sent.error["code"], sent.error["message"]) == (error.status, error.code, "No.")
    assert sent.headers.get("www-authenticate") == error.headers.get("WWW-Authenticate")
    assert sent.headers.get("retry-after") == (f"{error.retry_after:g}" if error.retry_after else None)
    assert f"{sent.headers['x-request-id']}: it was never theirs" in caplog.messages  # only operators see this


def raises(request: HttpRequest) -> Principal:
    raise RuntimeError("the directory at 10.0.0.7 is down")


async def raises_later(request: HttpRequest) -> Principal:
    await anyio.lowlevel.checkpoint()
    raise RuntimeError("the directory at 10.0.0.7 is down")


async def reads_the_body(request: HttpRequest) -> Principal:
    async for _ in request.body:
        pass
    return ANN


@requirement("auth.closed")
@pytest.mark.parametrize(
    "authenticate",
    [
        raises,
        raises_later,
        reads_the_body,
        lambda request: True,
        lambda request: "ann",
        lambda request: Principal(""),
        lambda request: Principal("a" * 256),
        lambda request: Principal("ann\n"),
        lambda request: Principal("ann\ud800"),
        lambda request: Principal("anonymous"),
    ],
)
async def test_a_function_that_fails_lets_nobody_in(authenticate: Any, caplog: pytest.LogCaptureFixture) -> None:
    sent = await asked(authenticate, KEYED)
    assert (sent.status, sent.error["code"], sent.headers["retry-after"]) == (503, "auth_unavailable", "5")
    assert b"10.0.0.7" not in sent.data
    assert f"{sent.headers['x-request-id']}: authenticate failed" in caplog.messages
    assert "token-of-ann" not in caplog.text


@requirement("auth.closed")
@pytest.mark.parametrize("how", ["waits", "in a thread", "shielded"])
async def test_a_function_that_hangs_lets_nobody_in_after_its_deadline(
    how: str, caplog: pytest.LogCaptureFixture
) -> None:
    going, release, ended = anyio.Event(), threading.Event(), list[bool]()

    async def authenticate(request: HttpRequest) -> Principal:
        going.set()
        try:
            if how == "in a thread":
                await anyio.to_thread.run_sync(release.wait, 20)
            elif how == "shielded":
                with anyio.CancelScope(shield=True):
                    while not release.is_set():
                        await anyio.sleep(0.01)
            else:
                await anyio.sleep_forever()
        finally:
            ended.append(True)
        return ANN

    sent = await asked(authenticate, KEYED, deadlines=Deadlines(auth=0.05))
    release.set()
    assert (sent.status, sent.error["code"]) == (503, "auth_unavailable")
    assert going.is_set()
    assert "within 0.05 s" in caplog.text
    await soon(lambda: ended)


@requirement("auth.closed")
async def test_a_function_stops_when_its_request_is_cancelled() -> None:
    begun, ended = anyio.Event(), anyio.Event()

    async def authenticate(request: HttpRequest) -> Principal:
        begun.set()
        try:
            await anyio.sleep_forever()
        finally:
            ended.set()

    server = Server(whoami, authenticate=authenticate)
    async with anyio.create_task_group() as group:
        group.start_soon(server.handle, request(body=ask()), Recorder())
        await begun.wait()
        group.cancel_scope.cancel()
    with anyio.fail_after(5):
        await ended.wait()


@requirement("auth.secret")
async def test_an_exception_that_quotes_the_key_is_logged_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    def authenticate(request: HttpRequest) -> Principal:
        raise ValueError(f"cannot parse {request.header(b'authorization')}")

    def of_cookie(request: HttpRequest) -> Principal:
        raise ValueError("no session s3ss10n")

    await asked(authenticate, KEYED)
    await asked(of_cookie, (b"cookie", b"theme=dark; session=s3ss10n"))
    assert "token-of-ann" not in caplog.text
    assert "s3ss10n" not in caplog.text
    assert caplog.text.count("authenticate failed (ValueError, not shown: it quotes a key)") == 2


@requirement("auth.secret")
def test_claims_are_no_part_of_who_it_is_and_are_not_shown() -> None:
    known = Principal("ann", claims={"email": "ann@example.com"})
    assert "example" not in repr(known)
    assert known == Principal("ann")
    assert hash(known) == hash(Principal("ann"))


async def test_keys_are_asked_before_the_function() -> None:
    settings: Any = {"keys": {"sk-1": "robot"}}
    assert (await asked(lambda request: ANN, (b"authorization", b"Bearer sk-1"), **settings)).text == "robot {}"
    assert (await asked(lambda request: ANN, KEYED, **settings)).text == "user:ann {}"
    assert (await asked(lambda request: None, KEYED, **settings)).status == 401


async def test_a_plain_function_costs_no_task(monkeypatch: pytest.MonkeyPatch) -> None:
    def spawned(*arguments: Any) -> Any:
        raise AssertionError("a task was made")

    monkeypatch.setattr("openai_compat.policies.authenticate.spawn_at_once", spawned)
    joined = first_of(lambda request: None, on_behalf(ApiKeys({"token-of-ann": "ann"}), "x-user", of=["other"]))
    assert (await asked(joined, KEYED)).text == "ann {}"


def test_what_is_no_function_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match="authenticate is a function, or None, not 'sk-1'"):
        Server(whoami, authenticate="sk-1")


# first_of


async def refuses(request: HttpRequest) -> None:
    raise Unauthorized("Expired.", code="invalid_token")


async def knows_ann(request: HttpRequest) -> Principal:
    return ANN


@pytest.mark.parametrize(
    ("authenticators", "expected"),
    [
        ((lambda request: None, lambda request: ANN), 200),
        ((refuses, lambda request: ANN), 200),
        ((lambda request: None, refuses, knows_ann), 200),
        ((knows_ann, raises), 200),
        ((lambda request: None, refuses), "invalid_token"),
        ((refuses, lambda request: None), "invalid_token"),
        ((lambda request: None,), "invalid_api_key"),
        ((), "invalid_api_key"),
        ((raises, knows_ann), "auth_unavailable"),
        ((raises_later, knows_ann), "auth_unavailable"),
        ((lambda request: True, knows_ann), "auth_unavailable"),
    ],
)
async def test_the_first_who_knows_the_caller_says_who_it_is(authenticators: Any, expected: int | str) -> None:
    sent = await asked(first_of(*authenticators), KEYED)
    assert sent.status == expected or sent.error["code"] == expected


# from_scope


class User:
    def __init__(self, id: str, is_authenticated: bool = True) -> None:
        self.id, self.is_authenticated = id, is_authenticated


def scoped(**scope: Any) -> HttpRequest:
    return HttpRequest("GET", "/v1/models", "", [LOCALHOST], one(b""), scope=scope)


@requirement("auth.ready")
@pytest.mark.parametrize(
    ("scope", "at", "expected"),
    [
        ({"user": User("ann")}, "user", "user:ann"),
        ({"user": User("ann", is_authenticated=False)}, "user", None),
        ({"user": User("")}, "user", None),
        ({"user": None}, "user", None),
        ({}, "user", None),
        ({"state": {"user": User("ann")}}, "state.user", "user:ann"),
        ({"state": {}}, "state.user", None),
        ({}, "state.user", None),
    ],
)
async def test_who_has_logged_in_to_the_application_around_is_who_calls(
    scope: Any, at: str, expected: str | None
) -> None:
    principal = await found(from_scope(lambda user: user.id, at=at), scoped(**scope))
    assert (principal and principal.id) == expected


@requirement("auth.ready")
async def test_a_function_may_say_the_whole_principal() -> None:
    whole = Principal("7", frozenset(["helper"]))
    assert await found(from_scope(lambda user: whole), scoped(user=User("ann"))) is whole


@requirement("auth.ready")
@pytest.mark.parametrize(("environ", "expected"), [({"REMOTE_USER": "ann"}, "user:ann"), ({"REMOTE_USER": ""}, None)])
async def test_whom_the_web_server_has_logged_in_is_who_calls(environ: Any, expected: str | None) -> None:
    principal = await found(remote_user(), scoped(**environ))
    assert (principal and principal.id) == expected


# from_header


def from_proxy(*headers: tuple[bytes, bytes], **scope: Any) -> HttpRequest:
    return HttpRequest(
        "GET", "/v1/models", "", [LOCALHOST, *headers], one(b""), scope={"client": ("10.1.2.3", 5), **scope}
    )


USER = (b"x-forwarded-user", b"ann")
SECRET = (b"x-proxy-secret", b"between-us")
OUTSIDE = {"client": ("192.0.2.1", 5)}
WSGI = {"wsgi.version": (1, 0)}


@requirement("auth.spoofing")
@pytest.mark.parametrize(
    ("sent", "peers", "shared"),
    [
        (from_proxy(USER), "proxy:ann", None),
        (from_proxy(USER, client=("::ffff:10.1.2.3", 5)), "proxy:ann", None),
        (from_proxy(USER, **OUTSIDE), None, None),
        (from_proxy(USER, client=None), None, None),
        (from_proxy(USER, client=("testclient", 5)), None, None),
        (from_proxy((b"x_forwarded_user", b"ann")), None, None),
        (from_proxy(USER, (b"x_forwarded_user", b"eve")), "proxy:ann", None),
        (from_proxy(USER, USER), None, None),
        (from_proxy(USER, (b"x-forwarded-user", b"eve")), None, None),
        (from_proxy(), None, None),
        (from_proxy((b"x-forwarded-user", b"")), None, None),
        (from_proxy((b"x-forwarded-user", b"\xff")), None, None),
        (from_proxy((b"x-forwarded-user", "ännä".encode())), "proxy:ännä", None),
        (from_proxy((b"x-forwarded-user", b"cn=ann,ou=x")), "proxy:cn=ann,ou=x", None),
        (from_proxy(USER, SECRET, **OUTSIDE), None, "proxy:ann"),
        (from_proxy(USER, (b"x-proxy-secret", b"between-u"), **OUTSIDE), None, None),
        (from_proxy(USER, (b"x-proxy-secret", b""), **OUTSIDE), None, None),
        (from_proxy(USER, (b"x-proxy-secret", b"\xff"), **OUTSIDE), None, None),
        (from_proxy(USER, SECRET, SECRET, **OUTSIDE), None, None),
        (from_proxy(USER, SECRET, **OUTSIDE, **WSGI), ValueError, "proxy:ann"),
        (from_proxy((b"x-forwarded-user", b"eve,ann"), SECRET, **OUTSIDE, **WSGI), ValueError, None),
    ],
)
async def test_a_proxys_header_counts_once_in_its_own_spelling_and_from_the_proxy_alone(
    sent: HttpRequest, peers: Any, shared: str | None
) -> None:
    by_address = from_header("X-Forwarded-User", peers=["10.0.0.0/8"])
    by_secret = from_header("X-Forwarded-User", shared=("X-Proxy-Secret", "between-us"))
    if peers is ValueError:
        with pytest.raises(ValueError, match="WSGI"):
            await found(by_address, sent)
    else:
        principal = await found(by_address, sent)
        assert (principal and principal.id) == peers
    principal = await found(by_secret, sent)
    assert (principal and principal.id) == shared


@pytest.mark.parametrize("how", [{}, {"peers": ["10.0.0.1"], "shared": ("x", "y")}, {"shared": ("x", "")}])
def test_without_a_way_to_know_the_proxy_its_header_cannot_be_asked_for(how: Any) -> None:
    with pytest.raises(ValueError, match="peers"):
        from_header("x-forwarded-user", **how)


# on_behalf


PROGRAMS = ApiKeys({"sk-webui": Principal("open-webui", frozenset(["helper"])), "sk-eve": "eve"})


@requirement("auth.on-behalf")
@pytest.mark.parametrize(
    ("key", "users", "expected"),
    [
        ("sk-webui", ["7"], "open-webui/7"),
        ("sk-webui", [], "open-webui"),
        ("sk-webui", ["7", "8"], "open-webui"),
        ("sk-eve", ["7"], "eve"),
        ("sk-wrong", ["7"], None),
    ],
)
async def test_a_program_that_may_names_its_user_and_nobody_else_does(
    key: str, users: list[str], expected: str | None
) -> None:
    headers = [(b"authorization", f"Bearer {key}".encode()), *[(b"x-user-id", user.encode()) for user in users]]
    sent = HttpRequest("GET", "/v1/models", "", headers, one(b""))
    principal = await found(on_behalf(PROGRAMS, "X-User-Id", of=["open-webui"]), sent)
    assert (principal and principal.id) == expected
    assert expected is None or principal.models == (None if key == "sk-eve" else {"helper"})


@requirement("auth.on-behalf")
async def test_users_of_a_program_may_be_told_by_another_authenticator() -> None:
    async def inner(request: HttpRequest) -> Principal:
        return Principal("open-webui", claims={"tier": "team"})

    async def user(request: HttpRequest) -> Principal:
        return Principal("7", claims={"role": "admin"})

    principal = await found(on_behalf(inner, user, of=["open-webui"]), bearing("any"))
    assert principal.id == "open-webui/7"
    assert principal.claims == {"tier": "team", "role": "admin"}


def test_a_program_is_not_called_as_the_user_of_another() -> None:
    with pytest.raises(ValueError, match="of two programs"):
        on_behalf(PROGRAMS, "x-user-id", of=["webui", "webui/7"])


# credentials that a browser adds on its own


def logged_in(request: HttpRequest) -> Principal:
    return ANN


OWN_PAGE, OTHER_PAGE = (b"origin", b"http://localhost"), (b"origin", b"https://evil.example")


@requirement("auth.ambient")
@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("POST", "/v1/responses/resp_1/cancel", (), 404),
        ("POST", "/v1/responses/resp_1/cancel", (OWN_PAGE,), 404),
        ("POST", "/v1/responses/resp_1/cancel", (OTHER_PAGE,), 403),
        ("POST", "/v1/responses/resp_1/cancel", ((b"origin", b"null"),), 403),
        ("POST", "/v1/responses/resp_1/cancel", ((b"sec-fetch-site", b"cross-site"),), 403),
        ("POST", "/v1/responses/resp_1/cancel", ((b"sec-fetch-site", b"same-origin"),), 404),
        # a browser also adds this on its own
        ("POST", "/v1/responses/resp_1/cancel", (OTHER_PAGE, (b"authorization", b"Basic YW5uOnB3")), 403),
        ("POST", "/v1/responses/resp_1/cancel", (OTHER_PAGE, KEYED), 404),
        ("DELETE", "/v1/responses/resp_1", (OTHER_PAGE,), 403),
        ("GET", "/v1/models", (OTHER_PAGE,), 403),
        ("GET", "/v1/models", ((b"sec-fetch-site", b"cross-site"),), 200),
    ],
)
async def test_a_login_that_browsers_send_along_is_good_for_the_servers_own_pages(
    method: str, path: str, headers: Any, status: int
) -> None:
    server = Server(whoami, authenticate=logged_in)
    sent = await answer(server, request(path, b"", *headers, method=method))
    assert sent.status == status
    assert status != 403 or sent.error["code"] == "origin_not_allowed"


@requirement("auth.ambient")
@pytest.mark.parametrize(("cors", "status"), [(Cors(["https://evil.example"]), 404), (Cors(regex="https://.*"), 403)])
async def test_pages_that_are_named_may_use_it_and_those_that_an_expression_matches_may_not(
    cors: Cors, status: int
) -> None:
    server = Server(whoami, authenticate=logged_in, cors=cors)
    sent = await answer(server, request("/v1/responses/resp_1/cancel", b"", OTHER_PAGE))
    assert sent.status == status


@requirement("auth.ambient")
@pytest.mark.parametrize(("headers", "status"), [((), 403), ((KEYED,), 200)])
@pytest.mark.parametrize("host", [b"evil.example", b"app.example"])
async def test_without_a_token_it_answers_only_by_its_own_names(host: bytes, headers: Any, status: int) -> None:
    server = Server(whoami, authenticate=logged_in, hosts=["app.example"])
    asked = HttpRequest("GET", "/v1/models", "", [(b"host", host), *headers], one(b""))
    assert (await answer(server, asked)).status == (200 if host == b"app.example" else status)


# all callers are one principal


@requirement("auth.unused-login")
@pytest.mark.parametrize("scope", [{"user": User("ann")}, {"REMOTE_USER": "ann"}])
async def test_a_login_in_front_that_is_not_used_is_told_once(scope: Any, caplog: pytest.LogCaptureFixture) -> None:
    server = Server(whoami)
    for _ in range(3):
        await answer(server, scoped(**scope))
    assert caplog.text.count("all its users are one caller") == 1


@requirement("auth.unused-login")
@pytest.mark.parametrize(
    ("settings", "times"), [({}, 1), ({"keys": ["sk-1"]}, 0), ({"authenticate": lambda _: None}, 0)]
)
def test_as_it_is_mounted_a_server_tells_that_all_are_one_caller(
    settings: dict[str, Any], times: int, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "openai_compat"):
        server = Server(whoami, **settings)
        create_app(server)  # a whole application, without another login
        endpoint(server)
    assert caplog.text.count("are one caller") == times


@pytest.mark.parametrize("scope", [{}, {"user": User("", is_authenticated=False)}, {"user": None}])
async def test_without_a_login_nothing_is_told(scope: Any, caplog: pytest.LogCaptureFixture) -> None:
    await answer(Server(whoami), scoped(**scope))
    assert "caller" not in caplog.text


# accepted host names


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
