from __future__ import annotations

import socket

import pytest


@pytest.fixture(params=["mock", "socket"])
def over(request: pytest.FixtureRequest) -> str:
    """The transport to a model server."""
    return request.param


@pytest.fixture
def unused_port() -> int:
    """A port on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
