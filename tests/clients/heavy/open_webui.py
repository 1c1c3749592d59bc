"""The real Open WebUI, in a browser, with agents served here. `nox -s open_webui` installs and runs it.

Its connections to the server have different model names: over chat (`shop`), over the Responses API with template headers
(`r.shop`), over chat with conversations found by transcript (`b.shop`), and over Ollama's API (`shop:latest`).
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx2
import ollama
import pytest

from tests.adapters.served import serve
from tests.clients.browser import chromium
from tests.clients.heavy import agents
from tests.clients.heavy.runs import Runs
from tests.clients.heavy.started import eventually, free_port, program, running
from tests.clients.heavy.webui_page import WebuiPage
from tests.clients.test_claude_code import BUNDLED

PROGRAM = program("OPEN_WEBUI", "open_webui")
ROOT = Path(__file__).parents[3]
CHAT, RESPONSES, BRANCHING, OLLAMA = "shop", "r.shop", "b.shop", "shop:latest"
EACH = pytest.mark.parametrize("model", [CHAT, RESPONSES, OLLAMA])
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
TOOLS = '''
class Tools:
    def open_door(self, door: str) -> str:
        """
        Open a door.
        :param door: which one
        """
        return f"{door} is open"
'''

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("agents")


@pytest.fixture
def runs(folder: Path) -> Runs:
    return Runs(folder)


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[str]:
    with served(folder, "server") as url:
        yield url


@contextmanager
def served(folder: Path, name: str) -> Iterator[str]:
    env = {"AGENTS_FOLDER": str(folder), "PYTHONPATH": str(ROOT)}
    with serve(f"tests.clients.heavy.agents:{name}", env=env, cwd=ROOT) as found:
        yield f"http://127.0.0.1:{found.port}"


@pytest.fixture(scope="module")
def webui(server: str, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of Open WebUI, without a login and without downloads."""
    url, home = f"http://127.0.0.1:{free_port()}", tmp_path_factory.mktemp("webui")
    headers = {"X-Conversation-Id": "{{CHAT_ID}}", "X-Task": "{{TASK}}"}
    with served(folder, "branching") as branching:
        connections = {
            "1": {"prefix_id": "r", "api_type": "responses", "headers": headers},
            "2": {"prefix_id": "b"},
        }
        env = {
            **{name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ},
            "HOME": str(home),
            "DATA_DIR": str(home),
            "OPENAI_API_BASE_URLS": ";".join([f"{server}/v1"] * 2 + [f"{branching}/v1"]),
            "OPENAI_API_KEYS": ";".join([agents.KEY] * 3),
            "OPENAI_API_CONFIGS": json.dumps(connections),
            "OLLAMA_BASE_URLS": server,
            "OLLAMA_API_CONFIGS": json.dumps({"0": {"key": agents.KEY}}),
            "ENABLE_FORWARD_USER_INFO_HEADERS": "True",
            "ENABLE_DIRECT_CONNECTIONS": "True",
            "BYPASS_EMBEDDING_AND_RETRIEVAL": "True",  # puts a document's whole text into the message
            "WEBUI_AUTH": "False",
            "WEBUI_SECRET_KEY": "secret",
            "ENABLE_PERSISTENT_CONFIG": "False",
            "OFFLINE_MODE": "True",
            "HF_HUB_OFFLINE": "1",
            "RAG_EMBEDDING_ENGINE": "openai",  # avoids loading a model
            "ENABLE_VERSION_UPDATE_CHECK": "False",
            "ENABLE_EVALUATION_ARENA_MODELS": "False",
            "ANONYMIZED_TELEMETRY": "False",
            "CORS_ALLOW_ORIGIN": url,
        }
        port = url.rpartition(":")[2]
        with running([PROGRAM, "serve", "--host", "127.0.0.1", "--port", port], env, home, f"{url}/health"):
            yield url


@pytest.fixture(scope="module")
def http(webui: str) -> Iterator[httpx2.Client]:
    """Open WebUI's own API, as its only user."""
    with httpx2.Client(base_url=webui, timeout=60, trust_env=False) as client:
        signed_in = client.post("/api/v1/auths/signin", json={"email": "", "password": ""}).json()
        client.headers["Authorization"] = f"Bearer {signed_in['token']}"
        yield client


@pytest.fixture(scope="module")
def page(webui: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebuiPage]:
    with chromium(tmp_path_factory.mktemp("profile")) as page:
        shown = WebuiPage(page, webui)
        shown.close_news()
        yield shown


def test_every_connection_lists_its_agents(http: httpx2.Client) -> None:
    models = {model["id"] for model in http.get("/api/models").json()["data"]}
    assert models >= {f"{prefix}{name}" for prefix in ("", "r.", "b.") for name in agents.AGENTS}
    assert models >= {f"{name}:latest" for name in agents.AGENTS}
    assert http.get("/ollama/api/version").json() == {"version": "0.13.0"}


@EACH
def test_an_answer_is_shown_while_it_is_written(page: WebuiPage, runs: Runs, model: str) -> None:
    page.new_chat(model)
    page.say("hold on")
    page.shows("Holding.")
    assert "Let go." not in page.latest()
    runs.let("let go")
    assert "Holding. Let go." in page.answer()


@EACH
def test_the_title_is_the_users_words_and_no_chore_runs_the_agent(page: WebuiPage, runs: Runs, model: str) -> None:
    page.new_chat(model)
    page.ask("what have you got")
    page.wait("document.title.startsWith('what have you got')")
    page.ask("and today")
    assert [run["prompt"] for run in runs.begun] == ["what have you got", "and today"]


@EACH
def test_the_agents_own_tool_is_shown_and_not_run_by_open_webui(page: WebuiPage, runs: Runs, model: str) -> None:
    page.new_chat(model)
    page.say("look for apples")
    page.shows("Thinking" if model == OLLAMA else "Running look_up …")
    runs.let("looked")
    answer = page.answer()
    assert "There are three apples." in answer
    assert "Thought" in answer if model == OLLAMA else "look_up done" in answer
    assert len(runs.begun) == 1


@EACH
def test_the_stop_button_stops_the_agent(page: WebuiPage, runs: Runs, model: str) -> None:
    page.new_chat(model)
    page.say("hold on")
    page.shows("Holding.")
    page.click("Stop")
    stopped = eventually(lambda: [run for run in runs.all if run["what"] == "stopped"])
    assert [run["by"] for run in stopped] == ["CancelledError"]


@EACH
def test_an_error_is_shown_in_words_and_tried_once(page: WebuiPage, runs: Runs, model: str) -> None:
    page.new_chat(model)
    assert agents.CLOSED in page.ask("fail")
    late = page.ask("break")
    assert "Half an answer." in late
    assert agents.FAILED in late
    assert [run["prompt"] for run in runs.begun] == ["fail", "break"]


@pytest.mark.parametrize("model", [CHAT, RESPONSES, BRANCHING, OLLAMA])
def test_an_approval_is_a_question_and_a_yes(page: WebuiPage, runs: Runs, model: str) -> None:
    page.new_chat(model)
    assert 'May I run delete with {"path": "a.txt"}? Answer yes, no or always.' in page.ask("delete it")
    assert "I have deleted it." in page.ask("yes")
    page.ask("delete it")
    assert "I have left it." in page.ask("no")


def test_a_question_can_be_answered_after_the_page_was_loaded_anew(page: WebuiPage, runs: Runs) -> None:
    page.new_chat(CHAT)
    page.ask("delete it")
    page.wait("location.pathname.startsWith('/c/')")
    page.page.open(page.page.evaluate("location.href"))
    page.shows("May I run delete")
    assert "I have deleted it." in page.ask("yes")


@EACH
def test_a_picture_reaches_the_agent(page: WebuiPage, runs: Runs, tmp_path: Path, model: str) -> None:
    (tmp_path / "dot.png").write_bytes(PNG)
    page.new_chat(model)
    page.attach(tmp_path / "dot.png")
    assert "1 messages and 1 pictures." in page.ask("what is this")
    (run,) = runs.begun
    assert run["prompt"].startswith('<attached_files>\n<file type="file" id="')  # for Open WebUI's own tools
    assert run["prompt"].endswith("what is this")


@EACH
def test_the_text_of_a_document_reaches_the_agent(page: WebuiPage, runs: Runs, tmp_path: Path, model: str) -> None:
    (tmp_path / "notes.txt").write_text("The secret word is plum.")
    page.new_chat(model)
    page.attach(tmp_path / "notes.txt")
    page.ask("what is it")
    (run,) = runs.begun
    assert "The secret word is plum." in "".join([run["system"], *run["said"]])


@pytest.mark.parametrize("model", ["handy", "r.handy", "b.handy", "handy:latest"])
def test_an_agent_calls_a_tool_of_open_webuis(page: WebuiPage, runs: Runs, model: str) -> None:
    call = ["calculate_timestamp", {"days_ago": 1}]
    (runs.folder / "call.json").write_text(json.dumps(call), "utf-8")
    page.new_chat(model)
    answer = page.ask("when was yesterday")
    assert "The tool said: {" in answer
    assert [len(run["results"]) for run in runs.begun] == [0, 1]


@EACH
def test_an_answer_can_be_made_anew(page: WebuiPage, runs: Runs, model: str) -> None:
    page.new_chat(model)
    page.ask("hello")
    page.click("Regenerate")
    page.click("Try Again")
    page.shows("2/2")
    page.answer()
    # A server that keeps the conversation sees a second message; a stateless one sees the same message again.
    again = ["hello"] if model == OLLAMA else ["hello", "1 messages and 0 pictures.", "hello"]
    assert [run["said"] for run in runs.begun] == [["hello"], again]


def test_where_a_conversation_is_what_was_said_one_can_go_back_and_stop(page: WebuiPage, runs: Runs) -> None:
    page.new_chat(BRANCHING)
    page.ask("hello")
    page.ask("more")
    page.click("Regenerate")
    page.click("Try Again")
    page.shows("2/2")
    page.answer()
    before = ["hello", "1 messages and 0 pictures.", "more"]
    assert [run["said"] for run in runs.begun] == [["hello"], before, before]
    page.say("hold on")
    page.shows("Holding.")
    page.click("Stop")
    page.ask("and then")
    assert runs.begun[-1]["said"] == [*before, "3 messages and 0 pictures.", "hold on", "Holding.", "and then"]


def test_two_agents_answer_side_by_side_each_in_a_conversation_of_its_own(page: WebuiPage, runs: Runs) -> None:
    page.new_chat(BRANCHING, "b.handy")
    page.say("hold on")
    page.shows("Holding.")
    page.shows("I have no hands.")
    runs.let("let go")
    page.answer(2)
    assert [run["said"] for run in runs.begun] == [["hold on"], ["hold on"]]
    assert len({run["session"] for run in runs.begun}) == 2
    page.click("Merge Responses")
    eventually(lambda: len(runs.begun) == 3)
    assert runs.begun[-1]["prompt"].startswith("You have been provided with a set of responses from various models")


def test_without_that_a_chat_is_one_conversation_and_has_one_turn_at_a_time(page: WebuiPage, runs: Runs) -> None:
    page.new_chat(CHAT, RESPONSES)
    page.say("hold on")
    page.shows("Holding.")
    page.shows("Another turn is running in this conversation.")
    runs.let("let go")
    page.answer(2)
    assert len(runs.begun) == 1


def test_to_continue_is_refused_in_a_kept_conversation_and_runs_the_agent_elsewhere(
    page: WebuiPage, runs: Runs
) -> None:
    for model, shown in ((CHAT, "Nothing new: "), (OLLAMA, "1 messages and 0 pictures.2 messages and 0 pictures.")):
        page.new_chat(model)
        page.ask("hello")
        page.click("Continue Response")
        page.shows(shown)
    assert len(runs.begun) == 3


def test_users_are_told_apart_and_a_chat_is_a_conversation(http: httpx2.Client, page: WebuiPage, runs: Runs) -> None:
    page.new_chat(CHAT)
    page.ask("hello")
    page.ask("again")
    user = http.get("/api/v1/auths/").json()["id"]
    assert {run["caller"] for run in runs.begun} == {f"program/{user}"}
    (session,) = {run["session"] for run in runs.begun}
    assert session is not None


@pytest.mark.parametrize("model", [CHAT, RESPONSES, BRANCHING, OLLAMA])
def test_its_own_api_asks_without_a_chat(http: httpx2.Client, runs: Runs, model: str) -> None:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "stream": False}
    answer = http.post("/api/chat/completions", json=body).json()
    assert "1 messages and 0 pictures." in json.dumps(answer)


@pytest.mark.parametrize("model", [CHAT, OLLAMA])
def test_where_it_picks_tools_by_a_prompt_the_agent_runs_once(http: httpx2.Client, runs: Runs, model: str) -> None:
    tool = {"id": "doors", "name": "Doors", "content": TOOLS, "meta": {"description": "Doors", "manifest": {}}}
    http.post("/api/v1/tools/create", json=tool)
    legacy = {"id": model, "base_model_id": None, "name": model, "meta": {}, "params": {"function_calling": "legacy"}}
    assert http.post("/api/v1/models/create", json=legacy).status_code == 200
    body = {"model": model, "messages": [{"role": "user", "content": "open it"}], "stream": False}
    answer = http.post("/api/chat/completions", json={**body, "tool_ids": ["doors"]}).json()
    assert http.post("/api/v1/models/model/delete", json={"id": model}).status_code == 200
    assert "1 messages and 0 pictures." in json.dumps(answer)
    assert [run["said"] for run in runs.begun] == [["open it"]]


def test_a_connection_of_the_browsers_own_needs_cors_and_shows_no_status(
    http: httpx2.Client, page: WebuiPage, server: str, runs: Runs
) -> None:
    direct = {"OPENAI_API_BASE_URLS": [f"{server}/v1"], "OPENAI_API_KEYS": [agents.KEY]}
    configs = {"OPENAI_API_CONFIGS": {"0": {"enable": True, "prefix_id": "d", "tags": [], "model_ids": []}}}
    ui = {**http.get("/api/v1/users/user/settings").json()["ui"], "directConnections": {**direct, **configs}}
    assert http.post("/api/v1/users/user/settings/update", json={"ui": ui}).status_code == 200
    runs.let("looked")
    page.new_chat("d.shop")
    answer = page.ask("look for apples")
    assert "There are three apples." in answer
    assert "look_up" not in answer
    page.say("hold on")
    page.shows("Holding.")
    page.click("Stop")  # Open WebUI tells its own server, while the browser keeps reading
    runs.let("let go")
    eventually(lambda: [run["what"] for run in runs.all] == ["begun", "ended"] * 2)
    assert {run["caller"] for run in runs.begun} == {"program"}  # the request does not say whose browser it is


def test_it_shows_an_agent_while_claude_code_and_a_client_of_ollamas_do(
    page: WebuiPage, server: str, runs: Runs, tmp_path: Path
) -> None:
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "ANTHROPIC_BASE_URL": server,
        "ANTHROPIC_API_KEY": agents.KEY,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "IS_SANDBOX": "1",
    }
    claude_code = os.environ.get("CLAUDE_CODE") or str(next(filter(Path.exists, BUNDLED)))
    page.new_chat(CHAT)
    page.say("hold on")
    page.shows("Holding.")
    with (
        ollama.Client(server, headers={"Authorization": f"Bearer {agents.KEY}"}) as line,
        subprocess.Popen(
            [claude_code, "-p", "hold it", "--model", "shop"],
            cwd=tmp_path,
            env=env,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        ) as claude,
        ThreadPoolExecutor(1) as pool,
    ):
        told = pool.submit(line.chat, "shop", [{"role": "user", "content": "hold this"}])
        eventually(lambda: {run["prompt"] for run in runs.begun} == {"hold on", "hold it", "hold this"})
        assert [run for run in runs.all if run["what"] != "begun"] == []  # all three run at once
        runs.let("let go")
        assert "Holding. Let go." in page.answer()
        assert told.result().message.content == "Holding. Let go."
        assert claude.communicate(timeout=100)[0].strip() == "Holding. Let go."
    assert len(runs.begun) == 3


def test_the_version_is_the_one_that_the_page_tells_of(http: httpx2.Client) -> None:
    version = http.get("/api/version").json()["version"]
    print(f"Open WebUI {version}", file=sys.stderr)
    assert f"Open WebUI {version}" in (ROOT / "docs" / "how-to" / "open-webui.md").read_text("utf-8")
