"""Builds the Server from the options of the command line."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from ipaddress import ip_network
from typing import cast

import click
from click.core import ParameterSource

from openai_compat import (
    Admission,
    AgentBackend,
    ChatRest,
    ChatWebSocket,
    Conversations,
    Cors,
    Deadlines,
    Disconnect,
    Limits,
    MemoryStore,
    MessagePolicy,
    Rates,
    ReplayFailures,
    Server,
    Webhooks,
    from_header,
    key_from_env,
    key_from_file,
)
from openai_compat.api.anthropic_messages import AnthropicMessages
from openai_compat.api.ollama import Ollama
from openai_compat.api.routing import Public
from openai_compat.policies.authenticate import LOOPBACK, Authenticate
from openai_compat.policies.keys import KeySource

from ..serve import is_loopback
from .load_agents import Agents
from .observers import make_observers
from .serve_options import ServeOptions

ALL_ADDRESSES = ("0.0.0.0/0", "::/0")
"""All addresses: the trusted peers if only the proxy can reach the server."""

_HEADER = re.compile(r"[!#$%&'*+.^`|~0-9A-Za-z-]+")

PROGRAM_OPTIONS = frozenset(
    {
        "targets",
        "listen",
        "open_page",
        "proxy_auth",
        "workers",
        "reload",
        "grace",
        "header_timeout",
        "idle_timeout",
        "ping",
        "working_dir",
        "env_from_file",
        "log_level",
        "log_format",
        "no_tracebacks",
    }
)
"""Options of the program; all others are settings of the Server."""


def make_server(agents: Server | Agents, options: ServeOptions, ctx: click.Context) -> Server:
    """Build the server. Raises click.UsageError, also for options that a loaded Server does not accept."""
    if isinstance(agents, Server):
        names = [name for name in ctx.params if name not in PROGRAM_OPTIONS and is_given(name, ctx)]
        if names:
            listed = ", ".join(sorted([f"--{name.replace('_', '-')}" for name in names]))
            raise click.UsageError(f"A Server has its own settings, so it cannot be served with {listed}.")
        return agents
    for option in ("proxy_auth", "user_header"):
        if getattr(options, option) and not options.host_name:
            name = f"--{option.replace('_', '-')}"
            raise click.UsageError(f"{name} goes with --host-name NAME: the name by which the proxy is called.")
    try:
        _check_conversations(options, ctx)
        return _build_server(agents, options)
    except (ValueError, ImportError) as error:  # a driver may be missing
        raise click.UsageError(f"{str(error).rstrip('.')}.") from error


def _build_server(agents: Agents, options: ServeOptions) -> Server:
    window, database, most = options.replay_failures, _is_database(options.store), options.conversations_max
    local = is_loopback(options.listen[0]) and not options.proxy_auth and options.user_header is None
    memory = MemoryStore(max_items=most, ttl=options.conversation_ttl) if most else None
    hooks, apis = make_observers(options)
    requests, tokens = options.requests_per_minute, options.tokens_per_minute
    chosen: list[tuple[Public, bool]] = [("models", options.public_models), ("metrics", options.public_metrics)]
    public: list[Public] = [name for name, is_public in chosen if is_public]
    return Server(
        _select_agent(agents, options.agent),
        providers=agents.providers,
        keys=_keys(options.api_key, options.api_key_env, options.api_key_file),
        authenticate=_header_login(options.user_header, options.trusted_proxy, proxy_auth=options.proxy_auth),
        # Against DNS rebinding: only `Host` distinguishes a request of a page whose name was made to point here.
        hosts=[*LOOPBACK, *options.host_name],
        public=public,
        cors=Cors(options.cors_origin) if options.cors_origin else None,
        limits=Limits(
            body=options.max_request_size,
            answer=options.max_answer_size,
            slots=options.max_concurrency,
            shared_slots=options.shared_concurrency,
        ),
        rates=Rates(requests, tokens_per_minute=tokens) if requests is not None or tokens is not None else None,
        admission=Admission(queue=options.queue),
        deadlines=Deadlines(
            request=options.request_timeout,
            background=options.background_timeout,
            head=options.head_delay,
            body=options.body_timeout,
            write=options.write_timeout,
            heartbeat=options.heartbeat,
            lease=options.lease,
        ),
        chat_rest=ChatRest() if options.chat_rest else None,
        chat_websocket=ChatWebSocket() if options.chat_websocket else None,
        disconnect=Disconnect(options.on_disconnect),
        replay_failures=ReplayFailures(window, longest=max(window, ReplayFailures().longest)) if window else None,
        messages=MessagePolicy(
            history="full" if options.history == "full" else "last_user", system=options.system, user=options.user
        ),
        unknown_model=options.unknown_model,
        conversations=Conversations() if most or database else None,
        store=options.store if database else memory,
        retention=options.retention,
        webhooks=_webhooks(options.webhook, options.webhook_secret_env),
        visibility=options.visibility,
        page=local if options.page is None else options.page,
        hooks=hooks,
        apis=[*apis, *([AnthropicMessages()] if options.anthropic else []), *([Ollama()] if options.ollama else [])],
        bare_paths=options.bare_paths,
    )


def _header_login(header: str | None, proxies: Sequence[str], *, proxy_auth: bool) -> Authenticate | None:
    if header is None:
        if proxies:
            raise click.UsageError("--trusted-proxy goes with --user-header NAME: what it is trusted to tell.")
        return None
    if not _HEADER.fullmatch(header):
        raise click.UsageError(f"--user-header: '{header}' is not the name of a header, such as X-Forwarded-User.")
    if not proxies and not proxy_auth:
        text = "--user-header goes with --trusted-proxy ADDRESS, or --proxy-auth: anybody else can send a header too."
        raise click.UsageError(text)
    for proxy in proxies:
        try:
            ip_network(proxy)
        except ValueError as error:
            text = f"--trusted-proxy: '{proxy}' is not an address or a network, such as 10.0.0.7 or 10.0.0.0/8."
            raise click.UsageError(text) from error
    return from_header(header, peers=proxies or ALL_ADDRESSES)


def _is_database(url: str | None) -> bool:
    return url not in (None, "", "memory:")


def _check_conversations(options: ServeOptions, ctx: click.Context) -> None:
    names = [name for name in ("conversations_max", "conversation_ttl") if is_given(name, ctx)]
    if names and _is_database(options.store):
        listed = " and ".join([f"--{name.replace('_', '-')}" for name in names])
        raise click.UsageError(f"A database keeps all conversations, for --retention: leave {listed} out.")


def _webhooks(urls: Sequence[str], variable: str | None) -> list[Webhooks]:
    if not urls and variable is None:
        return []
    if not urls or variable is None:
        raise click.UsageError("--webhook and --webhook-secret-env go together.")
    secret = os.environ.get(variable)
    if not secret:
        text = f"The environment variable {variable}, which should hold the webhooks' secret, is not set."
        raise click.UsageError(text)
    from ..webhooks import http_post  # noqa: PLC0415  (only webhooks need httpx2)

    return [Webhooks(urls, secret=secret, post=http_post)]


def _select_agent(agents: dict[str, AgentBackend], name: str | None) -> dict[str, AgentBackend]:
    if name is None:
        return agents
    if name not in agents:
        raise click.UsageError(f"There is no agent '{name}'; there are: {', '.join(agents)}.")
    return {name: agents[name]}


def is_given(name: str, ctx: click.Context) -> bool:
    """True if the user has set an option, also by environment variable."""
    return ctx.get_parameter_source(name) in (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT)


def _keys(key: str | None, variable: str | None, file: str | None) -> str | KeySource | None:
    if sum(source is not None for source in (key, variable, file)) > 1:
        raise click.UsageError("Give the API key in one way: --api-key, --api-key-env or --api-key-file.")
    # Usually an unset variable, in a script that was meant to require a key.
    if key == "":
        text = "--api-key is empty: leave it out to serve without a key, which is for this machine only."
        raise click.UsageError(text)
    if variable is not None and not os.environ.get(variable):
        raise click.UsageError(f"The environment variable {variable}, which should hold the API key, is not set.")
    if variable is None and file is None:
        return key
    source = key_from_env(variable) if variable is not None else key_from_file(cast("str", file))
    source()  # fail now if it cannot be read
    return source
