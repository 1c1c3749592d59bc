"""Loads the agents of the command line: by import path (`module:attr`) or file (`agent.py`, `team.toml`)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, cast

from openai_compat import AgentBackend, Server, as_backend
from openai_compat.providers.port import ProviderControl

from .modules import find_target
from .wrong_target import CannotLoad

MakeBackend: TypeAlias = Callable[[Any], AgentBackend]


class Agents(dict[str, AgentBackend]):
    """Agents by model name, and the model providers of a team file."""

    providers: ProviderControl | None = None

    def __init__(self) -> None:
        super().__init__()
        self.warnings: list[str] = []


def warnings_of(agents: Server | Agents | None) -> list[str]:
    """Warnings about loaded agents that can still be served."""
    return agents.warnings if isinstance(agents, Agents) else []


def as_server(agents: Server | Agents) -> Server:
    """Return the loaded Server, or a Server of the loaded agents with default settings."""
    return agents if isinstance(agents, Server) else Server(agents, providers=agents.providers)


def load(targets: Sequence[str], make: MakeBackend = as_backend) -> Server | Agents:
    """Load the agents at `targets` by model name, or the one Server. Puts the current directory on the path.

    An attribute is an agent, a mapping of agents by name, or a Server, which has to be the only target; without one,
    the module is searched. `name=` before a target sets the model name. A target that ends in `.toml` is a team file.
    `make` turns an agent into a backend.

    Raises CannotLoad.
    """
    sys.path.insert(0, str(Path.cwd()))  # Python has put the script's folder there instead
    agents = Agents()
    for target in targets:
        name, _, path = target.rpartition("=")
        if path.endswith(".toml"):
            _add_team(agents, name, path, make)
            continue
        path, found = find_target(path)
        if isinstance(found, Server):
            if len(targets) > 1 or name:
                raise CannotLoad(f"'{path}' is a Server, which has names for its agents: serve it alone.")
            return found
        for model, agent in _agents_by_name(name, path, found).items():
            _refuse_duplicate(model, agents, f"Name one of them: other={path}")
            agents[model] = _to_backend(f"{path}['{model}']" if isinstance(found, Mapping) else path, agent, make)
    return agents


def _refuse_duplicate(model: str, agents: Agents, hint: str) -> None:
    if model in agents:
        raise CannotLoad(f"Two agents are called '{model}'. {hint}")


def _add_team(agents: Agents, name: str, path: str, make: MakeBackend) -> None:
    """Add the agents of a team file."""
    from openai_compat.providers.team import load_team  # noqa: PLC0415  (only team files need the SDKs)

    if name:
        raise CannotLoad(f"'{path}' has names for its agents: leave '{name}=' out.")
    if agents.providers is not None:
        raise CannotLoad(f"Two files would have two sets of providers: put the agents of '{path}' into the other one.")
    sys.path.insert(0, str(Path(path).resolve().parent))  # the modules of its tools may be there
    try:
        team = load_team(path, _load_object, make)
    except ValueError as error:
        raise CannotLoad(f"{str(error).rstrip('.')}.") from error
    agents.warnings += [f"{path}: {warning}" for warning in team.warnings]
    for model, agent in team.agents.items():
        _refuse_duplicate(model, agents, f"Rename the one in {path}.")
        agents[model] = agent
    agents.providers = team.providers


def _load_object(path: str) -> Any:
    try:
        if ":" not in path:
            raise CannotLoad(f"'{path}' is not of the form module:attr, such as hello:agent.")
        return find_target(path)[1]
    except CannotLoad as error:
        raise ValueError(str(error)) from error


def _agents_by_name(name: str, path: str, found: Any) -> dict[str, Any]:
    if not isinstance(found, Mapping):
        return {name or path.rpartition(":")[2].rpartition(".")[2]: found}
    if name:
        raise CannotLoad(f"'{path}' is a mapping, which has names for its agents: leave '{name}=' out.")
    if not found:
        raise CannotLoad(f"'{path}' is an empty mapping: there is no agent in it.")
    agents = cast("Mapping[Any, Any]", found)
    if not all([isinstance(model, str) for model in agents]):
        raise CannotLoad(f"'{path}' is a mapping whose keys are not all text: they are the names of its agents.")
    return dict(agents)


def _to_backend(path: str, agent: Any, make: MakeBackend) -> AgentBackend:
    try:
        return make(agent)
    except TypeError as error:
        raise CannotLoad(f"'{path}' is not an agent: {error}.") from error
