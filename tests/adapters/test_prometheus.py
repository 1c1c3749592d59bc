"""`/metrics` of one process, and of several workers together, even if workers die."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from prometheus_client.parser import text_string_to_metric_families

from openai_compat import Server, WebhookAttempt
from openai_compat.events import ToolCallReady, ToolResult, UsageReported
from openai_compat_adapters.prometheus import Prometheus
from tests.adapters.served import Leash, Served, chat, head, held_worker, serve
from tests.adapters.test_cli_operators import workers
from tests.clients.programs import need
from tests.docs.served import ROOT, Program, environment, free_port
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


SHOP = """
from openai_compat import ToolCallReady, ToolResult, UsageReported


async def agent(prompt):
    yield ToolCallReady("call_1", "find", "{}", "agent")
    yield ToolResult("call_1", "found")
    yield UsageReported(10, 5)
    yield prompt
"""

METRICS_KEY = "sk-metrics"

KILLS = int(os.environ.get("KILLS", "4"))
"""Number of workers to kill, four at a time."""


def scrape(served: Served) -> dict[str, float]:
    [told] = served.exchange(head("GET", "/metrics", f"Authorization: Bearer {METRICS_KEY}", "Connection: close"))
    assert told.status == 200
    return figures(told.body.decode())


class Scraper:
    """A Prometheus that scrapes a server."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/api/v1"

    def _get(self, path: str, **query: str) -> Any:
        with urllib.request.urlopen(f"{self._url}/{path}?{urlencode(query)}", timeout=20) as answered:
            return json.load(answered)["data"]

    def series(self, expression: str) -> list[dict[str, Any]]:
        """Return the result of an expression."""
        found: list[dict[str, Any]] = self._get("query", query=expression)["result"]
        return found

    def value(self, expression: str) -> float:
        """Return the value of the first series; -1 if there is none."""
        return next((float(one["value"][1]) for one in self.series(expression)), -1.0)

    def labels(self, metric: str, label: str) -> list[str]:
        """Like Grafana's `label_values`."""
        return list(self._get(f"label/{label}/values", **{"match[]": metric}))


@contextmanager
def prometheus(target: int, folder: Path) -> Iterator[Scraper]:
    """Run Prometheus with the shipped settings, for a server on this machine, with more frequent scrapes."""
    shipped = (ROOT / "examples" / "deploy" / "prometheus.yml").read_text("utf-8")
    key = folder / "key"
    key.write_text(METRICS_KEY)
    for written, instead in (
        ("agents:8083", f"127.0.0.1:{target}"),
        ("scrape_interval: 15s", "scrape_interval: 200ms"),
        ("/etc/prometheus/openai-compat-key", str(key)),
    ):
        assert written in shipped
        shipped = shipped.replace(written, instead)
    (folder / "prometheus.yml").write_text(shipped)
    subprocess.run(["promtool", "check", "config", "prometheus.yml"], cwd=folder, check=True, capture_output=True)
    port = free_port()
    command = ["prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=tsdb"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"]
    program = Program(command, port, folder, environment())
    try:
        program.wait_until(program.listens)
        yield Scraper(port)
    finally:
        program.stop()


def asked_by_the_dashboard() -> list[str]:
    """Every expression of the dashboard, as Grafana sends it."""
    dashboard = json.loads((ROOT / "examples" / "deploy" / "grafana.json").read_text("utf-8"))
    found = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    return [one.replace("$agent", ".*").replace("$__rate_interval", "5m") for one in found]


def in_time(condition: Callable[[], bool]) -> None:
    """Wait until the condition holds, long enough for another program's scrape."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "not in time"
        time.sleep(0.1)


@pytest.mark.timeout(180 + 10 * KILLS)
@requirement("telemetry.prometheus")
def test_prometheus_has_the_sum_of_four_workers_through_their_deaths_and_the_dashboard_its_figures(
    tmp_path: Path,
) -> None:
    need("prometheus", "promtool")
    (tmp_path / "shop.py").write_text(SHOP)
    env = {"TMPDIR": str(tmp_path), "KEYS": METRICS_KEY, "HOOK": "a secret"}
    options = ["--workers", "4", "--metrics", "--store", f"sqlite:///{tmp_path}/state.db", "--api-key-env", "KEYS"]
    options += ["--webhook", f"http://127.0.0.1:{free_port()}/", "--webhook-secret-env", "HOOK"]  # nobody is there
    with (
        serve(AGENTS, f"shop={tmp_path}/shop.py:agent", *options, env=env) as served,
        prometheus(served.port, tmp_path) as scraper,
    ):
        pids, count = workers(served, 4), 0
        turns = "sum(gen_ai_invoke_agent_duration_seconds_count)"

        def every_worker_answers() -> None:
            nonlocal count
            with ExitStack() as held:  # each worker has its own values
                assert {held.enter_context(held_worker(served, METRICS_KEY)) for _ in pids} == set(pids)
            count += len(pids)
            in_time(lambda: scraper.value(turns) == count)

        every_worker_answers()
        for _ in range(KILLS // 4):
            with Leash() as leash, served.connect() as connection:
                connection.send(chat("leashed", leash.prompt, stream=True, key=METRICS_KEY))
                leash.wait_for_agent()
                in_time(lambda: scraper.value("sum(openai_compat_turns_active)") == 1)
                for pid in pids:
                    os.kill(pid, signal.SIGKILL)
                pids = workers(served, 4)
            every_worker_answers()
            in_time(lambda: scraper.value("sum(openai_compat_turns_active)") == 0)
        assert scraper.value("sum(resets(http_server_request_duration_seconds_count[1h]))") == 0

        def dashboard_has_figures() -> bool:
            """Cause an event of each kind between two scrapes, and check that every panel has values."""
            assert served.ask("shop", key=METRICS_KEY).status == 200
            assert served.ask("shop").status == 401
            body = json.dumps({"model": "shop", "input": "hi", "background": True}).encode()
            length = (f"Content-Length: {len(body)}", f"Authorization: Bearer {METRICS_KEY}", "Connection: close")
            served.exchange(head("POST", "/v1/responses", "Content-Type: application/json", *length) + body)
            answers = [scraper.series(expression) for expression in asked_by_the_dashboard()]
            return all([any([one["value"][1] != "NaN" for one in answered]) for answered in answers])

        in_time(dashboard_has_figures)
        assert "shop" in scraper.labels("gen_ai_invoke_agent_duration_seconds_count", "gen_ai_agent_name")
        [folder] = tmp_path.glob("openai-compat-metrics-*")
        assert all(re.fullmatch(r"(counter|histogram|gauge_sum)_[0-3]\.db", path.name) for path in folder.iterdir())
        served.signal(signal.SIGTERM)
        assert served.ended(30) == 0
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
