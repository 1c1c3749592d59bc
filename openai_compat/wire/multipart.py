"""A streaming parser for multipart forms.

Parsing is done by the package `python-multipart`, which Starlette uses too: the extra `files`. It is imported when the
first form arrives, so that servers without uploads do not need it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..errors import InvalidRequest, RequestTooLarge, Unavailable

if TYPE_CHECKING:
    from python_multipart import MultipartParser

# OpenAI's file form has four parts: the file, its purpose, and two that set its expiry.
MAX_PARTS = 32


@dataclass(slots=True)
class FormPart:
    """One part of a form. `filename` is None unless the part is a file; `content_type` is as it was sent."""

    name: str = ""
    filename: str | None = None
    content_type: str = ""
    size: int = 0
    data: list[bytes] = field(default_factory=list[bytes])

    @property
    def content(self) -> bytes:
        """The bytes of the part, joined from the chunks in which they arrived."""
        return b"".join(self.data)

    @property
    def text(self) -> str:
        """The bytes as text; invalid UTF-8 becomes U+FFFD."""
        return self.content.decode("utf-8", "replace")


class MultipartForm:
    """Parses a form chunk by chunk, then returns its parts.

    `limits` maps part names to their maximum size in bytes; parts with other names are skipped.
    Raises InvalidRequest for anything but a multipart form, and Unavailable if the parser is not installed.
    """

    def __init__(self, content_type: str, limits: Mapping[str, int]) -> None:
        self._limits = limits
        self._number = 0
        self._header_name: list[bytes] = []
        self._header_value: list[bytes] = []
        self._headers: dict[bytes, bytes] = {}
        self._part = FormPart()
        self._parts: dict[str, FormPart] = {}
        self._complete = False
        self._parser = self._new_parser(content_type)

    def feed(self, piece: bytes) -> None:
        """Parse the next chunk of the body. Raises RequestTooLarge, with `param`, for a part over its limit."""
        from python_multipart.exceptions import FormParserError  # noqa: PLC0415

        try:
            self._parser.write(piece)
        except FormParserError:
            raise _invalid_form() from None

    def parts(self) -> Mapping[str, FormPart]:
        """Return the parts by name, once the whole body was fed."""
        if not self._complete:
            raise _invalid_form()
        return self._parts

    def _new_parser(self, content_type: str) -> MultipartParser:
        try:
            from python_multipart import MultipartParser  # noqa: PLC0415
            from python_multipart.exceptions import FormParserError  # noqa: PLC0415
        except ImportError:
            text = "This server takes no files: it was installed without 'openai-compat[files]'."
            raise Unavailable(text, code="files_not_installed", should_retry=False) from None
        boundary = _parse_options(content_type).get(b"boundary")
        if not boundary:
            raise _invalid_form()
        try:
            return MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin_part,
                    "on_header_field": lambda data, start, end: self._header_name.append(data[start:end]),
                    "on_header_value": lambda data, start, end: self._header_value.append(data[start:end]),
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._begin_data,
                    "on_part_data": self._add_data,
                    "on_end": self._end_form,
                },
            )
        except FormParserError:
            raise _invalid_form() from None

    # callbacks of the parser

    def _begin_part(self) -> None:
        self._number += 1
        # Each part costs a header to parse, however short it is.
        if self._number > MAX_PARTS:
            raise InvalidRequest(f"A form can have {MAX_PARTS} parts at most.", code="invalid_value")
        self._headers = {}

    def _end_header(self) -> None:
        name, value = b"".join(self._header_name).lower(), b"".join(self._header_value)
        self._headers[name] = self._headers.get(name, b"") + value
        self._header_name.clear()
        self._header_value.clear()

    def _begin_data(self) -> None:
        options = _parse_options(self._headers.get(b"content-disposition", b"").decode("latin-1"))
        name = options.get(b"name", b"").decode("utf-8", "replace")
        filename = options[b"filename"].decode("utf-8", "replace") if b"filename" in options else None
        self._part = FormPart(name, filename, self._headers.get(b"content-type", b"").decode("latin-1"))
        # Here the last part would win, while another parser on the way (such as a filter) may use the first.
        if name in self._parts:
            raise InvalidRequest(f"The form has '{name}' twice.", param=name, code="invalid_value")
        # Parts with unknown names are read and dropped, not kept in memory.
        if name in self._limits:
            self._parts[name] = self._part

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        part = self._part
        limit = self._limits.get(part.name)
        if limit is None:
            return
        part.size += end - start
        if part.size > limit:
            raise RequestTooLarge(f"'{part.name}' is over the limit of {limit} bytes.", param=part.name)
        part.data.append(data[start:end])

    def _end_form(self) -> None:
        self._complete = True


def _parse_options(header: str) -> Mapping[bytes, bytes]:
    from python_multipart.multipart import parse_options_header  # noqa: PLC0415

    return parse_options_header(header)[1]


def _invalid_form() -> InvalidRequest:
    return InvalidRequest("The body is no multipart form, or not all of one.")
