"""How far a reader has to walk: the shape of the library's code, and the files that a request goes through.

    python benchmarks/house.py                    everything, in a few seconds
    python benchmarks/house.py --only shape       no requests
    python benchmarks/house.py --only shape --files       the same, and the functions that count as short
    python benchmarks/house.py --only chat --files        one flow, and the files it enters, with their calls
    python benchmarks/house.py --draw 10          ten random files: do path and name tell what each contains?
    python benchmarks/house.py --json before.json         write the figures, to compare two states of the code

flows: the second of two identical requests, in this process, without a socket
  chat        a streamed chat completion in two pieces, nothing stored
  responses   a plain response that continues another, stored in SQLite
  socket      a turn on the chat WebSocket in which the client runs one tool
  approve     POST /tools/approve of the chat REST API, which resumes a turn
  fallback    a plain chat completion whose first model is unavailable, so that another one answers

figures of a flow, for the files of openai_compat and openai_compat_adapters only
  files       files of which at least one function was entered
  functions   functions, each counted once
  calls       function entries; a coroutine or generator is entered each time it resumes
  switches    function entries whose file differs from that of the previous entry, in the same thread

figures of the shape, for the same files
  root        modules at the root of openai_compat
  layers      layers of the import contract in pyproject.toml
  lines, files; over 450 lines: the files that are longer
  functions   their number; lines of their bodies without docstrings: the median, the 90th percentile, the longest
  short       private functions of at most 3 lines with a single call; a function that is passed on, as a callback or in a
              table, is not counted, because it cannot be inlined
  partials    uses of functools.partial
  twice       class names that are defined in two places or more, private ones too
  comments    lines with a comment, of all lines that are not empty
  docstrings  those of at most 4 words
  what        those, also of constants and fields, that begin with "What" or "Whether" and so do not say what a thing is

To measure another checkout of this repository, set PYTHONPATH=PATH:PATH/adapters.
The same code gives the same figures, except for some calls of SQLite's thread: nothing is timed. Needs the extra `test`.
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import random
import re
import statistics
import sys
import tempfile
import threading
import tokenize
import tomllib
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, TypeAlias

import anyio
import httpx2

import openai_compat
import openai_compat_adapters
from openai_compat import (
    AgentError,
    Capabilities,
    ChatRest,
    ChatWebSocket,
    Server,
    ToolCallReady,
    as_backend,
)
from openai_compat.providers import Fallback
from openai_compat.tools import AskLater, ToolLoop, tool
from openai_compat_adapters.transport import AsyncTransport
from openai_compat_adapters.websocket import connect

PACKAGES = (Path(openai_compat.__file__).parent, Path(openai_compat_adapters.__file__).parent)
ROOT = PACKAGES[0].parent
LIBRARY = tuple([f"{package}/" for package in PACKAGES])
LONG_FILE, SHORT_HELPER, SHORT_DOCSTRING = 450, 3, 4

Ask: TypeAlias = Callable[[], Awaitable[None]]
Flow: TypeAlias = Callable[[], Any]


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", action="append", choices=["shape", *FLOWS], help="one part; can be given several times"
    )
    parser.add_argument(
        "--files",
        action="store_true",
        help="also list the files of each flow, with their calls and switches, and the short functions",
    )
    parser.add_argument("--draw", type=int, metavar="N", help="print only N random files")
    parser.add_argument("--seed", type=int, help="random seed of --draw")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to a file")
    options = parser.parse_args()
    if options.draw is not None:
        for path in sorted(random.Random(options.seed).sample(sources(), options.draw)):
            print(path.relative_to(ROOT))
        return
    wanted = options.only or ["shape", *FLOWS]
    figures: dict[str, Any] = {}
    if "shape" in wanted:
        figures["shape"] = shape()
        print_shape(figures["shape"], listed=options.files)
    for name in [name for name in FLOWS if name in wanted]:
        walk = anyio.run(walked, FLOWS[name])
        figures[name] = walk.figures()
        print(f"{name:10} " + "  ".join([f"{key} {value:>4,}" for key, value in figures[name].items()]))
        if options.files:
            print(*[f"    {calls:4} {entered:4}  {path}" for path, calls, entered in walk.by_file()], sep="\n")
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


# the flows


@dataclass
class Walk:
    """Functions that one request entered, by thread."""

    entered: defaultdict[int, list[tuple[str, str]]] = field(default_factory=lambda: defaultdict(list))
    counting: bool = False

    def look(self, frame: FrameType, event: str, _: object) -> None:
        """Profiler callback: record each library function that is entered."""
        if event == "call" and self.counting:
            code = frame.f_code
            if code.co_filename.startswith(LIBRARY):
                function = f"{code.co_qualname}:{code.co_firstlineno}"
                self.entered[threading.get_ident()].append((code.co_filename, function))

    def changes(self) -> Iterator[str]:
        """The path at each switch from one file to another."""
        for calls in self.entered.values():
            before = calls[0][0]
            for path, _ in calls[1:]:
                if path != before:
                    yield path
                before = path

    def figures(self) -> dict[str, int]:
        """The figures of this flow."""
        calls = [call for thread in self.entered.values() for call in thread]
        return {
            "files": len({path for path, _ in calls}),
            "functions": len(set(calls)),
            "calls": len(calls),
            "switches": sum(1 for _ in self.changes()),
        }

    def by_file(self) -> list[tuple[Path, int, int]]:
        """Each file with its calls and its switches from other files; the most entered first."""
        calls = Counter([path for thread in self.entered.values() for path, _ in thread])
        entered = Counter(self.changes())
        rows = [(Path(path).relative_to(ROOT), calls[path], entered[path]) for path in calls]
        return sorted(rows, key=lambda row: (-row[2], -row[1], row[0]))


async def walked(flow: Flow) -> Walk:
    """Profile the second request of a flow."""
    walk = Walk()
    # Set before the server exists: the store's threads need the profiler, too, and start with the server.
    threading.setprofile(walk.look)
    try:
        async with flow() as ask:
            with anyio.fail_after(20):
                await ask()
            await anyio.sleep(0.05)  # lets the first request finish its background work
            sys.setprofile(walk.look)
            walk.counting = True
            with anyio.fail_after(20):
                await ask()
            walk.counting = False
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return walk


@asynccontextmanager
async def client_of(server: Any) -> AsyncIterator[httpx2.AsyncClient]:
    async with (
        server.lifespan(),
        httpx2.AsyncClient(transport=AsyncTransport(server), base_url="http://localhost", timeout=20) as client,
    ):
        yield client


async def posted(client: httpx2.AsyncClient, path: str, **body: Any) -> Any:
    """The answer's JSON."""
    answer = await client.post(path, json=body)
    assert answer.is_success, answer.text
    return answer.json()


async def two_pieces(prompt: str) -> AsyncIterator[str]:
    yield "Hello, "
    yield prompt


MESSAGES = [{"role": "user", "content": "you"}]


@asynccontextmanager
async def chat() -> AsyncIterator[Ask]:
    async with client_of(Server(two_pieces)) as client:

        async def ask() -> None:
            body = {"model": "agent", "messages": MESSAGES, "stream": True}
            answer = await client.post("/v1/chat/completions", json=body)
            assert answer.text.endswith("data: [DONE]\n\n"), answer.text

        yield ask


@asynccontextmanager
async def responses() -> AsyncIterator[Ask]:
    with tempfile.TemporaryDirectory() as folder:
        async with client_of(Server(two_pieces, store=f"sqlite:///{folder}/state.db")) as client:
            first = await posted(client, "/v1/responses", model="agent", input="you")

            async def ask() -> None:
                await posted(client, "/v1/responses", model="agent", input="and you", previous_response_id=first["id"])

            yield ask


TOOL = {"name": "where", "description": "Where the user is.", "parameters": {"type": "object", "properties": {}}}


@asynccontextmanager
async def socket() -> AsyncIterator[Ask]:
    async def agent(messages: list[dict[str, Any]]) -> AsyncIterator[Any]:
        if messages[-1]["role"] == "tool":
            yield f"You are in {messages[-1]['content']}."
        else:
            yield ToolCallReady(f"call_{len(messages)}", "where", "{}")

    server = Server(agent, chat_websocket=ChatWebSocket())
    async with server.lifespan(), connect(server, "/chat") as client:
        await client.send(json.dumps({"type": "client_tools_manifest", "tools": [TOOL]}))

        async def ask() -> None:
            await client.send(json.dumps({"role": "user", "content": "Where am I?", "thread_id": "t"}))
            frame: dict[str, Any] = {"type": ""}
            while frame["type"] != "message" or "tool_calls" in frame:
                frame = json.loads(await client.receive())
                if frame["type"] == "tool_call":
                    result = {"tool_call_id": frame["tool_call_id"], "ok": True, "result": "Lisbon"}
                    await client.send(json.dumps({"type": "tool_result", **result}))
            assert frame["content"] == "You are in Lisbon.", frame

        yield ask


def buy(what: str) -> str:
    """Buy something."""
    return f"bought {what}"


@asynccontextmanager
async def approve() -> AsyncIterator[Ask]:
    async def model(messages: list[dict[str, Any]]) -> AsyncIterator[Any]:
        if messages[-1]["role"] == "tool":
            yield "You have bread now."
        else:
            yield ToolCallReady(f"call_{len(messages)}", "buy", '{"what": "bread"}')

    agent = ToolLoop(as_backend(model, capabilities=Capabilities()), [tool(buy)], approver=AskLater())
    server = Server(agent, chat_rest=ChatRest())
    async with client_of(server) as client:
        waiting: list[dict[str, str]] = []
        for _ in range(2):
            made = await posted(client, "/api/chat/conversations", title="Shopping")
            conversation = made["conversation"]["id"]
            path = f"/api/chat/conversations/{conversation}/messages/with-tools"
            asked = await posted(client, path, content="Buy bread", enableTools=True)
            waiting.append({"conversationId": conversation, "approvalId": asked["pendingApprovals"][0]["id"]})

        async def ask() -> None:
            told = await posted(client, "/api/chat/tools/approve", **waiting.pop(), decision="allow-once")
            assert told["assistantMessage"]["content"] == "You have bread now.", told

        yield ask


@asynccontextmanager
async def fallback() -> AsyncIterator[Ask]:
    async def refused(prompt: str) -> AsyncIterator[str]:
        raise AgentError("The model cannot be used.", status=503, code="upstream_unavailable")
        yield prompt

    # No cooldown: the failed model is tried first again, so both requests take the same way.
    agents = {"first": as_backend(refused), "second": as_backend(two_pieces)}
    async with client_of(Server(Fallback(agents, cooldown=0))) as client:

        async def ask() -> None:
            answer = await posted(client, "/v1/chat/completions", model="agent", messages=MESSAGES)
            assert answer["choices"][0]["message"]["content"] == "Hello, you", answer

        yield ask


FLOWS: dict[str, Flow] = {
    "chat": chat,
    "responses": responses,
    "socket": socket,
    "approve": approve,
    "fallback": fallback,
}


# the shape


@dataclass(frozen=True)
class Function:
    """A function of the library, with the number of lines of its body."""

    path: Path
    name: str
    lines: int


def sources() -> list[Path]:
    """All source files of the library."""
    # Templates of `openai-compat init` are users' code.
    return sorted([path for package in PACKAGES for path in package.rglob("*.py") if path.parent.name != "templates"])


def shape() -> dict[str, Any]:
    """The figures of the shape."""
    texts = {path: path.read_text("utf-8") for path in sources()}
    trees = {path: ast.parse(text) for path, text in texts.items()}
    functions = [function for path, tree in trees.items() for function in functions_of(path, tree)]
    lengths = sorted([function.lines for function in functions])
    classes = Counter(
        [node.name for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    )
    comments, written = map(sum, zip(*map(commented, texts.values()), strict=True))
    docstrings = [found for tree in trees.values() for node in ast.walk(tree) if (found := docstring(node)) is not None]
    longest = max(functions, key=lambda function: function.lines)
    return {
        "root": len([path for path in PACKAGES[0].glob("*.py") if path.name != "__init__.py"]),
        "layers": layers(),
        "files": len(texts),
        "lines": sum([text.count("\n") for text in texts.values()]),
        "over 450 lines": [str(p.relative_to(ROOT)) for p, text in texts.items() if text.count("\n") > LONG_FILE],
        "functions": len(functions),
        "median": statistics.median_low(lengths),
        "p90": lengths[int(len(lengths) * 0.9)],
        "longest": f"{longest.lines}, {longest.name} in {longest.path.relative_to(ROOT)}",
        "short": [f"{f.path.relative_to(ROOT)} {f.name}" for f in short_helpers(functions, texts)],
        "partials": sum([partials(tree) for tree in trees.values()]),
        "twice": sorted([name for name, count in classes.items() if count > 1]),
        "comments": round(100 * comments / written, 1),
        "docstrings": len([text for text in docstrings if len(text.split()) <= SHORT_DOCSTRING]),
        "what": len(
            [text for tree in trees.values() for text in bare_strings(tree) if re.match(r"What\b|Whether\b", text)]
        ),
    }


def print_shape(figures: dict[str, Any], *, listed: bool) -> None:
    """Print one figure per line; for a list, its length and its entries; with `listed`, the short functions, too."""
    for name, value in figures.items():
        shown = value
        if isinstance(value, list):
            shown = len(value) if name == "short" else f"{len(value)}: {', '.join(value)}"
        print(f"{name:15} {shown:,}" if isinstance(shown, int) else f"{name:15} {shown}")
        if listed and name == "short":
            print(*[f"    {short}" for short in value], sep="\n")
    print()


def layers() -> int:
    """The layers of the import contract."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    return sum([len(contract["layers"]) for contract in contracts if contract["type"] == "layers"])


def functions_of(path: Path, tree: ast.Module) -> Iterator[Function]:
    """All functions and methods, including nested ones."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if docstring(node) is not None else node.body
            end = node.end_lineno or node.lineno
            yield Function(path, node.name, end - body[0].lineno + 1 if body else 0)


def bare_strings(tree: ast.Module) -> Iterator[str]:
    """All docstrings, including those below constants and fields."""
    for node in ast.walk(tree):
        match node:
            case ast.Expr(value=ast.Constant(value=str(text))):
                yield text.strip()


def docstring(node: ast.AST) -> str | None:
    """The docstring of a module, class or function."""
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    return ast.get_docstring(node) if isinstance(node, kinds) else None


def short_helpers(functions: list[Function], texts: dict[Path, str]) -> list[Function]:
    """Private functions of few lines that their file names only twice: at the definition and at one call."""
    named = {path: Counter(re.findall(r"\w+", text)) for path, text in texts.items()}
    called = {path: Counter(re.findall(r"(\w+)\(", text)) for path, text in texts.items()}
    return [
        function
        for function in functions
        if function.name.startswith("_") and not function.name.startswith("__")
        if function.lines <= SHORT_HELPER
        if named[function.path][function.name] == called[function.path][function.name] == 2
    ]


def partials(tree: ast.Module) -> int:
    """Calls of functools.partial."""
    called = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return len([f for f in called if (f.attr if isinstance(f, ast.Attribute) else getattr(f, "id", "")) == "partial"])


def commented(text: str) -> tuple[int, int]:
    """Lines with a comment (without `noqa` and the like), and lines that are not empty."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    comments = [token for token in tokens if token.type == tokenize.COMMENT]
    said = [token for token in comments if not re.match(r"#\s*(noqa|type:|pyright:|pragma)", token.string)]
    return len(said), len([line for line in text.splitlines() if line.strip()])


if __name__ == "__main__":
    main()
