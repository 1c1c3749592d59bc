"""The version, the single source for the package, the wheel and the OpenAPI document; and the optional extras."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec

__version__ = "0.1.0"


EXTRAS: Mapping[str, str] = {
    "starlette": "starlette",
    "uvicorn": "serve",
    "httptools": "serve",
    "websockets": "serve",
    "click": "cli",
    "rich": "cli",
    "prompt_toolkit": "cli",
    "watchfiles": "reload",
    "openai": "client",
    "httpx2": "client",
    "anthropic": "anthropic",
    "mcp": "mcp",
    "msgpack": "msgpack",
    "python_multipart": "files",
    "asyncpg": "postgres",
    "jwt": "oauth",
    "cryptography": "secrets",
    "opentelemetry": "otel",
    "prometheus_client": "prometheus",
    "pytest": "test",
    "hypothesis": "test",
    # frameworks, by the packages that their bridges import
    "a2a": "a2a",
    "acp": "acp",
    "agent_framework": "agent-framework",
    "agents": "openai-agents",
    "agno": "agno",
    "claude_agent_sdk": "claude-agent-sdk",
    "google": "google-adk",
    "haystack": "haystack",
    "langchain": "langgraph",
    "langchain_core": "langgraph",
    "langgraph": "langgraph",
    "llama_index": "llama-index",
    "pydantic_ai": "pydantic-ai",
    "smolagents": "smolagents",
    "strands": "strands",
}
"""The extra that installs each package, by import name."""


OURS = ("openai_compat", "openai_compat_adapters")


class MissingExtra(ModuleNotFoundError):
    """A required package is not installed; the message contains the command that installs it."""


def is_installed(name: str) -> bool:
    """True if a package or a submodule, for instance `google.adk`, can be imported. Imports its parent package to find out."""
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # the parent package is missing
        return False


@contextmanager
def needs(what: str, extra: str | None = None) -> Generator[None]:
    """Raise MissingExtra if an import in this block finds no package; `what` is the feature that needs it.

    The extra is that of the missing package, unless `extra` names another that installs all packages of the block.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        name = error.name or ""
        package = name.partition(".")[0]
        is_other_mistake = package not in EXTRAS if extra is None else package in OURS
        if is_other_mistake or (isinstance(error, MissingExtra) and extra is None):
            raise
        # The whole name: an older version may be installed, or another package in the same namespace, as with `google`.
        text = f"{what} needs the package {name}: pip install 'openai-compat[{extra or EXTRAS[package]}]'"
        raise MissingExtra(text, name=name) from None
