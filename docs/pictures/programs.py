"""Runs the program for the pictures."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

COMMAND = Path(sys.executable).with_name("openai-compat")


@contextmanager
def demo() -> Iterator[str]:
    """The address of a running `openai-compat demo`."""
    command = [COMMAND, "demo", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            for line in process.stderr:
                if found := re.search(r"http://127\.0\.0\.1:\d+(?=/v1)", line):
                    yield found[0]
                    break
        finally:
            process.terminate()
