"""Commands as agents, and every way in which they can end. Number 181 of the list of faults, behind a server."""

from __future__ import annotations

import sys
from pathlib import Path

import httpx2
import pytest

from openai_compat import Deadlines, Limits, Server
from openai_compat.backends.subprocess import Grace, SubprocessBackend
from tests.backends.support import alive, pids
from tests.transports import uvicorn_socket
from tests.trust.probe import CHAT, ask, error_of, eventually, frames, text_of

WELL = "import sys\nprint('all is well')"
CHILD = "import subprocess, sys\nchild = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']{})\n"
FATES: dict[str, tuple[str, int]] = {
    "kills itself": ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", 502),
    "exits with 1": ("raise SystemExit(1)", 502),
    "is ended by a signal in the middle": (
        "import os, signal\nprint('so far', flush=True)\nos.kill(os.getpid(), signal.SIGTERM)",
        502,
    ),
    "hangs": ("import time\ntime.sleep(60)", 504),
    "hangs and ignores SIGTERM": (
        "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nopen(sys.argv[1] + '/ready', 'w')\ntime.sleep(60)",
        504,
    ),
    "floods stderr with 100 MB": (
        "import sys\nfor _ in range(1600): sys.stderr.write('x' * 65535 + '\\n')\nprint('all is well')",
        200,
    ),
    "floods stderr and fails": ("import sys\nfor _ in range(200): sys.stderr.write('x' * 65535)\nsys.exit(3)", 502),
    "leaves a grandchild that holds its output": (CHILD.format("") + "NOTE(child.pid)\nprint('all is well')", 200),
    "leaves a grandchild and fails": (CHILD.format("") + "NOTE(child.pid)\nsys.exit(1)", 502),
    "hangs with a grandchild": (CHILD.format("") + "NOTE(child.pid)\nchild.wait()", 504),
}
PROLOGUE = """
import os, sys
def NOTE(pid):
    with open(sys.argv[1] + "/pids", "a") as notes:
        notes.write(f"{pid} ")
NOTE(os.getpid())
if sys.stdin.read() == "be well":
    print("all is well")
    sys.exit()
"""


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize("fate", FATES)
def test_whatever_a_command_does_its_turn_ends_its_processes_are_gone_and_the_next_turn_is_right(
    tmp_path: Path, fate: str, stream: bool
) -> None:
    """181: failed turns do not end with `stop`, and reveal nothing of stderr"""
    code, status = FATES[fate]
    (tmp_path / "command.py").write_text(PROLOGUE + code, "utf-8")
    command = [sys.executable, "-S", str(tmp_path / "command.py"), str(tmp_path)]
    agent = SubprocessBackend(command, grace=Grace(end=0.5, kill=0.3))
    server = Server(agent, limits=Limits(slots=1), deadlines=Deadlines(request=2 if status == 504 else 30, head=60))
    with uvicorn_socket(server) as url, httpx2.Client(base_url=url, timeout=30) as client:
        answer = client.post(CHAT, json=ask(stream=stream))
        if status != 200 and answer.status_code == 200:
            *said, error = frames(answer.content)
            assert (text_of(said), error["error"]["code"]) == ("so far", "agent_command_failed")
            assert 'finish_reason":"' not in answer.text
        elif status != 200:
            assert error_of(answer)[:2] == (status, "server_error")
            assert answer.headers["x-should-retry"] == "false"
        else:
            assert "all is well" in answer.text
        eventually(lambda: server.services.live.slots.used == 0)
        eventually(lambda: not [pid for pid in pids(tmp_path / "pids") if alive(pid)])
        following = client.post(CHAT, json=ask(messages=[{"role": "user", "content": "be well"}]))
    assert following.json()["choices"][0]["message"]["content"] == "all is well"
