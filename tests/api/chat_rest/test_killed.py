"""Approvals when the server is killed: asked on one process, decided on another, once."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import httpx2

from tests.adapters.served import serve
from tests.api.chat_rest.support import API, error_of
from tests.requirements import requirement

ROOT = Path(__file__).parents[3]


@requirement("chat_rest.restart")
def test_a_server_that_was_killed_between_question_and_decision_loses_nothing(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    env = {"PYTHONPATH": str(ROOT), "STORE": f"sqlite:///{tmp_path}/state.db", "TRACE": str(trace)}
    with serve("tests.api.chat_rest.killed:server", env=env) as first:
        with httpx2.Client(base_url=f"http://127.0.0.1:{first.port}{API}", timeout=20) as client:
            name = client.post("/conversations", json={}).json()["conversation"]["id"]
            asked = client.post(f"/conversations/{name}/messages/with-tools", json={"content": "Buy bread"}).json()
        first.signal(signal.SIGKILL)
        first.ended(10)

    question = asked["pendingApprovals"][0]
    body: dict[str, Any] = {"conversationId": name, "approvalId": question["id"], "decision": "allow-once"}
    with serve("tests.api.chat_rest.killed:server", env=env) as second:
        with httpx2.Client(base_url=f"http://127.0.0.1:{second.port}{API}", timeout=20) as client:
            waiting = client.get("/approvals").json()["approvals"]
            decided = client.post("/tools/approve", json=body)
            again = client.post("/tools/approve", json=body)
            found = client.get(f"/conversations/{name}/messages").json()["messages"]

    assert waiting == [question]
    assert (decided.status_code, decided.json()["result"]) == (200, "bought bread")
    assert error_of(again)[:2] == (409, "approval_decided")
    assert found[-1]["content"] == "Now: bought bread."
    assert trace.read_text() == "bread\n"
