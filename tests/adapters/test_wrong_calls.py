"""Wrong calls fail with one line that says what to do, and an exit code. For wrong targets, see test_wrong_targets.py."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.adapters.in_process import invoke, working_in
from tests.requirements import requirement

CALLS: dict[str, tuple[int, str]] = {
    "": (2, ""),  # the help
    "sreve agent.py": (2, "No such command 'sreve'. Did you mean 'serve'?"),
    "dance": (2, "No such command 'dance'. All that there is: openai-compat --help"),
    "--loud": (2, "No such option '--loud'. All that there is: openai-compat --help"),
    "serve agent.py --port 8000": (2, "No such option '--port'. Say --listen 127.0.0.1:PORT."),
    "chat agent.py --port 8000": (2, "No such option '--port'. …"),
    "serve agent.py --lisen 80": (2, "No such option '--lisen'. (Did you mean one of: … '--listen', …?)"),
    "serve agent.py --listen": (2, "Option '--listen' requires an argument."),
    "serve agent.py --listen here": (
        2,
        "Invalid value for '-l' / '--listen': 'here' is not of the form HOST:PORT, such as 127.0.0.1:8083.",
    ),
    "serve agent.py --listen 0.0.0.0:0": (2, "Without an API key the server listens on this machine only …"),
    "serve agent.py --grace soon": (2, "Invalid value for '--grace': 'soon' is not a time, such as 30s, …"),
    "serve agent.py --max-request-size big": (2, "Invalid value …: 'big' is not a number of bytes, such as 20MB."),
    "serve agent.py --workers 0": (2, "Invalid value for '--workers': 0 is not in the range x>=1."),
    "serve agent.py --workers 2": (2, "Each of several workers would keep responses …: give them --store …"),
    "serve agent.py --agent other": (2, "There is no agent 'other'; there are: agent."),
    "serve agent.py --api-key-env NO_SUCH_KEY": (2, "The environment variable NO_SUCH_KEY, … is not set."),
    "serve agent.py --api-key k --api-key-env K": (2, "Give the API key in one way: …"),
    "serve agent.py --store ftp://x": (2, "A store's URL is …; not one with the scheme 'ftp'."),
    "serve agent.py --store sqlite:///gone/x.db": (1, "The store's file cannot be opened: …"),
    "serve agent.py --webhook https://a.example": (2, "--webhook and --webhook-secret-env go together."),
    "serve agent.py --working-dir gone": (2, "Invalid value for '--working-dir': Directory 'gone' does not exist."),
    "serve agent.py agent.py": (2, "Two agents are called 'agent'. Name one of them: other=agent.py:agent"),
    "chat agent.py --url http://127.0.0.1:9": (2, "Say whom to talk to in one way: a target, or --url."),
    "chat --url nowhere": (2, "Invalid value for '--url': 'nowhere' is not a URL, such as http://127.0.0.1:8083/v1."),
    "chat --url http://127.0.0.1:9 -m hi": (1, "No answer from 127.0.0.1:9: …"),
    "chat agent.py -m hi --model other": (1, "The model 'other' does not exist…"),
    "key ann --model": (2, "Option '--model' requires an argument."),
    "key ann bob": (2, "Got unexpected extra argument (bob). All that there is: openai-compat key --help"),
    "demo --port 99999": (2, "Invalid value for '--port': 99999 is not in the range 0<=x<=65535."),
    "init --with cobol": (2, "Invalid value for '--with': 'cobol' is not one of … 'pydantic-ai', …"),
    "init agent.py": (1, "'agent.py' is there already, and stays as it is: name another file, …"),
}


@requirement("cli.wrong")
@pytest.mark.parametrize("call", CALLS)
def test_a_wrong_call_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    code, text = CALLS[call]
    (tmp_path / "agent.py").write_text("def agent(prompt): return prompt\n")
    with working_in(tmp_path, monkeypatch):
        result = invoke(*call.split())
    assert result.exit_code == code, result.output
    if text:
        assert re.fullmatch(re.escape(f"Error: {text}\n").replace("…", ".*"), result.output), result.output
    else:
        assert "openai-compat demo" in result.output
