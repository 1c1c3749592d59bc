"""A page in headless Chromium, driven by the DevTools protocol over its WebSocket."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import httpx2
from websockets.sync.client import ClientConnection, connect

from tests.clients.programs import need

CHROMIUM = (
    "chromium",
    "--headless",
    "--no-sandbox",  # CI runs as root, for whom Chromium's sandbox does not work
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--no-first-run",
    "--no-proxy-server",
    "--log-level=3",
    "--remote-debugging-port=0",
)
PATIENCE = 15  # seconds


class Page:
    """A browser page: `do` runs a DevTools command, `event` waits for a reported event."""

    def __init__(self, devtools: ClientConnection) -> None:
        self._devtools = devtools
        self._numbers = count(1)
        self._events: list[dict[str, Any]] = []
        for domain in ("Page", "Network"):
            self.do(f"{domain}.enable")
        self.do("Page.setLifecycleEventsEnabled", enabled=True)

    def do(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._numbers)
        self._devtools.send(json.dumps({"id": number, "method": method, "params": params}))
        deadline = time.monotonic() + PATIENCE
        while (message := self._receive(deadline)).get("id") != number:
            self._events.append(message)
        assert "error" not in message, message
        return dict(message["result"])

    def event(self, method: str, **wanted: Any) -> dict[str, Any]:
        """The next unread event since the page was opened that has this name and these parameters."""
        deadline = time.monotonic() + PATIENCE
        while True:
            for event in self._events:
                if event.get("method") == method and event["params"].items() >= wanted.items():
                    self._events.remove(event)
                    return dict(event["params"])
            self._events.append(self._receive(deadline))

    def open(self, url: str) -> None:
        """Open the URL and wait until the page is loaded."""
        self._events.clear()
        loader = self.do("Page.navigate", url=url)["loaderId"]
        self.event("Page.lifecycleEvent", name="load", loaderId=loader)

    def evaluate(self, script: str) -> Any:
        """The value of a JavaScript expression; a promise is awaited."""
        done = self.do("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    def type(self, text: str) -> None:
        """Type the text into the focused element, then press Enter."""
        self.do("Input.insertText", text=text)
        enter = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13}
        self.do("Input.dispatchKeyEvent", type="keyDown", text="\r", **enter)
        self.do("Input.dispatchKeyEvent", type="keyUp", **enter)

    def _receive(self, deadline: float) -> dict[str, Any]:
        return dict(json.loads(self._devtools.recv(timeout=max(0, deadline - time.monotonic()))))


@contextmanager
def chromium(profile: Path) -> Iterator[Page]:
    """An empty page of a browser whose profile folder is `profile`."""
    need("chromium")
    command = [*CHROMIUM, f"--user-data-dir={profile}", "about:blank"]
    env = {**os.environ, "HOME": str(profile)}
    with subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            with connect(_new_page(process), max_size=None, proxy=None) as devtools:
                yield Page(devtools)
        finally:
            process.kill()


def _new_page(process: subprocess.Popen[str]) -> str:
    """The DevTools address of a new page. Chromium prints its own address to stderr once it listens."""
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if line.startswith("DevTools listening on ws://"):
            with httpx2.Client(trust_env=False, timeout=PATIENCE) as http:
                answer = http.put(f"http://{line.split('/')[2]}/json/new?about:blank")
            return str(answer.json()["webSocketDebuggerUrl"])
    raise AssertionError("".join(said))
