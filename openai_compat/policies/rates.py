"""Rate limits of callers, and OpenAI's headers for them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from ..agent_request import Principal
from ..agents.setting_types import check_fields

MINUTE = 60.0

RATE_HEADERS = ("x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests")


@dataclass(frozen=True, slots=True)
class Rates:
    """Requests that each API key's owner may send to run an agent. Raises ValueError for a number below 0.

    Attributes:
        requests_per_minute: on average; they need not be whole.
        burst: requests that may come at once after a pause; a minute's worth by default.
    """

    requests_per_minute: float
    burst: int | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if not 0 < self.requests_per_minute < math.inf:
            raise ValueError("requests_per_minute has to be more than 0")
        if self.burst is not None and self.burst < 1:
            raise ValueError("a burst is of 1 request at least")

    @property
    def per_second(self) -> float:
        """Requests in a second, on average."""
        return self.requests_per_minute / MINUTE

    @property
    def at_once(self) -> int:
        """Requests that may come at once."""
        return math.ceil(self.requests_per_minute) if self.burst is None else self.burst

    def headers(self, remaining: int, wait: float) -> list[tuple[str, str]]:
        """Headers of an answer: requests at once, those left, and the time until all are there again.

        `wait` is for how many seconds there is none left; 0 if there was one.
        """
        used = self.at_once - 1 if wait else self.at_once - remaining
        reset = used / self.per_second + wait
        return list(zip(RATE_HEADERS, (str(self.at_once), str(remaining), duration(reset)), strict=True))


RatesOf: TypeAlias = Rates | Callable[[Principal], Rates | None]
"""The same for all, or a function that says it for each; None is no limit."""


def duration(seconds: float) -> str:
    """A time as OpenAI writes it: `60ms`, `1s`, `6m0s`. Rounded up, so that who waits for it need not wait again."""
    milliseconds = math.ceil(seconds * 1000)
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, whole = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h" * bool(hours) + f"{minutes}m" * bool(hours or minutes) + f"{whole}s"
