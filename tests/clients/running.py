"""Runs commands and programs from documentation, and compares their output with the documented one."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from tests.clients.programs import need


def run(command: str, theirs: str, url: str) -> str:
    """Output of the command, with their server's address replaced by ours."""
    need("bash", "curl")
    assert theirs in command
    done = subprocess.run(
        ["bash", "-c", command.replace(theirs, url)], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_python(program: str, theirs: str, url: str) -> str:
    """The same for a Python program."""
    assert theirs in program
    done = subprocess.run(
        [sys.executable, "-c", program.replace(theirs, url)], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def has(found: Any, promised: Any) -> bool:
    """True if `found` has everything in `promised`; extra keys are allowed, and "..." matches any ending."""
    if isinstance(promised, dict):
        return all([key in found and has(found[key], value) for key, value in promised.items()])
    if isinstance(promised, list):
        return len(found) == len(promised) and all(map(has, found, promised))
    if isinstance(promised, str) and promised.endswith("..."):
        return str(found).startswith(promised[:-3])
    return bool(found == promised)
