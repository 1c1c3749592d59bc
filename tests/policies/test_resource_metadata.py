"""OAuth resource metadata: tells clients without a token where to get one."""

from __future__ import annotations

from typing import Any

import pytest

from openai_compat import ResourceMetadata, Server
from openai_compat.errors import Forbidden, Unauthorized
from openai_compat.http import HttpRequest
from tests.requirements import requirement
from tests.support.exchanges import answer, request

pytestmark = pytest.mark.anyio
HERE = ResourceMetadata("https://agents.example/ai", ["https://login.example"], ["agents"])
WHERE = 'resource_metadata="https://agents.example/.well-known/oauth-protected-resource/ai"'
EXPIRED = Unauthorized("No.", code="invalid_token", headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})


def nobody(request: HttpRequest) -> None:
    return None


def expired(request: HttpRequest) -> None:
    raise EXPIRED


def barred(request: HttpRequest) -> None:
    raise Forbidden("No.", headers={"WWW-Authenticate": 'Bearer error="insufficient_scope"'})


@requirement("auth.metadata")
@pytest.mark.parametrize(
    ("authenticate", "challenge"),
    [
        (nobody, f"Bearer {WHERE}"),
        (expired, f'Bearer {WHERE}, error="invalid_token"'),
        (barred, 'Bearer error="insufficient_scope"'),
    ],
)
async def test_a_refusal_says_where_tokens_are_to_be_had(authenticate: Any, challenge: str) -> None:
    server = Server(lambda prompt: prompt, authenticate=authenticate, resource=HERE)
    for _ in range(2):  # the same error object may be raised twice
        sent = await answer(server, request("/v1/models", None, method="GET"))
        assert sent.headers["www-authenticate"] == challenge


@requirement("auth.metadata")
@pytest.mark.parametrize("path", ["", "/ai"])
async def test_who_has_no_token_can_read_it(path: str) -> None:
    server = Server(lambda prompt: prompt, authenticate=nobody, resource=HERE)
    sent = await answer(server, request(f"/.well-known/oauth-protected-resource{path}", None, method="GET"))
    assert sent.json == {
        "resource": "https://agents.example/ai",
        "authorization_servers": ["https://login.example"],
        "bearer_methods_supported": ["header"],
        "scopes_supported": ["agents"],
    }


async def test_without_it_the_path_is_closed_as_all_others() -> None:
    server = Server(lambda prompt: prompt, authenticate=nobody)
    sent = await answer(server, request("/.well-known/oauth-protected-resource", None, method="GET"))
    assert sent.status == 401


@pytest.mark.parametrize(
    "url", ["agents.example", "ftp://agents.example", 'https://a.example/"x', "https://a\n.example"]
)
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="url of a resource"):
        ResourceMetadata(url, [])


def test_it_goes_with_a_function_that_takes_tokens() -> None:
    with pytest.raises(ValueError, match="goes with authenticate"):
        Server(lambda prompt: prompt, keys="sk-1", resource=HERE)
