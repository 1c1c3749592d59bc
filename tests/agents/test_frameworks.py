"""Objects of agent frameworks are recognised by class name: run by a backend, or refused with the code that serves them."""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import re
import subprocess
import sys
import types
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from openai_compat import (
    AgentRequest,
    Capabilities,
    Decision,
    PendingCall,
    Resume,
    RunContext,
    Server,
    TextDelta,
    as_backend,
)
from openai_compat.agents.frameworks import FRAMEWORKS, Framework, entry_points
from openai_compat.errors import InvalidRequest
from tests.backends.support import run
from tests.requirements import requirement
from tests.support.exchanges import answer, chat

KNOWN = [
    ("langgraph.graph.state", "StateGraph", "LangGraph", "it.compile().ainvoke"),
    ("langchain_core.runnables.base", "Runnable", "LangChain", "it.ainvoke(prompt)"),
    ("langchain_core.language_models.base", "BaseLanguageModel", "LangChain", "it.ainvoke(messages)).text"),
    ("strands.agent.agent", "Agent", "Strands", "def agent() -> Agent: return Agent(…)"),
    ("strands.multiagent.base", "MultiAgentBase", "Strands", "make_it().invoke_async(prompt)"),
    ("agent_framework._workflows._agent", "WorkflowAgent", "Microsoft Agent Framework", "make_workflow().as_agent()"),
    ("agent_framework._workflows._workflow", "Workflow", "Microsoft Agent Framework", "make_workflow().as_agent()"),
    ("crewai.crew", "Crew", "CrewAI", "kickoff_async"),
    ("smolagents.agents", "MultiStepAgent", "smolagents", "def agent() -> ToolCallingAgent: return"),
    ("autogen_agentchat.base._task", "TaskRunner", "AutoGen", "make_it().run(task=prompt)"),
    ("google.adk.runners", "Runner", "Google ADK", "Runner.run_async"),
    ("haystack.core.pipeline.base", "PipelineBase", "Haystack", "it.run("),
    ("dspy.primitives.module", "Module", "DSPy", "it.acall(question=prompt)"),
    ("agno.team.team", "Team", "Agno", "it.arun(prompt)"),
    ("semantic_kernel.agents.agent", "Agent", "Semantic Kernel", "it.get_response(messages=prompt)"),
    ("semantic_kernel.kernel", "Kernel", "Semantic Kernel", "it.invoke_prompt(prompt)"),
    ("claude_agent_sdk.client", "ClaudeSDKClient", "Claude Agent SDK", "lambda: it.options"),
]


async def _run(self: object, user_prompt: Any = None, *, deps: object = None) -> object:
    raise NotImplementedError


def framework_class(module: str, name: str) -> type[Any]:
    """A class of a framework, whose methods belong to the framework's module."""
    run = types.FunctionType(_run.__code__, globals(), "run", (None,))
    run.__kwdefaults__ = {"deps": None}
    run.__module__ = module
    return type(name, (), {"__module__": module, "run": run, "__call__": run})


@requirement("agents.frameworks")
@pytest.mark.parametrize(("module", "name", "framework", "serves"), KNOWN)
def test_an_object_of_a_framework_is_refused_with_the_line_that_serves_it(
    module: str, name: str, framework: str, serves: str
) -> None:
    kind = framework_class(module, name)
    below = type("Mine", (type("Concrete", (kind,), {"__module__": module}),), {})
    for thing in (kind(), below(), kind, kind().run, functools.partial(kind().run, deps=1), functools.partial(kind)):
        with pytest.raises(TypeError) as caught:
            Server({"one": thing})
        text = str(caught.value)
        assert framework in text
        assert serves in text
        assert "0x" not in text
        assert len(text) < 300


@requirement("agents.frameworks")
def test_a_package_that_only_has_a_frameworks_name_is_not_taken_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = framework_class("agents.agent", "AgentBase")
    monkeypatch.setitem(sys.modules, "agents", types.ModuleType("agents"))
    as_backend(kind())
    sdk: Any = types.ModuleType("agents")
    sdk.RunContextWrapper = object
    monkeypatch.setitem(sys.modules, "agents", sdk)
    with pytest.raises(TypeError, match="OpenAI Agents SDK is served by"):
        as_backend(kind())


@requirement("agents.frameworks")
@pytest.mark.anyio
async def test_what_a_subclass_does_in_its_own_way_is_served() -> None:
    class Backend(framework_class("agno.team.team", "Team")):
        capabilities = Capabilities()

        async def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[TextDelta]:
            yield TextDelta(f"said {request.prompt}")

        async def answer(self, text: str = "default") -> str:
            return f"said {text}"

    assert (await answer(Server(Backend()), chat())).text == "said hi"
    assert (await answer(Server(Backend().answer), chat())).text == "said hi"


@requirement("agents.frameworks")
@pytest.mark.anyio
async def test_a_factory_that_makes_one_fails_with_that_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    kind = framework_class("agno.team.team", "Team")
    sent = await answer(Server(lambda: kind()), chat())
    assert (sent.status, sent.error["code"]) == (500, "agent_error")
    assert "Agno" not in sent.error["message"]
    assert "it.arun(prompt)).content" in caplog.text


BRIDGED = [framework for framework in FRAMEWORKS if framework.backend and not framework.serves]
ONE_CONVERSATION = [framework for framework in FRAMEWORKS if framework.backend and framework.serves]


def bridged_class(framework: Framework, monkeypatch: pytest.MonkeyPatch) -> type[Any]:
    """A class that a backend runs, in a package with the framework's `mark`."""
    if framework.mark:
        package = types.ModuleType(framework.package)
        setattr(package, framework.mark, object)
        monkeypatch.setitem(sys.modules, framework.package, package)
    return framework_class(framework.package, min(framework.classes))


@requirement("agents.frameworks")
@pytest.mark.parametrize("framework", BRIDGED, ids=lambda framework: f"{framework.package} {framework.backend}")
def test_a_class_or_a_method_of_a_framework_with_a_backend_is_refused(
    framework: Framework, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = bridged_class(framework, monkeypatch)
    for thing in (kind, kind().run, functools.partial(kind().run, deps=1)):
        with pytest.raises(TypeError, match="is served by handing over the object, or a function that makes it"):
            Server({"one": thing})


@requirement("agents.frameworks")
@pytest.mark.parametrize("framework", BRIDGED, ids=lambda framework: f"{framework.package} {framework.backend}")
def test_a_version_without_what_the_backend_needs_is_told_with_its_extra(
    framework: Framework, monkeypatch: pytest.MonkeyPatch
) -> None:
    with contextlib.suppress(ModuleNotFoundError):  # for the parent package
        assert importlib.util.find_spec(framework.package) is None, "frameworks are not installed where these tests run"
    kind = bridged_class(framework, monkeypatch)
    extra = framework.backend.partition(":")[0].replace("_", "-")
    with pytest.raises(ImportError, match=rf"pip install -U 'openai-compat\[{extra}\]'"):
        Server(kind())


@requirement("agents.frameworks")
@pytest.mark.anyio
@pytest.mark.parametrize(
    "framework", ONE_CONVERSATION, ids=lambda framework: f"{framework.package} {framework.backend}"
)
async def test_what_holds_one_conversation_is_run_only_if_a_function_makes_it(
    framework: Framework, caplog: pytest.LogCaptureFixture
) -> None:
    kind = framework_class(framework.package, min(framework.classes))
    with pytest.raises(TypeError, match=re.escape(framework.serves)):
        Server(kind())
    assert (await answer(Server(lambda: kind()), chat())).status == 500
    assert "this version of" in caplog.text, "its backend is looked for, which needs the framework"


@requirement("agents.frameworks")
@pytest.mark.parametrize(
    "framework", [each for each in FRAMEWORKS if each.accepts_factory], ids=lambda framework: framework.name
)
def test_a_function_that_says_that_it_makes_one_is_handed_to_the_backend(framework: Framework) -> None:
    kind = framework_class(framework.package, min(framework.classes))

    def make(request: Any = None) -> Any:
        return kind()

    def run(prompt: str) -> Any:
        return kind()

    make.__annotations__["return"] = run.__annotations__["return"] = type("Mine", (kind,), {})
    with pytest.raises(ImportError, match="openai-compat"):  # at start, because the function is recognised
        Server(make)
    Server(run)
    make.__annotations__["return"] = "NotThere"
    Server(make)


# backends of other packages

THEIRS = """
from openai_compat import Capabilities

class Flow:
    def run(self, graph):
        raise NotImplementedError

class FlowBackend:
    capabilities = Capabilities()
    def __init__(self, flow):
        self.flow = flow
    async def run(self, request, context):
        yield f"{type(self.flow).__name__} was asked {request.prompt}"
"""


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """An installed package with a framework and its backend."""
    (tmp_path / "flows.py").write_text(THEIRS, "utf-8")
    metadata = tmp_path / "flows-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: flows\nVersion: 1.0\n", "utf-8")
    points = ("flows.Flow", "pydantic_ai.agent.abstract.AbstractAgent", "agno.agent.agent.Agent")
    lines = "\n".join([f"{name} = flows:FlowBackend" for name in points])
    (metadata / "entry_points.txt").write_text(f"[openai_compat.backends]\n{lines}\n", "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    entry_points.cache_clear()
    yield importlib.import_module("flows")
    entry_points.cache_clear()
    del sys.modules["flows"]


@requirement("agents.frameworks")
@pytest.mark.anyio
async def test_another_package_brings_a_backend_for_the_objects_of_its_framework(theirs: Any) -> None:
    mine = type("Mine", (theirs.Flow,), {})
    assert (await answer(Server(theirs.Flow()), chat())).text == "Flow was asked hi"
    assert (await answer(Server({"one": mine()}), chat(model="one"))).text == "Mine was asked hi"
    assert (await answer(Server(lambda: mine()), chat())).text == "Mine was asked hi"


@requirement("agents.frameworks")
@pytest.mark.anyio
async def test_what_the_agents_of_a_function_can_do_is_known_once_it_has_made_one(theirs: Any) -> None:
    theirs.FlowBackend.capabilities = Capabilities(approvals="yes_no", own_tools=frozenset({"pay"}))
    server = Server(lambda: theirs.Flow())
    assert (await answer(server, chat())).status == 200
    tool = {"type": "function", "function": {"name": "pay"}}
    refused = await answer(server, chat(tools=[tool]))
    assert (refused.status, refused.error["code"]) == (400, "tool_name_taken")


@requirement("agents.frameworks")
@pytest.mark.anyio
@pytest.mark.parametrize(("arguments", "runs"), [('{"city":"Paris"}', True), ('{"city": "Rome"}', False), (None, True)])
async def test_a_call_is_not_run_with_its_old_arguments_where_the_agent_was_not_known_before(
    theirs: Any, arguments: str | None, runs: bool
) -> None:
    theirs.FlowBackend.capabilities = Capabilities(approvals="yes_no")
    asked = PendingCall("c", "go", '{"city": "Paris"}', "approval")
    resume = Resume({}, {"c": Decision(approved=True, arguments=arguments)}, calls={"c": asked})
    request = AgentRequest(model="agent", messages=(), raw_messages=[], resume=resume)
    made = as_backend(lambda: theirs.Flow())
    if runs:
        assert await run(made, request)
        return
    with pytest.raises(InvalidRequest) as caught:
        await run(made, request)
    assert caught.value.code == "arguments_not_editable"


@requirement("agents.frameworks")
def test_no_package_takes_over_a_framework_that_is_known(theirs: Any) -> None:
    with pytest.raises(ImportError, match="Pydantic AI"):
        Server(framework_class("pydantic_ai.agent.abstract", "AbstractAgent")())
    with pytest.raises(TypeError, match="Agno"):
        Server(framework_class("agno.team.team", "Team")())


# the cost of recognising


@requirement("agents.frameworks")
def test_nothing_is_imported_to_recognise_an_object() -> None:
    code = "import sys; from openai_compat import as_backend; before = {*sys.modules}; "
    code += "as_backend(type('It', (), {'run': lambda self, prompt: prompt})()); print({*sys.modules} - before)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "set()"
