"""Items that clients send, in the one form in which they are kept, listed and handed to agents."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from ...items.types import ALWAYS, CHECKED, ID_PREFIXES, OTHER_PREFIX, WITH_STATUS

NewId: TypeAlias = Callable[[str], str]
Fields: TypeAlias = Mapping[str, Any]

# Ids stand in URLs and in `param` of errors.
_USABLE_ID = re.compile(r"[!-~]{1,128}")


def input_items(given: str | Sequence[dict[str, Any]], new_id: NewId) -> tuple[dict[str, Any], ...]:
    """The items with ids, states and lists of parts, as the API shows them; `given` has been checked (`ItemInput`).

    An id that the client sent is kept if it is its item's own: others may refer to it. Items of types that are not
    known only get an id. References are left as they are.
    """
    if isinstance(given, str):
        content = [{"type": "input_text", "text": given}]
        prefix = ID_PREFIXES["message"]
        return ({"id": new_id(prefix), "type": "message", "status": "completed", "role": "user", "content": content},)
    taken: set[str] = set()
    return tuple([_normal(item, taken, new_id) for item in given])


def _normal(item: dict[str, Any], taken: set[str], new_id: NewId) -> dict[str, Any]:
    kind = item.get("type")
    if kind is None:
        kind = "message" if "role" in item else "item_reference"
    if kind == "item_reference":
        return {"type": kind, "id": item["id"]}
    identity = item.get("id")
    # Of two items with one id, a reference could mean either.
    if not isinstance(identity, str) or identity in taken or not _USABLE_ID.fullmatch(identity):
        identity = new_id(ID_PREFIXES.get(kind, OTHER_PREFIX))
    taken.add(identity)
    if kind not in CHECKED:
        # the result of a local shell has the id of its call
        by_id = {"call_id": item.get("call_id") or item.get("id")} if kind.startswith("local_shell_call") else {}
        return {**item, **_missing(item, kind), **by_id, "id": identity}
    status = {"status": item.get("status") or "completed"} if kind in WITH_STATUS else {}
    fields = {key: value for key, value in item.items() if value is not None and key not in ("id", "type", "status")}
    return {"id": identity, "type": kind, **status, **fields, **_missing(item, kind), **_lists(item, kind)}


def _missing(item: Fields, kind: str) -> dict[str, Any]:
    return {key: value for key, value in ALWAYS.get(kind, {}).items() if item.get(key) is None}


def _lists(item: Fields, kind: str) -> dict[str, Any]:
    """The fields that have a short form, in their long one."""
    if kind == "message":
        by_assistant = item["role"] == "assistant"
        return {"content": _parts(item["content"], _said if by_assistant else _sent)}
    if kind == "reasoning":
        return {"summary": item.get("summary") or []}
    if isinstance(item.get("output"), list):
        return {"output": _parts(item["output"], _sent)}
    return {}


def _parts(content: str | list[Fields], normal: Callable[[Fields], dict[str, Any]]) -> list[dict[str, Any]]:
    if not isinstance(content, str):
        return [normal(part) for part in content]
    return [normal({"type": "input_text", "text": content})]


def _sent(part: Fields) -> dict[str, Any]:
    fields = {key: value for key, value in part.items() if value is not None}
    if part["type"] == "input_image":
        # OpenAI's types require it of every picture that is listed.
        return {"detail": "auto", **fields}
    return {**fields, "type": "input_text"} if "text" in part else fields


def _said(part: Fields) -> dict[str, Any]:
    fields = {key: value for key, value in part.items() if value is not None}
    # OpenAI's document requires both lists of what the assistant has said.
    return fields if part["type"] == "refusal" else {"annotations": [], "logprobs": [], **fields, "type": "output_text"}
