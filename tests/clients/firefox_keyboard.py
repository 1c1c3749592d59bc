"""The page in Firefox, by keyboard alone, with the keys of an X server: `python -m tests.clients.firefox_keyboard`.

For maintainers, not for CI: it needs `firefox` (or `firefox-esr`), `Xvfb` and `xdotool`. WebDriver BiDi only reads the page:
keys sent over it do not press Firefox's buttons.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from openai_compat import Server
from tests.clients.page_agents import payer
from tests.transports import uvicorn_socket

PATIENCE = 60  # seconds
ORDER = ["Allow once", "Always allow", "Edit", "Deny", "Reason for denying"]


class Firefox:
    """A window with one page: `keys` presses keys as a user does, `evaluate` inspects the page."""

    def __init__(self, display: str, socket: ClientConnection) -> None:
        self._environment = {**os.environ, "DISPLAY": display}
        self._socket = socket
        self._numbers = count(1)
        self._do("session.new", capabilities={})
        self._page = self._do("browsingContext.getTree")["contexts"][0]["context"]

    def _do(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while (message := json.loads(self._socket.recv(PATIENCE))).get("id") != number:
            pass
        assert message["type"] == "success", message
        return dict(message["result"])

    def open(self, url: str) -> None:
        """Type the address, as a user without a mouse does. No window manager runs, so the keys go to the window directly."""
        window = self._xdotool("search", "--sync", "--onlyvisible", "--class", "firefox").split()[-1]
        self._xdotool("windowfocus", "--sync", window)
        self.keys("ctrl+l")
        self.type(url)
        self.keys("Return")

    def evaluate(self, script: str) -> Any:
        expression = f"JSON.stringify({script})"
        found = self._do("script.evaluate", expression=expression, target={"context": self._page}, awaitPromise=True)
        return json.loads(found["result"].get("value", "null"))

    def keys(self, *keys: str) -> None:
        self._xdotool("key", "--delay", "60", *keys)

    def type(self, text: str) -> None:
        self._xdotool("type", "--delay", "20", text)

    def _xdotool(self, *command: str) -> str:
        done = subprocess.run(
            ["xdotool", *command], env=self._environment, capture_output=True, text=True, timeout=PATIENCE, check=True
        )
        return done.stdout

    @property
    def focus(self) -> str:
        return str(self.evaluate("document.activeElement.ariaLabel || document.activeElement.textContent"))

    @property
    def shown(self) -> str:
        return str(self.evaluate("document.getElementById('log').innerText"))


def until(holds: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, f"Never: {what}"
        time.sleep(0.1)
    print(what, flush=True)


@contextmanager
def firefox(folder: Path) -> Iterator[Firefox]:
    program = shutil.which("firefox") or shutil.which("firefox-esr")
    assert program, "Firefox is not on the PATH"
    with ExitStack() as stack:
        reading, writing = os.pipe()
        screen = ["Xvfb", "-displayfd", str(writing), "-screen", "0", "1200x900x24", "-nolisten", "tcp"]
        x_server = stack.enter_context(subprocess.Popen(screen, pass_fds=[writing], stderr=subprocess.DEVNULL))
        stack.callback(x_server.terminate)
        display = f":{os.read(reading, 16).decode().strip()}"
        command = [program, "--new-instance", "--profile", str(folder), "--remote-debugging-port", "0", "about:blank"]
        environment = {**os.environ, "HOME": str(folder), "DISPLAY": display, "MOZ_DISABLE_CONTENT_SANDBOX": "1"}
        browser = stack.enter_context(
            subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        )
        stack.callback(browser.terminate)
        assert browser.stderr
        address = next(line.split()[-1] for line in browser.stderr if "WebDriver BiDi listening on" in line)
        socket = stack.enter_context(connect(f"{address}/session", max_size=None, proxy=None, open_timeout=PATIENCE))
        yield Firefox(display, socket)


def main() -> None:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, ExitStack() as stack:
        url = stack.enter_context(uvicorn_socket(Server({"payer": payer}, page=True)))
        browser = stack.enter_context(firefox(Path(folder)))
        print(browser.evaluate("navigator.userAgent"), flush=True)
        browser.open(f"{url}/ui/")
        until(
            lambda: browser.focus == "Message" and browser.evaluate("document.hasFocus()"), "The field has the focus."
        )
        until(lambda: browser.evaluate("document.getElementById('model').value") == "payer", "The agent is chosen.")
        for turn, press in ((0, "Return"), (2, "space")):
            browser.type("Pay for lunch")
            browser.keys("Return")
            until(
                lambda: browser.focus == "May the agent run pay?",
                "The question has the focus, and none of its buttons.",
            )
            browser.keys(press)
            for name in ORDER:
                browser.keys("Tab")
                until(lambda name=name: browser.focus == name, f"Tab: {name}.")
            browser.keys(*["shift+Tab"] * 4)
            until(
                lambda: browser.focus == ORDER[0], f"Back at: {ORDER[0]}. {press} on the question has allowed nothing."
            )
            assert browser.evaluate("document.querySelectorAll('.turn').length") == turn + 1
            browser.keys(press)
            done = f"document.querySelectorAll('.turn .foot').length === {turn + 2}"
            until(lambda done=done: browser.evaluate(done), f"Allowed by {press}.")
            assert browser.shown.count("approved True, always False") == turn // 2 + 1
            until(lambda: browser.focus == "Message", "The field has the focus again.")


if __name__ == "__main__":
    sys.exit(main())
