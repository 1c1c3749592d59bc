"""The audit log: what an agent was asked to do and did is in the file before it continues, but no message content."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from openai_compat import AgentRequest, Conversations, PendingCall, Principal, ToolCallReady, ToolResult, UsageReported
from openai_compat.events import Paused
from openai_compat.hooks import AuditLog
from tests.conftest import anyio_backend as anyio_backend
from tests.requirements import requirement
from tests.support.exchanges import answer, request
from tests.support.hooked import HTTP_APIS, OWN_FORMS, EndsAs, ask, hooked_server

pytestmark = pytest.mark.anyio

KEY = (b"authorization", b"Bearer sk-1")


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@requirement("audit.log")
@pytest.mark.parametrize("api", HTTP_APIS | OWN_FORMS)
@pytest.mark.parametrize("ending", ["ok", "error", "pause"])
async def test_each_run_is_told_from_its_beginning_to_its_end(tmp_path: Path, api: str, ending: str) -> None:
    path = tmp_path / "audit.jsonl"
    await ask(hooked_server(EndsAs(), AuditLog(path)), api, ending, stream=True)
    told = lines(path)
    asked = ["asked"] if ending == "pause" else []
    assert [line["event"] for line in told] == ["started", *asked, "ended"]
    assert (told[0]["api"], told[0]["principal"], told[-1]["output_tokens"]) == (api, "anonymous", 2)
    assert told[-1]["finish"] == {"ok": "stop", "error": None, "pause": "paused"}[ending]
    assert told[-1]["error"] == ("broken" if ending == "error" else None)
    assert len({line["turn"] for line in told}) == 1


@requirement("audit.log")
@pytest.mark.parametrize("arguments", [True, False])
async def test_it_tells_which_tools_ran_and_who_has_approved_them(tmp_path: Path, arguments: bool) -> None:
    async def agent(request: AgentRequest) -> AsyncIterator[Any]:
        if request.resume is None:
            yield "the-answer"
            yield Paused((PendingCall("call_1", "delete", '{"file":"a"}', "approval"),))
        else:
            yield ToolResult("call_1", "the-result")
            yield ToolCallReady("call_2", "mail", '{"to":"ann"}', "agent")
            yield ToolResult("call_2", "the-result", is_error=True)
            yield UsageReported(5, 7)

    path = tmp_path / "audit.jsonl"
    server = hooked_server(
        agent,
        AuditLog(path, arguments=arguments, sync=True),
        keys={"sk-1": Principal("ann")},
        conversations=Conversations(),
    )

    async def say(text: str) -> None:
        body = {"model": "agent", "messages": [{"role": "user", "content": text}]}
        made = await answer(server, request("/v1/chat/completions", body, KEY, (b"x-conversation-id", b"trip")))
        assert made.status == 200, made.text

    await say("the-prompt")
    await say("yes")
    told = lines(path)
    assert [line["event"] for line in told] == [
        *("started", "asked", "ended", "started", "decided"),
        *("tool", "result", "tool", "result", "ended"),
    ]
    decided = told[4]
    assert (decided["approved"], decided["always"], decided["changed"]) == (True, False, False)
    mail = told[7]
    digest = hashlib.sha256(b'{"to":"ann"}').hexdigest()
    assert mail["name"] == "mail"
    assert mail.get("arguments") == ('{"to":"ann"}' if arguments else None)
    assert mail.get("arguments_sha256") == (None if arguments else digest)
    assert (told[8]["is_error"], told[9]["input_tokens"]) == (True, 5)
    assert {line["principal"] for line in told if "principal" in line} == {"ann"}
    assert {line["conversation"] for line in told if "conversation" in line} == {"trip"}
    for secret in ("the-prompt", "the-answer", "the-result", "sk-1"):
        assert secret not in path.read_text()


@requirement("audit.log")
def test_a_process_that_is_killed_has_told_what_it_has_begun(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    program = f"""
import asyncio, os, signal
from openai_compat import Server, ToolCallReady
from openai_compat.hooks import AuditLog
from openai_compat_adapters.client import async_openai

async def agent(prompt):
    yield ToolCallReady("call_1", "pay", "{{}}", "agent")
    os.kill(os.getpid(), signal.SIGKILL)

async def main():
    client = async_openai(Server(agent, hooks=[AuditLog({str(path)!r})]))
    await client.responses.create(model="agent", input="hi")

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program], check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert [line["event"] for line in lines(path)] == ["started", "tool"]


def test_the_file_is_its_owners_and_one_that_cannot_be_written_is_known_at_once(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    AuditLog(path)
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(OSError, match="gone"):
        AuditLog(tmp_path / "gone" / "audit.jsonl")
    with pytest.raises(TypeError, match="sync"):
        AuditLog(path, sync="yes")


async def test_a_file_that_was_renamed_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    server = hooked_server(EndsAs(), AuditLog(path))
    await ask(server, "chat", "ok", stream=False)
    path.rename(tmp_path / "old.jsonl")
    await ask(server, "chat", "ok", stream=False)
    assert len(lines(path)) == len(lines(tmp_path / "old.jsonl")) == 2
