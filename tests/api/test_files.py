"""Uploaded files: stored, listed, read and deleted, and passed to agents as their bytes."""

from __future__ import annotations

import base64
import builtins
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, get_type_hints
from urllib.parse import unquote

import anyio
import httpx2
import openai
import pytest
from openai.types import FileCreateParams, FileDeleted, FileListParams, FileObject, FilePurpose

from openai_compat import Capabilities, Conversations, Cors, Limits, MemoryStore, Principal, Server
from openai_compat.http import HttpRequest, ResponseBody, ResponseStart
from openai_compat.messages import FilePart, ImagePart, TextPart, ToolMessage, UserMessage
from openai_compat.wire import files as wire
from tests.connecting import Connect, Http, in_process
from tests.requirements import requirement
from tests.support.agents import Says

pytestmark = pytest.mark.anyio

URL = "/v1/files"
CHAT = "/v1/chat/completions"
PDF = b"%PDF-1.7\r\n\x00\xff--boundary\r\n" + bytes(range(256))
HOUR = {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}


def error_of(answer: httpx2.Response) -> tuple[int, str | None, str | None]:
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == ("server_error" if answer.status_code >= 500 else "invalid_request_error")
    return answer.status_code, error["code"], error["param"]


async def upload(client: httpx2.AsyncClient, name: str = "a.pdf", content: bytes = PDF, **data: str) -> dict[str, Any]:
    answer = await client.post(URL, files={"file": (name, content)}, data={"purpose": "user_data"} | data)
    assert answer.status_code == 200, answer.content
    found: dict[str, Any] = answer.json()
    return found


# storing


@requirement("files.keep")
async def test_the_sdk_uploads_reads_lists_and_deletes_a_file(connect: Connect) -> None:
    before = int(time.time())
    async with connect(Says("Hi")) as client:
        made = await client.files.create(
            file=("report.pdf", PDF), purpose="user_data", expires_after={"anchor": "created_at", "seconds": 3600}
        )
        found = await client.files.retrieve(made.id)
        content = (await client.files.content(made.id)).content
        listed = [file.id async for file in client.files.list()]
        deleted = await client.files.delete(made.id)
        with pytest.raises(openai.NotFoundError) as gone:
            await client.files.retrieve(made.id)
        left = [file.id async for file in client.files.list()]
    assert before <= made.created_at <= time.time()
    assert made.to_dict() == {
        "id": made.id,
        "object": "file",
        "bytes": len(PDF),
        "created_at": made.created_at,
        "expires_at": made.created_at + 3600,
        "filename": "report.pdf",
        "purpose": "user_data",
        "status": "processed",
    }
    assert found == made
    assert content == PDF
    assert (listed, left) == ([made.id], [])
    assert deleted.to_dict() == {"id": made.id, "object": "file", "deleted": True}
    assert (gone.value.code, gone.value.param) == ("file_not_found", "file_id")


@requirement("files.keep")
@pytest.mark.parametrize("size", [1, 65_535, 65_536, 65_537, 3_000_000])
async def test_what_was_sent_is_what_comes_back_whatever_its_size(size: int, http: Http) -> None:
    content = bytes([index * 7 % 256 for index in range(1000)]) * (size // 1000 + 1)
    async with http(Says("Hi")) as client:
        made = await upload(client, content=content[:size])
        back = await client.get(f"{URL}/{made['id']}/content")
    assert made["bytes"] == size
    assert back.content == content[:size]


@requirement("files.keep")
@in_process
async def test_the_types_are_those_of_the_sdk(http: Http) -> None:
    async with http(Says("Hi")) as client:
        made = await upload(client, **HOUR)
        FileObject.model_validate(made, strict=True)
        deleted = (await client.delete(f"{URL}/{made['id']}")).json()
    FileDeleted.model_validate(deleted, strict=True)
    told_in_the_error = {"status_details"}  # from an upload that failed, whose file is not stored
    assert set(get_type_hints(wire.File)) == set(FileObject.model_fields) - told_in_the_error
    assert set(wire.PURPOSES) == set(FilePurpose.__args__)
    assert set(get_type_hints(FileCreateParams)) == {"file", "purpose", "expires_after"}
    assert set(get_type_hints(FileListParams)) == {"after", "limit", "order", "purpose"}


@requirement("files.keep")
@in_process
async def test_files_expire_when_they_were_told_to_and_batches_after_30_days(http: Http) -> None:
    ahead = [0.0]
    async with http(Says("Hi"), store=MemoryStore(clock=lambda: time.time() + ahead[0])) as client:
        stays, goes = await upload(client), await upload(client, **HOUR)
        batch = await upload(client, purpose="batch")
        assert "expires_at" not in stays
        assert batch["expires_at"] == batch["created_at"] + 30 * 24 * 3600
        ahead[0] = 3599 - 1
        assert (await client.get(f"{URL}/{goes['id']}")).status_code == 200
        ahead[0] = 3601
        for path in (f"{URL}/{goes['id']}", f"{URL}/{goes['id']}/content"):
            assert error_of(await client.get(path)) == (404, "file_not_found", "file_id")
        assert error_of(await client.delete(f"{URL}/{goes['id']}")) == (404, "file_not_found", "file_id")
        assert [file["id"] for file in (await client.get(URL)).json()["data"]] == [batch["id"], stays["id"]]


@requirement("files.owner")
async def test_another_callers_file_is_one_that_does_not_exist(http: Http) -> None:
    keys = {"a": Principal("ann"), "b": Principal("bob")}
    async with http(Says("Hi"), keys=keys) as client:
        client.headers["Authorization"] = "Bearer a"
        made = await upload(client)
        client.headers["Authorization"] = "Bearer b"
        for method, path in (("GET", ""), ("GET", "/content"), ("DELETE", "")):
            answer = await client.request(method, f"{URL}/{made['id']}{path}")
            assert error_of(answer) == (404, "file_not_found", "file_id")
        assert (await client.get(URL)).json()["data"] == []
        client.headers["Authorization"] = "Bearer a"
        assert (await client.get(f"{URL}/{made['id']}")).json() == made


@requirement("files.keep")
async def test_a_download_is_never_shown_as_a_page(http: Http) -> None:
    async with http(Says("Hi")) as client:
        answer = await client.post(
            URL, files={"file": ('x";\r\nA: b ü.html', b"<script>", "text/html")}, data={"purpose": "vision"}
        )
        made = answer.json()
        got = await client.get(f"{URL}/{made['id']}/content")
        headed = await client.head(f"{URL}/{made['id']}/content")
    assert got.headers["content-type"] == headed.headers["content-type"] == "application/octet-stream"
    assert got.headers.get_list("content-type") == ["application/octet-stream"]
    assert got.headers["x-content-type-options"] == "nosniff"
    assert got.headers["cache-control"] == "no-store"
    kind, _, name = got.headers["content-disposition"].partition("; filename*=UTF-8''")
    assert (kind, unquote(name)) == ("attachment", made["filename"])
    assert "a" not in {key.lower() for key in got.headers}
    assert headed.content == b""
    assert headed.headers["content-length"] == "8"


@requirement("files.keep")
@in_process
@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\ann\\report.pdf", "report.pdf"),
        ("Bericht für Ö.pdf", "Bericht für Ö.pdf"),
        ('say "hi".txt', 'say "hi".txt'),
        ("a\x00b\x1b[31m.txt", "a_b_[31m.txt"),
        ("..", "file"),
        ("/", "file"),
        ("a" * 300 + ".txt", "a" * 251 + ".txt"),
    ],
)
async def test_a_filename_is_only_a_name(sent: str, kept: str, http: Http) -> None:
    disposition = f'form-data; name="file"; filename="{sent.replace(chr(34), "%22")}"'.encode()
    body = form((disposition, b"x"), (b'form-data; name="purpose"', b"user_data"))
    async with http(Says("Hi")) as client:
        answer = await client.post(URL, content=body, headers=MULTIPART)
        made = answer.json()
        assert (await client.get(f"{URL}/{made['id']}/content")).content == b"x"
    assert made["filename"] == kept


@requirement("files.keep")
@in_process
async def test_the_same_works_with_sqlite(http: Http, tmp_path: Path) -> None:
    agent = Says("Hi")
    async with http(agent, store=f"sqlite:///{tmp_path}/state.db", conversations=Conversations()) as client:
        made, other = await upload(client, "ü \u202e\x00.pdf", **HOUR), await upload(client, "a.txt", b"\x00")
        listed = (await client.get(URL)).json()["data"]
        content = (await client.get(f"{URL}/{made['id']}/content")).content
        found = (await client.get(f"{URL}/{made['id']}")).json()
        answer = await client.post(CHAT, json={"model": "agent", "messages": naming(made["id"], other["id"])})
        assert (await client.delete(f"{URL}/{made['id']}")).json()["deleted"] is True
        assert error_of(await client.delete(f"{URL}/{made['id']}")) == (404, "file_not_found", "file_id")
    assert listed == [other, made]
    assert (content, found) == (PDF, made)
    assert answer.status_code == 200
    [message] = agent.request.messages
    assert isinstance(message, UserMessage)
    assert message.parts[2] == FilePart(data_url(b"\x00", "text/plain"), filename="a.txt")


# lists


@requirement("files.list")
async def test_lists_are_paged_by_the_sdk(connect: Connect) -> None:
    async with connect(Says("Hi")) as client:
        ids = [(await client.files.create(file=(f"{n}.txt", b"x"), purpose="user_data")).id for n in range(5)]
        newest_first = [file.id async for file in client.files.list(limit=2)]
        oldest_first = [file.id async for file in client.files.list(limit=2, order="asc")]
        after = await client.files.list(after=ids[2], order="asc")
        page = await client.files.list(limit=2)
    assert newest_first == ids[::-1]
    assert oldest_first == ids
    assert [file.id for file in after.data] == ids[3:]
    assert ([file.id for file in page.data], page.has_more) == (ids[:2:-1], True)


@requirement("files.list")
@in_process
async def test_a_list_has_the_files_of_one_purpose(http: Http) -> None:
    async with http(Says("Hi")) as client:
        await upload(client)
        seen = await upload(client, "a.png", purpose="vision")
        answer = await client.get(URL, params={"purpose": "vision"})
        none = await client.get(URL, params={"purpose": "evals"})
    assert answer.json() == {
        "object": "list",
        "data": [seen],
        "first_id": seen["id"],
        "last_id": seen["id"],
        "has_more": False,
    }
    assert none.json() == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}


@requirement("files.list")
@in_process
@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=0", "limit"),
        ("limit=10001", "limit"),
        ("limit=ten", "limit"),
        ("limit=-1", "limit"),
        ("limit=" + "9" * 50, "limit"),
        ("limit=\u0665", "limit"),
        ("order=up", "order"),
        ("after=file-none", "after"),
        ("after=%ff%00", "after"),
    ],
)
async def test_a_bad_query_is_a_400_that_names_the_parameter(query: str, param: str, http: Http) -> None:
    async with http(Says("Hi")) as client:
        await upload(client)
        assert error_of(await client.get(f"{URL}?{query}")) == (400, "invalid_value", param)


# bad forms

BOUNDARY = b"boundary"
MULTIPART = {"Content-Type": "multipart/form-data; boundary=boundary"}
FILE = (b'form-data; name="file"; filename="a.txt"', b"text")
PURPOSE = (b'form-data; name="purpose"', b"user_data")


def form(*parts: tuple[bytes, bytes]) -> bytes:
    head = b"--" + BOUNDARY + b"\r\nContent-Disposition: "
    return b"".join([head + how + b"\r\n\r\n" + data + b"\r\n" for how, data in parts]) + b"--" + BOUNDARY + b"--\r\n"


def field(name: str, value: str) -> tuple[bytes, bytes]:
    return f'form-data; name="{name}"'.encode(), value.encode()


ANCHOR, SECONDS = field("expires_after[anchor]", "created_at"), field("expires_after[seconds]", "3600")


@requirement("files.input")
@in_process
@pytest.mark.parametrize(
    ("parts", "code", "param"),
    [
        ((PURPOSE,), "missing_required_parameter", "file"),
        ((FILE,), "missing_required_parameter", "purpose"),
        ((field("file", "text"), PURPOSE), "invalid_type", "file"),
        (((FILE[0], b""), PURPOSE), "invalid_value", "file"),
        ((FILE, field("purpose", "fun")), "invalid_value", "purpose"),
        ((FILE, field("purpose", "")), "invalid_value", "purpose"),
        ((FILE, (b'form-data; name="purpose"', b"\xff")), "invalid_value", "purpose"),
        ((FILE, FILE, PURPOSE), "invalid_value", "file"),
        ((FILE, PURPOSE, PURPOSE), "invalid_value", "purpose"),
        ((FILE, PURPOSE, ANCHOR), "missing_required_parameter", "expires_after[seconds]"),
        ((FILE, PURPOSE, SECONDS), "missing_required_parameter", "expires_after[anchor]"),
        ((FILE, PURPOSE, field("expires_after[anchor]", "now"), SECONDS), "invalid_value", "expires_after[anchor]"),
        *[
            ((FILE, PURPOSE, ANCHOR, field("expires_after[seconds]", value)), "invalid_value", "expires_after[seconds]")
            for value in ("3599", "2592001", "-3600", "3600.0", "1e4", "", "9" * 400, "\u0663\u0666\u0660\u0660")
        ],
        ((FILE, PURPOSE, *[field(f"other{n}", "x") for n in range(31)]), "invalid_value", None),
    ],
)
async def test_a_bad_form_is_a_400_that_names_the_field(
    parts: tuple[tuple[bytes, bytes], ...], code: str, param: str | None, http: Http
) -> None:
    async with http(Says("Hi")) as client:
        answer = await client.post(URL, content=form(*parts), headers=MULTIPART)
        kept = (await client.get(URL)).json()["data"]
    assert error_of(answer) == (400, code, param)
    assert kept == []


@requirement("files.input")
@in_process
@pytest.mark.parametrize(
    "parts", [(FILE, PURPOSE), (PURPOSE, field("other", "x" * 5000), FILE), (FILE, PURPOSE, ANCHOR, SECONDS)]
)
async def test_a_form_may_have_its_fields_in_any_order_and_others_too(
    parts: tuple[tuple[bytes, bytes], ...], http: Http
) -> None:
    async with http(Says("Hi")) as client:
        answer = await client.post(URL, content=form(*parts), headers=MULTIPART)
    assert answer.json()["bytes"] == 4


WHOLE = form(FILE, PURPOSE)


@requirement("files.input")
@in_process
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x00\xff",
        b'{"purpose": "user_data"}',
        b"--other\r\n",
        b"--boundary--\r\n",
        WHOLE[:10],
        WHOLE[: len(WHOLE) // 2],
        WHOLE[:-6],
        WHOLE.replace(b"\r\n\r\n", b"\r\n"),
        WHOLE.replace(b"Content-Disposition", b"Content Disposition"),
        b"--boundary\r\n" + b"A: b\r\n" * 20_000,
        b"--boundary\r\nA: " + b"b" * 50_000,
    ],
    ids=lambda body: repr(body[:20]),
)
async def test_what_is_no_whole_form_is_a_400(body: bytes, http: Http) -> None:
    async with http(Says("Hi")) as client:
        answer = await client.post(URL, content=body, headers=MULTIPART)
        kept = (await client.get(URL)).json()["data"]
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] in ("invalid_request", "missing_required_parameter")
    assert kept == []


@requirement("files.input")
@in_process
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Type": "multipart/form-data"}, 400),
        ({"Content-Type": "multipart/form-data; boundary="}, 400),
        ({"Content-Type": "multipart/form-data; boundary=" + "b" * 5000}, 400),
        ({"Content-Type": "multipart/mixed; boundary=boundary"}, 415),
        ({"Content-Type": "application/json"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({}, 415),
        ({**MULTIPART, "Content-Encoding": "br"}, 415),
        ({**MULTIPART, "Origin": "https://evil.example"}, 415),
        ({**MULTIPART, "Origin": "null"}, 415),
        ({**MULTIPART, "Sec-Fetch-Site": "cross-site"}, 415),
        ({**MULTIPART, "Origin": "https://evil.example", "Authorization": "Basic Zm9vOmJhcg=="}, 415),
    ],
)
async def test_other_bodies_and_those_of_foreign_pages_are_refused(
    headers: dict[str, str], status: int, http: Http
) -> None:
    async with http(Says("Hi")) as client:
        answer = await client.post(URL, content=WHOLE, headers=headers)
        kept = (await client.get(URL)).json()["data"]
    assert answer.status_code == status
    assert kept == []


@requirement("files.input")
@in_process
async def test_a_page_that_was_allowed_to_send_a_key_may_upload(http: Http) -> None:
    page = {"Origin": "https://app.example", "Authorization": "Bearer any"}
    async with http(Says("Hi"), cors=Cors(["https://app.example"])) as client:
        answer = await client.post(URL, content=WHOLE, headers={**MULTIPART, **page})
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "https://app.example"


# limits


@requirement("files.limits")
async def test_a_file_over_the_limit_is_refused_and_one_at_the_limit_is_not(connect: Connect) -> None:
    async with connect(Says("Hi"), limits=Limits(file=1000)) as client:
        made = await client.files.create(file=("a", b"x" * 1000), purpose="user_data")
        with pytest.raises(openai.APIStatusError) as caught:
            await client.files.create(file=("a", b"x" * 1001), purpose="user_data")
        assert [file.id async for file in client.files.list()] == [made.id]
    assert (caught.value.status_code, caught.value.code) == (413, "request_too_large")
    assert caught.value.param == "file"


@requirement("files.limits")
async def test_a_form_that_is_far_over_the_limit_is_not_read_to_its_end() -> None:
    read = [0]
    sent: list[ResponseStart | ResponseBody] = []

    async def endless() -> AsyncIterator[bytes]:
        yield WHOLE.partition(b"text")[0]
        while True:
            read[0] += 10_000
            yield b"x" * 10_000

    async def send(message: ResponseStart | ResponseBody) -> None:
        sent.append(message)

    headers = [(b"host", b"localhost"), (b"content-type", b"multipart/form-data; boundary=boundary")]
    with anyio.fail_after(5):
        await Server(Says("Hi"), limits=Limits(file=100_000)).handle(
            HttpRequest("POST", URL, "", headers, endless()), send
        )
    assert isinstance(sent[0], ResponseStart)
    assert sent[0].status == 413
    assert read[0] == 110_000


@requirement("files.limits")
async def test_a_caller_has_so_many_files_and_no_more(connect: Connect) -> None:
    async with connect(Says("Hi"), limits=Limits(files=2)) as client:
        first = await client.files.create(file=("a", b"x"), purpose="user_data")
        await client.files.create(file=("a", b"x"), purpose="user_data")
        with pytest.raises(openai.BadRequestError) as caught:
            await client.files.create(file=("a", b"x"), purpose="user_data")
        await client.files.delete(first.id)
        await client.files.create(file=("a", b"x"), purpose="user_data")
    assert (caught.value.code, caught.value.param) == ("too_many_files", "file")


@requirement("files.limits")
@in_process
async def test_a_server_without_the_parser_says_so(http: Http, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "python_multipart"]:
        monkeypatch.delitem(sys.modules, name)
    imported = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] == "python_multipart":
            raise ImportError(name)
        return imported(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    async with http(Says("Hi")) as client:
        answer = await client.post(URL, content=WHOLE, headers=MULTIPART)
    assert error_of(answer) == (503, "files_not_installed", None)
    assert "openai-compat[files]" in answer.text
    assert answer.headers["x-should-retry"] == "false"


# files that requests name


def data_url(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def naming(*identifiers: str, text: str = "Read this") -> list[Any]:
    parts = [{"type": "file", "file": {"file_id": identifier}} for identifier in identifiers]
    return [{"role": "user", "content": [{"type": "text", "text": text}, *parts]}]


@requirement("files.attached")
async def test_chat_agents_get_a_named_file_as_its_bytes(connect: Connect) -> None:
    agent = Says("Hi")
    async with connect(agent) as client:
        made = await client.files.create(file=("report.pdf", PDF), purpose="user_data")
        await client.chat.completions.create(model="agent", messages=naming(made.id))
    url = data_url(PDF, "application/pdf")
    [message] = agent.request.messages
    assert isinstance(message, UserMessage)
    assert message.parts == (TextPart("Read this"), FilePart(url, filename="report.pdf"))
    assert agent.request.raw_messages == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Read this"},
                {"type": "file", "file": {"file_data": url, "filename": "report.pdf"}},
            ],
        }
    ]


@requirement("files.attached")
async def test_response_agents_get_named_files_and_pictures_as_their_bytes(connect: Connect) -> None:
    agent = Says("Hi")
    async with connect(agent) as client:
        report = await client.files.create(file=("report.pdf", PDF), purpose="user_data")
        photo = await client.files.create(file=("photo.png", b"png"), purpose="vision")
        parts: Any = [
            {"type": "input_file", "file_id": report.id, "filename": "mine.pdf"},
            {"type": "input_image", "file_id": photo.id, "detail": "low"},
        ]
        answer = await client.responses.create(model="agent", input=[{"role": "user", "content": parts}])
        listed = await client.responses.input_items.list(answer.id)
    pdf, png = data_url(PDF, "application/pdf"), data_url(b"png", "image/png")
    [message] = agent.request.messages
    assert isinstance(message, UserMessage)
    assert message.parts == (FilePart(pdf, filename="mine.pdf"), ImagePart(png))
    assert agent.request.raw_items is not None
    assert agent.request.raw_items[0]["content"] == [
        {"type": "input_file", "file_data": pdf, "filename": "mine.pdf"},
        {"type": "input_image", "image_url": png, "detail": "low"},
    ]
    kept: Any = listed.data[0]
    assert [part.file_id for part in kept.content] == [report.id, photo.id]


@requirement("files.attached")
@in_process
async def test_plain_functions_get_it_in_messages(http: Http) -> None:
    given: list[Any] = []

    def agent(messages: list[dict[str, Any]]) -> str:
        given.extend(messages)
        return "Hi"

    async with http(agent) as client:
        made = await upload(client)
        await client.post(CHAT, json={"model": "agent", "messages": naming(made["id"])})
    assert given[0]["content"][1]["file"] == {"file_data": data_url(PDF, "application/pdf"), "filename": "a.pdf"}


@requirement("files.attached")
@in_process
async def test_results_of_tools_may_name_files_too(http: Http) -> None:
    agent = Says("Hi")
    async with http(agent) as client:
        made = await upload(client)
        call = {"type": "function_call", "call_id": "c", "name": "read", "arguments": "{}"}
        result = {
            "type": "function_call_output",
            "call_id": "c",
            "output": [{"type": "input_text", "text": "Here"}, {"type": "input_file", "file_id": made["id"]}],
        }
        items = [{"role": "user", "content": "Read it"}, call, result]
        answer = await client.post("/v1/responses", json={"model": "agent", "input": items})
    assert answer.status_code == 200, answer.content
    message = agent.request.messages[-1]
    assert isinstance(message, ToolMessage)
    assert (message.text, message.media) == ("Here", (FilePart(data_url(PDF, "application/pdf"), filename="a.pdf"),))


@requirement("files.attached")
@in_process
@pytest.mark.parametrize(
    ("name", "sent", "kind"),
    [
        ("a.txt", None, "text/plain"),
        ("a.png", None, "image/png"),
        ("a", None, "application/octet-stream"),
        ("a.md", "text/markdown; charset=utf-8", "text/markdown"),
        ("a.pdf", "application/octet-stream", "application/pdf"),
        ("a.pdf", "nonsense", "application/pdf"),
        ("a.pdf", "text/x, y/z", "application/pdf"),
    ],
)
async def test_the_media_type_is_as_it_was_sent_or_as_the_name_says(
    name: str, sent: str | None, kind: str, http: Http
) -> None:
    agent = Says("Hi", can=Capabilities(vision=False))
    async with http(agent) as client:
        file = (name, b"x") if sent is None else (name, b"x", sent)
        made = (await client.post(URL, files={"file": file}, data={"purpose": "user_data"})).json()
        await client.post(CHAT, json={"model": "agent", "messages": naming(made["id"])})
    [message] = agent.request.messages
    assert isinstance(message, UserMessage)
    assert message.parts[1] == FilePart(data_url(b"x", kind), filename=name)


@requirement("files.attached")
@in_process
async def test_a_conversation_keeps_the_id_and_each_turn_reads_the_file_anew(http: Http) -> None:
    agent = Says("Hi")
    headers = {"X-Conversation-Id": "c"}
    async with http(agent, conversations=Conversations()) as client:
        made = await upload(client, content=b"%PDF")
        await client.post(CHAT, json={"model": "agent", "messages": naming(made["id"])}, headers=headers)
        more = {"model": "agent", "messages": [{"role": "user", "content": "And now?"}]}
        kept = (await client.get("/v1/chat/conversations/c")).json()["messages"][0]
        await client.post(CHAT, json=more, headers=headers)
        await client.delete(f"{URL}/{made['id']}")
        after = await client.post(CHAT, json=more, headers=headers)
    assert after.status_code == 200
    first, second, third = [request.messages[0] for request in agent.requests]
    assert isinstance(first, UserMessage)
    assert first.parts[1] == FilePart(data_url(b"%PDF", "application/pdf"), filename="a.pdf")
    assert second == first
    assert isinstance(third, UserMessage)
    assert third.parts[1] == TextPart(f"[The file {made['id']} is not available.]")
    assert kept["content"][1] == {"type": "file", "file": {"file_id": made["id"]}}
    assert agent.requests[-1].prompt == "And now?"


@requirement("files.limits")
@in_process
async def test_the_files_of_a_conversation_are_left_out_from_the_oldest_on_where_there_is_no_room(http: Http) -> None:
    agent = Says("Hi")
    headers = {"X-Conversation-Id": "c"}
    async with http(agent, conversations=Conversations(), limits=Limits(attachments=250)) as client:
        ids = [(await upload(client, f"{n}.pdf", b"x" * 100))["id"] for n in range(3)]
        for identifier in ids:
            body = {"model": "agent", "messages": naming(identifier)}
            assert (await client.post(CHAT, json=body, headers=headers)).status_code == 200
    users = [message for message in agent.requests[-1].messages if isinstance(message, UserMessage)]
    url = data_url(b"x" * 100, "application/pdf")
    assert [message.parts[1] for message in users] == [
        TextPart(f"[The file {ids[0]} is not available.]"),
        FilePart(url, filename="1.pdf"),
        FilePart(url, filename="2.pdf"),
    ]


PLAIN: Any = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]


@requirement("files.missing")
@pytest.mark.parametrize("stream", [False, True])
async def test_a_file_that_is_not_there_is_a_400_before_the_agent_runs(stream: bool, connect: Connect) -> None:
    agent = Says("Hi")
    async with connect(agent) as client:
        made = await client.files.create(file=("a.pdf", PDF), purpose="user_data")
        with pytest.raises(openai.BadRequestError) as chat:
            await client.chat.completions.create(
                model="agent", messages=[*PLAIN, *naming(made.id, "file-none")], stream=stream
            )
        parts: Any = [{"type": "input_text", "text": "x"}, {"type": "input_image", "file_id": "file-none"}]
        with pytest.raises(openai.BadRequestError) as response:
            await client.responses.create(
                model="agent", input=[*PLAIN, {"role": "user", "content": parts}], stream=stream
            )
    assert (chat.value.code, chat.value.param) == ("file_not_found", "messages[2].content[2]")
    assert (response.value.code, response.value.param) == ("file_not_found", "input[2].content[1]")
    assert agent.requests == []


@requirement("files.missing")
@in_process
async def test_an_expired_file_and_another_callers_are_not_there(http: Http) -> None:
    agent, ahead = Says("Hi"), [0.0]
    keys = {"a": Principal("ann"), "b": Principal("bob")}
    async with http(agent, keys=keys, store=MemoryStore(clock=lambda: time.time() + ahead[0])) as client:
        client.headers["Authorization"] = "Bearer a"
        made = await upload(client, **HOUR)
        body = {"model": "agent", "messages": naming(made["id"])}
        assert (await client.post(CHAT, json=body)).status_code == 200
        foreign = await client.post(CHAT, json=body, headers={"Authorization": "Bearer b"})
        ahead[0] = 3601
        expired = await client.post(CHAT, json=body)
    for answer in (foreign, expired):
        assert error_of(answer) == (400, "file_not_found", "messages[0].content[1]")
    assert len(agent.requests) == 1


@requirement("files.missing")
@in_process
@pytest.mark.parametrize(
    ("can", "name", "part"),
    [
        (Capabilities(files=False), "a.pdf", "input_file"),
        (Capabilities(vision=False), "a.png", "input_image"),
        (Capabilities(files=False), "a.pdf", "input_image"),
        (Capabilities(files=False, vision=False), "a.png", "input_image"),
    ],
)
async def test_an_agent_that_cannot_take_it_is_not_run(can: Capabilities, name: str, part: str, http: Http) -> None:
    agent = Says("Hi", can=can)
    async with http(agent) as client:
        made = await upload(client, name)
        items = [{"role": "user", "content": [{"type": part, "file_id": made["id"]}]}]
        answer = await client.post("/v1/responses", json={"model": "agent", "input": items})
        chat = (
            await client.post(CHAT, json={"model": "agent", "messages": naming(made["id"])})
            if not can.files
            else answer
        )
    assert error_of(answer) == (400, "unsupported_parameter", "input[0].content[0]")
    assert chat.json()["error"]["code"] == "unsupported_parameter"
    assert agent.requests == []


@requirement("files.limits")
@in_process
async def test_the_files_of_one_request_are_bounded_each_as_often_as_it_is_named(http: Http) -> None:
    agent = Says("Hi")
    async with http(agent, limits=Limits(attachments=250)) as client:
        made = await upload(client, content=b"x" * 100)
        twice = await client.post(CHAT, json={"model": "agent", "messages": naming(*[made["id"]] * 2)})
        thrice = await client.post(CHAT, json={"model": "agent", "messages": naming(*[made["id"]] * 3)})
    assert twice.status_code == 200
    assert error_of(thrice) == (400, "attachments_too_large", "messages[0].content[1]")
    assert len(agent.requests) == 1


@requirement("files.attached")
@in_process
async def test_a_part_that_has_its_data_is_handed_on_as_it_is(http: Http) -> None:
    agent = Says("Hi")
    part = {"type": "file", "file": {"file_data": "eA==", "file_id": "file-none", "filename": "x.txt"}}
    async with http(agent) as client:
        await client.post(CHAT, json={"model": "agent", "messages": [{"role": "user", "content": [part]}]})
    [message] = agent.request.messages
    assert isinstance(message, UserMessage)
    assert message.parts == (FilePart("eA==", "file-none", "x.txt"),)
