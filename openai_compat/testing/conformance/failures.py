"""Checks of failures: visible to the client, in the API's error format, without secrets, and not retried."""

from __future__ import annotations

import json
from collections.abc import Iterator

from ...errors import OpenAICompatError
from ..answer import Answer
from ..subject import ObservedExchange
from .base import SECRET, Examination, expect, skip

RETRIED_STATUSES = frozenset({408, 409, 429})
"""Statuses that the openai SDKs retry on their own, twice, in addition to all 5xx; `x-should-retry: false` prevents it."""

RETRIED_TYPES = frozenset({"server_error", "rate_limit_error"})
"""Error types inside a stream at which coding agents repeat the whole turn."""

SIGNS_OF_CODE = ("Traceback (most recent call last)", 'File "')
MAX_ERROR = 10_000
"""Maximum size of an error's body, in bytes."""


class FailureChecks(Examination):
    """Checks of the answers to clients when the agent fails, or the request is invalid."""

    @property
    def failed_exchanges(self) -> dict[str, ObservedExchange]:
        """The exchanges with the failing agent, plain and streamed."""
        return self.once("failed", lambda: {"plain": self.failure(stream=False), "streamed": self.failure(stream=True)})

    @property
    def midway_failure(self) -> ObservedExchange:
        """A stream whose agent fails after its first text."""
        if not self.can_be_watched and self.failing_prompt is not None:
            return self.failed_exchanges["streamed"]
        return self.once("midway", lambda: self.failure(stream=True, after=self.pieces_to_text))

    @property
    def failures(self) -> dict[str, ObservedExchange]:
        """All failed exchanges, by name."""
        return {**self.failed_exchanges, "streamed, midway": self.midway_failure}

    def test_a_failed_run_is_an_error_and_never_an_answer(self) -> None:
        """A failed run is reported as an error, never as an answer.

        An apology with status 200 looks like an answer: clients store it, show it, and continue from it. To fix: let
        the exception leave the agent, or raise AgentError. The client then gets an error status, or an error inside the
        stream.
        """
        for how, exchange in self.failed_exchanges.items():
            answer = exchange.answer
            inside = answer.status == 200 and answer.error and not answer.finish_reasons
            shown = answer.body[:300].decode("utf-8", "replace")
            expect(answer.status >= 400 or inside, f"{how}: the agent failed, and the answer is a good one: {shown}")

    def test_a_stream_that_fails_midway_ends_with_an_error(self) -> None:
        """A stream that fails midway ends with an error event, without a finish_reason.

        Without the error, clients mistake half an answer for a whole one. To fix: send `data: {"error": {…}}`, without `choices`,
        and no finish_reason before or after it; then end the body properly.
        """
        answer = self.midway_failure.answer
        if answer.status >= 400:
            skip("the agent failed before the stream began")
        expect(answer.error, f"no error in the stream; its end: {answer.body[-200:].decode('utf-8', 'replace')}")
        expect(not answer.finish_reasons, f"a failed stream has the finish_reason {answer.finish_reasons}")
        expect(
            not any(["error" in chunk for chunk in answer.chunks]), "the event with the error must have no `choices`"
        )
        expect(answer.complete, "the connection was cut instead of ended")

    def test_an_error_tells_nothing_that_was_not_written_for_the_client(self) -> None:
        """An error contains no exception text and no traceback.

        Exception texts may contain paths, keys and other users' data. To fix: log them, and raise AgentError with a message that
        clients may read.
        """
        for how, exchange in self.failures.items():
            seen = exchange.answer.body.decode("utf-8", "replace") + str(exchange.answer.headers)
            errors = [run.error for run in exchange.runs if not isinstance(run.error, OpenAICompatError | None)]
            texts = [text for text in map(str, errors) if len(text) >= 8]  # a shorter one could match by chance
            for secret in (*SIGNS_OF_CODE, SECRET, *self.secrets, *texts):
                # Verbatim, and as JSON escapes it.
                shown = secret in seen or json.dumps(secret)[1:-1] in seen
                expect(not shown, f"{how}: the client can read {secret[:200]!r}")

    def test_every_error_has_the_whole_envelope(self) -> None:
        """Every error has all four keys: `message`, `type`, `param` and `code`.

        Clients show `error.message` and decide by the other keys. To fix: always send `message` and `type` as texts, and `param`
        and `code`, which may be null. Keep the body of an error below 10,000 bytes.
        """
        for how, answer in self._errors():
            shown = answer.body[-300:].decode("utf-8", "replace")
            error = answer.error
            missing = [key for key in ("message", "type", "param", "code") if key not in error]
            expect(not missing, f"{how}: the error lacks {', '.join(missing)}: {shown}")
            texts = isinstance(error["message"], str) and isinstance(error["type"], str)
            expect(texts and error["message"], f"{how}: `message` and `type` must be texts: {shown}")
            # In a stream, the body also contains all earlier output.
            expect(len(answer.body) < MAX_ERROR or answer.status == 200, f"{how}: more than {MAX_ERROR} bytes")

    def _errors(self) -> Iterator[tuple[str, Answer]]:
        unknown = self.body(self.prompt) | {"model": "no-such-model-4711"}
        answers = {
            "no JSON": self.ask(b"{").answer,
            "no messages": self.ask({"model": self.model_name}).answer,
            "unknown model": self.ask(unknown).answer,
        }
        if self.can_be_watched or self.failing_prompt is not None:
            answers |= {how: exchange.answer for how, exchange in self.failures.items()}
        for how, answer in answers.items():
            if answer.status >= 400 or answer.error:
                yield how, answer

    def test_a_failed_run_is_not_repeated(self) -> None:
        """A failed run is not retried.

        The openai SDKs retry a failed request twice, so the agent would cost and act three times. To fix: send
        `x-should-retry: false` once the agent has run. Inside a stream, send no error of the types server_error and
        rate_limit_error, at which coding agents repeat the turn.
        """
        for how, exchange in self.failures.items():
            answer = exchange.answer
            expect(len(exchange.runs) <= 1, f"{how}: the agent was run {len(exchange.runs)} times")
            retried = answer.status in RETRIED_STATUSES or answer.status >= 500
            told = answer.header("x-should-retry")
            expect(not retried or told == "false", f"{how}: {answer.status} with `x-should-retry: {told}`, not false")
            kind = answer.error.get("type") if answer.status == 200 else None
            expect(kind not in RETRIED_TYPES, f"{how}: the error inside the stream has the type {kind!r}")
