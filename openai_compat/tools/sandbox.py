"""Sandboxes for commands: the port, and Bubblewrap on Linux."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

SYSTEM_PATHS = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
"""The programs and libraries of the machine, readable in the sandbox."""

SETTINGS_PATHS = (
    "/etc/alternatives",
    "/etc/group",
    "/etc/hosts",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/resolv.conf",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
)
"""Settings that programs need, readable in the sandbox; no home directory, no private keys, no /root, /run, /srv, /var."""

CERTIFICATES = Path("/etc/ssl/certs")
PRIVATE = b"PRIVATE KEY"

TMP_SIZE = 256 * 1024 * 1024
"""Maximum size of the private /tmp, in bytes."""

SELF_TEST_TIMEOUT = 10.0
"""Seconds for the self-test of a new sandbox."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command to run: its words, its environment, and its working directory."""

    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    cwd: str | None = None


class Sandbox(Protocol):
    """Runs commands isolated from the server."""

    def wrap(self, command: Command) -> Command:
        """Return the command that runs `command` in the sandbox; on timeout its whole process group is killed."""
        ...


class Bubblewrap:
    """A sandbox based on `bwrap`: Linux namespaces, without a daemon and without root.

    A command has no network, sees only its own processes, and gets no privileges. It can read the machine's programs,
    libraries and public settings, and write only to a private /tmp that is deleted afterwards. Memory and the number of
    processes are not limited here: limit them for the server's container or systemd unit.

    Args:
        workdir: a directory that is also visible, under the same path, and where commands start.
        writable: True if commands may write to `workdir`.
        read_only: further files and directories that commands may read.
        network: True if commands may use the network.

    Raises RuntimeError if `bwrap` is not installed or cannot make a sandbox here, ValueError if a path does not exist.
    """

    def __init__(
        self,
        workdir: str | Path | None = None,
        *,
        writable: bool = True,
        read_only: Sequence[str | Path] = (),
        network: bool = False,
    ) -> None:
        self._workdir = None if workdir is None else _existing_path(workdir)
        program = shutil.which("bwrap")
        if program is None:
            raise RuntimeError("the program 'bwrap' is not installed (Debian: `apt install bubblewrap`)")
        self._argv = [
            program,
            *_isolation_options(network=network),
            *_read_only_options(SYSTEM_PATHS),
            *_read_only_options(SETTINGS_PATHS),
            *_hidden_key_options(),
        ]
        self._argv += _read_only_options([_existing_path(path) for path in read_only])
        if self._workdir is not None:
            self._argv += ["--bind" if writable else "--ro-bind", self._workdir, self._workdir]
        self._argv += ["--remount-ro", "/"]  # last: earlier mounts need their mount points created
        self._self_test()

    def wrap(self, command: Command) -> Command:
        """Wrap a command in `bwrap`. Its working directory, if it has one, must be inside the sandbox."""
        directory = command.cwd or self._workdir or "/tmp"  # noqa: S108  (the sandbox's own)
        # `--` ends bwrap's options, so that the model's words cannot be parsed as options.
        return replace(command, argv=[*self._argv, "--chdir", directory, "--", *command.argv], cwd="/")

    def _self_test(self) -> None:
        """Run a self-test, since a kernel or a container may forbid namespaces: better to fail now than on the first call."""
        tried = subprocess.run(  # noqa: S603  (words of our own)
            self.wrap(Command(["true"])).argv,
            capture_output=True,
            timeout=SELF_TEST_TIMEOUT,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        if tried.returncode != 0:
            words = tried.stderr.decode("utf-8", "replace").strip()
            raise RuntimeError(f"'bwrap' cannot make a sandbox on this machine: {words}")


def _isolation_options(*, network: bool) -> list[str]:
    return [
        "--unshare-all",
        *(["--share-net"] if network else []),
        "--die-with-parent",
        "--new-session",  # otherwise it could type into the server's terminal
        *("--cap-drop", "ALL"),
        *("--dev", "/dev"),
        *("--proc", "/proc"),
        *("--size", str(TMP_SIZE), "--tmpfs", "/tmp"),  # noqa: S108  (the sandbox's own)
    ]


def _read_only_options(paths: Sequence[str]) -> list[str]:
    # `-try`, since no system has all of these paths.
    return [word for path in paths for word in ("--ro-bind-try", path, path)]


def _hidden_key_options() -> list[str]:
    """Hide files beside the certificates that are not world-readable, or contain a private key."""
    found = sorted(CERTIFICATES.rglob("*")) if CERTIFICATES.is_dir() else []
    hidden = [str(path) for path in found if path.is_file() and not path.is_symlink() and _is_private(path)]
    return [word for path in hidden for word in ("--ro-bind", "/dev/null", path)]


def _is_private(path: Path) -> bool:
    try:
        return not path.stat().st_mode & 0o004 or PRIVATE in path.read_bytes()
    # A file that cannot be read may be private.
    except OSError:
        return True


def _existing_path(path: str | Path) -> str:
    absolute = Path(path).resolve()
    if not absolute.exists():
        raise ValueError(f"there is no {absolute}")
    return str(absolute)
