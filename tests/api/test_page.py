"""The page's files and the redirects to them; `tests/clients/test_page.py` has the page in a browser."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urljoin

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

import openai_compat
from openai_compat import Server
from openai_compat.api.page import page_files
from openai_compat_adapters.starlette import endpoint
from tests.connecting import Http, in_process
from tests.requirements import requirement
from tests.support.agents import Says
from tests.transports import AsgiTransport

pytestmark = pytest.mark.anyio

BROWSER = {"accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
TYPES = {"html": "text/html; charset=utf-8", "css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8"}


@requirement("page.served")
async def test_every_file_of_the_page_is_served_under_a_strict_policy(http: Http) -> None:
    async with http(Says("Hi"), page=True) as client:
        page = await client.get("/ui/")
        named = re.findall(r'(?:src|href)="(page\.\w+)"', page.text)
        modules = {name for text in page_files().values() for name in re.findall(rb"from '\./([\w.]+)'", text)}
        answers = {name: await client.get(f"/ui/{name}") for name in page_files()}

    assert page.text == answers["page.html"].text
    assert {*named, *[name.decode() for name in modules], "page.html"} == set(answers)
    for name, answer in answers.items():
        assert (answer.status_code, answer.headers["content-type"]) == (200, TYPES[name.rpartition(".")[2]])
        policy = answer.headers["content-security-policy"].split("; ")
        assert {"default-src 'none'", "script-src 'self'", "connect-src 'self'"} <= set(policy)
        assert {"require-trusted-types-for 'script'", "trusted-types 'none'", "frame-ancestors 'none'"} <= set(policy)
        assert not re.search("unsafe|https?:|\\*", answer.headers["content-security-policy"])
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == "no-cache"


@requirement("page.served")
async def test_a_browser_that_has_a_file_is_not_sent_it_again(http: Http) -> None:
    async with http(Says("Hi"), page=True) as client:
        first = await client.get("/ui/page.js")
        again = await client.get("/ui/page.js", headers={"if-none-match": first.headers["etag"]})
        changed = await client.get("/ui/page.js", headers={"if-none-match": '"older"'})
        head = await client.head("/ui/page.js")
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    assert changed.content == first.content
    assert (head.status_code, head.content) == (200, b"")


@requirement("page.served")
async def test_a_browser_at_the_root_is_led_to_the_page_and_programs_are_answered_as_before(http: Http) -> None:
    async with http(Says("Hi"), page=True) as client:
        led = [await client.get(path, headers=BROWSER) for path in ("/", "/ui")]
        others = [
            await client.get("/"),
            await client.post("/", headers=BROWSER),
            await client.get("/x", headers=BROWSER),
        ]
    assert [(answer.status_code, answer.headers["location"]) for answer in led] == [(307, "ui/")] * 2
    assert [(answer.status_code, answer.json()["error"]["code"]) for answer in others] == [(404, "unknown_url")] * 3


@requirement("page.served")
async def test_without_the_setting_there_is_no_page(http: Http) -> None:
    async with http(Says("Hi")) as client:
        answers = [await client.get(path, headers=BROWSER) for path in ("/", "/ui", "/ui/", "/ui/page.js")]
    assert [(answer.status_code, answer.json()["error"]["code"]) for answer in answers] == [(404, "unknown_url")] * 4


@requirement("page.served")
@in_process
@pytest.mark.parametrize("name", ["x.js", "..", "%2e%2e", "..%2f..%2fserver.py", "page.html/x", "%00"])
async def test_nothing_else_is_served_beside_the_page(http: Http, name: str) -> None:
    async with http(Says("Hi"), page=True) as client:
        answer = await client.get(f"/ui/{name}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_url")


@requirement("page.served")
@in_process
async def test_the_page_needs_no_key_and_gives_away_nothing_that_does(http: Http) -> None:
    async with http({"secret-agent": Says("Hi")}, page=True, keys="sk-right") as client:
        page, models = await client.get("/ui/"), await client.get("/v1/models")
        root, elsewhere = await client.get("/"), await client.get("/elsewhere", headers=BROWSER)
    assert page.status_code == 200
    assert "secret-agent" not in page.text
    assert [answer.status_code for answer in (models, root, elsewhere)] == [401] * 3


@requirement("page.served")
@in_process
async def test_a_page_that_came_by_another_name_is_refused(http: Http) -> None:
    async with http(Says("Hi"), page=True) as client:
        answers = [await client.get(path, headers={**BROWSER, "host": "evil.example"}) for path in ("/", "/ui/")]
    assert [(answer.status_code, answer.json()["error"]["code"]) for answer in answers] == [
        (403, "host_not_allowed")
    ] * 2


@requirement("page.served")
async def test_mounted_below_a_path_the_page_finds_its_files() -> None:
    app = Starlette(routes=[Mount("/ai", endpoint(Server(Says("Hi"), page=True)))])
    async with httpx2.AsyncClient(transport=AsgiTransport(app), base_url="http://localhost") as client:
        led = await client.get("/ai/", headers=BROWSER)
        there = urljoin("/ai/", led.headers["location"])
        page, script = await client.get(there), await client.get(urljoin(there, "page.js"))
    assert there == "/ai/ui/"
    assert (page.status_code, script.status_code) == (200, 200)


@requirement("page.served")
def test_the_page_is_not_in_the_description_of_the_api() -> None:
    described = [route.path for route in Server(Says("Hi"), page=True)._routes.all() if route.described]
    assert not [path for path in described if path == "/" or path.startswith("/ui")]


MOST = 60_000
"""Size of the whole page in bytes, as it is written: no build step minifies it."""


@requirement("page.small")
def test_the_page_stays_small() -> None:
    assert sum(map(len, page_files().values())) <= MOST


@requirement("page.small")
def test_nothing_of_the_page_comes_from_elsewhere_or_becomes_markup() -> None:
    for name, content in page_files().items():
        text = content.decode()
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text), (
            name
        )
        assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)\w", text), name
    folder = Path(openai_compat.__file__).parent / "page"
    assert {path.name for path in folder.iterdir()} == set(page_files())
