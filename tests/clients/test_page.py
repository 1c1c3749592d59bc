"""The chat page in a browser, over a real socket. `tests/api/test_page.py` tests how it is served."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from openai_compat import Server
from openai_compat_adapters.starlette import endpoint
from tests.adapters.served import serve
from tests.clients.browser import Page, chromium
from tests.clients.page_agents import AGENTS, PARTS, png, running
from tests.clients.programs import HERE, need_node_packages
from tests.requirements import requirement
from tests.transports import asgi_socket, listen, uvicorn_socket, wsgi_socket

ENDED = "document.querySelector('.turn:last-child .foot')"
TAGS = frozenset(
    {"p", "h3", "h4", "h5", "h6", "strong", "em", "s", "code", "pre", "a", "br", "hr", "ul", "ol", "li", "blockquote"}
    | {"table", "thead", "tbody", "tr", "th", "td", "div", "span", "button"}
)
"""The HTML elements that rendered Markdown may have."""


class Talk:
    """The page, freshly opened, without any state of other tests."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        page.do("Runtime.enable")
        page.do("Log.enable")
        page.do("Emulation.clearDeviceMetricsOverride")
        page.evaluate("try { sessionStorage.clear(); } catch { }")  # about:blank has no storage
        self.open()

    def open(self) -> None:
        self.page.open(f"{self.url}/ui/")
        self.wait("document.querySelector('#model option') || document.querySelector('dialog[open], .error')")

    def wait(self, condition: str, seconds: float = 15) -> None:
        """Wait until the condition holds and is drawn: the text becomes visible with the next frame."""
        look = f"""new Promise((done) => {{
            const end = Date.now() + {seconds * 1000};
            const look = () => {{
                if ({condition}) requestAnimationFrame(() => requestAnimationFrame(() => done('')));
                else if (Date.now() > end) done(document.body.innerText);
                else setTimeout(look, 15);
            }};
            look();
        }})"""
        shown = self.page.evaluate(look)
        assert not shown, f"never: {condition}\n{shown}"

    def choose(self, model: str) -> None:
        field = "document.getElementById('model')"
        self.page.evaluate(f"{field}.value = {json.dumps(model)}; {field}.dispatchEvent(new Event('change'))")

    def say(self, text: str, model: str | None = None) -> None:
        if model is not None:
            self.choose(model)
        self.page.evaluate("document.getElementById('prompt').focus()")
        self.page.type(text)

    def ask(self, text: str, model: str | None = None) -> str:
        """Send a message, wait for the end of the answer, and return the text of that turn."""
        before = self.count(".turn")
        self.say(text, model)
        self.wait(f"document.querySelectorAll('.turn').length > {before} && {ENDED}")
        return self.text(".turn:last-child")

    def text(self, selector: str) -> str:
        return str(self.page.evaluate(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''"))

    def count(self, selector: str) -> int:
        return int(self.page.evaluate(f"document.querySelectorAll({json.dumps(selector)}).length"))

    def click(self, selector: str) -> None:
        self.page.evaluate(f"document.querySelector({json.dumps(selector)}).click()")

    def button(self, label: str) -> None:
        self.page.evaluate(
            f"[...document.querySelectorAll('button')].findLast((b) => b.textContent === {json.dumps(label)}).click()"
        )

    def key(self, key: str, **more: Any) -> None:
        codes = {"Tab": 9, "Enter": 13, "Escape": 27}
        fields = {"key": key, "code": key, "windowsVirtualKeyCode": codes[key], **more}
        self.page.do("Input.dispatchKeyEvent", type="keyDown", **fields, **({"text": "\r"} if key == "Enter" else {}))
        self.page.do("Input.dispatchKeyEvent", type="keyUp", **fields)

    def focus(self) -> str:
        return str(self.page.evaluate("document.activeElement.ariaLabel || document.activeElement.textContent"))

    def request(self) -> dict[str, Any]:
        """The body of the last turn's request."""
        script = "import('./inspect.js').then(() => JSON.parse(document.querySelector('#p-request code').textContent))"
        self.page.evaluate("if (document.getElementById('wire').hidden) document.getElementById('wire-toggle').click()")
        sent = dict(self.page.evaluate(script))
        self.click("#wire-close")
        return sent

    @property
    def complaints(self) -> list[Any]:
        """Messages on the browser's console, and URLs of requests to other servers."""
        events = [(event.get("method"), event.get("params", {})) for event in self.page._events]
        said = [p for method, p in events if method in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown")]
        said += [p for method, p in events if method == "Log.entryAdded" and p["entry"]["source"] != "network"]
        urls = [p["request"]["url"] for method, p in events if method == "Network.requestWillBeSent"]
        return said + [url for url in urls if not url.startswith((self.url, "data:", "blob:"))]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with chromium(tmp_path_factory.mktemp("chromium")) as page:
        yield page


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with uvicorn_socket(Server(AGENTS, page=True)) as address:
        yield address


@pytest.fixture
def talk(browser: Page, url: str) -> Talk:
    return Talk(browser, url)


@requirement("page.talk")
def test_an_answer_is_shown_with_thoughts_tools_markdown_times_and_tokens(talk: Talk) -> None:
    talk.choose("researcher")
    assert "Looks things up." in talk.text("#empty")
    shown = talk.ask("What shall I pack?")
    assert "What shall I pack?" in shown
    assert "Thought for" in shown
    tools = talk.page.evaluate(
        "[...document.querySelectorAll('.tool')].map((tool) => { tool.open = true; return tool.innerText; })"
    )
    for tool, parts in zip(
        tools, [["look_up", "city: Oslo", '"when"', "rain"], ["read_page", "failed", "timed out"]], strict=True
    ):
        assert [part for part in parts if part not in tool] == []
    assert "mcp_tool_execution_error" not in shown
    talk.wait("document.querySelectorAll('.md td').length === 4 && document.querySelector('.md pre')")
    assert talk.text(".md strong") == "12 °C with rain"
    assert (talk.count(".md > ol > li"), talk.count(".md li ul li"), talk.count(".md td.end")) == (2, 1, 2)
    assert 'print("rain")  # <b>' in talk.text(".md pre")
    assert "first text" in talk.text(".foot")
    assert "431 in, 212 out (57 thinking)" in talk.text(".foot")
    assert talk.text("#status") == "The answer is complete"
    assert talk.complaints == []


@requirement("page.talk")
def test_a_conversation_goes_on_and_is_there_again_after_a_reload(talk: Talk) -> None:
    talk.ask("one", "parrot")
    assert "heard: one / heard: one / two" in talk.ask("two")
    talk.open()
    talk.wait("document.querySelectorAll('.turn').length === 2 && document.querySelector('.turn:last-child .md p')")
    assert "heard: one / heard: one / two" in talk.text(".turn:last-child")
    assert "two / heard: one / heard: one / two / three" in talk.ask("three")
    talk.click("#new")
    assert talk.count(".turn") == 0
    assert "heard: four\n" in talk.ask("four")
    assert talk.complaints == []


@requirement("page.talk")
def test_a_conversation_can_be_downloaded_with_its_events(talk: Talk, tmp_path: Path) -> None:
    talk.page.do("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    talk.ask("one", "parrot")
    talk.ask("two", "parrot")
    talk.click("#settings-open")
    talk.click("#download")
    talk.page.event("Page.downloadProgress", state="completed")
    turns = json.loads((tmp_path / "conversation.json").read_text("utf-8"))["turns"]
    assert [turn["input"][0]["content"] for turn in turns] == ["one", "two"]
    assert "heard: one / heard: one / two" in turns[1]["output"][0]["content"][0]["text"]
    assert turns[1]["events"][-1]["type"] == "response.completed"
    assert talk.complaints == []


@requirement("page.talk")
def test_an_answer_is_made_anew_from_the_same_place(talk: Talk) -> None:
    talk.ask("one", "parrot")
    talk.ask("two")
    sent = talk.request()
    talk.button("Regenerate")
    talk.wait(f"document.querySelectorAll('.turn').length === 2 && {ENDED}")
    assert talk.request() == sent
    assert "heard: one / heard: one / two\n" in talk.text(".turn:last-child")


@requirement("page.approvals")
def test_a_call_is_allowed_by_keyboard_alone_and_never_by_who_types_on(talk: Talk) -> None:
    shown = talk.ask("Pay for lunch", "payer")
    assert "<b>lunch</b>" in shown
    assert talk.focus() == "May the agent run pay?"
    talk.key("Enter")
    assert talk.count(".ask:not(.settled)") == 1
    talk.page.evaluate("document.getElementById('prompt').focus()")
    talk.key("Enter")
    assert talk.count(".turn") == 1
    talk.page.evaluate("document.querySelector('.ask').focus()")
    order = []
    for _ in range(5):
        talk.key("Tab")
        order.append(talk.focus())
    assert order == ["Allow once", "Always allow", "Edit", "Deny", "Reason for denying"]
    for _ in range(4):
        talk.key("Tab", modifiers=8)
    assert talk.focus() == "Allow once"
    talk.key("Enter")
    talk.wait(f"document.querySelectorAll('.turn').length === 2 && {ENDED}")
    assert "You allowed pay" in talk.text(".turn .settled")
    assert "Regenerate" not in talk.text(".turn:last-child")  # a decision counts once
    assert "approved True, always False, None, None" in talk.text(".turn:last-child")
    assert talk.complaints == []


@requirement("page.approvals")
def test_a_call_is_allowed_for_always_or_with_other_arguments_or_denied_with_a_reason(talk: Talk) -> None:
    def decided() -> str:
        talk.wait(f"document.querySelector('.settled') && document.querySelectorAll('.turn').length === 2 && {ENDED}")
        shown = talk.text(".turn:last-child .md")
        talk.click("#new")
        return shown

    talk.ask("Pay", "payer")
    talk.button("Always allow")
    assert decided() == "approved True, always True, None, None"

    talk.ask("Pay")
    talk.button("Edit")
    talk.page.evaluate("document.querySelector('.ask textarea').value = '{\"euros\": '")
    talk.button("Allow once")
    assert "This is no JSON" in talk.text(".ask")
    talk.page.evaluate("document.querySelector('.ask textarea').value = '{\"euros\": 6}'")
    talk.button("Allow once")
    assert decided() == 'approved True, always False, {"euros": 6}, None'

    talk.ask("Pay")
    talk.page.evaluate("document.querySelector('.ask input').value = 'too much'")
    talk.button("Deny")
    assert decided() == "approved False, always False, None, too much"


@requirement("page.approvals")
def test_a_question_can_be_answered_after_a_reload_and_not_after_another_message(talk: Talk) -> None:
    talk.ask("Pay", "payer")
    talk.open()
    talk.wait("document.querySelector('.ask button')")
    talk.button("Allow once")
    talk.wait(f"document.querySelectorAll('.turn').length === 2 && {ENDED}")
    assert "approved True" in talk.text(".turn:last-child")
    talk.ask("Pay again")
    talk.ask("Or rather not")
    assert "you sent another message" in talk.text(".turn:nth-last-child(2) .settled")


@requirement("page.tools")
def test_the_user_answers_for_the_clients_tools(talk: Talk) -> None:
    tools = [{"type": "function", "name": "get_location", "parameters": {"type": "object", "properties": {}}}]
    talk.click("#settings-open")
    talk.page.evaluate("document.querySelector('[name=tools]').value = '{}'")
    talk.click("#settings .primary")
    assert "Tools are a list" in talk.text("#settings-problem")
    talk.page.evaluate(f"document.querySelector('[name=tools]').value = {json.dumps(json.dumps(tools))}")
    talk.click("#settings .primary")
    talk.ask("Where am I?", "clerk")
    assert talk.focus() == "The agent calls your tool get_location"
    talk.page.evaluate("document.querySelector('.ask textarea').value = 'Oslo'")
    talk.button("Send the result")
    talk.wait(f"document.querySelectorAll('.turn').length === 2 && {ENDED}")
    assert "You are in Oslo." in talk.text(".turn:last-child")
    talk.click("#new")
    talk.ask("Where am I?")
    shown = talk.ask("Never mind")
    assert "You are in The user sent another message instead.." in shown
    assert "you sent another message" in talk.text(".turn .settled")


@requirement("page.stop")
def test_esc_stops_the_agent_and_the_next_turn_knows_what_was_said(talk: Talk) -> None:
    talk.say("A story", "slow")
    talk.wait("document.querySelector('.md p')")
    assert "slow" in running
    talk.key("Escape")
    talk.wait(ENDED)
    assert "You stopped the answer." in talk.text(".turn")
    end = time.monotonic() + 10
    while "slow" in running:
        assert time.monotonic() < end
    assert "heard: A story / Once upon a time / And then?" in talk.ask("And then?", "parrot")


@requirement("page.errors")
def test_a_failure_is_told_as_clients_get_it_and_nothing_else(talk: Talk) -> None:
    shown = talk.ask("Book", "broken")
    assert "I begin," in shown
    assert "The booking system is down." in shown
    assert "agent_error" in shown
    assert "Try again" in shown
    shown = talk.ask("And now?", "hidden")
    assert "The agent failed." in shown
    assert "server's log" in shown
    assert "hunter2" not in talk.text("body")


@requirement("page.errors")
def test_a_server_that_dies_is_told_and_one_that_has_forgotten_is_told_all_again(browser: Page) -> None:
    with listen() as free:
        port = free.getsockname()[1]
    arguments = ("page_agents:AGENTS", "--listen", f"127.0.0.1:{port}")
    with serve(*arguments, cwd=HERE) as served:
        talk = Talk(browser, f"http://127.0.0.1:{port}")
        talk.ask("one", "parrot")
        talk.say("A story", "slow")
        talk.wait("document.querySelector('.turn:last-child .md p')")
        served.process.kill()
        talk.wait(ENDED)
        assert "The connection was lost; the answer above is not whole." in talk.text(".turn:last-child")
        assert "The server does not answer. Is it still running?" in talk.ask("two", "parrot")
    with serve(*arguments, cwd=HERE):
        talk.button("Try again")
        talk.wait("document.body.innerText.includes('no longer has this conversation')")
        talk.button("Continue with the history on this page")
        talk.wait("document.body.innerText.includes('heard: one / heard: one / A story / Once upon a time / two')")


@requirement("page.key")
def test_a_server_with_a_key_asks_for_it_until_it_is_right(browser: Page) -> None:
    with uvicorn_socket(Server(AGENTS, page=True, keys="sk-right")) as url:
        talk = Talk(browser, url)
        for key, problem in (("sk-wrong", "API key"), ("ключ", "key"), ("sk-right", "")):
            talk.wait("document.querySelector('#settings[open]')")
            talk.page.evaluate("document.querySelector('[name=key]').focus()")
            talk.page.type(key)
            if problem:
                talk.wait(
                    "document.querySelector('#settings[open]') && document.getElementById('settings-problem').textContent"
                )
                assert problem in talk.text("#settings-problem")
        talk.wait("document.querySelectorAll('#model option').length === 10")
        assert "heard: Hi" in talk.ask("Hi", "parrot")
        assert "sk-right" not in talk.page.evaluate("document.documentElement.outerHTML + location.href")
        talk.click("#wire-toggle")
        assert '-H "Authorization: Bearer $OPENAI_API_KEY"' in talk.page.evaluate(
            "document.getElementById('p-code').textContent"
        )


@requirement("page.files")
def test_pictures_and_files_are_sent_and_one_that_is_too_large_is_not(talk: Talk, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png())
    (tmp_path / "b.txt").write_text("text")
    (tmp_path / "huge.bin").write_bytes(bytes(10_000_001))

    def attach(*names: str) -> None:
        root = talk.page.do("DOM.getDocument")["root"]["nodeId"]
        node = talk.page.do("DOM.querySelector", nodeId=root, selector="#attach")["nodeId"]
        talk.page.do("DOM.setFileInputFiles", nodeId=node, files=[str(tmp_path / name) for name in names])

    talk.choose("painter")
    attach("a.png", "b.txt")
    talk.wait("document.querySelectorAll('#files li').length === 2")
    attach("huge.bin")
    talk.wait("document.getElementById('problem').textContent")
    assert "huge.bin is too large: a message may have 10 MB of files." in talk.text("#problem")
    assert talk.count("#files li") == 2
    talk.ask("Look")
    assert "Seen: ['ImagePart', 'FilePart', 'TextPart']" in talk.text(".turn .md")
    talk.wait(
        "document.querySelector('.turn > img')?.naturalWidth === 2 && document.querySelector('.user img')?.naturalWidth === 2"
    )
    assert talk.complaints == []


@requirement("page.text")
def test_nothing_of_an_agent_becomes_markup(talk: Talk) -> None:
    talk.ask("Attack", "hostile")
    talk.wait("document.querySelector('.md').innerText.includes('</code></pre>')")
    made = talk.page.evaluate(
        "[...document.querySelectorAll('.md *')].map((n) => [n.localName, n.getAttributeNames(), n.getAttribute('href')])"
    )
    icons = {"svg", "use"}
    assert {name for name, _, _ in made} <= TAGS | icons
    assert {attribute for _, names, _ in made for attribute in names} <= {
        *("href", "title", "target", "rel", "class", "type", "tabindex", "data-mark", "start", "aria-hidden")
    }
    links = [href for name, _, href in made if name == "a"]
    assert len(links) >= 4
    assert [
        href
        for href in links
        if not href.startswith(("https://ok.example/", "https://a.example/", "https://evil.example/"))
    ] == []
    assert talk.page.evaluate("document.title") == "hostile"
    assert talk.complaints == []


@requirement("page.fast")
def test_of_a_flood_of_200_kb_a_frame_shows_a_few_blocks_and_none_is_made_twice(talk: Talk) -> None:
    talk.page.evaluate("""
        var most = 0, made = 0;
        new MutationObserver((changes) => {  // is told once for each frame in which something was drawn
            const drawn = changes.filter(({ target }) => target.closest?.('.md')).reduce((n, c) => n + c.addedNodes.length, 0);
            most = Math.max(most, drawn);
            made += drawn;
        }).observe(document.getElementById('log'), { childList: true, subtree: true });
    """)
    talk.ask("Go", "flood")
    shown = "document.querySelectorAll('.turn:last-child .md :is(.md > :not(ul, ol), li, tr)').length"
    talk.wait(f"document.querySelectorAll('.md > .code').length === {PARTS}", 60)
    most, made, blocks = talk.page.evaluate(f"[most, made, {shown}]")
    assert blocks > 1000
    assert 0 < most <= 110  # fifty blocks, plus the lists that hold items
    assert made < 3 * blocks  # each frame rebuilds only the last block


@requirement("page.fast")
def test_a_table_of_many_rows_is_begun_anew_with_its_head(talk: Talk) -> None:
    script = """import('./nodes.js').then(({ Markdown }) => {
        const shown = new Markdown(() => {});
        shown.text = '|a|b|\\n|-|-:|\\n' + '|1|2|\\n'.repeat(2500);
        do { delete shown.frame; shown.draw(); } while (shown.frame);
        const tables = [...shown.node.querySelectorAll('table')];
        return tables.map((one) => [one.rows.length, one.rows[0].innerHTML, one.rows[1].innerHTML]);
    })"""
    head, row = '<th>a</th><th class="end">b</th>', '<td>1</td><td class="end">2</td>'
    assert talk.page.evaluate(script) == [[1001, head, row], [1001, head, row], [501, head, row]]


@requirement("page.fast")
def test_of_a_conversation_of_a_thousand_messages_only_what_is_near_is_laid_out(talk: Talk) -> None:
    said = {"type": "output_text", "text": "**heard** one\n\n- a\n- b"}
    record = {
        "model": "parrot",
        "input": [{"role": "user", "content": "one"}],
        "output": [{"type": "message", "role": "assistant", "content": [said]}],
        "before": {"carry": []},
        "request": {"model": "parrot"},
    }
    kept = json.dumps({"chat": {"carry": []}, "turns": [record] * 500})
    talk.page.evaluate(f"sessionStorage.setItem('chat', {json.dumps(kept)})")
    talk.open()
    talk.wait("document.querySelectorAll('.md li').length === 1000", 60)
    near = "[...document.querySelectorAll('.user')].filter((one) => one.checkVisibility({contentVisibilityAuto: true})).length"
    for place in (0.9, 0.5, 0):
        talk.page.evaluate(f"log.scrollTop = log.scrollHeight * {place}")
        talk.wait(f"0 < {near} && {near} < 50")
    talk.say("Hello", "parrot")
    talk.wait("document.querySelector('.turn:last-child').innerText.includes('heard: Hello')")


@requirement("page.inspect")
def test_the_code_that_is_shown_runs_as_it_is(talk: Talk) -> None:
    talk.ask('it\'s "me" and $HOME \\ ö', "parrot")
    talk.click("#wire-toggle")
    talk.click("#t-code")
    snippets = talk.page.evaluate(
        "[...document.querySelectorAll('#p-code code')].map((c) => [...c.children].map((l) => l.textContent).join('\\n'))"
    )
    events = talk.text("#p-events") or talk.page.evaluate("document.getElementById('p-events').textContent")
    assert "output_text.delta" in events
    env = {**os.environ, "NO_PROXY": "127.0.0.1"}
    for command in (["bash", "-c", snippets[0]], [sys.executable, "-c", snippets[1]]):
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, env=env, check=False)
        assert "response.completed" in done.stdout, done.stderr
        assert "heard: it's" in done.stdout


@requirement("page.served")
def test_below_a_path_the_page_works_too(browser: Page) -> None:
    with asgi_socket(Starlette(routes=[Mount("/ai", endpoint(Server(AGENTS, page=True)))])) as url:
        talk = Talk(browser, f"{url}/ai")
        assert "heard: Hi" in talk.ask("Hi", "parrot")
        assert talk.complaints == []


@requirement("page.served")
def test_over_wsgi_the_page_works_too(browser: Page) -> None:
    with wsgi_socket(Server(AGENTS, page=True)) as url:
        assert "heard: Hi" in Talk(browser, url).ask("Hi", "parrot")


@requirement("page.everybody")
def test_on_a_phone_nothing_is_wider_than_the_screen(talk: Talk) -> None:
    talk.page.do("Emulation.setDeviceMetricsOverride", width=390, height=780, deviceScaleFactor=1, mobile=True)
    talk.ask("Pack?", "researcher")
    talk.ask("Pay", "payer")
    assert talk.page.evaluate("document.documentElement.scrollWidth") == 390
    talk.click("#wire-toggle")
    assert talk.page.evaluate("document.getElementById('wire').getBoundingClientRect().width") == 390
    assert talk.page.evaluate("document.documentElement.scrollWidth") == 390


@requirement("page.everybody")
@pytest.mark.parametrize("colours", ["light", "dark"])
def test_the_checker_of_accessibility_finds_nothing_serious(talk: Talk, colours: str) -> None:
    need_node_packages()
    axe = (HERE / "node_modules" / "axe-core" / "axe.min.js").read_text("utf-8")
    talk.page.do("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": colours}])

    def serious() -> list[str]:
        talk.page.evaluate("document.getAnimations().forEach((a) => a.cancel())")
        found = talk.page.evaluate("axe.run(document, {resultTypes: ['violations']}).then((r) => r.violations)")
        return [f"{v['id']}: {v['nodes'][0]['html']}" for v in found if v["impact"] in ("serious", "critical")]

    try:
        talk.page.evaluate(f"{axe}; 0")
        states = {"empty": serious()}
        talk.ask("Pack?", "researcher")
        talk.page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        states["answered"] = serious()
        talk.ask("Pay", "payer")
        states["asked"] = serious()
        talk.ask("Book", "broken")
        talk.click("#wire-toggle")
        states["failed, inspected"] = serious()
        talk.click("#t-code")
        states["code"] = serious()
        talk.click("#settings-open")
        states["settings"] = serious()
    finally:
        talk.page.do("Emulation.setEmulatedMedia", features=[])
    assert {state: found for state, found in states.items() if found} == {}
