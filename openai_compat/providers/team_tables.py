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

    api_key_env: Name | None = Field(
        None, description="environment variable that holds the API key; by default the provider's usual one"
    )
    base_url: Name | None = Field(None, description="base URL of the API; by default the provider's own")
    default_model: Name | None = Field(None, description="model of agents that name only the provider")
    resource_name: Name | None = Field(None, description="Azure only: the name in `https://NAME.openai.azure.com`")
    deployment_name: Name | None = Field(
        None, description="Azure only: the deployment that answers, for any model name"
    )
    api_version: Name | None = Field(None, description="Azure only: the version of the API")
    enabled: bool = Field(default=True, description="`false` switches the provider off")

    def settings(self) -> ProviderSettings:
        """Convert to ProviderSettings. Raises ValueError if `api_key_env` is not set in the environment."""
        key = None if self.api_key_env is None else from_environment(self.api_key_env, "api_key_env")
        return ProviderSettings(api_key=key, **self.model_dump(exclude={"api_key_env"}))


class MCPTable(_Table):
    """`[agents.NAME.mcp.NAME]`: an MCP server of tools."""

    command: Annotated[list[str], MinLen(1)] | None = Field(
        None, description="command that starts the server, as a list of words"
    )
    url: Name | None = Field(None, description="URL of a server that is not started here")
    headers_env: dict[str, Name] = Field(
        {}, description="HTTP headers, each with the environment variable that holds its value"
    )
    env: dict[str, str] = Field({}, description="environment variables for the command")
    cwd: Name | None = Field(None, description="working directory of the command")
    prefix: str = Field("", description="prefix of the tool names")
    only: list[str] | None = Field(None, description="names of the tools to offer, without the prefix; all by default")
    danger: Danger = Field("risky", description="danger of the tools: `safe`, `risky` (the default) or `dangerous`")
    trust_hints: bool = Field(
        default=False, description="`true` trusts the server's hints about the danger of its tools"
    )

    @model_validator(mode="after")
    def _check_target(self) -> MCPTable:
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
    provider: Name | None = Field(None, description="provider, if `model` does not name it")
    agent: Name | None = Field(None, description="agent at `module:attr`, instead of a model")
    instructions: str = Field("", description="instructions before the client's messages")
    tools: list[Name] = Field([], description="functions and other tools, each as `module:attr`")
    mcp: dict[str, MCPTable] = Field({}, description="MCP servers, see below")
    security: SecurityMode | None = Field(
        None, description="security mode: what tools may do without approval; `ask` by default"
    )
    sandbox: Name | None = Field(None, description="folder for commands that run in a sandbox")
    roundtrips: Annotated[int, Ge(0)] = Field(5, description="maximum number of rounds of tool calls in a turn")
    budget: Annotated[int, Gt(0)] | None = Field(None, description="tokens after which a turn runs no more tools")
    fallback: list[Name] = Field([], description="models that take over, in order, as `provider/model`")
    cooldown: Annotated[float, Ge(0)] = Field(60.0, description="seconds for which a failed model is passed over")

    @model_validator(mode="after")
    def _check_kind(self) -> AgentTable:
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

    agents: Annotated[dict[Name, AgentTable], MinLen(1)] = Field(description="agents, see below")
    default: Name | None = Field(
        None, description="agent for requests that name no model; by default the first one in the file"
    )
    providers: dict[str, ProviderTable] = Field({}, description="settings of providers, see below")
    default_provider: Name | None = Field(None, description="provider of models that are named without one")
    aliases: dict[str, Name] = Field({}, description="alternative model names, each for a `provider/model`")


def from_environment(variable: str, key: str) -> str:
    """The value of an environment variable that the file names. Raises ValueError if the variable is empty or not set."""
    value = os.environ.get(variable)
    if not value:
        raise ValueError(f"{key}: the environment variable {variable} is not set")
    return value
