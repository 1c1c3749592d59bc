"""Plays `claude -p --output-format stream-json --verbose` for one session; words in the prompt script it.

Its arguments are a folder, where it records its requests, and Claude Code's own arguments.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


def say(**record: Any) -> None:
    print(json.dumps(record), flush=True)


def says(*blocks: dict[str, Any]) -> None:
    for number, block in enumerate(blocks):
        say(type="assistant", message={"id": f"msg_{os.getpid()}_{number}", "role": "assistant", "content": [block]})


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def note(folder: Path, prompt: str) -> None:
    """Record this session as one line, in a single write."""
    secret = os.environ.get("CLAUDEOPS_CHAT_API_KEY")
    line = json.dumps({"prompt": prompt, "arguments": sys.argv[2:], "pid": os.getpid(), "secret": secret})
    with (folder / "sessions.jsonl").open("a", encoding="utf-8") as sessions:
        sessions.write(line + "\n")


def main(folder: Path, prompt: str) -> int:
    note(folder, prompt)
    say(type="system", subtype="init", tools=["Bash"])
    final = "All services are healthy..."
    if prompt in ("What services are currently unhealthy?", "Check the health of all services"):
        final = "Checking all services..."
    if "hold" in prompt:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        says(text(f"holding with {child.pid} "))
        while not (folder / "go").exists():
            time.sleep(0.01)
        child.kill()
    if "look" in prompt:
        says(text("Looking. "), {"type": "tool_use", "id": "t1", "name": "Bash", "input": {"command": "docker ps"}})
        say(type="user", message={"content": [{"type": "tool_result", "tool_use_id": "t1", "content": "2 up"}]})
    if "fail" in prompt:
        print("secret stack trace", file=sys.stderr)
        return 1
    if "give up" in prompt:
        say(type="result", subtype="error_during_execution", is_error=True, result="secret reason")
        return 0
    says(text(final))
    say(type="result", subtype="success", is_error=False, result=final)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.stdin.read()))
