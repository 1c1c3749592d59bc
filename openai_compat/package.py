"""The version, in one place: the package, the wheel and the OpenAPI document read it here."""

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
    # frameworks, by the packages that their backends import
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
"""The extra that brings a package, by the name that is imported."""


OURS = ("openai_compat", "openai_compat_adapters")


class MissingExtra(ModuleNotFoundError):
    """A package is not installed; the message has the command that installs it."""


def is_installed(name: str) -> bool:
    """True if a package, or one below it as `google.adk`, could be imported; what is above it is, to find out."""
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # what is above it is not there
        return False


@contextmanager
def needs(what: str, extra: str | None = None) -> Generator[None]:
    """Raise MissingExtra for a package that an import inside does not find; `what` is what cannot be had without it.

    The extra is the package's own, unless another one is named, which brings all that is imported inside.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        name = error.name or ""
        package = name.partition(".")[0]
        is_other_mistake = package not in EXTRAS if extra is None else package in OURS
        if is_other_mistake or (isinstance(error, MissingExtra) and extra is None):
            raise
        # The whole name: an older version is there perhaps, or another package below the same name, as `google`.
        text = f"{what} needs the package {name}: pip install 'openai-compat[{extra or EXTRAS[package]}]'"
        raise MissingExtra(text, name=name) from None
