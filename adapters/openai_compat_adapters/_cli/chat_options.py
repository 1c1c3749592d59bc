"""The options of `openai-compat chat`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import click

from .chat.json_values import JsonObject, object_in, text_in
from .grouped_options import grouped, option
from .options import LEVELS, choice
from .values import base_url


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatOptions:
    """One field for each option."""

    target: str | None
    # whom
    url: str | None
    model: str | None
    api_key: str | None
    api: Literal["auto", "responses", "chat"]
    # what
    message: str | None
    system: str | None
    tools: str | None
    approve: bool
    # what is shown
    reasoning: Literal["full", "short", "off"]
    out: str | None
    plain: bool
    json: bool
    jsonl: bool
    no_history: bool
    log_level: str


WHOM = grouped(
    "Whom",
    option("--url", type=base_url, metavar="URL", help="A server to talk to instead, as http://127.0.0.1:8083/v1."),
    option("--model", metavar="NAME", help="The agent to talk to, where there are several."),
    option(
        "--api-key",
        metavar="KEY",
        help="The server's key. Others can see it in `ps`: OPENAI_COMPAT_API_KEY they cannot.",
    ),
    option(
        "--api",
        **choice("auto", "responses", "chat"),
        help="Responses; Chat Completions where a server has only those.",
    ),
)
WHAT = grouped(
    "What",
    option(
        "-m", "--message", metavar="TEXT", help="Ask this, with what is piped in below it, show the answer, and end."
    ),
    option("--system", metavar="TEXT", help="Instructions for the agent."),
    option(
        "--tools",
        type=click.Path(exists=True, dir_okay=False),
        metavar="FILE",
        help="Tools of yours, as a JSON list: you are asked for their results.",
    ),
    option("--approve", is_flag=True, help="Allow whatever the agent asks for."),
)
SHOWN = grouped(
    "Shown",
    option("--reasoning", **choice("full", "short", "off"), help="What of the agent's thoughts is shown."),
    option(
        "--out",
        type=click.Path(exists=True, file_okay=False, writable=True),
        metavar="DIR",
        help="Write the agent's pictures and sounds there.",
    ),
    option(
        "--plain",
        is_flag=True,
        help="The text as it comes, without Markdown and colors; so do NO_COLOR, TERM=dumb and pipes.",
    ),
    option("--json", is_flag=True, help="The answer as the server's JSON."),
    option("--jsonl", is_flag=True, help="Each event of the stream, as a line of JSON."),
    option("--no-history", is_flag=True, help="Keep nothing of what you type."),
    option("--log-level", type=LEVELS, default="critical", help="What is told on stderr; `error` shows tracebacks."),
)


def read_tools(path: str) -> list[JsonObject]:
    """Tools in a file, in the form of the Responses API; that of Chat Completions is taken too. Raises click.BadParameter."""
    try:
        found: Any = json.loads(Path(path).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise click.BadParameter(f"'{path}' is not JSON: {error}.") from error
    tools: list[JsonObject] = []
    for tool in cast("list[Any]", found) if isinstance(found, list) else [None]:
        nested = object_in(object_in(tool).get("function"))
        flat = {"type": "function", **nested} if nested else object_in(tool)
        if not text_in(flat.get("name")):
            raise click.BadParameter(f'\'{path}\' is no list of tools, such as [{{"type": "function", "name": …}}].')
        tools.append(flat)
    return tools
