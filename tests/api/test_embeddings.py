"""Embeddings: the input of embed functions, and what becomes of their results."""

from __future__ import annotations

import asyncio
import base64
import functools
import logging
import struct
import threading
from array import array
from collections.abc import Sequence
from typing import Any, get_type_hints

import anyio
import anyio.lowlevel
import httpx2
import openai
import pytest
from openai.types import CreateEmbeddingResponse, Embedding, EmbeddingCreateParams
from openai.types.create_embedding_response import Usage

from openai_compat import AgentError, Deadlines, Limits, Principal, Server
from openai_compat.wire import embeddings as wire
from tests.connecting import Connect, Http, in_process
from tests.requirements import requirement
from tests.support.agents import HELLO, Says

pytestmark = pytest.mark.anyio

URL = "/v1/embeddings"
Vectors = list[list[float]]


def embed(texts: list[str]) -> Vectors:
    """The text's length, and 0.5: float32 represents both exactly."""
    return [[float(len(text)), 0.5] for text in texts]


async def posted(http: Http, function: Any, body: Any, **options: Any) -> httpx2.Response:
    async with http(Says("Hi"), embeddings={"small": function}, **options) as client:
        return await client.post(URL, json={"model": "small", "input": "a"} | body)


def error_of(answer: httpx2.Response) -> tuple[int, str, str | None, str | None]:
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return answer.status_code, error["type"], error["code"], error["param"]


# answers


@requirement("embeddings.answer")
async def test_the_sdk_gets_one_vector_for_each_text_in_order(connect: Connect) -> None:
    async with connect(Says("Hi"), embeddings={"small": embed}) as client:
        answer = await client.embeddings.create(model="small", input=["one", "three", "x"])
    assert [found.embedding for found in answer.data] == [[3.0, 0.5], [5.0, 0.5], [1.0, 0.5]]
    assert [found.index for found in answer.data] == [0, 1, 2]
    assert (answer.model, answer.object) == ("small", "list")


@requirement("embeddings.answer")
async def test_both_encodings_have_the_same_numbers(http: Http) -> None:
    floats = await posted(http, embed, {"input": "four", "encoding_format": "float"})
    coded = await posted(http, embed, {"input": "four", "encoding_format": "base64"})
    plain = await posted(http, embed, {"input": "four"})
    assert floats.json() == {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": [4.0, 0.5]}],
        "model": "small",
        "usage": {"prompt_tokens": 1, "total_tokens": 1},
    }
    assert plain.json() == floats.json()
    data = coded.json()["data"][0]["embedding"]
    assert struct.unpack("<2f", base64.b64decode(data)) == (4.0, 0.5)


@requirement("embeddings.answer")
@in_process
async def test_tokens_of_texts_are_estimated_and_sent_ones_counted(http: Http) -> None:
    def both(texts: list[str], tokens: list[list[int]]) -> Vectors:
        return [[1.0] for _ in texts or tokens]

    texts = await posted(http, both, {"input": ["a" * 8, "a" * 9]})
    tokens = await posted(http, both, {"input": [[1, 2], [3, 4, 5]]})
    assert texts.json()["usage"] == {"prompt_tokens": 5, "total_tokens": 5}
    assert tokens.json()["usage"] == {"prompt_tokens": 5, "total_tokens": 5}


@requirement("embeddings.answer")
@in_process
async def test_what_is_sent_and_answered_is_valid_by_the_sdks_types(http: Http) -> None:
    answer = (await posted(http, embed, {"encoding_format": "float"})).json()
    CreateEmbeddingResponse.model_validate(answer, strict=True)
    assert set(answer) == set(CreateEmbeddingResponse.model_fields) == set(get_type_hints(wire.EmbeddingList))
    assert set(answer["data"][0]) == set(Embedding.model_fields)
    assert set(answer["usage"]) == set(Usage.model_fields)
    assert set(wire.EmbeddingRequest.model_fields) == set(get_type_hints(EmbeddingCreateParams))


# functions


class Callable:
    async def __call__(self, texts: list[str]) -> Vectors:
        return embed(texts)


class Library:
    """Numbers of another library: not a list, but used like one."""

    def __init__(self, *items: Any) -> None:
        self._items = items

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> Any:
        return self._items[index]

    def tolist(self) -> list[Any]:
        return [item.tolist() if isinstance(item, Library) else item for item in self._items]


class Number:
    def __float__(self) -> float:
        return 1.0


async def asynchronous(texts: list[str]) -> Vectors:
    await anyio.lowlevel.checkpoint()
    return embed(texts)


def other_name(sentences: list[str]) -> Vectors:
    return embed(sentences)


@requirement("embeddings.functions")
@in_process
@pytest.mark.parametrize(
    "function",
    [
        embed,
        asynchronous,
        other_name,
        Callable(),
        functools.partial(lambda scale, texts: embed(texts), 1.0),
        lambda texts: asynchronous(texts),
        lambda texts, /: embed(texts),
        lambda texts: ((1.0, 0.5),),
        lambda texts: [array("f", [1.0, 0.5])],
        lambda texts: [(Number(), 0.5)],
        lambda texts: Library(Library(1.0, 0.5)),
        lambda texts: [[1, 0.5]],
    ],
)
async def test_functions_of_all_kinds_and_sequences_of_all_libraries_do(function: Any, http: Http) -> None:
    answer = await posted(http, function, {"input": "a"})
    assert answer.json()["data"][0]["embedding"] == [1.0, 0.5]


@requirement("embeddings.functions")
async def test_a_plain_function_does_not_stop_the_event_loop(http: Http) -> None:
    go, threads = threading.Event(), []

    def waits(texts: list[str]) -> Vectors:
        threads.append(threading.current_thread())
        assert go.wait(10)
        return embed(texts)

    async with http(Says("Hi"), embeddings={"small": waits}) as client:
        async with anyio.create_task_group() as group:
            group.start_soon(functools.partial(client.post, URL, json={"model": "small", "input": "a"}))
            with anyio.fail_after(5):
                assert (await client.get("/v1/models")).status_code == 200
            go.set()
    assert threads[0] is not threading.main_thread()


@requirement("embeddings.functions")
@in_process
async def test_a_function_gets_what_it_has_parameters_for(http: Http) -> None:
    given: list[Any] = []

    def all_of_it(texts: list[str], tokens: Any = "none", dimensions: int = 2, user: str = "nobody") -> Vectors:
        given.append((texts, tokens, dimensions, user))
        return [[0.0] * dimensions for _ in texts or tokens]

    await posted(http, all_of_it, {"input": "a"})
    await posted(http, all_of_it, {"input": ["a", "b"], "dimensions": 3, "user": "ann"})
    await posted(http, all_of_it, {"input": [5, 6]})
    await posted(http, all_of_it, {"input": [[5], [6]], "user": {"id": "an object, as Open WebUI sends it"}})
    assert given == [
        (["a"], "none", 2, "nobody"),
        (["a", "b"], "none", 3, "ann"),
        ([], [[5, 6]], 2, "nobody"),
        ([], [[5], [6]], 2, "nobody"),
    ]


@requirement("embeddings.functions")
@in_process
@pytest.mark.parametrize(
    "function",
    [5, "embed", list, lambda: [1], lambda a, b: [], lambda texts, other: [], lambda tokens: [], lambda **texts: []],
)
async def test_what_is_no_embed_function_is_refused_when_the_server_is_made(function: Any, http: Http) -> None:
    with pytest.raises(TypeError, match="embed function"):
        Server(Says("Hi"), embeddings={"small": function})


# bad input


@requirement("embeddings.input")
@in_process
@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"input": None}, "invalid_type", "input"),
        ({"input": ""}, "invalid_value", "input"),
        ({"input": []}, "invalid_value", "input"),
        ({"input": 5}, "invalid_type", "input"),
        ({"input": {"text": "a"}}, "invalid_type", "input"),
        ({"input": ["a", ""]}, "invalid_value", "input[1]"),
        ({"input": ["a", 5]}, "invalid_type", "input[1]"),
        ({"input": ["a"] * 2049}, "invalid_value", "input"),
        ({"input": [1] * 2049}, "invalid_value", "input"),
        ({"input": [True]}, "invalid_type", "input[0]"),
        ({"input": [[]]}, "invalid_value", "input[0]"),
        ({"input": [[1], [1.5]]}, "invalid_type", "input[1][0]"),
        ({"input": [1.5] * 2048}, "invalid_type", "input[0]"),
        ({"input": [[-1]]}, "invalid_value", "input[0][0]"),
        ({"input": [1, 2]}, "unsupported_value", "input"),
        ({"input": [[1, 2]]}, "unsupported_value", "input"),
        ({"dimensions": 3}, "unsupported_parameter", "dimensions"),
        ({"dimensions": 0}, "invalid_value", "dimensions"),
        ({"dimensions": 65_537}, "invalid_value", "dimensions"),
        ({"dimensions": "3"}, "invalid_type", "dimensions"),
        ({"encoding_format": "hex"}, "invalid_value", "encoding_format"),
        ({"model": ""}, "invalid_value", "model"),
        ({"model": None}, "invalid_type", "model"),
        ({"user": 5}, "invalid_type", "user"),
    ],
)
async def test_bad_input_is_a_400_that_names_the_parameter(body: Any, code: str, param: str, http: Http) -> None:
    ran: list[Any] = []
    answer = await posted(http, lambda texts: ran.append(texts), body)
    assert error_of(answer) == (400, "invalid_request_error", code, param)
    assert not ran


@requirement("embeddings.input")
@in_process
@pytest.mark.parametrize("missing", ["model", "input"])
async def test_a_parameter_that_is_missing_is_named(missing: str, http: Http) -> None:
    body = {name: value for name, value in {"model": "small", "input": "a"}.items() if name != missing}
    async with http(Says("Hi"), embeddings={"small": embed}) as client:
        answer = await client.post(URL, json=body)
    assert error_of(answer) == (400, "invalid_request_error", "missing_required_parameter", missing)


# models


@requirement("embeddings.models")
async def test_models_that_make_embeddings_are_listed_and_found(connect: Connect) -> None:
    async with connect({"both": Says("Hi"), "agent": Says("Hi")}, embeddings={"both": embed, "only": embed}) as client:
        assert [model.id async for model in client.models.list()] == ["both", "agent", "only"]
        assert (await client.models.retrieve("only")).id == "only"
        assert (await client.embeddings.create(model="both", input="a")).data[0].embedding == [1.0, 0.5]
        said = await client.chat.completions.create(model="both", messages=HELLO)
    assert said.choices[0].message.content == "Hi"


@requirement("embeddings.models")
async def test_a_model_that_cannot_do_what_is_asked_is_a_400(connect: Connect) -> None:
    async with connect({"agent": Says("Hi")}, embeddings={"only": embed}) as client:
        with pytest.raises(openai.BadRequestError) as no_embeddings:
            await client.embeddings.create(model="agent", input="a")
        with pytest.raises(openai.BadRequestError) as no_agent:
            await client.chat.completions.create(model="only", messages=HELLO)
    assert (no_embeddings.value.code, no_embeddings.value.param) == ("unsupported_value", "model")
    assert (no_agent.value.code, no_agent.value.param) == ("unsupported_value", "model")


@requirement("embeddings.models")
@in_process
async def test_an_unknown_model_is_not_found_and_may_stand_for_the_first_one(connect: Connect) -> None:
    async with connect(Says("Hi"), embeddings={"small": embed}) as client:
        with pytest.raises(openai.NotFoundError) as unknown:
            await client.embeddings.create(model="text-embedding-3-small", input="a")
    async with connect(Says("Hi"), embeddings={"small": embed}, unknown_model="default") as client:
        answer = await client.embeddings.create(model="text-embedding-3-small", input="a")
    async with connect(Says("Hi"), unknown_model="default") as client:
        with pytest.raises(openai.NotFoundError) as none_at_all:
            await client.embeddings.create(model="text-embedding-3-small", input="a")
    assert unknown.value.code == none_at_all.value.code == "model_not_found"
    assert answer.model == "text-embedding-3-small"


@requirement("embeddings.models")
@in_process
async def test_a_caller_has_the_models_it_may_use(http: Http) -> None:
    keys = {"k": Principal("ann", models=frozenset({"agent"}))}
    async with http(Says("Hi"), embeddings={"small": embed}, keys=keys) as client:
        client.headers["Authorization"] = "Bearer k"
        answer = await client.post(URL, json={"model": "small", "input": "a"})
        listed = (await client.get("/v1/models")).json()
    assert error_of(answer) == (404, "invalid_request_error", "model_not_found", "model")
    assert [model["id"] for model in listed["data"]] == ["agent"]


# failures


@requirement("embeddings.failures")
@in_process
@pytest.mark.parametrize(
    "returned",
    [
        None,
        5,
        "ab",
        b"12345678",
        [],
        [[]],
        [[1.0]],
        [[1.0], [2.0], [3.0]],
        [[1.0], [1.0, 2.0]],
        [[1.0], 2.0],
        [[1.0], None],
        [[1.0], "2"],
        [[1.0], [b"2"]],
        [b"12345678", b"12345678"],
        [[1.0], [float("nan")]],
        [[1.0], [float("inf")]],
        [[1.0, float("inf")], [1.0, float("-inf")]],
        {0: [1.0], 1: [2.0]},
        [{1.0: 1}, {2.0: 2}],
        [{1.0}, {2.0}],
        iter([[1.0], [2.0]]),
        Library(),
    ],
)
async def test_anything_but_a_vector_of_numbers_for_each_input_is_the_functions_failure(
    returned: Any, http: Http
) -> None:
    answer = await posted(http, lambda texts: returned, {"input": ["a", "b"]})
    assert error_of(answer) == (500, "server_error", "invalid_embedding", None)
    assert answer.headers["x-should-retry"] == "false"


@requirement("embeddings.failures")
@in_process
async def test_vectors_of_another_length_than_was_asked_for_are_the_functions_failure(http: Http) -> None:
    answer = await posted(http, lambda texts, dimensions: [[1.0, 2.0]], {"dimensions": 3})
    assert error_of(answer) == (500, "server_error", "invalid_embedding", None)


@requirement("embeddings.failures")
@in_process
async def test_numbers_that_float32_cannot_hold_are_told_as_floats_only(http: Http) -> None:
    floats = await posted(http, lambda texts: [[1e300, 1.7e308, 1.7e308]], {"encoding_format": "float"})
    coded = await posted(http, lambda texts: [[1e300]], {"encoding_format": "base64"})
    assert floats.json()["data"][0]["embedding"] == [1e300, 1.7e308, 1.7e308]
    assert error_of(coded) == (500, "server_error", "invalid_embedding", None)


@requirement("embeddings.failures")
@pytest.mark.parametrize("kind", [RuntimeError, SystemExit, KeyboardInterrupt, asyncio.CancelledError, GeneratorExit])
@pytest.mark.parametrize("is_async", [False, True])
@in_process
async def test_an_exception_is_a_500_without_its_text(
    kind: type[BaseException], is_async: bool, http: Http, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(texts: list[str]) -> Vectors:
        raise kind("secret")

    async def fails_too(texts: list[str]) -> Vectors:
        raise kind("secret")

    with caplog.at_level(logging.ERROR, "openai_compat"):
        answer = await posted(http, fails_too if is_async else fails, {})
    assert error_of(answer) == (500, "server_error", "agent_error", None)
    assert b"secret" not in answer.content
    assert answer.headers["x-should-retry"] == "false"
    assert answer.headers["x-request-id"] in caplog.text


@requirement("embeddings.failures")
async def test_a_declared_failure_is_told_as_it_is(connect: Connect) -> None:
    def fails(texts: list[str]) -> Vectors:
        raise AgentError("The text is too long.", status=400, code="too_long", param="input")

    async with connect(Says("Hi"), embeddings={"small": fails}) as client:
        with pytest.raises(openai.BadRequestError) as caught:
            await client.embeddings.create(model="small", input="a")
    assert (caught.value.code, caught.value.param) == ("too_long", "input")


# slots and time


class Stuck:
    """An embed function that returns on a signal, or is cancelled."""

    def __init__(self) -> None:
        self.running = anyio.Event()
        self.ended = anyio.Event()
        self.go = anyio.Event()

    async def __call__(self, texts: Sequence[str]) -> Vectors:
        self.running.set()
        try:
            await self.go.wait()
        finally:
            self.ended.set()
        return embed(list(texts))


@requirement("embeddings.slots")
@in_process
async def test_a_function_that_takes_too_long_is_stopped(http: Http) -> None:
    stuck = Stuck()
    answer = await posted(http, stuck, {}, deadlines=Deadlines(request=0.05))
    assert error_of(answer) == (504, "server_error", "timeout", None)
    assert stuck.ended.is_set()


@requirement("embeddings.slots")
@in_process
async def test_slots_are_taken_and_given_back(http: Http) -> None:
    stuck = Stuck()
    async with http(Says("Hi"), embeddings={"small": stuck}, limits=Limits(slots=1)) as client:
        async with anyio.create_task_group() as group:
            group.start_soon(functools.partial(client.post, URL, json={"model": "small", "input": "a"}))
            await stuck.running.wait()
            refused = await client.post(URL, json={"model": "small", "input": "a"})
            stuck.go.set()
        after = await client.post(URL, json={"model": "small", "input": "a"})
    assert error_of(refused) == (429, "rate_limit_error", "rate_limit_exceeded", None)
    assert after.status_code == 200


@requirement("embeddings.slots")
@in_process
async def test_a_client_that_leaves_stops_the_function(http: Http) -> None:
    stuck = Stuck()
    async with http(Says("Hi"), embeddings={"small": stuck}, limits=Limits(slots=1)) as client:
        async with anyio.create_task_group() as group:
            group.start_soon(functools.partial(client.post, URL, json={"model": "small", "input": "a"}))
            await stuck.running.wait()
            group.cancel_scope.cancel()
        with anyio.fail_after(5):
            await stuck.ended.wait()
        stuck.go.set()
        assert (await client.post(URL, json={"model": "small", "input": "a"})).status_code == 200


@requirement("embeddings.slots")
@in_process
async def test_a_plain_function_keeps_its_slot_until_it_has_really_ended(
    http: Http, caplog: pytest.LogCaptureFixture
) -> None:
    go, running = threading.Event(), threading.Event()

    def waits(texts: list[str]) -> Vectors:
        running.set()
        assert go.wait(10)
        return embed(texts)

    server = Server(
        Says("Hi"), embeddings={"small": waits}, limits=Limits(slots=1), deadlines=Deadlines(request=0.05, grace=0.05)
    )
    async with http(server) as client:
        answer = await client.post(URL, json={"model": "small", "input": "a"})
        assert running.is_set()
        assert server.services.live.slots.used == 1
        go.set()
        with anyio.fail_after(5):
            await server.services.live.slots.wait_unused()
    assert error_of(answer) == (504, "server_error", "timeout", None)
    assert "keeps its slot until it ends" in caplog.text


@requirement("embeddings.slots")
@in_process
async def test_a_server_that_shuts_down_ends_it_with_503(http: Http) -> None:
    stuck = Stuck()
    server = Server(Says("Hi"), embeddings={"small": stuck})
    answers: list[httpx2.Response] = []

    async def ask(client: httpx2.AsyncClient) -> None:
        answers.append(await client.post(URL, json={"model": "small", "input": "a"}))

    async with http(server) as client, anyio.create_task_group() as group:
        group.start_soon(ask, client)
        await stuck.running.wait()
        await server.drain(0)
    assert error_of(answers[0]) == (503, "server_error", "shutting_down", None)
