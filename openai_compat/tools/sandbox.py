"""Sandboxes for commands: the port, and Bubblewrap on Linux."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
"""What a command in the sandbox can read of the machine: its programs,"""

SETTINGS = (
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
"""and those of its settings that programs need; no home directory, no private keys, no /root, /run, /srv, /var."""

CERTIFICATES = Path("/etc/ssl/certs")
PRIVATE = b"PRIVATE KEY"

TMP_SIZE = 256 * 1024 * 1024
"""Bytes that the private /tmp can hold."""

PATIENCE = 10.0
"""Seconds in which a sandbox has to show, when it is made, that it works."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command to run: its words, its environment, and the directory to run it in."""

    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    cwd: str | None = None


class Sandbox(Protocol):
    """A place where commands run apart from the server."""

    def wrap(self, command: Command) -> Command:
        """The command that runs `command` there; its process group is killed as a whole when its time is over."""
        ...


class Bubblewrap:
    """A sandbox by `bwrap`: namespaces of the Linux kernel, without a daemon and without root.

    A command has no network, sees no process but its own, and gets no privileges. It can read the machine's programs,
    libraries and public settings, and write only to a /tmp of its own that is gone afterwards. How much memory and
    how many processes it may use is not limited here: that is for the server's container or systemd unit.

    Args:
        workdir: a directory that is there besides, under its own path, and where commands start.
        writable: whether they may write to it.
        read_only: further files and directories that they may read.
        network: whether they may use the network.

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
        self._workdir = None if workdir is None else _existing(workdir)
        program = shutil.which("bwrap")
        if program is None:
            raise RuntimeError("the program 'bwrap' is not installed (Debian: `apt install bubblewrap`)")
        self._argv = [program, *_apart(network=network), *_readable(SYSTEM), *_readable(SETTINGS), *_without_keys()]
        self._argv += _readable([_existing(path) for path in read_only])
        if self._workdir is not None:
            self._argv += ["--bind" if writable else "--ro-bind", self._workdir, self._workdir]
        self._argv += ["--remount-ro", "/"]  # last: what is mounted before needs places made for it
        self._try()

    def wrap(self, command: Command) -> Command:
        """The command within `bwrap`. A directory of its own has to be inside the sandbox."""
        directory = command.cwd or self._workdir or "/tmp"  # noqa: S108  (the sandbox's own)
        # `--` ends bwrap's own options: words of the model could be taken for some.
        return replace(command, argv=[*self._argv, "--chdir", directory, "--", *command.argv], cwd="/")

    def _try(self) -> None:
        """A kernel or a container may forbid namespaces: better to know now than with the first call."""
        tried = subprocess.run(  # noqa: S603  (words of our own)
            self.wrap(Command(["true"])).argv,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        if tried.returncode != 0:
            words = tried.stderr.decode("utf-8", "replace").strip()
            raise RuntimeError(f"'bwrap' cannot make a sandbox on this machine: {words}")


def _apart(*, network: bool) -> list[str]:
    return [
        "--unshare-all",
        *(["--share-net"] if network else []),
        "--die-with-parent",
        "--new-session",  # else it could type into the server's terminal
        *("--cap-drop", "ALL"),
        *("--dev", "/dev"),
        *("--proc", "/proc"),
        *("--size", str(TMP_SIZE), "--tmpfs", "/tmp"),  # noqa: S108  (the sandbox's own)
    ]


def _readable(paths: Sequence[str]) -> list[str]:
    # `-try`, since no system has all of these.
    return [word for path in paths for word in ("--ro-bind-try", path, path)]


def _without_keys() -> list[str]:
    """Hides what is not for everybody, or holds a private key, and yet lies beside the certificates."""
    found = sorted(CERTIFICATES.rglob("*")) if CERTIFICATES.is_dir() else []
    hidden = [str(path) for path in found if path.is_file() and not path.is_symlink() and _is_private(path)]
    return [word for path in hidden for word in ("--ro-bind", "/dev/null", path)]


def _is_private(path: Path) -> bool:
    try:
        return not path.stat().st_mode & 0o004 or PRIVATE in path.read_bytes()
    # What cannot be read cannot be known to be harmless.
    except OSError:
        return True


def _existing(path: str | Path) -> str:
    absolute = Path(path).resolve()
    if not absolute.exists():
        raise ValueError(f"there is no {absolute}")
    return str(absolute)
