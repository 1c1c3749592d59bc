"""Entry point of `openai-compat`; without click, it names the missing extra."""

from __future__ import annotations

import sys

from openai_compat.package import MissingExtra


def main() -> None:
    """Run the command line and exit with its code."""
    try:
        from ..cli import main as run  # noqa: PLC0415  (it needs click)
    except MissingExtra as error:
        sys.exit(f"Error: {error}")
    run(prog_name="openai-compat")
