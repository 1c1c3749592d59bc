"""Recent failures, replayed to clients that retry at once, so that the agent does not run again."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from ..policies.replay_failures import ReplayFailures
from ..stores.records import Key, Replay

MAX_BYTES = 64 * 1024
"""Maximum size of a stored answer, in bytes. A longer one cannot be replayed; the client is told that it was lost."""

MAX_FAILURES = 1000
"""Maximum number of stored failures of all callers."""

MAX_FAILURES_OF_ONE = 50
"""Maximum number of stored failures of one caller."""


@dataclass(slots=True)
class _Failure:
    replay: Replay
    since: float
    replayed: float


class RecentFailures:
    """The recent failures of this process, by principal and hash of the request."""

    def __init__(self, policy: ReplayFailures, clock: Callable[[], float] = time.monotonic) -> None:
        self._policy = policy
        self._clock = clock
        self._kept: dict[Key, _Failure] = {}  # oldest first

    def find(self, key: Key, retries: str | None) -> Replay | None:
        """The failure to replay; None if the request must run. `retries` is the client's own retry count."""
        now = self._clock()
        self._forget(now)
        found = self._kept.get(key)
        # A count of 0 proves nothing: gptme and aider retry on their own, around SDKs that send 0 each time.
        again = retries is not None and retries != "0"
        if found is None or (now - found.replayed > self._policy.seconds and not again):
            self._kept.pop(key, None)
            return None
        found.replayed = now  # a client that keeps retrying gets the failure until `longest`
        return found.replay

    def keep(self, key: Key, replay: Replay) -> None:
        """Store the failure of a request."""
        now = self._clock()
        self._kept.pop(key, None)
        self._kept[key] = _Failure(replay, now, now)  # at the end, since the oldest are first
        self._forget(now)
        theirs = [known for known in self._kept if known.principal == key.principal]
        for known in theirs[:-MAX_FAILURES_OF_ONE]:
            del self._kept[known]

    def _forget(self, now: float) -> None:
        for key, failure in list(self._kept.items()):
            if now - failure.since <= self._policy.longest and len(self._kept) <= MAX_FAILURES:
                return
            del self._kept[key]
