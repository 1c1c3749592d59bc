"""The command line, `openai-compat`: serves agents and chats with them."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import replace
from typing import Any

from openai_compat.package import __version__, needs

with needs("the command line"):
    import click

    from ._cli.chat_options import CHAT_AGENT, CHAT_MESSAGE, CHAT_OUTPUT, ChatOptions
    from ._cli.default_targets import NOTHING_HERE, default_targets
    from ._cli.grouped_options import GroupedCommand
    from ._cli.init_command import AGENT_FILE, TEMPLATES, list_templates, write_template
    from ._cli.one_line_errors import Program
    from ._cli.options import ACCESS, AGENTS, APIS, CONVERSATIONS, LIMITS, PROCESS, STATE, TELEMETRY
    from ._cli.values import address, base_url, start_folder

# Each command imports what it needs when it runs, so that --help does not wait for the library.

SETTINGS = {"auto_envvar_prefix": "OPENAI_COMPAT", "show_default": True, "max_content_width": 110}


@click.group("openai-compat", cls=Program, context_settings={"max_content_width": 110})
@click.version_option(
    __version__, message=f"%(prog)s %(version)s, Python {sys.version.split()[0]}", prog_name="openai-compat"
)
def main() -> None:
    """Any agent in, every OpenAI client out.

    \b
      openai-compat init                   write a starter agent
      openai-compat serve hello:agent      serve `agent` of hello.py over the OpenAI API
      openai-compat serve team.toml        serve the agents that a file describes
      openai-compat chat hello:agent       chat with the agent in this terminal
      openai-compat demo                   serve three demo agents; no API key needed
      openai-compat doctor                 check the setup for problems

    Options can also be set by environment variable: OPENAI_COMPAT_LISTEN sets --listen.
    """  # noqa: D301  (click reads \b)


@main.command(cls=GroupedCommand, context_settings=SETTINGS)
@click.argument("targets", metavar="[[NAME=]MODULE[:ATTR] | FILE.toml]...", nargs=-1)
@AGENTS
@PROCESS
@TELEMETRY
@ACCESS
@APIS
@STATE
@CONVERSATIONS
@LIMITS
@click.pass_context
def serve(ctx: click.Context, /, **values: Any) -> None:
    """Serve agents as models of the OpenAI API until Ctrl-C or SIGTERM.

    MODULE is the name of a Python module, also of one in the current directory, or the path of a Python file. ATTR is
    an agent, a mapping of agents by name, or a Server in that module; without ATTR the module is searched for an agent.
    FILE.toml describes agents: the provider, model, instructions and tools of each.

    Without a target, serve the first of these that exists: openai-compat.toml, `serve` in [tool.openai-compat] of
    pyproject.toml, or agent.py, each in the current directory.

    TIME is 500ms, 30s, 5m, 1h30m or a number of seconds. SIZE is 512k, 20MB or a number of bytes.

    \b
      openai-compat serve hello:agent                     the model is named "agent"
      openai-compat serve path/to/hello.py                find the agent in a file
      openai-compat serve gpt-4o=hello:agent bots:all     serve several, choose a model name
      openai-compat serve team.toml                       serve the agents that a file describes
      openai-compat serve hello:agent --listen 0.0.0.0:8083 --api-key-env MY_KEY
      openai-compat serve hello:agent --store sqlite:///state.db --workers 4
    """  # noqa: D301  (click reads \b)
    if os.getpid() == 1:
        # The kernel drops signals for which PID 1 of a container has no handler (pid_namespaces(7)). Without this one,
        # only a kill could stop the process before it serves.
        signal.signal(signal.SIGTERM, lambda number, _: os._exit(128 + number))
    with needs("openai-compat serve", "serve"):
        from ._cli.load_agents import load, warnings_of  # noqa: PLC0415
        from ._cli.pool_agents import backend_maker  # noqa: PLC0415
        from ._cli.serve_command import run  # noqa: PLC0415
        from ._cli.serve_options import OLLAMA_ADDRESS, ServeOptions  # noqa: PLC0415
        from ._cli.server_from_options import is_given, make_server  # noqa: PLC0415

    if values["ollama"] and not is_given("listen", ctx):  # where Ollama clients connect
        values["listen"] = OLLAMA_ADDRESS
    options = ServeOptions(**values)
    targets = options.targets or default_targets()
    if not targets:
        raise click.UsageError(f"Say what to serve: agent.py, MODULE:ATTR or FILE.toml. {NOTHING_HERE}")
    make = backend_maker(options.max_idle_runtimes, asked_for=is_given("max_idle_runtimes", ctx))
    agents = load(targets, make)
    options = replace(options, targets=tuple(targets))
    sys.exit(run(make_server(agents, options, ctx), options, warnings_of(agents), start_folder(ctx)))


@main.command(context_settings=SETTINGS)
@click.option(
    "--port", type=click.IntRange(0, 65535), metavar="PORT", default=8083, help="Port to listen on; 0 picks a free one."
)
@click.pass_context
def demo(ctx: click.Context, /, *, port: int) -> None:
    """Serve three demo agents until Ctrl-C. They need no API key, and only this machine can reach them.

    \b
      researcher    thinks, runs its own tools, and asks for an approval
      echo          repeats your message
      weather       calls a tool of the client

    Open the printed address of the chat page, or connect any OpenAI client.
    """  # noqa: D301  (click reads \b)
    from ._cli.serve_options import DEMO_AGENTS  # noqa: PLC0415

    told = [DEMO_AGENTS, "--listen", f"127.0.0.1:{port}", "--page"]
    # No prefix: OPENAI_COMPAT_ variables, such as the key and the store, configure the user's own server, not the demo.
    with serve.make_context("serve", told, parent=ctx, auto_envvar_prefix=None) as inner:
        serve.invoke(inner)


@main.command(context_settings={**SETTINGS, "auto_envvar_prefix": None})
@click.argument("path", metavar="[FILE | FOLDER]", default=AGENT_FILE)
@click.option(
    "--with",
    "name",
    type=click.Choice(list(TEMPLATES)),
    metavar="NAME",
    default="function",
    help="Template to start from; --list shows all.",
)
@click.option("--list", "is_listed", is_flag=True, help="List the templates and write nothing.")
def init(*, path: str, name: str, is_listed: bool) -> None:
    """Write a starter agent to agent.py, or to the path you give. Existing files are never overwritten.

    The agent runs as written, or the command prints what it still needs. Templates of most frameworks use a stand-in
    for the model, so they need no API key.

    \b
      openai-compat init                          a plain function
      openai-compat init support.py --with agno   an agent built with a framework
      openai-compat init --list                   all templates
    """  # noqa: D301  (click reads \b)
    click.echo(list_templates() if is_listed else write_template(path, name))


@main.command(context_settings=SETTINGS)
@click.argument("name", metavar="[NAME]", required=False)
@click.option(
    "--model",
    "models",
    metavar="NAME",
    multiple=True,
    help="Model that the key may use; repeatable. Default: all models.",
)
def key(*, name: str | None, models: tuple[str, ...]) -> None:
    """Create an API key and its line for --api-key-file.

    The first line of output is the key. Give it to its owner: it is stored nowhere. The second line is for the file; it
    holds only a digest, which cannot be used as a key. NAME identifies the owner to agents and in the log.

    \b
      openai-compat key ann
      openai-compat key ann --model helper | tee >(tail -1 >> keys.txt)
    """  # noqa: D301  (click reads \b)
    from openai_compat.policies.keys import hash_key, new_key  # noqa: PLC0415

    if any([len(word.split()) != 1 for word in models]):
        raise click.UsageError("The name of a model has no spaces in a file of keys.")
    made = new_key()
    click.echo(made)
    click.echo(" ".join([hash_key(made), *([name] if name else []), *[f"model={model}" for model in models]]))


@main.command(context_settings=SETTINGS)
@click.argument("targets", metavar="[[NAME=]MODULE[:ATTR] | FILE.toml]...", nargs=-1)
@click.option(
    "-l",
    "--listen",
    type=address,
    metavar="HOST:PORT",
    default="127.0.0.1:8083",
    help="Check that this address is free.",
)
@click.option("--store", metavar="URL", help="Check that this store can be used, without changing it.")
@click.option("--api-key-env", metavar="NAME", help="Check that this variable, which holds the API key, is set.")
@click.option("--url", type=base_url, metavar="URL", help="Check this server instead, over the network.")
@click.option("--api-key", metavar="KEY", help="API key of the server at --url.")
@click.option(
    "-m", "--message", metavar="TEXT", help="Message to send to the server at --url, to check that the answer streams."
)
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
def doctor(*, targets: tuple[str, ...], url: str | None, message: str | None, **values: Any) -> None:
    """Check this machine, or a running server, for problems.

    Print one line per check. The exit code is 1 if a check fails.

    \b
      openai-compat doctor                    check that `openai-compat serve` would work here
      openai-compat doctor agent.py --listen 0.0.0.0:8083 --store sqlite:///state.db
      openai-compat doctor --url https://agents.example/v1 --api-key sk-1 -m "Hello"
    """  # noqa: D301  (click reads \b)
    from ._cli.doctor_command import run  # noqa: PLC0415

    if url is None and message is not None:
        raise click.UsageError("--message goes with --url.")
    if url is not None and targets:
        raise click.UsageError("Say what to look at in one way: targets, or --url.")
    sys.exit(run(targets, url=url, message=message, **values))


@main.command(cls=GroupedCommand, context_settings=SETTINGS)
@click.argument("target", metavar="[MODULE[:ATTR] | FILE.toml]", required=False)
@CHAT_AGENT
@CHAT_MESSAGE
@CHAT_OUTPUT
def chat(**values: Any) -> None:
    """Chat with an agent, in this process or on a server.

    Ctrl-C stops an answer, Ctrl-D ends the conversation, /help lists the commands. Piped input is sent as one message.
    Without a target or --url, chat with what `openai-compat serve` would serve. --url accepts
    any OpenAI-compatible server.

    \b
      openai-compat chat hello:agent
      openai-compat chat hello:agent -m "What is new?"
      openai-compat chat team.toml --model reviewer
      git diff | openai-compat chat --url http://127.0.0.1:8083/v1 -m "Review this:"

    Exit codes: 0 success; 1 no answer; 2 wrong options; 3 a decision was needed and nobody was there to make it; 130
    stopped by Ctrl-C.
    """  # noqa: D301  (click reads \b)
    with needs("openai-compat chat", "cli"):
        from ._cli.chat_command import run  # noqa: PLC0415

    options = ChatOptions(**values)
    if options.target is not None and options.url is not None:
        raise click.UsageError("Say whom to talk to in one way: a target, or --url.")
    if options.json and options.jsonl:
        raise click.UsageError("--json is the answer, --jsonl its events: say one of them.")
    targets = [options.target] if options.target is not None else default_targets() if options.url is None else []
    if not targets and options.url is None:
        raise click.UsageError(f"Say whom to talk to: agent.py, MODULE:ATTR, FILE.toml, or --url. {NOTHING_HERE}")
    sys.exit(run(options, targets))
