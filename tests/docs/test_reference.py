"""The reference matches the code: nothing is missing, and nothing removed is left."""

from __future__ import annotations

import dataclasses
import inspect
import pkgutil
import re
from typing import Any, get_args, get_type_hints

import httpx2
import pytest

import openai_compat
import openai_compat_adapters.client
import openai_compat_adapters.oauth
import openai_compat_adapters.starlette
import openai_compat_adapters.testing
import openai_compat_adapters.transport
import openai_compat_adapters.webhooks
import openai_compat_adapters.websocket
import openai_compat_adapters.wsgi
from openai_compat import (
    Admission,
    AgentError,
    AgentRequest,
    Capabilities,
    Compaction,
    Conversations,
    Cors,
    Deadlines,
    Disconnect,
    Housekeeping,
    Limits,
    MemoryStore,
    MessagePolicy,
    Rates,
    Server,
    Webhooks,
    errors,
    http,
    messages,
    testing,
    tools,
)
from openai_compat.agents.error_mapping import to_public_error
from openai_compat.agents.frameworks import FRAMEWORKS
from openai_compat.api import follow as following
from openai_compat.api.routes import DEPLOYMENTS, SERVER_ROUTES, V1
from openai_compat.backends import subprocess as subprocess_backend
from openai_compat.backends.anthropic import AnthropicBackend
from openai_compat.backends.openai import OpenAIBackend
from openai_compat.backends.pool import PooledBackend, pooled
from openai_compat.backends.subprocess import Grace, SubprocessBackend
from openai_compat.errors import InvalidRequest, OpenAICompatError
from openai_compat.events import EVENT_TYPES
from openai_compat.policies.housekeeping import Task
from openai_compat.state import event_log as eventlog
from openai_compat.state import leases
from openai_compat.stores import sql_turns, sqlite
from openai_compat.stores.postgres import Options as PostgresOptions
from openai_compat.testing import Conformance
from openai_compat.testing.conformance.base import Examination
from openai_compat.wire.chat.parse import EXTRA_PARAMETERS, MAX_MESSAGES, ParsedChat, check_capabilities, parse_chat
from openai_compat.wire.chat.request_types import ChatCompletionRequest
from openai_compat.wire.json import dumps
from openai_compat.wire.responses.event_order import ITEMS, RESPONSE, SPEECH, START
from openai_compat.wire.responses.event_types import StreamEvent
from openai_compat.wire.responses.parse.parameters import PARAMETERS as RESPONSE_PARAMETERS
from openai_compat.wire.responses.request_types import ResponseRequest
from openai_compat.wire.responses.response_types import IncompleteDetails, ResponseStatus
from openai_compat_adapters import pytest_plugin
from openai_compat_adapters.cli import main
from tests.docs.served import ROOT
from tests.frameworks.table import names

REFERENCE = ROOT / "docs" / "reference"
FIXTURE = type(pytest_plugin.served)


def table(page: str, heading: str, which: int = 0) -> list[list[str]]:
    """Rows, as cells, of table number `which` on `page` whose head begins with `heading`."""
    lines = iter((REFERENCE / page).read_text().splitlines())
    for _ in range(which + 1):
        assert any(line.startswith(f"| {heading} |") for line in lines), f"{page} has no table '{heading}'"
    next(lines)
    rows: list[list[str]] = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def words(page: str) -> str:
    """The text of a page on one line."""
    return " ".join((ROOT / page).read_text().split())


def name(cell: str) -> str:
    found = re.match(r"`([^`]+)`", cell)
    assert found, cell
    return found[1]


# names


def shown() -> set[str]:
    """Identifiers that mkdocstrings renders."""
    return {
        line.removeprefix("::: ").strip()
        for path in REFERENCE.glob("*.md")
        for line in path.read_text().splitlines()
        if line.startswith("::: ")
    }


def test_every_public_name_has_an_entry() -> None:
    public = {f"openai_compat.{name}" for name in openai_compat.__all__ if name != "AgentEvent"}  # a union of them

    assert public <= shown()


def test_every_message_type_has_an_entry() -> None:
    types = {item for item in vars(messages).values() if dataclasses.is_dataclass(item)}

    assert {f"openai_compat.messages.{kind.__name__}" for kind in types} <= shown()


@pytest.mark.parametrize("module", [testing, subprocess_backend, tools], ids=lambda module: module.__name__)
def test_every_public_name_of_a_leaf_has_an_entry(module: Any) -> None:
    assert {f"{module.__name__}.{name}" for name in module.__all__} <= shown()


@pytest.mark.parametrize(
    "module",
    [
        openai_compat_adapters.starlette,
        openai_compat_adapters.wsgi,
        openai_compat_adapters.client,
        openai_compat_adapters.transport,
        openai_compat_adapters.testing,
        openai_compat_adapters.oauth,
        openai_compat_adapters.webhooks,
        openai_compat_adapters.websocket,
    ],
    ids=lambda module: module.__name__,
)
def test_every_public_name_of_an_adapter_has_an_entry(module: Any) -> None:
    public = {
        f"{module.__name__}.{item.__name__}"
        for item in vars(module).values()
        if (inspect.isfunction(item) or inspect.isclass(item))
        and item.__module__ == module.__name__
        and not item.__name__.startswith("_")
    }

    assert public <= shown()


def test_every_entry_exists() -> None:
    backends = names()
    for path in shown():
        module, _, name = path.rpartition(".")
        # Framework backends can be imported only if their framework is installed.
        if module.rpartition(".")[2] in backends:
            path = ROOT / module.replace(".", "/")
            files = path.glob("*.py") if path.is_dir() else [path.with_suffix(".py")]
            source = "".join([file.read_text() for file in files])
            assert re.search(rf"^(class|def) {name}\b", source, re.MULTILINE)
        else:
            assert pkgutil.resolve_name(path) is not None


def test_every_backend_of_a_framework_has_an_entry() -> None:
    backends = {framework.backend.replace(":", ".") for framework in FRAMEWORKS if framework.backend}

    assert {f"openai_compat.backends.{name}" for name in backends} <= shown()


# options: the reference shows the docstrings, so they must be complete


def described(documented: Any, section: str) -> set[str]:
    text = inspect.getdoc(documented) or ""
    body = text.partition(f"{section}:\n")[2].partition("\n\n")[0]
    return set(re.findall(r"^    (\w+):", body, re.MULTILINE))


def test_every_server_option_is_described() -> None:
    assert described(Server, "Args") == set(inspect.signature(Server).parameters)


@pytest.mark.parametrize(
    "settings", [Limits, Deadlines, Rates, Capabilities, Admission, Compaction, Disconnect, MessagePolicy, Grace]
)
def test_every_setting_is_described(settings: Any) -> None:
    assert described(settings, "Attributes") == {field.name for field in dataclasses.fields(settings)}


@pytest.mark.parametrize("kind", [Conversations, Webhooks, SubprocessBackend, AnthropicBackend, OpenAIBackend])
def test_every_argument_is_described(kind: Any) -> None:
    assert described(kind, "Attributes" if dataclasses.is_dataclass(kind) else "Args") == set(
        inspect.signature(kind).parameters
    )


@pytest.mark.parametrize("kind", [Cors, Housekeeping, MemoryStore, PooledBackend])
def test_every_argument_is_named_in_the_text(kind: Any) -> None:
    text = inspect.getdoc(pooled if kind is PooledBackend else kind) or ""

    assert [name for name in inspect.signature(kind).parameters if not re.search(rf"\b{name}\b", text)] == []


def test_every_attribute_of_an_examination_is_described() -> None:
    fields = {name for name in vars(Examination)["__annotations__"] if not name.startswith("_")}

    assert described(Examination, "Attributes") == fields


def test_the_defaults_of_the_policies_are_as_the_table_says() -> None:
    kept = {"Limits": Limits, "Admission": Admission, "Deadlines": Deadlines}
    kept |= {"Disconnect": Disconnect, "MessagePolicy": MessagePolicy}
    settings = inspect.signature(Server).parameters
    rows = {name(row[1]): row[2] for row in table("policies.md", "question")}

    for setting, said in rows.items():
        owner, _, field = setting.rpartition(".")
        default = getattr(kept[owner](), field) if owner else settings[setting].default
        made = f"a `{type(default).__name__}`" if isinstance(default, Housekeeping | Compaction) else None
        assert said == (made or f"`{default!r}`".replace("'", '"'))
    assert {setting.partition(".")[0].lower() for setting in rows} >= set(settings) - {
        "agents",
        "decisions",
        "embeddings",
        "hosts",
        "messages",  # MessagePolicy
        "store",
        "bare_paths",
        "owned_by",
    }


def test_every_task_of_housekeeping_is_listed() -> None:
    text = words("docs/reference/policies.md").partition("The task is one of")[2].partition("Without `answer`")[0]

    assert tuple(re.findall(r"`(\w+)`", text)) == get_args(Task)


@pytest.mark.parametrize(("suite", "which"), [(Conformance, 0), (testing.MessagesConformance, 1)])
def test_the_checks_of_a_conformance_suite_are_in_its_table(suite: type, which: int) -> None:
    checks = {check: getattr(suite, check) for check in dir(suite) if check.startswith("test_")}

    assert {name(row[0]): row[1] for row in table("testing.md", "check", which)} == {
        check: (inspect.getdoc(function) or "").splitlines()[0] for check, function in checks.items()
    }


def test_the_options_and_fixtures_of_the_pytest_plugin_are_in_the_tables() -> None:
    options = re.findall(r'"(--openai-compat[\w-]*)"', inspect.getsource(pytest_plugin.pytest_addoption))
    fixtures = [key for key, value in vars(pytest_plugin).items() if isinstance(value, FIXTURE)]

    assert [name(row[0]).split()[0] for row in table("testing.md", "option")] == options
    assert sorted([name(row[0]) for row in table("testing.md", "fixture")]) == sorted(fixtures)


def test_every_attribute_of_a_request_is_described() -> None:
    fields = {field.name for field in dataclasses.fields(AgentRequest)}

    assert described(AgentRequest, "Attributes") - {"new_messages"} == fields


# events and errors


def test_every_event_is_in_the_table() -> None:
    assert [name(row[0]) for row in table("events.md", "event")] == [event.__name__ for event in EVENT_TYPES]


def test_every_error_is_in_the_table_as_it_is() -> None:
    rows = {tuple(cell.strip("`") for cell in row) for row in table("errors.md", "class")}
    classes = [c for c in vars(errors).values() if inspect.isclass(c) and issubclass(c, OpenAICompatError)]

    assert rows == {(c.__name__, str(c.status), c.type, c.code) for c in classes if c is not OpenAICompatError}


def test_every_error_code_of_the_core_is_in_the_table() -> None:
    """Packages that the core never imports (backends, testing) have pages of their own."""
    listed = {code for row in table("errors.md", "code") for code in re.findall(r"`([^`]+)`", row[0])}
    core = ROOT / "openai_compat"
    leaves = (core / "backends", core / "testing")
    sources = [path.read_text() for path in core.rglob("*.py") if not any(map(path.is_relative_to, leaves))]
    sources.append((ROOT / "adapters/openai_compat_adapters/oauth.py").read_text())  # raises them on the core's behalf
    raised = {code for text in sources for code in re.findall(r'\bcode ?= ?"(\w+)"', text)}
    chosen = {"invalid_type", "missing_required_parameter"}  # chosen in an expression
    examples = {"calendar_closed"}
    defaults = {
        "conflict",
        "forbidden",
        "not_found",
        "service_unavailable",
    }  # every raise of these classes names a code

    assert listed == (raised | chosen) - examples - defaults


def test_every_error_code_of_the_backends_is_in_their_table() -> None:
    """Except for those that the core's own functions raise."""
    listed = {name(row[0]): row[1] for row in table("backends.md", "code")}
    sources = [path.read_text() for path in (ROOT / "openai_compat" / "backends").rglob("*.py")]
    raised = {
        call
        for text in sources
        for call in re.findall(r'(?:AgentError|InvalidRequest)\(.*?code="\w+"', text, re.DOTALL)
    }

    assert listed == {
        re.findall(r'code="(\w+)"', call)[0]: (re.findall(r"status=(\d+)", call) or ["400"])[0] for call in raised
    }


def test_errors_of_a_model_become_what_the_how_to_says() -> None:
    rows = {row[0]: row[1:] for row in table("../how-to/upstream.md", "the model's answer")}
    answers = {
        "429": AgentError.upstream(429),
        "401, 403": AgentError.upstream(403),
        "400, too long a conversation": AgentError.upstream(400, too_long=True),
        "5xx": AgentError.upstream(502),
        "any other status": AgentError.upstream(418),
        "no connection": to_public_error(httpx2.ConnectError("")),
        "timeout": to_public_error(httpx2.ReadTimeout("")),
    }

    assert rows == {
        answer: [f"{error.status}{' with `Retry-After`' if error.retry_after else ''}", f"`{error.code}`"]
        for answer, error in answers.items()
    }


# HTTP


def test_every_parameter_of_a_response_is_in_its_table_as_it_is() -> None:
    rows = {name(row[0]): (row[1], row[2]) for row in table("responses.md", "parameter")}

    assert rows == {key: (parameter.what, parameter.note) for key, parameter in RESPONSE_PARAMETERS.items()}
    assert set(RESPONSE_PARAMETERS) == set(ResponseRequest.model_fields)


def test_every_event_of_a_response_is_in_its_table() -> None:
    written = {kind for event in get_args(StreamEvent) for kind in get_args(get_type_hints(event)["type"])}
    ordered = {event.partition(" ")[0] for order in (RESPONSE, SPEECH, *ITEMS.values()) for event in order}

    assert {name(row[0]) for row in table("responses.md", "event")} == written
    assert written == ordered - {START}


def test_every_state_of_a_response_is_in_its_table() -> None:
    assert tuple([name(row[0]) for row in table("responses.md", "`status`")]) == (
        "queued",
        "in_progress",
        "completed",
        "incomplete",
        "failed",
        "cancelled",
    )
    assert {name(row[0]) for row in table("responses.md", "`status`")} == set(get_args(ResponseStatus))
    reasons = get_args(get_type_hints(IncompleteDetails)["reason"])
    assert all(f"`{reason}`" in words("docs/reference/responses.md") for reason in reasons)


def test_every_request_about_responses_is_in_its_table() -> None:
    described = {
        f"{method} /v1{route.shown_path}" for route in V1 for method in route.operations if "/responses" in route.path
    }

    assert {name(row[0]) for row in table("responses.md", "request")} == described


def test_every_endpoint_is_in_the_table() -> None:
    rows = [(name(row[0]), row[1], row[2]) for row in table("http.md", "path")]
    routes = [(f"/v1{route.shown_path}", route) for route in V1] + [(route.path, route) for route in SERVER_ROUTES]

    assert rows == [
        *[(path, ", ".join(route.operations), "no" if route.open else "yes") for path, route in routes],
        ("/openapi.json", "GET", "no"),
    ]
    assert [name(row[0]) for row in table("http.md", "path", 1)] == [
        f"/openai{route.shown_path}" for route in DEPLOYMENTS
    ]


def test_extra_is_where_the_table_says_what_means_nothing_to_the_server_is() -> None:
    rows = {name(row[0]) for row in table("http.md", "parameter") if row[2] == "in `extra`"}

    assert rows == set(EXTRA_PARAMETERS)


def test_the_endpoints_of_kept_objects_take_what_their_tables_say() -> None:
    rows = [row for which in range(4) for row in table("http.md", "request", which)]
    kept = ("/chat/", "/conversations", "/files")
    taken = {
        (method, re.sub("{.*?}", "{}", f"/v1{route.path}"))
        for route in V1
        if route.path.startswith(kept)
        for method in route.operations
    }
    listed = {tuple(re.sub("{.*?}", "{}", name(row[0])).split()) for row in rows}

    assert listed == taken - {("POST", "/v1/chat/completions")}


PARAMETERS = {name(row[0]): row[1] for row in table("http.md", "parameter")}
TOOLS = [{"type": "function", "function": {"name": "f"}}, {"type": "function", "function": {"name": "g"}}]
BASE: dict[str, Any] = {"model": "agent", "messages": [{"role": "user", "content": "hi"}], "tools": TOOLS}
NEEDED: dict[str, dict[str, Any]] = {
    "audio": {"modalities": ["text", "audio"], "audio": {"format": "mp3", "voice": "a"}},
    "top_logprobs": {"logprobs": True},
    "modalities": {"audio": {"format": "wav", "voice": "a"}},
}
"""Other fields that a parameter needs to have any effect."""
SAMPLES: dict[str, Any] = {
    "messages": [{"role": "user", "content": "hello"}],
    "model": "other",
    "audio": {"format": "wav", "voice": "a"},
    "frequency_penalty": 1.5,
    "function_call": "auto",
    "functions": [],
    "logit_bias": {"50256": -100},
    "logprobs": True,
    "max_completion_tokens": 5,
    "max_tokens": 5,
    "metadata": {"a": "b"},
    "modalities": ["text", "audio"],
    "moderation": {},
    "n": 2,
    "parallel_tool_calls": False,
    "prediction": {"type": "content", "content": "hi"},
    "presence_penalty": 1.5,
    "prompt_cache_key": "k",
    "prompt_cache_options": {},
    "prompt_cache_retention": "24h",
    "reasoning_effort": "low",
    "response_format": {"type": "json_object"},
    "safety_identifier": "s",
    "seed": 1,
    "service_tier": "auto",
    "stop": "END",
    "store": True,
    "stream": True,
    "stream_options": {"include_usage": True},
    "temperature": 0.5,
    "tool_choice": "required",
    "tools": TOOLS[:1],
    "top_logprobs": 3,
    "top_p": 0.5,
    "user": "u",
    "verbosity": "low",
    "web_search_options": {},
}
EVERYTHING = Capabilities(audio_output=True, logprobs=True, web_search=True, prediction=True)


def parsed(parameter: str | None = None, *, sent: str) -> ParsedChat:
    """A request with `parameter`, or without any, plus the fields that `sent` needs."""
    body = BASE | NEEDED.get(sent, {}) | ({parameter: SAMPLES[parameter]} if parameter else {})
    return parse_chat(dumps(body))


def effect(chat: ParsedChat) -> tuple[Any, ...]:
    """The effect of a request: on the agent, and on the form of the answer."""
    return (dataclasses.replace(chat.request, raw_messages=[]), chat.choices, chat.include_usage, chat.store)


RANGES = {
    name(row[0]): found for row in table("http.md", "parameter") if (found := re.match(r"(\S+) to (\d+)\b", row[2]))
}


@pytest.mark.parametrize(
    "parameter", [name for name in RANGES if name not in ("stop", "logit_bias", "reasoning_effort")]
)
def test_a_parameter_has_the_range_that_the_table_says(parameter: str) -> None:
    low, high = (int(bound.replace("−", "-")) for bound in RANGES[parameter].groups())

    for value in (low, high):
        parse_chat(dumps(BASE | NEEDED.get(parameter, {}) | {parameter: value}))
    for value in (low - 1, high + 1):
        with pytest.raises(InvalidRequest) as refused:
            parse_chat(dumps(BASE | NEEDED.get(parameter, {}) | {parameter: value}))
        assert refused.value.param == parameter


def test_every_parameter_is_in_the_table() -> None:
    fields = set(ChatCompletionRequest.model_fields)

    assert set(PARAMETERS) == fields
    assert set(SAMPLES) == fields


@pytest.mark.parametrize("parameter", PARAMETERS)
def test_a_parameter_does_what_the_table_says(parameter: str) -> None:
    outcome = PARAMETERS[parameter]
    if outcome == "refused":
        with pytest.raises(InvalidRequest) as refused:
            parsed(parameter, sent=parameter)
        assert refused.value.param == parameter
        return
    assert outcome in ("honoured", "handed over", "if declared")
    assert effect(parsed(parameter, sent=parameter)) != effect(parsed(sent=parameter))
    check_capabilities(parsed(parameter, sent=parameter).request, EVERYTHING)
    if outcome == "if declared":
        bare = dataclasses.replace(Capabilities(), structured_output=False)
        with pytest.raises(InvalidRequest) as undeclared:
            check_capabilities(parsed(parameter, sent=parameter).request, bare)
        assert undeclared.value.param == parameter


def test_the_transport_of_an_adapter_is_described() -> None:
    kinds = {item for item in vars(http).values() if dataclasses.is_dataclass(item)}

    assert {f"openai_compat.http.{kind.__name__}" for kind in kinds} <= shown()


def test_options_of_the_command_line_that_pages_name_exist() -> None:
    options = {option for command in main.commands.values() for param in command.params for option in param.opts}
    pages = "".join([path.read_text() for path in [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"]])
    written = re.findall(r"openai-compat (?:serve|chat)(?:[^\n`]|\\\n)*", pages)
    written += [row[1] for row in table("../how-to/docker-agent.md", "`docker agent serve chat`")]

    named = {option for command in written for option in re.findall(r"(?<=[ `])--[a-z-]+", command)}
    assert named - {"--help"} <= options


def test_what_is_durable_when_counts_what_the_code_counts() -> None:
    text = words("docs/explanation/state.md")
    memory = inspect.signature(MemoryStore).parameters

    assert f"`Deadlines.lease`, {Deadlines().lease:g} seconds" in text
    assert f"copied to the store, each {eventlog.PAUSE:g} seconds" in text
    assert f"sooner where one has {eventlog.FLUSH_SIZE // 1024} KiB" in text
    assert (leases.RENEW_INTERVAL, following.POLL_INTERVAL, sql_turns.COMMIT_PATIENCE) == (
        0.5,
        0.1,
        2,
    )  # twice, ten times per second; two seconds
    assert (memory["max_items"].default, memory["ttl"].default) == (1000, 1800)  # half an hour
    assert f"{PostgresOptions('').timeout:g} seconds for a statement" in text
    assert f"{sqlite.PATIENCE:g} for a locked file and {sqlite.STUCK:g} for a disk" in text


def test_growing_to_many_hosts_counts_what_the_code_counts() -> None:
    text = words("docs/explanation/many-hosts.md")

    assert f"`Limits.slots` ({Limits().slots})" in text
    assert f"one statement each {eventlog.PAUSE:g} seconds, for all of its logs" in text
    assert PostgresOptions("").pool_size == 10  # "ten connections"
    assert f"(up to {sqlite.MAX_BATCH})" in words("docs/explanation/decisions.md")


def test_the_divergences_count_what_the_code_counts() -> None:
    text = words("docs/explanation/divergences.md")
    decisions = words("docs/explanation/decisions.md")

    assert f"to {Limits().choices} (`Limits.choices`)" in text
    assert f"| {MAX_MESSAGES} |" in text
    assert f"`Deadlines.head` ({Deadlines().head:g} s)" in decisions
