"""OpenAI's own JavaScript client (npm `openai`) on conversations, files and embeddings, over a real socket."""

from __future__ import annotations

import json
import subprocess

from openai_compat import AgentRequest, Server
from openai_compat.messages import FilePart, UserMessage
from tests.clients.programs import HERE, need_node_packages
from tests.transports import uvicorn_socket


def agent(request: AgentRequest) -> str:
    last = request.messages[-1]
    assert isinstance(last, UserMessage)
    return ", ".join([str(part.file_data) for part in last.parts if isinstance(part, FilePart)]) or "heard"


def embed(texts: list[str]) -> list[list[float]]:
    return [[float(len(text)), 0.5] for text in texts]


def test_conversations_files_and_embeddings_are_as_the_client_expects_them() -> None:
    need_node_packages()
    with uvicorn_socket(Server(agent, keys="sk-right", embeddings={"small": embed})) as url:
        command = ["node", str(HERE / "kept_client.mjs"), f"{url}/v1"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    gone = {"status": 404, "code": "item_not_found", "param": "item_id"}
    missing = {"status": 404, "code": "file_not_found", "param": "file_id"}
    assert json.loads(done.stdout) == {
        "conversation": ["conversation", {"topic": "demo"}, True],
        "items": [4, True, gone],
        "file": [4, "bytes.bin", 3600, [0, 13, 10, 255], 1, True, missing],
        "answer": "data:application/octet-stream;base64,AA0K/w==",
        "embeddings": [[3.0, 0.5], [5.0, 0.5]],
    }
