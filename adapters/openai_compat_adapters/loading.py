"""Agents by import path (`module:attr`, or `name=module:attr`) or file (`team.toml`). What is wrong is told in a line."""

from __future__ import annotations

import importlib
import operator
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeAlias, cast

import click

from openai_compat import AgentBackend, Server, as_backend
from openai_compat.provider import ProviderControl

MakeBackend: TypeAlias = Callable[[Any], AgentBackend]


TEAM_FILE = "openai-compat.toml"
"""What is served where nothing is named, if it is in the current directory."""


class CannotLoad(click.ClickException):
    """There is no agent at an import path; the message says what there is instead."""


class Agents(dict[str, AgentBackend]):
    """Agents by model name, and the model providers behind them, if a file describes those."""

    providers: ProviderControl | None = None


def team_file() -> list[str]:
    """The targets where none are named: the file of the current directory, if there is one."""
    return [TEAM_FILE] if Path(TEAM_FILE).is_file() else []


def load(targets: Sequence[str], make: MakeBackend = as_backend) -> Server | Agents:
    """The agents at `targets` by model name, or the one Server. Modules are looked for in the current directory too.

    An attribute may be an agent, a mapping of agents by name, or a Server, which has to be the only one; a target
    that ends in `.toml` is a file with a team. `make` makes backends of agents. Raises CannotLoad.
    """
    sys.path.insert(0, str(Path.cwd()))
    agents = Agents()
    for target in targets:
        name, _, path = target.rpartition("=")
        if path.endswith(".toml"):
            _add_team(agents, name, path, make)
            continue
        found = _attribute(path)
        if isinstance(found, Server):
            if len(targets) > 1 or name:
                raise CannotLoad(f"'{path}' is a Server, which has names for its agents: serve it alone.")
            return found
        for model, agent in _named(name, path, found).items():
            _refuse_second(model, agents, f"Name one of them: other={path}")
            agents[model] = _backend(path, agent, make)
    return agents


def _refuse_second(model: str, agents: Agents, hint: str) -> None:
    if model in agents:
        raise CannotLoad(f"Two agents are called '{model}'. {hint}")


def _add_team(agents: Agents, name: str, path: str, make: MakeBackend) -> None:
    """Tools and agents that the file names are looked for beside it too."""
    from openai_compat.providers.team import load_team  # noqa: PLC0415  (only those who want it need the SDKs)

    if name:
        raise CannotLoad(f"'{path}' has names for its agents: leave '{name}=' out.")
    if agents.providers is not None:
        raise CannotLoad(f"Two files would have two sets of providers: put the agents of '{path}' into the other one.")
    sys.path.insert(0, str(Path(path).resolve().parent))
    try:
        team = load_team(path, _get, make)
    except ValueError as error:
        raise CannotLoad(f"{str(error).rstrip('.')}.") from error
    for warning in team.warnings:
        click.echo(f"{path}: {warning}", err=True)
    for model, agent in team.agents.items():
        _refuse_second(model, agents, f"Rename the one in {path}.")
        agents[model] = agent
    agents.providers = team.providers


def _get(path: str) -> Any:
    try:
        return _attribute(path)
    except CannotLoad as error:
        raise ValueError(error.message) from error


def _named(name: str, path: str, found: Any) -> dict[str, Any]:
    if not isinstance(found, Mapping):
        return {name or path.rpartition(":")[2].rpartition(".")[2]: found}
    if name:
        raise CannotLoad(f"'{path}' is a mapping, which has names for its agents: leave '{name}=' out.")
    if not found:
        raise CannotLoad(f"'{path}' is an empty mapping: there is no agent in it.")
    return {str(model): agent for model, agent in cast("Mapping[Any, Any]", found).items()}


def _backend(path: str, agent: Any, make: MakeBackend) -> AgentBackend:
    try:
        return make(agent)
    except TypeError as error:
        raise CannotLoad(f"'{path}' is not an agent: {error}.") from error


def _attribute(path: str) -> Any:
    module_name, _, attribute = path.partition(":")
    if not module_name or not attribute:
        raise CannotLoad(f"'{path}' is not of the form module:attr, such as hello:agent.")
    if module_name.endswith(".py"):
        module_name = ".".join(Path(module_name).with_suffix("").parts)
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        raise CannotLoad(_why_not(module_name, error)) from error
    try:
        return operator.attrgetter(attribute)(module)
    except AttributeError as error:
        close = get_close_matches(error.name or "", dir(error.obj), 1)
        hint = f" Did you mean '{close[0]}'?" if close else ""
        raise CannotLoad(f"Module '{module_name}' has no attribute '{attribute}'.{hint}") from error


def _why_not(module_name: str, error: BaseException) -> str:
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    if missing and f"{module_name}.".startswith(f"{missing}."):
        return f"There is no module '{missing}', neither in {Path.cwd()} nor installed."
    text = f"Importing '{module_name}' failed: {type(error).__name__}: {error}"
    if isinstance(error, SyntaxError):
        return text  # which names the file and the line
    return f"{text} ({_place(error)})"


def _place(error: BaseException) -> str:
    """Where it happened: the innermost line of the user's own code."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename.startswith(str(Path.cwd()))]
    frame = (own or frames)[-1]
    return f"{Path(frame.filename).name}, line {frame.lineno}"
