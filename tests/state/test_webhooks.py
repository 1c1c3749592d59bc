"""Webhooks: a receiver on a socket, which parses the deliveries with the openai SDK."""

from __future__ import annotations

import base64
import json
import logging
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import anyio
import openai
import pytest
from openai.types.webhooks import UnwrapWebhookEvent
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from openai_compat import Hooks, MemoryStore, Server, WebhookAttempt, Webhooks
from openai_compat.state.outbox import Outbox
from openai_compat.state.webhooks import EVENTS
from openai_compat.stores.open import open_store
from openai_compat.stores.port import Store, TurnCommit
from openai_compat_adapters.webhooks import http_post
from tests.connecting import Connect, in_process
from tests.requirements import requirement
from tests.support.exchanges import answer, request
from tests.transports import asgi_socket

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return request.param


SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef01234567").decode()
OTHER = "whsec_" + base64.b64encode(b"another secret, of 24 by").decode()


class Receiver:
    """Answers each request with the next of `answers`, then repeats the last; "hang" never answers."""

    def __init__(self, *answers: int | str) -> None:
        self._answers = list(answers) or [200]
        self.received: list[tuple[dict[str, str], bytes]] = []
        self.url = ""
        self._hang = threading.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        body = await request.body()
        self.received.append(({name.lower(): value for name, value in request.headers.items()}, body))
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if answer == "hang":
            while not self._hang.is_set():
                await anyio.sleep(0.01)
            answer = 200
        response = RedirectResponse(f"{self.url}/elsewhere") if answer == 307 else Response(status_code=int(answer))
        await response(scope, receive, send)

    def release(self) -> None:
        self._answers = [200]
        self._hang.set()

    async def wait(self, number: int) -> None:
        with anyio.fail_after(10):
            while len(self.received) < number:
                await anyio.sleep(0.005)

    def events(self, secret: str = SECRET) -> list[UnwrapWebhookEvent]:
        """The received events as the SDK parses them; it verifies the signatures."""
        client = openai.OpenAI(api_key="any", webhook_secret=secret)
        return [client.webhooks.unwrap(body, headers) for headers, body in self.received]


@contextmanager
def receiver(*answers: int | str) -> Iterator[Receiver]:
    app = Receiver(*answers)
    with asgi_socket(app) as app.url:
        try:
            yield app
        finally:
            app.release()


class Told:
    """Handles outcomes of responses as a server does: stores the notices with the outcomes, and delivers them."""

    def __init__(self, webhooks: Webhooks, store: Store) -> None:
        self.attempts: list[WebhookAttempt] = []
        self.outbox = Outbox(store, webhooks, self.attempts.append)
        self.store = store

    async def publish(self, event: str, response: str, principal: str = "ann") -> None:
        notices = self.outbox.notices(event, response, principal)
        outcome = TurnCommit(principal=principal, token=f"{event} {response} {principal}", notices=notices)
        assert await self.store.commit(outcome)
        self.outbox.wake()


@asynccontextmanager
async def hooks(url: str | Sequence[str], store: Store | None = None, **options: Any) -> AsyncIterator[Told]:
    settings = Webhooks(url, **{"secret": SECRET, "post": http_post, "wait": 0.01, **options})
    told = Told(settings, store or MemoryStore())
    try:
        yield told
    finally:
        await told.outbox.aclose(5)


def messages(caplog: pytest.LogCaptureFixture, level: int = logging.WARNING) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name == "openai_compat" and r.levelno >= level]


@requirement("webhooks.sdk")
@pytest.mark.parametrize("event", EVENTS)
async def test_the_sdk_verifies_and_reads_every_event(event: str) -> None:
    with receiver() as app:
        async with hooks(app.url) as webhooks:
            await webhooks.publish(event, "resp_1", "ann")
            await app.wait(1)
    [got] = app.events()
    assert type(got).__name__ == "".join(word.title() for word in event.split(".")) + "WebhookEvent"
    assert (got.type, got.object, got.data.id) == (event, "event", "resp_1")
    headers, body = app.received[0]
    assert headers["webhook-id"] == got.id == json.loads(body)["id"]
    assert headers["content-type"] == "application/json"
    with pytest.raises(openai.InvalidWebhookSignatureError):
        app.events(OTHER)


@requirement("webhooks.sdk")
async def test_while_a_secret_is_changed_both_are_good_and_plain_text_is_one_too() -> None:
    with receiver() as app:
        async with hooks(app.url, secret=[SECRET, OTHER, "plain text"]) as webhooks:
            await webhooks.publish("response.completed", "resp_1", "ann")
            await app.wait(1)
        assert [app.events(secret)[0].data.id for secret in (SECRET, OTHER, "plain text")] == ["resp_1"] * 3


@requirement("webhooks.retry")
async def test_an_event_is_sent_until_it_is_taken_with_the_same_id_each_time(caplog: pytest.LogCaptureFixture) -> None:
    with receiver(500, 404, 307, 204) as app:
        async with hooks(app.url) as webhooks:
            await webhooks.publish("response.failed", "resp_1", "ann")
            await app.wait(4)
    assert len({event.id for event in app.events()}) == 1  # and each signature is valid
    assert len(app.received) == 4  # a redirect is not followed
    assert messages(caplog) == []


@requirement("webhooks.retry")
async def test_what_hangs_is_tried_again() -> None:
    with receiver("hang", 200) as app:
        async with hooks(app.url, timeout=0.05) as webhooks:
            await webhooks.publish("response.completed", "resp_1", "ann")
            await app.wait(2)
    assert len({event.id for event in app.events()}) == 1


@requirement("webhooks.bound")
@pytest.mark.parametrize(("answer", "attempts"), [(500, 3), (410, 1)])
async def test_there_is_an_end_to_it_which_the_log_tells(
    answer: int, attempts: int, caplog: pytest.LogCaptureFixture
) -> None:
    with receiver(answer) as app:
        port = app.url.rpartition(":")[2]
        async with hooks(f"http://user:password@127.0.0.1:{port}/hook?token=secret", attempts=3) as webhooks:
            await webhooks.publish("response.completed", "resp_1", "ann")
            with anyio.fail_after(10):
                while not messages(caplog):
                    await anyio.sleep(0.005)
    assert len(app.received) == attempts
    [warning] = messages(caplog)
    assert warning == f"webhook {app.events()[0].id} to http://127.0.0.1/hook was not delivered: {answer}"


async def test_neither_the_secret_nor_what_may_be_secret_in_a_url_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "openai_compat")
    async with hooks("http://user:password@127.0.0.1:1/hook?token=hidden", attempts=2) as webhooks:
        await webhooks.publish("response.completed", "resp_1", "ann")
        with anyio.fail_after(10):
            while not messages(caplog):
                await anyio.sleep(0.005)
    text = "\n".join(messages(caplog, logging.DEBUG))
    assert "ConnectError" in text
    assert not [word for word in ("password", "hidden", SECRET[6:], SECRET) if word in text]


@requirement("webhooks.bound")
async def test_what_waits_in_memory_is_bounded(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openai_compat.stores.memory_outbox.MAX_NOTICES", 2)
    with receiver("hang") as app:
        async with hooks(app.url) as webhooks:
            notices = [webhooks.outbox.notices("response.completed", f"resp_{n}", "ann") for n in range(4)]
            waiting = tuple([notice for several in notices for notice in several])
            assert await webhooks.store.commit(TurnCommit(principal="ann", token="all", notices=waiting))
            webhooks.outbox.wake()
            await app.wait(2)
            app.release()
    assert sorted([event.data.id for event in app.events()]) == ["resp_2", "resp_3"]
    assert ["too many wait" in message for message in messages(caplog)] == [True, True]


@requirement("webhooks.bound")
async def test_a_url_that_hangs_does_not_hold_up_another() -> None:
    with receiver("hang") as stuck, receiver() as good:
        async with hooks([stuck.url, good.url]) as webhooks:
            for number in range(30):
                await webhooks.publish("response.completed", f"resp_{number}", "ann")
            await good.wait(30)
            await stuck.wait(8)
            assert len(stuck.received) == 8  # concurrent connections
            stuck.release()


@requirement("webhooks.end")
async def test_at_the_end_what_waits_is_tried_once_more_at_once(caplog: pytest.LogCaptureFixture) -> None:
    with receiver(500, 200) as app:
        async with hooks(app.url, wait=1000) as webhooks:
            await webhooks.publish("response.completed", "resp_1", "ann")
            await app.wait(1)
    assert len(app.received) == 2
    assert messages(caplog) == []


@requirement("webhooks.end")
async def test_the_end_does_not_wait_for_a_url_that_hangs(caplog: pytest.LogCaptureFixture) -> None:
    with receiver("hang") as app:
        webhooks = Told(Webhooks(app.url, secret=SECRET, post=http_post), MemoryStore())
        await webhooks.publish("response.completed", "resp_1", "ann")
        await app.wait(1)
        with anyio.fail_after(5):
            await webhooks.outbox.aclose(0.05)
    [warning] = messages(caplog)
    assert warning.endswith("was not delivered: the server has ended")


@requirement("webhooks.chosen")
async def test_events_and_principals_can_be_chosen() -> None:
    with receiver() as app:
        async with hooks(app.url, events=["response.failed"], principals={"ann"}) as webhooks:
            for principal in ("ann", "bob"):
                for event in (*EVENTS, "response.other"):
                    await webhooks.publish(event, f"resp_{principal}", principal)
            await app.wait(1)
    assert [(event.type, event.data.id) for event in app.events()] == [("response.failed", "resp_ann")]


@pytest.mark.parametrize(
    "wrong",
    [
        {"urls": "ftp://app.example"},
        {"urls": []},
        {"secret": "whsec_not*base64"},
        {"secret": "whsec_"},
        {"secret": ""},
        {"events": ["response.other"]},
        {"attempts": 0},
    ],
)
def test_settings_that_make_no_sense_are_refused_without_telling_the_secret(wrong: dict[str, Any]) -> None:
    settings = {"urls": "https://app.example", "secret": SECRET, "post": http_post, **wrong}
    with pytest.raises(ValueError, match="webhook") as refused:
        Webhooks(settings.pop("urls"), **settings)
    assert "not*base64" not in str(refused.value)


@requirement("webhooks.background")
@in_process
@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # the SDK
async def test_a_background_response_is_told_to_all_and_its_turn_does_not_wait_for_them(connect: Connect) -> None:
    release = threading.Event()

    async def agent(prompt: str) -> str:
        while not release.is_set():
            await anyio.sleep(0.005)
        if prompt == "fail":
            raise RuntimeError("on purpose")
        return prompt

    async def outcome(response: str) -> str:
        with anyio.fail_after(10):
            while (found := await client.responses.retrieve(response)).status in ("queued", "in_progress"):
                await anyio.sleep(0.01)
        return found.status

    with receiver("hang") as stuck, receiver() as app:
        webhooks = [Webhooks(url, secret=SECRET, post=http_post) for url in (stuck.url, app.url)]
        server = Server(agent, webhooks=webhooks)
        async with server.lifespan(), connect(server) as client:
            made = [
                await client.responses.create(model="agent", input=text, background=True)
                for text in ("hi", "fail", "hi")
            ]
            await client.responses.cancel(made[2].id)
            release.set()
            told = {f"response.{await outcome(response.id)}": response.id for response in made}
            await client.responses.create(model="agent", input="hi")  # not in the background: not reported
            await app.wait(3)
            stuck.release()
    assert list(told) == ["response.completed", "response.failed", "response.cancelled"]
    assert {event.type: event.data.id for event in app.events()} == told
    assert len(app.received) == 3


@requirement("hooks.webhooks")
@pytest.mark.parametrize(
    ("answers", "outcomes"),
    [
        ([200], [("delivered", "")]),
        ([503, 200], [("retry", "503"), ("delivered", "")]),
        ([410], [("failed", "410")]),
        ([500], [("retry", "500"), ("failed", "500")]),
    ],
)
async def test_each_attempt_is_told_with_what_came_of_it(answers: list[int], outcomes: list[tuple[str, str]]) -> None:
    with receiver(*answers) as app:
        async with hooks(app.url, attempts=2) as told:
            await told.publish("response.completed", "resp_1")
            with anyio.fail_after(10):
                while len(told.attempts) < len(outcomes):
                    await anyio.sleep(0.005)
    assert [(one.outcome, one.error) for one in told.attempts] == outcomes
    assert [one.attempt for one in told.attempts] == [1, 2][: len(outcomes)]
    assert {one.id for one in told.attempts} == {app.received[0][0]["webhook-id"]}
    assert told.attempts[0].target.startswith("@127.0.0.1#")


@requirement("hooks.webhooks")
async def test_a_server_tells_its_hooks_of_them_and_one_that_fails_changes_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Watching(Hooks):
        def __init__(self) -> None:
            self.told: list[WebhookAttempt] = []

        def webhook_sent(self, attempt: WebhookAttempt) -> None:
            self.told.append(attempt)
            raise ValueError("a bug")

    hook = Watching()
    with receiver() as app:
        webhooks = Webhooks(app.url, secret=SECRET, post=http_post)
        server = Server(lambda prompt: prompt, hooks=[hook], webhooks=webhooks)
        async with server.lifespan():
            await answer(server, request("/v1/responses", {"model": "agent", "input": "hi", "background": True}))
            await app.wait(1)
    assert [(one.outcome, one.attempt) for one in hook.told] == [("delivered", 1)]
    assert len(app.received) == 1
    assert "Watching.webhook_sent failed" in caplog.text


@requirement("webhooks.kept")
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_what_waits_for_somebody_who_is_in_no_settings_any_more_is_kept_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with receiver(503) as down, receiver() as up:
        for url in (down.url, up.url):
            store = open_store(f"sqlite:///{tmp_path / 'state.db'}")
            # the name stays, but the URL changes: notices for the old URL have no receiver
            settings = Webhooks(url, secret=SECRET, post=http_post, wait=0.01, name="app")
            outbox = Outbox(store, settings)
            if url == down.url:
                notices = outbox.notices("response.completed", "resp_1", "ann")
                assert await store.commit(TurnCommit(principal="ann", token="t", notices=notices))
            await outbox.begin()
            if url == down.url:
                await down.wait(1)
            await outbox.aclose(5)
            waiting = await store.targets()
            await store.aclose()
            assert waiting == {settings_of(down.url).target(down.url): 1}
    assert up.received == []
    [warning] = messages(caplog)
    assert warning.startswith("1 webhooks wait in the store for app@127.0.0.1#")
    assert warning.endswith("which this server has no settings for")


def settings_of(url: str) -> Webhooks:
    return Webhooks(url, secret=SECRET, post=http_post, name="app")
