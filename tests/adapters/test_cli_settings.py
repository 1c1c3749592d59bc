"""The settings that the options of `openai-compat serve` make, in this process, without serving anything."""

from __future__ import annotations

import errno
import json
import logging
import warnings
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import NoReturn

import click
import pytest

from openai_compat import ChatRest, Server
from openai_compat.agent_request import ANONYMOUS
from openai_compat.api.access_log import log_access
from openai_compat.errors import Unauthorized
from openai_compat.http import HttpRequest
from openai_compat_adapters._cli import serve_command as running
from openai_compat_adapters._cli.banner import banner
from openai_compat_adapters.logs import configure_logging
from tests.adapters.in_process import Ran, invoke, working_in, would_serve
from tests.requirements import requirement
from tests.support.exchanges import bearing, request

pytestmark = pytest.mark.usefixtures("folder")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "bot.py").write_text("def agent(prompt): return prompt")
    with working_in(tmp_path, monkeypatch):
        yield tmp_path


def served(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Ran:
    return would_serve(monkeypatch, "bot:agent", *arguments)


@requirement("cli.settings")
def test_what_operators_ask_for_can_be_said_without_a_server_object(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = served(
        monkeypatch,
        *("--chat-rest", "--chat-websocket", "--lease", "1m30s", "--max-answer-size", "2k"),
        *("--background-timeout", "2h", "--head-delay", "0"),
    )
    services = ran.server.services
    assert isinstance(services.settings.chat_rest, ChatRest)
    route, _ = ran.server._routes.find("/chat")
    assert route is not None
    assert route.socket is not None
    assert (
        services.settings.deadlines.lease,
        services.settings.deadlines.background,
        services.settings.deadlines.head,
    ) == (90, 7200, 0)
    assert services.settings.limits.answer == 2048


@requirement("cli.settings")
@pytest.mark.parametrize(
    ("arguments", "page"),
    [
        ([], True),
        (["--listen", "[::1]:0"], True),
        (["--no-page"], False),
        (["--listen", "0.0.0.0:0", "--api-key", "sk-1"], False),
        (["--listen", "0.0.0.0:0", "--api-key", "sk-1", "--page"], True),
        (["--proxy-auth", "--host-name", "agents.example"], False),
        (["--user-header", "X-User", "--trusted-proxy", "127.0.0.1", "--host-name", "agents.example"], False),
    ],
)
def test_the_page_is_there_where_only_this_machine_can_reach_it_or_as_it_is_said(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], page: bool
) -> None:
    ran = served(monkeypatch, *arguments)
    assert (ran.server._routes.find("/ui/")[0] is not None) is page


@requirement("cli.settings")
def test_what_is_left_out_is_as_a_server_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, plain = served(monkeypatch).server.services.settings, Server(lambda prompt: prompt).services.settings
    assert ours.deadlines == plain.deadlines
    assert ours.limits == plain.limits
    assert ours.chat_rest is None


@requirement("cli.settings")
@pytest.mark.anyio
async def test_several_keys_have_names(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    (folder / "keys").write_text("# team\nsk-1 ann\n\nsk-2   bob  \nsk-3\n")
    monkeypatch.setenv("KEYS", "sk-1 ann,sk-2 bob, sk-3")
    for source in (("--api-key-file", "keys"), ("--api-key-env", "KEYS")):
        auth = served(monkeypatch, *source).server.auth
        found = [await auth.principal(bearing(f"sk-{number}")) for number in (1, 2, 3)]
        assert [principal.id for principal in found] == ["ann", "bob", f"key-{sha256(b'sk-3').hexdigest()[:12]}"]


@requirement("cli.settings")
def test_a_ready_server_takes_the_options_of_the_program(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    (folder / "bot.py").write_text("from openai_compat import Server\nagent = Server(lambda prompt: prompt)")
    assert served(monkeypatch, "--ping", "2s", "--proxy-auth").options.ping == 2


@requirement("cli.settings")
def test_it_works_in_the_folder_that_is_named_with_the_environment_of_a_file(
    monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    for name in ("MY_KEY", "QUOTED", "OPENAI_COMPAT_UNKNOWN_MODEL"):
        monkeypatch.setenv(name, "before")
        monkeypatch.delenv(name)
    (folder / "sub").mkdir()
    (folder / "sub" / "bot.py").write_text("import os\ndef agent(prompt): ...\nassert os.environ['QUOTED'] == 'a b#c'")
    (folder / "env").write_text(
        "# keys\n\nexport MY_KEY = sk-1\nQUOTED='a b#c'\nOPENAI_COMPAT_UNKNOWN_MODEL=default\nEMPTY=\n"
    )
    ran = served(monkeypatch, "--working-dir", "sub", "--env-from-file", "env", "--api-key-env", "MY_KEY")
    assert (ran.cwd, ran.folder) == (folder / "sub", folder)
    assert ran.server.services.models.unknown_model == "default"


@requirement("cli.proxy-auth")
def test_a_proxy_with_a_login_may_stand_before_a_server_without_a_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ran = served(monkeypatch, "--listen", "0.0.0.0:0", "--host-name", "app.example", "--proxy-auth")
    running._listen(ran.server, ran.options).close()
    with pytest.raises(click.UsageError, match="--proxy-auth"):
        running._listen(ran.server, replace(ran.options, proxy_auth=False))


@requirement("ollama.models")
def test_an_ollama_is_where_programs_look_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = served(monkeypatch, "--ollama")
    assert ran.options.listen == ("127.0.0.1", 11434)
    assert ran.server._routes.find("/api/tags")[0] is not None
    assert served(monkeypatch, "--ollama", "--listen", "127.0.0.1:0").options.listen == ("127.0.0.1", 0)

    def taken(*_: object, **__: object) -> NoReturn:
        raise OSError(errno.EADDRINUSE, "Address already in use")

    monkeypatch.setattr(running, "listen", taken)  # does not depend on a free port here
    with pytest.raises(click.ClickException, match=r"Address already in use\. If an Ollama runs there, stop it"):
        running._listen(ran.server, ran.options)


def sent_by(address: str, *headers: tuple[bytes, bytes]) -> HttpRequest:
    return replace(request("/v1/models", None, *headers, method="GET"), scope={"client": (address, 5)})


@requirement("cli.user-header")
@pytest.mark.anyio
@pytest.mark.parametrize(
    ("options", "address", "principal"),
    [
        (("--trusted-proxy", "10.0.0.7", "--trusted-proxy", "fd00::/8"), "10.0.0.7", "proxy:ann"),
        (("--trusted-proxy", "10.0.0.7", "--trusted-proxy", "fd00::/8"), "fd00::7", "proxy:ann"),
        (("--trusted-proxy", "10.0.0.7"), "10.0.0.8", None),
        (("--trusted-proxy", "10.0.0.7", "--proxy-auth"), "10.0.0.8", None),
        (("--proxy-auth",), "10.0.0.8", "proxy:ann"),
        (("--proxy-auth",), "fd00::7", "proxy:ann"),
    ],
)
async def test_a_proxys_header_says_who_calls_if_the_proxy_is_trusted(
    monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], address: str, principal: str | None
) -> None:
    auth = served(monkeypatch, "--user-header", "X-Forwarded-User", "--host-name", "app.example", *options).server.auth
    user = (b"x-forwarded-user", b"ann")
    if principal is None:
        with pytest.raises(Unauthorized):
            await auth.principal(sent_by(address, user))
    else:
        assert (await auth.principal(sent_by(address, user))).id == principal
    for nobody in ((), (user, user), ((b"x_forwarded_user", b"ann"),)):
        with pytest.raises(Unauthorized):
            await auth.principal(sent_by(address, *nobody))


@requirement("cli.user-header")
@pytest.mark.anyio
async def test_keys_are_good_beside_a_proxys_header(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYS", "sk-1 batch")
    options = (
        "--user-header",
        "X-User",
        "--trusted-proxy",
        "10.0.0.7",
        "--host-name",
        "app.example",
        "--api-key-env",
        "KEYS",
    )
    assert (await served(monkeypatch, *options).server.auth.principal(bearing("sk-1"))).id == "batch"


@requirement("store.start")
@pytest.mark.parametrize("where", ["gone/x.db", "bot.py/x.db", "."])
def test_a_file_that_cannot_be_opened_is_an_error_at_start(where: str) -> None:
    url = "sqlite:///" + where if where != "." else f"sqlite:///{Path.cwd()}"
    result = invoke("serve", "bot:agent", "--listen", ":0", "--api-key", "k", "--store", url)
    assert result.exit_code == 1
    assert result.output.startswith("Error: The store's file cannot be opened: ")


@pytest.fixture
def stderr(capfd: pytest.CaptureFixture[str]) -> Iterator[pytest.CaptureFixture[str]]:
    ours = logging.getLogger("openai_compat")
    level = ours.level
    yield capfd
    ours.setLevel(level)
    logging.captureWarnings(False)


def log_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # of pytest
    configure_logging("info", "json")


@requirement("cli.log")
def test_a_json_log_has_nothing_else_in_it(stderr: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    log_json(monkeypatch)
    warnings.showwarning("team.toml: odd", UserWarning, "team.toml", 1)
    running.logger.info("%s", running.summary(Server(lambda prompt: prompt), "127.0.0.1", 8083))
    warned, began = [json.loads(line) for line in stderr.readouterr().err.splitlines()]
    assert warned["level"] == "warning"
    assert "team.toml: odd" in warned["message"]
    assert began["message"].endswith("serves agent at http://127.0.0.1:8083/v1")


@requirement("cli.log")
def test_good_answers_to_probes_are_not_worth_a_line(
    stderr: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    log_json(monkeypatch)
    for number, path, status in ((1, "/healthz", 200), (2, "/readyz", 503), (3, "/v1/models", 200)):
        log_access(f"req_{number}", "GET", path, status, began=0, note="", principal=ANONYMOUS, turn=None)
    assert [json.loads(line)["request_id"] for line in stderr.readouterr().err.splitlines()] == ["req_2", "req_3"]


@requirement("auth.unused-login")
def test_it_is_told_at_start_that_all_behind_a_proxy_are_one_caller(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    named, keyed = ("--proxy-auth", "--host-name", "app.example"), ("--api-key", "sk-1")
    monkeypatch.setattr(running, "_serve", lambda server, listener, options: listener.close())
    for options, told in ((named, 1), ((*named, *keyed), 0)):
        ran = served(monkeypatch, "--listen", "127.0.0.1:0", *options)
        running.run(ran.server, ran.options, [], ran.folder)
        assert capsys.readouterr().err.count("counts as one caller") == told


@requirement("cli.user-header")
@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ((), "Open to users logged in at the proxy. "),
        (("--api-key", "sk-1"), "proxy, and to clients with an API key. "),
    ],
)
def test_the_banner_asks_for_no_key_where_people_log_in_at_a_proxy(
    monkeypatch: pytest.MonkeyPatch, keys: tuple[str, ...], told: str
) -> None:
    proxied = ("--user-header", "X-User", "--trusted-proxy", "127.0.0.1", "--host-name", "app.example")
    ran = served(monkeypatch, *proxied, *keys)
    shown = banner(ran.server, "127.0.0.1", 8083, ran.options)
    assert told in shown
    assert ("--api-key" in shown) == bool(keys)
