"""Programs that are not Python's: where one is missing its tests are skipped, but never in CI."""

from __future__ import annotations

import os
import shutil

import pytest


def need(*programs: str) -> None:
    """Skip the test if a program is missing; fail it where CI is "true"."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        give_up(f"{' and '.join(missing)} must be installed and on the PATH")


def give_up(reason: str) -> None:
    """Skip the test, or fail it in CI, where everything has to be there."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
