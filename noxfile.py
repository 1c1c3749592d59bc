"""The project's checks: `nox -l` lists them, `nox` runs those that CI runs."""

from __future__ import annotations

import tempfile
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.sessions = ["lint", "types", "tests", "docs", "wheel"]

PYPROJECT = nox.project.load_toml("pyproject.toml")
GROUPS = {name: nox.project.dependency_groups(PYPROJECT, name) for name in PYPROJECT["dependency-groups"]}


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests; arguments go to pytest."""
    session.install("-e", ".[test]")
    session.run("python", "-m", "pytest", "-n", "auto", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, and which module may import which."""
    session.install("-e", ".", *GROUPS["lint"])
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("lint-imports")


@nox.session
def types(session: nox.Session) -> None:
    """Check the types with mypy and pyright, both strict, and what users' code sees of them."""
    session.install("-e", ".[test]", *GROUPS["types"])
    session.run("mypy")
    session.run("pyright")
    session.run("mypy", "--strict", "tests/typing")
    session.run("pyright", "tests/typing")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation; a broken link is an error. Its code blocks run in `tests`."""
    session.install("-e", ".[all]", *GROUPS["docs"])
    session.run("mkdocs", "build", "--strict", "--site-dir", session.create_tmp())


@nox.session
def wheel(session: nox.Session) -> None:
    """Build the wheel, install it where nothing else is, import it from there and serve with it."""
    session.install("build")
    with tempfile.TemporaryDirectory() as folder:
        session.run("python", "-m", "build", "--outdir", folder, silent=True)
        (built,) = Path(folder).glob("*.whl")
        session.install("--force-reinstall", f"{built}[serve,client]")
        script = Path("tests/wheel_check.py").resolve()
        session.chdir(folder)
        session.run("python", "-I", str(script))


@nox.session
def frameworks(session: nox.Session) -> None:
    """Run the acceptance cases of the agent frameworks, each in an environment of its own; arguments go to run.py."""
    session.install("uv")
    session.run("python", "tests/frameworks/run.py", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure against a raw ASGI floor, a hand-written server and a peer; arguments go to benchmarks/run.py.

    `knee` as the first goes to benchmarks/knee.py, which loads a server beyond what it can do.
    """
    session.install("-e", ".[test]", *GROUPS["bench"])  # PostgreSQL is started as the tests start it
    script, arguments = "run.py", session.posargs
    if arguments[:1] == ["knee"]:
        script, arguments = "knee.py", arguments[1:]
    session.run("python", f"benchmarks/{script}", *arguments)
