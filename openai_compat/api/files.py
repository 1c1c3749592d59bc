"""`/v1/files`: documents and images that requests name by id instead of carrying them in the body."""

from __future__ import annotations

from urllib.parse import parse_qs, quote

from ..errors import InvalidRequest, NotFound
from ..policies.content import check_form
from ..state.ids import new_id
from ..stores.port import Store
from ..stores.records import Key, StoredFile
from ..wire.files import FORM_OVERHEAD, UNKNOWN_TYPE, DeletedFile, File, parse_upload, upload_form
from ..wire.json import dumps
from .exchange import Exchange
from .paging import page_of, page_query, unknown_cursor
from .services import Services, now

# OpenAI's own default and maximum for this list.
MAX_PAGE = 10_000


async def create(services: Services, exchange: Exchange) -> None:
    """Store a file. Raises InvalidRequest, RequestTooLarge (413)."""
    request, limits = exchange.request, services.settings.limits
    check_form(request)
    # Before the body is read, since it may be long.
    await _check_room(services.state.store, exchange.principal.id, limits.files)
    form = upload_form(request.header(b"content-type") or "", limits.file)
    await exchange.feed_body(limits.file + FORM_OVERHEAD, services.settings.deadlines.body, form.feed)
    upload = parse_upload(form.parts())
    created = now()
    file = StoredFile(
        id=new_id("file-"),
        created=created,
        filename=upload.filename,
        purpose=upload.purpose,
        media_type=upload.media_type,
        size=len(upload.content),
        expires=None if upload.expires_after is None else created + upload.expires_after,
    )
    await _check_room(
        services.state.store, exchange.principal.id, limits.files
    )  # others may have been stored meanwhile
    await services.state.store.put_file(exchange.principal.id, file, upload.content)
    await exchange.answer(200, dumps(_to_object(file)))


async def _check_room(store: Store, principal: str, most: int) -> None:
    if len(await store.list_files(principal) or ()) >= most:
        text = f"You have {most} files, which is the limit: delete some."
        raise InvalidRequest(text, param="file", code="too_many_files")


async def list_files(services: Services, exchange: Exchange) -> None:
    """A page of the caller's files, newest first; only those with the `purpose`, if one is given."""
    query = exchange.request.query
    purpose = parse_qs(query).get("purpose", [None])[-1]
    asked = page_query(query, "desc", page=MAX_PAGE, most=MAX_PAGE)
    files = await services.state.store.list_files(exchange.principal.id, asked.after, asked.order)
    if files is None:
        raise unknown_cursor()
    found = [dict(_to_object(file)) for file in files if purpose in (None, file.purpose)]
    await exchange.answer(200, dumps(page_of(found[: asked.limit], more=len(found) > asked.limit)))


async def retrieve(services: Services, exchange: Exchange, identifier: str) -> None:
    """A file's metadata. Raises NotFound."""
    file = await services.state.store.get_file(Key(exchange.principal.id, identifier))
    if file is None:
        raise _unknown_file()
    await exchange.answer(200, dumps(_to_object(file)))


async def download(services: Services, exchange: Exchange, identifier: str) -> None:
    """A file's bytes. Raises NotFound."""
    key = Key(exchange.principal.id, identifier)
    file = await services.state.store.get_file(key)
    content = await services.state.store.file_content(key)
    if file is None or content is None:
        raise _unknown_file()
    await exchange.answer(200, content, *_download_headers(file))


async def delete(services: Services, exchange: Exchange, identifier: str) -> None:
    """Delete a file. Raises NotFound."""
    if not await services.state.store.delete_file(Key(exchange.principal.id, identifier)):
        raise _unknown_file()
    body: DeletedFile = {"id": identifier, "object": "file", "deleted": True}
    await exchange.answer(200, dumps(body))


def _to_object(file: StoredFile) -> File:
    shown: File = {
        "id": file.id,
        "object": "file",
        "bytes": file.size,
        "created_at": int(file.created),
        "filename": file.filename,
        "purpose": file.purpose,
        # Deprecated in OpenAI's document, but still required of every file.
        "status": "processed",
    }
    return shown if file.expires is None else {**shown, "expires_at": int(file.expires)}


def _download_headers(file: StoredFile) -> list[tuple[str, str]]:
    """Headers that keep browsers from showing the file as a page of this server, whatever it contains."""
    name = quote(file.filename.encode("utf-8", "replace"), safe="")
    # Not even with the type that the client has declared: an uploaded page would run on this origin.
    return [
        ("Content-Type", UNKNOWN_TYPE),
        ("Content-Disposition", f"attachment; filename*=UTF-8''{name}"),
        ("X-Content-Type-Options", "nosniff"),
    ]


def _unknown_file() -> NotFound:
    return NotFound("No file has this id.", code="file_not_found", param="file_id")
