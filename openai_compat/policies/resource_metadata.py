"""OAuth protected resource metadata (RFC 9728): tells clients without a token where to get one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ..agents.setting_types import check_strings

WELL_KNOWN = "/.well-known/oauth-protected-resource"


@dataclass(frozen=True, slots=True)
class ResourceMetadata:
    """The document at `/.well-known/oauth-protected-resource`, which 401 responses name in `WWW-Authenticate`.

    Raises ValueError for an invalid `url`.

    Attributes:
        url: the server's URL, as its clients know it: `https://agents.example.com`. If the URL has a path, the host must
            forward the well-known path of that prefix (`/.well-known/oauth-protected-resource/ai`).
        servers: the issuers of tokens for this server.
        scopes: scopes that tokens may have.
    """

    url: str
    servers: Iterable[str]
    scopes: Iterable[str] = ()

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        # The URL is put between quotes in a header.
        if parts.scheme not in ("https", "http") or not parts.netloc or '"' in self.url or not self.url.isprintable():
            raise ValueError(f"the url of a resource is one of http or https, not {self.url!r}")
        for name in ("servers", "scopes"):
            object.__setattr__(self, name, check_strings(f"ResourceMetadata.{name}", getattr(self, name)))

    @property
    def metadata_url(self) -> str:
        """The URL of the document: the well-known path comes before the path of the resource."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}{WELL_KNOWN}{parts.path.rstrip('/')}"

    @property
    def document(self) -> Mapping[str, Any]:
        """The metadata as JSON, in the format of RFC 9728."""
        scopes = list(self.scopes)
        return {
            "resource": self.url,
            "authorization_servers": list(self.servers),
            "bearer_methods_supported": ["header"],
            **({"scopes_supported": scopes} if scopes else {}),
        }
