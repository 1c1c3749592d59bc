"""Checks beyond the types, as JSON Schema: conditions between fields, and limits of this server.

Only keywords are used that client generators ignore (`dependentSchemas`, `if`, `not`), so the types stay plain.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from typing import Any, TypeAlias, cast

from ..policies.limits import Limits
from ..wire.items.types import ACTION_TYPES, VALIDATED_TYPES
from ..wire.misplaced_parameters import CHAT_PARAMETERS, NO_OP_VALUES, NON_COMPLETION_PARAMETERS, RESPONSES_PARAMETERS
from ..wire.responses.parse.request import COMPACT_FIELDS, TOKEN_FIELDS
from ..wire.responses.request_types import CHOICES, ResponseRequest
from ..wire.responses.tool_types import CHECKED_TOOLS

Schema: TypeAlias = Mapping[str, Any]

NULL: Schema = {"type": "null"}
NOT_NULL: Schema = {"not": NULL}
TEXTS: Schema = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}
NOT_EMPTY: Schema = {**NOT_NULL, "minItems": 1}


def _required_field(name: str, schema: Schema = NOT_NULL) -> Schema:
    return {"required": [name], "properties": {name: schema}}


def _unless_null(name: str, then: Schema) -> Schema:
    # Null means the same as a missing field, everywhere.
    return {"anyOf": [{"properties": {name: NULL}}, then]}


def _at_least_one(*names: str) -> Schema:
    return {"not": {"properties": dict.fromkeys(names, NULL)}}


def _misplaced_parameters(names: Iterable[str]) -> Mapping[str, Schema]:
    """Parameters of another API: only values that request nothing are allowed."""
    return {name: {"properties": {name: {"enum": [None, *NO_OP_VALUES.get(name, ())]}}} for name in names}


def _unknown_type(known: Iterable[str]) -> Schema:
    # Otherwise an invalid item of a known type would pass as an item of an unknown type.
    return {"properties": {"type": {"not": {"enum": sorted(known)}}}}


_WITHOUT_INPUT: Schema = {
    "conversation": NULL,
    "previous_response_id": NULL,
    "generate": {"enum": [None, True]},
    "prompt_cache_options": {"not": {"type": "object", **_required_field("prewarm", {"const": True})}},
}
_ONE_BEGINNING: Schema = {"conversation": _unless_null("conversation", {"properties": {"previous_response_id": NULL}})}


def _input_of(fields: Container[str]) -> Schema:
    """The rule of a request with these fields: `input` is required, unless another field replaces it."""
    without = {name: schema for name, schema in _WITHOUT_INPUT.items() if name in fields}
    return {"if": {"properties": without}, "then": _required_field("input", NOT_EMPTY)}


_ITEM: Schema = {
    "properties": {"type": {"not": {"enum": ["item_reference", *sorted(ACTION_TYPES)]}}},
    "anyOf": [_required_field("role"), _required_field("type")],
}
_ITEMS: Schema = {"dependentSchemas": {"items": {"properties": {"items": {"items": _ITEM}}}}}

RULES: Mapping[str, Schema] = {
    "ChatCompletionRequest": {
        "properties": {"functions": NULL, "function_call": NULL},
        "dependentSchemas": {
            "top_logprobs": _unless_null("top_logprobs", _required_field("logprobs", {"const": True})),
            "modalities": {
                "anyOf": [
                    {"properties": {"modalities": {"not": {"contains": {"const": "audio"}}}}},
                    _required_field("audio"),
                ]
            },
            **_misplaced_parameters(RESPONSES_PARAMETERS),
        },
    },
    "CompletionRequest": {
        "properties": {"suffix": NULL, "logprobs": NULL, "best_of": {"enum": [None, 1]}, "prompt": TEXTS},
        "dependentSchemas": _misplaced_parameters(NON_COMPLETION_PARAMETERS),
    },
    "ResponseRequest": {
        **_input_of(ResponseRequest.model_fields),
        "properties": {"prompt": NULL},
        "dependentSchemas": {
            **_ONE_BEGINNING,
            "background": {
                "anyOf": [
                    {"properties": {"background": {"enum": [None, False]}}},
                    {"properties": {"store": {"enum": [None, True]}}},
                ]
            },
            **_misplaced_parameters(CHAT_PARAMETERS),
        },
    },
    "CompactRequest": _input_of(COMPACT_FIELDS),
    "InputTokensRequest": {**_input_of(TOKEN_FIELDS), "dependentSchemas": _ONE_BEGINNING},
    "ConversationCreate": _ITEMS,
    "ConversationItems": _ITEMS,
    "ItemFileContent": _at_least_one("file_data", "file_id", "file_url"),
    "ItemImageContent": _at_least_one("image_url", "file_id"),
    "ItemReferenceParam": {"if": {"properties": {"type": NULL}}, "then": {"not": {"required": ["role"]}}},
    "OtherItemParam": _unknown_type(VALIDATED_TYPES),
    "OtherToolParam": _unknown_type(CHECKED_TOOLS),
    "OtherChoiceParam": _unknown_type(CHOICES),
}


def with_rules(schemas: Mapping[str, Any], limits: Limits) -> dict[str, Any]:
    """The schemas with all these rules."""
    bounds: Mapping[str, Schema] = {
        "ChatCompletionRequest": {"properties": {"n": {"maximum": limits.choices}}},
        "CompletionRequest": {"properties": {"n": {"maximum": limits.choices}, "prompt": {"maxItems": limits.choices}}},
    }
    found = dict(schemas)
    for rules in (RULES, bounds):
        found |= {name: _merge_rule(found[name], rule) for name, rule in rules.items()}
    return found


def _merge_rule(schema: Any, rule: Schema) -> dict[str, Any]:
    merged = dict(cast("Mapping[str, Any]", schema))
    for key, value in rule.items():
        known = merged.get(key)
        both = isinstance(known, Mapping) and isinstance(value, Mapping)
        merged[key] = _merge_rule(known, cast("Schema", value)) if both else value
    return merged
