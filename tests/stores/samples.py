"""Sample data for the tests of the stores."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from openai_compat.stores.engine import Engine, Transaction
from openai_compat.stores.port import (
    Approval,
    ConversationTurn,
    Events,
    Item,
    Key,
    Replay,
    Store,
    StoredCompletion,
    StoredFile,
    StoredResponse,
    TurnCommit,
    WebhookNotice,
)

ALICE, BOB = Key("alice", "trip"), Key("bob", "trip")
SOON = 4_000_000_000.0
"""Far in the future, unix seconds."""

ANSWER = Replay(200, (("content-type", "application/json"),), b'{"\x00": "\xff"}')


def item(name: str, body: str | None = None) -> Item:
    return Item(name, body or json.dumps({"id": name}))


def items(*names: str) -> tuple[Item, ...]:
    return tuple([item(name) for name in names])


def turn(token: str, *names: str, key: Key = ALICE, transcript: str | None = None, **more: Any) -> TurnCommit:
    """A turn that adds items with these names to a conversation."""
    conversation = ConversationTurn(key.id, items(*names), transcript)
    return TurnCommit(principal=key.principal, token=token, conversation=conversation, **more)


async def said(store: Store, token: str, *names: str, key: Key = ALICE, transcript: str | None = None) -> None:
    """Run a whole turn."""
    assert await store.begin(key, token) is not None
    assert await store.commit(turn(token, *names, key=key, transcript=transcript))


async def names_in(store: Store, key: Key = ALICE) -> list[str] | None:
    found = await store.read(key)
    return None if found is None else [item.id for item in found.items]


def response(name: str = "resp_1", **more: Any) -> StoredResponse:
    defaults: dict[str, Any] = {"created": 5.0, "status": "queued", "body": f'{{"id": "{name}"}}'}
    return StoredResponse(id=name, **(defaults | more))


def done(begun: StoredResponse, **more: Any) -> StoredResponse:
    return replace(begun, status="completed", body='{"done": true}', **more)


def events(first: int, last: int) -> Events:
    return Events(first, last, f'["{first}-{last}"]'.encode())


def completion(name: str, **metadata: str) -> StoredCompletion:
    return StoredCompletion(name, 1.0, "m", metadata, "{}", "[]")


def file(name: str, **more: Any) -> StoredFile:
    defaults: dict[str, Any] = {"created": 1.0, "filename": "a.txt", "purpose": "user_data", "media_type": "text/plain"}
    return StoredFile(id=name, size=3, **(defaults | more))


def approval(name: str, **more: Any) -> Approval:
    defaults: dict[str, Any] = {
        "created": 1.0, "expires": SOON, "turn": "resp_1", "call_id": "call_1", "conversation": "trip", "tool": "pay",
        "arguments": '{"to": "\\u0000"}', "digest": "d", "agent": "shop\0",
        "request": '{"model": "\\u0000"}',
    }  # fmt: skip
    return Approval(id=name, **(defaults | more))


def notice(name: str, target: str = "app", **more: Any) -> WebhookNotice:
    return WebhookNotice(name, target, f'{{"id": "{name}"}}', **more)


# time

TIMES = {
    "oc_conversation": ("until", "created", "touched", "wanting"),
    "oc_turn": ("ended",),
    "oc_response": ("until", "touched"),
    "oc_completion": ("touched",),
    "oc_file": ("touched", "expires"),
    "oc_approval": ("expires",),
    "oc_claim": ("until", "touched"),
    "oc_slot": ("until",),
    "oc_rate": ("due",),
    "oc_state": ("expires", "touched"),
    "oc_grant": ("created",),
    "oc_thread": ("until", "touched"),
    "oc_signal": ("created",),
    "oc_outbox": ("due", "until", "created"),
    "oc_spend": ("touched",),
}


async def time_passes(engine: Engine, seconds: float) -> None:
    """Move all times in a database into the past, as if its clock had advanced."""

    def move() -> Transaction[None]:
        for table, columns in TIMES.items():
            changes = ", ".join([f"{column} = {column} - $1" for column in columns])
            yield f"update {table} set {changes}", (seconds,)

    await engine.run(move)
