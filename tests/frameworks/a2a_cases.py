"""Cases only for remote agents: questions, refusals, and agents that do not stream."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from openai_compat import Server
from openai_compat.backends.a2a import A2ABackend
from tests.frameworks.a2a import serve
from tests.frameworks.served import client_of
from tests.transports import uvicorn_socket

execution: Any = importlib.import_module("a2a.server.agent_execution")
helpers: Any = importlib.import_module("a2a.helpers")
tasks: Any = importlib.import_module("a2a.server.tasks")
types: Any = importlib.import_module("a2a.types")

scenario = pytest.mark.scenario
SECRET = "the remote agent's secret"


class Travel(execution.AgentExecutor):
    """Asks for the destination, then books."""

    def __init__(self) -> None:
        self.told: list[str] = []

    async def execute(self, context: Any, event_queue: Any) -> None:
        said = context.get_user_input()
        self.told.append(said)
        task = context.current_task or helpers.new_task_from_user_message(context.message)
        updater = tasks.TaskUpdater(event_queue, task.id, task.context_id)
        if context.current_task is not None:
            await updater.start_work(helpers.new_text_message("Looking for a seat"))
            await updater.add_artifact([types.Part(text=f"Booked: {said}.")], artifact_id="ticket")
            await updater.add_artifact([types.Part(url="https://travel.example/1", filename="ticket")])
            await updater.complete()
            return
        await event_queue.enqueue_event(task)
        if said == "refuse":
            await updater.reject(helpers.new_text_message("Not this one."))
        elif said == "break":
            await updater.failed(helpers.new_text_message(SECRET))
        else:
            await updater.requires_input(helpers.new_text_message("Where to?"))

    async def cancel(self, context: Any, event_queue: Any) -> None:
        raise NotImplementedError


@pytest.fixture(params=[True, False], ids=["streams", "answers once"])
def travel(request: pytest.FixtureRequest) -> Iterator[tuple[Travel, openai.OpenAI]]:
    remote = Travel()
    backend = A2ABackend(serve(remote, streams=request.param))
    with uvicorn_socket(Server({"travel": backend})) as url:
        yield remote, client_of(url, "any")


@scenario("conversations")
def test_the_users_next_message_answers_what_the_agent_asks(travel: Any) -> None:
    remote, client = travel
    asked = client.responses.create(model="travel", input="Book a flight")
    assert asked.output_text == "Where to?"
    answer = client.responses.create(model="travel", input="Rome", previous_response_id=asked.id)
    texts = [part.text for item in answer.output for part in item.content]
    assert texts == ["Booked: Rome.", "[ticket](https://travel.example/1)"]
    assert remote.told == ["Book a flight", "Rome"]


@scenario("forks")
def test_a_question_that_is_answered_twice_begins_another_task(travel: Any) -> None:
    remote, client = travel
    asked = client.responses.create(model="travel", input="Book a flight")
    for place in ("Rome", "Oslo"):
        client.responses.create(model="travel", input=place, previous_response_id=asked.id)
    assert remote.told[1] == "Rome"
    assert remote.told[-1] == "User:\nBook a flight\n\nAssistant:\nWhere to?\n\nUser:\nOslo"


@scenario("errors")
def test_what_the_agent_refuses_is_a_refusal_and_what_fails_tells_nothing(travel: Any) -> None:
    _, client = travel
    said = [{"role": "user", "content": "refuse"}]
    assert client.chat.completions.create(model="travel", messages=said).choices[0].message.refusal == "Not this one."
    with pytest.raises(openai.InternalServerError) as caught:
        client.responses.create(model="travel", input="break")
    assert SECRET not in caught.value.response.text


@scenario("pictures")
def test_what_the_card_does_not_name_is_refused(travel: Any) -> None:
    _, client = travel
    speech = {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}
    with pytest.raises(openai.BadRequestError, match="audio/wav"):
        client.chat.completions.create(model="travel", messages=[{"role": "user", "content": [speech]}])
