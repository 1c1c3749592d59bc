"""Checks of `openai-compat doctor` on this machine. No check changes anything or prints a key."""

from __future__ import annotations

import json
import operator
import os
import re
import socket
import sys
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import anyio

from openai_compat import AgentBackend, OpenAICompatError, Server, __version__
from openai_compat.policies.authenticate import LOOPBACK
from openai_compat.providers.table import PROVIDERS
from openai_compat.stores.schema_version import NEWEST, schema_version

from .default_targets import NOTHING_HERE, default_targets
from .load_agents import load
from .wrong_target import CannotLoad

PATIENCE = 5.0
"""Timeout for the store, and for the program on the port, in seconds."""

KEY, KEY_FILE = "OPENAI_COMPAT_API_KEY", "OPENAI_COMPAT_API_KEY_FILE"
OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "<": operator.lt,
    ">": operator.gt,
    "==": operator.eq,
}

_REQUIREMENT = re.compile(r"""([\w.-]+)(?:\[[^]]*\])?([^;]*);.*extra == ['"]([\w-]+)['"]""")
# Only the operators in this package's extras; others would need `packaging`, which may not be installed.
_BOUND = re.compile(r"(>=|<=|==|<|>)\s*([\d.]+)")


@dataclass(frozen=True, slots=True)
class Finding:
    """Result of a check. A "note" is not a fault, but may explain one."""

    name: str
    status: Literal["ok", "note", "wrong"]
    text: str


def check_python() -> Finding:
    """Report the versions and the interpreter, which is often not the one that has the packages."""
    return Finding("python", "ok", f"openai-compat {__version__} on Python {sys.version.split()[0]}, {sys.executable}")


def check_extras() -> Finding:
    """Report the installed extras, and check that their packages are within the version bounds."""
    there, absent, wrong, versions = list[str](), list[str](), list[str](), dict[str, str | None]()
    for extra, needed in _extra_requirements().items():
        found = {package: _installed_version(package) for package in needed}
        if None in found.values():
            absent.append(extra)
            continue
        there.append(extra)
        versions |= found
        wrong += [
            f"{name} {its} is not {needed[name]} (extra {extra})"
            for name, its in found.items()
            if not _is_within(its, needed[name])
        ]
    if wrong:
        return Finding(
            "extras", "wrong", f"{'; '.join(wrong)}: pip install -U 'openai-compat[NAME]' with the extra as NAME"
        )
    text = (
        f"installed: {', '.join(there)}; with {', '.join([f'{name} {its}' for name, its in versions.items()])}"
        if there
        else "none installed"
    )
    hint = f"; not installed: {', '.join(absent)} (pip install 'openai-compat[NAME]')" if absent else ""
    return Finding("extras", "ok" if there else "note", text + hint)


def _extra_requirements() -> dict[str, dict[str, str]]:
    """The packages of each extra with their version bounds, from the metadata of the installed package."""
    found: dict[str, dict[str, str]] = {}
    with suppress(PackageNotFoundError):
        for line in requires("openai-compat") or ():
            match = _REQUIREMENT.match(line)
            if match is not None and match[1] != "openai-compat" and match[3] not in ("test", "all"):
                found.setdefault(match[3], {})[match[1]] = match[2].strip()
    return found


def _installed_version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _is_within(its: str | None, bounds: str) -> bool:
    """True if a version is within bounds such as `<0.55,>=0.53`; a suffix after the numbers is ignored."""
    have = _version_numbers(its or "")
    wanted: list[tuple[str, str]] = _BOUND.findall(bounds)
    return all([OPERATORS[how](have, _version_numbers(limit)) for how, limit in wanted])


def _version_numbers(text: str) -> tuple[int, ...]:
    numbers = [int(number) for number in re.split(r"[^\d.]", text, maxsplit=1)[0].split(".") if number]
    return (*numbers, *[0] * (4 - len(numbers)))


def check_event_loop() -> Finding:
    """Check that uvloop, the faster event loop, is installed."""
    if find_spec("uvloop") is not None:
        return Finding("speed", "ok", f"the event loop is uvloop {_installed_version('uvloop')}")
    return Finding("speed", "note", "the event loop is asyncio's own; uvloop is faster: pip install uvloop")


def check_keys(listen: tuple[str, int], variable: str | None, environment: Mapping[str, str] = os.environ) -> Finding:
    """Check the API key of clients, from `variable` if given, and the keys of model providers. Prints no key."""
    of_models = [name for provider in PROVIDERS.values() for name in provider.key_env if environment.get(name)]
    # An API refuses a key that was pasted with its line break, and its message does not say why.
    odd = [name for name in of_models if environment[name].split() != [environment[name]]]
    file = environment.get(KEY_FILE)
    wrong = ""
    if odd:
        wrong = f"{', '.join(odd)} contains a space or a line break"
    elif variable and not environment.get(variable):
        wrong = f"{variable}, which should hold the API key of clients, is not set"
    elif file and not Path(file).is_file():
        wrong = f"{KEY_FILE} names a file that does not exist: {file}"
    models = f"model providers: {', '.join(of_models) or 'no key'}"
    given = variable or next((name for name in (KEY, KEY_FILE) if environment.get(name)), None)
    is_open = not given and listen[0] not in {*LOOPBACK, "::1"} and not environment.get("OPENAI_COMPAT_PROXY_AUTH")
    if is_open and not wrong:
        wrong = f"without an API key, `serve` does not listen on {listen[0]}: pass --api-key-env NAME or --proxy-auth"
    if wrong:
        return Finding("keys", "wrong", wrong)
    text = f"clients need a key from {given}" if given else "clients on this machine need no key"
    return Finding("keys", "ok", f"{text}; {models}")


def check_proxies(environment: Mapping[str, str] = os.environ) -> Finding:
    """Check that clients on this machine reach local servers without a proxy."""
    # Programs read either spelling, and few read both.
    lower = {name.lower(): value for name, value in environment.items() if value}
    found = [name for name in ("http_proxy", "https_proxy", "all_proxy") if name in lower]
    if not found:
        return Finding("proxies", "ok", "the environment sets none")
    if "*" in lower.get("no_proxy", "") or {"127.0.0.1", "localhost"} & set(
        re.split(r"[\s,]+", lower.get("no_proxy", ""))
    ):
        return Finding(
            "proxies", "ok", f"the environment sets {', '.join(found).upper()}, and NO_PROXY excludes this machine"
        )
    text = "clients may use it for servers on this machine too: set NO_PROXY=127.0.0.1,localhost"
    return Finding("proxies", "note", f"the environment sets {', '.join(found).upper()}; {text}")


def check_port(listen: tuple[str, int]) -> Finding:
    """Check that the address is free; if not, tell if a server of this library has it."""
    host, number = listen
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, number), family=family).close()
    except OSError as error:
        reason = str(error.strerror).partition(" (")[0]
        who = " by an openai-compat server" if _is_ours(host, number) else ""
        return Finding(
            "port",
            "wrong",
            f"cannot listen on {host}:{number}: {reason.lower()}{who}; choose another address with --listen",
        )
    return Finding("port", "ok", f"{host}:{number} is free")


def _is_ours(host: str, number: int) -> bool:
    url = f"http://{f'[{host}]' if ':' in host else host}:{number}/healthz"
    with (
        suppress(OSError, ValueError),
        # Without a proxy, which would connect to the port on its own machine.
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=PATIENCE) as answer,
    ):
        health: Any = json.loads(answer.read(1000))
        return isinstance(health, dict) and "status" in health
    return False


def check_targets(named: tuple[str, ...]) -> Iterator[Finding]:
    """Check that the targets load, and report the kind of each agent."""
    try:
        wanted = named or tuple(default_targets())
        if not wanted:
            yield Finding("agents", "note", f"no target is given. {NOTHING_HERE} openai-compat init writes one")
            return
        found = load(wanted)
    except CannotLoad as error:
        yield Finding("agents", "wrong", str(error))
        return
    if isinstance(found, Server):
        text = f"{' '.join(wanted)} is a Server, with its own settings and the models {', '.join(found.services.models.agents)}"
        yield Finding("agents", "ok", text)
        return
    for warning in found.warnings:
        yield Finding("agents", "note", warning)
    each = ", ".join([f"{name} ({_agent_kind(agent)})" for name, agent in found.items()])
    yield Finding("agents", "ok", f"{' '.join(wanted)}: {each}")


def _agent_kind(agent: AgentBackend) -> str:
    name = type(agent).__name__
    return "a function, or an object with `run`" if name == "CallableBackend" else f"run by {name}"


def check_store(url: str | None) -> Finding:
    """Check that the store answers and has the current schema."""
    if url in (None, "", "memory:"):
        return Finding("store", "ok", "in memory, so stored data is lost when the process ends; --store keeps it")

    async def find_schema() -> int | None:
        with anyio.fail_after(PATIENCE):
            return await schema_version(str(url))

    kind = str(url).partition(":")[0]
    try:
        found = anyio.run(find_schema)
    except TimeoutError:
        return Finding("store", "wrong", f"{kind} does not answer within {PATIENCE:.0f} seconds")
    except (OpenAICompatError, ValueError, ImportError) as error:
        return Finding("store", "wrong", str(error).rstrip("."))
    except Exception as error:  # a driver's error, whose text may contain part of the password
        return Finding("store", "wrong", f"{kind}: {type(error).__name__}; is the password in its URL percent-encoded?")
    if found is None:
        return Finding("store", "ok", f"{kind} can be used; the first server that uses it creates the tables")
    # An older server refuses to start: its rows could be wrong for the newer schema.
    if found > NEWEST:
        text = f"but its schema {found} is from a newer version; this one knows {NEWEST}: pip install -U openai-compat"
        return Finding("store", "wrong", f"{kind} answers, {text}")
    if found < NEWEST:
        return Finding(
            "store",
            "note",
            f"{kind} answers; the next server that uses it upgrades its schema from {found} to {NEWEST}",
        )
    return Finding("store", "ok", f"{kind} answers, and its schema {found} is up to date")


def check_machine(
    named: tuple[str, ...], listen: tuple[str, int], store_url: str | None, key_variable: str | None
) -> Iterator[Finding]:
    """Run every check that needs no running server, in the order of a manual search."""
    yield check_python()
    yield check_extras()
    yield check_event_loop()
    yield from check_targets(named)
    yield check_store(store_url)
    yield check_keys(listen, key_variable)
    yield check_proxies()
    yield check_port(listen)
