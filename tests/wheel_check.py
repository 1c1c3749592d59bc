"""Check the wheel, in an environment with nothing else of ours: it is complete, and it serves."""

from __future__ import annotations

import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import openai

import openai_compat
import openai_compat_adapters


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def main() -> None:
    port = free_port()
    for package in (openai_compat, openai_compat_adapters):
        folder = Path(package.__file__ or "").parent
        assert "site-packages" in folder.parts, f"{folder} is not the installed wheel"
        assert (folder / "py.typed").exists(), f"{folder} has no py.typed"
    program = Path(sys.executable).with_name("openai-compat")
    subprocess.run([program, "init", "written.py", "--with", "strands"], check=True)
    assert "def agent() -> Agent:" in Path("written.py").read_text("utf-8")
    Path("agent.py").write_text("def echo(prompt: str) -> str:\n    return 'echo ' + prompt\n", "utf-8")
    command = [program, "serve", "agent:echo", "--listen", f"127.0.0.1:{port}"]
    with subprocess.Popen(command) as served:
        try:
            client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="any", max_retries=8)
            answer = client.chat.completions.create(model="echo", messages=[{"role": "user", "content": "hi"}])
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/ui/page.js") as script:
                assert b"import" in script.read()
        finally:
            served.terminate()
    assert answer.choices[0].message.content == "echo hi", answer
    assert served.returncode == 0, served.returncode
    print("the wheel serves")


main()
