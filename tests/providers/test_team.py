"""Team files: their agents, their errors, and the two commands that accept them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from click.testing import CliRunner

from openai_compat import Conversations, Server
from openai_compat.backends.pool import PooledBackend
from openai_compat.providers import Fallback, Team, load_team
from openai_compat.tools import ToolLoop
from openai_compat_adapters._cli.load_agents import load
from openai_compat_adapters._cli.pool_agents import backend_maker
from openai_compat_adapters._cli.wrong_target import CannotLoad
from openai_compat_adapters.cli import main
from openai_compat_adapters.client import async_openai
from tests.adapters.served import serve
from tests.backends.upstream import Upstream
from tests.providers.support import KEY, calls, fails, paths, says
from tests.requirements import requirement
from tests.tools import mcp_server

pytestmark = pytest.mark.anyio

Write = Callable[[str, str], Path]
TOOLS = """
from openai_compat.tools import tool

lent = []

@tool(danger="safe")
def find(title: str) -> str:
    '''Finds a book.'''
    return "on the shelf"

def lend(title: str) -> str:
    '''Lends a book.'''
    lent.append(title)
    return "lent"

number = 7
"""
LIBRARIAN = """
[agents.librarian]
model = "groq/m"
instructions = "Be brief."
tools = ["books:find", "books:lend"]
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes files into the current directory; finally unloads the modules imported from there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    before = set(sys.modules)

    def put(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    yield put
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture
def groq(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Sets the URL of groq."""

    def be_at(url: str) -> None:
        monkeypatch.setenv("GROQ_BASE_URL", url + paths("groq")[0])
        monkeypatch.setenv("GROQ_API_KEY", KEY)

    return be_at


def team(path: Path) -> Team:
    return load_team(path, lambda name: pytest.fail(name))


def ask(text: str, *more: dict[str, Any]) -> Any:
    return [{"role": "user", "content": text}, *more]


# agents of a file


@requirement("team.file")
async def test_agents_are_models_of_a_server_with_their_tools_and_instructions(
    write: Write, groq: Callable[[str], None]
) -> None:
    write("books.py", TOOLS)
    write("team.toml", LIBRARIAN + '\n[agents.other]\nmodel = "groq/n"\n')
    upstream = Upstream(calls("find", {"title": "Dune"}), says("It is there."), says("Other."))
    with upstream.served() as url:
        groq(url)
        agents = load(["team.toml"])
        assert not isinstance(agents, Server)
        server = Server(agents, providers=agents.providers)
        async with async_openai(server) as client:
            models = [model.id async for model in client.models.list()]
            first = await client.chat.completions.create(model="librarian", messages=ask("Dune?"))
            other = await client.chat.completions.create(model="other", messages=ask("Dune?"))

    assert models == ["librarian", "other"]
    assert [one.choices[0].message.content for one in (first, other)] == ["It is there.", "Other."]
    assert [request["model"] for request in upstream.requests] == ["m", "m", "n"]
    assert upstream.requests[0]["messages"][0] == {"role": "system", "content": "Be brief."}
    assert upstream.requests[1]["messages"][-1]["content"] == "on the shelf"
    assert [tool["function"]["name"] for tool in upstream.requests[0]["tools"]] == ["find", "lend"]


@pytest.mark.parametrize(("word", "lent"), [("yes", ["Dune"]), ("no", [])])
async def test_a_risky_tool_is_asked_about_in_the_conversation(
    write: Write, groq: Callable[[str], None], word: str, lent: list[str]
) -> None:
    write("books.py", TOOLS)
    write("team.toml", LIBRARIAN)
    upstream = Upstream(calls("lend", {"title": "Dune"}), says("Done."))
    with upstream.served() as url:
        groq(url)
        agents = load(["team.toml"])
        assert not isinstance(agents, Server)
        server = Server(agents, providers=agents.providers, conversations=Conversations())
        trip: Any = {"model": "librarian", "extra_headers": {"X-Conversation-Id": "trip"}}
        async with async_openai(server) as client:
            asked = await client.chat.completions.create(messages=ask("Lend me Dune"), **trip)
            answer = await client.chat.completions.create(messages=ask(word), **trip)

    assert "May I run lend" in (asked.choices[0].message.content or "")
    assert answer.choices[0].message.content == "Done."
    assert sys.modules["books"].lent == lent


async def test_fallback_aliases_and_provider_keys_are_the_files(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    first, second = Upstream(fails(503)), Upstream(says("Second."))
    with first.served() as first_url, second.served() as second_url:
        path = write(
            "team.toml",
            f"""
            [providers.groq]
            api_key_env = "MY_KEY"
            base_url = "{first_url}/v1"
            [providers.ollama]
            base_url = "{second_url}/v1"
            default_model = "llama3.2"
            [aliases]
            fast = "ollama"
            [agents.a]
            provider = "groq"
            model = "m"
            fallback = ["fast"]
            """,
        )
        found = team(path)
        assert isinstance(found.agents["a"], Fallback)
        async with async_openai(Server(found.agents, providers=found.providers)) as client:
            answer = await client.chat.completions.create(model="a", messages=ask("Hello"))

    assert answer.choices[0].message.content == "Second."
    assert second.requests[0]["model"] == "llama3.2"
    assert first.headers[0]["authorization"] == f"Bearer {KEY}"


def test_the_default_agent_is_the_first_model(write: Write) -> None:
    two = '[agents.a]\nmodel = "ollama/a"\n[agents.b]\nmodel = "ollama/b"\n'
    assert list(team(write("team.toml", two)).agents) == ["a", "b"]
    assert list(team(write("team.toml", 'default = "b"\n' + two)).agents) == ["b", "a"]


async def test_an_agent_may_be_python(write: Write) -> None:
    write("bots.py", "def echo(prompt): return prompt\n")
    write("team.toml", '[agents.own]\nagent = "bots:echo"\n')
    agents = load(["team.toml", "loud=bots:echo"])
    assert not isinstance(agents, Server)
    async with async_openai(Server(agents)) as client:
        answer = await client.chat.completions.create(model="own", messages=ask("Hello"))

    assert answer.choices[0].message.content == "Hello"
    assert list(agents) == ["own", "loud"]


async def test_a_class_is_pooled_as_it_is_without_a_file(write: Write) -> None:
    write("bots.py", "class Bot:\n    def run(self, prompt): return str(id(self))\n")
    write("team.toml", '[agents.own]\nagent = "bots:Bot"\n')
    agents = load(["team.toml"], backend_maker(4, asked_for=True))
    assert isinstance(agents["own"], PooledBackend)


async def test_mcp_servers_bring_their_tools(write: Write, groq: Callable[[str], None]) -> None:
    command = [sys.executable, mcp_server.__file__]
    write("team.toml", f'[agents.a]\nmodel = "groq/m"\n[agents.a.mcp.files]\ncommand = {command!r}\nprefix = "f_"\n')
    upstream = Upstream(says("Done."))
    with upstream.served() as url:
        groq(url)
        agents = load(["team.toml"])
        assert not isinstance(agents, Server)
        async with async_openai(Server(agents)) as client:
            await client.chat.completions.create(model="a", messages=ask("Hello"))

    names = [tool["function"]["name"] for tool in upstream.requests[0]["tools"]]
    assert names
    assert all([name.startswith("f_") for name in names])


def test_an_mcp_server_behind_a_url_gets_headers_from_the_environment(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = '[agents.a]\nmodel = "ollama/m"\n[agents.a.mcp.t]\nurl = "http://127.0.0.1:9/mcp"\n'
    path = write("team.toml", text + 'headers_env = {Authorization = "T_AUTH"}\n')
    with pytest.raises(ValueError, match=r"agents.a: mcp.t: headers_env: the environment variable T_AUTH is not set"):
        team(path)
    monkeypatch.setenv("T_AUTH", "Bearer t")
    assert isinstance(team(path).agents["a"], ToolLoop)


def test_what_cannot_be_asked_as_things_are_is_told(write: Write) -> None:
    found = team(write("team.toml", '[agents.a]\nmodel = "xai/m"\nfallback = ["ollama/m"]\n'))
    assert found.warnings == (
        "agents.a: 'xai/m' cannot be asked now. xai: It has no key: neither in its settings nor in XAI_API_KEY.",
    )


# errors in a file

MODEL = '[agents.a]\nmodel = "ollama/m"\n'


@requirement("team.errors")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("agents = ", "it is not TOML: Invalid value (at end of document)."),
        ("", "agents: is missing."),
        ("[agents]", "agents: should have at least 1 item."),
        (MODEL + "temprature = 1", "agents.a.temprature: there is no such setting."),
        (MODEL + "instructions = 1", "agents.a.instructions: should be text."),
        (MODEL + "roundtrips = -1", "agents.a.roundtrips: should be 0 or more."),
        (
            MODEL + 'security = "none"',
            "agents.a.security: should be 'deny', 'sandbox', 'allowlist', 'ask' or 'full'.",
        ),
        ("[agents.a]\n", "agents.a: it needs 'model' or 'agent'."),
        (MODEL + 'agent = "a:b"', "agents.a: 'model' is for models, not for 'agent'."),
        (MODEL + 'security = "sandbox"', "agents.a: security = \"sandbox\" needs a folder in 'sandbox'."),
        (MODEL + 'sandbox = "/no/such"\ntools = ["books:find"]', "agents.a: sandbox: …."),
        (
            '[agents.a]\nmodel = "gpt-5.2"',
            "agents.a: model: whose model is 'gpt-5.2'? Say provider/model, or set 'default_provider'.",
        ),
        (
            MODEL + 'fallback = ["openai/a", "b"]',
            "agents.a: fallback.1: whose model is 'b'? Say provider/model, or set 'default_provider'.",
        ),
        (MODEL + 'provider = "antropic"', "agents.a: there is no provider 'antropic'; there are: anthropic, …."),
        ('default = "b"\n' + MODEL, "default: there is no agent 'b'; there are: a."),
        (
            'default_provider = "x"\n' + MODEL,
            "default_provider: there is no provider 'x'; there are: anthropic, ….",
        ),
        (MODEL + "[providers.x]", "providers.x: there is no provider 'x'; there are: anthropic, …."),
        (MODEL + "[aliases]\nfast = 'x/y'", "aliases.fast: there is no provider 'x'; there are: anthropic, …."),
        (
            MODEL + f'[providers.groq]\napi_key = "{KEY}"',
            "providers.groq.api_key: there is no such setting, since keys stand in the environment: 'api_key_env'.",
        ),
        (
            MODEL + f'[providers.groq]\napi_key_env = ["{KEY}"]',
            "providers.groq.api_key_env: should be text.",
        ),
        (
            MODEL + '[providers.groq]\napi_key_env = "NO_KEY"',
            "providers.groq: api_key_env: the environment variable NO_KEY is not set.",
        ),
        (MODEL + 'tools = ["books:no"]', "agents.a: tools.0: Module 'books' has no attribute 'no'."),
        (MODEL + 'tools = ["nobooks:no"]', "agents.a: tools.0: There is no module 'nobooks', …."),
        (MODEL + 'tools = ["books"]', "agents.a: tools.0: 'books' is not of the form module:attr, …."),
        (MODEL + 'tools = ["books:number"]', "agents.a: tools: a tool is a function or a method, …."),
        (MODEL + 'tools = ["books:find", "books:find"]', "agents.a: tools: two tools are called 'find'."),
        ('[agents.a]\nagent = "books:number"', "agents.a: agent: an agent is a function, …."),
        (MODEL + "[agents.a.mcp.m]", "agents.a.mcp.m: it needs either 'command' or 'url'."),
        (MODEL + "[agents.a.mcp.m]\nurl = 'x'", "agents.a: mcp.m: an MCP server is a URL, …."),
        (MODEL + "[agents.a.mcp.m]\nurl = 'http://x'\ncwd = 'y'", "agents.a: mcp.m: env and cwd are for …."),
    ],
)
def test_what_is_wrong_is_told_in_a_line_that_names_file_and_key(write: Write, text: str, message: str) -> None:
    write("books.py", TOOLS)
    write("team.toml", text)
    result = CliRunner().invoke(main, ["serve", "team.toml"])

    first, _, rest = message.partition("…")
    said = result.output.rstrip("\n")
    assert result.exit_code == 2
    assert said.startswith(f"Error: team.toml: {first}")
    assert said.endswith(rest)
    assert rest or said == f"Error: team.toml: {first}"
    assert "\n" not in said
    assert KEY not in said


def test_a_file_that_cannot_be_read_is_told(write: Write) -> None:
    assert (
        "Error: no.toml: it cannot be read: No such file or directory."
        in CliRunner().invoke(main, ["serve", "no.toml"]).output.splitlines()
    )
    Path("latin.toml").write_bytes(b"# \xe4\n")
    assert CliRunner().invoke(main, ["chat", "latin.toml"]).output == "Error: latin.toml: it is not UTF-8.\n"


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (["mine=team.toml"], "'team.toml' has names for its agents: leave 'mine=' out."),
        (["team.toml", "other.toml"], "Two files would have two sets of providers: put the agents of 'other.toml' …"),
        (["bots:a", "team.toml"], "Two agents are called 'a'. Rename the one in team.toml."),
    ],
)
def test_a_file_goes_with_other_agents_but_not_with_another_file(
    write: Write, targets: list[str], message: str
) -> None:
    write("bots.py", "def a(prompt): ...\n")
    write("team.toml", MODEL)
    write("other.toml", MODEL)
    with pytest.raises(CannotLoad) as caught:
        load(targets)
    assert str(caught.value).startswith(message.rstrip("…"))


# the commands


@requirement("team.file")
def test_without_a_target_the_file_of_the_directory_is_served(write: Write, tmp_path: Path) -> None:
    write("books.py", TOOLS)
    write("openai-compat.toml", LIBRARIAN + '[agents.down]\nmodel = "xai/m"\n')
    upstream = Upstream(calls("find", {"title": "Dune"}), says("It is there."))
    with upstream.served() as url:
        env = {"GROQ_BASE_URL": f"{url}/v1", "GROQ_API_KEY": KEY}
        with serve(cwd=tmp_path, env=env) as served:
            client = openai.OpenAI(base_url=f"http://127.0.0.1:{served.port}/v1", api_key="any", max_retries=0)
            with client:
                models = [model.id for model in client.models.list()]
                answer = client.chat.completions.create(model="librarian", messages=ask("Dune?"))
                with pytest.raises(openai.InternalServerError) as caught:
                    client.chat.completions.create(model="down", messages=ask("Dune?"))
        log = served.log

    assert models == ["librarian", "down"]
    assert answer.choices[0].message.content == "It is there."
    assert (caught.value.status_code, caught.value.code) == (503, "provider_not_configured")
    assert "openai-compat.toml: agents.down: 'xai/m' cannot be asked now. xai: It has no key" in log
    assert KEY not in log


def test_a_file_elsewhere_has_its_tools_beside_it(write: Write, tmp_path: Path, groq: Callable[[str], None]) -> None:
    folder = tmp_path / "deep"
    folder.mkdir()
    (folder / "deep_books.py").write_text(TOOLS)
    (folder / "team.toml").write_text(LIBRARIAN.replace("books:", "deep_books:"))
    groq("http://127.0.0.1:9")
    assert list(load(["deep/team.toml"])) == ["librarian"]


@pytest.mark.parametrize("named", [True, False])
def test_one_can_talk_to_a_team(write: Write, groq: Callable[[str], None], named: bool) -> None:
    write("openai-compat.toml", '[agents.a]\nmodel = "groq/m"\n')
    with Upstream(says("Hello, you.")).served() as url:
        groq(url)
        result = CliRunner().invoke(main, ["chat", *["openai-compat.toml"][: int(named)], "-m", "Hello"])

    assert result.output == "Hello, you.\n"
