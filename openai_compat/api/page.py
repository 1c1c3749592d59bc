"""The page to talk to the agents, `/ui/`: a handful of files that use the API like any client."""

from __future__ import annotations

import functools
import hashlib
from importlib.resources import files

from ..errors import NotFound
from ..http import HttpRequest
from .exchange import Exchange
from .routing import Api, Operation, Route
from .services import Services

MEDIA_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
}

# An agent's output is text, whatever it contains: no script in it runs, and nothing is loaded for it.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS = (
    ("Content-Security-Policy", CONTENT_SECURITY_POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cache-Control", "no-cache"),
)


@functools.cache
def page_files() -> dict[str, bytes]:
    """The files of the page, by name."""
    return {file.name: file.read_bytes() for file in (files("openai_compat") / "page").iterdir() if file.is_file()}


async def send_page(services: Services, exchange: Exchange) -> None:
    """Send the page. Its links are relative to its own address, so an address without the slash is redirected."""
    if exchange.request.path.endswith("/"):
        await send_file(services, exchange, "page.html")
    else:
        await _redirect(exchange)


async def send_file(services: Services, exchange: Exchange, name: str) -> None:
    """Send a file of the page, or 304 if the browser has it already. Raises NotFound."""
    content = page_files().get(name)
    if content is None:
        raise NotFound("The page has no such file.", code="unknown_url")
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = (*HEADERS, ("ETag", tag))
    if tag in (exchange.request.header(b"if-none-match") or ""):
        await exchange.answer(304, b"", ("Content-Length", str(len(content))), *headers)
        return
    await exchange.answer(200, content, ("Content-Type", MEDIA_TYPES[name.rpartition(".")[2]]), *headers)


async def redirect_to_page(services: Services, exchange: Exchange) -> None:
    """Redirect a browser at the root to the page."""
    await _redirect(exchange)


async def _redirect(exchange: Exchange) -> None:
    # Relative: a proxy may have removed a part of the path.
    await exchange.answer(307, b"", ("Location", "ui/"), ("Content-Type", "text/plain"))


def is_page_request(request: HttpRequest) -> bool:
    """True for a browser that opens an address; programs accept JSON, or anything."""
    return request.method in ("GET", "HEAD") and "text/html" in (request.header(b"accept") or "")


# These routes need no key: they hold no secret, and a browser that opens an address cannot send one.
PAGE = Api(
    name="page",
    routes=(
        Route("/ui", {"GET": Operation(send_page)}, open=True, described=False),
        Route("/ui/{name}", {"GET": Operation(send_file)}, open=True, described=False),
    ),
)
ROOT = Api(
    name="page, from the root",
    routes=(Route("/", {"GET": Operation(redirect_to_page)}, open=True, described=False),),
    when=is_page_request,
)
