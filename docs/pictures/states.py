"""Screenshots of every state of the page, for those who change it: for review, not to be committed."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from docs.pictures.page import QUESTION, Camera
from openai_compat import Server
from openai_compat_adapters._cli.demo_agents import agents
from tests.clients.browser import chromium
from tests.clients.page_agents import AGENTS, png
from tests.transports import uvicorn_socket

TOOLS = [{"type": "function", "name": "get_weather", "parameters": {"type": "object", "properties": {}}}]
WISHES: dict[str, dict[str, str]] = {
    "light": {},
    "dark": {"prefers_color_scheme": "dark"},
    "forced-colours": {"forced_colors": "active", "prefers_color_scheme": "dark"},
    "still": {"prefers_reduced_motion": "reduce"},
}


def answers(camera: Camera, look: str) -> None:
    """A turn of the researcher from beginning to end, with a decision."""
    camera.shoot(f"{look}-empty")
    camera.say(QUESTION, until="document.querySelector('.think')")
    camera.shoot(f"{look}-thinking")
    camera.wait("document.querySelector('.tool')")
    camera.shoot(f"{look}-tool-running")
    camera.wait("document.querySelector('table')")
    camera.shoot(f"{look}-streaming")
    camera.wait("document.querySelector('.foot')")
    camera.shoot(f"{look}-asks")
    camera.click("#wire-toggle")
    camera.shoot(f"{look}-events")
    camera.click("#t-request")
    camera.shoot(f"{look}-request")
    camera.click("#t-code")
    camera.shoot(f"{look}-code")
    camera.click("#wire-close")
    camera.click(".ask .primary")
    camera.wait("document.querySelectorAll('.foot').length === 2")
    camera.page.evaluate("document.querySelectorAll('.tool').forEach((one) => { one.open = true; })")
    camera.shoot(f"{look}-allowed")


def failures(camera: Camera, look: str) -> None:
    """Failures, and an answer that the user stops."""
    camera.say("Book a room", "broken")
    camera.say("And a flight", "hidden", until="document.querySelectorAll('.foot').length === 2")
    camera.shoot(f"{look}-errors")
    camera.click("#new")
    camera.say("A story", "slow", until="document.querySelector('.md p')")
    camera.click("#stop")
    camera.wait("document.querySelector('.foot')")
    camera.shoot(f"{look}-stopped")
    camera.click("#new")


def more(camera: Camera, look: str) -> None:
    """Settings, a client tool, and pictures."""
    camera.click("#settings-open")
    camera.page.evaluate(f"document.querySelector('[name=tools]').value = {json.dumps(json.dumps(TOOLS))}")
    camera.shoot(f"{look}-settings")
    camera.click("#settings .primary")
    camera.say("Oslo", "weather")
    camera.shoot(f"{look}-client-tool")
    camera.page.evaluate("document.querySelector('.ask textarea').value = 'rain'")
    camera.click(".ask .primary")
    camera.wait("document.querySelectorAll('.foot').length === 2")
    camera.shoot(f"{look}-client-tool-answered")
    camera.click("#new")
    with tempfile.NamedTemporaryFile(suffix=".png") as picture:
        Path(picture.name).write_bytes(png())
        root = camera.page.do("DOM.getDocument")["root"]["nodeId"]
        node = camera.page.do("DOM.querySelector", nodeId=root, selector="#attach")["nodeId"]
        camera.page.do("DOM.setFileInputFiles", nodeId=node, files=[picture.name])
        camera.wait("document.querySelector('#files li')")
    camera.shoot(f"{look}-attached")
    camera.say("Look", "painter")
    camera.shoot(f"{look}-pictures")


def main(images: Path) -> None:
    """Make the pictures in a temporary folder, and print its path."""
    del images
    seen = Path(tempfile.mkdtemp(prefix="page-"))
    everybody = {**agents, **AGENTS, "researcher": agents["researcher"]}
    with tempfile.TemporaryDirectory() as profile, chromium(Path(profile)) as page:
        with uvicorn_socket(Server(everybody, page=True)) as url:
            camera = Camera(page, f"{url}/ui/", seen)
            for look, wishes in WISHES.items():
                camera.open(**wishes)
                answers(camera, look)
                camera.click("#new")
                failures(camera, look)
                more(camera, look)
            camera.open(width=390, height=780)
            answers(camera, "phone")
        with uvicorn_socket(Server(everybody, page=True, keys="sk-secret")) as url:
            camera = Camera(page, f"{url}/ui/", seen)
            camera.page.open(camera.url)
            camera.wait("document.querySelector('#settings[open]')")
            camera.shoot("key")
    print(seen)
