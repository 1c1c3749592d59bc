"""The last failure of an agent in this process, in a line: who chats with it here may see its exceptions."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager

from ..._request_line import own_frame
from ...logs import configure_logging
from ..terminal import visible


class LastFailure(logging.Handler):
    """Keeps the last exception that was logged, in a line."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self._last = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Keep what was raised, and where in the user's own code."""
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            said = visible(" ".join(f"{type(error).__name__}: {error}".split()))
            where = own_frame(error.__traceback__)  # now: it is cut off later
            self._last = f"{said} ({where}); --log-level error shows more" if where else said

    def told(self) -> str:
        """`RuntimeError: no such city (agent.py:31 in look_up); …`, once; "" without one."""
        last, self._last = self._last, ""
        return last


@contextmanager
def last_failure(level: str) -> Generator[Callable[[], str]]:
    """Log from `level` on, and give what tells the last failure."""
    logger, kept = logging.getLogger("openai_compat"), LastFailure()
    before = logger.level, logger.propagate
    configure_logging("error" if level == "critical" else level)
    logger.propagate = level != "critical"  # what is critical is told by an exit
    logger.addHandler(kept)
    try:
        yield kept.told
    finally:
        logger.removeHandler(kept)
        logger.level, logger.propagate = before
