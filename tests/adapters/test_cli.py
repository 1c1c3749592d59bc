"""The command line: what it serves, its output, and its error messages."""

from __future__ import annotations

import io
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from openai_compat import Server, __version__
from openai_compat_adapters._cli.load_agents import load
from openai_compat_adapters._cli.values import address, base_url, duration, size
from openai_compat_adapters._terminal_colors import colored, wants_colors
from openai_compat_adapters.cli import main
from tests.adapters.in_process import invoke, working_in
from tests.adapters.served import COMMAND, PATIENCE, Leash, chat, head, serve
from tests.requirements import requirement

AGENTS = "served_agents:agents"
Write = Callable[[str, str], None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes modules into the current directory, and removes them at the end."""
    with working_in(tmp_path, monkeypatch):
        yield lambda name, text: tmp_path.joinpath(name).write_text(text) and None


@pytest.fixture(autouse=True)
def log_level() -> Iterator[None]:
    """Restores the log level, which the command line sets for its process."""
    logger = logging.getLogger("openai_compat")
    before = logger.level
    yield
    logger.setLevel(before)


# help


def test_help_teaches_with_examples() -> None:
    assert "openai-compat serve hello:agent " in invoke("--help").output
    for command in ("serve", "chat"):
        output = invoke(command, "--help").output
        assert f"  openai-compat {command} hello:agent" in output
        assert re.search(r"^Usage: ", output)


@requirement("cli.quick")
def test_the_help_is_there_before_the_library_would_be() -> None:
    """Importing everything took a second of CPU, mostly for these packages."""
    code = "import sys\nfrom openai_compat_adapters.cli import main\n"
    code += "main(['serve', '--help'], standalone_mode=False)\nprint(*sys.modules, file=sys.stderr)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=True)
    heavy = {"pydantic", "anyio", "asyncio", "openai", "starlette", "uvicorn", "openai_compat.server"}
    assert "--listen HOST:PORT" in ran.stdout
    assert heavy.isdisjoint(ran.stderr.split())


@pytest.mark.parametrize("command", ["serve", "chat"])
def test_every_option_is_explained(command: str) -> None:
    for parameter in main.commands[command].params:
        assert isinstance(parameter, click.Argument) or parameter.help


def test_the_version_is_the_packages_and_tells_which_python_it_is() -> None:
    python = sys.version.split()[0]
    assert invoke("--version").output == f"openai-compat {__version__}, Python {python}\n"


# what is served


@pytest.mark.parametrize(
    ("targets", "models"),
    [
        (["bots:agent"], ["agent"]),
        (["bots.py:agent"], ["agent"]),
        (["./bots.py:agent"], ["agent"]),
        (["gpt-4o=bots:agent", "bots:Deep.agent"], ["gpt-4o", "agent"]),
        (["bots:team", "bots:agent"], ["a", "b", "agent"]),
        (["bots:server"], ["only"]),
    ],
)
def test_agents_have_the_names_they_are_given(write: Write, targets: list[str], models: list[str]) -> None:
    write(
        "bots.py",
        "from openai_compat import Server\n"
        "def agent(prompt): ...\n"
        "class Deep: agent = agent\n"
        "team = {'a': agent, 'b': agent}\n"
        "server = Server({'only': agent})\n",
    )
    loaded = load(targets)
    assert list(loaded.services.models.agents if isinstance(loaded, Server) else loaded) == models


def test_a_server_of_your_own_is_served() -> None:
    with serve("served_agents:open_server") as served:
        (answer,) = served.exchange(head("GET", "/v1/models", "Connection: close"))
        assert [model["id"] for model in answer.json["data"]] == ["echo", "shout"]
        assert served.ask("shout").text == "HI"


@requirement("cli.banner")
def test_the_banner_tells_where_to_talk_who_may_and_a_command_that_works_as_it_stands() -> None:
    path = f"{Path(COMMAND).parent}:{os.environ['PATH']}"
    env = {"MY_KEY": "correct-horse", "PATH": path}
    with serve("served_agents:agents", "--api-key-env", "MY_KEY", env=env) as served:
        served.wait_for("Clients need an API key")
        shown = re.search(r"  Terminal +(.*)", served.log)[1]
        assert re.match(
            r"openai-compat \S+ serves echo, .*  \(served_agents:agents, Python 3\.\S+, state in memory\)\n", served.log
        )
        assert f"  Chat      http://127.0.0.1:{served.port}/ui/ " in served.log
        assert f"  API       http://127.0.0.1:{served.port}/v1 " in served.log
        assert "correct-horse" not in served.log
        assert "\x1b" not in served.log
        answered = subprocess.run(
            ["/bin/sh", "-c", f"{shown} -m Hello!"],
            check=True,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **env},
            timeout=PATIENCE,
        )
    assert answered.stdout == "Hello!\n"


@requirement("cli.banner")
def test_colors_are_for_terminals_and_for_those_who_force_them() -> None:
    stream = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("NO_COLOR", "FORCE_COLOR", "TERM"):
            patch.delenv(name, raising=False)
        assert not wants_colors(stream)
        patch.setenv("FORCE_COLOR", "1")
        assert wants_colors(stream)
        patch.setenv("NO_COLOR", "1")
        assert not wants_colors(stream)
    assert colored("a", "bold", "red") == "\x1b[1;31ma\x1b[0m"


def test_a_page_that_is_not_served_is_not_opened(write: Write) -> None:
    write("good.py", "def agent(prompt): ...")
    result = invoke("serve", "good:agent", "--listen", "127.0.0.1:0", "--open", "--no-page")
    assert result.exit_code == 2
    assert "--open is for the page, which is not served here: --page." in result.output


# options


def test_an_option_can_be_an_environment_variable() -> None:
    env = {"OPENAI_COMPAT_API_KEY": "secret", "OPENAI_COMPAT_MAX_REQUEST_SIZE": "1k"}
    with serve("served_agents:echo", env=env) as served:
        assert served.ask("echo").error["code"] == "invalid_api_key"
        (answer,) = served.exchange(chat("echo", "x" * 2000, key="secret", close=True))
        assert answer.error["code"] == "request_too_large"


def test_the_settings_reach_the_server() -> None:
    settings = ["--bare-paths", "--host-name", "box.local", "--cors-origin", "https://app.example"]
    with serve(AGENTS, *settings, "--max-concurrency", "1", "--request-timeout", "0.3") as served:
        request = chat("echo", close=True).replace(b"/v1", b"", 1).replace(b"localhost", b"box.local", 1)
        (answer,) = served.exchange(request.replace(b"\r\n", b"\r\nOrigin: https://app.example\r\n", 1))
        assert answer.headers["access-control-allow-origin"] == "https://app.example"
        assert answer.text == "hi"
        with Leash() as leash, served.connect() as connection:
            connection.send(chat("leashed", leash.prompt))
            leash.wait_for_agent()
            assert served.ask("echo").error["code"] == "rate_limit_exceeded"
            assert connection.until(b"\r\n") == b"HTTP/1.1 504 Gateway Timeout\r\n"


def test_keys_in_a_file_can_be_changed_while_it_serves(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("# ours\nfirst\n")
    with serve("served_agents:echo", "--api-key-file", str(keys)) as served:
        assert [a.status for a in served.exchange(chat("echo", key="first", close=True))] == [200]
        keys.write_text("second\n")
        assert [a.status for a in served.exchange(chat("echo", key="first", close=True))] == [401]
        assert [a.status for a in served.exchange(chat("echo", key="second", close=True))] == [200]
        assert "second" not in served.log


@pytest.mark.parametrize("listen", ["0.0.0.0:0", ":0", "[::]:0", "192.0.2.1:0", "example.org:0"])
def test_without_a_key_nobody_else_may_reach_the_server(write: Write, listen: str) -> None:
    write("good.py", "def agent(prompt): ...")
    result = invoke("serve", "good:agent", "--listen", listen)
    assert result.exit_code == 2
    assert "Without an API key the server listens on this machine only" in result.output
    assert "--api-key-env NAME" in result.output


def test_with_a_key_everybody_may_reach_it() -> None:
    with serve("served_agents:keyed_server", "--listen", ":0") as served:
        (answer,) = served.exchange(chat("echo", key="a-key-of-its-own", close=True))
        assert answer.text == "hi"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("127.0.0.1:8083", ("127.0.0.1", 8083)),
        ("8083", ("127.0.0.1", 8083)),
        (":8083", ("0.0.0.0", 8083)),
        ("[::1]:80", ("::1", 80)),
        ("localhost:0", ("localhost", 0)),
    ],
)
def test_an_address_is_a_host_and_a_port(text: str, value: tuple[str, int]) -> None:
    assert address(text) == value


@pytest.mark.parametrize("text", ["", "localhost", "localhost:", "localhost:http", "::1:80", "a:b:80", "1:65536"])
def test_other_addresses_are_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match=r"HOST:PORT, such as 127\.0\.0\.1:8083"):
        address(text)


@pytest.mark.parametrize(("text", "value"), [("1000", 1000), ("2k", 2048), ("20MB", 20 * 2**20), ("1GiB", 2**30)])
def test_a_size_is_a_number_of_bytes(text: str, value: int) -> None:
    assert size(text) == value


@pytest.mark.parametrize("text", ["", "MB", "-1", "1.5MB", "1TB", "1 MB"])
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="such as 20MB"):
        size(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("300", 300),
        ("2.5", 2.5),
        (".5s", 0.5),
        ("500ms", 0.5),
        ("30s", 30),
        ("5m", 300),
        ("1h", 3600),
        ("1d", 86400),
        ("1m30s", 90),
    ],
)
def test_a_time_is_a_number_of_seconds_or_has_a_unit(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "m", "-1", "1e3", "nan", "inf", "5 m", "5M", "30m1h", "1m30", "1h1h", "1.5.5s", "\u0665"]
)
def test_other_times_are_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="such as 30s, 5m, 1h or 300"):
        duration(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("http://localhost:8083", "http://localhost:8083/v1"),
        ("http://localhost:8083/", "http://localhost:8083/v1"),
        ("https://box.local/api/v1", "https://box.local/api/v1"),
    ],
)
def test_a_url_without_a_path_gets_the_usual_one(text: str, value: str) -> None:
    assert base_url(text) == value


@pytest.mark.parametrize("text", ["", "localhost:8083", "ftp://localhost", "http://", "http://["])
def test_other_urls_are_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not a URL"):
        base_url(text)


# mistakes


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("nope:agent", "There is no module 'nope', neither in .* nor installed."),
        ("nope.deeper:agent", "There is no module 'nope', neither in .* nor installed."),
        ("good:", "'good:' is not of the form module:attr, such as hello:agent."),
        ("good:agnt", r"Module 'good' has no attribute 'agnt'. Did you mean 'agent'\?"),
        ("good:zzz", "Module 'good' has no attribute 'zzz'."),
        ("good:number", "'good:number' is not an agent: an agent is a function, .*, not 42."),
        ("good:app", "'good:app' is not an agent: .* has parameters scope, receive, send; an agent may have: .*"),
        ("good:nothing", "'good:nothing' is an empty mapping: there is no agent in it."),
        ("x=good:some", "'good:some' is a mapping, which has names for its agents: leave 'x=' out."),
        ("wrong:agent", r"Importing 'wrong' failed: SyntaxError: .*\(wrong.py, line 2\)"),
        ("lacks:agent", r"Importing 'lacks' failed: ModuleNotFoundError: No module named 'gone' \(lacks.py, line 1\)"),
        ("fails:agent", r"Importing 'fails' failed: ZeroDivisionError: division by zero \(fails.py, line 2\)"),
        ("leaves:agent", r"Importing 'leaves' failed: SystemExit: 7 \(leaves.py, line 2\)"),
    ],
)
@pytest.mark.parametrize("command", ["serve", "chat"])
def test_a_wrong_import_path_is_told_in_one_line(write: Write, command: str, target: str, message: str) -> None:
    write(
        "good.py",
        "def agent(prompt): ...\ndef app(scope, receive, send): ...\nnumber = 42\nnothing = {}\nsome = {'a': agent}",
    )
    write("wrong.py", "x = 1\ndef (")
    write("lacks.py", "import gone")
    write("fails.py", "def divide():\n    return 1 / 0\ndivide()")
    write("leaves.py", "import sys\nsys.exit(7)")
    result = invoke(command, target)
    assert result.exit_code == 2
    assert re.fullmatch(f"Error: {message}\n", result.output)


def test_two_agents_of_one_name_are_refused(write: Write) -> None:
    write("one.py", "def agent(prompt): ...")
    write("two.py", "def agent(prompt): ...")
    result = invoke("serve", "one:agent", "two:agent")
    assert result.exit_code == 2
    assert result.output == "Error: Two agents are called 'agent'. Name one of them: other=two:agent\n"


def test_a_server_is_served_alone(write: Write) -> None:
    write("ready.py", "from openai_compat import Server\ndef agent(prompt): ...\nserver = Server(agent)")
    result = invoke("serve", "ready:server", "ready:agent")
    assert result.exit_code == 2
    assert "is a Server, which has names for its agents: serve it alone." in result.output


@pytest.mark.parametrize(
    ("arguments", "env"),
    [(["--api-key", "k", "--heartbeat", "1"], {}), (["--heartbeat", "1"], {"OPENAI_COMPAT_API_KEY": "k"})],
)
def test_a_server_takes_no_settings_from_the_command_line(
    write: Write, arguments: list[str], env: dict[str, str]
) -> None:
    write("ready.py", "from openai_compat import Server\nserver = Server(lambda prompt: prompt)")
    result = invoke("serve", "ready:server", "--grace", "1", *arguments, env=env)
    assert result.exit_code == 2
    assert "cannot be served with --api-key, --heartbeat." in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--api-key", ""], "--api-key is empty: leave it out to serve without a key, which is for this machine only."),
        (["--proxy-auth", "--listen", ":0"], "--proxy-auth goes with --host-name NAME"),
        (["--user-header", "X-User", "--listen", ":0"], "--user-header goes with --host-name NAME"),
        (
            ["--user-header", "X-User", "--host-name", "a"],
            "--user-header goes with --trusted-proxy ADDRESS, or --proxy-auth",
        ),
        (["--user-header", "X_User", "--host-name", "a"], "'X_User' is not the name of a header"),
        (
            ["--user-header", "X-User", "--host-name", "a", "--trusted-proxy", "10.0.0.7/8"],
            "'10.0.0.7/8' is not an address or a network, such as 10.0.0.7 or 10.0.0.0/8.",
        ),
        (["--trusted-proxy", "10.0.0.7"], "--trusted-proxy goes with --user-header NAME"),
        (["--env-from-file", "gone"], "'gone' cannot be read."),
        (["--env-from-file", "good.py"], "line 1 of 'good.py' is not NAME=VALUE."),
        (["--api-key-file", "gone"], "File 'gone' does not exist."),
        (["--cors-origin", "app.example/x"], "not an origin (scheme, host and port, without a path): 'app.example/x'."),
        (["--heartbeat", "0"], "this time has to be longer than 0."),
        (["--api-key", "correct horse"], "Error: an API key cannot have spaces in it."),
        (["--conversations-max", "1", "--workers", "2"], "or leave --workers out."),
        (["--reload", "--workers", "2"], "--reload is for one process: leave --workers out."),
        (["--conversation-ttl", "soon"], "'soon' is not a time, such as 30s, 5m, 1h or 300, which are seconds."),
        (["--history", "half"], "'half' is not one of 'full', 'last-user'."),
    ],
)
def test_a_wrong_setting_is_told_in_one_line(write: Write, arguments: list[str], message: str) -> None:
    write("good.py", "def agent(prompt): ...")
    result = invoke("serve", "good:agent", *arguments)
    assert result.exit_code == 2
    assert message in result.output
    assert result.output.startswith("Error: ")
    assert result.output.count("\n") == 1


# the log


def test_failures_of_agents_are_logged_where_people_see_them() -> None:
    with serve(AGENTS) as served:
        answer = served.ask("fails")
        assert "secret" not in answer.body.decode()
        failed = "the agent failed: RuntimeError: the secret of the agent (served_agents.py:"
        served.wait_for(rf"^\d\d:\d\d:\d\d ERROR {answer.headers['x-request-id']}: {re.escape(failed)}\d+ in fails\)$")
        served.wait_for("^RuntimeError: the secret of the agent$")
        served.wait_for(rf"^\d\d:\d\d:\d\d 500 fails +POST .* {answer.headers['x-request-id']}$")


def test_a_quiet_log_has_no_line_for_each_request() -> None:
    with serve(AGENTS, "--log-level", "warning") as served:
        served.ask("echo")
        served.process.terminate()
        assert served.ended(5) == 0
        assert "POST" not in served.log


def test_a_module_that_sets_logging_up_keeps_its_own_way(tmp_path: Path) -> None:
    text = "import logging\nlogging.basicConfig(format='MINE %(message)s')\ndef agent(prompt): return prompt"
    (tmp_path / "mine.py").write_text(text)
    with serve("mine:agent", env={"PYTHONPATH": str(tmp_path)}) as served:
        served.ask("agent")
        served.wait_for("^MINE req_.* POST /v1/chat/completions 200 ")
