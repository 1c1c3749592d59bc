"""Tokens of an identity provider that is a real server: JWTs, and introspected tokens."""

from __future__ import annotations

import hmac
import json
import logging
import time
from collections.abc import Awaitable, Iterator
from typing import Any

import anyio
import jwt
import pytest

from openai_compat import ApiKeys, Principal, Server, first_of, on_behalf
from openai_compat.errors import Unauthorized, Unavailable
from openai_compat_adapters._oauth import key_set
from openai_compat_adapters._oauth.key_set import KeySet, read_keys
from openai_compat_adapters._oauth.result_cache import ResultCache
from openai_compat_adapters.oauth import LONGEST, Introspection, Jwt
from tests.adapters.identity_provider import ALGORITHMS, AUDIENCE, Provider, private_key, provider, public
from tests.requirements import requirement
from tests.support.exchanges import Recorder, answer, ask, bearing, request
from tests.transports import TRANSPORTS, reach

pytestmark = pytest.mark.anyio
SECRET = "a secret between the two of us, long enough"


@pytest.fixture
def idp() -> Iterator[Provider]:
    with provider() as found:
        yield found


def named(idp: Provider, subject: str = "ann") -> str:
    return f"jwt:{idp.url}#{subject}"


async def who(authenticate: Any, token: str) -> Any:
    found = authenticate(bearing(token))
    return await found if isinstance(found, Awaitable) else found


async def whoami(request: Any) -> str:
    return f"{request.principal.id} {request.principal.claims.get('scope')}"


async def asked(authenticate: Any, token: str) -> Recorder:
    sent = request("/v1/chat/completions", ask(), (b"authorization", f"Bearer {token}".encode("latin-1")))
    return await answer(Server(whoami, authenticate=authenticate), sent)


@requirement("auth.jwt")
@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("where", ["discovered", "at a URL", "given"])
async def test_a_token_of_the_issuer_says_who_calls(idp: Provider, algorithm: str, where: str) -> None:
    jwks: Any = {"discovered": None, "at a URL": f"{idp.url}/keys", "given": idp.jwks}[where]
    sent = await asked(Jwt(idp.url, AUDIENCE, jwks=jwks), idp.token(algorithm))
    assert (sent.status, sent.text) == (200, f"{named(idp)} agents read")
    paths = ["/.well-known/openid-configuration", "/keys"]
    assert idp.asked == {"discovered": paths, "at a URL": paths[1:], "given": []}[where]


@requirement("auth.jwt")
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_tokens_are_good_over_every_transport(idp: Provider, transport: str) -> None:
    server = Server(whoami, authenticate=Jwt(idp.url, AUDIENCE))
    async with reach(server, transport) as client:
        for token, status in ((idp.token(), 200), (idp.token(exp=1), 401), (idp.token("ES256"), 200)):
            sent = await client.post("/v1/chat/completions", json=ask(), headers={"authorization": f"Bearer {token}"})
            assert sent.status_code == status


def encoded(**head: Any) -> str:
    return jwt.utils.base64url_encode(json.dumps(head).encode()).decode()


def by_hand(claims: Any, secret: bytes) -> str:
    """Sign a token with HS256 and a secret that PyJWT would refuse."""
    pieces = [json.dumps(part).encode() for part in ({"alg": "HS256", "typ": "JWT", "kid": "RS256-0"}, claims)]
    signed = b".".join(map(jwt.utils.base64url_encode, pieces))
    return (signed + b"." + jwt.utils.base64url_encode(hmac.digest(secret, signed, "sha256"))).decode()


def forged(idp: Provider) -> dict[str, str]:
    good = idp.token()
    head, body, signature = good.split(".")
    none = jwt.encode(idp.claims(), None, "none", headers={"kid": "RS256-0"})
    return {
        "expired": idp.token(exp=int(time.time()) - 60),
        "without an end": idp.token(exp=None),
        "not yet good": idp.token(nbf=int(time.time()) + 600),
        "of another issuer": idp.token(iss="https://evil.example"),
        "without an issuer": idp.token(iss=None),
        "for others": idp.token(aud="payroll"),
        "for nobody": idp.token(aud=None),
        "nobody's": idp.token(sub=None),
        "a number's": idp.token(sub=7),
        "unsigned": none,
        "unsigned, in capitals": jwt.utils.base64url_encode(b'{"alg":"NONE"}').decode() + f".{body}.",
        "without its signature": f"{head}.{body}.",
        "changed": f"{head}.{jwt.utils.base64url_encode(json.dumps(idp.claims(sub='root')).encode()).decode()}.{signature}",
        "signed by another key": idp.token(kid="RS256-0", number=1),
        "of another algorithm's key": idp.token("ES256", kid="RS256-0"),
        "signed with the public key": by_hand(idp.claims(), json.dumps(idp.jwks["keys"][0]).encode()),
        "signed with the key's id": jwt.encode(idp.claims(), "RS256-0" * 8, "HS256", headers={"kid": "RS256-0"}),
        "with its own key": jwt.encode(
            idp.claims(),
            private_key("RS256", 1),
            "RS256",
            headers={"jwk": public("RS256", "RS256-0", 1), "jku": "https://evil.example/keys", "kid": "RS256-9"},
        ),
        "with extensions": jwt.encode(
            idp.claims(), private_key("RS256"), "RS256", headers={"kid": "RS256-0", "crit": ["exp"]}
        ),
        "of an unknown key": idp.token(kid="../../etc/passwd"),
        "of a key with a number": f"{encoded(alg='RS256', kid=7)}.{body}.{signature}",
        "of a list of algorithms": f"{encoded(alg=['RS256'], kid='RS256-0')}.{body}.{signature}",
        "with a list for a head": f"{jwt.utils.base64url_encode(b'[]').decode()}.{body}.{signature}",
        "no token": "a.b.c",
        "empty": "..",
        "deep": jwt.utils.base64url_encode(b"[" * 9000).decode() + ".e30.e30",
        "no text": jwt.utils.base64url_encode(b"\xff\xfe").decode() + ".e30.e30",
        "100 kB long": idp.token(more="x" * 100_000),
    }


@requirement("auth.jwt")
async def test_every_forged_token_is_refused_in_the_same_words_and_why_is_in_the_log(
    idp: Provider, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    authenticate = Jwt(idp.url, AUDIENCE, principal=lambda claims: claims["sub"])
    told = set[str]()
    for what, token in forged(idp).items():
        caplog.clear()
        with caplog.at_level(logging.INFO, "openai_compat"):
            sent = await asked(authenticate, token)
        assert (sent.status, sent.error["code"]) == (401, "invalid_token"), what
        assert sent.headers["www-authenticate"] == 'Bearer error="invalid_token"', what
        told.add(sent.error["message"])
        assert f"{sent.headers['x-request-id']}: a token was refused: " in caplog.text, what
        for secret in (token, *[piece for piece in token.split(".") if len(piece) > 8], "evil.example", "passwd"):
            assert secret not in caplog.text + sent.data.decode() + str(sent.headers), what
    assert len(told) == 1
    assert (await asked(authenticate, idp.token())).status == 200


@requirement("auth.jwt")
@pytest.mark.parametrize("number", [None, 0, [], {}, "agents", "read write"])
async def test_a_scope_that_is_missing_is_another_refusal(idp: Provider, number: Any) -> None:
    authenticate = Jwt(idp.url, AUDIENCE, scopes=["agents", "write"])
    sent = await asked(authenticate, idp.token(scope=number))
    assert sent.status in (403, 503)  # an invalid scope is the issuer's fault
    if number in (None, [], {}, "agents", "read write"):
        assert (sent.status, sent.error["code"]) == (403, "insufficient_scope")
        assert sent.headers["www-authenticate"] == 'Bearer error="insufficient_scope", scope="agents write"'
    assert (await asked(authenticate, idp.token(scope="agents write more"))).status == 200
    assert (await asked(authenticate, idp.token(scope=None, scp=["write", "agents"]))).status == 200


@requirement("auth.jwt")
async def test_the_principal_may_be_made_of_the_claims(idp: Provider) -> None:
    token = idp.token(oid="17")
    by_name = Jwt(idp.url, AUDIENCE, principal=lambda claims: claims["oid"])
    whole = Jwt(idp.url, AUDIENCE, principal=lambda claims: Principal("seventeen", frozenset(["helper"])))
    nobody = Jwt(idp.url, AUDIENCE, principal=lambda claims: None)
    assert (await who(by_name, token)).id == named(idp, "17")
    assert (await who(whole, token)).models == {"helper"}
    assert await who(nobody, token) is None
    assert await who(Jwt(idp.url, AUDIENCE), idp.token(sub="")) is None


async def test_claims_cannot_be_changed_by_whom_they_are_shown(idp: Provider) -> None:
    principal = await who(Jwt(idp.url, AUDIENCE), idp.token())
    with pytest.raises(TypeError):
        principal.claims["scope"] = "admin"


@requirement("auth.jwt")
async def test_keys_that_are_no_jwts_are_left_to_others(idp: Provider) -> None:
    authenticate = first_of(Jwt(idp.url, AUDIENCE), ApiKeys({"sk-1": "robot"}))
    assert (await who(authenticate, "sk-1")).id == "robot"
    assert (await who(authenticate, idp.token())).id == named(idp)
    with pytest.raises(Unauthorized) as refused:
        await who(authenticate, idp.token(exp=1))
    assert refused.value.code == "invalid_token"


@requirement("auth.jwt")
async def test_two_issuers_can_be_had_beside_each_other(idp: Provider) -> None:
    with provider() as other:
        authenticate = first_of(Jwt(idp.url, AUDIENCE), Jwt(other.url, AUDIENCE))
        assert (await who(authenticate, other.token())).id == named(other)
        assert (await who(authenticate, idp.token())).id == named(idp)


# keys


@requirement("auth.keys-of-issuer")
async def test_fifty_who_come_at_once_make_one_fetch(idp: Provider) -> None:
    authenticate = Jwt(idp.url, AUDIENCE, jwks=f"{idp.url}/keys")
    tokens = [idp.token("EdDSA", sub=f"user-{number}") for number in range(50)]
    async with anyio.create_task_group() as group:
        for token in tokens:
            group.start_soon(who, authenticate, token)
    assert idp.asked == ["/keys"]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def keys_of(idp: Provider, clock: Clock) -> KeySet:
    async def source() -> Any:
        return await key_set.fetch_json(f"{idp.url}/keys")

    return KeySet(source, tuple(ALGORITHMS), clock)


@requirement("auth.keys-of-issuer")
async def test_ten_thousand_unknown_keys_are_one_fetch_in_thirty_seconds(idp: Provider) -> None:
    clock = Clock()
    keys = keys_of(idp, clock)
    assert await keys.fetch_and_find("RS256-0", "RS256") is not None
    clock.now += 40
    for number in range(10_000):
        assert await keys.fetch_and_find(f"made-up-{number}", "RS256") is None
    assert len(idp.asked) == 2
    clock.now += 29
    await keys.fetch_and_find("made-up", "RS256")
    assert len(idp.asked) == 2
    clock.now += 2
    await keys.fetch_and_find("made-up", "RS256")
    assert len(idp.asked) == 3


@requirement("auth.keys-of-issuer")
async def test_a_rotated_key_is_found_and_one_that_was_taken_back_is_gone(idp: Provider) -> None:
    clock = Clock()
    keys = keys_of(idp, clock)
    await keys.fetch_and_find("EdDSA-0", "EdDSA")
    idp.jwks = {"keys": [public("EdDSA", "EdDSA-1", 1)]}
    assert await keys.fetch_and_find("EdDSA-1", "EdDSA") is None  # fetched a moment ago
    clock.now += 31
    assert await keys.fetch_and_find("EdDSA-1", "EdDSA") is not None
    assert keys.find("EdDSA-0", "EdDSA") is None


@requirement("auth.keys-of-issuer")
async def test_while_the_provider_is_away_its_keys_stay_good(idp: Provider, caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    keys = keys_of(idp, clock)
    await keys.fetch_and_find("EdDSA-0", "EdDSA")
    for fault in (500, b"no JSON", {"keys": []}, {"keys": [{"kty": "oct", "k": "AAAA", "kid": "EdDSA-0"}]}):
        idp.status, idp.jwks = (fault, idp.jwks) if isinstance(fault, int) else (200, fault)
        for _ in range(60):
            clock.now += 120
            assert keys.find("EdDSA-0", "EdDSA") is not None
            assert await keys.fetch_and_find("EdDSA-0", "EdDSA") is not None
    assert "its former keys go on being used" in caplog.text
    assert len(idp.asked) > 200


@requirement("auth.keys-of-issuer")
async def test_old_keys_are_renewed_beside_without_anybody_waiting(idp: Provider) -> None:
    clock = Clock()
    keys = keys_of(idp, clock)
    await keys.fetch_and_find("EdDSA-0", "EdDSA")
    idp.jwks = {"keys": [public("EdDSA", "EdDSA-1", 1)]}
    clock.now += key_set.RENEWAL_SECONDS + 1
    idp.answering.clear()
    assert keys.find("EdDSA-0", "EdDSA") is not None
    idp.answering.set()
    with anyio.fail_after(10):
        while keys.find("EdDSA-1", "EdDSA") is None:
            await anyio.sleep(0.01)


@requirement("auth.keys-of-issuer")
async def test_a_provider_that_was_never_there_lets_nobody_in(caplog: pytest.LogCaptureFixture) -> None:
    sent = await asked(Jwt("http://127.0.0.1:9", AUDIENCE), jwt.encode({"sub": "a"}, private_key("RS256"), "RS256"))
    assert (sent.status, sent.error["code"], sent.headers["retry-after"]) == (503, "auth_unavailable", "5")
    assert "tokens cannot be checked" in caplog.text


@requirement("auth.keys-of-issuer")
@pytest.mark.parametrize(
    "metadata", [{"issuer": "https://evil.example"}, {"jwks_uri": "file:///etc/passwd"}, {"jwks_uri": 5}]
)
async def test_metadata_that_is_not_the_issuers_is_not_believed(idp: Provider, metadata: Any) -> None:
    idp.metadata = metadata
    with pytest.raises(Unavailable):
        await who(Jwt(idp.url, AUDIENCE), idp.token())


def weak() -> dict[str, Any]:
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=1024).public_key()
    return {**ALGORITHMS["RS256"].to_jwk(key, as_dict=True), "kid": "weak"}


@pytest.mark.parametrize(
    "entry",
    [
        {"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA", "kid": "x", "alg": "HS256"},
        public("RS256", "x", use="enc"),
        public("RS256", "x", key_ops=["encrypt"]),
        public("RS256", "x", alg="RS512"),
        {**public("RS256", "x"), "n": "!"},
        {**public("ES256", "x"), "crv": "P-384"},
        {"kty": "RSA"},
        weak(),
        "text",
        None,
    ],
)
def test_keys_that_are_not_for_tokens_are_left_out(entry: Any) -> None:
    assert read_keys({"keys": [entry, public("EdDSA", "good")]}, tuple(ALGORITHMS)).keys() == {("good", "EdDSA")}


@pytest.mark.parametrize("document", [{}, {"keys": None}, {"keys": {}}])
def test_a_document_without_keys_has_none(document: Any) -> None:
    assert read_keys(document, tuple(ALGORITHMS)) == {}


@pytest.mark.parametrize(("kid", "fits"), [(None, True), ("RS256-0", True), ("other", False)])
async def test_a_token_without_a_key_id_is_checked_by_the_only_key_there_is(
    idp: Provider, kid: Any, fits: bool
) -> None:
    authenticate = Jwt(idp.url, AUDIENCE, jwks=idp.jwks)
    token = idp.token(kid=kid)
    if fits:
        assert (await who(authenticate, token)).id == named(idp)
    else:
        with pytest.raises(Unauthorized):
            await who(authenticate, token)


# the cache


@requirement("auth.revoked")
@pytest.mark.parametrize("keep", [0, 300])
async def test_a_result_is_kept_for_a_while_or_not_at_all(idp: Provider, keep: float) -> None:
    seen: list[str] = []

    def principal(claims: Any) -> str:
        seen.append(claims["sub"])
        return str(claims["sub"])

    authenticate = Jwt(idp.url, AUDIENCE, jwks=idp.jwks, keep=keep, principal=principal)
    for _ in range(3):
        await who(authenticate, idp.token("EdDSA", exp=2_000_000_000, iat=None))
    assert len(seen) == (1 if keep else 3)


def test_what_is_kept_has_its_time_and_its_number() -> None:
    clock = Clock()
    kept = ResultCache[str](2, clock)
    kept.keep(b"a", "A", clock.now + 10)
    kept.keep(b"b", "B", clock.now + 20)
    assert kept.get(b"a") == "A"
    kept.keep(b"c", "C", clock.now + 20)
    assert [kept.get(name) for name in (b"a", b"b", b"c")] == ["A", None, "C"]
    clock.now += 10
    assert [kept.get(name) for name in (b"a", b"c")] == [None, "C"]
    kept.keep(b"d", "D", clock.now)
    assert len(kept) == 1


# secrets, and invalid settings


@requirement("auth.on-behalf")
async def test_users_of_open_webui_are_told_by_its_signed_header() -> None:
    users = Jwt(
        "open-webui",
        None,
        secret=SECRET,
        header="X-OpenWebUI-User-Jwt",
        principal=lambda claims: Principal(claims["sub"], claims=claims),
    )
    authenticate = on_behalf(ApiKeys({"sk-webui": "open-webui", "sk-eve": "eve"}), users, of=["open-webui"])
    now = int(time.time())
    claims = {"iss": "open-webui", "sub": "u-7", "role": "user", "iat": now, "exp": now + 60}

    async def asked(key: str, token: str) -> Recorder:
        headers = ((b"authorization", f"Bearer {key}".encode()), (b"x-openwebui-user-jwt", token.encode()))
        return await answer(Server(whoami, authenticate=authenticate), request("/v1/chat/completions", ask(), *headers))

    good, bad = jwt.encode(claims, SECRET, "HS256"), jwt.encode(claims, SECRET[::-1], "HS256")
    assert (await asked("sk-webui", good)).text == "open-webui/u-7 None"
    assert (await asked("sk-webui", bad)).status == 401
    assert (await asked("sk-eve", good)).text == "eve None"


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"algorithms": ["none"]}, "algorithms are of"),
        ({"algorithms": ["HS256"]}, "algorithms are of"),
        ({"secret": SECRET, "algorithms": ["RS256"]}, "algorithms are of"),
        ({"secret": "short"}, "too short"),
        ({"secret": SECRET, "algorithms": ["HS512"]}, "too short"),
        ({"secret": SECRET, "jwks": {}}, "not both"),
        ({"jwks": {"keys": []}}, "no key"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Jwt("https://login.example", AUDIENCE, **settings)


# introspection


def introspecting(idp: Provider, **settings: Any) -> Introspection:
    return Introspection(f"{idp.url}/introspect", "agents", "s3cret", **settings)


@requirement("auth.introspection")
async def test_the_provider_is_asked_once_about_a_token(idp: Provider) -> None:
    idp.tokens["t-1"] = {"active": True, "sub": "ann", "scope": "agents", "exp": time.time() + 60}
    authenticate = introspecting(idp)
    for _ in range(3):
        sent = await asked(authenticate, "t-1")
        assert (sent.status, sent.text) == (200, f"token:{idp.url.removeprefix('http://')}#ann agents")
    for _ in range(3):
        sent = await asked(authenticate, "t-2")
        assert (sent.status, sent.error["code"]) == (401, "invalid_token")
    assert idp.asked == ["/introspect"] * 2


@requirement("auth.introspection")
@pytest.mark.parametrize(
    ("says", "status"),
    [
        ({"active": True, "sub": "ann"}, 200),
        ({"active": True, "sub": "ann", "aud": ["x", AUDIENCE]}, 200),
        ({"active": "true", "sub": "ann"}, 401),
        ({"active": 1, "sub": "ann"}, 401),
        ({"sub": "ann"}, 401),
        ({"active": True}, 401),
        ({"active": True, "sub": ""}, 401),
        ({"active": True, "sub": "ann", "exp": 5}, 401),
        ({"active": True, "sub": "ann", "exp": "later"}, 401),
        ({"active": True, "sub": "ann", "aud": "payroll"}, 401),
        ({"active": True, "sub": "ann", "scope": "read"}, 403),
    ],
)
async def test_what_the_provider_says_is_looked_at(idp: Provider, says: Any, status: int) -> None:
    usual = {"aud": AUDIENCE, "scope": "agents"}
    idp.tokens["t-1"] = {**usual, **says}
    assert (await asked(introspecting(idp, audience=AUDIENCE, scopes=["agents"]), "t-1")).status == status


@requirement("auth.introspection")
@pytest.mark.parametrize("fault", ["status", "no JSON", "a list", "too large", "credentials"])
async def test_a_provider_that_fails_lets_nobody_in_and_is_asked_again(
    idp: Provider, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    authenticate = introspecting(idp)
    if fault == "credentials":
        authenticate = Introspection(f"{idp.url}/introspect", "agents", "wr0ng")
    idp.status = 500 if fault == "status" else 200
    idp.tokens["t-secret"] = {"no JSON": b"<html>", "a list": [], "too large": b" " * 2_000_000}.get(fault, {})
    with caplog.at_level(logging.INFO, "openai_compat"):
        sent = await asked(authenticate, "t-secret")
    assert (sent.status, sent.error["code"]) == (503, "auth_unavailable")
    assert "a token could not be checked" in caplog.text
    for secret in ("t-secret", "s3cret", "wr0ng"):
        assert secret not in caplog.text + sent.data.decode()
    idp.status, idp.tokens["t-secret"] = 200, {"active": True, "sub": "ann"}
    if fault != "credentials":
        assert (await asked(authenticate, "t-secret")).status == 200


async def test_a_token_that_is_too_long_is_not_sent_on(idp: Provider) -> None:
    assert (await asked(introspecting(idp), "t" * (LONGEST + 1))).status == 401
    assert idp.asked == []
