"""The setup commands for a fresh machine name things that exist, and CI runs the same commands."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib

import pytest

from tests.docs.blocks import ELSEWHERE
from tests.docs.served import ROOT
from tests.docs.test_blocks import PAGES

README = (ROOT / "README.md").read_text()
SHELL = re.compile(r"```sh\n(.*?)```", re.DOTALL)


def test_the_first_screen_of_the_readme_has_the_two_commands() -> None:
    serve, test = SHELL.findall("\n".join(README.splitlines()[:40]))

    assert serve.rstrip().endswith(".venv/bin/python examples/quickstart.py")
    assert test.rstrip().endswith(".venv/bin/python -m pytest -n auto")


def test_ci_runs_the_readmes_test_command() -> None:
    ran = (ROOT / ".ci" / "run").read_text().replace(" --disable-pip-version-check", "").splitlines()
    command = SHELL.findall(README)[1].splitlines()[-1]

    assert [step for step in command.split(" && ") if step not in ran] == []


def test_the_readme_begins_as_the_site_does() -> None:
    first = re.compile(r'```python title="agent.py"\n(.*?)```', re.DOTALL)
    site = (ROOT / "docs/index.md").read_text()

    assert first.findall(README)[:1] == first.findall(site)[:1] != []
    assert re.findall(r"^\| .*\|$", README, re.MULTILINE) == re.findall(r"^\| .*\|$", site, re.MULTILINE)
    assert [link for link in re.findall(r"\]\(([^)#]+)", README) if not (ROOT / link).exists()] == []


def test_shell_blocks_that_are_not_run_name_only_what_exists() -> None:
    shell = "".join([block for page in PAGES for block in SHELL.findall(page.read_text()) if ELSEWHERE.search(block)])
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    sessions = set(re.findall(r"^def (\w+)\(session", (ROOT / "noxfile.py").read_text(), re.MULTILINE))

    assert set(re.findall(r"'\.\[(\w+)\]'", shell)) <= set(extras)
    assert {name for names in re.findall(r"nox -s ([\w ]+)", shell) for name in names.split()} <= sessions
    assert all([(ROOT / path).exists() for path in re.findall(r"[\w/]+\.py\b", shell)])


@pytest.mark.parametrize("script", ["run.py", "knee.py", "house.py"])
def test_the_benchmarks_start(script: str) -> None:
    """No other test imports the benchmarks, so they would miss a rename in the library."""
    done = subprocess.run([sys.executable, ROOT / "benchmarks" / script, "--help"], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
