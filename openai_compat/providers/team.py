"""Agents from a file: provider, model, instructions and tools of each, or a Python object.

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

import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import MinLen
from pydantic import BaseModel, ConfigDict, ValidationError

from ..backend import AgentBackend
from ..callables import as_backend
from ..provider import Settings
from ..tools import AskLater, ToolLoop
from .fallback import Fallback
from .registry import Providers
from .table import PROVIDERS

Import = Callable[[str], Any]
"""Gets what is at `module:attr`."""


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class ProviderTable(_Table):
    """`[providers.NAME]`. The key stands in an environment variable, not in the file."""

    api_key_env: str | None = None
    base_url: str | None = None
    default_model: str | None = None
    resource_name: str | None = None
    deployment_name: str | None = None
    api_version: str | None = None
    enabled: bool = True


class AgentTable(_Table):
    """`[agents.NAME]`: a model, or an object at `module:attr`."""

    model: str | None = None
    agent: str | None = None
    instructions: str = ""
    tools: list[str] = []
    security: Literal["deny", "sandbox", "allowlist", "ask", "full"] = "ask"
    roundtrips: int = 5
    fallback: list[str] = []


class TeamTable(_Table):
    """The whole file."""

    agents: Annotated[dict[str, AgentTable], MinLen(1)]
    providers: dict[str, ProviderTable] = {}
    aliases: dict[str, str] = {}
    default: str | None = None


@dataclass(frozen=True, slots=True)
class Team:
    """What a file describes: agents by the names under which they are served, the default one first."""

    agents: Mapping[str, AgentBackend]
    providers: Providers


def load_team(path: str | Path, get: Import) -> Team:
    """The team in a TOML file. Raises ValueError, which says in a line what is wrong with the file."""
    try:
        table = TeamTable.model_validate(tomllib.loads(Path(path).read_text(encoding="utf-8")))
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path} is no TOML: {error}") from error
    except ValidationError as error:
        raise ValueError(f"{path}: {_first(error)}") from error
    providers = Providers(
        {name: _settings(name, given) for name, given in table.providers.items()}, aliases=table.aliases
    )
    agents = {name: _agent(name, given, providers, get) for name, given in table.agents.items()}
    if table.default is not None:
        if table.default not in agents:
            raise ValueError(f'{path}: default = "{table.default}" is none of its agents.')
        agents = {table.default: agents[table.default], **agents}
    return Team(agents, providers)


def _first(error: ValidationError) -> str:
    detail = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, detail['loc']))}: {detail['msg']}"


def _settings(name: str, given: ProviderTable) -> Settings:
    if name not in PROVIDERS:
        raise ValueError(f"[providers.{name}]: there is no such provider. There are: {', '.join(PROVIDERS)}.")
    key = None
    if given.api_key_env is not None:
        key = os.environ.get(given.api_key_env)
        if not key:
            raise ValueError(f"[providers.{name}]: the environment variable {given.api_key_env} is not set.")
    known = {field.name for field in fields(Settings)}
    values = {name: value for name, value in given.model_dump().items() if name in known}
    return Settings(api_key=key, **values)


def _agent(name: str, given: AgentTable, providers: Providers, get: Import) -> AgentBackend:
    if (given.model is None) == (given.agent is None):
        raise ValueError(f"[agents.{name}] needs either 'model' or 'agent'.")
    if given.agent is not None:
        if given.tools or given.fallback or given.instructions:
            raise ValueError(
                f"[agents.{name}]: 'tools', 'fallback' and 'instructions' are for models, not for 'agent'."
            )
        return as_backend(get(given.agent))
    models = [given.model or "", *given.fallback]
    backends = {model: providers.backend(model, system=given.instructions) for model in models}
    agent: AgentBackend = Fallback(backends) if given.fallback else backends[models[0]]
    if not given.tools:
        return agent
    tools = [get(path) for path in given.tools]
    return ToolLoop(agent, tools, roundtrips=given.roundtrips, security=given.security, approver=AskLater())
