"""Messages on the troubleshooting page match those of the code."""

from __future__ import annotations

import ast
import re

from tests.docs.served import ROOT

HEADINGS = re.findall(r"^### `+ ?(.+?) ?`+$", (ROOT / "docs/troubleshooting.md").read_text("utf-8"), re.MULTILINE)


def texts() -> list[str]:
    """All string literals of the code, with … for interpolated values."""
    found: list[str] = []
    for folder in ("openai_compat", "adapters"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    parts = [part.value if isinstance(part, ast.Constant) else "…" for part in node.values]
                    found.append("".join(map(str, parts)))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.append(node.value)
    return found


def test_every_message_on_the_page_is_one_of_the_code() -> None:
    known = texts()
    parts = {part.strip() for heading in HEADINGS for part in re.split(r"…|(?<=\.) ", heading) if len(part.strip()) > 3}

    assert len(HEADINGS) > 20
    assert {part for part in parts if not any(part in text for text in known)} == set()
