"""An image without Docker: runs each step of a Dockerfile in its own root directory, with `bwrap`.

The contents of a base image, an operating system and `python`, come from this machine, read-only.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.clients.programs import need

THEIRS = ("app", "dev", "proc", "sys", "tmp", "venv")
"""Directories that are not shared from this machine."""
FOR_UV = re.compile(r"UV_\w+|\w+_proxy|SSL_CERT_FILE", re.IGNORECASE)
BASE = "/base-image/bin"


@dataclass
class Stage:
    """One `FROM` of a Dockerfile, as far as it is built."""

    root: Path
    env: dict[str, str] = field(default_factory=lambda: {"PATH": f"{BASE}:/usr/bin:/bin", "HOME": "/tmp"})
    workdir: str = "/"
    user: str = "0:0"
    healthcheck: list[str] = field(default_factory=list)
    entrypoint: list[str] = field(default_factory=list)

    def command(self, argv: list[str], *, shown: Path | None = None, **env: str) -> list[str]:
        """The command that runs `argv` in this root, with only its user's rights, in its environment and directory.

        During the build the root is writable, and the folder `shown` is visible.
        """
        uid, gid = self.user.split(":")
        words = ["bwrap", "--bind" if shown else "--ro-bind", str(self.root), "/"]
        for path in _machine():
            words += [] if path.is_symlink() else ["--ro-bind", str(path), str(path)]
        words += ["--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp", "--clearenv"]
        words += ["--ro-bind", str(shown), str(shown)] if shown else []
        for name, value in (self.env | env).items():
            words += ["--setenv", name, value]
        words += ["--unshare-user", "--uid", uid, "--gid", gid, "--cap-drop", "ALL", "--unshare-pid", "--as-pid-1"]
        return [*words, "--die-with-parent", "--new-session", "--chdir", self.workdir, "--", *argv]


def build(folder: Path, target: Path, *, wheels: Path) -> Stage:
    """Run the steps of `folder`'s Dockerfile below `target`; uv also searches `wheels`. Returns the last stage."""
    need("bwrap")
    if subprocess.run(["bwrap", "--ro-bind", "/", "/", "--unshare-user", "true"], check=False).returncode:
        pytest.skip("'bwrap' may not make namespaces here")
    env = {name: value for name, value in os.environ.items() if FOR_UV.fullmatch(name)}
    env["UV_FIND_LINKS"] = ",".join([str(wheels), *filter(None, [env.get("UV_FIND_LINKS")])])
    stages: dict[str, Stage] = {}
    stage = Stage(target)
    for name, words in instructions(folder / "Dockerfile"):
        if name == "FROM":
            _, *named = words.split()
            stage = stages[named[1] if named else ""] = Stage(_new_root(target / str(len(stages))))
        elif name == "COPY":
            _copy(folder, stages, stage, words.split())
        elif name == "RUN":
            argv = stage.command(["sh", "-c", words], shown=wheels, **env)
            done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=100)
            assert done.returncode == 0, done.stdout + done.stderr
        else:
            _set(stage, name, words)
    return stage


def _set(stage: Stage, name: str, words: str) -> None:
    if name == "ENV":
        for assignment in shlex.split(words):
            variable, value = assignment.split("=", 1)
            stage.env[variable] = value.replace("$PATH", stage.env["PATH"])
    elif name == "WORKDIR":
        stage.workdir = words
        _inside(stage, words).mkdir(parents=True, exist_ok=True)
    elif name == "USER":
        stage.user = words
    elif name == "HEALTHCHECK":
        stage.healthcheck = json.loads(words.partition("CMD ")[2])
    elif name == "ENTRYPOINT":
        stage.entrypoint = json.loads(words)
    else:
        assert name == "EXPOSE", f"unknown here: {name}"


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """Instructions of a Dockerfile, each with its arguments."""
    lines = [line for line in dockerfile.read_text("utf-8").splitlines() if line and not line.startswith("#")]
    whole = "\n".join(lines).replace("\\\n", " ").splitlines()
    return [(name, rest.strip()) for name, _, rest in [line.partition(" ") for line in whole]]


def _copy(folder: Path, stages: dict[str, Stage], stage: Stage, words: list[str]) -> None:
    if words[0].startswith("--from=ghcr.io/astral-sh/uv:"):
        shutil.copy(uv(), _inside(stage, words[-1]))
        return
    if words[0].startswith("--from="):
        origin = _inside(stages[words[0].removeprefix("--from=")], words[1])
        shutil.copytree(origin, _inside(stage, words[2]), symlinks=True)
        return
    *names, target = words
    for name in names:
        assert f"!{name}" in (folder / ".dockerignore").read_text("utf-8").splitlines(), name
        shutil.copy(folder / name, _inside(stage, target))


def uv() -> str:
    """Path of this machine's uv."""
    beside = Path(sys.executable).with_name("uv")
    if beside.exists():
        return str(beside)
    need("uv")
    return str(shutil.which("uv"))


def _inside(stage: Stage, path: str) -> Path:
    return stage.root / os.path.normpath(os.path.join(stage.workdir, path)).lstrip("/")  # noqa: PTH118  (of the image, not of this machine)


def _machine() -> list[Path]:
    return [path for path in Path("/").iterdir() if path.name not in THEIRS and (path.is_dir() or path.is_symlink())]


def _new_root(root: Path) -> Path:
    """A root with mount points for this machine's directories, and a `python`."""
    for name in ("dev", "proc", "tmp"):
        (root / name).mkdir(parents=True)
    for path in _machine():
        here = root / path.name
        here.symlink_to(path.readlink()) if path.is_symlink() else here.mkdir()
    python = root / BASE.lstrip("/") / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {sys._base_executable} "$@"\n', "utf-8")
    python.chmod(0o755)
    return root
