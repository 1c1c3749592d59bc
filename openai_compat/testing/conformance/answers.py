"""Checks of plain answers, of their agreement with streams, and of the agent's behavior while it answers."""

from __future__ import annotations

from typing import Any

import anyio

from ...events import UsageReported
from ...wire.reducer import Usage
from ..answer import NOTHING
from ..subject import ObservedExchange, ask
from ..watch import Run
from .base import Examination, expect, skip
from .streams import FINISH_REASONS

# Enough for answers to get mixed up, if an agent stores the state of one turn on itself.
CONCURRENT = 3
TEXT_KEYS = ("content", "reasoning_content", "refusal")


class AnswerChecks(Examination):
    """Checks of plain answers, and of features that plain and streamed answers share."""

    def test_a_plain_answer_has_every_key_that_strict_clients_need(self) -> None:
        """A plain answer has every key that typed clients need, and no null where a key must be left out.

        Typed clients reject an answer that lacks one of these keys, or that contains `"tool_calls": null`. To fix: send
        `id, object, created, model, choices, usage`; in the choice `index, message, finish_reason`; in the message
        `role, content, refusal`. Leave out keys without a value, except `content` and `refusal`, which are null.
        """
        answer = self.plain.answer
        kind = (answer.header("content-type") or "").partition(";")[0].strip()
        expect(kind == "application/json", f"the content-type is {kind!r}, not application/json")
        wrong = _completion_fault(answer.json)
        expect(not wrong, f"{wrong}: {answer.body[:400].decode('utf-8', 'replace')}")
        expect(answer.json["model"] == self.model_name, f"asked for {self.model_name!r}, got {answer.json['model']!r}")

    def test_streamed_and_plain_answers_say_the_same(self) -> None:
        """Streamed and plain answers have the same text, reasoning, refusal and finish_reason.

        They must not depend on `stream`. To fix: make both answers from the same events. If the agent's answers vary from run to
        run, set `repeatable = False`.
        """
        if not self.repeatable:
            skip("the agent is declared not `repeatable`")
        plain, streamed = self.plain.answer, self.streamed.answer
        for key in TEXT_KEYS:
            expect(
                plain.said(key) == streamed.said(key),
                f"`{key}` differs.\n  plain:    {plain.said(key)!r}\n  streamed: {streamed.said(key)!r}",
            )
        if plain.finish_reasons and streamed.finish_reasons:
            reasons = plain.finish_reasons[-1], streamed.finish_reasons[-1]
            expect(reasons[0] == reasons[1], f"finish_reason differs: plain {reasons[0]!r}, streamed {reasons[1]!r}")

    def test_every_answer_has_an_id_of_its_own(self) -> None:
        """Every answer has its own `id`.

        Clients and logs tell answers apart by `id`. To fix: make a new one for each request.
        """
        bodies = [self.plain.answer.json, *self.streamed.answer.chunks[:1], *self.with_usage.answer.chunks[:1]]
        ids = [body.get("id") for body in bodies]
        expect(len(set(ids)) == len(ids), f"one id was given to several answers: {ids}")

    def test_usage_adds_up(self) -> None:
        """The token counts are non-negative integers, add up, and equal the usage that the agent reported.

        Users are billed by these numbers. To fix: sum all usage reports of a turn, and set `total_tokens` to the sum of
        `prompt_tokens` and `completion_tokens`.
        """
        for exchange in (self.plain, self.with_usage):
            usage = exchange.answer.usage
            if not usage:
                continue
            counts: list[Any] = [usage.get(key) for key in ("prompt_tokens", "completion_tokens", "total_tokens")]
            expect(all([type(count) is int and count >= 0 for count in counts]), f"not whole numbers: {usage}")
            expect(counts[0] + counts[1] == counts[2], f"`total_tokens` is not the sum of both: {usage}")
            reported = _reported_usage(exchange.runs)
            if reported.reported and len(exchange.runs) == 1:
                expected = [reported.input_tokens, reported.output_tokens]
                expect(counts[:2] == expected, f"the agent reported {expected} tokens in all, the answer says {usage}")

    def test_the_model_is_listed(self) -> None:
        """`GET /v1/models` lists the model, with `id`, `object`, `created` and `owned_by`.

        User interfaces fill their model menu from this list, and OpenAI's types need all four keys. To fix: serve the
        list with an entry for every model.
        """
        answer = self.get("/models")
        expect(answer.status == 200, f"GET /models answers {answer.status}")
        expect(answer.json.get("object") == "list", "`object` must be 'list'")
        entries: list[dict[str, Any]] = answer.json.get("data") or []
        entry = next((entry for entry in entries if entry.get("id") == self.model_name), NOTHING)
        expect(entry, f"the model {self.model_name!r} is not in the list")
        expect(entry.get("object") == "model", "an entry's `object` must be 'model'")
        expect(type(entry.get("created")) is int, "an entry needs `created`, in unix seconds")
        expect(isinstance(entry.get("owned_by"), str), "an entry needs `owned_by`")

    def test_fields_that_nobody_knows_are_ignored(self) -> None:
        """Unknown fields, and known fields that are null, are ignored.

        Every client sends some fields that are new, or its own, and some nulls. To fix: ignore fields that you do not
        know instead of refusing the request.
        """
        content = [{"type": "text", "text": self.prompt}]
        odd = {"x_new_field": {"a": [1]}, "stream_options": None, "metadata": None, "prompt_cache_key": "a"}
        body = self.body(self.prompt, **odd) | {"messages": [{"role": "user", "content": content}]}
        answer = self.ask(body).answer
        expect(answer.status == 200, f"refused with {answer.status}: {answer.body[:300].decode('utf-8', 'replace')}")

    def test_a_request_that_is_wrong_is_refused_before_the_agent_runs(self) -> None:
        """An invalid request is refused with a 4xx status before the agent runs.

        Otherwise the agent works, costs money and acts for a request that cannot succeed. To fix: validate the request before you
        start the agent.
        """
        for wrong in (b'{"model": ', {"model": self.model_name}, self.body(self.prompt) | {"messages": "hello"}):
            exchange = self.ask(wrong)
            status = exchange.answer.status
            expect(400 <= status < 500, f"answered with {status}: {wrong!r}")
            expect(not exchange.runs, f"the agent was run for {wrong!r}")

    def test_one_request_is_one_run(self) -> None:
        """One request runs the agent once.

        An agent that runs twice costs twice, and acts twice. To fix: find the retry between client and agent, such as a
        middleware or a wrapper around the agent, and remove it.
        """
        if not self.can_be_watched:
            skip("the agent cannot be watched inside an ASGI application; hand over the agent or its Server")
        for how, exchange in (("plain", self.plain), ("streamed", self.streamed)):
            expect(len(exchange.runs) == 1, f"one {how} request ran the agent {len(exchange.runs)} times")

    def test_answers_made_at_the_same_time_do_not_mix(self) -> None:
        """Answers made at the same time do not mix.

        If they do, turns share state: in the agent object, its module, or a class attribute. To fix: use local variables, or pass
        the server a factory (a function that makes a new agent) instead.
        """
        answers = [exchange.answer for exchange in self.run(self._ask_concurrently)]
        if any([answer.status == 429 for answer in answers]):
            skip("the server takes fewer requests at once than this check makes")
        ids = {str(chunk.get("id")) for answer in answers for chunk in answer.chunks[:1]}
        expect([answer.status for answer in answers] == [200] * CONCURRENT, "one of several at once was not answered")
        if len(ids) == CONCURRENT and self.repeatable:
            texts = [answer.said() for answer in answers]
            expected = self.streamed.answer.said()
            expect(set(texts) == {expected}, f"alone it says {expected!r}; {CONCURRENT} at once say {texts}")

    async def _ask_concurrently(self) -> list[ObservedExchange]:
        subject, results = self.subject(), list[ObservedExchange]()

        async def one() -> None:
            body = self.body(self.prompt, stream=True)
            results.append(await ask(subject, None, self.chat(body), 0))

        async with anyio.create_task_group() as group:
            for _ in range(CONCURRENT):
                group.start_soon(one)
        return results

    def test_nothing_runs_on_after_the_answer(self) -> None:
        """No task or run continues after its answer has ended.

        A task that outlives its turn works, costs money and acts unnoticed. To fix: await the task, or cancel it in a `finally`.
        """
        for exchange in (self.plain, self.streamed):
            left = exchange.left_behind
            expect(not left, f"{self.patience:g} s after the answer there still runs: {', '.join(left)}")

    def test_the_event_loop_is_never_held_up(self) -> None:
        """The agent does not block the event loop.

        While it does, no other request is served. To fix: use `await` for slow work; or make the agent a plain `def`, which runs
        in its own thread.
        """
        lag = min(self.streamed.lag, self.with_usage.lag)  # a busy machine may cause one of the two lags
        expect(lag < self.stall, f"nothing else could run for {lag:.2f} s while the agent worked (`stall`)")


def _reported_usage(runs: list[Run]) -> Usage:
    usage = Usage()
    for run in runs:
        for item in run.items:
            if isinstance(item, UsageReported):
                usage.add(item)
    return usage


def _completion_fault(body: dict[str, Any]) -> str:
    if body.get("object") != "chat.completion":
        return "`object` is not chat.completion"
    for key, kind in (("id", str), ("created", int), ("model", str), ("choices", list), ("usage", dict)):
        if not isinstance(body.get(key), kind):
            return f"`{key}` is not there, or of the wrong type"
    if len(body["choices"]) != 1:
        return "`choices` must have one entry"
    choice = body["choices"][0]
    if choice.get("index") != 0 or choice.get("finish_reason") not in FINISH_REASONS:
        return "the choice's `index` or `finish_reason` is wrong"
    return _message_fault(choice.get("message") or {})


def _message_fault(message: dict[str, Any]) -> str:
    if message.get("role") != "assistant":
        return "the message's `role` is not assistant"
    missing = [key for key in ("content", "refusal") if key not in message]
    if missing:
        return f"the message lacks {' and '.join(missing)}"
    nulls = [key for key, value in message.items() if value is None and key not in ("content", "refusal")]
    return f"null where the key should be left out: {', '.join(nulls)}" if nulls else ""
