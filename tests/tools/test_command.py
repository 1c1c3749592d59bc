"""Commands as tools: real processes, exact words, no shell, no leftover processes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import anyio
import pytest

from openai_compat import ToolCallReady
from openai_compat.testing import ScriptedBackend
from openai_compat.tools import AgentTool, CallResult, ToolContext, ToolLoop, command_tool
from openai_compat.tools.call_tool import call_tool
from tests.backends.support import alive, pids, until
from tests.tools.support import call, new_context, request_for, results, run

pytestmark = pytest.mark.anyio


async def outcome(tool: AgentTool, arguments: str) -> CallResult:
    with anyio.fail_after(30):
        return await call_tool(tool, tool.check(arguments), ToolContext("c", request_for(), new_context()))


def python(code: str, **settings: object) -> AgentTool:
    prefix = [sys.executable, "-S", "-c", "import os, signal, subprocess, sys, time\n" + code]
    return command_tool("python", "Runs.", prefix=prefix, **settings)


async def test_the_words_go_to_the_program_as_they_are() -> None:
    words = ["a b", "; rm -rf /", "$HOME", "`id`", "*", "'", '"', "&&", "\n", "-x"]

    said = await outcome(python("print(sys.argv[1:])"), json.dumps({"args": words}))

    assert said == CallResult(str(words))


async def test_without_a_prefix_the_model_names_the_program() -> None:
    anything = command_tool("run", "Runs any command.")

    assert await outcome(anything, '{"argv": ["echo", "hi", "$HOME"]}') == CallResult("hi $HOME")
    assert await outcome(anything, '{"argv": []}') == CallResult("A command needs a program.", is_error=True)
    assert await outcome(anything, '{"argv": [""]}') == CallResult("A command needs a program.", is_error=True)
    missing = await outcome(anything, '{"argv": ["no-such-program-here"]}')
    assert missing == CallResult("There is no such program.", is_error=True)
    assert (await outcome(anything, '{"argv": ["/etc/passwd"]}')).text == "The program may not be run."
    assert (await outcome(anything, '{"argv": ["echo", "\\u0000"]}')).is_error


async def test_the_model_gets_stdout_then_stderr_and_the_exit_code_of_a_failure() -> None:
    code = "sys.stderr.write('careful\\n'); print('done'); sys.exit(int(sys.argv[1]))"

    assert await outcome(python(code), '{"args": ["0"]}') == CallResult("done\ncareful")
    failed = CallResult("The command ended with exit code 3.\ndone\ncareful", is_error=True)
    assert await outcome(python(code), '{"args": ["3"]}') == failed
    assert await outcome(python(""), "{}") == CallResult("The command wrote nothing.")


async def test_stdin_is_empty_and_the_environment_is_a_list(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MY_SECRET", "hunter2")
    monkeypatch.setenv("MY_NAME", "ann")
    code = "print(repr(sys.stdin.read()), os.environ.get('MY_SECRET'), os.environ.get('MY_NAME'),"
    code += "os.environ.get('SET'), os.getcwd())"

    said = await outcome(python(code, pass_env=["MY_N*"], env={"SET": "yes"}, cwd=tmp_path), "{}")

    assert said.text == f"'' None ann yes {tmp_path}"


async def test_a_flood_is_read_to_its_end_and_cut_to_the_limit() -> None:
    flood = python("sys.stdout.write('x' * 5_000_000); sys.stderr.write('y' * 5_000_000)", output_limit=100)

    assert (await outcome(flood, "{}")).text == "x" * 100 + "\n[Cut off here, after 100 characters.]"


async def test_a_command_that_takes_too_long_is_gone_with_everything_it_started(tmp_path: Path) -> None:
    code = f"""
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"])
open({str(tmp_path / "pids")!r}, "w").write(f"{{os.getpid()}} {{child.pid}} ")
time.sleep(600)
"""
    late = await outcome(python(code, timeout=3.0), "{}")

    assert late == CallResult("The tool did not end within 3 seconds, and was stopped.", is_error=True)
    started = pids(tmp_path / "pids")
    assert len(started) == 2
    await until(lambda: not any(alive(pid) for pid in started))


async def test_a_turn_that_is_left_leaves_no_command_running(tmp_path: Path) -> None:
    code = f"open({str(tmp_path / 'pids')!r}, 'w').write(f'{{os.getpid()}} '); time.sleep(600)"
    model = ScriptedBackend([call("a", "python")])

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            group.start_soon(run, ToolLoop(model, [python(code, danger="safe")]))
            await until(lambda: (tmp_path / "pids").exists() and (tmp_path / "pids").read_text().endswith(" "))
            group.cancel_scope.cancel()

    assert [pid for pid in pids(tmp_path / "pids") if alive(pid)] == []


@pytest.mark.parametrize(
    ("words", "runs"),
    [
        (["status"], True),
        (["show", "HEAD"], True),
        (["show", "--output=/tmp/x"], False),
        (["status", "-s"], False),
        (["push"], False),
        (["status; touch /tmp/x"], False),
        ([], False),
    ],
)
async def test_the_allow_list_is_on_the_whole_command_with_its_prefix(words: list[str], runs: bool) -> None:
    echo = command_tool("echo", "Says.", prefix=["echo", "git"], allow=["echo git status", "echo git show *"])
    model = ScriptedBackend([call("a", "echo", args=words)], ["Done."])

    (result,) = results(await run(ToolLoop(model, [echo], security="allowlist")))

    assert (result.output == " ".join(["git", *words])) is runs
    assert result.denied is not runs


async def test_arguments_that_are_no_list_of_words_never_get_near_a_process() -> None:
    run_any = command_tool("run", "Runs any command.", danger="safe")
    wrong = ['{"argv": "ls -l"}', '{"argv": [1]}', '{"argv": ["ls"], "env": {"A": "b"}}', '{"argv": null}', "ls"]
    model = ScriptedBackend([ToolCallReady(str(n), "run", arguments) for n, arguments in enumerate(wrong)], ["Hm."])

    said = results(await run(ToolLoop(model, [run_any])))

    assert [result.output.splitlines()[0] for result in said] == ["The arguments are wrong."] * len(wrong)


def test_a_command_that_is_asked_about_each_time_has_no_allow_list() -> None:
    with pytest.raises(ValueError, match="in vain"):
        command_tool("rm", "Deletes.", prefix=["rm"], danger="dangerous", allow=["rm x"])
