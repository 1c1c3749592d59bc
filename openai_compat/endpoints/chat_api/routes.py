"""The paths of the chat REST API, below its prefix. What ends with a slash takes the rest of the path as an argument."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from . import approving, catalog, completions, conversations

ROUTES: Sequence[tuple[str, Mapping[str, Callable[..., Awaitable[None]]]]] = (
    ("/completions", {"POST": completions.create}),
    ("/quick", {"POST": completions.quick}),
    ("/smart", {"POST": completions.smart}),
    ("/conversations", {"GET": conversations.list_conversations, "POST": conversations.create}),
    (
        "/conversations/",
        {"GET": conversations.get, "POST": conversations.post, "DELETE": conversations.delete},
    ),
    ("/models", {"GET": catalog.list_models}),
    ("/providers", {"GET": catalog.list_providers}),
    ("/providers/", {"GET": catalog.get_provider, "POST": catalog.change_provider}),
    ("/tools", {"GET": catalog.list_tools}),
    ("/tools/approve", {"POST": approving.approve}),
    ("/approvals", {"GET": approving.list_pending}),
)
