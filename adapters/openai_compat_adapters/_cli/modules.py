"""Imports modules by name or file, and finds the agent in a module."""

from __future__ import annotations

import importlib
import inspect
import operator
import os
import re
import sys
import traceback
from difflib import get_close_matches
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from openai_compat import Server, as_backend
from openai_compat.agents.frameworks import is_framework_factory, is_of_framework
from openai_compat.package import EXTRAS, MissingExtra, is_installed

from .wrong_target import CannotLoad

USUAL_NAMES = ("server", "agents", "agent")
"""Names that are tried first, in this order."""

ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
"""The memory address in Python's default `repr`."""


def find_target(path: str) -> tuple[str, Any]:
    """Return the full name and the object of a target: `package.module` or `agent.py`, each with or without `:attr`.

    Raises CannotLoad.
    """
    if "://" in path:
        raise CannotLoad(f"'{path}' is a URL, where something is served already: openai-compat chat --url {path}")
    module_path, colon, wanted = path.partition(":")
    module = _import_target(module_path)
    if colon:
        return path, _get_attribute(module, wanted)
    name = path.partition(".")[0]
    # The user meant a file that does not exist here: a standard module, such as `token`, has no agent.
    if name in sys.stdlib_module_names and not (module.__file__ or "").startswith(f"{Path.cwd()}{os.sep}"):
        raise CannotLoad(f"'{path}' is a module of Python itself, and there is no {name}.py in {Path.cwd()}.")
    wanted, found = _find_agent(module, path)
    return f"{path}:{wanted}", found


def _import_target(path: str) -> ModuleType:
    if not path:
        raise CannotLoad("Say which module: module:attr, such as hello:agent.")
    if path.endswith(".py") or "/" in path or path.startswith(".") or Path(path).is_file():
        return _import_file(path)
    if path in sys.modules and Path(f"{path}.py").is_file():  # the imported one may be Python's own `token`
        return _import_file(f"{path}.py")
    try:
        module = importlib.import_module(path)
    except (Exception, SystemExit) as error:  # scripts without a main guard may exit
        raise CannotLoad(_import_error(path, error)) from error
    if getattr(module, "__file__", None) is None and Path(path).is_dir():  # built-in modules have no file either
        raise CannotLoad(_folder_error(path))
    return module


def _folder_error(path: str) -> str:
    return f"'{path}' is a folder without __init__.py: name a file in it, such as {path.rstrip('/')}/agent.py."


def _import_file(path: str) -> ModuleType:
    """Import a file as Python would run it: with its folder, or that of its package, first on the path."""
    file = Path(path).expanduser().resolve()
    if file.is_dir():
        if not (file / "__init__.py").is_file():
            raise CannotLoad(_folder_error(path))
        file /= "__init__.py"
    if not file.is_file():
        hint = _suggestion(file.name, [each.name for each in file.parent.glob("*.py")])
        raise CannotLoad(f"There is no file '{path}', looked for from {Path.cwd()}.{hint}")
    if file.suffix != ".py":
        raise CannotLoad(f"'{path}' is no Python file (.py), and no file that describes agents (.toml).")
    folder, parts = file.parent, [] if file.name == "__init__.py" else [file.stem]
    while (folder / "__init__.py").is_file():
        parts.insert(0, folder.name)
        folder = folder.parent
    # As with `python FILE`: modules beside the file take precedence over installed ones.
    if str(folder) not in sys.path[:1]:
        sys.path.insert(0, str(folder))
    name = ".".join(parts)
    try:
        module = importlib.import_module(name) if name.isidentifier() or len(parts) > 1 else None
        found = None if module is None or module.__file__ is None else Path(module.__file__).resolve()
        if module is None or found != file:  # another module has that name already
            return _execute_file(f"{name}@{folder}", file)  # a name that no import can have
        return module
    except (Exception, SystemExit) as error:
        raise CannotLoad(_import_error(name, error)) from error


def _execute_file(name: str, file: Path) -> ModuleType:
    # Load a file only once, so that an agent that is named twice has one state.
    if name in sys.modules:
        return sys.modules[name]
    spec = spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise CannotLoad(f"'{file.name}' is no Python file (.py).")
    # Registered before it runs: dataclasses and pickle look up a class's module by name.
    module = sys.modules[name] = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _get_attribute(module: ModuleType, path: str) -> Any:
    """Get an attribute by its dotted path. Raises CannotLoad."""
    name = module.__name__.partition("@")[0]
    if not path:
        raise CannotLoad(f"'{name}:' is not of the form module:attr, such as hello:agent.")
    try:
        return operator.attrgetter(path)(module)
    except AttributeError as error:
        hint = _suggestion(error.name or "", dir(error.obj))
        raise CannotLoad(f"Module '{name}' has no attribute '{path}'.{hint}") from error


def _suggestion(name: str, names: list[str]) -> str:
    close = get_close_matches(name, names, 1)
    return f" Did you mean '{close[0]}'?" if close else ""


def _find_agent(module: ModuleType, path: str) -> tuple[str, Any]:
    """Return the name and the agent of a module: one with a usual name, or the only one that it defines.

    Raises CannotLoad if there is none, or several; the message lists the targets to choose from.
    """
    for name in USUAL_NAMES:
        if hasattr(module, name):
            return name, getattr(module, name)
    found = {name: value for name, value in vars(module).items() if _may_be_agent(module, name, value)}
    servers = {name: value for name, value in found.items() if isinstance(value, Server)}
    # A module with a framework's agent also contains the agent's parts and its tool functions.
    made = {name: value for name, value in found.items() if is_of_framework(value) and _is_agent(value)}
    app = getattr(module, "app", None)
    if not (servers or made) and _is_asgi(app):  # the functions beside it are usually its routes
        folder = "" if Path(sys.path[0]) == Path.cwd() else f"--app-dir {sys.path[0]} "
        run = f"uvicorn {folder}{module.__name__.partition('@')[0]}:app"
        name = next(iter(found), "agent")
        raise CannotLoad(
            f"'{path}' has an application, which runs by itself: {run}. Or name an agent, as {path}:{name}"
        )
    found = servers or made or found
    if len(found) == 1:
        return next(iter(found.items()))
    if found:
        each = " ".join([f"{path}:{name}" for name in found])
        raise CannotLoad(f"'{path}' has several that may be agents: {', '.join(found)}. Say which: {each}")
    raise CannotLoad(f"There is no agent in '{path}': name one, as {path}:agent.")


def _is_asgi(app: object) -> bool:
    try:
        return callable(app) and list(inspect.signature(app).parameters)[:1] == ["scope"]
    except (TypeError, ValueError):  # it has no signature
        return False


def _may_be_agent(module: ModuleType, name: str, value: Any) -> bool:
    """True if a value is public, defined in the module, and an agent or an object of an agent framework."""
    if name.startswith("_") or isinstance(value, ModuleType):
        return False
    if name == "app":  # a web application, or a compiled graph
        return is_of_framework(value)
    if isinstance(value, Server):
        return True
    if inspect.isroutine(value) or isinstance(value, type):
        if inspect.isroutine(value) and not _has_parameters(value):
            return is_framework_factory(value)  # by its annotation; any other is usually a script's `main`
        # A module is not meant to serve what it imports.
        here = getattr(value, "__module__", None) == module.__name__
        if not here or (isinstance(value, type) and not callable(getattr(value, "run", None))):
            return False
    elif not callable(value) and not callable(getattr(value, "run", None)):
        return is_of_framework(value)
    return _is_agent(value) or is_of_framework(value)


def _has_parameters(function: Any) -> bool:
    try:
        return bool(inspect.signature(function).parameters)
    except (TypeError, ValueError):  # it has no signature
        return True


def _is_agent(value: Any) -> bool:
    try:
        as_backend(value)
    except TypeError:
        return False
    return True


def _import_error(module_name: str, error: BaseException) -> str:
    if isinstance(error, MissingExtra):
        return f"Importing '{module_name}' failed: {error}"
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    if missing and f"{module_name}.".startswith(f"{missing}."):
        hint = _suggestion(missing, [file.stem for file in Path().glob("*.py")])
        return f"There is no module '{missing}', neither in {Path.cwd()} nor installed.{hint}"
    said = ADDRESS.sub("", " ".join(str(error).split()))  # in one line
    text = f"Importing '{module_name}' failed: {type(error).__name__}{said and ': '}{said}"
    if isinstance(error, SyntaxError):
        return text  # which names the file and the line
    return f"{text} ({_error_location(error)}){_install_hint(missing or '')}"


def _install_hint(missing: str) -> str:
    """How to install a missing package, if one of our extras includes it."""
    top = missing.partition(".")[0]
    # If it is installed, the missing module belongs to another package of that name, or to the user's code.
    if top not in EXTRAS or (top != "google" and is_installed(top)):
        return ""
    return f". It comes with: pip install 'openai-compat[{EXTRAS[top]}]'"


def _error_location(error: BaseException) -> str:
    """File and line of the innermost frame in the user's code."""
    frames = traceback.extract_tb(error.__traceback__)
    folders = (str(Path.cwd()), sys.path[0])  # the folder of an imported file is first on the path
    own = [each for each in frames if each.filename.startswith(folders) and "site-packages" not in each.filename]
    frame = (own or frames)[-1]
    return f"{Path(frame.filename).name}, line {frame.lineno}"
