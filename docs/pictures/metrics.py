"""Makes docs/img/metrics.png: four workers as Prometheus sees them, one of which is killed on the way.

    uv run --with-editable '.[serve,prometheus]' python docs/pictures/metrics.py

Needs Prometheus (Debian: `prometheus`) and Chromium. It takes two minutes, to collect enough data.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlencode

FOLDER = Path(__file__).parent.parent / "img"
PROMETHEUS, SERVER = "127.0.0.1:9490", "127.0.0.1:8199"
SECONDS = 120

AGENTS = """
import asyncio
import random

from openai_compat import ToolCallReady, ToolResult, UsageReported


async def shop(prompt):
    yield ToolCallReady("call_1", "find", "{}", "agent")
    await asyncio.sleep(random.uniform(0.05, 0.4))
    yield ToolResult("call_1", "found")
    yield "Here are your shoes."
    yield UsageReported(300, 40)


async def weather(prompt):
    await asyncio.sleep(random.uniform(0.02, 0.2))
    yield "It is sunny in Paris."
    yield UsageReported(80, 10)
"""

SETTINGS = f"""
scrape_configs:
  - job_name: openai-compat
    scrape_interval: 1s
    static_configs:
      - targets: ["{SERVER}"]
"""

GRAPHS = (
    "sum by (gen_ai_agent_name) (rate(gen_ai_invoke_agent_duration_seconds_count[10s]))",
    "histogram_quantile(0.95, sum by (le, gen_ai_agent_name) (rate(gen_ai_invoke_agent_duration_seconds_bucket[10s])))",
)


def wait_for(url: str) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            urllib.request.urlopen(url).close()
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise SystemExit(f"{url} does not answer")


def ask(model: str) -> None:
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "I need shoes."}]}).encode()
    request = urllib.request.Request(f"http://{SERVER}/v1/chat/completions", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        answer.read()


def user(until: float) -> None:
    """Sends requests to either agent, with pauses; continues after its worker is killed."""
    while time.monotonic() < until:
        with suppress(OSError):
            ask(random.choice(["shop", "weather", "weather"]))
        time.sleep(random.uniform(0.2, 1.5))


def main(into: Path = FOLDER) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "agents.py").write_text(AGENTS)
        Path(folder, "prometheus.yml").write_text(SETTINGS)
        command = [
            Path(sys.executable).parent / "openai-compat",
            "serve",
            "agents:shop",
            "agents:weather",
        ]
        command += ["--listen", SERVER, "--workers", "4", "--metrics", "--store", "sqlite:///state.db"]
        watch = ["prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=tsdb", "--log.level=warn"]
        running = [subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL)]
        running += [subprocess.Popen([*watch, f"--web.listen-address={PROMETHEUS}"], cwd=folder)]
        try:
            wait_for(f"http://{SERVER}/healthz")
            wait_for(f"http://{PROMETHEUS}/-/ready")
            until = time.monotonic() + SECONDS
            users = [threading.Thread(target=user, args=(until,)) for _ in range(8)]
            for one in users:
                one.start()
            time.sleep(SECONDS / 2)
            workers = subprocess.run(["pgrep", "-P", str(running[0].pid)], check=True, capture_output=True, text=True)
            os.kill(int(workers.stdout.split()[0]), signal.SIGKILL)
            for one in users:
                one.join()
            query = {f"g{n}.{name}": value for n, expr in enumerate(GRAPHS) for name, value in graph(expr).items()}
            browser = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
            browser += [
                f"--user-data-dir={folder}/browser",
                "--hide-scrollbars",
                "--window-size=1300,1580",
                "--virtual-time-budget=15000",
            ]
            page = f"http://{PROMETHEUS}/graph?{urlencode(query)}"
            subprocess.run([*browser, f"--screenshot={into / 'metrics.png'}", page], check=True)
        finally:
            for program in reversed(running):
                program.terminate()
                program.wait()


def graph(expression: str) -> dict[str, str]:
    """Query parameters of Prometheus' page for one graph."""
    return {"expr": expression, "tab": "0", "range_input": "2m", "step_input": "1"}


if __name__ == "__main__":
    main()
