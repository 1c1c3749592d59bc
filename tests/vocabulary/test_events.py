"""Events are frozen, small, and listed once."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any, get_args

import pytest
from hypothesis import given

import openai_compat
from openai_compat import events
from openai_compat.events import EVENT_TYPES, AgentEvent, PendingCall
from tests.support import strategies


def test_every_event_class_is_in_the_union_and_exported() -> None:
    classes = {kind for _, kind in inspect.getmembers(events, inspect.isclass) if kind.__module__ == events.__name__}
    assert classes == {*EVENT_TYPES, PendingCall}
    assert get_args(AgentEvent) == EVENT_TYPES
    assert {kind.__name__ for kind in classes} <= set(openai_compat.__all__)


@pytest.mark.parametrize("kind", EVENT_TYPES)
def test_every_event_is_a_frozen_dataclass_with_slots_and_documented(kind: Any) -> None:
    assert dataclasses.is_dataclass(kind)
    assert kind.__dataclass_params__.frozen
    assert "__slots__" in vars(kind)
    assert kind.__doc__
    assert not kind.__doc__.startswith(kind.__name__ + "(")


@given(strategies.events)
def test_events_are_values(event: AgentEvent) -> None:
    assert dataclasses.replace(event) == event
    for field in dataclasses.fields(event):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(event, field.name, None)
