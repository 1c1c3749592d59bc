"""Cases only for Strands: another message ends a paused run, whose completed calls stay known."""

from __future__ import annotations

from typing import Any

from tests.frameworks.acceptance import in_memory, kept, on_disk, scenario  # noqa: F401  (fixtures)
from tests.frameworks.served import CHAT_TOOL, Served, model


@scenario("another message")
def test_what_was_done_before_another_message_came_is_known(kept: Served, request: Any) -> None:  # noqa: F811  (a fixture)
    name = request.node.name
    asked = kept.chat("weather", "both please", tools=[CHAT_TOOL], conversation=name)
    assert asked.choices[0].finish_reason == "tool_calls"
    answer = kept.chat("weather", "talk instead", tools=[CHAT_TOOL], conversation=name)
    assert answer.choices[0].message.content.startswith("You said: ")
    seen = model.seen[-1]
    assert [said for said in seen.said if said[0] == "user"] == [("user", "both please"), ("user", "talk instead")]
    assert seen.said[-1] == ("user", "talk instead")
    assert ("tool", "sunny in Paris") in seen.said
    assert not seen.open_calls
    assert model.ran == ["Paris"]
