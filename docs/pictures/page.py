"""Makes docs/img/page-*.png: screenshots of `openai-compat demo` in Chromium.

The times in them differ from run to run, so the files are not reproducible to the byte.
"""

from __future__ import annotations

import base64
import io
import json
import tempfile
from pathlib import Path

from PIL import Image

from docs.pictures.programs import demo
from tests.clients.browser import Page, chromium

QUESTION = "How do I get from Oslo to Bergen?"
TOOLS = [{"type": "function", "name": "get_weather", "parameters": {"type": "object", "properties": {}}}]
COLOURS = 64
"""Colours per picture: enough for a page of text, at a third of the size."""

ENDED = "document.querySelector('.turn:last-child .foot')"


class Camera:
    """The page in a window of a given size, for a user with given preferences about colours and motion."""

    def __init__(self, page: Page, url: str, folder: Path) -> None:
        self.page = page
        self.url = url
        self.folder = folder

    def open(self, width: int = 1000, height: int = 720, **wishes: str) -> None:
        """Reload the page; `wishes` are CSS media features, such as `prefers_color_scheme="dark"`."""
        features = [{"name": name.replace("_", "-"), "value": value} for name, value in wishes.items()]
        phone = width < 500
        self.page.do("Emulation.setEmulatedMedia", features=features)
        self.page.do("Emulation.setTouchEmulationEnabled", enabled=phone)
        self.page.do(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone
        )
        self.page.open(self.url)
        self.page.evaluate("sessionStorage.clear()")
        self.page.open(self.url)
        self.wait("document.querySelector('#model option')")

    def wait(self, condition: str) -> None:
        """Wait until the condition holds and is drawn."""
        self.page.evaluate(f"""new Promise((done) => {{
            const drawn = () => requestAnimationFrame(() => requestAnimationFrame(done));
            const look = () => {condition} ? drawn() : setTimeout(look, 10);
            look();
        }}).then(() => 0)""")

    def say(self, text: str, model: str = "researcher", until: str = ENDED) -> None:
        choose = f"field.value = {json.dumps(model)}; field.dispatchEvent(new Event('change'))"
        self.page.evaluate(f"(() => {{ const field = document.getElementById('model'); {choose} }})()")
        self.page.evaluate("document.getElementById('prompt').focus()")
        self.page.do("Input.insertText", text=text)
        self.click("#send")
        self.wait(until)

    def click(self, selector: str) -> None:
        self.page.evaluate(f"document.querySelector({json.dumps(selector)}).click()")

    def shoot(self, name: str) -> None:
        self.wait("true")
        shot = self.page.do("Page.captureScreenshot", format="png")
        picture = Image.open(io.BytesIO(base64.b64decode(shot["data"]))).convert("RGB")
        few = picture.quantize(COLOURS, dither=Image.Dither.NONE)
        few.save(self.folder / f"{name}.png", optimize=True)


def main(images: Path) -> None:
    with tempfile.TemporaryDirectory() as profile, demo() as url, chromium(Path(profile)) as page:
        camera = Camera(page, f"{url}/ui/", images)
        for name, wishes in {"light": {}, "dark": {"prefers_color_scheme": "dark"}}.items():
            camera.open(height=840, **wishes)
            camera.say(QUESTION)
            camera.shoot(f"page-{name}")
        camera.open(width=1100)
        camera.say(QUESTION)
        camera.click("#wire-toggle")
        camera.shoot("page-events")
        camera.click("#t-code")
        camera.shoot("page-code")
        camera.open(width=390, height=780)
        camera.say(QUESTION)
        camera.shoot("page-phone")
