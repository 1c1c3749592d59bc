"""A minimal Open WebUI: the requests it sends and the text it shows."""

from __future__ import annotations

import json

import httpx2


def as_open_webui(url: str, model: str, *said: str, key: str = "any") -> str:
    """The text that Open WebUI shows. It streams, and sends the whole conversation with parameters of its own."""
    roles = ["user", "assistant"] * len(said)
    body = {
        "stream": True,
        "model": model,
        "messages": [{"role": role, "content": text} for role, text in zip(roles, said, strict=False)],
        "stream_options": {"include_usage": True},
        "temperature": 0.7,
    }
    headers = {"X-OpenWebUI-Chat-Id": "chat-1", "X-OpenWebUI-User-Name": "Ann", "Authorization": f"Bearer {key}"}
    shown = ""
    with httpx2.stream("POST", f"{url}/chat/completions", json=body, headers=headers, timeout=60) as answer:
        assert answer.status_code == 200, answer.read()
        for line in answer.iter_lines():
            if line.startswith("data: {"):
                for choice in json.loads(line[6:])["choices"]:
                    shown += choice["delta"].get("content") or ""
    return shown
