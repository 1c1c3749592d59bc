"""`openai-compat doctor`: a line per check, and an exit code. It changes nothing."""

from __future__ import annotations

import json
import socket
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse
from starlette.routing import Route

from openai_compat import Server
from openai_compat.stores.open import open_store
from openai_compat.stores.schema_version import NEWEST
from openai_compat_adapters._cli import doctor_checks
from openai_compat_adapters._cli.doctor_checks import _is_within, check_keys, check_proxies
from openai_compat_adapters._cli.doctor_url import judge_stream
from openai_compat_adapters.testing import listening
from tests.adapters.in_process import invoke, working_in
from tests.requirements import requirement
from tests.transports import asgi_socket


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A folder with an agent, and no settings."""
    for name in (
        doctor_checks.KEY,
        doctor_checks.KEY_FILE,
        "OPENAI_COMPAT_API_KEY_ENV",
        "http_proxy",
        "https_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "all_proxy",
    ):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "agent.py").write_text("def agent(prompt): return prompt\n")
    with working_in(tmp_path, monkeypatch):
        yield tmp_path


def told(*arguments: str, code: int) -> dict[str, str]:
    """Return the text of each check."""
    result = invoke("doctor", *arguments)
    assert result.exit_code == code, result.output
    lines = [line.split(None, 2) for line in result.output.splitlines()]
    return {name: f"{mark}: {text}" for mark, name, text in lines}


@requirement("cli.doctor")
def test_where_all_is_well_it_says_so_and_changes_nothing(here: Path) -> None:
    found = told("--listen", "127.0.0.1:0", code=0)
    assert list(found) == ["python", "extras", "speed", "agents", "store", "keys", "proxies", "port"]
    assert found["agents"] == "ok: agent.py: agent (a function, or an object with `run`)"
    assert "uvicorn" in found["extras"]
    store = told("--listen", "127.0.0.1:0", "--store", "sqlite:///state.db", code=0)["store"]
    assert store == "ok: sqlite can be used; the first server that uses it creates the tables"
    assert [file.name for file in here.iterdir() if file.suffix != ""] == ["agent.py"]


@requirement("cli.doctor")
def test_it_tells_the_same_as_json(here: Path) -> None:
    result = invoke("doctor", "gone.py", "--listen", "127.0.0.1:0", "--json")
    said = json.loads(result.output)
    assert (result.exit_code, said["ok"]) == (1, False)
    [wrong] = [check for check in said["checks"] if check["status"] == "wrong"]
    assert wrong == {
        "name": "agents",
        "status": "wrong",
        "text": f"There is no file 'gone.py', looked for from {here}. Did you mean 'agent.py'?",
    }


@requirement("cli.doctor")
def test_a_port_that_is_taken_is_told_with_who_has_it(here: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        other.listen(0)
        address = f"127.0.0.1:{other.getsockname()[1]}"
        doctor_checks.PATIENCE, patience = 0.2, doctor_checks.PATIENCE
        try:
            assert told("-l", address, code=1)["port"] == (
                f"WRONG: cannot listen on {address}: address already in use; choose another address with --listen"
            )
        finally:
            doctor_checks.PATIENCE = patience
    with listening(Server(lambda prompt: prompt)) as url:
        found = told("-l", url.removeprefix("http://"), code=1)["port"]
    assert found.endswith("in use by an openai-compat server; choose another address with --listen")


def foreign(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("create table notes (text)")


def of_version(number: int) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        async def check() -> None:
            store = open_store(f"sqlite:///{path}")
            await store.check()
            await store.aclose()

        anyio.run(check)
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("update oc_schema set version = ?", (number,))
            connection.commit()

    return make


@requirement("cli.doctor")
@pytest.mark.parametrize(
    ("make", "code", "text"),
    [
        (of_version(NEWEST), 0, f"ok: sqlite answers, and its schema {NEWEST} is up to date"),
        (
            of_version(1),
            0,
            f"note: sqlite answers; the next server that uses it upgrades its schema from 1 to {NEWEST}",
        ),
        (
            of_version(99),
            1,
            f"WRONG: sqlite answers, but its schema 99 is from a newer version; this one knows {NEWEST}: ",
        ),
        (foreign, 1, "WRONG: The store's file is the database of another program"),
        (lambda path: path.write_text("no database" * 99), 1, "WRONG: The store's file cannot be read: it is no"),
        (lambda path: path.mkdir(), 1, "WRONG: The store's file cannot be read: it is no"),
    ],
)
def test_it_tells_how_a_store_is_and_leaves_it_as_it_is(here: Path, make: Any, code: int, text: str) -> None:
    make(here / "state.db")
    before = (here / "state.db").read_bytes() if (here / "state.db").is_file() else b""
    found = told("-l", "127.0.0.1:0", "--store", "sqlite:///state.db", code=code)["store"]
    assert found.startswith(text)
    assert not before or (here / "state.db").read_bytes() == before


@requirement("cli.doctor")
def test_a_store_that_cannot_be_used_is_told_without_its_password(here: Path) -> None:
    for url, wrong in {
        "sqlite:///gone/state.db": f"there is no folder {here}/gone",
        "ftp://ann:mellon@host": "not one with the scheme 'ftp'",
        "postgresql://ann:mellon@127.0.0.1:9/db": "The store cannot be used now",
    }.items():
        found = told("-l", "127.0.0.1:0", "--store", url, code=1)["store"]
        assert wrong in found
        assert "mellon" not in found


@requirement("cli.doctor")
def test_it_tells_how_a_database_of_postgresql_is(here: Path, postgres_url: str) -> None:
    arguments = ("-l", "127.0.0.1:0", "--store", postgres_url)
    assert told(*arguments, code=0)["store"].startswith("ok: postgresql can be used; the first server that uses it")

    async def serve_once() -> None:
        store = open_store(postgres_url)
        await store.check()
        await store.aclose()

    anyio.run(serve_once)
    assert told(*arguments, code=0)["store"] == f"ok: postgresql answers, and its schema {NEWEST} is up to date"


@requirement("cli.doctor")
def test_keys_proxies_and_versions_are_told_and_no_key_is() -> None:
    local, all_addresses = ("127.0.0.1", 80), ("0.0.0.0", 80)
    assert check_keys(local, None, {"OPENAI_API_KEY": "sk-1"}).text.endswith("model providers: OPENAI_API_KEY")
    assert (
        check_keys(local, None, {"OPENAI_API_KEY": "sk-1\n"}).text == "OPENAI_API_KEY contains a space or a line break"
    )
    assert check_keys(local, "MINE", {}).text == "MINE, which should hold the API key of clients, is not set"
    assert (
        check_keys(all_addresses, "MINE", {"MINE": "k"}).text == "clients need a key from MINE; model providers: no key"
    )
    assert "file that does not exist: gone" in check_keys(local, None, {"OPENAI_COMPAT_API_KEY_FILE": "gone"}).text
    assert [check_keys(all_addresses, None, given).status for given in ({}, {"OPENAI_COMPAT_API_KEY": "k"})] == [
        "wrong",
        "ok",
    ]
    assert check_keys(all_addresses, None, {"OPENAI_COMPAT_PROXY_AUTH": "1"}).status == "ok"
    assert [check_proxies(given).status for given in ({}, {"HTTPS_PROXY": "http://p"})] == ["ok", "note"]
    assert check_proxies({"http_proxy": "http://p", "NO_PROXY": "a.example, localhost"}).status == "ok"
    bounds = "<0.55,>=0.53"
    assert [_is_within(its, bounds) for its in ("0.53", "0.54.9", "0.55.0", "0.52", "0.54rc1")] == [
        True,
        True,
        False,
        False,
        True,
    ]


async def page(request: Any) -> Any:
    return HTMLResponse("<h1>Log in</h1>")


async def login(request: Any) -> Any:
    return RedirectResponse("https://login.example/oauth", 302)


async def basic(request: Any) -> Any:
    return PlainTextResponse("Who?", 401, {"WWW-Authenticate": "Basic realm=x", "Via": "1.1 squid"})


PROXY = Starlette(
    routes=[Route("/page/models", page), Route("/login/v1/models", login), Route("/basic/v1/models", basic)]
)


@requirement("cli.doctor")
def test_a_server_that_does_not_answer_as_an_api_is_told_with_what_stands_before_it(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with asgi_socket(PROXY) as url:
        for path, text in {
            "page": "returns text/html; charset=utf-8 instead of a list of models: another program, or a login page",
            "login/v1": "redirects to https://login.example/oauth",
            "basic/v1": "answers 401, but not in the API's format (Via: 1.1 squid",
            "v1": "answers 404",
        }.items():
            assert text in told("--url", f"{url}/{path}", code=1)["server"]
    assert "no answer from 127.0.0.1:9: " in told("--url", "http://127.0.0.1:9", code=1)["server"]
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    found = told("--url", "http://agents.example", code=1)["server"]
    assert "no answer from agents.example through HTTP_PROXY: " in found


@requirement("cli.doctor")
def test_a_server_that_answers_is_asked_for_its_models_and_whether_it_streams(here: Path) -> None:
    async def agent(prompt: str) -> Any:
        for word in prompt.split():
            yield word

    with listening(Server({"parrot": agent}, keys="sk-1")) as url:
        wanted = told("--url", f"{url}/v1", code=1)["server"]
        refused = told("--url", url, "--api-key", "sk-2", code=1)["server"]
        found = told("--url", url, "--api-key", "sk-1", "-m", "one two three", code=0)
    assert wanted.endswith("answers 401: the API key is missing: --api-key KEY")
    assert refused.endswith("answers 401: the API key is wrong: --api-key KEY")
    assert found["server"] == f"ok: {url}/v1 answers; models: parrot"
    assert found["stream"].startswith("ok: parrot answers in ")


@requirement("cli.doctor")
def test_an_answer_whose_pieces_all_come_at_the_end_was_kept_back() -> None:
    assert judge_stream("m", [4.0, 4.01, 4.02, 4.03]).status == "wrong"
    assert [judge_stream("m", came).status for came in ([0.1, 2.0, 4.0], [4.0], [0.001, 0.002, 0.003])] == ["ok"] * 3
    assert judge_stream("m", []).text == "m answers without text"
