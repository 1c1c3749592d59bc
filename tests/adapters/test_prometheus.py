"""`/metrics`: in one process, and of several workers together, through the death of one of them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from openai_compat import Server, WebhookAttempt
from openai_compat.events import ToolCallReady, ToolResult, UsageReported
from openai_compat_adapters.prometheus import Prometheus
from tests.adapters.served import Leash, Served, chat, head, serve
from tests.adapters.test_cli_operators import eventually, workers
from tests.clients.programs import need
from tests.docs.served import ROOT
from tests.requirements import requirement
from tests.support.exchanges import Recorder, answer, request

KEY = (b"authorization", b"Bearer sk-ann")
AGENTS = "operated_agents:agents"


async def agent(prompt: str) -> AsyncIterator[Any]:
    yield ToolCallReady("call_1", "find", "{}", "agent")
    yield ToolResult("call_1", "found")
    yield UsageReported(10, 5)
    yield prompt


def text(answered: Recorder) -> str:
    return "".join([piece.data.decode() for piece in answered.bodies])


def figures(told: str) -> dict[str, float]:
    """The sum of all series of each name."""
    sums: dict[str, float] = {}
    for family in text_string_to_metric_families(told):
        for sample in family.samples:
            sums[sample.name] = sums.get(sample.name, 0) + sample.value
    return sums


async def asked(server: Server, *headers: tuple[bytes, bytes]) -> Recorder:
    return await answer(server, request("/metrics", None, *headers, method="GET"))


async def served_and_told() -> str:
    metrics = Prometheus()
    server = Server(agent, hooks=[metrics], apis=[metrics.api], keys={"sk-ann": "ann"})
    body = {"model": "agent", "messages": [{"role": "user", "content": "hi"}]}
    await answer(server, request("/v1/chat/completions", body, KEY))
    await answer(server, request("/v1/chat/completions", body))
    metrics.webhook_sent(
        WebhookAttempt(id="evt_1", target="@app#1", attempt=1, outcome="delivered", error="", seconds=0.1)
    )
    told = await asked(server, KEY)
    assert told.headers["content-type"].startswith("text/plain")
    return text(told)


@requirement("telemetry.prometheus")
@pytest.mark.anyio
async def test_metrics_tell_of_turns_tools_and_refusals() -> None:
    told = figures(await served_and_told())
    assert told["gen_ai_invoke_agent_duration_seconds_count"] == 1
    assert told["gen_ai_invoke_agent_tool_calls_sum"] == 1
    assert told["gen_ai_execute_tool_duration_seconds_count"] == 1
    assert told["openai_compat_turn_time_to_first_event_seconds_count"] == 1
    assert told["openai_compat_turn_queue_duration_seconds_count"] == 1
    assert told["openai_compat_turn_tokens_total"] == 15
    assert told["openai_compat_turns_active"] == 0
    assert told["openai_compat_turns_refused_total"] == 1
    assert told["openai_compat_webhook_deliveries_total"] == 1
    assert told["http_server_request_duration_seconds_count"] == 2


@requirement("telemetry.prometheus")
@pytest.mark.anyio
async def test_prometheus_own_tool_finds_nothing_wrong() -> None:
    need("promtool")
    told = await served_and_told()
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=told, capture_output=True, text=True, timeout=20, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


@requirement("telemetry.prometheus")
@pytest.mark.anyio
async def test_metrics_need_a_key_unless_they_are_public() -> None:
    for public, status in ([], 401), (["metrics"], 200):
        metrics = Prometheus()
        server = Server(agent, hooks=[metrics], apis=[metrics.api], keys="sk-ann", public=public)
        assert (await asked(server)).status == status


@pytest.mark.anyio
async def test_a_server_without_it_has_no_metrics() -> None:
    assert (await asked(Server(agent))).status == 404


def scrape(served: Served) -> dict[str, float]:
    [told] = served.exchange(head("GET", "/metrics", "Connection: close"))
    assert told.status == 200
    return figures(told.body.decode())


@requirement("telemetry.prometheus")
def test_workers_tell_the_sum_of_all_also_when_one_was_killed(tmp_path: Path) -> None:
    env = {"TMPDIR": str(tmp_path)}
    with serve(AGENTS, "--workers", "2", "--metrics", "--store", f"sqlite:///{tmp_path}/state.db", env=env) as served:
        pids = workers(served, 2)
        count, seen = 0, set[int]()
        while seen != set(pids):  # each has figures of its own
            seen.add(int(served.ask("pid").text))
            count += 1
        with Leash() as leash, served.connect() as connection:
            connection.send(chat("leashed", leash.prompt, stream=True))
            leash.wait_for_agent()
            eventually(lambda: scrape(served)["openai_compat_turns_active"] == 1)
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            pids = workers(served, 2)
        seen.clear()
        while seen != set(pids):
            seen.add(int(served.ask("pid").text))
            count += 1
        eventually(lambda: scrape(served)["openai_compat_turns_active"] == 0)
        assert scrape(served)["gen_ai_invoke_agent_duration_seconds_count"] == count
        [folder] = tmp_path.glob("openai-compat-metrics-*")
        assert all(re.fullmatch(r"(counter|histogram|gauge_sum)_[01]\.db", path.name) for path in folder.iterdir())
        served.signal(signal.SIGTERM)
        assert served.ended(10) == 0
        assert not folder.exists()


@requirement("telemetry.prometheus")
@pytest.mark.anyio
async def test_the_dashboard_asks_for_what_there_is() -> None:
    dashboard = json.loads((ROOT / "examples" / "deploy" / "grafana.json").read_text("utf-8"))
    asked_for = set(
        re.findall(r"\b(?:gen_ai|openai_compat|http_server)_\w+?(?=[{\[])", json.dumps(dashboard["panels"]))
    )
    told = set(figures(await served_and_told()))
    assert len(asked_for) >= 9
    assert asked_for <= told


@requirement("telemetry.prometheus")
@pytest.mark.anyio
async def test_the_documented_metrics_are_those_that_there_are() -> None:
    page = (ROOT / "docs" / "how-to" / "observe.md").read_text("utf-8")
    documented = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    names = [name for name in figures(await served_and_told()) if not name.endswith("_created")]
    told = {re.sub(r"_(bucket|count|sum)$", "", name) for name in names}
    assert documented == told
