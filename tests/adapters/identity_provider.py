"""An identity provider on a port: metadata, keys, introspection; it can rotate its keys and become unreachable."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

AUDIENCE = "agents"
ALGORITHMS: dict[str, Any] = {"RS256": RSAAlgorithm, "ES256": ECAlgorithm, "EdDSA": OKPAlgorithm}


@cache
def private_key(algorithm: str, number: int = 0) -> Any:
    """A separate key for each number, cached because making RSA keys is slow."""
    if algorithm == "RS256":
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return ec.generate_private_key(ec.SECP256R1()) if algorithm == "ES256" else ed25519.Ed25519PrivateKey.generate()


def public(algorithm: str, kid: str, number: int = 0, **fields: Any) -> dict[str, Any]:
    """The public key, as in a JWKS."""
    made = ALGORITHMS[algorithm].to_jwk(private_key(algorithm, number).public_key(), as_dict=True)
    return {**made, "kid": kid, "use": "sig", "alg": algorithm, **fields}


class Provider:
    """A provider with RS256, ES256 and EdDSA keys; `asked` lists the requested paths."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[str] = []
        self.status = 200
        self.jwks: dict[str, Any] = {"keys": [public(name, f"{name}-0") for name in ALGORITHMS]}
        self.metadata: dict[str, Any] = {}
        self.tokens: dict[str, Any] = {}
        self.answering = threading.Event()
        self.answering.set()

    def claims(self, **changes: Any) -> dict[str, Any]:
        now = int(time.time())
        usual = {"iss": self.url, "aud": AUDIENCE, "sub": "ann", "iat": now, "exp": now + 600, "scope": "agents read"}
        return {name: value for name, value in {**usual, **changes}.items() if value is not None}

    def token(self, algorithm: str = "RS256", kid: str | None = "", number: int = 0, **changes: Any) -> str:
        headers = {"kid": kid or f"{algorithm}-{number}"} if kid is not None else {}
        return jwt.encode(self.claims(**changes), private_key(algorithm, number), algorithm, headers=headers)

    def answer(self, handler: BaseHTTPRequestHandler, form: str = "") -> None:
        self.asked.append(handler.path)
        self.answering.wait(10)
        body: Any = {"issuer": self.url, "jwks_uri": f"{self.url}/keys", **self.metadata}
        status = self.status
        if handler.path == "/keys":
            body = self.jwks
        elif handler.path == "/introspect":
            expected = "Basic " + base64.b64encode(b"agents:s3cret").decode()
            body = self.tokens.get(parse_qs(form)["token"][0], {"active": False})
            status = status if handler.headers["authorization"] == expected else 401
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)


@contextmanager
def provider() -> Iterator[Provider]:
    found = Provider()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.answer(self)

        def do_POST(self) -> None:
            found.answer(self, self.rfile.read(int(self.headers["content-length"])).decode())

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield found
        finally:
            found.answering.set()
            server.shutdown()
            thread.join(10)
