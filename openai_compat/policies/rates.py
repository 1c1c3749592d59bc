"""Rate limits of callers, with OpenAI's headers and error for them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from ..agent_request import Principal
from ..agents.setting_types import check_fields
from ..errors import RateLimited

MINUTE = 60.0

RATE_HEADERS = ("x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests")
TOKEN_HEADERS = ("x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens")


@dataclass(frozen=True, slots=True)
class Rates:
    """Rate limits per principal, per minute. Raises ValueError if no limit is given, or for a number that is not positive.

    Attributes:
        requests_per_minute: average rate of requests that run an agent; may be fractional. None for no limit.
        burst: requests that may come at once after a pause; a minute's worth by default.
        tokens_per_minute: average rate of input and output tokens, as agents report them. None for no limit.
        token_burst: tokens that may be used at once after a pause; a minute's worth by default.
    """

    requests_per_minute: float | None = None
    burst: int | None = None
    tokens_per_minute: float | None = None
    token_burst: int | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if self.requests_per_minute is None and self.tokens_per_minute is None:
            raise ValueError("rates have requests_per_minute, tokens_per_minute, or both")
        for each, burst, what in (
            ("requests_per_minute", "burst", "request"),
            ("tokens_per_minute", "token_burst", "token"),
        ):
            rate, most = getattr(self, each), getattr(self, burst)
            if rate is not None and not 0 < rate < math.inf:
                raise ValueError(f"{each} has to be more than 0")
            if most is not None and (most < 1 or rate is None):
                raise ValueError(f"{burst} is of 1 {what} at least, and goes with {each}")

    @property
    def requests(self) -> Rate | None:
        """The request limit, or None."""
        return _to_rate(self.requests_per_minute, self.burst, RATE_HEADERS)

    @property
    def tokens(self) -> Rate | None:
        """The token limit, or None."""
        return _to_rate(self.tokens_per_minute, self.token_burst, TOKEN_HEADERS)


@dataclass(frozen=True, slots=True)
class Rate:
    """One token bucket, of requests or of tokens.

    Attributes:
        per_second: refill rate.
        at_once: capacity.
        names: the response headers that report it.
    """

    per_second: float
    at_once: int
    names: tuple[str, str, str]

    def headers(self, remaining: int, reset: float) -> list[tuple[str, str]]:
        """Return the response headers: the capacity, the remaining amount, and the time until the bucket is full."""
        return list(zip(self.names, (str(self.at_once), str(remaining), format_duration(reset)), strict=True))


def _to_rate(per_minute: float | None, at_once: int | None, names: tuple[str, str, str]) -> Rate | None:
    if per_minute is None:
        return None
    return Rate(per_minute / MINUTE, math.ceil(per_minute) if at_once is None else at_once, names)


def rate_limited(what: str, rate: Rate, wait: float, headers: list[tuple[str, str]]) -> RateLimited:
    """Create the 429 for a caller who must wait `wait` seconds."""
    text = f"More than {rate.per_second * MINUTE:g} {what} in a minute. Try again in {wait:.3g} s."
    exactly = ("Retry-After-Ms", str(math.ceil(wait * 1000)))  # OpenAI's SDKs prefer it to Retry-After
    # OpenAI's SDKs wait up to 120 s; for a longer time they do not retry.
    return RateLimited(text, retry_after=math.ceil(wait), headers=dict([*headers, exactly]))


RatesOf: TypeAlias = Rates | Callable[[Principal], Rates | None]
"""One `Rates` for everyone, or a function that returns it for a principal; None is no limit."""


def format_duration(seconds: float) -> str:
    """Format a time as OpenAI does: `60ms`, `1s`, `6m0s`. Rounded up, so that a client does not return too early."""
    milliseconds = math.ceil(seconds * 1000)
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, whole = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h" * bool(hours) + f"{minutes}m" * bool(hours or minutes) + f"{whole}s"
