"""Makes the pictures of the documentation, in docs/img.

    uv run --with pillow --with-editable '.[test]' python -m docs.pictures diagrams page terminal

`page` needs Chromium; `states` makes pictures of every state of the page, for review only; `metrics` and `traces` need what
their files say.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

KINDS = ("diagrams", "first_minutes", "metrics", "page", "states", "terminal", "traces")
FOLDER = Path(__file__).parent.parent / "img"


def main(kinds: list[str]) -> None:
    if not kinds or not set(kinds) <= set(KINDS):
        raise SystemExit(f"python -m docs.pictures, and one or more of: {' '.join(KINDS)}")
    for kind in kinds:
        importlib.import_module(f"docs.pictures.{kind}").main(FOLDER)


main(sys.argv[1:])
