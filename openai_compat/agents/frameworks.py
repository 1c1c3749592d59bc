"""Recognises objects of agent frameworks by the names of their classes, without importing any framework.

An object that a backend of this package can run is wrapped in that backend. Other objects have run methods with other
arguments and results than an agent here, so they are refused at start, with the line of code that serves them.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import inspect
import sys
from dataclasses import dataclass
from typing import Any, cast, get_type_hints

from ..backend import AgentBackend
from .describe import describe
from .signatures import unwrap_partial

ENTRY_POINT_GROUP = "openai_compat.backends"
"""The entry point group for backends of other packages; the name of an entry point is the `module.Class` that it runs."""


@dataclass(frozen=True, slots=True)
class Framework:
    """A framework: the `classes` of its `package` that identify an object, and how to serve the object (`it`).

    `serves` is the line of code that serves the object. `mark` is an attribute of the package that tells it from other
    packages of the same name. `backend` is the class below `openai_compat.backends` that runs the objects. With both
    `backend` and `serves`, an object holds one conversation, so a function must make one for each turn.
    `accepts_factory` is True if the backend accepts that function instead of the object.
    """

    name: str
    package: str
    classes: frozenset[str]
    serves: str = ""
    mark: str = ""
    backend: str = ""
    accepts_factory: bool = False

    def matches(self, kind: type) -> bool:
        """True if `kind` is a class of this framework."""
        within = kind.__module__ == self.package or kind.__module__.startswith(f"{self.package}.")
        known = within and kind.__name__ in self.classes
        return known and (not self.mark or hasattr(sys.modules.get(self.package), self.mark))

    def refusal(self, thing: object) -> str:
        """The error message for `thing`, with the way to serve it."""
        if not self.serves:
            return f"{describe(thing)} of {self.name} is served by handing over the object, or a function that makes it"
        does = "makes it for each turn" if self.backend else "runs it"
        return f"{describe(thing)} of {self.name} is served by a function that {does}: {self.serves}"


def _framework(
    name: str,
    package: str,
    classes: str,
    serves: str = "",
    *,
    mark: str = "",
    backend: str = "",
    accepts_factory: bool = False,
) -> Framework:
    return Framework(name, package, frozenset(classes.split()), serves, mark, backend, accepts_factory)


COMPILED = 'async def agent(messages): return (await {}.ainvoke({{"messages": messages}}))["messages"][-1].text'

FRAMEWORKS = (
    _framework(
        "Pydantic AI",
        "pydantic_ai",
        "AbstractAgent",
        backend="pydantic_ai:PydanticAIBackend",
    ),
    _framework("LangGraph", "langgraph", "StateGraph", COMPILED.format("it.compile()")),
    _framework("LangGraph", "langgraph", "Pregel", backend="langgraph:LangGraphBackend"),
    _framework("LangGraph", "langgraph", "PregelProtocol", COMPILED.format("it")),
    _framework(
        "LangChain",
        "langchain_core",
        "BaseLanguageModel",
        "async def agent(messages): return (await it.ainvoke(messages)).text",
    ),
    _framework(
        "LangChain",
        "langchain_core",
        "Runnable",
        "async def agent(prompt): return str(await it.ainvoke(prompt))",
    ),
    _framework(
        "the OpenAI Agents SDK",
        "agents",
        "Agent",
        mark="RunContextWrapper",
        backend="openai_agents:OpenAIAgentsBackend",
    ),
    _framework(
        "the OpenAI Agents SDK",
        "agents",
        "AgentBase Runner",
        "async def agent(messages): return str((await Runner.run(it, messages)).final_output)",
        mark="RunContextWrapper",
    ),
    _framework(
        "Strands",
        "strands",
        "Agent",
        # An agent holds one conversation, so each turn needs a new agent.
        "def agent() -> Agent: return Agent(…)",
        backend="strands:StrandsBackend",
        accepts_factory=True,
    ),
    _framework(
        "Strands",
        "strands",
        "AgentBase MultiAgentBase",
        "async def agent(prompt): return str(await make_it().invoke_async(prompt))",
    ),
    _framework(
        "Microsoft Agent Framework",
        "agent_framework",
        "BaseAgent",
        backend="agent_framework:AgentFrameworkBackend",
    ),
    _framework(
        "Microsoft Agent Framework",
        "agent_framework",
        "WorkflowAgent",
        # A workflow runs one turn at a time.
        "lambda: make_workflow().as_agent()",
        backend="agent_framework:AgentFrameworkBackend",
    ),
    _framework(
        "Microsoft Agent Framework",
        "agent_framework",
        "Workflow",
        "lambda: make_workflow().as_agent()",
    ),
    _framework(
        "CrewAI",
        "crewai",
        "Crew Agent BaseAgent LiteAgent Flow",
        'async def agent(prompt): return str(await it.kickoff_async(inputs={"prompt": prompt}))',
    ),
    _framework(
        "LlamaIndex",
        "llama_index",
        "BaseWorkflowAgent AgentWorkflow",
        backend="llama_index:LlamaIndexBackend",
    ),
    _framework(
        "LlamaIndex", "llama_index", "BaseQueryEngine", "async def agent(prompt): return str(await it.aquery(prompt))"
    ),
    _framework(
        "LlamaIndex", "llama_index", "BaseChatEngine", "async def agent(prompt): return str(await it.achat(prompt))"
    ),
    _framework(
        "LlamaIndex",
        "workflows",
        "Workflow",
        "async def agent(prompt): return str(await it.run(input=prompt))",
        mark="Context",
    ),
    _framework(
        "smolagents",
        "smolagents",
        "MultiStepAgent",
        # An agent holds one conversation, so each turn needs a new agent.
        "def agent() -> ToolCallingAgent: return ToolCallingAgent(…)",
        backend="smolagents:SmolagentsBackend",
        accepts_factory=True,
    ),
    _framework(
        "AutoGen",
        "autogen_agentchat",
        "TaskRunner ChatAgent Team BaseChatAgent BaseGroupChat",
        "async def agent(prompt): return (await make_it().run(task=prompt)).messages[-1].to_text()",
    ),
    _framework(
        "Google ADK",
        "google.adk",
        "BaseNode BaseAgent App",
        backend="google_adk:GoogleADKBackend",
    ),
    _framework(
        "Google ADK",
        "google.adk",
        "Runner",
        "an async generator that reads Runner.run_async(…) and yields the text of its events",
    ),
    _framework("Haystack", "haystack", "Agent", backend="haystack:HaystackBackend"),
    _framework(
        "Haystack", "haystack", "PipelineBase", "def agent(prompt): return it.run({…})[…], as the pipeline names them"
    ),
    _framework(
        "DSPy", "dspy", "Module BaseModule", "async def agent(prompt): return (await it.acall(question=prompt)).answer"
    ),
    _framework("Agno", "agno", "Agent", backend="agno:AgnoBackend"),
    _framework("Agno", "agno", "Team Workflow", "async def agent(prompt): return (await it.arun(prompt)).content"),
    _framework(
        "Semantic Kernel",
        "semantic_kernel",
        "Agent",
        "async def agent(prompt): return str((await it.get_response(messages=prompt)).message)",
    ),
    _framework(
        "Semantic Kernel",
        "semantic_kernel",
        "Kernel",
        "async def agent(prompt): return str(await it.invoke_prompt(prompt))",
    ),
    _framework(
        "the Claude Agent SDK",
        "claude_agent_sdk",
        "ClaudeAgentOptions",
        backend="claude_agent_sdk:ClaudeAgentBackend",
    ),
    _framework(
        "the Claude Agent SDK",
        "claude_agent_sdk",
        "ClaudeSDKClient",
        "lambda: it.options",
    ),
)


def is_of_framework(thing: object) -> bool:
    """True for an object, class or method of a framework, even if no backend can run it."""
    thing = unwrap_partial(thing)
    return _framework_of(thing) is not None or _entry_point_of(thing) is not None


def is_framework_factory(thing: object) -> bool:
    """True for a function whose return annotation is a framework's agent that a backend can run."""
    return _framework_made_by(thing) is not None


def framework_backend(thing: object, *, is_fresh: bool = False) -> AgentBackend | None:
    """The backend that runs an object of a framework; None if the framework is unknown.

    `is_fresh` means that the object was made for one turn, so it may hold the conversation. Raises TypeError for an
    object that no backend can run, and for a class or method of a framework; the message says how to serve it.
    """
    maker = _framework_made_by(thing)
    if maker is not None:
        return _make_backend(maker, thing)
    thing = unwrap_partial(thing)
    framework = _framework_of(thing)
    if framework is None:
        point = _entry_point_of(thing)
        return None if point is None else cast("AgentBackend", point.load()(thing))
    is_object = not inspect.isroutine(thing) and not isinstance(thing, type)
    if not framework.backend or not is_object or (framework.serves and not is_fresh):
        raise TypeError(framework.refusal(thing))
    return _make_backend(framework, (lambda: thing) if framework.accepts_factory else thing)


def _make_backend(framework: Framework, thing: object) -> AgentBackend:
    module, _, name = framework.backend.partition(":")
    try:
        backend: Any = getattr(importlib.import_module(f"openai_compat.backends.{module}"), name)
    except ImportError as error:  # the framework is installed, since its object exists
        extra = module.replace("_", "-")
        text = f"this version of {framework.name} is not known here: pip install -U 'openai-compat[{extra}]'"
        raise ImportError(text, name=error.name) from error
    return cast("AgentBackend", backend(thing))


def _framework_made_by(thing: object) -> Framework | None:
    """The framework whose backend accepts this function, by its return annotation (`def agent() -> Agent`)."""
    function = unwrap_partial(thing)
    if not inspect.isroutine(function) or "return" not in getattr(function, "__annotations__", ()):
        return None
    try:
        returned = get_type_hints(function)["return"]
        parameters = inspect.signature(cast("Any", thing)).parameters
    except Exception:  # an annotation that cannot be resolved names no framework
        return None
    if not isinstance(returned, type) or not parameters.keys() <= {"request"}:
        return None
    kinds = cast("type[Any]", returned).__mro__
    return next(
        (
            framework
            for kind in kinds
            for framework in FRAMEWORKS
            if framework.accepts_factory and framework.matches(kind)
        ),
        None,
    )


def _framework_of(thing: object) -> Framework | None:
    """The framework of an object, a class, or a method of either."""
    bound = inspect.ismethod(thing)
    module = f"{getattr(thing, '__module__', '')}."
    # a method that a user's subclass adds may be a suitable agent
    if bound and not any([module.startswith(f"{framework.package}.") for framework in FRAMEWORKS]):
        return None
    owner: object = getattr(thing, "__self__", None) if bound else thing
    kind = cast("type[Any]", owner) if isinstance(owner, type) else type(owner)
    # Base classes too: users subclass the framework's classes.
    for base in kind.__mro__:
        for framework in FRAMEWORKS:
            if framework.matches(base):
                return framework
    return None


def _entry_point_of(thing: object) -> importlib.metadata.EntryPoint | None:
    """Another package's backend for an object. Callers try the table first, so that no package can take over its frameworks."""
    if inspect.isroutine(thing) or isinstance(thing, type):
        return None
    names = [f"{base.__module__}.{base.__qualname__}" for base in type(thing).__mro__]
    return next((entry_points()[name] for name in names if name in entry_points()), None)


@functools.cache
def entry_points() -> dict[str, importlib.metadata.EntryPoint]:
    """The entry points of other packages, by name; loaded once, and only for objects that the table does not know."""
    return {point.name: point for point in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP)}
