"""Checks for programs outside Python: a test skips if its program is missing, but fails in CI."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TERMINAL = HERE / "terminal"


def need(*programs: str) -> None:
    """Skip the test if a program is missing; fail it if CI is "true"."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        give_up(f"{' and '.join(missing)} must be installed and on the PATH")


def need_node_packages() -> None:
    """Install the npm packages pinned in package.json into this folder, once."""
    need("node", "npm")
    with _one_process_at_a_time("node"):
        _install_node_packages()


def _install_node_packages() -> None:
    wanted = json.loads((HERE / "package.json").read_text("utf-8"))["dependencies"]
    manifests = {name: HERE / "node_modules" / name / "package.json" for name in wanted}
    if all(
        path.exists() and json.loads(path.read_text("utf-8"))["version"] == wanted[n] for n, path in manifests.items()
    ):
        return
    command = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=50, check=False)
    if done.returncode:
        give_up(f"npm cannot install its packages: {done.stderr[-500:]}")


def need_terminal_programs(*names: str) -> dict[str, str]:
    """Paths of coding agents by name; `.ci/run` has installed them below the folder `terminal`."""
    need("node")
    found = {name: TERMINAL / "node_modules" / ".bin" / name for name in names}
    missing = [name for name, path in found.items() if not path.exists()]
    if missing:
        give_up(f"{' and '.join(missing)}: see .ci/run, which installs them into {TERMINAL}")
    return {name: str(path) for name, path in found.items()}


def need_python_packages() -> Path:
    """The Python of an environment with the packages pinned in requirements.txt, created once below this folder."""
    with _one_process_at_a_time("python"):
        return _install_python_packages()


def _install_python_packages() -> Path:
    folder, wanted = HERE / ".venv", (HERE / "requirements.txt").read_text("utf-8")
    python, made = folder / "bin" / "python", folder / "made-from.txt"
    if made.exists() and made.read_text("utf-8") == wanted:
        return python
    create = [sys.executable, "-m", "venv", "--clear", str(folder)]
    pip = [str(python), "-m", "pip", "install"]
    if uv := _uv():  # two seconds instead of pip's forty
        create.append("--without-pip")
        pip = [uv, "pip", "install", "--python", str(python)]
    for command in (create, [*pip, "-q", "-r", str(HERE / "requirements.txt")]):
        done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
        if done.returncode:
            give_up(f"Python packages cannot be installed: {done.stderr[-500:]}")
    made.write_text(wanted, "utf-8")
    return python


@contextmanager
def _one_process_at_a_time(what: str) -> Iterator[None]:
    """Hold a lock across processes: two pytest-xdist workers would install into one folder at once."""
    with (HERE / f".installing-{what}").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # released when the file is closed
        yield


def _uv() -> str | None:
    beside = Path(sys.executable).with_name("uv")
    return str(beside) if beside.exists() else shutil.which("uv")


def give_up(reason: str) -> None:
    """Skip the test, or fail it in CI, where everything must be installed."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
