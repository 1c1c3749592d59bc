"""The version, in one place: the package, the wheel and the OpenAPI document read it here."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager

__version__ = "0.1.0"


EXTRAS: Mapping[str, str] = {
    "starlette": "starlette",
    "uvicorn": "serve",
    "h11": "serve",
    "websockets": "serve",
    "click": "serve",
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
}
"""The extra that brings a package, by the name that is imported."""


class MissingExtra(ImportError):
    """A package is not installed; the message has the command that installs it."""


@contextmanager
def needs(what: str, extra: str | None = None) -> Generator[None]:
    """Raise MissingExtra for a package that an import inside does not find; `what` is what cannot be had without it.

    The extra is the package's own, unless another one is named, which brings more of what is needed.
    """
    try:
        yield
    except (ModuleNotFoundError, MissingExtra) as error:
        package = (error.name or "").partition(".")[0]
        is_other_mistake = package not in EXTRAS
        if is_other_mistake or (isinstance(error, MissingExtra) and extra is None):
            raise
        text = f"{what} needs the package {package}: pip install 'openai-compat[{extra or EXTRAS[package]}]'"
        raise MissingExtra(text, name=error.name) from None
