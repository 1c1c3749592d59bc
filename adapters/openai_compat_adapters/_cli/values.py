"""Parses values of the command line: addresses, sizes, durations, URLs."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import click

UNITS = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}

SECONDS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

_ADDRESS = re.compile(r"(?:(\[[0-9a-fA-F:.]+\]|[^:\[\]]*):)?(\d+)")
_SIZE = re.compile(r"(\d+)([kmg]?)(?:i?b)?", re.IGNORECASE)
_DURATION = re.compile(r"(\d+(?:\.\d+)?|\.\d+)(ms|s|m|h|d)?", re.ASCII)
_PART = re.compile(r"(\d+(?:\.\d+)?|\.\d+)(ms|s|m|h|d)", re.ASCII)


def address(value: str) -> tuple[str, int]:
    """Parse `HOST:PORT`, `[::1]:PORT`, or just a port, as (host, port). Raises click.BadParameter."""
    match = _ADDRESS.fullmatch(value)
    if match is None or int(match[2]) > 65535:
        raise click.BadParameter(f"'{value}' is not of the form HOST:PORT, such as 127.0.0.1:8083.")
    host = "127.0.0.1" if match[1] is None else match[1].strip("[]") or "0.0.0.0"  # noqa: S104  (asked for)
    return host, int(match[2])


def size(value: str) -> int:
    """Parse a number of bytes: `1048576`, `512k`, `20MB`. Raises click.BadParameter."""
    match = _SIZE.fullmatch(value)
    if match is None:
        raise click.BadParameter(f"'{value}' is not a number of bytes, such as 20MB.")
    return int(match[1]) * UNITS[match[2].lower()]


def duration(value: str) -> float:
    """Parse a duration as seconds: `300`, `2.5`, `500ms`, `30s`, `5m`, `1h`, `1h30m`. Raises click.BadParameter."""
    match = _DURATION.fullmatch(value)
    parts = [match] if match is not None else [*_PART.finditer(value)]
    units = [SECONDS[part[2] or ""] for part in parts]
    # Each unit once, the largest first: anything else is a typo.
    if not parts or "".join([part[0] for part in parts]) != value or units != sorted(set(units), reverse=True):
        raise click.BadParameter(f"'{value}' is not a time, such as 30s, 5m, 1h or 300, which are seconds.")
    return sum([float(part[1]) * unit for part, unit in zip(parts, units, strict=True)])


def positive_duration(value: str) -> float:
    """Parse a duration above 0. Raises click.BadParameter."""
    seconds = duration(value)
    if not seconds:
        raise click.BadParameter("this time has to be longer than 0.")
    return seconds


def enter_folder(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Change to the folder, from which relative paths are resolved. An option's `callback`."""
    start = start_folder(ctx)
    if value:
        os.chdir(start / value)
    return value


def read_environment(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    """Set environment variables from files with `NAME=VALUE` on each line. An option's `callback`."""
    for value in values:
        try:
            lines = (start_folder(ctx) / value).read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise click.BadParameter(f"'{value}' cannot be read.") from error
        for number, line in enumerate(lines, 1):
            text = line.strip().removeprefix("export ").lstrip()
            name, equals, setting = text.partition("=")
            if not text or text.startswith("#"):
                continue
            if not equals or not name.strip().isidentifier():
                raise click.BadParameter(f"line {number} of '{value}' is not NAME=VALUE.")
            setting = setting.strip()
            quoted = len(setting) > 1 and setting[0] == setting[-1] and setting[0] in "\"'"
            os.environ[name.strip()] = setting[1:-1] if quoted else setting
    return values


def start_folder(ctx: click.Context) -> Path:
    """The folder in which the command was started, before `enter_folder`."""
    start: Path = ctx.meta.setdefault(f"{__name__}.start", Path.cwd())
    return start


def base_url(value: str) -> str:
    """Parse the URL of an API; one without a path gets "/v1". Raises click.BadParameter."""
    with suppress(ValueError):
        url = urlsplit(value)
        if url.scheme in ("http", "https") and url.hostname:
            return value if url.path.strip("/") else value.rstrip("/") + "/v1"
    raise click.BadParameter(f"'{value}' is not a URL, such as http://127.0.0.1:8083/v1.")
