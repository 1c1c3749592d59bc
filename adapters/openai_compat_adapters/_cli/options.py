"""Options of `openai-compat serve`, in the order of `--help`."""

from __future__ import annotations

from typing import Any

import click

from .grouped_options import option, option_group
from .values import address, duration, enter_folder, positive_duration, read_environment, size

LEVELS = click.Choice(["debug", "info", "warning", "error", "critical"])
TIME: Any = {"type": positive_duration, "metavar": "TIME"}
NUMBER = "NUMBER"


def choice(*values: str) -> Any:
    """Settings of an option that accepts one of `values`; the first is the default."""
    return {"type": click.Choice(values), "default": values[0]}


# Options that docker-agent has too keep its names and defaults, so that scripts written for it keep working.
AGENTS = option_group(
    "Agents",
    option("-a", "--agent", metavar="NAME", help="Serve only the agent of this name."),
    option(
        "--max-idle-runtimes",
        type=click.IntRange(0),
        metavar=NUMBER,
        default=4,
        help="Idle instances to keep per agent class for later turns; 0 keeps none. An instance of a class that is no "
        "AgentBackend may hold a conversation, so each turn gets a new one unless you set this option.",
    ),
    option(
        "--unknown-model",
        **choice("reject", "default"),
        help="Answer requests for unknown models with 404, or by the first agent (default).",
    ),
)
PROCESS = option_group(
    "Process",
    option(
        "-l",
        "--listen",
        type=address,
        metavar="HOST:PORT",
        default="127.0.0.1:8083",
        help="Address to listen on; port 0 picks a free one.",
    ),
    option(
        "--workers", type=click.IntRange(1), metavar=NUMBER, default=1, help="Worker processes that share the port."
    ),
    option("--reload", is_flag=True, help="Restart when a Python or TOML file changes. For development."),
    option(
        "--grace",
        type=duration,
        metavar="TIME",
        default="10s",
        help="Time that running turns get to finish at shutdown.",
    ),
    option(
        "--working-dir",
        metavar="DIR",
        type=click.Path(exists=True, file_okay=False),
        is_eager=True,  # before the options that may name files there
        callback=enter_folder,
        help="Change to this directory first: modules and relative paths are looked up in it.",
    ),
    option(
        "--env-from-file",
        metavar="FILE",
        multiple=True,
        is_eager=True,  # before the options that are read from the environment
        callback=read_environment,
        help="Set environment variables from this file, NAME=VALUE on each line; repeatable.",
    ),
    option("--log-level", type=LEVELS, default="info", help="Log level of stderr."),
    option("--log-format", **choice("text", "json"), help="Log lines as text for people, or as one JSON object each."),
    option(
        "--no-tracebacks",
        is_flag=True,
        help="Log only the type of an exception: messages and tracebacks may quote prompts.",
    ),
)
TELEMETRY = option_group(
    "Telemetry",
    option("--metrics", is_flag=True, help="Serve Prometheus metrics at /metrics, summed over all workers."),
    option("--public-metrics", is_flag=True, help="Same as --metrics, without requiring an API key."),
    option(
        "--otel",
        is_flag=True,
        help="Export OpenTelemetry traces and metrics, as configured by OTEL_EXPORTER_OTLP_ENDPOINT and its like.",
    ),
)
ACCESS = option_group(
    "Access",
    option("--api-key", metavar="KEY", help="API key that clients must send. `ps` shows it to other users."),
    option(
        "--api-key-env",
        metavar="NAME",
        help="Environment variable that holds the API key, or several separated by commas; 'sk-1 ann' adds the owner's name.",
    ),
    option(
        "--api-key-file",
        type=click.Path(exists=True, dir_okay=False),
        metavar="FILE",
        help="File with one API key per line, optionally followed by its owner's name.",
    ),
    option("--public-models", is_flag=True, help="List the models without requiring an API key."),
    option(
        "--host-name",
        metavar="NAME",
        multiple=True,
        help="Additional host name to answer to while there is no API key; repeatable.",
    ),
    option(
        "--proxy-auth",
        is_flag=True,
        help="Let a proxy authenticate clients, and accept other machines without an API key. Needs a --host-name.",
    ),
    option(
        "--user-header",
        metavar="NAME",
        help="Header in which the proxy sends the logged-in user, such as X-Forwarded-User; each user is a separate caller.",
    ),
    option(
        "--trusted-proxy",
        metavar="ADDRESS",
        multiple=True,
        help="Address or network of a proxy whose --user-header is trusted; repeatable. Leave it out only with "
        "--proxy-auth, if nobody else can reach the port.",
    ),
    option(
        "--cors-origin",
        metavar="URL",
        multiple=True,
        help="Origin of web pages that may call, such as https://app.example; repeatable.",
    ),
)
STATE = option_group(
    "State",
    option(
        "--store",
        metavar="URL",
        help="Database that stores the state: sqlite:///FILE or postgresql://USER@HOST/DATABASE; default: memory. Put a "
        "URL with a password into OPENAI_COMPAT_STORE: `ps` shows options to other users.",
    ),
    option("--retention", **TIME, default="30d", help="Time after which unused stored data is deleted."),
    option(
        "--lease",
        **TIME,
        default="15s",
        help="Time after which the locks and slots of a dead process expire in the store.",
    ),
    option(
        "--webhook",
        metavar="URL",
        multiple=True,
        help="URL to notify of the outcome of background responses; repeatable.",
    ),
    option("--webhook-secret-env", metavar="NAME", help="Environment variable with the secret that signs webhooks."),
)
APIS = option_group(
    "APIs",
    option("--chat-rest", is_flag=True, help="Also serve the chat REST API, below /api/chat."),
    option("--chat-websocket", is_flag=True, help="Also serve chat over a WebSocket, at /chat."),
    option(
        "--page/--no-page",
        default=None,
        help="Serve a chat page at /ui/. Default: only if no other machine can reach it.",
    ),
    option("--open", "open_page", is_flag=True, help="Open the chat page in the browser."),
    option("--anthropic", is_flag=True, help="Also serve Anthropic's Messages API, for Claude Code."),
    option(
        "--ollama",
        is_flag=True,
        help="Also serve Ollama's API, and listen on its port 11434 unless --listen is given.",
    ),
)
CONVERSATIONS = option_group(
    "Conversations",
    option(
        "--conversations-max",
        type=click.IntRange(0),
        metavar=NUMBER,
        default=0,
        help="Conversations to keep in memory, by X-Conversation-Id; 0: clients send the whole history. A database "
        "keeps all of them.",
    ),
    option(
        "--conversation-ttl",
        **TIME,
        default="30m",
        help="Time after which an unused conversation is dropped from memory.",
    ),
    option(
        "--history",
        **choice("full", "last-user"),
        help="Pass the agent the full history, or only the last user message.",
    ),
    option(
        "--system",
        **choice("accept", "ignore", "reject"),
        help="Accept, ignore or reject system messages from clients.",
    ),
    option(
        "--user",
        **choice("optional", "required"),
        help="Answer conversations without a user message, or refuse them with 400.",
    ),
    option(
        "--on-disconnect",
        **choice("cancel", "finish", "detach"),
        help="When the client disconnects: cancel the turn, let it finish, or let it run up to 10 minutes more (detach).",
    ),
    option(
        "--replay-failures",
        type=duration,
        metavar="TIME",
        default="0",
        help="Time within which an identical request gets the same failure again without a run; 0: always run.",
    ),
    option(
        "--visibility",
        **choice("status", "hidden", "reasoning", "text"),
        help="Show tool calls as a status line, not at all, as reasoning, or in the text.",
    ),
    option("--bare-paths", is_flag=True, help="Also answer paths without /v1."),
)
LIMITS = option_group(
    "Limits",
    option("--max-request-size", type=size, metavar="SIZE", default="20MB", help="Maximum size of a request body."),
    option(
        "--max-answer-size",
        type=size,
        metavar="SIZE",
        default="50000000",
        help="Maximum size of an answer held in memory, such as a non-streamed one, in characters or bytes of media.",
    ),
    option(
        "--max-concurrency",
        type=click.IntRange(1),
        metavar=NUMBER,
        default=128,
        help="Maximum concurrent turns per process.",
    ),
    option(
        "--shared-concurrency",
        type=click.IntRange(1),
        metavar=NUMBER,
        help="Maximum concurrent turns in all processes with the same --store.",
    ),
    option(
        "--requests-per-minute",
        type=click.FloatRange(0, min_open=True),
        metavar=NUMBER,
        help="Requests per minute for each API key, on average; bursts of as many are allowed.",
    ),
    option(
        "--tokens-per-minute",
        type=click.FloatRange(0, min_open=True),
        metavar=NUMBER,
        help="Tokens per minute for each API key, on average, as reported by agents; bursts of as many are allowed.",
    ),
    option(
        "--queue",
        type=duration,
        metavar="TIME",
        default="0s",
        help="Time that a turn waits for a free slot before 429.",
    ),
    option("--request-timeout", **TIME, default="5m", help="Time limit of a whole turn."),
    option("--background-timeout", **TIME, default="1h", help="Time limit of a background response."),
    option(
        "--head-delay",
        type=duration,
        metavar="TIME",
        default="2s",
        help="Time that a stream's status waits for the agent's first event, so that an early failure has its own status.",
    ),
    option("--header-timeout", **TIME, default="10s", help="Time for a request's head to arrive."),
    option("--body-timeout", **TIME, default="30s", help="Time for a request's body to arrive."),
    option(
        "--write-timeout",
        **TIME,
        default="1m",
        help="Time for a slow client to read something before it is disconnected.",
    ),
    option("--idle-timeout", **TIME, default="75s", help="Time after which an idle connection is closed."),
    option("--ping", **TIME, default="20s", help="Interval of pings to WebSocket clients, and time for their answers."),
    option("--heartbeat", **TIME, default="10s", help="Silence after which a stream sends a comment as a heartbeat."),
)
