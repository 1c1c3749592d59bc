"""Loads agents from a TOML file: each with provider, model, instructions and tools, or a Python object.

default = "assistant"

[providers.anthropic]
api_key_env = "ANTHROPIC_API_KEY"

[agents.assistant]
model = "anthropic/claude-opus-5"
instructions = "Answer briefly."
tools = ["mytools:search"]
security = "ask"
fallback = ["openai/gpt-5.2"]

[agents.own]
agent = "mybots:agent"
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..agents.adapt import as_backend
from ..backend import AgentBackend
from ..tools import AskLater, Bubblewrap, Toolbox, ToolLoop
from ..wire.json import describe_error
from .fallback import Fallback
from .port import ProviderSettings
from .registry import Providers
from .table import PROVIDERS
from .team_tables import AgentTable, TeamTable

Import = Callable[[str], Any]
"""Imports the object at `module:attr`. Raises ValueError with a reason of one line."""

Make = Callable[[Any], AgentBackend]
"""Makes a backend of an agent. Raises TypeError if the object is no agent."""


@dataclass(frozen=True, slots=True)
class Team:
    """The agents of a file, by the names under which they are served, the default agent first.

    `warnings` name the models that cannot be used at present, with the reason.
    """

    agents: Mapping[str, AgentBackend]
    providers: Providers
    warnings: tuple[str, ...] = ()


def load_team(path: str | Path, get: Import, make: Make = as_backend) -> Team:
    """Load the team of a TOML file. `get` imports a `module:attr`, `make` makes a backend of an imported agent.

    Raises ValueError, whose one line says what is wrong with the file, and where.
    """
    with _errors_at(f"{path}"):
        return _build_team(_read_table(Path(path)), get, make)


@contextmanager
def _errors_at(key: str) -> Generator[None]:
    """Re-raise errors as ValueError with the key of the file at which they occurred."""
    try:
        yield
    except (ValueError, TypeError, RuntimeError, ImportError) as error:
        raise ValueError(f"{key}: {error}") from error


def _read_table(path: Path) -> TeamTable:
    try:
        return TeamTable.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ValueError(f"it cannot be read: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"it is not TOML: {error}") from error
    except UnicodeDecodeError as error:
        raise ValueError("it is not UTF-8") from error
    except ValidationError as error:
        raise ValueError(_first_error(error)) from error


def _first_error(error: ValidationError) -> str:
    """The first error, without the value, which may be an API key in place of its variable's name."""
    detail = error.errors(include_url=False, include_input=False)[0]
    key = ".".join(map(str, detail["loc"]))
    if detail["type"] != "extra_forbidden":
        return f"{key}: {describe_error(detail) or 'it cannot be used'}"
    secret = key.endswith(".api_key")
    return f"{key}: there is no such setting" + (
        ", since keys stand in the environment: 'api_key_env'" if secret else ""
    )


def _build_team(table: TeamTable, get: Import, make: Make) -> Team:
    providers = _build_providers(table)
    agents: dict[str, AgentBackend] = {}
    for name, each in table.agents.items():
        with _errors_at(f"agents.{name}"):
            agents[name] = _build_agent(each, table, providers, get, make)
    if table.default is not None:
        if table.default not in agents:
            raise ValueError(f"default: there is no agent '{table.default}'; there are: {', '.join(agents)}")
        # The first agent answers requests that name no model.
        agents = {table.default: agents[table.default], **agents}
    return Team(agents, providers, tuple(_warnings(table, providers)))


def _build_providers(table: TeamTable) -> Providers:
    named = {"default_provider": table.default_provider, **{f"providers.{name}": name for name in table.providers}}
    named |= {f"aliases.{alias}": model.partition("/")[0] for alias, model in table.aliases.items()}
    for key, name in named.items():
        if name is not None and name not in PROVIDERS:
            raise ValueError(f"{key}: there is no provider '{name}'; there are: {', '.join(PROVIDERS)}")
    settings: dict[str, ProviderSettings] = {}
    for name, each in table.providers.items():
        with _errors_at(f"providers.{name}"):
            settings[name] = each.settings()
    return Providers(settings, default=table.default_provider, aliases=table.aliases)


def _build_agent(
    agent_table: AgentTable, table: TeamTable, providers: Providers, get: Import, make: Make
) -> AgentBackend:
    if agent_table.agent is not None:
        with _errors_at("agent"):
            return make(get(agent_table.agent))
    for index, model in enumerate(agent_table.models):
        # a model without a provider would go to whichever provider has a key: in a file that is a mistake
        known = model in table.aliases or model.partition("/")[0] in PROVIDERS
        if not known and table.default_provider is None:
            key = f"fallback.{index - 1}" if index else "model"
            raise ValueError(f"{key}: whose model is '{model}'? Say provider/model, or set 'default_provider'")
    backends = {model: providers.backend(model, system=agent_table.instructions) for model in agent_table.models}
    agent = Fallback(backends, agent_table.cooldown) if len(backends) > 1 else backends[agent_table.models[0]]
    return _add_tools(agent, agent_table, get) if agent_table.tools or agent_table.mcp else agent


def _add_tools(model: AgentBackend, agent_table: AgentTable, get: Import) -> AgentBackend:
    tools: list[Any] = []
    for index, path in enumerate(agent_table.tools):
        with _errors_at(f"tools.{index}"):
            tools.append(get(path))
    for name, each in agent_table.mcp.items():
        with _errors_at(f"mcp.{name}"):
            tools.append(each.server(name))
    with _errors_at("tools"):
        toolbox = Toolbox(tools)
    sandbox = None
    if agent_table.sandbox is not None:
        with _errors_at("sandbox"):
            sandbox = Bubblewrap(agent_table.sandbox)
    return ToolLoop(
        model,
        toolbox,
        roundtrips=agent_table.roundtrips,
        budget=agent_table.budget,
        security=agent_table.security,
        approver=AskLater(),
        sandbox=sandbox,
    )


def _warnings(table: TeamTable, providers: Providers) -> Iterator[str]:
    for name, each in table.agents.items():
        for model in each.models if each.agent is None else ():
            provider = providers.resolve(model)[0] if providers.default else model
            reason = providers.connection(provider).unusable_reason
            if reason is not None:
                # A warning, not an error: the key may be added later, and the other agents work.
                yield f"agents.{name}: '{model}' cannot be asked now. {provider}: {reason}"
