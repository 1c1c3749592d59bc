"""What only graphs have: threads of their own, of which none stays that nothing leads to."""

from __future__ import annotations

from typing import Any

from tests.frameworks.acceptance import in_memory, scenario  # noqa: F401  (a fixture)
from tests.frameworks.served import Served, agents, model

saver: Any = agents["plain"].checkpointer


def threads() -> set[str]:
    return {thread for thread, spaces in saver.storage.items() if spaces}


@scenario("conversations")
def test_a_turn_that_is_not_kept_leaves_no_thread(in_memory: Served) -> None:  # noqa: F811
    before = threads()
    in_memory.chat("plain", "one")
    in_memory.client.responses.create(model="plain", input="one", store=False)
    assert threads() == before
    in_memory.client.responses.create(model="plain", input="one")
    assert len(threads()) == len(before) + 1


@scenario("conversations")
def test_a_turn_that_is_not_kept_leaves_the_thread_that_it_goes_on_from(in_memory: Served) -> None:  # noqa: F811
    first = in_memory.client.responses.create(model="plain", input="one")
    before = threads()
    for store in (False, True):
        in_memory.client.responses.create(model="plain", input="two", previous_response_id=first.id, store=store)
        assert model.seen[-1].said == [("user", "one"), ("assistant", "You said: one"), ("user", "two")]
    assert threads() == before
