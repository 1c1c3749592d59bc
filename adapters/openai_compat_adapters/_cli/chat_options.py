"""The options of `openai-compat chat`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import click

from .chat.json_values import JsonObject, object_in, text_in
from .grouped_options import option, option_group
from .options import LEVELS, choice
from .values import base_url


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatOptions:
    """Values of the options of `openai-compat chat`, one field each."""

    target: str | None
    # agent
    url: str | None
    model: str | None
    api_key: str | None
    api: Literal["auto", "responses", "chat"]
    # message
    message: str | None
    system: str | None
    tools: str | None
    approve: bool
    # output
    reasoning: Literal["full", "short", "off"]
    out: str | None
    plain: bool
    json: bool
    jsonl: bool
    no_history: bool
    log_level: str


CHAT_AGENT = option_group(
    "Agent",
    option("--url", type=base_url, metavar="URL", help="Server to chat with, such as http://127.0.0.1:8083/v1."),
    option("--model", metavar="NAME", help="Agent to chat with, if there are several."),
    option(
        "--api-key",
        metavar="KEY",
        help="API key of the server. `ps` shows it to other users; OPENAI_COMPAT_API_KEY stays hidden.",
    ),
    option(
        "--api",
        **choice("auto", "responses", "chat"),
        help="API to use; auto tries Responses first and falls back to Chat Completions.",
    ),
)
CHAT_MESSAGE = option_group(
    "Message",
    option(
        "-m",
        "--message",
        metavar="TEXT",
        help="Send this message and any piped input below it, print the answer, and exit.",
    ),
    option("--system", metavar="TEXT", help="Instructions for the agent."),
    option(
        "--tools",
        type=click.Path(exists=True, dir_okay=False),
        metavar="FILE",
        help="JSON list of tools that you offer the agent; you type in their results.",
    ),
    option("--approve", is_flag=True, help="Approve every tool call that the agent asks about."),
)
CHAT_OUTPUT = option_group(
    "Output",
    option(
        "--reasoning",
        **choice("full", "short", "off"),
        help="Show the agent's reasoning in full, in short, or not at all.",
    ),
    option(
        "--out",
        type=click.Path(exists=True, file_okay=False, writable=True),
        metavar="DIR",
        help="Write the agent's images and audio to this directory.",
    ),
    option(
        "--plain",
        is_flag=True,
        help="Print plain text without Markdown and colors, as with NO_COLOR, TERM=dumb or a pipe.",
    ),
    option("--json", is_flag=True, help="Print the answer as the server's JSON."),
    option("--jsonl", is_flag=True, help="Print each event of the stream as one line of JSON."),
    option("--no-history", is_flag=True, help="Do not save what you type."),
    option("--log-level", type=LEVELS, default="critical", help="Log level of stderr; `error` shows tracebacks."),
)


def read_tools(path: str) -> list[JsonObject]:
    """Read tools from a JSON file, in the form of the Responses API or of Chat Completions. Raises click.BadParameter."""
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
