"""Settings in the shipped files exist and are consistent; the unit's command serves."""

from __future__ import annotations

import os
import re
import shlex
import signal
import sys
from pathlib import Path
from typing import Any

import openai
import yaml

from openai_compat_adapters._serving.shutdown import STOP_SECONDS
from openai_compat_adapters.cli import main
from tests.deploy.image import instructions
from tests.docs.served import EXAMPLES, PATIENCE, Program, environment, free_port

DEPLOY = EXAMPLES / "deploy"
UNIT = (DEPLOY / "agents.service").read_text("utf-8")
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
(DEPLOYMENT, SERVICE, BUDGET) = yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text("utf-8"))
IMAGE = dict(instructions(DEPLOY / "Dockerfile"))
OPTIONS = {option for parameter in main.commands["serve"].params for option in parameter.opts}


def files() -> dict[str, str]:
    return {path.name: path.read_text("utf-8") for path in DEPLOY.iterdir() if path.is_file()}


def grace(command: list[str]) -> float:
    return float(command[command.index("--grace") + 1].removesuffix("s"))


def seconds(text: object) -> float:
    return float(str(text).removesuffix("s"))


def container() -> dict[str, Any]:
    (only,) = DEPLOYMENT["spec"]["template"]["spec"]["containers"]
    return only


def unit(name: str) -> str:
    (value,) = re.findall(rf"^{name}=(.*)$", UNIT, re.MULTILINE)
    return value


def test_options_and_environment_variables_of_the_files_exist() -> None:
    commands = [*yaml.safe_load(IMAGE["ENTRYPOINT"]), *shlex.split(unit("ExecStart"))]
    variables = {name for text in files().values() for name in re.findall(r"\bOPENAI_COMPAT_\w+", text)}

    assert {word for word in commands if word.startswith("--")} <= OPTIONS
    assert {"--" + name.removeprefix("OPENAI_COMPAT_").lower().replace("_", "-") for name in variables} <= OPTIONS
    assert "OPENAI_COMPAT_STORE" in variables


def test_nothing_is_killed_before_the_server_would_end_by_itself() -> None:
    image = grace(yaml.safe_load(IMAGE["ENTRYPOINT"]))
    pod = DEPLOYMENT["spec"]["template"]["spec"]
    (_, pause) = container()["lifecycle"]["preStop"]["exec"]["command"]

    assert seconds(COMPOSE["services"]["agents"]["stop_grace_period"]) > image + STOP_SECONDS
    assert pod["terminationGracePeriodSeconds"] > seconds(pause) + image + STOP_SECONDS
    assert seconds(unit("TimeoutStopSec")) > grace(shlex.split(unit("ExecStart"))) + STOP_SECONDS


def test_a_pod_that_drains_is_unready_and_not_dead() -> None:
    assert container()["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert container()["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert container()["ports"] == [{"name": "http", "containerPort": int(IMAGE["EXPOSE"])}]
    assert str(container()["securityContext"]["readOnlyRootFilesystem"]) == "True"


def test_the_parts_of_the_kubernetes_file_mean_each_other() -> None:
    labels = DEPLOYMENT["spec"]["template"]["metadata"]["labels"]

    assert DEPLOYMENT["spec"]["selector"]["matchLabels"] == labels
    assert SERVICE["spec"]["selector"] == labels
    assert BUDGET["spec"]["selector"]["matchLabels"] == labels


def test_compose_gives_its_chat_program_the_key_and_the_address_of_the_agents() -> None:
    agents, chat = COMPOSE["services"]["agents"], COMPOSE["services"]["open-webui"]["environment"]

    assert chat["OPENAI_API_KEYS"] == agents["environment"][agents["environment"]["OPENAI_COMPAT_API_KEY_ENV"]]
    assert chat["OPENAI_API_BASE_URLS"] == f"http://agents:{IMAGE['EXPOSE']}/v1"


def test_the_units_command_serves_with_a_key_and_a_file_and_ends_with_its_workers(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "agents").mkdir()
    (tmp_path / "keys").write_text("sk-alpha ann\n", "utf-8")
    command = unit("ExecStart").replace("8083", str(port)).replace("%S", str(tmp_path)).replace("%d", str(tmp_path))
    command = command.replace("/opt/agents/venv/bin", str(Path(sys.executable).parent))
    program = Program(shlex.split(command), port, DEPLOY, environment())
    try:
        program.wait_until(program.listens)
        with openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="sk-alpha", timeout=PATIENCE) as client:
            first = client.responses.create(model="assistant", input="tea")
            second = client.responses.create(model="assistant", input="milk", previous_response_id=first.id)
        os.kill(program.pid, signal.SIGTERM)  # what KillMode=mixed does
        assert program.ended() == 0
    finally:
        program.stop()

    assert second.output_text == "You have said 2 things, the last one was: milk"
    assert (tmp_path / "agents" / "state.db").stat().st_mode & 0o777 == 0o600
