"""Checks of conversations: they are private to their caller, and a failed turn leaves no trace."""

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
    """Checks of an agent in server-side conversations. They need a bare agent, and serve it with their own server.

    An agent without its own storage passes them all. An agent with storage must key it by `request.session_key`, and store
    only committed turns.
    """

    def test_a_failed_turn_leaves_nothing_behind(self) -> None:
        """A failed turn leaves nothing in the conversation.

        A client sends a failed turn again: its remains would then be there twice, or contradict the conversation on the user's
        screen. To fix: store nothing before the turn has succeeded, or let the server store the conversation.
        """
        word = "pangolin-4711"
        say = self._conversation("failing", lambda agent: _FailsAtWord(agent, word, self.pieces_to_text))
        failed = say("key-a", f"{self.prompt} ({word})")
        expect(failed.answer.status >= 400, f"the turn was to fail, and was answered with {failed.answer.status}")
        self._expect_absent(word, say("key-a", self.prompt), "the turn that failed")

    def test_callers_with_the_same_conversation_id_do_not_meet(self) -> None:
        """Two callers with the same conversation id do not see each other's messages.

        Clients choose these ids, so `conversation_id` alone does not identify a caller. To fix: key your storage by
        `request.session_key`, which differs for each caller.
        """
        word = "axolotl-4711"
        say = self._conversation("meeting")
        say("key-a", f"{self.prompt} ({word})")
        self._expect_absent(word, say("key-b", self.prompt), "another caller")

    def test_a_fork_does_not_see_what_was_said_beside_it(self) -> None:
        """A forked response does not see the messages of the other branch.

        A response can be continued twice (`previous_response_id`), and each branch has its own history. To fix: read the history
        from `request.messages`, not from your own memory of the caller.
        """
        word = "narwhal-4711"
        say = self._conversation("forking")
        first = say("key-a", self.prompt, path="responses").answer
        expect(first.status == 200, f"/responses answered with {first.status}: {first.error}")
        before = first.json["id"]
        say("key-a", f"{self.prompt} ({word})", path="responses", previous=before)
        fork = say("key-a", self.prompt, path="responses", previous=before)
        self._expect_absent(word, fork, "the other continuation")

    def _expect_absent(self, word: str, exchange: ObservedExchange, whose: str) -> None:
        answer = exchange.answer
        expect(answer.status == 200, f"the turn after it was answered with {answer.status}: {answer.error}")
        given = [str(run.request.raw_messages) for run in exchange.runs]
        expect(not any([word in text for text in given]), f"the agent was given what {whose} said")
        expect(word not in answer.body.decode("utf-8", "replace"), f"the answer repeats what {whose} said")

    def _conversation(self, name: str, wrap: Wrap | None = None) -> Say:
        """A function that sends a message in the conversation `name`, for any caller."""
        subject = self._conversation_subject(name, wrap)

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

    def _conversation_subject(self, name: str, wrap: Wrap | None) -> Subject:
        if list(self.subject().watched) != [""]:
            skip("conversations are examined with a bare agent, in a server that keeps them; hand over the agent")
        # Separate principals for each check: no check may see the stored data of another.
        keys = {key: f"{name}-{key}" for key in ("key-a", "key-b")}

        def serve(agent: AgentBackend) -> Server:
            return Server(agent, keys=keys, conversations=Conversations())

        return as_subject(self.once("agent", self._agent), serve, wrap)


class _FailsAtWord(Wrapper):
    """Fails in the turn whose prompt contains `word`, after `after` items."""

    def __init__(self, agent: AgentBackend, word: str, after: int) -> None:
        super().__init__(agent)
        self._word = word
        self._after = after

    async def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[AgentEvent | str]:
        """Run the agent up to that item."""
        left = self._after if self._word in request.prompt else -1
        async with self.items_of(request, context) as items:
            async for item in items:
                yield item
                left -= 1
                if left == 0:
                    raise RuntimeError(SECRET)
