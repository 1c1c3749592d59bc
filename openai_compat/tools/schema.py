"""Converts a function's signature to JSON Schema, and validates arguments against it; pydantic does both."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any, cast, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, PydanticUserError, ValidationError, create_model
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaWarningKind

from ..agents.describe import describe
from ..wire.json import describe_error
from .docstring import read_docstring
from .tool_error import ToolError

PROBLEMS = 8
"""Maximum number of faults in a call's arguments that are reported to the model."""


class _Untitled(GenerateJsonSchema):
    """Omits the titles that pydantic derives from names, which cost tokens without information."""

    ignored_warning_kinds: set[JsonSchemaWarningKind] = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012  (as in the class above)

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


class Signature:
    """The arguments that a function gets from the model.

    `injected` is the type of an argument that the server passes in; the model neither sees nor sets it.

    Raises TypeError for a function whose arguments cannot be passed by name, or have no type.

    Attributes:
        parameters: the JSON Schema.
        context: name of the injected argument, if the function has one.
        names: names of the arguments that the model passes.
        defaults: default values of the optional ones.
    """

    def __init__(self, function: Callable[..., Any], injected: type) -> None:
        hints = _type_hints(function)
        described = read_docstring(function).parameters
        fields: dict[str, Any] = {}
        self.context: str | None = None
        self.defaults: dict[str, object] = {}
        self._by_field: dict[str, str] = {}
        for parameter in inspect.signature(function).parameters.values():
            name = _parameter_name(function, parameter, hints)
            if hints[name] is injected:
                self.context = name
            else:
                key = f"argument_{len(fields)}"  # a pydantic model's own methods could have the same name
                self._by_field[key] = name
                description: dict[str, Any] = {"description": described[name]} if name in described else {}
                hint: Any = Annotated[hints[name], Field(alias=name, **description)]
                fields[key] = hint, ... if parameter.default is parameter.empty else parameter.default
                if parameter.default is not parameter.empty:
                    self.defaults[name] = parameter.default
        # Otherwise an argument invented by the model would be dropped silently.
        config = ConfigDict(extra="forbid", allow_inf_nan=False)
        try:
            self._model: type[BaseModel] = create_model("Arguments", __config__=config, **fields)
            self.parameters = _json_schema(self._model)
        except PydanticUserError as error:
            raise TypeError(f"{describe(function)}: a type of its signature has no JSON Schema") from error
        self.names = frozenset(self._by_field.values())

    def read(self, arguments: str) -> dict[str, Any]:
        """Parse and validate the arguments for the function. Raises ToolError, which tells the model what is wrong."""
        try:
            model = self._model.model_validate_json(arguments or "{}")
        except ValidationError as error:
            raise ToolError(_problems_text(error)) from None
        return {name: getattr(model, key) for key, name in self._by_field.items() if key in model.model_fields_set}


def _type_hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(function, include_extras=True)
    except NameError as error:
        raise TypeError(
            f"{describe(function)}: a type of its signature is not known where it is defined: {error}"
        ) from error


def _parameter_name(function: Callable[..., Any], parameter: inspect.Parameter, hints: Mapping[str, Any]) -> str:
    if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
        raise TypeError(f"{describe(function)}: a tool's arguments are given by name, so it cannot have '{parameter}'")
    if parameter.name not in hints:
        raise TypeError(f"{describe(function)}: the argument '{parameter.name}' needs a type")
    return parameter.name


def _json_schema(model: type[BaseModel]) -> dict[str, Any]:
    schema = model.model_json_schema(schema_generator=_Untitled)
    schema.pop("title", None)
    for definition in cast("dict[str, dict[str, Any]]", schema.get("$defs", {})).values():
        definition.pop("title", None)
    return schema


def _problems_text(error: ValidationError) -> str:
    found = error.errors(include_url=False, include_input=False)
    lines = [
        f"{'.'.join([str(part) for part in problem['loc']]) or 'arguments'}: {describe_error(problem) or problem['msg']}"
        for problem in found
    ]
    more = [f"… and {len(lines) - PROBLEMS} more"] if len(lines) > PROBLEMS else []
    return "The arguments are wrong.\n" + "\n".join([line[:300] for line in lines[:PROBLEMS]] + more)
