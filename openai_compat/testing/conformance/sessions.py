"""Conversations: who may see what was said, and what is left of a turn that failed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

from ...agent_request import AgentRequest
from ...backend import AgentBackend, RunContext
from ...events import AgentEvent
from ...policies.conversations import Conversations
from ...server import Server
from ..client_call import http_request
from ..subject import ObservedExchange, Subject, as_subject, ask
from ..wrapping import Wrap, Wrapper
from .base import SECRET, Examination, expect, skip

Say = Callable[..., ObservedExchange]


class SessionChecks(Examination):
    """Checks of an agent in conversations that a server keeps: they are made for a bare agent, with a server of theirs.

    An agent that keeps nothing of its own passes them all. One that does has to keep it by `request.session_key`, and
    only what was committed.
    """

    def test_a_failed_turn_leaves_nothing_behind(self) -> None:
        """A turn that failed is sent again, and what it left is then there twice, or contradicts what the user sees.

        Keep nothing of your own before the turn has ended well; let the server keep the conversation.
        """
        word = "pangolin-4711"
        say = self._conversation("failing", lambda agent: _FailsAt(agent, word, self.pieces_to_text))
        failed = say("key-a", f"{self.prompt} ({word})")
        expect(failed.answer.status >= 400, f"the turn was to fail, and was answered with {failed.answer.status}")
        self._expect_unheard(word, say("key-a", self.prompt), "the turn that failed")

    def test_callers_with_the_same_conversation_id_do_not_meet(self) -> None:
        """Ids come from clients, and two callers can choose the same one: `conversation_id` alone is nobody's.

        Keep what is yours by `request.session_key`, which is another one for each caller.
        """
        word = "axolotl-4711"
        say = self._conversation("meeting")
        say("key-a", f"{self.prompt} ({word})")
        self._expect_unheard(word, say("key-b", self.prompt), "another caller")

    def test_a_fork_does_not_see_what_was_said_beside_it(self) -> None:
        """A response can be continued twice (`previous_response_id`): each of them knows only its own way.

        Take what was said before from `request.messages`, and not from what you remember of the caller.
        """
        word = "narwhal-4711"
        say = self._conversation("forking")
        first = say("key-a", self.prompt, path="responses").answer
        expect(first.status == 200, f"/responses answered with {first.status}: {first.error}")
        before = first.json["id"]
        say("key-a", f"{self.prompt} ({word})", path="responses", previous=before)
        fork = say("key-a", self.prompt, path="responses", previous=before)
        self._expect_unheard(word, fork, "the other continuation")

    def _expect_unheard(self, word: str, exchange: ObservedExchange, whose: str) -> None:
        answer = exchange.answer
        expect(answer.status == 200, f"the turn after it was answered with {answer.status}: {answer.error}")
        given = [str(run.request.raw_messages) for run in exchange.runs]
        expect(not any([word in text for text in given]), f"the agent was given what {whose} said")
        expect(word not in answer.body.decode("utf-8", "replace"), f"the answer repeats what {whose} said")

    def _conversation(self, name: str, wrap: Wrap | None = None) -> Say:
        """Says something in a conversation of that name, whoever says it."""
        subject = self._kept(name, wrap)

        def say(key: str, text: str, path: str = "chat/completions", previous: str | None = None) -> ObservedExchange:
            model = next(iter(subject.watched))
            headers = {"authorization": f"Bearer {key}"}
            body: dict[str, Any] = {"model": model or "agent", **self.options}
            if path == "responses":
                body |= {"input": text, **({} if previous is None else {"previous_response_id": previous})}
            else:
                body |= {"messages": [{"role": "user", "content": text}]}
                headers["x-conversation-id"] = name
            request = http_request("POST", f"/v1/{path}", body, headers)
            return self.run(lambda: ask(subject, next(iter(subject.watched.values())), request, 0))

        return say

    def _kept(self, name: str, wrap: Wrap | None) -> Subject:
        if list(self.subject().watched) != [""]:
            skip("conversations are examined with a bare agent, in a server that keeps them; hand over the agent")
        # Principals of their own for each check: what one leaves in the store must not be seen by another.
        keys = {key: f"{name}-{key}" for key in ("key-a", "key-b")}

        def serve(agent: AgentBackend) -> Server:
            return Server(agent, keys=keys, conversations=Conversations())

        return as_subject(self.once("agent", self._agent), serve, wrap)


class _FailsAt(Wrapper):
    """Fails in the turn in which a word was said, when so many items are out."""

    def __init__(self, agent: AgentBackend, word: str, after: int) -> None:
        super().__init__(agent)
        self._word = word
        self._after = after

    async def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[AgentEvent | str]:
        """Run the agent, up to there."""
        left = self._after if self._word in request.prompt else -1
        async with self.items_of(request, context) as items:
            async for item in items:
                yield item
                left -= 1
                if left == 0:
                    raise RuntimeError(SECRET)
