"""Which kinds of body are read at all."""

from __future__ import annotations

from ..errors import UnsupportedMedia
from ..http import HttpRequest
from .auth import AZURE


def check_content_type(request: HttpRequest) -> None:
    """Raise UnsupportedMedia for anything but JSON that comes from a web page.

    A page may post text/plain or a form to any server without asking first (CSRF), so those are refused where a
    browser is behind them. Programs often leave curl's default form type on JSON: that is let through.
    """
    kind = _kind(request)
    if kind != "application/json" and not kind.endswith("+json") and _from_page(request):
        raise UnsupportedMedia("The request needs 'Content-Type: application/json'.")


def check_form(request: HttpRequest) -> None:
    """Raise UnsupportedMedia for anything but a multipart form that a program sends.

    A page that sends its key in a header has to ask first (CORS), so it may send one too.
    """
    if _kind(request) != "multipart/form-data":
        raise UnsupportedMedia("The request needs 'Content-Type: multipart/form-data'.")
    bearer = (request.header(b"authorization") or "").lower().startswith("bearer ")
    if _from_page(request) and not bearer and request.header(AZURE) is None:
        raise UnsupportedMedia("Web pages have to send 'Authorization: Bearer KEY' with a form.")


def _kind(request: HttpRequest) -> str:
    return (request.header(b"content-type") or "").partition(";")[0].strip().lower()


def _from_page(request: HttpRequest) -> bool:
    return request.header(b"origin") is not None or request.header(b"sec-fetch-site") in ("cross-site", "same-site")
