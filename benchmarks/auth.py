"""CPU cost of authentication: microseconds per check, without a socket.

    python benchmarks/auth.py            about 5 seconds

Each figure is that of the fastest of many small batches: other programs on the machine can only slow a batch down. Figures are
scaled to the reference machine of the targets, by a calibration loop that runs between the measurements: see machine.py.
"""

from __future__ import annotations

import asyncio
import math
import os
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from machine import Machine, fast

from openai_compat import ApiKeys, Principal, Server, first_of, key_from_file
from openai_compat.http import HttpRequest
from openai_compat_adapters.oauth import Jwt

MOST = 10_000
LOTS = 100
ISSUER, AUDIENCE = "https://login.example", "agents"
KINDS: dict[str, tuple[Any, Any]] = {
    "RS256": (RSAAlgorithm, lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048)),
    "ES256": (ECAlgorithm, lambda: ec.generate_private_key(ec.SECP256R1())),
    "EdDSA": (OKPAlgorithm, ed25519.Ed25519PrivateKey.generate),
}


async def nothing() -> AsyncIterator[bytes]:
    return
    yield b""


def bearing(key: str) -> HttpRequest:
    headers = [(b"host", b"localhost"), (b"user-agent", b"benchmark"), (b"authorization", f"Bearer {key}".encode())]
    return HttpRequest("POST", "/v1/chat/completions", "", headers, nothing())


machine = Machine()


async def measure(check: Callable[[HttpRequest], Awaitable[Principal]], sent: HttpRequest, times: int) -> float:
    """Microseconds per check, in batches of at most a millisecond."""
    lots: list[float] = []
    size = max(times // LOTS, 1)
    for _ in range(LOTS):
        machine.look()
        began = time.process_time()
        for _ in range(size):
            await check(sent)
        lots.append((time.process_time() - began) / size * 1e6)
    return fast(lots)


def keys_file(keys: list[str]) -> Path:
    with tempfile.NamedTemporaryFile("w", delete=False) as file:
        file.write("\n".join(keys))
    os.utime(file.name, (1, 1))  # an old timestamp, so that the file does not look freshly changed
    return Path(file.name)


def tokens() -> tuple[dict[str, str], dict[str, Any]]:
    """A token for each algorithm, and a JWKS with all keys."""
    signed, published = {}, []
    for algorithm, (kind, make) in KINDS.items():
        key = make()
        now = int(time.time())
        claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "iat": now, "exp": now + 3600}
        signed[algorithm] = jwt.encode(claims, key, algorithm, headers={"kid": algorithm})
        published.append({**kind.to_jwk(key.public_key(), as_dict=True), "kid": algorithm})
    return signed, {"keys": published}


async def rows() -> list[tuple[str, float, float]]:
    """Name, microseconds and target, for a machine that is otherwise idle."""

    def agent(prompt: str) -> str:
        return prompt

    def check(**settings: Any) -> Callable[[HttpRequest], Awaitable[Principal]]:
        return Server(agent, **settings).auth.principal

    keys = [f"sk-{number:040d}" for number in range(MOST)]
    sent, ann, file = bearing(keys[-1]), Principal("user:ann"), keys_file(keys)
    found = [
        ("no key", await measure(check(), sent, 20_000), 1.0),
        ("1 key", await measure(check(keys=keys[-1]), sent, 10_000), 5.0),
        (f"{MOST:,} keys", await measure(check(keys=keys), sent, 10_000), 5.0),
        (f"{MOST:,} keys of a file", await measure(check(keys=key_from_file(file)), sent, 10_000), 10.0),
        (f"{MOST:,} keys of a function", await measure(check(keys=lambda: keys), sent, 50), 500.0),
        ("a plain function", await measure(check(authenticate=lambda request: ann), sent, 10_000), 15.0),
        ("first_of two", await measure(check(authenticate=first_of(ApiKeys("x"), ApiKeys(keys))), sent, 10_000), 20.0),
    ]
    file.unlink()
    signed, published = tokens()
    bounds = {"RS256": 120.0, "ES256": 200.0, "EdDSA": 250.0}
    for algorithm, token in signed.items():
        anew, kept = [Jwt(ISSUER, AUDIENCE, jwks=published, keep=keep) for keep in (0, 300)]
        found.append((f"{algorithm}, checked", await measure(in_turn(anew), bearing(token), 300), bounds[algorithm]))
        key = jwt.PyJWK(published["keys"][list(signed).index(algorithm)], algorithm)
        found.append(
            (f"{algorithm}, PyJWT alone", await measure(by_hand(key, algorithm), bearing(token), 300), math.inf)
        )
        if algorithm == "RS256":
            found.append(("a token kept", await measure(in_turn(kept), bearing(token), 10_000), 5.0))
    return found


def by_hand(key: jwt.PyJWK, algorithm: str) -> Callable[[HttpRequest], Awaitable[Principal]]:
    """The minimum that any token check must do."""
    found = Principal("ann")

    async def principal(request: HttpRequest) -> Principal:
        token = (request.header(b"authorization") or "").removeprefix("Bearer ")
        jwt.decode(token, key, algorithms=[algorithm], audience=AUDIENCE, issuer=ISSUER)
        return found

    return principal


def in_turn(authenticate: Jwt) -> Callable[[HttpRequest], Awaitable[Principal]]:
    """The check alone, without the server around it."""

    async def principal(request: HttpRequest) -> Principal:
        found = authenticate(request)
        if not isinstance(found, Principal):
            raise AssertionError("the token is not good")
        return found

    return principal


if __name__ == "__main__":
    found = asyncio.run(rows())
    print(machine)
    for name, microseconds, bound in found:
        wanted = f"   (at most {bound:g})" if bound < math.inf else ""
        print(f"{name:30} {microseconds:8.2f} us   there {machine.scaled(microseconds):8.2f} us{wanted}")
