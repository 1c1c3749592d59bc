"""Open WebUI's page, operated as a user would."""

from __future__ import annotations

import json
from pathlib import Path

from tests.clients.browser import Page
from tests.clients.heavy.started import eventually

LATEST = "[...document.querySelectorAll('[role=listitem]')].at(-1)"
"""The last message: the user's, or the answers side by side."""


class WebuiPage:
    """A chat on the page. Messages are read as people see them."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        page.do("Emulation.setDeviceMetricsOverride", width=1100, height=750, deviceScaleFactor=1, mobile=False)

    def new_chat(self, *models: str) -> None:
        """Begin a chat with these models; each of them answers every message."""
        self.page.open(f"{self.url}/?models={','.join(models)}")
        self.wait("document.querySelector('#chat-input')")
        self.wait(f"document.body.innerText.includes({json.dumps(''.join(models[:1]))})")

    def close_news(self) -> None:
        """Close the release notes, which appear some time after the first visit."""
        self.new_chat()
        self.click("Okay, Let's Go!")

    def say(self, text: str) -> None:
        """Type a message and press Enter."""
        before = f"document.querySelectorAll('.message-listitem').length > {self._count()}"
        self.page.evaluate("document.querySelector('#chat-input').focus(), 0")
        self.page.type(text)
        self.wait(before)

    def ask(self, text: str) -> str:
        """Send a message, wait for the end of all answers, and return the last one."""
        self.say(text)
        return self.answer()

    def answer(self, answers: int = 1) -> str:
        """The last message, once `answers` models have finished."""
        self.wait(f"{LATEST}?.querySelectorAll('[aria-label=Regenerate]').length >= {answers}")
        return self.latest()

    def latest(self) -> str:
        """The text that the last message shows now."""
        return str(self.page.evaluate(f"{LATEST}?.innerText ?? ''"))

    def shows(self, text: str) -> None:
        """Wait until the last message shows the text."""
        self.wait(f"{LATEST}?.innerText.includes({json.dumps(text)})")

    def click(self, label: str) -> None:
        """Click the last button with this name, once it exists."""
        named = f"[...document.querySelectorAll('button')].filter((b) => (b.ariaLabel || b.innerText) === {json.dumps(label)})"
        self.wait(f"{named}.length")
        self.page.evaluate(f"{named}.at(-1).click(), 0")

    def attach(self, file: Path) -> None:
        """Attach a file to the next message, as if chosen in the dialog, and wait for the upload."""
        document = self.page.do("DOM.getDocument")["root"]["nodeId"]
        field = self.page.do("DOM.querySelector", nodeId=document, selector="input[type=file]")["nodeId"]
        self.page.do("DOM.setFileInputFiles", nodeId=field, files=[str(file)])
        shown = f"document.querySelector('form').innerText.includes({json.dumps(file.name)})"
        self.wait(f"document.querySelector('form img') || {shown}")
        self.wait("!document.querySelector('form svg.animate-spin, form .spinner_ajPY')")

    def wait(self, condition: str) -> None:
        """Wait until the condition holds."""
        eventually(lambda: self.page.evaluate(f"!!({condition})"), self._told)

    @property
    def title(self) -> str:
        """The chat's title, in the tab."""
        return str(self.page.evaluate("document.title")).removesuffix(" / Open WebUI")

    def _told(self) -> str:
        return str(self.page.evaluate("document.body.innerText"))

    def _count(self) -> int:
        return int(self.page.evaluate("document.querySelectorAll('.message-listitem').length"))
