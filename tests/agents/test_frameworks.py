"""Objects of agent frameworks are recognised by the names of their classes, and refused with what serves them."""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import AsyncIterator
from typing import Any

import pytest

from openai_compat import AgentRequest, Capabilities, RunContext, Server, TextDelta, as_backend
from tests.requirements import requirement
from tests.support.exchanges import answer, chat

KNOWN = [
    ("pydantic_ai.agent.abstract", "AbstractAgent", "Pydantic AI", "it.run(prompt)).output"),
    ("langgraph.pregel.main", "Pregel", "LangGraph", 'it.ainvoke({"messages": messages})'),
    ("langgraph.graph.state", "StateGraph", "LangGraph", "it.compile().ainvoke"),
    ("langchain_core.runnables.base", "Runnable", "LangChain", "it.ainvoke(prompt)"),
    ("langchain_core.language_models.base", "BaseLanguageModel", "LangChain", "it.ainvoke(messages)).text"),
    ("strands.agent.agent", "Agent", "Strands", "make_it().invoke_async(prompt)"),
    ("agent_framework._agents", "BaseAgent", "Microsoft Agent Framework", "it.run(prompt)).text"),
    ("crewai.crew", "Crew", "CrewAI", "kickoff_async"),
    ("llama_index.core.agent.workflow.base_agent", "BaseWorkflowAgent", "LlamaIndex", "it.run(user_msg=prompt)"),
    ("smolagents.agents", "MultiStepAgent", "smolagents", "make_it().run(prompt)"),
    ("autogen_agentchat.base._task", "TaskRunner", "AutoGen", "make_it().run(task=prompt)"),
    ("google.adk.agents.base_agent", "BaseAgent", "Google ADK", "Runner.run_async"),
    ("haystack.core.pipeline.base", "PipelineBase", "Haystack", "it.run("),
    ("dspy.primitives.module", "Module", "DSPy", "it.acall(question=prompt)"),
    ("agno.agent.agent", "Agent", "Agno", "it.arun(prompt)"),
    ("semantic_kernel.agents.agent", "Agent", "Semantic Kernel", "it.get_response(messages=prompt)"),
    ("semantic_kernel.kernel", "Kernel", "Semantic Kernel", "it.invoke_prompt(prompt)"),
    ("claude_agent_sdk.types", "ClaudeAgentOptions", "Claude Agent SDK", "query(prompt=prompt, options=it)"),
]


async def _run(self: object, user_prompt: Any = None, *, deps: object = None) -> object:
    raise NotImplementedError


def framework_class(module: str, name: str) -> type[Any]:
    """A class as the framework has it; its methods are the framework's own."""
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
    class Backend(framework_class("pydantic_ai.agent.abstract", "AbstractAgent")):  # type: ignore[misc]
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
    kind = framework_class("pydantic_ai.agent.abstract", "AbstractAgent")
    sent = await answer(Server(lambda: kind()), chat())
    assert (sent.status, sent.error["code"]) == (500, "agent_error")
    assert "Pydantic AI" not in sent.error["message"]
    assert "it.run(prompt)).output" in caplog.text
