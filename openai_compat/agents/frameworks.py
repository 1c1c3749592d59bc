"""Objects of agent frameworks, recognised by the names of their classes: none of them is imported.

They have methods of their own to be run by, which take and give other things than an agent here does, so they are
refused at start, with the line that serves them.
"""

from __future__ import annotations

import functools
import inspect
import sys
from dataclasses import dataclass
from typing import Any, cast

from .describe import describe


@dataclass(frozen=True, slots=True)
class Framework:
    """A framework, how one of its objects, `it`, is served, and the classes (of `package`) it is known by.

    `mark` is an attribute of the package, where the package's name is one that others may have too.
    """

    name: str
    package: str
    classes: frozenset[str]
    serves: str
    mark: str = ""

    def has(self, kind: type) -> bool:
        """True if `kind` is one of its classes."""
        within = kind.__module__ == self.package or kind.__module__.startswith(f"{self.package}.")
        known = within and kind.__name__ in self.classes
        return known and (not self.mark or hasattr(sys.modules.get(self.package), self.mark))


def _framework(name: str, package: str, classes: str, serves: str, mark: str = "") -> Framework:
    return Framework(name, package, frozenset(classes.split()), serves, mark)


COMPILED = 'async def agent(messages): return (await {}.ainvoke({{"messages": messages}}))["messages"][-1].text'

FRAMEWORKS = (
    _framework(
        "Pydantic AI",
        "pydantic_ai",
        "AbstractAgent",
        "async def agent(prompt): return str((await it.run(prompt)).output)",
    ),
    _framework("LangGraph", "langgraph", "StateGraph", COMPILED.format("it.compile()")),
    _framework(
        "LangGraph",
        "langgraph",
        "Pregel PregelProtocol",
        COMPILED.format("it"),
    ),
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
        "AgentBase Agent Runner",
        "async def agent(messages): return str((await Runner.run(it, messages)).final_output)",
        mark="RunContextWrapper",
    ),
    _framework(
        "Strands",
        "strands",
        "Agent AgentBase MultiAgentBase",
        # It keeps the conversation, so each turn needs one of its own.
        "async def agent(prompt): return str(await make_it().invoke_async(prompt))",
    ),
    _framework(
        "Microsoft Agent Framework",
        "agent_framework",
        "BaseAgent RawAgent Workflow",
        "async def agent(prompt): return (await it.run(prompt)).text",
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
        "BaseWorkflowAgent AgentWorkflow BaseAgent",
        "async def agent(prompt): return str(await it.run(user_msg=prompt))",
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
        "Context",
    ),
    _framework("smolagents", "smolagents", "MultiStepAgent", "def agent(prompt): return str(make_it().run(prompt))"),
    _framework(
        "AutoGen",
        "autogen_agentchat",
        "TaskRunner ChatAgent Team BaseChatAgent BaseGroupChat",
        "async def agent(prompt): return (await make_it().run(task=prompt)).messages[-1].to_text()",
    ),
    _framework(
        "Google ADK",
        "google.adk",
        "BaseAgent BaseNode Runner App",
        "an async generator that reads Runner.run_async(…) and yields the text of its events",
    ),
    _framework(
        "Haystack",
        "haystack",
        "Agent",
        "def agent(prompt): return it.run(messages=[ChatMessage.from_user(prompt)])['last_message'].text",
    ),
    _framework(
        "Haystack", "haystack", "PipelineBase", "def agent(prompt): return it.run({…})[…], as the pipeline names them"
    ),
    _framework(
        "DSPy", "dspy", "Module BaseModule", "async def agent(prompt): return (await it.acall(question=prompt)).answer"
    ),
    _framework(
        "Agno", "agno", "Agent Team Workflow", "async def agent(prompt): return (await it.arun(prompt)).content"
    ),
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
        "ClaudeSDKClient ClaudeAgentOptions",
        "an async generator that reads query(prompt=prompt, options=it) and yields the text of its messages",
    ),
)


def refuse_framework(thing: object) -> None:
    """Raise TypeError, which says how it is served, for an object, class or method of a framework."""
    while isinstance(thing, functools.partial):
        thing = cast("functools.partial[Any]", thing).func
    bound = inspect.ismethod(thing)
    owner: object = getattr(thing, "__self__", None) if bound else thing
    module = f"{getattr(thing, '__module__', '')}."
    own = any([module.startswith(f"{framework.package}.") for framework in FRAMEWORKS])
    # a method that a user's subclass adds may well suit
    framework = None if bound and not own else _framework_of(owner)
    if framework is not None:
        raise TypeError(
            f"{describe(thing)} of {framework.name} is served by a function that runs it: {framework.serves}"
        )


def _framework_of(thing: object) -> Framework | None:
    kind = cast("type[Any]", thing) if isinstance(thing, type) else type(thing)
    # Base classes too: users subclass what a framework gives them.
    for base in kind.__mro__:
        for framework in FRAMEWORKS:
            if framework.has(base):
                return framework
    return None
