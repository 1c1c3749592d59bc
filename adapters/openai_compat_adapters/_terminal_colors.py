"""Terminal colors, which are off for files and pipes and can be disabled."""

from __future__ import annotations

import os
from typing import Literal, TextIO, TypeAlias

Color: TypeAlias = Literal["bold", "dim", "red", "green", "yellow", "cyan"]

CODES: dict[Color, int] = {"bold": 1, "dim": 2, "red": 31, "green": 32, "yellow": 33, "cyan": 36}


def wants_colors(stream: TextIO) -> bool:
    """True if text to `stream` may have colors: NO_COLOR and TERM=dumb disable them, FORCE_COLOR enables them."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return bool(os.environ.get("FORCE_COLOR")) or stream.isatty()


def colored(text: str, *colors: Color) -> str:
    """Wrap the text in escape codes."""
    return f"\x1b[{';'.join([str(CODES[color]) for color in colors])}m{text}\x1b[0m" if text and colors else text
