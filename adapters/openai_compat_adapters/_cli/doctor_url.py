"""`openai-compat doctor --url`: checks a server as its clients see it, without a client library."""

from __future__ import annotations

import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from http.client import HTTPException, HTTPResponse
from typing import Any, cast
from urllib.parse import urlsplit

from .doctor_checks import Finding
from .terminal import visible

PATIENCE = 30.0
"""Timeout for each read from the server, in seconds."""

MAX_BYTES = 1_000_000
"""Maximum bytes to read of the list of models."""

BUFFERED_FRACTION = 0.05
"""If all pieces arrive within this fraction of the answer's duration, something has buffered them."""

MIN_SECONDS = 0.5
"""Seconds; a faster answer does not reveal buffering."""


_HAS_TEXT = re.compile(rb'data:.*"content":\s*"[^"]')


class NotTheApi(Exception):
    """The response is not from an OpenAI API. The message says what came instead."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Reports redirects instead of following them: most lead to a login page, not to an API."""

    def redirect_request(self, *args: Any, **more: Any) -> None:
        return None


def check_server(url: str, key: str | None, message: str | None) -> Iterator[Finding]:
    """Check that the API at `url` answers, name the proxies before it, and, given a message, check that it streams."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        with _request(f"{url.rstrip('/')}/models", headers) as answer:
            before = _forwarders(answer.headers)
            models = _read_models(answer)
    except NotTheApi as error:
        yield Finding("server", "wrong", str(error))
        return
    yield Finding("server", "ok", f"{url} answers; models: {', '.join(models) or 'none'}")
    if before:
        yield Finding("in front", "note", before)
    if message is not None and models:
        yield _check_stream(url, headers, models[0], message)


def _request(url: str, headers: Mapping[str, str], body: object = None) -> HTTPResponse:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {**headers, "Content-Type": "application/json"})  # noqa: S310  (checked: http or https)
    where = f"{urlsplit(url).netloc}{_proxy_for(url)}"
    try:
        return cast("HTTPResponse", urllib.request.build_opener(_NoRedirect).open(request, timeout=PATIENCE))
    except urllib.error.HTTPError as error:
        with error:
            raise NotTheApi(_refusal_text(url, error, has_key="Authorization" in headers)) from error
    except urllib.error.URLError as error:
        raise NotTheApi(f"no answer from {where}: {error.reason}; is the server running?") from error
    except (OSError, HTTPException) as error:
        raise NotTheApi(f"no answer from {where}: {error}") from error


def _proxy_for(url: str) -> str:
    """Name the environment's proxy for `url`, because it may be the proxy that does not answer."""
    parts = urlsplit(url)
    if parts.scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(parts.hostname or ""):
        return f" through {parts.scheme.upper()}_PROXY"
    return ""


def _refusal_text(url: str, error: urllib.error.HTTPError, *, has_key: bool) -> str:
    before = _forwarders(error.headers)
    by = f" ({before})" if before else ""
    # Open WebUI and others follow no redirects, so the page that a browser would reach does not help.
    if 300 <= error.code < 400:
        return f"{url} redirects to {visible(str(error.headers.get('Location')))}{by}: a login is in front of the API"
    asks = str(error.headers.get("WWW-Authenticate", ""))
    if error.code in (401, 403) and (asks.startswith("Basic") or "json" not in str(error.headers.get("Content-Type"))):
        return f"{url} answers {error.code}, but not in the API's format{by}: a proxy in front of it requires a login"
    if error.code == 401:
        return f"{url} answers 401: the API key is {'wrong' if has_key else 'missing'}: --api-key KEY"
    hint = "; the API is usually below /v1" if error.code == 404 else ""
    return f"{url} answers {error.code}{by}{hint}"


def _forwarders(headers: Any) -> str:
    """Name the programs that report that they forwarded the answer."""
    told = [
        f"{name}: {visible(headers[name])}" for name in ("Via", "Server", "CF-RAY", "X-Amz-Cf-Id") if headers.get(name)
    ]
    return ", ".join(told)


def _read_models(answer: HTTPResponse) -> list[str]:
    # It may be anything, even an endless download.
    text = answer.read(MAX_BYTES)
    try:
        listed: Any = json.loads(text)
        return [visible(str(model["id"])) for model in listed["data"]]
    except (ValueError, KeyError, TypeError) as error:
        kind = visible(str(answer.headers.get("Content-Type", "something")))
        raise NotTheApi(
            f"{answer.url} returns {kind} instead of a list of models: another program, or a login page"
        ) from error


def _check_stream(url: str, headers: Mapping[str, str], model: str, message: str) -> Finding:
    """Send one message and check that the answer arrives piece by piece."""
    asked = {"model": model, "messages": [{"role": "user", "content": message}], "stream": True}
    began, came = time.monotonic(), list[float]()
    try:
        with _request(f"{url.rstrip('/')}/chat/completions", headers, asked) as answer:
            came = [time.monotonic() - began for line in answer if _HAS_TEXT.match(line)]
    except NotTheApi as error:
        return Finding("stream", "wrong", str(error))
    except (OSError, HTTPException) as error:
        return Finding("stream", "wrong", f"the answer of {model} was cut off: {error}")
    return judge_stream(model, came)


def judge_stream(model: str, came: list[float]) -> Finding:
    """Judge by the arrival times of an answer's pieces, in seconds, if something buffers the stream."""
    if not came:
        return Finding("stream", "wrong", f"{model} answers without text")
    first, last = came[0], came[-1]
    text = f"{model} answers in {len(came)} pieces, the first after {first:.1f} s, the last after {last:.1f} s"
    # Two pieces may arrive together by chance, and a fast answer arrives at once anyway.
    if len(came) > 2 and last > MIN_SECONDS and last - first < last * BUFFERED_FRACTION:
        return Finding(
            "stream", "wrong", f"{text}: all at once, so a proxy may be buffering them (nginx: proxy_buffering off)"
        )
    return Finding("stream", "ok", text)
