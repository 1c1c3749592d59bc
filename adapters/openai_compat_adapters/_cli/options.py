"""The options of `openai-compat serve`, in the order of `--help`."""

from __future__ import annotations

from typing import Any

import click

from .grouped_options import grouped, option
from .values import address, duration, enter_folder, positive_duration, read_environment, size

LEVELS = click.Choice(["debug", "info", "warning", "error", "critical"])
TIME: Any = {"type": positive_duration, "metavar": "TIME"}
NUMBER = "NUMBER"


def choice(*values: str) -> Any:
    """Settings of an option that takes one of `values`, the first by default."""
    return {"type": click.Choice(values), "default": values[0]}


# What docker-agent has too is called as there, with its defaults: its scripts go on as they are.
AGENTS = grouped(
    "Agents",
    option("-a", "--agent", metavar="NAME", help="Of several agents, serve this one only."),
    option(
        "--max-idle-runtimes",
        type=click.IntRange(0),
        metavar=NUMBER,
        default=4,
        help="Idle agents kept of each class, for later turns; 0 keeps none. Classes that are no AgentBackend may "
        "hold a conversation, so they are made anew for each turn unless you set this.",
    ),
    option("--unknown-model", **choice("reject", "default"), help="Requests for other models: 404, or the first."),
)
PROCESS = grouped(
    "Process",
    option(
        "-l", "--listen", type=address, metavar="HOST:PORT", default="127.0.0.1:8083", help="Where; 0 is a free port."
    ),
    option("--workers", type=click.IntRange(1), metavar=NUMBER, default=1, help="Processes that share the port."),
    option("--reload", is_flag=True, help="Start anew when a Python or TOML file changes. For development."),
    option("--grace", type=duration, metavar="TIME", default="10s", help="For running turns to end when stopped."),
    option(
        "--working-dir",
        metavar="DIR",
        type=click.Path(exists=True, file_okay=False),
        is_eager=True,  # before all others, which may name files there
        callback=enter_folder,
        help="Work there: modules and relative paths are looked for in it.",
    ),
    option(
        "--env-from-file",
        metavar="FILE",
        multiple=True,
        is_eager=True,  # before those that are read from the environment
        callback=read_environment,
        help="Set environment variables: NAME=VALUE on each line.",
    ),
    option("--log-level", type=LEVELS, default="info", help="What is told on stderr."),
    option("--log-format", **choice("text", "json"), help="Lines for people, or a JSON object on each."),
    option("--no-tracebacks", is_flag=True, help="Log the type of an exception alone: others may quote prompts."),
)
TELEMETRY = grouped(
    "Telemetry",
    option("--metrics", is_flag=True, help="Serve figures for Prometheus at /metrics, of all workers together."),
    option("--public-metrics", is_flag=True, help="The same, without a key."),
    option(
        "--otel",
        is_flag=True,
        help="Send traces and metrics by OpenTelemetry, as its own variables say (OTEL_EXPORTER_OTLP_ENDPOINT, …).",
    ),
)
ACCESS = grouped(
    "Access",
    option("--api-key", metavar="KEY", help="The key that clients have to send. Others can see it in `ps`."),
    option(
        "--api-key-env",
        metavar="NAME",
        help="Environment variable with the key, or several, with commas; a name behind one, as in 'sk-1 ann', is its owner's.",
    ),
    option(
        "--api-key-file",
        type=click.Path(exists=True, dir_okay=False),
        metavar="FILE",
        help="File with a key on each line, and the name of its owner behind it, if you like.",
    ),
    option("--public-models", is_flag=True, help="Tell the names of the models without a key."),
    option("--host-name", metavar="NAME", multiple=True, help="Another name to answer to while there is no key."),
    option(
        "--proxy-auth",
        is_flag=True,
        help="A proxy with a login of its own stands before it: listen to others without a key, by a --host-name.",
    ),
    option(
        "--user-header",
        metavar="NAME",
        help="Header in which that proxy tells who has logged in, as X-Forwarded-User: each is a caller of their own.",
    ),
    option(
        "--trusted-proxy",
        metavar="ADDRESS",
        multiple=True,
        help="Address or network of a proxy whose --user-header counts. Without one --proxy-auth has to say that nobody "
        "else can reach the port.",
    ),
    option("--cors-origin", metavar="URL", multiple=True, help="Web page that may call, as https://app.example."),
)
STATE = grouped(
    "State",
    option(
        "--store",
        metavar="URL",
        help="Where state is kept: sqlite:///FILE or postgresql://USER@HOST/DATABASE; in memory without it. One with "
        "a password is for the environment variable OPENAI_COMPAT_STORE: others can see options in `ps`.",
    ),
    option("--retention", **TIME, default="30d", help="For what is stored and not used to be forgotten."),
    option("--lease", **TIME, default="15s", help="For what a process that died held in the store to be free."),
    option("--webhook", metavar="URL", multiple=True, help="Told what became of background responses."),
    option("--webhook-secret-env", metavar="NAME", help="Environment variable with the secret that signs webhooks."),
)
APIS = grouped(
    "APIs",
    option("--chat-rest", is_flag=True, help="Serve the chat REST API too, below /api/chat."),
    option("--chat-websocket", is_flag=True, help="Serve chat over a WebSocket too, at /chat."),
    option(
        "--page/--no-page",
        default=None,
        help="Serve a page to talk to the agents, at /ui/; by default if only this machine can reach it.",
    ),
    option("--open", "open_page", is_flag=True, help="Open the page in the browser."),
    option("--anthropic", is_flag=True, help="Serve Anthropic's Messages API too, for Claude Code."),
    option(
        "--ollama",
        is_flag=True,
        help="Serve Ollama's API too, on Ollama's port 11434 unless --listen says otherwise.",
    ),
)
CONVERSATIONS = grouped(
    "Conversations",
    option(
        "--conversations-max",
        type=click.IntRange(0),
        metavar=NUMBER,
        default=0,
        help="Conversations kept in memory, by X-Conversation-Id; 0: clients send the whole history. A database "
        "keeps them all.",
    ),
    option("--conversation-ttl", **TIME, default="30m", help="For an unused one to be forgotten from memory."),
    option("--history", **choice("full", "last-user"), help="Messages that the agent gets."),
    option("--system", **choice("accept", "ignore", "reject"), help="System messages of clients."),
    option("--user", **choice("optional", "required"), help="Whether the user has to say something."),
    option("--on-disconnect", **choice("cancel", "finish", "detach"), help="A turn whose client has left."),
    option(
        "--replay-failures",
        type=duration,
        metavar="TIME",
        default="0",
        help="So soon after a failure the same request gets it again, without a run; 0: it runs.",
    ),
    option("--visibility", **choice("status", "hidden", "reasoning", "text"), help="Where tool calls show."),
    option("--bare-paths", is_flag=True, help="Answer without /v1 in the path too."),
)
LIMITS = grouped(
    "Limits",
    option("--max-request-size", type=size, metavar="SIZE", default="20MB", help="Largest request body."),
    option(
        "--max-answer-size",
        type=size,
        metavar="SIZE",
        default="50000000",
        help="Largest plain answer, in characters, or bytes of media.",
    ),
    option(
        "--max-concurrency", type=click.IntRange(1), metavar=NUMBER, default=128, help="Turns at once, per process."
    ),
    option(
        "--shared-concurrency",
        type=click.IntRange(1),
        metavar=NUMBER,
        help="Turns at once, in all processes with the same --store.",
    ),
    option(
        "--requests-per-minute",
        type=click.FloatRange(0, min_open=True),
        metavar=NUMBER,
        help="For each key, on average; as many may come at once.",
    ),
    option(
        "--tokens-per-minute",
        type=click.FloatRange(0, min_open=True),
        metavar=NUMBER,
        help="The same for the tokens that agents report.",
    ),
    option(
        "--queue", type=duration, metavar="TIME", default="0s", help="For more turns to wait for a place; then 429."
    ),
    option("--request-timeout", **TIME, default="5m", help="For a whole turn."),
    option("--background-timeout", **TIME, default="1h", help="For a response in the background."),
    option(
        "--head-delay",
        type=duration,
        metavar="TIME",
        default="2s",
        help="For which a stream's status waits for the agent, to tell of an early failure.",
    ),
    option("--header-timeout", **TIME, default="10s", help="For a request's head to arrive."),
    option("--body-timeout", **TIME, default="30s", help="For a request's body to arrive."),
    option("--write-timeout", **TIME, default="1m", help="For a client to read something, before it is cut."),
    option("--idle-timeout", **TIME, default="75s", help="For an unused connection to be closed."),
    option("--ping", **TIME, default="20s", help="Between pings to WebSocket clients, and for their answers."),
    option("--heartbeat", **TIME, default="10s", help="Of silence, before a stream sends a comment."),
)
