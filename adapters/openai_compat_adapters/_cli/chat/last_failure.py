"""The last failure of an agent in this process, in one line: a local user may see its exceptions."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager

from ..._request_line import innermost_user_frame
from ...logs import configure_logging
from ..terminal import visible


class LastFailure(logging.Handler):
    """Stores the last logged exception, in one line."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self._last = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Store the exception and its place in the user's code."""
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            said = visible(" ".join(f"{type(error).__name__}: {error}".split()))
            where = innermost_user_frame(error.__traceback__)  # now, because the traceback is cut off later
            self._last = f"{said} ({where}); --log-level error shows more" if where else said

    def take_failure(self) -> str:
        """Return the failure once, then "": `RuntimeError: no such city (agent.py:31 in look_up); …`."""
        last, self._last = self._last, ""
        return last


@contextmanager
def last_failure(level: str) -> Generator[Callable[[], str]]:
    """Log from `level` on, and yield a function that returns the last failure."""
    logger, kept = logging.getLogger("openai_compat"), LastFailure()
    before = logger.level, logger.propagate
    configure_logging("error" if level == "critical" else level)
    logger.propagate = level != "critical"  # a critical failure shows as the exit of the program
    logger.addHandler(kept)
    try:
        yield kept.take_failure
    finally:
        logger.removeHandler(kept)
        logger.level, logger.propagate = before
