"""Objects of agent frameworks, recognised by the names of their classes: no framework is imported to find out.

Those that a backend of ours runs become one. The others have methods of their own to be run by, which take and give
other things than an agent here does, so they are refused at start, with the line that serves them.
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
from .signatures import bare_function

GROUP = "openai_compat.backends"
"""The entry points by which other packages bring backends: `module.Class` of what one runs is its name."""


@dataclass(frozen=True, slots=True)
class Framework:
    """A framework, how one of its objects, `it`, is served, and the classes (of `package`) it is known by.

    `mark` is an attribute of the package, where the package's name is one that others may have too. `backend` is the
    class that runs its objects, below `openai_compat.backends`. With both `backend` and `serves`, an object holds one
    conversation: only those that a function makes for a turn are run. `made` says that the backend takes that function.
    """

    name: str
    package: str
    classes: frozenset[str]
    serves: str = ""
    mark: str = ""
    backend: str = ""
    made: bool = False

    def has(self, kind: type) -> bool:
        """True if `kind` is one of its classes."""
        within = kind.__module__ == self.package or kind.__module__.startswith(f"{self.package}.")
        known = within and kind.__name__ in self.classes
        return known and (not self.mark or hasattr(sys.modules.get(self.package), self.mark))

    def refusal(self, thing: object) -> str:
        """Why `thing` is no agent, and what is."""
        if not self.serves:
            return f"{describe(thing)} of {self.name} is served by handing over the object, or a function that makes it"
        does = "makes it for each turn" if self.backend else "runs it"
        return f"{describe(thing)} of {self.name} is served by a function that {does}: {self.serves}"


def _framework(
    name: str, package: str, classes: str, serves: str = "", *, mark: str = "", backend: str = "", made: bool = False
) -> Framework:
    return Framework(name, package, frozenset(classes.split()), serves, mark, backend, made)


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
        # It keeps the conversation, so each turn needs one of its own.
        "def agent() -> Agent: return Agent(…)",
        backend="strands:StrandsBackend",
        made=True,
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
        # A workflow does one run at a time.
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
        # It keeps the conversation, so each turn needs one of its own.
        "def agent() -> ToolCallingAgent: return ToolCallingAgent(…)",
        backend="smolagents:SmolagentsBackend",
        made=True,
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
    """True for an object, class or method of a framework, whether a backend runs it or not."""
    thing = bare_function(thing)
    return _framework_of(thing) is not None or _entry_point_of(thing) is not None


def makes_agents_of_framework(thing: object) -> bool:
    """True for a function that says by its annotation that it makes a framework's agent, which a backend runs."""
    return _framework_made_by(thing) is not None


def framework_backend(thing: object, *, is_fresh: bool = False) -> AgentBackend | None:
    """The backend that runs an object of a framework; None if it is of none that is known.

    `is_fresh` says that it was made for one turn, so that it may keep the conversation. Raises TypeError, which says
    how it is served, for an object that no backend runs, and for a class or method of a framework.
    """
    maker = _framework_made_by(thing)
    if maker is not None:
        return _made(maker, thing)
    thing = bare_function(thing)
    framework = _framework_of(thing)
    if framework is None:
        point = _entry_point_of(thing)
        return None if point is None else cast("AgentBackend", point.load()(thing))
    is_object = not inspect.isroutine(thing) and not isinstance(thing, type)
    if not framework.backend or not is_object or (framework.serves and not is_fresh):
        raise TypeError(framework.refusal(thing))
    return _made(framework, (lambda: thing) if framework.made else thing)


def _made(framework: Framework, thing: object) -> AgentBackend:
    module, _, name = framework.backend.partition(":")
    try:
        backend: Any = getattr(importlib.import_module(f"openai_compat.backends.{module}"), name)
    except ImportError as error:  # the framework is there: its object is
        extra = module.replace("_", "-")
        text = f"this version of {framework.name} is not known here: pip install -U 'openai-compat[{extra}]'"
        raise ImportError(text, name=error.name) from error
    return cast("AgentBackend", backend(thing))


def _framework_made_by(thing: object) -> Framework | None:
    """The framework whose backend takes a function that says that it makes one of its objects, `def agent() -> Agent`."""
    function = bare_function(thing)
    if not inspect.isroutine(function) or "return" not in getattr(function, "__annotations__", ()):
        return None
    try:
        made = get_type_hints(function)["return"]
        parameters = inspect.signature(cast("Any", thing)).parameters
    except Exception:  # it names what is not there, which is its own affair
        return None
    if not isinstance(made, type) or not parameters.keys() <= {"request"}:
        return None
    kinds = cast("type[Any]", made).__mro__
    return next(
        (framework for kind in kinds for framework in FRAMEWORKS if framework.made and framework.has(kind)), None
    )


def _framework_of(thing: object) -> Framework | None:
    """The framework of an object, a class, or a method of either."""
    bound = inspect.ismethod(thing)
    module = f"{getattr(thing, '__module__', '')}."
    # a method that a user's subclass adds may well suit
    if bound and not any([module.startswith(f"{framework.package}.") for framework in FRAMEWORKS]):
        return None
    owner: object = getattr(thing, "__self__", None) if bound else thing
    kind = cast("type[Any]", owner) if isinstance(owner, type) else type(owner)
    # Base classes too: users subclass what a framework gives them.
    for base in kind.__mro__:
        for framework in FRAMEWORKS:
            if framework.has(base):
                return framework
    return None


def _entry_point_of(thing: object) -> importlib.metadata.EntryPoint | None:
    """What another package runs an object with. The table goes first, so that no package takes over what is in it."""
    if inspect.isroutine(thing) or isinstance(thing, type):
        return None
    names = [f"{base.__module__}.{base.__qualname__}" for base in type(thing).__mro__]
    return next((entry_points()[name] for name in names if name in entry_points()), None)


@functools.cache
def entry_points() -> dict[str, importlib.metadata.EntryPoint]:
    """What other packages have installed, by name; looked for once, and only for objects that no table knows."""
    return {point.name: point for point in importlib.metadata.entry_points(group=GROUP)}
