"""Every provider, by its real SDK and a socket: its URL, its requests, its models and its health."""

from __future__ import annotations

import logging
from typing import Any

import anyio
import openai
import pytest

from openai_compat import Server
from openai_compat.agents.error_mapping import to_public_error
from openai_compat.backend import AgentBackend
from openai_compat.errors import AgentError, NotFound, OpenAICompatError
from openai_compat.providers import PROVIDERS, Providers, ProviderSettings, connection
from tests.backends.support import new_context, read, request_for, run
from tests.backends.upstream import Reply, Upstream, error_reply
from tests.providers.support import KEY, at, claude_says_four, fails, lists, paths, says
from tests.requirements import requirement

pytestmark = pytest.mark.anyio

ALL = sorted(PROVIDERS)
LISTING = [name for name in ALL if PROVIDERS[name].lists_models]


def reply(name: str) -> Reply:
    return claude_says_four() if name == "anthropic" else says("Four.")


async def text_of(backend: AgentBackend) -> str:
    return "".join([item for item in await run(backend) if isinstance(item, str)])


def path_of(url: str) -> str:
    return "/" + url.split("/", 3)[3]


def key_in(headers: dict[str, str]) -> str | None:
    return headers.get("authorization") or headers.get("x-api-key") or headers.get("api-key")


# URLs and keys


def test_there_are_the_fifteen_types() -> None:
    names = "anthropic openai azure google ollama openrouter groq xai mistral cohere perplexity deepseek together"
    assert list(PROVIDERS) == [*names.split(" "), "cerebras", "fireworks"]


@requirement("provider.types")
@pytest.mark.parametrize("name", ALL)
async def test_a_model_is_asked_where_and_how_its_provider_wants_it(name: str) -> None:
    upstream = Upstream(reply(name))
    with upstream.served() as url:
        providers = Providers({name: at(url, name)})
        said = await text_of(providers.backend(f"{name}/m", system="Be brief."))
        await providers.aclose()

    assert said == "Four."
    assert path_of(upstream.urls[0]) == paths(name)[1]
    assert upstream.requests[0]["model"] == "m"
    assert key_in(upstream.headers[0]) in (KEY, f"Bearer {KEY}")
    assert "Be brief." in str(upstream.requests[0])


@pytest.mark.parametrize("name", ALL)
async def test_key_and_url_may_come_from_the_environment(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    provider = PROVIDERS[name]
    providers = Providers()
    assert (name in providers.configured) is not provider.needs_key
    upstream = Upstream(reply(name))
    with upstream.served() as url:
        monkeypatch.setenv(provider.url_env, url + paths(name)[0])
        monkeypatch.setenv(provider.key_env[-1], KEY)
        assert name in providers.configured
        assert await text_of(providers.backend(f"{name}/m")) == "Four."
        await providers.aclose()

    assert key_in(upstream.headers[0]) in (KEY, f"Bearer {KEY}")


@pytest.mark.parametrize("name", [name for name in ALL if PROVIDERS[name].base_url is not None])
def test_a_base_url_of_the_table_is_what_the_client_gets(name: str) -> None:
    client = Providers({name: ProviderSettings(api_key="k")}).connection(name).make_client()
    base = PROVIDERS[name].base_url
    assert base is not None
    assert str(client.base_url).rstrip("/") == base
    assert path_of(f"{base}/chat/completions") == paths(name)[1]


def test_azure_has_a_client_of_its_own() -> None:
    settings = ProviderSettings(api_key="k", resource_name="acme", api_version="2025-01-01", deployment_name="ours")
    client = Providers({"azure": settings}).connection("azure").make_client()

    assert type(client).__name__ == "AsyncAzureOpenAI"
    assert str(client.base_url) == "https://acme.openai.azure.com/openai/"


async def test_azures_deployment_answers_whatever_the_model_is_called() -> None:
    upstream = Upstream(says("Four."))
    with upstream.served() as url:
        providers = Providers({"azure": at(url, "azure", deployment_name="ours", api_version="2025-01-01")})
        await run(providers.backend("azure/gpt-5.2"))
        assert await providers.models("azure") == ["ours"]
        await providers.aclose()

    assert path_of(upstream.urls[0]) == "/openai/deployments/ours/chat/completions?api-version=2025-01-01"
    assert upstream.headers[0]["api-key"] == KEY


@requirement("provider.secret")
async def test_strangers_are_not_told_openais_key_organization_or_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-openais")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-ours")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-ours")
    upstream = Upstream(*[says("a") for _ in range(4)])
    with upstream.served() as url:
        theirs = {"groq": at(url), "azure": at(url, "azure")}
        providers = Providers({n: ProviderSettings(base_url=f"{url}/v1") for n in ("ollama", "openai")} | theirs)
        for model in ("ollama/m", "groq/m", "azure/m", "openai/m"):
            await run(providers.backend(model))
        await providers.aclose()

    strangers, openais = str(upstream.headers[:3]), upstream.headers[3]
    assert "ours" not in strangers
    assert "sk-openais" not in strangers
    assert (openais["openai-organization"], openais["authorization"]) == ("org-ours", "Bearer sk-openais")


async def test_mistral_is_not_sent_what_it_refuses() -> None:
    upstream = Upstream(says("a"), says("b"))
    with upstream.served() as url:
        providers = Providers({"mistral": at(url), "groq": at(url)})
        await run(providers.backend("mistral/m"))
        await run(providers.backend("groq/m"))
        await providers.aclose()

    assert ["stream_options" in request for request in upstream.requests] == [False, True]


# names


async def test_a_model_is_named_by_provider_alias_or_default() -> None:
    upstream = Upstream(*[says("a") for _ in range(6)])
    names = ["groq/llama", "fast", "llama/3", "groq", "openrouter/anthropic/claude", "xai/"]
    with upstream.served() as url:
        settings = {name: at(url, default_model=f"{name}-best") for name in ("groq", "xai", "openrouter")}
        providers = Providers(settings, default="xai", aliases={"fast": "groq/llama-8b"})
        for name in names:
            await run(providers.backend(name))
        await providers.aclose()

    asked = [request["model"] for request in upstream.requests]
    assert asked == ["llama", "llama-8b", "llama/3", "groq-best", "anthropic/claude", "xai-best"]


@requirement("provider.configure")
async def test_another_default_or_alias_counts_from_the_next_turn_on() -> None:
    upstream = Upstream(says("a"), says("b"), says("c"))
    with upstream.served() as url:
        providers = Providers({"groq": at(f"{url}/groq"), "xai": at(f"{url}/xai")})
        agent = providers.backend("m")
        await run(agent)
        providers.set_default("xai")
        await run(agent)
        providers.aliases["m"] = "groq/n"
        await run(agent)
        await providers.aclose()

    assert [path_of(asked).split("/")[1] for asked in upstream.urls] == ["groq", "xai", "groq"]
    assert [request["model"] for request in upstream.requests] == ["m", "m", "n"]


@pytest.mark.parametrize("ask", ["connection", "settings", "set_default"])
def test_an_unknown_provider_is_a_404(ask: str) -> None:
    with pytest.raises(NotFound) as caught:
        getattr(Providers(), ask)("antropic")
    assert (caught.value.status, caught.value.code) == (404, "provider_not_found")


@pytest.mark.parametrize(
    ("settings", "model"),
    [
        ({}, "groq/m"),
        ({"groq": ProviderSettings(api_key="k")}, "groq"),
        ({"groq": ProviderSettings(api_key="k", enabled=False)}, "groq/m"),
        ({"azure": ProviderSettings(api_key="k")}, "azure/m"),
        ({"ollama": ProviderSettings(enabled=False)}, "m"),
    ],
)
async def test_what_is_not_set_up_is_a_503_and_nothing_is_sent(
    settings: dict[str, ProviderSettings], model: str
) -> None:
    with pytest.raises(AgentError) as caught:
        await run(Providers(settings).backend(model))
    assert (caught.value.status, caught.value.code) == (503, "provider_not_configured")


# changing settings at run time


@requirement("provider.configure")
async def test_the_next_turn_has_the_new_settings_and_the_running_one_keeps_its_own() -> None:
    old, new = Upstream(says("old"), says("old")), Upstream(says("new"))
    with old.served() as old_url, new.served() as new_url:
        providers = Providers({"groq": at(old_url)})
        agent = providers.backend("groq/m")
        running = read(agent, request_for(), new_context())
        first = await anext(running)
        client = providers.connection("groq")._clients.current_client(providers.connection("groq"))
        providers.configure("groq", at(new_url, api_key="sk-other"))
        said = await text_of(agent)
        assert not client.is_closed()
        rest = [item async for item in running]
        assert client.is_closed()
        await providers.aclose()

    assert first + "".join([item for item in rest if isinstance(item, str)]) == "old"
    assert said == "new"
    assert new.headers[0]["authorization"] == "Bearer sk-other"


@requirement("provider.configure")
async def test_the_client_of_settings_that_are_gone_is_closed_by_the_next_turn() -> None:
    upstream = Upstream(says("a"), says("b"))
    with upstream.served() as url:
        providers = Providers({"groq": at(url)})
        agent = providers.backend("groq/m")
        before = providers.connection("groq")
        await run(agent)
        async with before.in_use() as client:
            pass
        assert not client.is_closed()
        providers.configure("groq", at(url))
        await run(agent)
        assert client.is_closed()
        await providers.aclose()


async def test_models_of_one_provider_share_a_client_which_is_closed_in_the_end() -> None:
    upstream = Upstream(says("a"), says("b"))
    with upstream.served() as url:
        providers = Providers({"groq": at(url)})
        first, second = providers.backend("groq/m"), providers.backend("groq/n")
        await run(first)
        await run(second)
        async with providers.connection("groq").in_use() as client:
            await second.aclose()
            assert not client.is_closed()
        assert client.is_closed()


async def test_a_server_closes_the_clients_that_only_it_used() -> None:
    upstream = Upstream(lists("m"))
    with upstream.served() as url:
        providers = Providers({"groq": at(url)})
        server = Server(lambda prompt: prompt, providers=providers)
        async with server.lifespan():
            assert (await providers.health_of("groq")).healthy
            async with providers.connection("groq").in_use() as client:
                pass
            assert not client.is_closed()
        assert client.is_closed()


@pytest.mark.parametrize("name", ["groq", "anthropic"])
async def test_a_turn_that_is_cancelled_leaves_the_model_at_once(name: str) -> None:
    answer = reply(name)
    upstream = Upstream(Reply(answer.frames[:-1], hang=True))
    with upstream.served() as url:
        providers = Providers({name: at(url, name)})
        async with anyio.create_task_group() as group:
            group.start_soon(run, providers.backend(f"{name}/m"))
            with anyio.fail_after(10):
                while not upstream.requests:
                    await anyio.sleep(0.01)
            group.cancel_scope.cancel()
        assert await anyio.to_thread.run_sync(upstream.left.wait, 10)
        await providers.aclose()


def test_each_event_loop_has_a_client_of_its_own() -> None:
    upstream = Upstream(says("a"), says("b"), says("c"))
    clients: list[Any] = []
    with upstream.served() as url:
        providers = Providers({"groq": at(url)})
        agent = providers.backend("groq/m")

        async def turn() -> None:
            async with providers.connection("groq").in_use() as client:
                clients.append(client)
                assert await text_of(agent) in "abc"
            await providers.aclose()

        for _ in range(3):
            anyio.run(turn)

    assert len(set(map(id, clients))) == 3
    assert all([client.is_closed() for client in clients])


# secrets


@requirement("provider.secret")
async def test_a_key_is_in_no_repr_error_or_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "openai_compat")
    upstream = Upstream(fails(401), fails(401))
    with upstream.served() as url:
        providers = Providers({"groq": at(url)})
        health = await providers.health()
        with pytest.raises(openai.AuthenticationError) as caught:
            await run(providers.backend("groq/m"))
        await providers.aclose()

    told = to_public_error(caught.value)
    seen = [repr(providers.settings("groq")), repr(vars(providers.connection("groq"))["settings"]), str(health)]
    assert KEY not in "".join([*seen, told.message, str(told), caplog.text])
    assert told.code == "upstream_auth"


# models and health


@pytest.mark.parametrize("name", LISTING)
async def test_models_are_asked_for(name: str) -> None:
    upstream = Upstream(lists("one", "two"))
    with upstream.served() as url:
        providers = Providers({name: at(url, name)})
        found = await providers.models(name)
        again = await providers.models(name)
        await providers.aclose()

    assert found == again == ["one", "two"]
    assert list(map(path_of, upstream.urls)) == [paths(name)[2]]
    assert key_in(upstream.headers[0]) in (KEY, f"Bearer {KEY}")


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ([{"id": "a"}, {"id": "b"}], ["a", "b"]),
        ({"models": [{"name": "command-a", "endpoints": ["chat"]}]}, ["command-a"]),
        ({"data": [{"id": "models/gemini-3"}, {"no": "name"}, 7]}, ["gemini-3"]),
        ({"data": []}, []),
    ],
)
async def test_lists_of_other_shapes_are_read(body: Any, names: list[str]) -> None:
    upstream = Upstream(error_reply(200, body))
    with upstream.served() as url:
        providers = Providers({"together": at(url)})
        assert await providers.models("together") == names
        await providers.aclose()


@pytest.mark.parametrize(
    ("answer", "status", "code"),
    [
        (fails(401), 502, "upstream_auth"),
        (fails(500), 503, "upstream_unavailable"),
        (error_reply(200, {"hello": "world"}), 500, "upstream_error"),
        (Reply([b"<html>"], headers={"content-type": "text/html"}), 500, "upstream_error"),
        (Reply([b"{"], headers={"content-type": "application/json"}), 500, None),
    ],
)
async def test_a_list_that_cannot_be_had_is_an_error(answer: Reply, status: int, code: str | None) -> None:
    with Upstream(answer).served() as url:
        providers = Providers({"groq": at(url)})
        with pytest.raises(OpenAICompatError) as caught:
            await providers.models("groq")
        await providers.aclose()

    assert caught.value.status == status
    assert code in (None, caught.value.code)


@requirement("provider.health")
@pytest.mark.parametrize("name", ALL)
async def test_health_is_a_real_call(name: str) -> None:
    upstream = Upstream(lists("m"))
    with upstream.served() as url:
        providers = Providers({name: at(url, name)})
        health = await providers.health_of(name)
        await providers.aclose()

    assert (health.healthy, health.message) == (True, "It answers.")
    assert health.latency_ms is not None
    assert path_of(upstream.urls[0]) == paths(name)[2]


async def test_a_provider_without_a_list_is_there_if_it_says_so() -> None:
    upstream = Upstream(fails(404), fails(401), fails(404))
    with upstream.served() as url:
        providers = Providers({"perplexity": at(url), "groq": at(url)})
        there = await providers.health_of("perplexity")
        refused = await providers.health_of("perplexity", fresh=True)
        wrong_path = await providers.health_of("groq")
        await providers.aclose()

    assert (there.healthy, refused.healthy, wrong_path.healthy) == (True, False, False)


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (401, "It refused the key."),
        (403, "It refused the key."),
        (429, "It has reached its rate limit."),
        (503, "It is overloaded or down."),
        (404, "It did not answer as it should."),
    ],
)
async def test_health_says_what_is_wrong(status: int, message: str) -> None:
    with Upstream(fails(status)).served() as url:
        providers = Providers({"groq": at(url)})
        health = await providers.health_of("groq")
        await providers.aclose()

    assert (health.healthy, health.message) == (False, message)


async def test_who_cannot_be_reached_or_has_no_key_is_not_well() -> None:
    providers = Providers({"groq": at("http://127.0.0.1:9"), "xai": ProviderSettings(api_key=KEY, enabled=False)})
    found = {name: (await providers.health_of(name)).message for name in ("groq", "xai", "cohere")}
    await providers.aclose()

    assert found == {
        "groq": "It cannot be reached.",
        "xai": "It is switched off.",
        "cohere": "It has no key: neither in its settings nor in COHERE_API_KEY or CO_API_KEY.",
    }


@requirement("provider.health")
async def test_a_slow_one_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    hangs = Reply([b"{"], headers={"content-type": "application/json"}, hang=True)
    upstream = Upstream(lists("m"), hangs, lists("m"))
    with upstream.served() as url:
        providers = Providers({"groq": at(url)})
        # The first check imports the SDK and connects, which may take longer than the timeout below.
        assert (await providers.health_of("groq")).healthy
        monkeypatch.setattr(connection, "PATIENCE", 0.2)
        with anyio.fail_after(5):
            health = await providers.health_of("groq", fresh=True)
        assert await anyio.to_thread.run_sync(upstream.left.wait, 10)
        await providers.aclose()

    assert not health.healthy
    assert health.message.startswith("It did not answer within")


@requirement("provider.health")
async def test_health_is_remembered_unless_it_is_wanted_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    upstream = Upstream(fails(503), lists("m"), lists("m"))
    with upstream.served() as url:
        providers = Providers({"groq": at(url)})
        seen = [await providers.health_of("groq"), await providers.health_of("groq")]
        seen.append(await providers.health_of("groq", fresh=True))
        monkeypatch.setattr(connection, "CACHE_SECONDS", 0.0)
        seen.append(await providers.health_of("groq"))
        await providers.aclose()

    assert [health.healthy for health in seen] == [False, False, True, True]
    assert len(upstream.requests) == 3


async def test_other_settings_are_checked_anew() -> None:
    upstream = Upstream(fails(401), lists("m"))
    with upstream.served() as url:
        providers = Providers({"groq": at(url)})
        before = await providers.health_of("groq")
        providers.configure("groq", at(url, api_key="sk-better"))
        after = await providers.health_of("groq")
        await providers.aclose()

    assert (before.healthy, after.healthy) == (False, True)


async def test_all_that_can_be_used_are_asked_at_once() -> None:
    ill, well = Upstream(fails(500)), Upstream(lists("m"))
    with ill.served() as ill_url, well.served() as well_url:
        providers = Providers({"groq": at(ill_url), "xai": at(well_url), "ollama": ProviderSettings(enabled=False)})
        health = await providers.health()
        await providers.aclose()

    assert {name: one.healthy for name, one in health.items()} == {"groq": False, "xai": True}


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_they_can_be_looked_after_under_trio_too(anyio_backend: str) -> None:
    upstream = Upstream(lists("m"), fails(401))
    with upstream.served() as url:
        providers = Providers({"groq": at(url), "xai": at(url)})
        assert await providers.models("groq") == ["m"]
        assert not (await providers.health_of("xai")).healthy
        await providers.aclose()
