"""Failures that are told again to clients which ask again at once, instead of another run of the agent."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from ..policies.failures import ReplayFailures
from ..stores.port import Key, Replay

MOST_BYTES = 64 * 1024
"""Of one answer. A longer one cannot be repeated: then it is said that it was lost."""

MOST = 1000
"""Failures that are remembered, of all callers."""

MOST_OF_ONE = 50
"""Of one caller."""


@dataclass(slots=True)
class _Failure:
    replay: Replay
    since: float
    told: float


class RecentFailures:
    """The failures of this process's last minute, by whose request it was and its hash."""

    def __init__(self, policy: ReplayFailures, clock: Callable[[], float] = time.monotonic) -> None:
        self._policy = policy
        self._clock = clock
        self._kept: dict[Key, _Failure] = {}  # oldest first

    def find(self, key: Key, retries: str | None) -> Replay | None:
        """The failure that a request has had just now, None if it is to run. `retries` is the client's own count.

        A count of 0 says nothing: programs try again around SDKs that have not tried again themselves.
        """
        now = self._clock()
        self._forget(now)
        found = self._kept.get(key)
        again = retries is not None and retries != "0"
        if found is None or (now - found.told > self._policy.seconds and not again):
            self._kept.pop(key, None)
            return None
        found.told = now
        return found.replay

    def keep(self, key: Key, replay: Replay) -> None:
        """The request has failed."""
        now = self._clock()
        self._kept.pop(key, None)
        self._kept[key] = _Failure(replay, now, now)
        self._forget(now)
        theirs = [known for known in self._kept if known.principal == key.principal]
        for known in theirs[:-MOST_OF_ONE]:
            del self._kept[known]

    def _forget(self, now: float) -> None:
        for key, failure in list(self._kept.items()):
            if now - failure.since <= self._policy.longest and len(self._kept) <= MOST:
                return
            del self._kept[key]
