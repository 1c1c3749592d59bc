"""Runs the acceptance cases of every framework, each in a separate environment, three at a time. Also runs one agent of
each framework together in one server.

    python tests/frameworks/run.py [--lowest] [--update] [pydantic_ai …]

A framework is a file of test doubles in this folder, named like its backend and, with hyphens, like its extra;
`NAME_cases.py` has its special cases. `--lowest` also runs them with the oldest version that the extra allows. `--update`
writes the table of the documentation. A framework that cannot be installed is an error in CI, and is skipped elsewhere.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
sys.path[0] = str(ROOT)  # replaces this folder, whose files have the names of the frameworks

from tests.frameworks.table import PAGE, asking, names, page  # noqa: E402  (found by the path above)

ENVIRONMENTS = ROOT / ".nox" / "frameworks"
PYTEST = ["-c", os.devnull, "--rootdir", ".", "--confcutdir", "tests/frameworks", "-p", "no:cacheprovider", "-q"]
CASES = [*PYTEST, "-p", "tests.frameworks.report", "--timeout", "120", "tests/frameworks/acceptance.py"]
TOGETHER = [*PYTEST, "--timeout", "240", "tests/frameworks/together.py"]
CLIENTS = {"claude_agent_sdk": [*PYTEST, "tests/clients/test_claude_code.py", "-k", "breaks or mends"]}
"""Tests of clients that come with a framework: the newest Claude Code is also a client of our server."""
SDK = "opentelemetry-sdk>=1.35"
BESIDE = {
    "pydantic_ai": [SDK],
    "langgraph": [SDK, "openinference-instrumentation-langchain>=0.1.50"],
    "claude_agent_sdk": ["ollama>=0.6"],
}
"""Further packages: instrumentation, for the cases that check a framework's spans below ours, and other clients."""

PATIENCE = 900.0
"""Timeout of one framework, in seconds."""


@dataclass
class Result:
    """The result of a framework: `failed` is the output to print, `missing` is why it could not be installed."""

    name: str
    seconds: float = 0
    failed: str = ""
    missing: str = ""


def requirements(name: str, *, lowest: bool) -> list[str]:
    """The requirements of a framework's extra."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    wanted: list[str] = extras[name.replace("_", "-")]
    return [one.replace(">=", "==") for one in wanted] if lowest else wanted


def environment(name: str, packages: list[str]) -> Path:
    """Make an environment with these packages; returns its Python. Raises subprocess.CalledProcessError."""
    folder = ENVIRONMENTS / name
    uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
    python = folder / "bin" / "python"
    if not python.exists():
        _call(uv, "venv", "-q", "--python", sys.executable, str(folder))
    install = [uv, "pip", "install", "-q", "--upgrade", "--python", str(python), "-e", ".[serve,client]"]
    _call(*install, "pytest>=8.4", "pytest-timeout>=2.4", "sybil>=9", *packages)
    return python


def _call(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)


def run(name: str, *, lowest: bool) -> Result:
    """Install a framework and run its cases."""
    packages = [*requirements(name, lowest=lowest), *BESIDE.get(name, [])]
    own = [str(path) for path in [HERE / f"{name}_cases.py"] if path.is_file()]
    # Skipped for the oldest version: stores do not depend on the framework's version, the suite checks the same as the
    # cases, and the page is for new installations.
    cases = [*CASES, *own, *(["-k", "not on_disk and not conformance_suite and not the_page"] if lowest else [])]
    further = [CLIENTS[name]] if name in CLIENTS and not lowest else []
    return _run(f"{name}-lowest" if lowest else name, packages, [cases, *further], {"OPENAI_COMPAT_FRAMEWORK": name})


def run_together() -> Result:
    """Install all frameworks with approvals into one environment, and run an agent of each in one server."""
    packages = [package for name in asking() for package in requirements(name, lowest=False)]
    return _run("together", packages, [TOGETHER], {})


def _run(name: str, packages: list[str], runs: list[list[str]], more: dict[str, str]) -> Result:
    result, began = Result(name), time.monotonic()
    try:
        python = environment(name, packages)
    except subprocess.CalledProcessError as error:
        result.missing = error.stderr.strip()
        return result
    variables = {**os.environ, **more}
    variables.pop("PYTHONDONTWRITEBYTECODE", None)  # several processes import the framework
    for cases in runs:
        command = [str(python), "-m", "pytest", *cases]
        done = subprocess.run(
            command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        if done.returncode != 0:
            result.failed += done.stdout + done.stderr
    result.seconds = time.monotonic() - began
    return result


def main() -> int:
    """Run the selected frameworks, and print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("frameworks", nargs="*", metavar="FRAMEWORK", help="all unless some are named")
    parser.add_argument("--lowest", action="store_true", help="also with the oldest versions")
    parser.add_argument("--update", action="store_true", help="write the table of the documentation")
    options = parser.parse_args()
    wanted: list[str] = options.frameworks or list(names())
    jobs = [(name, lowest) for lowest in ([False, True] if options.lowest else [False]) for name in wanted]
    jobs.sort(key=lambda job: job[0] not in CLIENTS)  # the longest job first: it mostly waits
    with ThreadPoolExecutor(3) as pool:
        together = None if options.frameworks else pool.submit(run_together)
        results = list(pool.map(lambda job: run(job[0], lowest=job[1]), jobs))
        results += [] if together is None else [together.result()]
    good = all([_told(result) for result in results])
    if good and options.update:
        PAGE.write_text(page(), "utf-8")
    return 0 if good else 1


def _told(result: Result) -> bool:
    if result.missing:
        print(f"{result.name}: cannot be installed\n{result.missing}")
        return not os.environ.get("CI")
    print(
        f"{result.name}: {'failed' if result.failed else 'passed'} in {result.seconds:.0f} s\n{result.failed}", end=""
    )
    return not result.failed


if __name__ == "__main__":
    raise SystemExit(main())
