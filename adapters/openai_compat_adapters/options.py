"""What the values on the command line mean: addresses, sizes, and the settings of a server."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from urllib.parse import urlsplit

import click
from click.core import ParameterSource

from openai_compat import AgentBackend, Cors, Deadlines, Limits, Server, key_from_env, key_from_file
from openai_compat.policies.auth import KeySource
from openai_compat.policies.hosts import LOOPBACK

OF_THE_PROGRAM = frozenset({"targets", "listen", "grace", "header_timeout", "idle_timeout", "log_level"})
"""Options that say how to serve; all others are settings of the server itself."""

UNITS = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}

_ADDRESS = re.compile(r"(?:(\[[0-9a-fA-F:.]+\]|[^:\[\]]*):)?(\d+)")
_SIZE = re.compile(r"(\d+)([kmg]?)(?:i?b)?", re.IGNORECASE)


def address(value: str) -> tuple[str, int]:
    """`HOST:PORT`, `[::1]:PORT`, or just a port, as (host, port). Raises click.BadParameter."""
    match = _ADDRESS.fullmatch(value)
    if match is None or int(match[2]) > 65535:
        raise click.BadParameter(f"'{value}' is not of the form HOST:PORT, such as 127.0.0.1:8083.")
    host = "127.0.0.1" if match[1] is None else match[1].strip("[]") or "0.0.0.0"  # noqa: S104  (asked for)
    return host, int(match[2])


def size(value: str) -> int:
    """A number of bytes: `1048576`, `512k`, `20MB`. Raises click.BadParameter."""
    match = _SIZE.fullmatch(value)
    if match is None:
        raise click.BadParameter(f"'{value}' is not a number of bytes, such as 20MB.")
    return int(match[1]) * UNITS[match[2].lower()]


def base_url(value: str) -> str:
    """The URL of an API; one without a path gets the usual "/v1". Raises click.BadParameter."""
    with suppress(ValueError):
        url = urlsplit(value)
        if url.scheme in ("http", "https") and url.hostname:
            return value if url.path.strip("/") else value.rstrip("/") + "/v1"
    raise click.BadParameter(f"'{value}' is not a URL, such as http://127.0.0.1:8083/v1.")


def make_server(agents: Server | dict[str, AgentBackend], ctx: click.Context) -> Server:
    """The server that the options of `ctx` describe. A ready one takes none of them: raises click.UsageError."""
    if isinstance(agents, Server):
        given = [
            f"--{name.replace('_', '-')}" for name in ctx.params if name not in OF_THE_PROGRAM and _given(name, ctx)
        ]
        if given:
            raise click.UsageError(
                f"A Server has its own settings, so it cannot be served with {', '.join(sorted(given))}."
            )
        return agents
    o = ctx.params
    try:
        return Server(
            agents,
            keys=_keys(o["api_key"], o["api_key_env"], o["api_key_file"]),
            hosts=[*LOOPBACK, *o["host_name"]],
            cors=Cors(o["cors_origin"]) if o["cors_origin"] else None,
            limits=Limits(body=o["max_request_size"], slots=o["max_concurrency"]),
            deadlines=Deadlines(
                request=o["request_timeout"], body=o["body_timeout"], write=o["write_timeout"], heartbeat=o["heartbeat"]
            ),
            visibility=o["visibility"],
            bare_paths=o["bare_paths"],
        )
    except ValueError as error:
        raise click.UsageError(f"{error}.") from error


def _given(name: str, ctx: click.Context) -> bool:
    return ctx.get_parameter_source(name) in (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT)


def _keys(key: str | None, variable: str | None, file: str | None) -> str | KeySource | None:
    if sum(source is not None for source in (key, variable, file)) > 1:
        raise click.UsageError("Give the API key in one way: --api-key, --api-key-env or --api-key-file.")
    if variable is not None:
        if not os.environ.get(variable):
            raise click.UsageError(f"The environment variable {variable}, which should hold the API key, is not set.")
        return key_from_env(variable)
    return key_from_file(file) if file is not None else key
