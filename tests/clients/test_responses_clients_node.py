"""OpenAI's own JavaScript client on the Responses API, over a real socket and SQLite."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from tests.clients.programs import HERE, need_node_packages
from tests.clients.response_agents import server
from tests.transports import uvicorn_socket


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Results of all cases of responses_client.mjs."""
    need_node_packages()
    with uvicorn_socket(server(f"sqlite:///{tmp_path_factory.mktemp('clients') / 'state.db'}")) as url:
        command = ["node", str(HERE / "responses_client.mjs"), f"{url}/v1"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=40, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


SUNNY = "It is sunny in Paris, after 3 messages."
GONE = {"kind": "NotFoundError", "status": 404, "code": "response_not_found"}
RESUMED = {
    "status": "in_progress",
    "gaps": 0,
    "deltas": ["one ", "two"],
    "polled": "one two",
    "streamed": "one two",
    "replayedFrom": 5,
}


@pytest.mark.parametrize(
    ("case", "result"),
    [
        (
            "tools",
            {
                "kinds": ["reasoning", "function_call"],
                "call": ["weather", {"city": "Paris"}],
                "text": "It is sunny, after 3 messages.",
            },
        ),
        (
            "toolsStreamed",
            {
                "snapshots": ['{"city":', '{"city": "Paris"}'],
                "deltas": ["It is sunny, ", "after 3 messages."],
                "text": "It is sunny, after 3 messages.",
            },
        ),
        ("runner", SUNNY),
        ("runnerStreamed", {"text": SUNNY, "pieces": 2}),
        ("runnerApproves", {"asked": [["delete", '{"file": "a"}']], "text": 'Approved: True, state: {"step": 7}'}),
        (
            "ownTools",
            {
                "kinds": ["mcp_call", "message"],
                "call": ["search", '{"for": "it"}', "a needle"],
                "text": "Found it.",
            },
        ),
        ("parsed", {"name": "Ada", "age": 36}),
        ("background", RESUMED),
        ("cancelled", ["cancelled", "cancelled", GONE]),
        (
            "conversation",
            {
                "text": "heard: one / heard: one / two / heard: one / heard: one / two / three",
                "conversation": True,
                "listed": ["three"],
            },
        ),
        ("fails", {"text": "so far", "kind": "APIError", "status": None, "code": "invalid_prompt"}),
    ],
)
def test_the_javascript_client(found: Any, case: str, result: Any) -> None:
    assert found[case] == result
