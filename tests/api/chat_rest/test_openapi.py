"""The chat REST API in `/openapi.json`: real answers match the document."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from openai_compat import ChatRest, Server
from tests.api.chat_rest.support import API, BOUGHT, BUYS, Shop, conversation, frames, serving, shopper
from tests.api.test_openapi import METHODS, document, references
from tests.connecting import Http, in_process
from tests.requirements import requirement

pytestmark = [pytest.mark.anyio, in_process]


async def described(client: Any) -> dict[str, Any]:
    found: dict[str, Any] = (await client.get("/openapi.json")).json()
    return found


async def test_it_is_described_where_it_is_served_and_only_there(http: Http) -> None:
    without = await document(http)
    async with http(Server(shopper(Shop(), *BUYS), chat_rest=ChatRest(prefix="/talk"))) as client:
        openapi = await described(client)
    more = set(openapi["paths"]) - set(without["paths"])
    assert more
    assert all(path.startswith("/talk/") for path in more)
    assert not any(name.startswith("ChatRest") for name in without["components"]["schemas"])


async def test_it_refers_to_nothing_that_is_not_there_and_its_schemas_are_schemas(http: Http) -> None:
    async with http(serving(shopper(Shop(), *BUYS))) as client:
        openapi = await described(client)
    for reference in references(openapi):
        target: Any = openapi
        for step in reference.removeprefix("#/").split("/"):
            target = target[step]
    for schema in openapi["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    for path, item in openapi["paths"].items():
        assert set(item) <= METHODS
        for operation in item.values():
            named = {one["name"] for one in operation.get("parameters", []) if one["in"] == "path"}
            assert named == {step[1:-1] for step in path.split("/") if step.startswith("{")}


@requirement("chat_rest.openapi")
async def test_every_described_operation_is_there(http: Http) -> None:
    async with http(serving(shopper(Shop(), *BUYS))) as client:
        openapi = await described(client)
        for path, item in openapi["paths"].items():
            if path.startswith(API):
                for method in item:
                    filled = path.replace("{", "").replace("}", "")
                    answer = await client.request(method, filled, json=None if method == "get" else {})
                    assert answer.status_code != 405
                    if answer.status_code == 404:
                        assert answer.json()["error"]["code"] != "unknown_url"


@requirement("chat_rest.openapi")
async def test_answers_are_what_it_says(http: Http) -> None:
    shop = Shop()
    async with http(serving(shopper(shop, *BUYS, *BOUGHT, *BUYS, *BOUGHT))) as client:
        openapi = await described(client)

        def check(method: str, path: str, answer: Any) -> Any:
            responses = openapi["paths"][API + path][method]["responses"]
            schema = responses[str(answer.status_code)]["content"]["application/json"]["schema"]
            whole = {**schema, "components": openapi["components"]}
            jsonschema.Draft202012Validator(whole).validate(answer.json())
            return answer.json()

        name = await conversation(client, taskId="t")
        base = "/conversations/{conversation_id}"
        path = f"{API}/conversations/{name}"
        said = check(
            "post",
            f"{base}/messages/with-tools",
            await client.post(f"{path}/messages/with-tools", json={"content": "Buy"}),
        )
        check("get", "/approvals", await client.get(f"{API}/approvals"))
        body = {"conversationId": name, "approvalId": said["pendingApprovals"][0]["id"], "decision": "allow-always"}
        check("post", "/tools/approve", await client.post(f"{API}/tools/approve", json=body))
        kept = check("get", "/grants", await client.get(f"{API}/grants"))["grants"]
        check("delete", "/grants/{grant_id}", await client.delete(f"{API}/grants/{kept[0]['id']}"))
        asked = {"messages": [{"role": "user", "content": "Buy"}]}
        check("post", "/completions", await client.post(f"{API}/completions", json=asked))
        check("post", "/smart", await client.post(f"{API}/smart", json={**asked, "conversationId": name}))
        check("post", "/quick", await client.post(f"{API}/quick", json={"prompt": "Buy"}))
        for below in ("", "/messages", "/export"):
            check("get", base + below, await client.get(path + below))
        check("get", "/conversations", await client.get(f"{API}/conversations"))
        check("post", f"{base}/title", await client.post(f"{path}/title", json={"title": "A"}))
        check("post", f"{base}/fork", await client.post(f"{path}/fork", json={}))
        for known in ("/models", "/providers", "/tools"):
            check("get", known, await client.get(API + known))
        own = f"{API}/providers/openai-compat"
        check("get", "/providers/{provider}/models", await client.get(f"{own}/models"))
        check("post", "/providers/{provider}/health", await client.post(f"{own}/health"))
        events = frames(await client.post(f"{path}/messages/agentic", json={"content": "Buy"}))
        check("delete", base, await client.delete(path))

    event = {"$ref": "#/components/schemas/ChatRestAgenticEvent", "components": openapi["components"]}
    for one in events:
        jsonschema.Draft202012Validator(event).validate(one)
