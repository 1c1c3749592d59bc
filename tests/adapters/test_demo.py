"""`openai-compat demo`, and `python -m openai_compat`."""

from __future__ import annotations

import subprocess
import sys

from openai_compat import __version__
from tests.requirements import requirement


@requirement("cli.module")
def test_the_package_is_the_program_too() -> None:
    command = [sys.executable, "-m", "openai_compat", "--version"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, f"openai-compat, version {__version__}\n", "")
