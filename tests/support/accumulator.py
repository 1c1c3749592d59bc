"""A client's accumulator: adds the chunks of each choice up to a message."""

from __future__ import annotations

import base64
from typing import Any

from tests.support.exchanges import sse_events

HEAD = {"id", "object", "created", "model", "system_fingerprint", "choices", "usage", "event"}


def chat_messages(data: bytes) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """The choices in the form of a plain answer, and the usage; checks the rules for every chunk."""
    *chunks, end = sse_events(data)
    assert end == "[DONE]"
    assert all(set(chunk) <= HEAD for chunk in chunks)
    assert len({(chunk["id"], chunk["object"], chunk["created"], chunk["model"]) for chunk in chunks}) == 1
    usage = chunks.pop()["usage"] if chunks[-1]["choices"] == [] else None
    assert all(len(chunk["choices"]) == 1 for chunk in chunks)
    indexes = sorted({chunk["choices"][0]["index"] for chunk in chunks})
    assert indexes == list(range(len(indexes)))
    return [
        _choice(index, [c["choices"][0] for c in chunks if c["choices"][0]["index"] == index]) for index in indexes
    ], usage


def _choice(index: int, parts: list[dict[str, Any]]) -> dict[str, Any]:
    reasons = [part["finish_reason"] for part in parts]
    assert reasons[-1] is not None
    assert set(reasons[:-1]) <= {None}, "a finish_reason before the end"
    deltas = [part["delta"] for part in parts]
    assert {**deltas[0], "content": deltas[0]["content"] or ""} == {"role": "assistant", "content": "", "refusal": None}
    assert [delta.get("role") for delta in deltas] == ["assistant", *[None] * (len(deltas) - 1)]
    tokens = [token for part in parts if part["logprobs"] for token in part["logprobs"]["content"]]
    return {
        "index": index,
        "message": _message(deltas),
        "logprobs": {"content": tokens, "refusal": None} if tokens else None,
        "finish_reason": reasons[-1],
    }


def _message(deltas: list[dict[str, Any]]) -> dict[str, Any]:
    lists = {key: [item for delta in deltas for item in delta.get(key, [])] for key in ("annotations", "images")}
    message: dict[str, Any] = {
        "role": "assistant",
        "content": _joined(deltas, "content"),
        "refusal": _joined(deltas, "refusal"),
        "annotations": lists["annotations"],
    }
    optional = {
        "reasoning_content": _joined(deltas, "reasoning_content"),
        "tool_calls": _calls([piece for delta in deltas for piece in delta.get("tool_calls", [])]),
        "audio": _audio([delta["audio"] for delta in deltas if "audio" in delta]),
        "images": lists["images"],
    }
    said = {key: value for key, value in optional.items() if value}
    if message["content"] == "" and (message["refusal"] or said.keys() - {"reasoning_content"}):
        message["content"] = None  # the first chunk is sent before anyone knows that no text follows
    return message | said


def _joined(deltas: list[dict[str, Any]], key: str) -> str | None:
    pieces = [delta[key] for delta in deltas if delta.get(key) is not None]
    return "".join(pieces) if pieces else None


def _calls(pieces: list[dict[str, Any]]) -> list[dict[str, Any]]:
    calls: list[dict[str, Any]] = []
    for piece in pieces:
        if piece["index"] == len(calls):
            assert piece["id"] is not None
            calls.append({key: value for key, value in piece.items() if key != "index"})
            continue
        assert "id" not in piece, "an id is said once"
        assert "type" not in piece, "a type is said once"
        call = calls[piece["index"]]
        key = call["type"]
        (field,) = piece[key]
        assert field in ("arguments", "input")
        call[key] = call[key] | {field: call[key][field] + piece[key][field]}
    return calls


def _audio(pieces: list[dict[str, Any]]) -> dict[str, Any] | None:
    if not pieces:
        return None
    assert [("id" in piece, "expires_at" in piece) for piece in pieces] == [
        (True, True),
        *[(False, False)] * (len(pieces) - 1),
    ]
    data = "".join([piece["data"] for piece in pieces])
    assert base64.b64encode(base64.b64decode(data, validate=True)).decode() == data, (
        "pieces of base64 that cannot be joined"
    )
    transcript = "".join([piece.get("transcript", "") for piece in pieces])
    return {"id": pieces[0]["id"], "data": data, "expires_at": pieces[0]["expires_at"], "transcript": transcript}


def completion_choices(data: bytes) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """The same for the legacy completions API."""
    *chunks, end = sse_events(data)
    assert end == "[DONE]"
    usage = chunks.pop()["usage"] if chunks[-1]["choices"] == [] else None
    choices: dict[int, dict[str, Any]] = {}
    for chunk in chunks:
        (part,) = chunk["choices"]
        before = choices.get(part["index"], {"text": "", "finish_reason": None})
        assert before["finish_reason"] is None, "something follows the end of a choice"
        choices[part["index"]] = part | {"text": before["text"] + part["text"]}
    return [choices[index] for index in sorted(choices)], usage
