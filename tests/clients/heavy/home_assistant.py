"""The real Home Assistant, with its Ollama integration and agents served here. `nox -s home_assistant` installs and runs it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import httpx2
import pytest
from websockets.sync.client import ClientConnection, connect

from tests.adapters.served import serve
from tests.clients.heavy import agents
from tests.clients.heavy.runs import Runs
from tests.clients.heavy.started import eventually, free_port, program, running

PROGRAM = program("HOME_ASSISTANT", "home_assistant")
ROOT = Path(__file__).parents[3]
LIGHT = "input_boolean.kitchen_light"
CONFIGURATION = """
http: {{server_host: 127.0.0.1, server_port: {port}}}
homeassistant: {{name: Home, unit_system: metric, time_zone: UTC, country: DE}}
assist_pipeline:
config:
input_boolean: {{kitchen_light: {{name: Kitchen light}}}}
onboarding:
"""
FFMPEG = "#!/bin/sh\necho ffmpeg version 7.0\n"
"""A fake ffmpeg if there is none: Home Assistant's speech support needs it to start, and nothing is spoken here."""

pytestmark = pytest.mark.timeout(400)


class Home:
    """Home Assistant's API, as the user who set it up."""

    def __init__(self, http: httpx2.Client, socket: ClientConnection) -> None:
        self.http = http
        self.socket = socket
        self._numbers = count(1)

    def post(self, path: str, body: Any) -> Any:
        answer = self.http.post(path, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def command(self, **fields: Any) -> int:
        number = next(self._numbers)
        self.socket.send(json.dumps({"id": number, **fields}))
        return number

    def told(self, number: int) -> dict[str, Any]:
        """The next message for a command."""
        while (message := json.loads(self.socket.recv(timeout=60))).get("id") != number:
            pass
        return dict(message)

    def add(self, server: str, model: str) -> str:
        """Add the integration as the settings page does: the URL, then one of the listed models. Returns the entry's id."""
        flow = "/api/config/config_entries/flow"
        number = self.post(flow, {"handler": "ollama", "show_advanced_options": False})["flow_id"]
        (field,) = self.post(f"{flow}/{number}", {"url": server})["data_schema"]
        listed = {option["label"]: option["value"] for option in field["selector"]["select"]["options"]}
        entry = self.post(f"{flow}/{number}", {"model": listed[f"{model}:latest (downloaded)"]})
        assert (entry["type"], entry["result"]["state"]) == ("create_entry", "loaded")
        return str(entry["result"]["entry_id"])

    def let_it_control(self, entry: str) -> None:
        """Let an entry's model control the home, with the light exposed."""
        flow = "/api/config/config_entries/options/flow"
        number = self.post(flow, {"handler": entry})["flow_id"]
        options = {"prompt": "You control a home.", "llm_hass_api": "assist", "max_history": 20, "keep_alive": -1}
        assert self.post(f"{flow}/{number}", {**options, "num_ctx": 8192})["type"] == "create_entry"
        exposed = {"assistants": ["conversation"], "entity_ids": [LIGHT], "should_expose": True}
        assert self.told(self.command(type="homeassistant/expose_entity", **exposed))["success"]

    def say(self, agent: str, text: str, conversation: str | None = None) -> tuple[str, str]:
        """The answer, and the id of its conversation."""
        body = {"text": text, "agent_id": f"conversation.{agent}", "language": "en"}
        known = {} if conversation is None else {"conversation_id": conversation}
        answer = self.post("/api/conversation/process", {**body, **known})
        return answer["response"]["speech"]["plain"]["speech"], answer["conversation_id"]

    @property
    def light(self) -> str:
        return str(self.http.get(f"/api/states/{LIGHT}").json()["state"])


@contextmanager
def signed_in(url: str) -> Iterator[Home]:
    """Create the first user, and log in over HTTP and over a WebSocket."""
    person = {"client_id": f"{url}/", "name": "Ann", "username": "ann", "password": "secret", "language": "en"}
    with httpx2.Client(base_url=url, timeout=60, trust_env=False) as http:
        code = http.post("/api/onboarding/users", json=person).json()["auth_code"]
        grant = {"grant_type": "authorization_code", "code": code, "client_id": f"{url}/"}
        token = http.post("/auth/token", data=grant).json()["access_token"]
        http.headers["Authorization"] = f"Bearer {token}"
        with connect(f"{url.replace('http', 'ws')}/api/websocket", proxy=None) as socket:
            socket.recv()
            socket.send(json.dumps({"type": "auth", "access_token": token}))
            assert json.loads(socket.recv())["type"] == "auth_ok"
            yield Home(http, socket)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("agents")


@pytest.fixture
def runs(folder: Path) -> Runs:
    return Runs(folder)


@pytest.fixture(scope="module")
def home(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A fresh Home Assistant, with both agents as conversation agents; `handy` may control it."""
    config, port = tmp_path_factory.mktemp("home"), free_port()
    (config / "configuration.yaml").write_text(CONFIGURATION.format(port=port))
    ffmpeg = config / "bin" / "ffmpeg"
    ffmpeg.parent.mkdir()
    ffmpeg.write_text(FFMPEG)
    ffmpeg.chmod(0o755)
    env = {**os.environ, "PATH": f"{os.environ['PATH']}:{ffmpeg.parent}", "HOME": str(config)}
    url = f"http://127.0.0.1:{port}"
    command = [PROGRAM, "-c", str(config), "--skip-pip"]
    options = ("tests.clients.heavy.agents:AGENTS", "--ollama")
    with (
        serve(*options, env={"AGENTS_FOLDER": str(folder), "PYTHONPATH": str(ROOT)}, cwd=ROOT) as served,
        running(command, env, config, f"{url}/api/onboarding"),
        signed_in(url) as home,
    ):
        entries = {name: home.add(f"http://127.0.0.1:{served.port}", name) for name in agents.AGENTS}
        home.let_it_control(entries["handy"])
        yield home


def test_a_conversation_goes_on(home: Home, runs: Runs) -> None:
    assert home.say("shop", "hello")[0] == "2 messages and 0 pictures."
    answer, conversation = home.say("shop", "first")
    assert home.say("shop", "second", conversation)[0] == "4 messages and 0 pictures."
    assert [run["said"][1:] for run in runs.begun][2] == ["first", answer, "second"]
    assert "voice assistant for Home Assistant" in runs.begun[0]["system"]
    assert runs.begun[0]["tools"] == []


def test_the_agent_switches_a_light_by_a_tool_of_the_home(home: Home, runs: Runs) -> None:
    conversation = None
    for tool, state in (("HassTurnOn", "on"), ("HassTurnOff", "off")):
        (runs.folder / "call.json").write_text(json.dumps([tool, {"name": "Kitchen light"}]), "utf-8")
        answer, conversation = home.say("handy", "the light, please", conversation)
        assert (home.light, "action_done" in answer) == (state, True)
    assert {"HassTurnOn", "HassTurnOff"} <= set(runs.begun[0]["tools"])
    assert "names: Kitchen light" in runs.begun[0]["system"]
    assert [len(run["results"]) for run in runs.begun] == [0, 1, 0, 1]


def test_a_tool_that_fails_is_a_result(home: Home, runs: Runs) -> None:
    (runs.folder / "call.json").write_text(json.dumps(["HassTurnOn", {"name": "No such light"}]), "utf-8")
    assert "MatchFailedError" in home.say("handy", "the light, please")[0]


def test_the_agents_own_tools_and_what_it_thinks_are_not_said(home: Home, runs: Runs) -> None:
    runs.let("looked")
    assert home.say("shop", "look for apples")[0] == "There are **three** apples."
    assert len(runs.begun) == 1


def test_an_approval_is_a_question_and_a_yes(home: Home, runs: Runs) -> None:
    question, conversation = home.say("shop", "delete it")
    assert question.startswith('May I run delete with {"path": "a.txt"}? Answer yes, no or always.')
    assert home.say("shop", "yes", conversation)[0] == "I have deleted it."


def test_an_error_is_no_answer_and_runs_the_agent_once(home: Home, runs: Runs) -> None:
    for text in ("fail", "break"):
        asked = {"agent_id": "conversation.shop", "language": "en"}
        told = home.told(home.command(type="conversation/process", text=text, **asked))
        assert told["success"] is False, told
        print(told, file=sys.stderr)
    assert [run["prompt"] for run in runs.begun] == ["fail", "break"]


def test_a_pipeline_of_assist_ends_at_the_agent(home: Home, runs: Runs) -> None:
    """As the app does for spoken questions: run a pipeline, which calls the conversation agent."""
    stages: dict[str, Any] = {f"{kind}_{what}": None for kind in ("stt", "tts") for what in ("engine", "language")}
    pipeline = {"name": "Mine", "language": "en", "conversation_engine": "conversation.handy", **stages}
    spoken = {"conversation_language": "en", "tts_voice": None, "wake_word_entity": None, "wake_word_id": None}
    made = home.told(home.command(type="assist_pipeline/pipeline/create", **pipeline, **spoken))["result"]["id"]
    (runs.folder / "call.json").write_text(json.dumps(["HassTurnOn", {"name": "Kitchen light"}]), "utf-8")
    asked = {"start_stage": "intent", "end_stage": "intent", "input": {"text": "the light, please"}}
    number = home.command(type="assist_pipeline/run", pipeline=made, **asked)
    assert home.told(number)["success"]
    events = [home.told(number)["event"]]
    while events[-1]["type"] != "run-end":
        events.append(home.told(number)["event"])
    (end,) = [event["data"] for event in events if event["type"] == "intent-end"]
    assert "action_done" in end["intent_output"]["response"]["speech"]["plain"]["speech"]
    eventually(lambda: home.light == "on")


def test_the_version_is_the_one_that_the_page_tells_of(home: Home) -> None:
    version = home.http.get("/api/config").json()["version"]
    print(f"Home Assistant {version}", file=sys.stderr)
    assert f"Home Assistant {version}" in (ROOT / "docs" / "how-to" / "ollama-clients.md").read_text("utf-8")
