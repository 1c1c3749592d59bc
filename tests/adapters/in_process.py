"""The command line in this process: its output, and the server that it would serve."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
from click.testing import CliRunner, Result

from openai_compat import Server
from openai_compat_adapters._cli import serve_command
from openai_compat_adapters._cli.serve_options import ServeOptions
from openai_compat_adapters.cli import main
from openai_compat_adapters.transport import SyncTransport


def invoke(*arguments: str, **options: object) -> Result:
    """Run a command to its end. `output` has stdout and stderr, interleaved as a user sees them."""
    result = CliRunner().invoke(main, arguments, **options)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@contextmanager
def working_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Work in `folder`; the modules imported from it are removed at the end."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(folder)):
            del sys.modules[name]


@dataclass
class Ran:
    """The arguments of a run that did not happen."""

    server: Server
    options: ServeOptions
    folder: Path
    cwd: Path

    @property
    def client(self) -> httpx2.Client:
        """Sends requests to the server, without a socket."""
        return httpx2.Client(transport=SyncTransport(self.server), base_url="http://localhost")


def would_serve(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Ran:
    """Return what `openai-compat serve` would run."""
    ran: list[Ran] = []

    def run(server: Server, options: ServeOptions, warnings: list[str], folder: Path) -> int:
        ran.append(Ran(server, options, folder, Path.cwd()))
        return 0

    with monkeypatch.context() as patch:
        patch.setattr(serve_command, "run", run)
        result = invoke("serve", *arguments)
    assert result.exit_code == 0, result.output
    return ran[0]
