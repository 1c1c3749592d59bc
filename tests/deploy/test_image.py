"""The steps of the shipped Dockerfile, and its program as it would run in a container."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import openai
import pytest

from tests.clients.programs import need
from tests.deploy.image import Stage, build, uv
from tests.docs.served import EXAMPLES, PATIENCE, ROOT, Program, free_port

pytestmark = pytest.mark.timeout(240)  # installs packages


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    """The image, with this checkout as the library."""
    folder = tmp_path_factory.mktemp("image")
    wheels = folder / "wheels"
    subprocess.run([uv(), "build", "--quiet", "--wheel", "--out-dir", str(wheels), str(ROOT)], check=True)
    return build(EXAMPLES / "deploy", folder / "stages", wheels=wheels)


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def program(image: Stage, port: int) -> Iterator[Program]:
    argv = [word.replace("8083", str(port)) for word in image.entrypoint]
    command = image.command(argv, OPENAI_COMPAT_API_KEY_ENV="AGENTS_KEY", AGENTS_KEY="sk-alpha")
    running = Program(command, port, ROOT, {"PATH": "/usr/bin:/bin"})
    try:
        running.wait_until(running.listens)
        yield running
    finally:
        running.stop()


def healthy(image: Stage, port: int) -> bool:
    argv = [word.replace("8083", str(port)) for word in image.healthcheck]
    return subprocess.run(image.command(argv), check=False, capture_output=True, timeout=PATIENCE).returncode == 0


def test_the_image_serves_as_a_normal_user_from_a_tree_that_is_read_only(
    image: Stage, port: int, program: Program
) -> None:
    with openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="sk-alpha", max_retries=0) as client:
        messages = [{"role": "user", "content": "Ada"}]
        stream = client.chat.completions.create(model="assistant", messages=messages, stream=True)
        pieces = [chunk.choices[0].delta.content or "" for chunk in stream]
        with pytest.raises(openai.AuthenticationError):
            client.with_options(api_key="sk-other").models.list()
    refused = subprocess.run(
        image.command(["sh", "-c", "id -u; touch /app/agents.py /venv/bin/new"]),
        capture_output=True,
        text=True,
        check=False,
    )

    assert "".join(pieces) == "You have said 1 thing, the last one was: Ada"
    assert healthy(image, port)
    assert not healthy(image, free_port())
    assert refused.stdout == "10001\n"
    assert refused.stderr.count("Read-only file system") == 2
    library = next(image.root.glob("venv/lib/python*/site-packages/openai_compat"))
    assert (library / "server.py").read_bytes() == (ROOT / "openai_compat" / "server.py").read_bytes()
    assert list((library / "__pycache__").glob("server.*.pyc"))


def test_sigterm_reaches_the_server_of_the_image_and_not_a_shell_before_it(port: int, program: Program) -> None:
    # The server listens before it serves; requests wait meanwhile.
    urlopen(f"http://127.0.0.1:{port}/healthz", timeout=PATIENCE).close()
    (first,) = Path(f"/proc/{program.pid}/task/{program.pid}/children").read_text().split()
    os.kill(int(first), signal.SIGTERM)

    assert program.ended() == 0
    assert json.loads(program.output.splitlines()[-1])["message"] == "stopped"


def test_sigterm_ends_the_first_process_of_a_container_also_while_it_starts(tmp_path: Path) -> None:
    need("bwrap")
    (tmp_path / "agent.py").write_text("import time\nprint('starts', flush=True)\ntime.sleep(60)\n")
    container = ["bwrap", "--dev-bind", "/", "/", "--unshare-pid", "--as-pid-1", "--die-with-parent"]
    command = [*container, sys.executable, "-m", "openai_compat", "serve", "agent.py"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE) as starting:
        assert starting.stdout is not None
        assert starting.stdout.readline() == b"starts\n"
        (first,) = Path(f"/proc/{starting.pid}/task/{starting.pid}/children").read_text().split()
        os.kill(int(first), signal.SIGTERM)
        assert starting.wait(PATIENCE) == 128 + signal.SIGTERM
