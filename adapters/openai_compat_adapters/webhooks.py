"""Webhooks over HTTP.

Server(agent, webhooks=Webhooks("https://app.example/hooks", secret="whsec_…", post=http_post))
"""

from __future__ import annotations

from openai_compat.package import needs
from openai_compat.state.webhooks import Headers

with needs(__name__):
    import httpx2

    from ._certificates import certificates

__all__ = ("http_post",)


async def http_post(url: str, headers: Headers, body: bytes) -> int:
    """Post `body` and return the response's status. Redirects are not followed, and the response's body is not read.

    Uses the proxies of the environment (`HTTPS_PROXY`). Raises httpx2.HTTPError; has no deadline of its own.
    """
    async with (
        # A redirect could lead into the internal network, to an address that nobody has configured.
        httpx2.AsyncClient(verify=certificates(), follow_redirects=False, timeout=None) as client,
        client.stream("POST", url, headers=list(headers), content=body) as answer,
    ):
        return answer.status_code
