"""The pytest plugin: `pytest --openai-compat agent.py`, and the fixtures `served` and `golden`.

pytest loads it wherever the package is installed, so it imports nothing but pytest until it is used.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack
from types import ModuleType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from openai_compat.testing import Recording

    from .testing import ServedClient

Open = Callable[..., "ServedClient"]
Golden = Callable[["Recording"], None]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the command line's options."""
    group = parser.getgroup("openai-compat")
    group.addoption(
        "--openai-compat",
        action="append",
        default=[],
        metavar="[MODULE|FILE][:NAME]|URL",
        help="run the conformance suite on an agent, a Server, an ASGI application or a subclass of Conformance, "
        "or on the API at a URL (http://127.0.0.1:8083/v1); "
        "collect nothing else unless paths are given too",
    )
    group.addoption("--openai-compat-key", metavar="KEY", help="API key of the server")
    group.addoption("--openai-compat-path", metavar="PATH", help="path of the API, such as /ai/v1; default: /v1")
    group.addoption("--openai-compat-update", action="store_true", help="rewrite the golden files")


def pytest_configure(config: pytest.Config) -> None:
    """Without paths on the command line, collect nothing but what `--openai-compat` names."""
    if config.option.openai_compat and config.args_source is not pytest.Config.ArgsSource.ARGS:
        config.args = []


# First, so that `-k`, `-m` and other plugins see the added checks.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Add the checks for each `--openai-compat`."""
    module: Any = ConformanceModule
    for target in config.option.openai_compat:
        folder = config.invocation_params.dir
        items.extend(session.genitems(module.from_parent(session, path=folder, name=target, nodeid=target)))


class ConformanceModule(pytest.Module):
    """A generated test module with one subclass of Conformance."""

    def _getobj(self) -> ModuleType:
        module = ModuleType("given")
        vars(module)["TestConformance"] = _make_suite(self.name, str(self.path), self.config)
        return module


def _make_suite(target: str, folder: str, config: pytest.Config) -> type[Any]:
    from openai_compat.testing import Conformance, Examination  # noqa: PLC0415

    attributes: dict[str, Any] = {"api_key": config.option.openai_compat_key, "path": config.option.openai_compat_path}
    if target.startswith(("http://", "https://")):
        from .testing import UrlTarget  # noqa: PLC0415

        parts = urlsplit(target)
        thing: Any = UrlTarget(f"{parts.scheme}://{parts.netloc}")
        attributes["path"] = attributes["path"] or parts.path.rstrip("/") or "/v1"
    else:
        thing = _load(target, folder)
    base = thing if _is_suite(thing, Examination) else Conformance
    given = {name: value for name, value in attributes.items() if value is not None}
    given |= {"agent": staticmethod(thing)} if base is Conformance else {}
    return type("TestConformance", (base,), {**given, "__module__": "given"})


def _is_suite(thing: object, base: type[Any]) -> bool:
    return isinstance(thing, type) and issubclass(thing, base)


def _load(target: str, folder: str) -> Any:
    """Load a target of the command line, also from `folder`. Raises pytest.Collector.CollectError."""
    from ._cli.load_agents import as_server, load  # noqa: PLC0415
    from ._cli.modules import find_target  # noqa: PLC0415
    from ._cli.wrong_target import CannotLoad  # noqa: PLC0415

    # `pytest`, unlike `python -m pytest`, does not put the current folder on the path.
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        return as_server(load([target])) if target.endswith(".toml") else find_target(target)[1]
    except CannotLoad as error:
        raise pytest.Collector.CollectError(f"--openai-compat {target}: {error}") from error


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add a failed check's docstring to its report: why it matters, and how to fix it."""
    report = yield
    # Not imported, to spare unrelated test runs.
    conformance = sys.modules.get("openai_compat.testing.conformance.base")
    suite = getattr(item, "cls", None)
    if report.failed and report.when == "call" and conformance and _is_suite(suite, conformance.Examination):
        check: object = getattr(item, "obj", None)
        lines: Iterable[str] = (getattr(check, "__doc__", None) or "").strip().splitlines()
        report.sections.insert(0, ("what it means", "\n".join([line.strip() for line in lines])))
    return report


@pytest.fixture
def served() -> Generator[Open]:
    """`served(agent)`: a server in this process with real openai clients, until the test ends."""
    from .testing import served as serve  # noqa: PLC0415

    with ExitStack() as stack:

        def open_client(agent: Any, **options: Any) -> ServedClient:
            return stack.enter_context(serve(agent, **options))

        yield open_client


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """`golden(recording)`: compare it with the file `golden/NAME-OF-THE-TEST.json` beside the test.

    The file is written if there is none, and with `--openai-compat-update`.
    """
    path = request.path.parent / "golden" / f"{request.node.name}.json"
    update = bool(request.config.option.openai_compat_update)
    return lambda recording: recording.check(path, update=update)
