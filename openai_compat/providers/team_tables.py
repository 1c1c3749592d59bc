"""The tables and keys of a team file."""

from __future__ import annotations

import os
from typing import Annotated

from annotated_types import Ge, Gt, MinLen
from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..tools import MCPServer, SecurityMode
from ..tools.modes import Danger
from .port import ProviderSettings
from .table import PROVIDERS

Name = Annotated[str, MinLen(1)]


class _Table(BaseModel):
    # TOML has types: a quoted number or flag is a mistake, as is an unknown key.
    model_config = ConfigDict(extra="forbid", strict=True)


class ProviderTable(_Table):
    """`[providers.NAME]`. The API key is in an environment variable, not in the file."""

    api_key_env: Name | None = Field(None, description="environment variable with the key; by default the provider's")
    base_url: Name | None = Field(None, description="where its API is, if not where the provider's own is")
    default_model: Name | None = Field(None, description="the model of agents that name only the provider")
    resource_name: Name | None = Field(None, description="Azure's: the name in `https://NAME.openai.azure.com`")
    deployment_name: Name | None = Field(None, description="Azure's: the deployment, whatever the model is called")
    api_version: Name | None = Field(None, description="Azure's")
    enabled: bool = Field(default=True, description="whether it is used at all")

    def settings(self) -> ProviderSettings:
        """Convert to ProviderSettings. Raises ValueError if `api_key_env` is not set in the environment."""
        key = None if self.api_key_env is None else from_environment(self.api_key_env, "api_key_env")
        return ProviderSettings(api_key=key, **self.model_dump(exclude={"api_key_env"}))


class MCPTable(_Table):
    """`[agents.NAME.mcp.NAME]`: an MCP server of tools."""

    command: Annotated[list[str], MinLen(1)] | None = Field(None, description="starts it, as a list of words")
    url: Name | None = Field(None, description="where it is, if it is not started here")
    headers_env: dict[str, Name] = Field({}, description="HTTP headers, each with its environment variable")
    env: dict[str, str] = Field({}, description="environment variables for the command")
    cwd: Name | None = Field(None, description="the command's working directory")
    prefix: str = Field("", description="put before the names of its tools")
    only: list[str] | None = Field(None, description="the names of the tools to take, without the prefix")
    danger: Danger = Field("risky", description="of its tools: `safe`, `risky` or `dangerous`")
    trust_hints: bool = Field(default=False, description="believe what it says about the danger of its tools")

    @model_validator(mode="after")
    def _one_target(self) -> MCPTable:
        if (self.command is None) == (self.url is None):
            raise ValueError("it needs either 'command' or 'url'")
        return self

    def server(self, name: str) -> MCPServer:
        """Make the MCP server. Raises ValueError or TypeError for invalid settings, ImportError without `mcp`."""
        headers = {header: from_environment(variable, "headers_env") for header, variable in self.headers_env.items()}
        return MCPServer(
            name,
            self.command or self.url or "",
            headers=headers,
            **self.model_dump(include={"env", "cwd", "prefix", "only", "danger", "trust_hints"}),
        )


class AgentTable(_Table):
    """`[agents.NAME]`: a model, or an object at `module:attr`."""

    model: Name | None = Field(None, description="`provider/model`, an alias, or a model of `provider`")
    provider: Name | None = Field(None, description="the provider, if `model` does not say it")
    agent: Name | None = Field(None, description="instead of a model: the agent at `module:attr`")
    instructions: str = Field("", description="go before the client's messages")
    tools: list[Name] = Field([], description="functions and other tools, each as `module:attr`")
    mcp: dict[str, MCPTable] = Field({}, description="servers of tools, see below")
    security: SecurityMode | None = Field(None, description="what tools may do without a question; `ask` by default")
    sandbox: Name | None = Field(None, description="folder for commands that run in a sandbox")
    roundtrips: Annotated[int, Ge(0)] = Field(5, description="how often a turn may run tools")
    budget: Annotated[int, Gt(0)] | None = Field(None, description="tokens after which a turn runs no more tools")
    fallback: list[Name] = Field([], description="models that take over, in order, as `provider/model`")
    cooldown: Annotated[float, Ge(0)] = Field(60.0, description="seconds for which one that failed is passed over")

    @model_validator(mode="after")
    def _one_kind(self) -> AgentTable:
        if self.provider is not None and self.provider not in PROVIDERS:
            raise ValueError(f"there is no provider '{self.provider}'; there are: {', '.join(PROVIDERS)}")
        if self.agent is None and self.model is None and self.provider is None:
            raise ValueError("it needs 'model' or 'agent'")
        others = self.model_fields_set - {"agent"}
        if self.agent is not None and others:
            raise ValueError(f"'{min(others)}' is for models, not for 'agent'")
        if self.security == "sandbox" and self.sandbox is None:
            raise ValueError("security = \"sandbox\" needs a folder in 'sandbox'")
        return self

    @property
    def models(self) -> list[str]:
        """Its models, the preferred one first."""
        if self.provider is None:
            return [self.model or "", *self.fallback]
        return [f"{self.provider}/{self.model or ''}", *self.fallback]


class TeamTable(_Table):
    """The whole file: agents, and the providers of their models."""

    agents: Annotated[dict[Name, AgentTable], MinLen(1)] = Field(description="the agents, see below")
    default: Name | None = Field(None, description="the agent that comes first; by default the first one in the file")
    providers: dict[str, ProviderTable] = Field({}, description="settings of providers, see below")
    default_provider: Name | None = Field(None, description="the provider of models that are named without one")
    aliases: dict[str, Name] = Field({}, description="other names of models, each for a `provider/model`")


def from_environment(variable: str, key: str) -> str:
    """The value of an environment variable that the file names. Raises ValueError if the variable is empty or not set."""
    value = os.environ.get(variable)
    if not value:
        raise ValueError(f"{key}: the environment variable {variable} is not set")
    return value
