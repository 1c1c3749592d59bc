"""Open WebUI's page, as a person uses it."""

from __future__ import annotations

import json
from pathlib import Path

from tests.clients.browser import Page
from tests.clients.heavy.started import eventually

LATEST = "[...document.querySelectorAll('[role=listitem]')].at(-1)"
"""The last message: a person's, or the answers side by side."""


class WebuiPage:
    """A chat in the page. Its messages are what people see of them."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        page.do("Emulation.setDeviceMetricsOverride", width=1100, height=750, deviceScaleFactor=1, mobile=False)

    def new_chat(self, *models: str) -> None:
        """Begin a chat with these models, of which each answers every message."""
        self.page.open(f"{self.url}/?models={','.join(models)}")
        self.wait("document.querySelector('#chat-input')")
        self.wait(f"document.body.innerText.includes({json.dumps(''.join(models[:1]))})")

    def close_news(self) -> None:
        """Close what is told of a new version, some time after the page was opened for the first time."""
        self.new_chat()
        self.click("Okay, Let's Go!")

    def say(self, text: str) -> None:
        """Type it, and Enter."""
        before = f"document.querySelectorAll('.message-listitem').length > {self._count()}"
        self.page.evaluate("document.querySelector('#chat-input').focus(), 0")
        self.page.type(text)
        self.wait(before)

    def ask(self, text: str) -> str:
        """Say it, and wait for the end of all answers: the last of them."""
        self.say(text)
        return self.answer()

    def answer(self, answers: int = 1) -> str:
        """The last message, once so many models have ended their answers."""
        self.wait(f"{LATEST}?.querySelectorAll('[aria-label=Regenerate]').length >= {answers}")
        return self.latest()

    def latest(self) -> str:
        """What the last message shows now."""
        return str(self.page.evaluate(f"{LATEST}?.innerText ?? ''"))

    def shows(self, text: str) -> None:
        """Wait until the last message shows it."""
        self.wait(f"{LATEST}?.innerText.includes({json.dumps(text)})")

    def click(self, label: str) -> None:
        """The last button with this name, once it is there."""
        named = f"[...document.querySelectorAll('button')].filter((b) => (b.ariaLabel || b.innerText) === {json.dumps(label)})"
        self.wait(f"{named}.length")
        self.page.evaluate(f"{named}.at(-1).click(), 0")

    def attach(self, file: Path) -> None:
        """Attach a file to the next message, as if it had been chosen in the dialog, and wait until it is uploaded."""
        document = self.page.do("DOM.getDocument")["root"]["nodeId"]
        field = self.page.do("DOM.querySelector", nodeId=document, selector="input[type=file]")["nodeId"]
        self.page.do("DOM.setFileInputFiles", nodeId=field, files=[str(file)])
        shown = f"document.querySelector('form').innerText.includes({json.dumps(file.name)})"
        self.wait(f"document.querySelector('form img') || {shown}")
        self.wait("!document.querySelector('form svg.animate-spin, form .spinner_ajPY')")

    def wait(self, condition: str) -> None:
        """Until the condition holds."""
        eventually(lambda: self.page.evaluate(f"!!({condition})"), self._told)

    @property
    def title(self) -> str:
        """The chat's, in the tab."""
        return str(self.page.evaluate("document.title")).removesuffix(" / Open WebUI")

    def _told(self) -> str:
        return str(self.page.evaluate("document.body.innerText"))

    def _count(self) -> int:
        return int(self.page.evaluate("document.querySelectorAll('.message-listitem').length"))
