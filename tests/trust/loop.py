"""A watchdog over event loops: fails the test if one step takes too long.

It measures the thread's own CPU time, so a busy machine changes little, and compares it with a fixed piece of work on the
same machine. Garbage collection is not counted, because no step decides when it runs. Steps that import a module are not
counted either: each does so once per process.
"""

from __future__ import annotations

import asyncio
import asyncio.events
import gc
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

LONGEST = 0.1
"""Seconds allowed for one step, on a machine that does `_work` in `USUAL` seconds."""

USUAL = 0.010


def _work() -> float:
    start = time.thread_time()
    total = 0
    for number in range(200_000):
        total += number & 7
    return time.thread_time() - start


def _name(handle: Any) -> str:
    # Not its `repr`, which may contain a whole request: an outer watchdog would count the time for that.
    owner = getattr(handle._callback, "__self__", None)
    return owner.get_name() if isinstance(owner, asyncio.Task) else str(type(handle._callback))


class _Watch:
    def __init__(self) -> None:
        self.longest: tuple[float, str] = (0.0, "")
        self._collecting = threading.local()
        self._run = asyncio.events.Handle._run

    def start(self) -> None:
        watch, run = self, self._run

        def timed(handle: Any) -> None:
            watch._collecting.total = 0.0
            start, modules = time.thread_time(), len(sys.modules)
            run(handle)
            took = time.thread_time() - start - watch._collecting.total
            if took > watch.longest[0] and len(sys.modules) == modules:
                watch.longest = took, _name(handle)
            handle = None  # as asyncio's own `_run` does: an exception's frames lead to the handle, and the handle to the task

        asyncio.events.Handle._run = timed
        gc.callbacks.append(self._collected)

    def stop(self) -> None:
        asyncio.events.Handle._run = self._run
        gc.callbacks.remove(self._collected)

    def _collected(self, phase: str, _: Any) -> None:
        here = self._collecting
        if phase == "start":
            here.since = time.thread_time()
        elif hasattr(here, "since"):
            here.total = getattr(here, "total", 0.0) + time.thread_time() - here.since


@contextmanager
def watched_loop(longest: float = LONGEST) -> Iterator[None]:
    """Fail if a step of any asyncio event loop in this process takes longer. Other loops, such as trio's, are not watched."""
    watch = _Watch()
    watch.start()
    try:
        yield
    finally:
        watch.stop()
    took, what = watch.longest
    if took > longest:
        assert took <= longest * _slowness(), f"one step held the event loop for {took * 1000:.0f} ms: {what}"


def _slowness() -> float:
    """How much slower this machine is at the moment. With more threads than CPUs, thread times are reported too high."""
    crowded = os.getloadavg()[0] > (os.cpu_count() or 1)
    return max(1.0, max([_work() for _ in range(5)]) / USUAL) * (4 if crowded else 1)
