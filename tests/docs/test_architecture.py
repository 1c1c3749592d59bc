"""The architecture page matches the code: its files exist, and a request goes through them."""

from __future__ import annotations

import re

import anyio

from benchmarks.house import FLOWS, walked
from tests.docs.served import ROOT

PAGE = (ROOT / "docs/explanation/architecture.md").read_text("utf-8")
WALK = PAGE.partition("## One streamed request")[2].partition("\n## ")[0]
ELSEWHERE = (
    "api/routes.py",
    "api/idempotency.py",
    "api/detach.py",
    "api/delivery.py",
    "wire/presentation.py",
    "wire/reducer.py",
    "state/conversation_locks.py",
    "adapters/openai_compat_adapters/starlette.py",
)
"""Files on the page that the watched request does not enter: read at start; for keys and for work without its client; for logged
streams, answers with more than text, and plain ones; for stored conversations; for transports other than the watched one.
"""
SENDING = {
    "http.py",
    "adapters/openai_compat_adapters/transport.py",
    "adapters/openai_compat_adapters/_in_process_call.py",
}
"""Files that the in-process client enters in place of an ASGI server."""


def test_every_path_on_the_page_is_there() -> None:
    paths = {path for path in re.findall(r"`([\w./]+)`", PAGE) if "/" in path[1:] or path.endswith((".py", ".yml"))}
    paths = {path for path in paths if not path.startswith("/")} - {"api/X", "wire/X", "wire/X/", "api/X/"}

    assert len(paths) > 60
    assert {
        path for path in paths if not any((base / path).exists() for base in (ROOT, ROOT / "openai_compat"))
    } == set()


def test_a_streamed_request_goes_through_the_files_that_are_named() -> None:
    entered = {str(path).removeprefix("openai_compat/") for path, _, _ in anyio.run(walked, FLOWS["chat"]).by_file()}
    named = set(re.findall(r"`([\w./]+\.py)`", WALK)) - {*ELSEWHERE, "wire/chat/request_types.py"}

    assert named | SENDING == entered


def test_the_plans_that_the_page_names_are_those_there_are() -> None:
    sources = {path: path.read_text("utf-8") for path in (ROOT / "openai_compat/api").rglob("*.py")}
    plans = {name for text in sources.values() for name in re.findall(r"^class (\w+)\(TurnPlan\[", text, re.MULTILINE)}

    assert set(re.findall(r"`(\w+Turn)`, `api/", PAGE)) == plans


def test_the_apis_that_the_page_names_have_the_two_rooms() -> None:
    for api in ("chat", "responses", "chat_rest", "chat_websocket", "anthropic_messages", "ollama"):
        assert f"`{api}`" in PAGE
        for half in ("api", "wire"):
            assert (ROOT / "openai_compat" / half / api).is_dir()
