"""Commands in the sandbox cannot reach the rest of the system. Real `bwrap` throughout."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from openai_compat.testing import ScriptedBackend
from openai_compat.tools import AgentTool, Bubblewrap, CallResult, Command, ToolContext, ToolLoop, command_tool, tool
from openai_compat.tools.call_tool import call_tool
from tests.backends.support import alive, until
from tests.requirements import requirement
from tests.tools.support import call, new_context, request_for, results, run

pytestmark = pytest.mark.anyio


def _can_sandbox() -> bool:
    """True if `bwrap` is installed, and the kernel or the container allows namespaces."""
    bwrap = shutil.which("bwrap")
    made = [bwrap, "--ro-bind", "/", "/", "--unshare-all", "true"] if bwrap else ["false"]
    return subprocess.run(made, capture_output=True, timeout=30, check=False).returncode == 0


needs_bwrap = pytest.mark.skipif(not _can_sandbox(), reason="'bwrap' is not installed, or may not make namespaces here")
SH = command_tool("sh", "Runs a shell, which only the sandbox makes harmless.", prefix=["sh", "-c"])


async def inside(sandbox: Bubblewrap, script: str, tool: AgentTool = SH) -> CallResult:
    context = ToolContext("c", request_for(), new_context(), sandbox)
    with anyio.fail_after(30):
        return await call_tool(tool, tool.check(json.dumps({"args": [script]})), context)


@needs_bwrap
async def test_a_command_runs_and_writes_to_a_tmp_of_its_own(tmp_path: Path) -> None:
    sandbox = Bubblewrap()

    assert (await inside(sandbox, "pwd; echo hi > /tmp/note; cat /tmp/note")).text == "/tmp\nhi"
    assert (await inside(sandbox, "cat /tmp/note")).is_error
    assert not Path("/tmp/note").exists()


@needs_bwrap
@pytest.mark.parametrize("place", ["/usr/x", "/etc/x", "/x", "/bin/x", "/home/x"])
async def test_a_command_cannot_write_to_the_machine(place: str) -> None:
    said = await inside(Bubblewrap(), f"mkdir -p $(dirname {place}) && echo x > {place}")

    assert said.is_error
    assert not Path(place).exists()


@needs_bwrap
async def test_a_command_cannot_read_what_is_not_the_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hunter2")
    monkeypatch.setenv("MY_SECRET", "hunter2")

    said = await inside(Bubblewrap(), f"cat {secret}; ls /root /home /var /run /srv; env; cat /etc/shadow; exit 1")

    assert "hunter2" not in said.text
    assert "root:" not in said.text


@needs_bwrap
async def test_the_work_directory_is_there_to_write_or_only_to_read(tmp_path: Path) -> None:
    (tmp_path / "in").write_text("here")

    assert (await inside(Bubblewrap(tmp_path), "pwd; cat in; echo out > out")).text == f"{tmp_path}\nhere"
    assert (tmp_path / "out").read_text() == "out\n"
    assert (await inside(Bubblewrap(tmp_path, writable=False), "echo more > more")).is_error
    assert not (tmp_path / "more").exists()


@needs_bwrap
async def test_a_command_may_have_a_directory_of_its_own_within_the_sandbox(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    there = command_tool("sh", "Runs.", prefix=["sh", "-c"], cwd=tmp_path / "below")

    assert (await inside(Bubblewrap(tmp_path), "pwd", there)).text == str(tmp_path / "below")
    assert (await inside(Bubblewrap(), "pwd", there)).is_error


@needs_bwrap
async def test_further_paths_can_be_read_and_not_written(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("here")
    sandbox = Bubblewrap(read_only=[tmp_path / "data"])

    assert (await inside(sandbox, f"cat {tmp_path / 'data'}")).text == "here"
    assert (await inside(sandbox, f"echo x > {tmp_path / 'data'}")).is_error
    assert (tmp_path / "data").read_text() == "here"


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@needs_bwrap
async def test_a_command_has_no_network_unless_it_was_given_one(listener: socket.socket) -> None:
    perl = command_tool("perl", "Runs.", prefix=["/usr/bin/perl", "-MIO::Socket::INET", "-e"])
    port = listener.getsockname()[1]
    script = f"print IO::Socket::INET->new(PeerAddr => '127.0.0.1:{port}') ? 'connected' : 'refused'"

    assert (await inside(Bubblewrap(), script, perl)).text == "refused"
    assert (await inside(Bubblewrap(network=True), script, perl)).text == "connected"


@needs_bwrap
async def test_a_command_sees_no_process_but_its_own_and_has_no_privileges() -> None:
    said = await inside(Bubblewrap(), "ls -d /proc/[0-9]* | wc -l; grep CapEff /proc/self/status")
    count, capabilities = said.text.splitlines()

    assert int(count) < 8
    assert capabilities.split()[1] == "0" * 16


@needs_bwrap
async def test_what_takes_too_long_in_the_sandbox_is_gone_with_everything_it_started() -> None:
    mark = "31.4159"
    slow = command_tool("sh", "Runs.", prefix=["sh", "-c"], timeout=1.0)

    said = await inside(Bubblewrap(), f"setsid sleep {mark} & sleep {mark}", slow)

    def sleepers() -> list[int]:
        lines = {int(path.name): path / "cmdline" for path in Path("/proc").iterdir() if path.name.isdigit()}
        return [pid for pid, line in lines.items() if alive(pid) and mark in _read(line)]

    assert said == CallResult("The tool did not end within 1 seconds, and was stopped.", is_error=True)
    await until(lambda: not sleepers())


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""


@needs_bwrap
async def test_the_sandbox_mode_runs_commands_there_and_nothing_that_cannot() -> None:
    def plain() -> str:
        return "outside"

    @tool(danger="safe")
    def harmless() -> str:
        return "harmless"

    model = ScriptedBackend([call("a", "sh", args=["pwd"]), call("b", "plain"), call("c", "harmless")], ["Done."])
    loop = ToolLoop(model, [SH, plain, harmless], security="sandbox", sandbox=Bubblewrap())
    said = {result.call_id: result for result in results(await run(loop))}

    assert said["a"].output == "/tmp"
    assert said["b"].output == "Denied: Tools may be used in a sandbox only, and this one cannot run there."
    assert said["c"].output == "harmless"


async def test_a_machine_without_bwrap_is_told_so_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match=r"'bwrap' is not installed \(Debian: `apt install bubblewrap`\)"):
        Bubblewrap()


async def test_a_machine_where_no_sandbox_can_be_made_is_told_so_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho 'No permissions to create new namespace' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(RuntimeError, match="cannot make a sandbox on this machine: No permissions"):
        Bubblewrap()


async def test_a_directory_that_does_not_exist_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no"):
        Bubblewrap(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="there is no"):
        Bubblewrap(read_only=[tmp_path / "nowhere"])


class Marked:
    """A custom sandbox: any object that wraps a command."""

    def wrap(self, command: Command) -> Command:
        return Command(["env", "INSIDE=yes", *command.argv], command.env, command.cwd)


async def test_a_sandbox_of_ones_own_wraps_the_command() -> None:
    model = ScriptedBackend([call("a", "sh", args=["echo $INSIDE"])], ["Done."])

    (result,) = results(await run(ToolLoop(model, [SH], security="sandbox", sandbox=Marked())))

    assert result.output == "yes"


@needs_bwrap
@requirement("sandbox.keys")
async def test_a_command_sees_certificates_and_no_private_keys() -> None:
    made: list[Path] = []
    pem = "-----BEGIN PRIVATE KEY-----\nhush-hush\n-----END PRIVATE KEY-----\n"
    try:
        for name, text, mode in [
            ("private/oc-test.key", "hush-hush", 0o644),
            ("oc-test.key", "hush-hush", 0o644),
            ("certs/oc-test-both.pem", pem, 0o644),
            ("certs/oc-test-hidden.key", "hush-hush", 0o640),
            ("certs/oc-test-plain.pem", "a certificate\n", 0o644),
        ]:
            path = Path("/etc/ssl", name)
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
            path.chmod(mode)
            made.append(path)
    except OSError:
        pytest.skip("only root can put keys where servers have them")
    else:
        said = await inside(Bubblewrap(), "cd /etc/ssl; grep -rl hush-hush . 2>/dev/null; cat certs/oc-test-plain.pem")
    finally:
        for path in made:
            path.unlink(missing_ok=True)

    assert said.text == "a certificate"
