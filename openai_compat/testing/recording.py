"""Exchanges between a client and a server, stored as JSON, to compare with an earlier recording or to replay.

No secrets are stored: no request headers at all, and only selected headers of the answer.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, cast

from .answer import DONE, Answer

Json: TypeAlias = Any

RECORDED_HEADERS = ("content-type", "cache-control", "retry-after", "x-should-retry", "allow")
TIME_FIELDS = frozenset({"created", "created_at", "completed_at", "expires_at"})

# Ids in the format of this library (hexadecimal), and in OpenAI's.
_ID = re.compile(r"\b([a-z]+[-_])(?:[0-9a-f]{16,}|[0-9A-Za-z]{24,})\b")


@dataclass(frozen=True)
class RecordedExchange:
    """A request and its answer.

    Attributes:
        method: the method, in upper case.
        path: the path with its query string.
        request: the request's JSON, or None if it had no body.
        status: the HTTP status.
        headers: the answer's headers that are listed in RECORDED_HEADERS.
        body: the answer's JSON; for a stream the list of its events, including `"[DONE]"`.
        complete: False if the client disconnected, or the connection was cut, before the end.
    """

    method: str
    path: str
    request: Json
    status: int
    headers: Mapping[str, str]
    body: Json
    complete: bool = True

    @property
    def raw_body(self) -> bytes:
        """The body as it is sent over the wire."""
        body: Json = self.body
        if not isinstance(body, list):
            return json.dumps(body).encode()
        events = cast("list[Json]", body)
        return "".join([f"data: {event if event == DONE else json.dumps(event)}\n\n" for event in events]).encode()


def record_exchange(method: str, path: str, request: bytes, answer: Answer) -> RecordedExchange:
    """The record of an exchange."""
    # An allow-list, so that no cookie and no key can get into a file that is checked in.
    headers = {name: value for name in RECORDED_HEADERS if (value := answer.header(name)) is not None}
    body = [_parse_json(payload) for payload in answer.data] if answer.is_stream else _parse_json(answer.body.decode())
    return RecordedExchange(method, path, _parse_json(request.decode()), answer.status, headers, body, answer.complete)


@dataclass
class Recording:
    """Exchanges in the order in which their answers ended."""

    exchanges: list[RecordedExchange] = field(default_factory=list[RecordedExchange])

    def normalised(self) -> Recording:
        """A copy without values that change on every run: ids become their prefix and a number, times become 0."""
        numbers: dict[str, str] = {}

        def known(match: re.Match[str]) -> str:
            return numbers.setdefault(match[0], f"{match[1]}{len(numbers) + 1}")

        dicts = [_normalise(asdict(exchange), known) for exchange in self.exchanges]
        return Recording([RecordedExchange(**exchange) for exchange in dicts])

    def dumps(self) -> str:
        """JSON text that people can read, and review as a diff."""
        exchanges = [asdict(exchange) for exchange in self.exchanges]
        return json.dumps(exchanges, indent=2, ensure_ascii=False) + "\n"

    def save(self, path: str | Path) -> None:
        """Write the normalised recording to a file."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.normalised().dumps(), "utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Recording:
        """Read a recording from a file. Raises OSError, and ValueError or TypeError for a file that is not a recording."""
        return cls([RecordedExchange(**exchange) for exchange in json.loads(Path(path).read_text("utf-8"))])

    def check(self, path: str | Path, *, update: bool = False) -> None:
        """Compare with the recording in a file; with `update`, write that file instead.

        Raises AssertionError with the difference, or if there is no such file.
        """
        if update:
            self.save(path)
            return
        if not Path(path).exists():
            raise AssertionError(f"{path} is not there; write it with `pytest --openai-compat-update`")
        before, now = Recording.load(path).dumps(), self.normalised().dumps()
        if before != now:
            lines = difflib.unified_diff(before.splitlines(), now.splitlines(), str(path), "now", lineterm="")
            raise AssertionError("the exchanges differ from those recorded\n" + "\n".join(lines))

    def answer_to(self, method: str, path: str, request: bytes) -> RecordedExchange:
        """The answer recorded for a request. Raises LookupError if there is none."""
        body = _parse_json(request.decode())
        for exchange in self.exchanges:
            if (exchange.method, exchange.path, exchange.request) == (method, path, body):
                return exchange
        raise LookupError(f"no answer is recorded for {method} {path} {request[:300].decode('utf-8', 'replace')}")


def _parse_json(text: str) -> Json:
    if not text:
        return None
    try:
        return json.loads(text)
    except ValueError:
        return text


def _normalise(value: Json, known: Callable[[re.Match[str]], str]) -> Json:
    if isinstance(value, str):
        return _ID.sub(known, value)
    if isinstance(value, list):
        return [_normalise(item, known) for item in cast("list[Json]", value)]
    if isinstance(value, dict):
        fields = cast("dict[str, Json]", value)
        times = {key: 0 for key, item in fields.items() if key in TIME_FIELDS and isinstance(item, int)}
        return {key: times.get(key, _normalise(item, known)) for key, item in fields.items()}
    return value
