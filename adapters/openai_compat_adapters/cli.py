"""`openai-compat`: serves agents, and talks to them."""

from __future__ import annotations

import sys
from typing import Any, get_args

import click

from openai_compat import __version__
from openai_compat.serializers.presentation import Visibility

from .console import banner, log_to_stderr
from .loading import load
from .options import address, base_url, make_server, size

SETTINGS = {"auto_envvar_prefix": "OPENAI_COMPAT", "show_default": True, "max_content_width": 110}
LEVELS = click.Choice(["debug", "info", "warning", "error", "critical"])
SECONDS: Any = {"type": click.FloatRange(min=0, min_open=True), "metavar": "SECONDS"}


@click.group(context_settings={"max_content_width": 110})
@click.version_option(__version__, prog_name="openai-compat")
def main() -> None:
    """Any agent in, every OpenAI client out.

    \b
      openai-compat serve hello:agent      serve the `agent` in hello.py as the OpenAI API
      openai-compat chat hello:agent       talk to it right here

    An option can be given as an environment variable too: --listen is OPENAI_COMPAT_LISTEN.
    """  # noqa: D301  (click reads \b)


@main.command(context_settings=SETTINGS)
@click.argument("targets", metavar="[NAME=]MODULE:ATTR...", nargs=-1, required=True)
@click.option(
    "--listen", type=address, metavar="HOST:PORT", default="127.0.0.1:8083", help="Where; port 0 takes a free one."
)
@click.option("--api-key", metavar="KEY", help="The key that clients have to send. Others can see it in `ps`.")
@click.option("--api-key-env", metavar="NAME", help="Environment variable with the key, or several, with commas.")
@click.option(
    "--api-key-file", type=click.Path(exists=True, dir_okay=False), metavar="FILE", help="File with a key on each line."
)
@click.option("--host-name", metavar="NAME", multiple=True, help="Another name to answer to while there is no key.")
@click.option("--cors-origin", metavar="URL", multiple=True, help="Web page that may call, as https://app.example.")
@click.option("--max-request-size", type=size, metavar="SIZE", default="20MB", help="Largest request body.")
@click.option(
    "--max-concurrency", type=click.IntRange(1), metavar="NUMBER", default=64, help="Turns at once; more get 429."
)
@click.option("--request-timeout", **SECONDS, default=300, help="Time for a whole turn.")
@click.option("--header-timeout", **SECONDS, default=10, help="Time for a request's head to arrive.")
@click.option("--body-timeout", **SECONDS, default=30, help="Time for a request's body to arrive.")
@click.option("--write-timeout", **SECONDS, default=60, help="Time until a client that reads nothing is cut.")
@click.option("--idle-timeout", **SECONDS, default=75, help="Time until an unused connection is closed.")
@click.option("--heartbeat", **SECONDS, default=10, help="Time of silence before a stream sends a comment.")
@click.option(
    "--grace",
    type=click.FloatRange(0),
    metavar="SECONDS",
    default=10,
    help="Time for running turns to end when stopped.",
)
@click.option("--visibility", type=click.Choice(get_args(Visibility)), default="status", help="Where tool calls show.")
@click.option("--bare-paths", is_flag=True, help="Answer without /v1 in the path too.")
@click.option("--log-level", type=LEVELS, default="info", help="What is told on stderr.")
@click.pass_context
def serve(ctx: click.Context, /, **o: Any) -> None:
    """Serve agents as models of the OpenAI API, until Ctrl-C or SIGTERM.

    ATTR is an agent, a mapping of agents by name, or a Server. MODULE may be in the current directory.

    \b
      openai-compat serve hello:agent                     the model is called "agent"
      openai-compat serve gpt-4o=hello:agent bots:all     several, with names of your own
      openai-compat serve hello:agent --listen 0.0.0.0:8083 --api-key-env MY_KEY
    """  # noqa: D301  (click reads \b)
    from .serve import listen  # noqa: PLC0415  (chatting needs no uvicorn)
    from .serve import serve as run  # noqa: PLC0415

    server = make_server(load(o["targets"]), ctx)
    host, port = o["listen"]
    try:
        listener = listen(server, host, port)
    except ValueError as error:
        raise click.UsageError(f"{error} Give it one: --api-key-env NAME.") from error
    except OSError as error:
        reason = str(error.strerror).partition(" (")[0]  # Python adds the address
        raise click.ClickException(f"Cannot listen on {host}:{port}: {reason}") from error
    log_to_stderr(o["log_level"])
    click.echo(banner(server, host, listener.getsockname()[1], o["api_key_env"]), err=True)
    run(server, listener, grace=o["grace"], header_timeout=o["header_timeout"], idle_timeout=o["idle_timeout"])


@main.command(context_settings=SETTINGS)
@click.argument("target", metavar="[MODULE:ATTR]", required=False)
@click.option("--url", type=base_url, metavar="URL", help="A server to talk to instead, as http://127.0.0.1:8083/v1.")
@click.option("--model", metavar="NAME", help="The agent to talk to, where there are several.")
@click.option("--api-key", metavar="KEY", help="The server's key.")
@click.option("-m", "--message", metavar="TEXT", help="Ask this, show the answer, and end.")
@click.option("--log-level", type=LEVELS, default="critical", help="What is told on stderr; `error` shows tracebacks.")
def chat(target: str | None, url: str | None, model: str | None, message: str | None, **o: Any) -> None:
    """Talk to an agent: in this process, or to one that is served.

    Ctrl-C stops an answer, Ctrl-D ends the conversation. What is piped in is one message.

    \b
      openai-compat chat hello:agent
      openai-compat chat hello:agent -m "What is new?"
      git diff | openai-compat chat --url http://127.0.0.1:8083/v1 --model reviewer
    """  # noqa: D301  (click reads \b)
    from .chat import Chat  # noqa: PLC0415  (the SDK takes long to import)
    from .connect import connect, in_process, only_model  # noqa: PLC0415

    if (target is None) == (url is None):
        raise click.UsageError("Say whom to talk to: MODULE:ATTR, or --url.")
    client = connect(url, o["api_key"]) if url is not None else in_process(load([target or ""]), o["api_key"])
    log_to_stderr(o["log_level"])
    hint = "" if url is not None else " (--log-level error shows why)"
    conversation = Chat(client, model or only_model(client), hint)
    if message is None and sys.stdin.isatty():
        conversation.talk()
    else:
        conversation.ask(sys.stdin.read() if message is None else message)
