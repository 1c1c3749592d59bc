"""The reference names every frame, and the example page is a working program."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from openai_compat.wire.chat_websocket import serialize as chat_frames
from openai_compat.wire.chat_websocket.parse import FRAME_MODELS
from tests.clients.programs import need

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/reference/chat-websocket.md").read_text("utf-8")


def rows(title: str) -> set[str]:
    """The names in the first column of a section's table."""
    section = PAGE.split(f"## {title}\n")[1].split("\n## ")[0]
    return {
        name for row in re.findall(r"^\| ([^|]+) \|", section, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)
    }


def test_every_frame_of_the_client_is_in_the_table() -> None:
    assert rows("From the client") == set(FRAME_MODELS)


def test_every_frame_of_the_server_is_in_the_table() -> None:
    folder = Path(chat_frames.__file__).parents[2]
    sources = [folder / "wire/chat_websocket/serialize.py", *(folder / "api/chat_websocket").glob("*.py")]
    written = {kind for path in sources for kind in re.findall(r'"type": "(\w+)"', path.read_text("utf-8"))}
    assert rows("From the server") == (written | set(chat_frames.WORKFLOW_FRAMES.values())) - {"function"}


def test_every_reason_for_stopping_is_named() -> None:
    for reason in chat_frames.STOP_MESSAGES:
        assert f"`{reason}`" in PAGE


def test_the_example_page_is_a_program(tmp_path: Path) -> None:
    need("node")
    (script,) = re.findall(r"<script>\n(.*)</script>", (ROOT / "examples/chat_page.html").read_text("utf-8"), re.DOTALL)
    (tmp_path / "page.mjs").write_text(script, "utf-8")
    subprocess.run(["node", "--check", "page.mjs"], cwd=tmp_path, timeout=20, check=True)
