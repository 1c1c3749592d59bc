"""The project's checks: `nox -l` lists them, `nox` runs those that CI runs."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.sessions = ["lint", "types", "tests", "docs", "wheel", "deploy"]

PYPROJECT = nox.project.load_toml("pyproject.toml")
GROUPS = {name: nox.project.dependency_groups(PYPROJECT, name) for name in PYPROJECT["dependency-groups"]}


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests; arguments go to pytest."""
    session.install("-e", ".[test]")
    session.run("python", "-m", "pytest", "-n", "auto", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and import rules."""
    session.install("-e", ".", *GROUPS["lint"])
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("lint-imports")


@nox.session
def types(session: nox.Session) -> None:
    """Check the types with mypy and pyright, both strict, and the types that users' code gets."""
    session.install("-e", ".[test]", *GROUPS["types"])
    session.run("mypy")
    session.run("pyright")
    session.run("mypy", "--strict", "tests/typing")
    session.run("pyright", "tests/typing")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation into site/, where a broken link is an error, and test its search and what it loads."""
    session.install("-e", ".[test]", *GROUPS["docs"])
    session.run("python", "-m", "pytest", "-n0", "tests/docs/test_site.py", *session.posargs)


@nox.session
def wheel(session: nox.Session) -> None:
    """Build a release twice, check it as PyPI would, install its wheel into a clean environment, and serve with it."""
    session.install(*GROUPS["wheel"])
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as again:
        for outdir in (folder, again):  # builds an sdist, and the wheel from it
            session.run("python", "-m", "build", "--outdir", outdir, silent=True)
        session.run("twine", "check", "--strict", *[str(built) for built in Path(folder).iterdir()])
        session.run("python", "tests/release_check.py", folder, again)
        (built,) = Path(folder).glob("*.whl")
        session.install("--force-reinstall", f"{built}[serve,client]")
        script = Path("tests/wheel_check.py").resolve()
        session.chdir(folder)
        session.run("python", "-I", str(script))


@nox.session
def deploy(session: nox.Session) -> None:
    """Check the files of examples/deploy with the programs that read them; tests/deploy runs what can be run."""
    session.install(*GROUPS["deploy"])
    folder, made = Path("examples/deploy"), Path(session.create_tmp())
    session.run("hadolint", str(folder / "Dockerfile"))
    session.run("check-jsonschema", "--builtin-schema", "vendor.compose-spec", str(folder / "compose.yaml"))
    session.run("kubernetes-validate", "--strict", "-k", "1.33", str(folder / "kubernetes.yaml"))
    # systemd-analyze wants the unit's program to exist, and nginx its certificate.
    unit = (folder / "agents.service").read_text("utf-8").replace("/opt/agents/venv/bin/openai-compat", sys.executable)
    (made / "agents.service").write_text(unit, "utf-8")
    for arguments in (["verify"], ["security", "--offline=true", "--threshold=20", "--no-pager"]):
        _run_if_installed(session, "systemd-analyze", *arguments, str(made / "agents.service"))
    key, certificate = str(made / "agents.key"), str(made / "agents.pem")
    names = ["-subj", "/CN=agents.example.com", "-keyout", key, "-out", certificate]
    _run_if_installed(session, "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *names)
    proxy = (folder / "nginx.conf").read_text("utf-8").replace("/etc/nginx/tls", str(made.resolve()))
    (made / "nginx.conf").write_text(f"pid nginx.pid;\nevents {{ }}\nhttp {{\n{proxy}}}\n", "utf-8")
    _run_if_installed(session, "nginx", "-t", "-p", str(made.resolve()), "-e", "stderr", "-c", "nginx.conf")


def _run_if_installed(session: nox.Session, program: str, *arguments: str) -> None:
    """Run a program. A missing one is an error in CI, and elsewhere a warning."""
    if shutil.which(program) is not None or os.environ.get("CI") == "true":
        session.run(program, *arguments, external=True, silent=True)
    else:
        session.warn(f"{program} is not installed: {arguments[-1]} is not checked by it")


@nox.session
def frameworks(session: nox.Session) -> None:
    """Run the acceptance cases of the agent frameworks, each in its own environment; arguments go to run.py."""
    session.install("uv")
    session.run("python", "tests/frameworks/run.py", *session.posargs)


@nox.session
def open_webui(session: nox.Session) -> None:
    """Run the real Open WebUI with agents served here; arguments go to pytest. It takes a gigabyte, so CI does not."""
    _with_program(session, "open_webui", "open-webui", python="3.11")


@nox.session
def home_assistant(session: nox.Session) -> None:
    """Run the real Home Assistant with agents served here; arguments go to pytest. CI does not."""
    _with_program(session, "home_assistant", "hass", python="3.13")


def _with_program(session: nox.Session, name: str, command: str, *, python: str) -> None:
    """Install the program into its own environment, and run its tests. OPEN_WEBUI_PYTHON and the like set its Python version."""
    session.install("-e", ".[test]", *GROUPS["heavy"])
    folder, here = Path(session.create_tmp()).resolve() / name, "tests/clients/heavy"
    wanted = os.environ.get(f"{name.upper()}_PYTHON", python)
    session.run("uv", "venv", "--clear", "--python", wanted, str(folder))
    options = ["--requirements", f"{here}/{name}.txt", "--overrides", f"{here}/left_out.txt"]
    session.run("uv", "pip", "install", "--python", str(folder / "bin" / "python"), *options)
    env = {name.upper(): str(folder / "bin" / command)}
    session.run("python", "-m", "pytest", "-n0", f"{here}/{name}.py", *session.posargs, env=env)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure against a raw ASGI floor, a hand-written server and a peer; arguments go to benchmarks/run.py.

    With `knee` first, arguments go to benchmarks/knee.py, which overloads a server.
    """
    session.install("-e", ".[test]", *GROUPS["bench"])  # the tests' helper starts PostgreSQL
    script, arguments = "run.py", session.posargs
    if arguments[:1] == ["knee"]:
        script, arguments = "knee.py", arguments[1:]
    session.run("python", f"benchmarks/{script}", *arguments)
