"""`openai-compat`: serves agents, and talks to them."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import replace
from typing import Any

from openai_compat.package import __version__, needs

with needs("the command line"):
    import click

    from ._cli.chat_options import SHOWN, WHAT, WHOM, ChatOptions
    from ._cli.default_targets import NOTHING_HERE, default_targets
    from ._cli.grouped_options import GroupedCommand
    from ._cli.init_command import AGENT_FILE, TEMPLATES, listing, write
    from ._cli.one_line_errors import Program
    from ._cli.options import ACCESS, AGENTS, APIS, CONVERSATIONS, LIMITS, PROCESS, STATE, TELEMETRY
    from ._cli.values import address, base_url, start_folder

# What a command needs is imported by it: the help of the program is there before the library would be.

SETTINGS = {"auto_envvar_prefix": "OPENAI_COMPAT", "show_default": True, "max_content_width": 110}


@click.group("openai-compat", cls=Program, context_settings={"max_content_width": 110})
@click.version_option(
    __version__, message=f"%(prog)s %(version)s, Python {sys.version.split()[0]}", prog_name="openai-compat"
)
def main() -> None:
    """Any agent in, every OpenAI client out.

    \b
      openai-compat init                   write an agent to begin with
      openai-compat serve hello:agent      serve the `agent` in hello.py as the OpenAI API
      openai-compat serve team.toml        serve agents that a file describes
      openai-compat chat hello:agent       talk to it right here
      openai-compat demo                   three agents to try, which need no key
      openai-compat doctor                 look for what may be wrong

    An option can be given as an environment variable too: --listen is OPENAI_COMPAT_LISTEN.
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
    """Serve agents as models of the OpenAI API, until Ctrl-C or SIGTERM.

    ATTR is an agent, a mapping of agents by name, or a Server; without it, it is looked for in the module. MODULE may
    be in the current directory, or the path of a Python file.
    FILE.toml describes agents: provider, model, instructions and tools of each. Without any of these, it is what the
    current directory has: openai-compat.toml, `serve` in [tool.openai-compat] of pyproject.toml, or agent.py.
    TIME is 500ms, 30s, 5m, 1h30m, or a number of seconds; SIZE is 512k, 20MB, or a number of bytes.

    \b
      openai-compat serve hello:agent                     the model is called "agent"
      openai-compat serve path/to/hello.py                the agent of a file
      openai-compat serve gpt-4o=hello:agent bots:all     several, with names of your own
      openai-compat serve team.toml                       agents that a file describes
      openai-compat serve hello:agent --listen 0.0.0.0:8083 --api-key-env MY_KEY
      openai-compat serve hello:agent --store sqlite:///state.db --workers 4
    """  # noqa: D301  (click reads \b)
    if os.getpid() == 1:
        # A container's first process does not get signals that it has no handler for (pid_namespaces(7)), and until it serves
        # it has none: to stop it meanwhile would take the runtime's kill.
        signal.signal(signal.SIGTERM, lambda number, _: os._exit(128 + number))
    with needs("openai-compat serve", "serve"):
        from ._cli.load_agents import load, warnings_of  # noqa: PLC0415
        from ._cli.pool_agents import backend_maker  # noqa: PLC0415
        from ._cli.serve_command import run  # noqa: PLC0415
        from ._cli.serve_options import OLLAMA_ADDRESS, ServeOptions  # noqa: PLC0415
        from ._cli.server_from_options import given, make_server  # noqa: PLC0415

    if values["ollama"] and not given("listen", ctx):  # clients look for it there
        values["listen"] = OLLAMA_ADDRESS
    options = ServeOptions(**values)
    targets = options.targets or default_targets()
    if not targets:
        raise click.UsageError(f"Say what to serve: agent.py, MODULE:ATTR or FILE.toml. {NOTHING_HERE}")
    make = backend_maker(options.max_idle_runtimes, asked_for=given("max_idle_runtimes", ctx))
    agents = load(targets, make)
    options = replace(options, targets=tuple(targets))
    sys.exit(run(make_server(agents, options, ctx), options, warnings_of(agents), start_folder(ctx)))


@main.command(context_settings=SETTINGS)
@click.option("--port", type=click.IntRange(0, 65535), metavar="PORT", default=8083, help="Where; 0 is a free port.")
@click.pass_context
def demo(ctx: click.Context, /, *, port: int) -> None:
    """Serve three agents to try, until Ctrl-C: they need no key, and only this machine can reach them.

    \b
      researcher    thinks, uses tools of its own, and asks for an approval
      echo          says it again
      weather       calls a tool of the client's

    Open the page that it tells, or use any OpenAI client.
    """  # noqa: D301  (click reads \b)
    from ._cli.serve_options import DEMO_AGENTS  # noqa: PLC0415

    told = [DEMO_AGENTS, "--listen", f"127.0.0.1:{port}", "--page"]
    # Without the prefix: what is set for the user's own server, as its key and its store, is not for this one.
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
    help="What the agent is made with.",
)
@click.option("--list", "is_listed", is_flag=True, help="Show what there is to begin with, and write nothing.")
def init(*, path: str, name: str, is_listed: bool) -> None:
    """Write an agent to begin with, as agent.py or where you say; nothing is overwritten.

    It runs as it is, or says what it needs: most frameworks have a stand-in for a model, which needs no key.

    \b
      openai-compat init                          a plain function
      openai-compat init support.py --with agno   an agent of a framework
      openai-compat init --list                   all that there is
    """  # noqa: D301  (click reads \b)
    click.echo(listing() if is_listed else write(path, name))


@main.command(context_settings=SETTINGS)
@click.argument("name", metavar="[NAME]", required=False)
@click.option("--model", "models", metavar="NAME", multiple=True, help="A model that it is good for; all, without any.")
def key(*, name: str | None, models: tuple[str, ...]) -> None:
    """Make an API key, and the line for --api-key-file that lets it in.

    The first line is the key, for its owner: it is kept nowhere. The second has its digest, which lets nobody in.
    NAME is the owner's, as agents and the log know it.

    \b
      openai-compat key ann
      openai-compat key ann --model helper | tee >(tail -1 >> keys.txt)
    """  # noqa: D301  (click reads \b)
    from openai_compat.policies.keys import hashed, new_key  # noqa: PLC0415

    if any([len(word.split()) != 1 for word in models]):
        raise click.UsageError("The name of a model has no spaces in a file of keys.")
    made = new_key()
    click.echo(made)
    click.echo(" ".join([hashed(made), *([name] if name else []), *[f"model={model}" for model in models]]))


@main.command(context_settings=SETTINGS)
@click.argument("targets", metavar="[[NAME=]MODULE[:ATTR] | FILE.toml]...", nargs=-1)
@click.option("-l", "--listen", type=address, metavar="HOST:PORT", default="127.0.0.1:8083", help="Is it free?")
@click.option("--store", metavar="URL", help="Can it be used? Nothing in it is changed.")
@click.option("--api-key-env", metavar="NAME", help="Is the variable set that has the key of clients?")
@click.option("--url", type=base_url, metavar="URL", help="Look at this server instead, as its clients see it.")
@click.option("--api-key", metavar="KEY", help="The key of the server at --url.")
@click.option(
    "-m", "--message", metavar="TEXT", help="Ask the server at --url this, to see whether its answer is streamed."
)
@click.option("--json", "as_json", is_flag=True, help="Tell it as JSON.")
def doctor(*, targets: tuple[str, ...], url: str | None, message: str | None, **values: Any) -> None:
    """Look for what may be wrong: here, or at a server. A line for each thing; the exit code is 1 if one is wrong.

    \b
      openai-compat doctor                    would `openai-compat serve` work here?
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
@WHOM
@WHAT
@SHOWN
def chat(**values: Any) -> None:
    """Talk to an agent: in this process, or to one that is served.

    Ctrl-C stops an answer, Ctrl-D ends the conversation; /help tells more. What is piped in is one message. Where
    nobody is named, it is whom `openai-compat serve` would serve. Any OpenAI-compatible server can be talked to.

    \b
      openai-compat chat hello:agent
      openai-compat chat hello:agent -m "What is new?"
      openai-compat chat team.toml --model reviewer
      git diff | openai-compat chat --url http://127.0.0.1:8083/v1 -m "Review this:"

    Exit code: 0; 1 without an answer; 2 for wrong options; 3 where a person had to decide; 130 after Ctrl-C.
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
