"""Makes docs/img/traces.png: agents of Pydantic AI and LangGraph behind one server, as Arize Phoenix shows their traces.

    uv run --with 'arize-phoenix,pydantic-ai-slim,langgraph,langchain,openinference-instrumentation-langchain' \
        --with-editable '.[serve,otel]' python docs/pictures/traces.py

Needs Chromium. Phoenix takes half a minute to start.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent.parent / "img"
PHOENIX = "http://127.0.0.1:6006"
SERVER = "http://127.0.0.1:8199"
PATIENCE = 120

AGENTS = '''
from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from openinference.instrumentation.langchain import LangChainInstrumentor
from pydantic_ai import Agent
from pydantic_ai.models.test import TestModel

LangChainInstrumentor().instrument()
Agent.instrument_all()
weather = Agent(TestModel(custom_output_text="It is sunny in Paris."), name="weather")


@weather.tool_plain
def get_weather(city: str) -> str:
    """The weather in a city."""
    return "sunny"


def find(what: str) -> str:
    """Find something."""
    return "found"


class Model(BaseChatModel):
    @property
    def _llm_type(self):
        return "scripted"

    def bind_tools(self, tools, **more):
        return self

    def _generate(self, messages, stop=None, run_manager=None, **more):
        used = {"input_tokens": 30, "output_tokens": 8, "total_tokens": 38}
        said = AIMessage("", tool_calls=[{"name": "find", "args": {"what": "shoes"}, "id": "call_1"}], usage_metadata=used)
        if any(message.type == "tool" for message in messages):
            said = AIMessage("Here are your shoes.", usage_metadata=used)
        return ChatResult(generations=[ChatGeneration(message=said)])


shop = create_agent(Model(), [find])
'''


def wait_for(url: str) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            urllib.request.urlopen(url).close()
        except OSError:
            time.sleep(0.5)
        else:
            return
    raise SystemExit(f"{url} does not answer")


def ask(model: str) -> None:
    body = json.dumps({"model": model, "input": "I need shoes."}).encode()
    request = urllib.request.Request(f"{SERVER}/v1/responses", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        assert json.load(answer)["status"] == "completed"


def span_of(name: str) -> dict[str, Any]:
    """The newest span with this name, once Phoenix has stored it."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        with urllib.request.urlopen(f"{PHOENIX}/v1/projects/default/spans?limit=100") as answer:
            found = [span for span in json.load(answer)["data"] if span["name"] == name]
        if found:
            return max(found, key=lambda span: span["start_time"])
        time.sleep(0.5)
    raise SystemExit(f"Phoenix has no span {name}")


def main(into: Path = FOLDER) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "agents.py").write_text(AGENTS)
        programs = Path(sys.executable).parent
        telemetry = {"OTEL_EXPORTER_OTLP_ENDPOINT": PHOENIX, "OTEL_METRICS_EXPORTER": "none"}
        running = [
            subprocess.Popen([programs / "phoenix", "serve"], env={**os.environ, "PHOENIX_WORKING_DIR": folder}),
        ]
        try:
            wait_for(PHOENIX)
            command = [programs / "openai-compat", "serve", "weather=agents:weather", "shop=agents:shop", "--otel"]
            command += ["--listen", SERVER.partition("//")[2]]
            running.append(subprocess.Popen(command, cwd=folder, env={**os.environ, **telemetry}))
            wait_for(f"{SERVER}/healthz")
            ask("weather")
            ask("shop")
            trace = span_of("invoke_agent shop")["context"]["trace_id"]
            browser = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
            browser += [f"--user-data-dir={folder}/browser", "--window-size=1500,820", "--virtual-time-budget=30000"]
            page = f"{PHOENIX}/projects/UHJvamVjdDox/traces/{trace}"
            subprocess.run([*browser, f"--screenshot={into / 'traces.png'}", page], check=True)
        finally:
            for program in reversed(running):
                program.terminate()
                program.wait()


if __name__ == "__main__":
    main()
