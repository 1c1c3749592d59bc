from __future__ import annotations

import socket

import pytest

from openai_compat.providers import PROVIDERS


@pytest.fixture(autouse=True)
def no_keys_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the developer's API keys, so that no test can read or send them."""
    names = [name for provider in PROVIDERS.values() for name in (*provider.key_env, provider.url_env)]
    for name in [*names, "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_API_VERSION", "ANTHROPIC_AUTH_TOKEN"]:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def anyio_backend() -> str:
    """Asyncio only: the openai SDK leaves generators to the garbage collector, which trio reports."""
    return "asyncio"


@pytest.fixture
def unused_port() -> int:
    """A port on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
