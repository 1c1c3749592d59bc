"""A command as an agent: its input, its output and its end. Real processes throughout."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import anyio
import pytest

from openai_compat import AgentError, Capabilities, Finished
from openai_compat.backends.subprocess import Grace, SubprocessBackend, whole_conversation
from openai_compat.errors import InvalidRequest
from tests.backends.support import alive, command, new_context, pids, read, request_for, run, until, user

pytestmark = pytest.mark.anyio

ECHO = "print('You said: ' + sys.stdin.read())"
SHOW_ARGUMENTS = "print(sys.argv[1:])"


async def test_the_last_user_message_is_written_to_stdin_and_stdout_is_the_answer(tmp_path: Path) -> None:
    messages = [
        {"role": "system", "content": "Be rude."},
        user("one"),
        {"role": "assistant", "content": "1"},
        user("two"),
    ]
    backend = SubprocessBackend(command(tmp_path, ECHO))
    assert await run(backend, request_for(messages)) == ["You said: two", Finished()]


async def test_the_whole_conversation_can_be_the_prompt(tmp_path: Path) -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        user("one"),
        {"role": "assistant", "content": "1"},
        user("two"),
    ]
    backend = SubprocessBackend(command(tmp_path, "print(sys.stdin.read())"), prompt=whole_conversation)
    expected = "System:\nBe brief.\n\nUser:\none\n\nAssistant:\n1\n\nUser:\ntwo"
    assert await run(backend, request_for(messages)) == [expected, Finished()]
    assert backend.capabilities.history == "full"


async def test_a_placeholder_puts_the_prompt_among_the_arguments_and_leaves_stdin_empty(tmp_path: Path) -> None:
    code = "print(sys.argv[1:], repr(sys.stdin.read()))"
    backend = SubprocessBackend(command(tmp_path, code, "-p", "{prompt}", "--last"))
    assert await run(backend, request_for("a; rm -rf $HOME")) == ["['-p', 'a; rm -rf $HOME', '--last'] ''", Finished()]


async def test_a_prompt_cannot_pass_for_an_option(tmp_path: Path) -> None:
    backend = SubprocessBackend(command(tmp_path, SHOW_ARGUMENTS, "{prompt}"))
    assert await run(backend, request_for("--yolo")) == ["[' --yolo']", Finished()]
    backend = SubprocessBackend(command(tmp_path, SHOW_ARGUMENTS, "--", "{prompt}"))
    assert await run(backend, request_for("--yolo")) == ["['--', '--yolo']", Finished()]


@pytest.mark.parametrize(
    ("prompt", "code"),
    [("a\0b", "invalid_value"), ("x" * 3_000_000, "context_length_exceeded")],
    ids=["NUL", "too long"],
)
async def test_a_prompt_that_fits_into_no_argument_is_the_clients_error(tmp_path: Path, prompt: str, code: str) -> None:
    backend = SubprocessBackend(command(tmp_path, SHOW_ARGUMENTS, "{prompt}"))
    with pytest.raises(InvalidRequest) as raised:
        await run(backend, request_for(prompt))
    assert raised.value.code == code


async def test_the_command_can_be_chosen_by_the_request(tmp_path: Path) -> None:
    tiers = {"agent": command(tmp_path, "print('tier 1')"), "agent-2": ["/bin/echo", "tier 2"]}
    backend = SubprocessBackend(lambda request: tiers[request.model])
    assert await run(backend, request_for()) == ["tier 1", Finished()]
    assert await run(backend, request_for(model="agent-2")) == ["tier 2", Finished()]


async def test_text_is_passed_on_as_soon_as_it_is_written(tmp_path: Path) -> None:
    code = """
        print("first", end="", flush=True)
        while not os.path.exists(sys.argv[1]):
            time.sleep(0.01)
        print(" second")
    """
    go = tmp_path / "go"
    said: list[object] = []
    with anyio.fail_after(20):
        async for item in read(SubprocessBackend(command(tmp_path, code, str(go))), request_for(), new_context()):
            said.append(item)
            go.touch()
    assert said == ["first", " second", Finished()]


async def test_text_that_is_no_utf_8_is_replaced_and_characters_may_be_cut_anywhere(tmp_path: Path) -> None:
    code = r"""
        for piece in (b"\xe2\x82", b"\xac \xff", b" \xf0\x9f", b"\x98\x80 \xe2\x82"):
            os.write(1, piece)
            time.sleep(0.02)
    """
    assert await run(SubprocessBackend(command(tmp_path, code))) == ["€ \ufffd 😀 \ufffd", Finished()]


async def test_line_ends_are_kept_but_for_those_at_the_very_end(tmp_path: Path) -> None:
    code = "[(print(line, flush=True), time.sleep(0.01)) for line in ('a', '', 'b', '')]"
    assert await run(SubprocessBackend(command(tmp_path, code))) == ["a\n\nb", Finished()]


async def test_a_command_that_says_nothing_has_an_empty_answer(tmp_path: Path) -> None:
    assert await run(SubprocessBackend(command(tmp_path, ""))) == [Finished()]


async def test_a_long_prompt_and_a_long_answer_do_not_block_each_other(tmp_path: Path) -> None:
    code = """
        for _ in range(100):
            os.write(1, b"x" * 10_000)
        print(len(sys.stdin.read()))
    """
    said = await run(SubprocessBackend(command(tmp_path, code)), request_for("p" * 1_000_000))
    assert said == ["x" * 1_000_000 + "1000000", Finished()]


async def test_a_command_need_not_read_its_prompt(tmp_path: Path) -> None:
    code = "os.close(0); print('fine', flush=True)"
    assert await run(SubprocessBackend(command(tmp_path, code)), request_for("p" * 1_000_000)) == ["fine", Finished()]


async def test_nothing_is_lost_when_the_reader_is_slower_than_the_grace(tmp_path: Path) -> None:
    code = """
        os.set_blocking(1, False)
        written = stuck = 0
        while stuck < 30:  # until every buffer on the way is full
            try:
                written += os.write(1, b"x" * 4096)
                stuck = 0
            except BlockingIOError:
                stuck += 1
                time.sleep(0.01)
        open(sys.argv[1], "w").write(str(written))
    """
    written, size = tmp_path / "written", 0
    backend = SubprocessBackend(command(tmp_path, code, str(written)), grace=Grace(end=0.4))
    with anyio.fail_after(20):
        async for item in read(backend, request_for(), new_context()):
            if size == 0:
                await until(written.exists)
                await anyio.sleep(0.6)  # the command has exited for longer than the grace, with much output unread
            size += len(item) if isinstance(item, str) else 0
    assert size == int(written.read_text("utf-8"))


# failures


@pytest.mark.parametrize("code", ["sys.exit(3)", "os.kill(os.getpid(), signal.SIGKILL)"], ids=["exit", "signal"])
async def test_an_exit_with_anything_but_0_fails_the_turn(tmp_path: Path, code: str) -> None:
    said: list[object] = []
    backend = SubprocessBackend(command(tmp_path, f"print('half', flush=True); {code}"))

    async def listen() -> None:
        async for item in read(backend, request_for(), new_context()):
            said.append(item)

    with anyio.fail_after(20), pytest.raises(AgentError) as raised:
        await listen()
    assert said == ["half"]
    assert (raised.value.status, raised.value.code) == (502, "agent_command_failed")
    assert raised.value.should_retry is False


async def test_what_a_failed_command_said_is_in_the_log_and_not_in_the_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    code = "print('disk is full', file=sys.stderr); sys.exit(1)"
    with caplog.at_level(logging.INFO, "openai_compat"), pytest.raises(AgentError) as raised:
        await run(SubprocessBackend(command(tmp_path, code)))
    assert "disk" not in raised.value.message
    assert caplog.messages == [
        "req_1: stderr: disk is full",
        "req_1: the command exited with 1; its last words: disk is full",
    ]


async def test_a_flood_on_stderr_neither_blocks_the_command_nor_fills_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    code = """
        for number in range(2_000):
            print("x" * 10_000, number, file=sys.stderr)
        os.write(2, b"y" * 1_000_000)
        print("done")
    """
    with caplog.at_level(logging.INFO, "openai_compat"):
        assert await run(SubprocessBackend(command(tmp_path, code))) == ["done", Finished()]
    assert len(caplog.messages) == 201
    assert max(map(len, caplog.messages)) < 1_000


@pytest.mark.parametrize("program", ["/no/such/program", "/etc/passwd"])
async def test_a_command_that_cannot_be_started_fails_the_turn(program: str) -> None:
    with pytest.raises(AgentError) as raised:
        await run(SubprocessBackend([program]))
    assert (raised.value.status, raised.value.code) == (502, "agent_command_failed")
    assert program not in raised.value.message


async def test_a_command_that_closes_its_output_and_stays_is_ended_and_fails_the_turn(tmp_path: Path) -> None:
    code = "print('bye', flush=True); open(sys.argv[1], 'w').write(str(os.getpid())); os.close(1); time.sleep(60)"
    file = tmp_path / "pid"
    with pytest.raises(AgentError):
        await run(SubprocessBackend(command(tmp_path, code, str(file)), grace=Grace(end=0.2)))
    assert [alive(pid) for pid in pids(file)] == [False]


# processes left behind

WITH_CHILD = """
    child = subprocess.Popen([sys.executable, "-S", "-c", "import time; print('up', flush=True); time.sleep(60)"], {options})
    open(sys.argv[1], "w").write(f"{{os.getpid()}} {{child.pid}}")
    print("answer", flush=True)
"""


async def test_a_child_that_holds_on_to_the_output_does_not_hang_the_turn_and_is_ended(tmp_path: Path) -> None:
    file = tmp_path / "pids"
    backend = SubprocessBackend(command(tmp_path, WITH_CHILD.format(options=""), str(file)), grace=Grace(end=0.3))
    said = await run(backend)
    assert said[-1] == Finished()
    assert "answer" in said[0]
    command_pid, child_pid = pids(file)
    await until(lambda: not alive(command_pid) and not alive(child_pid))


async def test_not_even_one_that_has_left_the_process_group_hangs_the_turn(tmp_path: Path) -> None:
    file = tmp_path / "pids"
    code = WITH_CHILD.format(options="start_new_session=True")
    said = await run(SubprocessBackend(command(tmp_path, code, str(file)), grace=Grace(end=0.3)))
    assert said[-1] == Finished()
    os.kill(pids(file)[1], 9)  # it left the process group, so the test has to end it


async def test_one_that_writes_on_and_on_does_not_hang_it_either(tmp_path: Path) -> None:
    file = tmp_path / "pids"
    code = """
        chatty = "import time\\nwhile True: print('.', flush=True); time.sleep(0.02)"
        child = subprocess.Popen([sys.executable, "-S", "-c", chatty])
        open(sys.argv[1], "w").write(str(child.pid))
    """
    said = await run(SubprocessBackend(command(tmp_path, code, str(file)), grace=Grace(end=0.3)))
    assert said[-1] == Finished()
    await until(lambda: not alive(pids(file)[0]))


async def test_a_child_that_lets_go_of_the_output_is_ended_with_the_turn(tmp_path: Path) -> None:
    file = tmp_path / "pids"
    options = "stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL"
    backend = SubprocessBackend(command(tmp_path, WITH_CHILD.format(options=options), str(file)))
    assert await run(backend) == ["answer", Finished()]
    await until(lambda: not alive(pids(file)[1]))


STUBBORN = """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = subprocess.Popen([sys.executable, "-S", "-c", "import signal, time\\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\\ntime.sleep(60)"])
    open(sys.argv[1], "w").write(f"{os.getpid()} {child.pid}")
    print("working", flush=True)
    time.sleep(60)
"""


async def test_cancelling_ends_a_command_and_its_children_even_if_they_ignore_sigterm(tmp_path: Path) -> None:
    file = tmp_path / "pids"
    backend = SubprocessBackend(command(tmp_path, STUBBORN, str(file)), grace=Grace(kill=0.2))
    with anyio.fail_after(20), anyio.CancelScope() as scope:
        async for item in read(backend, request_for(), new_context()):
            assert item == "working"
            scope.cancel()
    command_pid, child_pid = pids(file)
    assert not alive(command_pid)
    await until(lambda: not alive(child_pid))


async def test_closing_the_run_ends_the_command(tmp_path: Path) -> None:
    file = tmp_path / "pids"
    code = "open(sys.argv[1], 'w').write(str(os.getpid())); print('working', flush=True); time.sleep(60)"
    with anyio.fail_after(20):
        items = SubprocessBackend(command(tmp_path, code, str(file))).run(request_for(), new_context())
        assert await anext(items) == "working"
        await items.aclose()
    assert not alive(pids(file)[0])


async def test_a_command_may_clean_up_when_it_is_told_to_end(tmp_path: Path) -> None:
    code = """
        def clean_up(*_):
            open(sys.argv[1], "w").close()
            sys.exit(0)
        signal.signal(signal.SIGTERM, clean_up)
        print("working", flush=True)
        time.sleep(60)
    """
    cleaned = tmp_path / "cleaned"
    with anyio.fail_after(20), anyio.CancelScope() as scope:
        async for _ in read(SubprocessBackend(command(tmp_path, code, str(cleaned))), request_for(), new_context()):
            scope.cancel()
    assert cleaned.exists()


# environment and working directory


async def test_a_command_sees_only_the_variables_it_is_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-server")
    monkeypatch.setenv("AGENT_TOKEN", "t")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    code = "print(sorted(name for name in os.environ if name in sys.argv))"
    argv = command(tmp_path, code, "OPENAI_API_KEY", "AGENT_TOKEN", "LC_ALL", "PATH", "MODE")
    assert await run(SubprocessBackend(argv)) == ["['LC_ALL', 'PATH']", Finished()]
    backend = SubprocessBackend(argv, pass_env=["AGENT_*"], env={"MODE": "quiet"})
    assert await run(backend) == ["['AGENT_TOKEN', 'LC_ALL', 'MODE', 'PATH']", Finished()]


async def test_a_command_runs_where_it_is_told_to(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    backend = SubprocessBackend(command(tmp_path, "print(os.getcwd())"), cwd=tmp_path / "work")
    assert await run(backend) == [str(tmp_path / "work"), Finished()]


def test_an_agent_that_reads_text_takes_nothing_else() -> None:
    declared = SubprocessBackend(["true"]).capabilities
    assert declared == Capabilities(
        history="last_user",
        client_tools=False,
        vision=False,
        audio_input=False,
        files=False,
        structured_output=False,
        parameters=frozenset(),
    )


@pytest.mark.parametrize(
    ("wrong", "error"),
    [({"command": "claude -p"}, TypeError), ({"command": []}, ValueError), ({"output": "xml"}, ValueError)],
)
def test_settings_that_make_no_sense_are_refused_at_once(wrong: dict[str, object], error: type[Exception]) -> None:
    with pytest.raises(error):
        SubprocessBackend(**{"command": ["true"], **wrong})
