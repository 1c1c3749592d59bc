"""A server's settings, checked when the server is made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from types import NoneType
from typing import Any, cast, get_args

from ..agents.compaction import Compaction
from ..agents.describe import describe
from ..agents.setting_types import check_choice, check_setting, check_strings
from ..policies.budgets import Budget
from ..policies.chat_rest import ChatRest
from ..policies.chat_websocket import ChatWebSocket
from ..policies.conversations import Conversations
from ..policies.cors import Cors
from ..policies.disconnect import Disconnect
from ..policies.hooks import check_hooks
from ..policies.housekeeping import Housekeeping
from ..policies.limits import Deadlines, Limits
from ..policies.messages import MessagePolicy
from ..policies.rates import Rates
from ..policies.replay_failures import ReplayFailures
from ..policies.resource_metadata import ResourceMetadata
from ..state.webhooks import Webhooks
from ..turns.slots import Admission
from ..wire.presentation import Visibility
from ..wire.responses.serialize.stream import ResponseVisibility
from .routing import Public
from .services import Settings

KINDS: Mapping[str, tuple[type, ...]] = {
    "embeddings": (Mapping, NoneType),
    "decisions": (Mapping, NoneType),
    "cors": (Cors, NoneType),
    "resource": (ResourceMetadata, NoneType),
    "limits": (Limits,),
    "deadlines": (Deadlines,),
    "admission": (Admission,),
    "disconnect": (Disconnect,),
    "replay_failures": (ReplayFailures, NoneType),
    "messages": (MessagePolicy,),
    "compaction": (Compaction, NoneType),
    "housekeeping": (Housekeeping, NoneType),
    "conversations": (Conversations, NoneType),
    "chat_rest": (ChatRest, NoneType),
    "chat_websocket": (ChatWebSocket, NoneType),
    "page": (bool,),
    "bare_paths": (bool,),
    "owned_by": (str,),
    "retention": (int, float),
}

CHOICES: Mapping[str, Iterable[Any]] = {
    "unknown_model": ("reject", "default"),
    "visibility": get_args(Visibility),
    "response_visibility": get_args(ResponseVisibility),
}


def read_settings(given: Mapping[str, Any]) -> Settings:
    """The settings among a server's arguments, by name.

    Raises TypeError for a value of the wrong type, ValueError for an unknown choice.
    """
    settings: dict[str, Any] = {each.name: given[each.name] for each in fields(Settings)}
    for name in ("hosts", "public", "agent_headers"):
        settings[name] = check_strings(name, settings[name])
    webhooks = settings["webhooks"]
    # An iterator can only be read once, so it is read here.
    settings["webhooks"] = tuple(webhooks) if hasattr(webhooks, "__iter__") else (webhooks,)
    settings["hooks"], settings["wrap"] = tuple(settings["hooks"]), tuple(settings["wrap"])
    _check({**given, **settings})
    settings["agent_headers"] = frozenset([name.lower() for name in settings["agent_headers"]])
    return Settings(**settings)


def _check(settings: Mapping[str, Any]) -> None:
    check_hooks(settings["hooks"])
    for name, kinds in KINDS.items():
        check_setting(name, settings[name], *kinds)
    for name, choices in CHOICES.items():
        check_choice(name, settings[name], choices)
    for public in settings["public"]:
        check_choice("each of public", public, get_args(Public))
    authenticate = settings["authenticate"]
    if authenticate is not None and not callable(authenticate):
        raise TypeError(f"authenticate is a function, or None, not {describe(authenticate)}")
    if settings["resource"] is not None and authenticate is None:
        raise ValueError("resource says where tokens are to be had: it goes with authenticate, which takes them")
    _check_budgets(settings["budgets"])
    rates = settings["rates"]
    if not callable(rates):
        check_setting("rates", rates, Rates, NoneType)
    store = settings["store"]
    if not hasattr(store, "shared"):
        check_setting("store", store, str, NoneType)
    for webhook in settings["webhooks"]:
        check_setting("each of webhooks", webhook, Webhooks)


def _check_budgets(budgets: Any) -> None:
    if not callable(budgets) and budgets is not None:
        several: Iterable[Any] = cast("Sequence[Any]", budgets) if isinstance(budgets, Sequence) else [budgets]
        for budget in several:
            check_setting("each of budgets", budget, Budget)
