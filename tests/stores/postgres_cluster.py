"""A private PostgreSQL server for the tests, which may kill it: on a free port, in a temporary directory.

It uses the programs of Debian's package `postgresql`. Without them its tests are skipped, except in CI.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.backends.support import alive
from tests.clients.programs import give_up

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "shared_buffers": "32MB",
    "max_connections": "60",
    "log_min_messages": "fatal",
}
FORGETFUL = {"fsync": "off", "full_page_writes": "off"}
"""Settings that speed up ordinary tests: a killed server loses nothing, only a killed machine would."""

START = 20.0
"""Timeout for starting or stopping a server, in seconds."""


def programs() -> Path | None:
    """The directory with PostgreSQL's programs, which Debian does not put on the PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_until(condition: str, seconds: float = START) -> Iterator[None]:
    """Poll in a loop: `for _ in wait_until("it is up"): if up(): break`. Raises TimeoutError with the condition's name."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        yield
        time.sleep(0.02)
    raise TimeoutError(condition)


class Cluster:
    """One server with all its databases. `settings` are those of postgresql.conf.

    It runs as `user` in `directory`.
    """

    def __init__(self, bin_directory: Path, **settings: str) -> None:
        self._bin = bin_directory
        self.directory = Path(tempfile.mkdtemp(prefix="openai-compat-postgres-"))
        self.user = "postgres" if os.geteuid() == 0 else None  # PostgreSQL refuses to run as root
        self._settings = {**SETTINGS, **settings}
        self._server: subprocess.Popen[bytes] | None = None
        self._made = 0
        self.port = free_port()
        self._initialise()

    def _initialise(self) -> None:
        data = self.directory / "data"
        if self.user is not None:
            shutil.chown(self.directory, self.user)
        command = ["initdb", "--pgdata", str(data), "--username=owner", "--auth=trust", "--encoding=UTF8"]
        self._run(*command, "--locale=C", "--no-sync", "--no-instructions")
        rules = "host all guarded 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust\n"
        (data / "pg_hba.conf").write_text(rules)

    def _run(self, program: str, *arguments: str) -> str:
        done = subprocess.run(
            [str(self._bin / program), *arguments],
            user=self.user, cwd=self.directory, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    # databases

    def url(self, database: str, user: str = "owner") -> str:
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def sql(self, statements: str, database: str = "postgres") -> list[str]:
        """Run statements in psql and return the rows of the last one, with columns separated by `|`."""
        options = ["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1"]
        return self._run("psql", *options, self.url(database), "--command", statements).splitlines()

    def create_database(self) -> str:
        """Create an empty database and return its name."""
        self._made += 1
        name = f"test_{self._made}"
        self.sql(f"create database {name}")
        return name

    def drop_database(self, name: str) -> None:
        self.sql(f"drop database {name} with (force)")

    def cut_connections(self, database: str, having: str = "true") -> int:
        """End all connections to a database, whatever they are doing; wait until they are gone, and return their number."""
        mine = f"datname = '{database}' and pid <> pg_backend_pid() and {having}"
        return len(self.sql(f"select pg_terminate_backend(pid, 5000) from pg_stat_activity where {mine}"))

    # lifecycle

    @property
    def running(self) -> bool:
        return self._server is not None and self._server.poll() is None

    @property
    def processes(self) -> list[int]:
        """The server's process and its child processes."""
        return [] if self._server is None else [self._server.pid, *_children(self._server.pid)]

    def start(self) -> None:
        """Start the server and wait until it answers."""
        settings = [f"-c{name}={value}" for name, value in {**self._settings, "port": str(self.port)}.items()]
        log = (self.directory / "log").open("ab")
        self._server = subprocess.Popen(
            [str(self._bin / "postgres"), "-D", str(self.directory / "data"), *settings],
            user=self.user, cwd=self.directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
        log.close()
        for _ in wait_until("PostgreSQL is up"):
            assert self.running, (self.directory / "log").read_text()[-2000:]
            with suppress(AssertionError):
                self.sql("select 1")
                break

    def stop(self) -> None:
        """Shut down without waiting for clients to disconnect."""
        if self._server is not None and self.running:
            self.thaw()
            self._server.send_signal(signal.SIGINT)
            self._server.wait(START)

    def kill(self) -> None:
        """Send SIGKILL to the server and its child processes, and return when they are gone."""
        assert self._server is not None
        killed = self.processes
        self._signal(signal.SIGKILL)
        self._server.wait(START)
        # The kernel closes their connections as they exit, which takes a busy machine a while.
        for _ in wait_until("PostgreSQL's processes are gone"):
            if not any([alive(pid) for pid in killed]):
                break

    def restart(self) -> None:
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Send SIGSTOP: the server exists, accepts connections, and never answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        self.freeze()
        try:
            yield
        finally:
            self.thaw()

    @contextmanager
    def down(self) -> Iterator[None]:
        self.kill()
        try:
            yield
        finally:
            self.start()

    def _signal(self, number: signal.Signals) -> None:
        """Send a signal to the server and its child processes."""
        assert self._server is not None
        if number is not signal.SIGCONT:
            os.kill(self._server.pid, signal.SIGSTOP)  # from here on it starts no more processes
        for child in _children(self._server.pid):
            with suppress(ProcessLookupError):
                os.kill(child, number)
        os.kill(self._server.pid, number)

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)


def _children(parent: int) -> list[int]:
    """The child processes of a process; each of PostgreSQL's is in its own process group."""
    children: list[int] = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(status.read_text().rpartition(")")[2].split()[1]) == parent:
                children.append(int(status.parent.name))
    return children


@contextmanager
def cluster(**settings: str) -> Iterator[Cluster]:
    """A running server; if PostgreSQL is not installed, the test is skipped, or fails in CI."""
    found = programs()
    if found is None or not Path("/proc/self/stat").exists():
        give_up("PostgreSQL must be installed (Debian: apt install postgresql), and /proc be there")
        raise AssertionError
    server = Cluster(found, **settings)
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    """A running server, shared by all tests: a test that kills it restarts it."""
    with cluster(**FORGETFUL) as server:
        yield server


@pytest.fixture
def postgres_database(postgres: Cluster) -> Iterator[str]:
    """The name of a database for this test only, on a running server."""
    if not postgres.running:
        postgres.start()
    name = postgres.create_database()
    yield name
    postgres.thaw()
    if not postgres.running:
        postgres.start()
    postgres.drop_database(name)


@pytest.fixture
def postgres_url(postgres: Cluster, postgres_database: str) -> str:
    """The URL of a database for this test only."""
    return postgres.url(postgres_database)
