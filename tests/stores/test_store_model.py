"""Any sequence of calls returns the same answers from a SQL store as from the memory store."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from openai_compat import MemoryStore
from openai_compat.stores.open import open_store
from openai_compat.stores.port import Conversation, ConversationTurn, Key, Order, Store, TurnCommit
from tests.stores.postgres_cluster import Cluster
from tests.stores.samples import ANSWER, approval, completion, events, file, items, response

KEYS = st.builds(Key, st.sampled_from(["alice", "bob"]), st.sampled_from(["one", "two"]))
NAMES = st.sampled_from(["a", "b", "c", "d", "\ud800"])
ITEMS = st.lists(NAMES, max_size=4, unique=True)
TRANSCRIPTS = st.sampled_from(["h1", "h2", None])
METADATA = st.dictionaries(NAMES, NAMES, max_size=2)


def timeless(answer: Any) -> Any:
    """An answer without times."""
    return replace(answer, created=0.0, touched=0.0) if isinstance(answer, Conversation) else answer


class Comparison(RuleBasedStateMachine):
    """Calls both stores. Each token is used once, like those of turns."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        self._runner = asyncio.Runner()
        self._store = store
        self._model = MemoryStore()
        self._tokens: list[str] = []
        self._begun: dict[str, tuple[str, str, str | None]] = {}
        self._number = 0

    def teardown(self) -> None:
        self._runner.run(self._store.aclose())
        self._runner.close()

    def _same(self, call: Callable[[Store], Coroutine[Any, Any, Any]]) -> Any:
        expected = timeless(self._runner.run(call(self._model)))
        assert timeless(self._runner.run(call(self._store))) == expected
        return expected

    def _new(self, kind: str) -> str:
        self._number += 1
        return f"{kind}{self._number}"

    def _token(self, choice: int) -> str:
        """One of the latest turns, or a new one."""
        known = self._tokens[-4:]
        if choice < len(known):
            return known[choice]
        self._tokens.append(self._new("t"))
        return self._tokens[-1]

    # turns

    @rule(key=KEYS, choice=st.integers(0, 5))
    def begin(self, key: Key, choice: int) -> None:
        token = self._token(choice)
        self._same(lambda store: store.begin(key, token))

    @rule(key=KEYS, choice=st.integers(0, 3))
    def release(self, key: Key, choice: int) -> None:
        token = self._token(choice)
        self._same(lambda store: store.release(key, token))

    @rule(key=KEYS, choice=st.integers(0, 3), names=ITEMS, transcript=TRANSCRIPTS, kept=st.booleans())
    def say(self, key: Key, choice: int, names: list[str], transcript: str | None, kept: bool) -> None:
        turn = ConversationTurn(key.id, items(*names), transcript)
        completed = completion(self._new("c")) if kept else None
        outcome = TurnCommit(
            principal=key.principal, token=self._token(choice), conversation=turn, completion=completed,
            approvals=(approval(self._new("ask"), conversation=key.id),) if kept else (),
        )  # fmt: skip
        self._same(lambda store: store.commit(outcome))

    @rule(choice=st.integers(0, 3), key=KEYS, names=ITEMS, last=st.integers(0, 9), talk=st.booleans())
    def answer(self, choice: int, key: Key, names: list[str], last: int, talk: bool) -> None:
        """Commit a response, begun or not, with or without a conversation."""
        token = self._token(choice)
        begun = self._begun.get(token)
        principal, name, previous = begun or (key.principal, self._new("resp"), None)
        ended = response(name, status="completed", previous=previous, output=items(*names))
        outcome = TurnCommit(
            principal=principal, token=token, response=ended,
            events=None if begun is None else events(last, last + 2),
            conversation=ConversationTurn(key.id, items(*names)) if talk else None,
        )  # fmt: skip
        self._same(lambda store: store.commit(outcome))

    @rule()
    def renew(self) -> None:
        """Renew the leases of all known tokens."""
        tokens = self._tokens[-6:]
        self._same(lambda store: store.renew(tokens))

    # conversations

    @rule(principal=st.sampled_from(["alice", "bob"]), metadata=METADATA, names=ITEMS)
    def create(self, principal: str, metadata: dict[str, str], names: list[str]) -> None:
        name = self._new("conv")
        self._same(lambda store: store.create(principal, name, metadata, items(*names)))
        self._same(lambda store: store.read(Key(principal, name)))

    @rule(key=KEYS, metadata=METADATA)
    def update(self, key: Key, metadata: dict[str, str]) -> None:
        self._same(lambda store: store.update(key, metadata))

    @rule(key=KEYS, whole=st.booleans())
    def read(self, key: Key, whole: bool) -> None:
        self._same(lambda store: store.read(key, items=whole))

    @rule(key=KEYS)
    def delete(self, key: Key) -> None:
        self._same(lambda store: store.delete(key))

    @rule(key=KEYS, name=NAMES)
    def delete_item(self, key: Key, name: str) -> None:
        self._same(lambda store: store.item(key, name))
        self._same(lambda store: store.delete_item(key, name))

    @rule(key=KEYS, after=st.one_of(st.none(), NAMES), limit=st.integers(1, 4), order=st.sampled_from(["asc", "desc"]))
    def page(self, key: Key, after: str | None, limit: int, order: Order) -> None:
        self._same(lambda store: store.page(key, after, limit, order))

    @rule(principal=st.sampled_from(["alice", "bob"]), transcript=st.sampled_from(["h1", "h2", "h3"]))
    def find(self, principal: str, transcript: str) -> None:
        expected = self._runner.run(self._model.find(principal, transcript))
        found = self._runner.run(self._store.find(principal, transcript))
        if expected is None or expected[1]:  # of those that have continued, any may be found
            assert found == expected
        else:
            assert found is not None
            assert not found[1]

    # responses

    @rule(principal=st.sampled_from(["alice", "bob"]), choice=st.integers(0, 5), previous=st.booleans(), names=ITEMS)
    def begin_response(self, principal: str, choice: int, previous: bool, names: list[str]) -> None:
        self._begin_response(principal, self._token(choice), previous, names)

    @rule(key=KEYS, previous=st.booleans(), names=ITEMS)
    def begin_both(self, key: Key, previous: bool, names: list[str]) -> None:
        token = self._token(9)
        self._same(lambda store: store.begin(key, token))
        self._begin_response(key.principal, token, previous, names)

    def _begin_response(self, principal: str, token: str, previous: bool, names: list[str]) -> None:
        if token in self._begun:
            return
        earlier = [name for owner, name, _ in self._begun.values() if owner == principal]
        before = earlier[-1] if earlier and previous else None
        name = self._new("resp")
        begun = response(name, previous=before, input=items(*names))
        self._begun[token] = (principal, name, before)
        self._same(lambda store: store.begin_response(principal, begun, token))

    def _response(self, choice: int) -> tuple[Key, str]:
        """One of the latest responses that were begun, and its turn."""
        token, (principal, name, _) = list(self._begun.items())[-1 - choice % len(self._begun)]
        return Key(principal, name), token

    @rule(choice=st.integers(0, 3), first=st.integers(0, 9), stranger=st.booleans())
    def append(self, choice: int, first: int, stranger: bool) -> None:
        if self._begun:
            key, token = self._response(choice)
            number = self._number = self._number + 10
            batch = events(number + first, number + first + 1)
            self._same(lambda store: store.append([(key, "stranger" if stranger else token, batch)]))

    @rule(choice=st.integers(0, 3), after=st.integers(-1, 100), foreign=st.booleans())
    def look(self, choice: int, after: int, foreign: bool) -> None:
        if self._begun:
            key, _ = self._response(choice)
            key = Key("carol", key.id) if foreign else key
            self._same(lambda store: store.response(key))
            self._same(lambda store: store.chain(key))
            self._same(lambda store: store.events(key, after))

    @rule(choice=st.integers(0, 3), how=st.sampled_from(["take", "end", "cancel", "delete"]))
    def interfere(self, choice: int, how: str) -> None:
        if not self._begun:
            return
        key, _ = self._response(choice)
        ended = response(key.id, status="failed")
        batch = events(1000, 1000)
        if how == "take":
            self._same(lambda store: store.take_response(key.principal, ended, batch))
        elif how == "end":
            self._same(lambda store: store.end_response(key.principal, ended, batch))
        elif how == "cancel":
            self._same(lambda store: store.cancel(key))
        else:
            self._same(lambda store: store.delete_response(key))
        self.renew()

    # the rest

    @rule(key=KEYS, choice=st.integers(0, 5), body=st.sampled_from(["x", "y"]))
    def claim(self, key: Key, choice: int, body: str) -> None:
        token = self._token(choice)
        self._same(lambda store: store.claim(key, body, token))

    @rule(key=KEYS, choice=st.integers(0, 3), answered=st.booleans())
    def settle(self, key: Key, choice: int, answered: bool) -> None:
        token = self._token(choice)
        self._same(lambda store: store.settle(key, token, ANSWER if answered else None))

    @rule(pool=st.sampled_from(["p", "q"]), choice=st.integers(0, 5), free=st.booleans())
    def slot(self, pool: str, choice: int, free: bool) -> None:
        token = self._token(choice)
        if free:
            self._same(lambda store: store.free_slot(pool, token))
        else:
            self._same(lambda store: store.take_slot(pool, token, 2))

    @rule(key=KEYS)
    def allow(self, key: Key) -> None:
        expected = self._runner.run(self._model.allow(key, 1e-6, 2))
        found = self._runner.run(self._store.allow(key, 1e-6, 2))
        assert found.remaining == expected.remaining
        assert found.wait == pytest.approx(expected.wait, rel=1e-3)

    @rule(key=KEYS, number=st.integers(1, 3))
    def completions(self, key: Key, number: int) -> None:
        name = f"c{number}"
        self._same(lambda store: store.get_completion(Key(key.principal, name)))
        self._same(lambda store: store.put_completion(key.principal, completion(name, by=key.id)))
        self._same(lambda store: store.list_completions("alice"))
        self._same(lambda store: store.delete_completion(Key("bob", name)))

    @rule(principal=st.sampled_from(["alice", "bob"]), stay=st.booleans())
    def files(self, principal: str, stay: bool) -> None:
        name = self._new("file")
        self._same(lambda store: store.put_file(principal, file(name), name.encode()))
        self._same(lambda store: store.file_content(Key("alice", name)))
        self._same(lambda store: store.list_files("alice"))
        if not stay:
            self._same(lambda store: store.delete_file(Key("alice", name)))

    @rule(principal=st.sampled_from(["alice", "bob"]), conversation=st.sampled_from(["one", None]))
    def ask(self, principal: str, conversation: str | None) -> None:
        asked = approval(self._new("ask"), conversation=conversation)
        self._same(lambda store: store.ask(principal, asked))

    @rule(
        principal=st.sampled_from(["alice", "bob"]),
        back=st.integers(0, 5),
        status=st.sampled_from(["approved", "denied"]),
    )
    def decide(self, principal: str, back: int, status: Any) -> None:
        key = Key(principal, f"ask{self._number - back}")
        self._same(lambda store: store.decide(key, status, "{}"))
        self._same(lambda store: store.approval(key))
        self._same(lambda store: store.approvals(principal))
        self._same(lambda store: store.approvals("alice", "one"))


SETTINGS = settings(deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.timeout(300)
def test_sqlite_answers_as_memory_does() -> None:
    in_memory = Path("/dev/shm")  # thousands of commits: if possible, on a disk without waiting times
    with tempfile.TemporaryDirectory(dir=in_memory if in_memory.is_dir() else None) as directory:
        numbers = iter(range(1_000_000))

        def machine() -> Comparison:
            return Comparison(open_store(f"sqlite:///{Path(directory) / str(next(numbers))}"))

        run_state_machine_as_test(machine, settings=settings(SETTINGS, max_examples=40, stateful_step_count=40))


@pytest.mark.timeout(300)
def test_postgresql_answers_as_memory_does(postgres: Cluster) -> None:
    pytest.importorskip("openai_compat.stores.postgres")

    def machine() -> Comparison:
        return Comparison(open_store(postgres.url(postgres.create_database())))

    run_state_machine_as_test(machine, settings=settings(SETTINGS, max_examples=12, stateful_step_count=40))
