"""Everything the server promises at its edge: id, promise, source. Tests name the ids they prove.

`test_requirements.py` fails when a promise has no test, or a test names a promise that is not here.
Sources: W = the wire as OpenAI documents it and clients need it, D = our design, T = the list of faults to survive.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest

Test = TypeVar("Test", bound=Callable[..., Any])


@dataclass(frozen=True)
class Requirement:
    """One promise."""

    promise: str
    source: str


REQUIREMENTS: dict[str, Requirement] = {
    "hooks.once": Requirement("each run of an agent, by every API, is told to hooks: begun once, ended once", "D 10"),
    "hooks.task": Requirement("hooks run in the agent's context, in order, on what is left of what it says", "D 10"),
    "hooks.isolated": Requirement("a hook that fails is logged once for each turn, and changes no byte", "D 10"),
    "hooks.admit": Requirement("a hook may refuse a turn before its slot; one that fails refuses it with 503", "D 10"),
    "hooks.settled": Requirement("after the commit hooks have their time, also in a server that shuts down", "D 10"),
    "hooks.wrap": Requirement("a wrapped backend changes turns on every API", "D 10"),
    "hooks.refused": Requirement(
        "whatever is refused before an agent is started has one reason for hooks, metrics and the log", "D 10"
    ),
    "hooks.webhooks": Requirement("each attempt to deliver a webhook is told to hooks and counted", "D 10"),
    "hooks.requests": Requirement("each request, whoever answers it, is told to hooks: come once, ended once", "D 10"),
    "telemetry.spans": Requirement("each request, run and own tool is a span, by the names of the conventions", "D 10"),
    "telemetry.nested": Requirement("the client's trace is above ours, what an agent traces is below", "D 10"),
    "telemetry.content": Requirement("what is said is traced only where the conventions' switch asks for it", "D 10"),
    "telemetry.metrics": Requirement(
        "figures of turns, by closed sets of attributes; exporters change no byte", "D 10"
    ),
    "telemetry.prometheus": Requirement("/metrics has the figures of all workers, through the death of one", "D 10"),
    "telemetry.export": Requirement(
        "serve --otel sends all of it to a collector, and none of it holds up an answer", "D 10"
    ),
    "hooks.none": Requirement("what a hook does not override is not called", "D 10"),
    "audit.log": Requirement(
        "what an agent was asked and did is in the audit log before it goes on, without content", "D 10"
    ),
    "guard.every": Requirement("a guard around the agents refuses and holds back text on every API", "D 10"),
    "budget.refused": Requirement(
        "who has used a budget of tokens up gets 429 insufficient_quota on every API", "D 10"
    ),
    "budget.exact": Requirement("tokens are added with the outcome of their turn, exactly, over all processes", "D 10"),
    "budget.away": Requirement(
        "while the store is away, the budget says who is let in, and the log that it was", "D 10"
    ),
    "log.turn": Requirement("each turn has one line with who asked what, what it cost, and what became of it", "D 10"),
    "log.events": Requirement("at debug the log tells the events of a turn, not their content", "D 10"),
    "log.content": Requirement("content is logged only where it is asked for, and redacted before it leaves", "D 10"),
    "log.everywhere": Requirement("one call sets the log up under every server, and leaves handlers alone", "D 10"),
    "kit.targets": Requirement(
        "the kit examines agents, servers, mounted applications and URLs, or says once why not", "D 9"
    ),
    "kit.apis": Requirement(
        "the kit examines an agent over Anthropic's and Ollama's APIs, and finds what breaks there", "D 4"
    ),
    "kit.model": Requirement("the real SDKs take a scripted model for OpenAI's and Anthropic's API", "D 9"),
    "kit.reasoning": Requirement("no check of the kit is left out for a reason that no other check tells", "D 9"),
    "cli.chat": Requirement("in a terminal what is pasted is one message, and what the agent does is seen", "D 4"),
    "talk.pipes": Requirement("what is piped in goes to the agent; stdout has its answer alone, or JSON alone", "D 4"),
    "talk.work": Requirement("thoughts, tools, sources, times and tokens of a turn are shown in the terminal", "D 4"),
    "talk.media": Requirement("pictures and sounds in the terminal are told of, and kept where that is wanted", "D 4"),
    "talk.approvals": Requirement(
        "in a terminal people decide by a key; where nobody is, it is denied, with code 3", "D 8"
    ),
    "talk.tools": Requirement("in the terminal people answer for the client's tools", "D 4"),
    "talk.foreign": Requirement("servers of others are talked to by what they have; their mistakes are told", "D 4"),
    "talk.commands": Requirement("commands in the terminal are for the program, and unknown ones are told", "D 4"),
    "talk.stop": Requirement("Ctrl-C stops the agent in whatever it does, and the talk goes on", "D 4"),
    "talk.once": Requirement("a long answer stands in the terminal once, whatever is drawn again", "D 4"),
    "talk.plain": Requirement("no escape code is written to a terminal that does not want any", "D 4"),
    "talk.linear": Requirement("an answer of any length and form is shown in time that grows with its length", "T 3.3"),
    "cli.banner": Requirement("serve says where to talk to the agents and who may; lines tell what a turn was", "D 4"),
    "cli.settings": Requirement("what operators ask for can be set on the command line", "D 4"),
    "cli.user-header": Requirement("a trusted proxy's header tells callers apart, and nobody else's does", "D 8"),
    "cli.proxy-auth": Requirement("without a key others reach it only where a proxy with a login is named", "D 8"),
    "cli.log": Requirement("the log in JSON is JSON alone; probes and words for clients make no noise", "D 8"),
    "cli.targets": Requirement("a file is served wherever it is, and the agent in it is found", "D 4"),
    "cli.defaults": Requirement("what is served where nothing is named is what the project says, or agent.py", "D 4"),
    "cli.module": Requirement("python -m openai_compat is the command line", "D 4"),
    "cli.quick": Requirement("the help of the program is told without the library being imported", "D 4"),
    "cli.doctor": Requirement("doctor says in a line each what is wrong, changes nothing, and tells no key", "D 4"),
    "cli.wrong": Requirement("what is typed wrong is told in one line, with exit code 2; what fails, with 1", "D 4"),
    "cli.init": Requirement("what init writes runs, says what it needs, and overwrites nothing", "D 4"),
    "cli.demo": Requirement("a demo of what agents can do runs without a key, with the page", "D 4"),
    "cli.extras": Requirement("a missing package is told with the extra that brings it", "D 4"),
    "agents.frameworks": Requirement(
        "objects of agent frameworks are run, or refused at start with what serves them", "D 4"
    ),
    "settings.types": Requirement("a setting of the wrong type is refused when it is made, in a sentence", "D 4"),
    "auth.ids": Requirement("a key's principal may be given by its id", "D 5"),
    "auth.function": Requirement("a function says who calls: a principal with claims, nobody, or an error", "D 8"),
    "auth.closed": Requirement("who fails to say who calls, or takes too long for it, lets nobody in", "D 8"),
    "auth.every-path": Requirement("no path but the open ones is answered to who is nobody, by any method", "D 8"),
    "auth.secret": Requirement("no key or token is in a log line, an answer or a repr", "D 8"),
    "auth.ready": Requirement("the users of a host application are told apart by its own login", "D 8"),
    "auth.spoofing": Requirement("a proxy's header counts once, in its own spelling, from the proxy alone", "D 8"),
    "auth.on-behalf": Requirement("a program that may names its user; for others that means nothing", "D 8"),
    "auth.ambient": Requirement("what browsers send by themselves is good for the server's own pages alone", "D 8"),
    "auth.unused-login": Requirement("a login in front that is not used is told once", "D 8"),
    "auth.hashed": Requirement("a key may be kept as its digest, which nobody can send in its place", "D 8"),
    "auth.jwt": Requirement(
        "a JWT is checked in all it claims; one that is not good is refused in constant words", "D 8"
    ),
    "auth.keys-of-issuer": Requirement(
        "an issuer's keys are fetched seldom, and stay good while the issuer is away", "D 8"
    ),
    "auth.revoked": Requirement("how long a token is good after it was taken back is bounded, and can be set", "D 8"),
    "auth.introspection": Requirement("a provider is asked about a token once in a while; its outage is a 503", "D 8"),
    "auth.limits": Requirement("how many slots, requests and tokens each caller has may depend on its claims", "D 8"),
    "auth.metadata": Requirement("a client without a token is told where tokens are to be had (RFC 9728)", "D 8"),
    "cli.key": Requirement("a key can be made whose line in a file does not tell it", "D 8"),
    "auth.websocket": Requirement("who has opened a WebSocket is asked for again before each turn", "D 8"),
    "agents.parameters": Requirement("parameters and the schema of an answer can be passed on as they are", "D 4"),
    "agents.parts": Requirement("pictures, speech and documents can be had as bytes with their type", "D 4"),
    "agents.turns": Requirement("a conversation can be had in turns, with its instructions apart, and as text", "D 4"),
    "agents.usage": Requirement("a counter that only grows can be reported in increments", "D 4"),
    "agents.ignored": Requirement("what an agent does not pass on is told to the client and to the log", "D 4"),
    "agents.silent": Requirement("an agent that says nothing is in the log, once", "D 4"),
    "agents.prompt": Requirement("what the user said reaches the agent, or the agent is refused at start", "D 4"),
    "chat.plain": Requirement("a plain answer is the fold of the agent's events", "W A1"),
    "chat.stream": Requirement(
        "a stream has the role first, one finish_reason, then [DONE], and nothing after it", "W A1"
    ),
    "chat.stream.live": Requirement("a piece is on its way before the agent makes the next one", "T 29"),
    "chatws.processes": Requirement(
        "a thread is resumed, stopped and fed through any process, without a gap or a frame twice", "D 6"
    ),
    "chatws.bounded": Requirement(
        "the frames that are kept are bounded in bytes, whatever is in them, for each thread, for each caller and in all",
        "D 6",
    ),
    "chatws.turn": Requirement("a chat turn is numbered chunks, the last one done, then the whole message", "D 7"),
    "chatws.thread": Requirement("a thread is made where none is named, and every frame tells which", "D 7"),
    "chatws.encoding": Requirement("JSON is answered in JSON, MessagePack in MessagePack, errors too", "T 35"),
    "chatws.bad_frames": Requirement("a malformed frame is a typed error, and the connection lives", "T 50"),
    "chatws.bombs": Requirement("MessagePack bombs are refused with memory flat", "T 51"),
    "chatws.failure": Requirement("a turn that fails leaves nothing behind; no exception text", "T 57"),
    "chatws.stop": Requirement("a stopped turn says so once, with its thread, and leaves no message dangling", "D 7"),
    "chatws.supersede": Requirement("a new message takes the turn's place; frames of both are never mixed", "T 56"),
    "chatws.detach": Requirement("a turn outlives its connection for a while", "D 7"),
    "chatws.resume": Requirement("frames can be had again by number, and a gap is told", "D 7"),
    "chatws.owner": Requirement("threads and their turns belong to principals", "T 74"),
    "chatws.client_tools": Requirement("the client's tools answer within the turn, from any connection", "D 7"),
    "chatws.approval": Requirement("a decision resumes the turn once, also after a restart", "D 4"),
    "chatws.workflow": Requirement("a workflow's progress is told, and its end once", "D 7"),
    "chatws.auth": Requirement("the key is in the header or the query, and comes first", "T 36"),
    "chatws.drain": Requirement(
        "idle sockets are closed with 1012, new messages are refused before they are kept", "D 7"
    ),
    "conversation.memory": Requirement("a turn sees what was said before in its conversation", "D 6"),
    "conversation.commit": Requirement("a turn that fails, is cancelled or left changes nothing", "D 5"),
    "conversation.free": Requirement("whoever has a turn's outcome can go on in its conversation at once", "T 131"),
    "conversation.busy": Requirement("a second turn at once: 409 conversation_busy, not to be retried", "D 5"),
    "conversation.busy.queue": Requirement("a second turn may wait for the first", "D 5"),
    "conversation.busy.supersede": Requirement("a second turn may stop the first and take its place", "D 5"),
    "conversation.new_only": Requirement("of a known conversation only new items count, none is a 400", "D 5"),
    "conversation.owner": Requirement("ids belong to principals", "T 74"),
    "conversation.id": Requirement("ids are 1 to 256 printable characters", "T 103"),
    "conversation.sources": Requirement("the id comes from a configurable list of places", "W B4.11"),
    "conversation.api": Requirement("a conversation can be read and deleted", "D 6"),
    "conversation.transcript": Requirement("stateless clients are found by their transcript; branches apart", "D 6"),
    "conversation.tools": Requirement("open client calls are resumed, or answered when they were passed over", "D 4"),
    "idempotency.replay": Requirement("the same key and body: the first answer again, failures too", "T 133"),
    "idempotency.place": Requirement("the same key for another conversation or agent header is a 422", "T 134"),
    "idempotency.other": Requirement("the same key with another body is a 422", "T 134"),
    "idempotency.once": Requirement("five at once are one run", "T 135"),
    "idempotency.refused": Requirement("what was refused before its agent started is not kept", "D 5"),
    "idempotency.lost": Requirement("a run whose answer was lost is not repeated", "D 5"),
    "idempotency.key": Requirement("keys are 1 to 255 printable characters", "T 1"),
    "principal.models": Requirement("a key opens only its principal's models", "D 5"),
    "auth.disabled": Requirement("a key source that yields nothing disables the server", "T 80"),
    "auth.public": Requirement("the list of models can be public", "T 84"),
    "cors.conversation": Requirement("pages may send and read the conversation header", "D 5"),
    "model.unknown": Requirement("unknown models can fall back to the first agent, and are echoed", "D 5"),
    "messages.history": Requirement("history can be cut to the last user message", "D 5"),
    "messages.no_user": Requirement("a request in which the user says nothing is answered", "W 4"),
    "messages.user_required": Requirement("a policy can demand that the user says something", "D 5"),
    "text.halves": Requirement("a character that an agent cuts in two UTF-16 halves is whole in every API", "W A1"),
    "chat.calls.in_turn": Requirement("in chat a call's pieces wait until the calls before it are ready", "W A1"),
    "chat.first_chunk": Requirement("the first chunk is as OpenAI's: role, content, refusal", "W A1"),
    "chat.nullable_keys": Requirement("system_fingerprint is there and null, plain and streamed", "W A1"),
    "text.after_tools": Requirement("what is said after an own tool's result is another message", "D 4"),
    "usage.limit": Requirement("reported tokens count for max_tokens where there are any", "D 4"),
    "params.whole_numbers": Requirement("4096.0 is an integer, a limit of -1 is none, [] is nothing", "W B2"),
    "tools.unseen": Requirement("tools for an agent that can call none are no error; a required call is", "W B4.5"),
    "tools.pictures": Requirement("pictures in the results of client tools reach the agent in every API", "W A1"),
    "tools.at_once": Requirement("of tools that run at once, the outcome of each is shown", "W B3"),
    "messages.system": Requirement("system messages can be ignored or refused", "D 5"),
    "messages.presentation": Requirement("our own drawings are stripped from replayed history", "W B4.14"),
    "admission.bounds": Requirement("slots are bounded in all, per agent and per principal", "D 5"),
    "admission.queue": Requirement("requests can queue, in order, with a deadline", "D 5"),
    "admission.busy": Requirement("a busy server can answer as the assistant", "D 5"),
    "rates.refused": Requirement("more requests than a caller may send: 429, and when to come back", "T 124"),
    "rates.tokens": Requirement(
        "tokens a minute are charged as they were reported, over all processes; who is ahead gets 429, and when to come back",
        "D 10",
    ),
    "rates.headers": Requirement("every answer of a request that is counted has x-ratelimit-*-requests", "W A2"),
    "rates.replay": Requirement("what is not run is not counted, and what is not counted does not run", "D 6"),
    "rates.principal": Requirement("rates belong to principals", "T 124"),
    "rates.outage": Requirement("while the store is away, each process counts by itself", "T 6.4"),
    "slots.shared": Requirement("slots can be bounded over all processes with one store", "T 215"),
    "slots.stuck": Requirement("a shared slot is free when its agent has really ended", "D 4"),
    "slots.outage": Requirement("without the store, each process has its own limit alone", "T 6.4"),
    "providers.stored": Requirement(
        "settings of providers that an admin changes are used by all processes within a second; keys are sealed or refused",
        "D 6",
    ),
    "webhooks.sdk": Requirement("webhooks are signed and written as the SDK verifies and reads them", "W A0"),
    "webhooks.retry": Requirement("a webhook is sent until it is taken; redirects are not followed", "D 6"),
    "webhooks.kept": Requirement(
        "an outcome and its webhook are stored together, and it comes at least once, whichever process dies", "D 6"
    ),
    "webhooks.bound": Requirement("attempts, and what waits for them, are bounded", "D 6"),
    "webhooks.end": Requirement("what is not delivered is tried once more at the end, within a bound", "D 6"),
    "webhooks.chosen": Requirement("a webhook gets the events and principals it is for", "D 6"),
    "webhooks.background": Requirement("the outcome of background responses is told, and no turn waits for it", "W A0"),
    "tenants.all": Requirement(
        "what one caller has made is unknown to every other, by every API that names it", "T 77"
    ),
    "store.bounded": Requirement(
        "what is kept in memory is bounded in bytes, in all and for each caller, and nobody's takes another's place",
        "D 6",
    ),
    "store.url": Requirement("a store can be given by its URL; the server closes what it opened", "D 6"),
    "store.start": Requirement("a store that is away is waited for; one that is none of ours is refused", "T 188-189"),
    "store.ready": Requirement("readyz tells how the store is, and cannot be used to keep it busy", "D 2"),
    "store.sweep": Requirement("what is older than its retention goes, whatever happens to a sweep", "D 6"),
    "store.workers": Requirement("what one process keeps, all processes with the same store know", "T 209"),
    "store.restart": Requirement("what was answered is there after kill -9", "T 183"),
    "store.away": Requirement("without its store a server answers what needs none; the rest is 503", "T 189"),
    "store.engine": Requirement("an engine that is killed, frozen or restarted loses no turn", "T 190-191"),
    "several.turns": Requirement("turns in one conversation never overlap, whichever processes take them", "T 210"),
    "several.lease": Requirement("what a turn holds it keeps; what a dead process held is soon free", "T 211, 213"),
    "several.fence": Requirement("who has lost a conversation or response cannot write to it", "T 212, 217"),
    "several.idempotency": Requirement("a key runs once over all processes, whatever dies", "T 214"),
    "several.background": Requirement("another process reads, follows and cancels; the dead's have failed", "T 216"),
    "several.supersede": Requirement(
        "a newer message stops the turn before it within a second, whichever process runs it", "D 6"
    ),
    "several.upgrade": Requirement(
        "processes of an older version go on while newer ones are started beside them", "D 6"
    ),
    "several.killed": Requirement(
        "every acknowledged turn survives kill -9, in order; none is half there", "T 183-185"
    ),
    "several.rolling": Requirement("a rolling restart loses no turn and runs none twice", "T 218"),
    "store.secret": Requirement("a store's password is in no log, no error, and need not be in `ps`", "T 79"),
    "deadline.silence": Requirement("silence before the first event and between events is bounded", "D 5"),
    "disconnect.cancel": Requirement("by default a turn ends with its client", "D 5"),
    "disconnect.finish": Requirement("a turn can finish without its client, and is kept", "D 5"),
    "disconnect.detach": Requirement("a detached turn has a grace", "D 5"),
    "housekeeping.recognised": Requirement("chat programs' own requests never reach the agent or the store", "W B4.11"),
    "housekeeping.hook": Requirement("a hook can answer them", "W B4.11"),
    "housekeeping.people": Requirement("what people write is not taken for one", "W B4.11"),
    "stored.lifecycle": Requirement("stored completions: list, get, update, delete, messages", "W A1"),
    "stored.paging": Requirement("pages are checked", "W A1"),
    "chat.stream.same-as-plain": Requirement(
        "what is streamed adds up, in the SDK's accumulator, to what is answered plainly", "W A1"
    ),
    "chat.stream.bytes": Requirement(
        "a stream is text/event-stream of data lines, unbuffered, whatever Accept says", "W B4 1-2"
    ),
    "chat.stream.any-text": Requirement(
        "text arrives character for character, however much it looks like framing", "T 27-28"
    ),
    "chat.stream.events": Requirement("the SDK's stream helper raises its events in order", "W A1"),
    "chat.stream.n": Requirement("choices of one stream have each their role, text and end", "W A1"),
    "chat.stream.usage": Requirement(
        "usage is in the stream only when asked for: null, then the sum in a last chunk without choices", "W A1"
    ),
    "chat.usage.unreported": Requirement(
        "usage that the agent did not report is zeros marked `reported: false`", "D 4"
    ),
    "chat.raw-response": Requirement("raw responses of the SDK give status, headers and the parsed answer", "W A2"),
    "chat.sync-client": Requirement("blocking clients are served as asynchronous ones are", "D 3"),
    "chat.messages": Requirement("the agent gets the whole conversation, typed and as it was sent", "D 4"),
    "chat.message-break": Requirement("messages after each other have a blank line between them", "D 4"),
    "chat.extra": Requirement("unknown fields, metadata, user and chosen headers reach the agent", "D 4"),
    "chat.tolerant": Requirement(
        "what clients send with every request is accepted from agents that cannot use it", "W B4 9"
    ),
    "params.all-accepted": Requirement("every documented parameter is accepted and handed over", "W A1"),
    "params.null-is-absent": Requirement("null is the same as absent", "T 97"),
    "params.ranges": Requirement(
        "what is missing, mistyped or out of range is a 400 that names the parameter; no agent runs", "T 92-98"
    ),
    "params.deprecated-functions": Requirement(
        "functions and function_call are refused with the name of what replaced them", "W A1"
    ),
    "params.undeclared": Requirement(
        "what an agent has not declared and a request needs is a 400 that names the parameter", "D 4"
    ),
    "params.response-format": Requirement("response_format is handed to the agent as it was sent", "W A1"),
    "params.stop": Requirement(
        "nothing of a stop sequence or after it is seen, wherever the text is cut; the agent is stopped", "W A1"
    ),
    "params.max-tokens": Requirement(
        "answers are cut at max_tokens or max_completion_tokens, unless the agent counts itself", "W A1"
    ),
    "params.n": Requirement("n answers are n runs side by side, bounded; one failure is the answer's", "W A1"),
    "params.logprobs": Requirement("token probabilities are delivered when asked for", "W A1"),
    "parts.typed": Requirement("text, pictures, speech and documents reach the agent typed and in order", "W A1"),
    "parts.undeclared": Requirement("a part the agent cannot take is a 400 that names messages[i].content[j]", "D 4"),
    "parts.malformed": Requirement("a malformed part is a 400 that names the field", "T 92"),
    "tools.stream": Requirement("client calls stream index, id and name once, then arguments as they come", "W A1"),
    "tools.custom": Requirement("custom tool calls carry free text, streamed and plain", "W A1"),
    "tools.gaps": Requirement("whatever part of a call the agent leaves out, the client gets one whole call", "D 4"),
    "tools.order": Requirement("events that contradict each other are the agent's failure", "D 4"),
    "tools.own_names": Requirement("a client's tool cannot have the name of one of the agent's own", "D 4"),
    "tools.bounds": Requirement("a security mode that the agent cannot enforce is refused", "D 8"),
    "tools.allowed": Requirement("what is allowed without a question is a whole call, with all its arguments", "D 4"),
    "tools.offered": Requirement("the agent gets the client's tools with their schemas", "D 4"),
    "tools.choice": Requirement(
        "what the agent calls is held to tool_choice; a violation is the agent's failure", "W A1"
    ),
    "tools.parallel": Requirement("with parallel_tool_calls false only one call is passed on", "W A1"),
    "tools.own": Requirement(
        "the agent's own tools are never tool_calls; they show as the server is told", "W B0 1, B3"
    ),
    "tools.notice": Requirement("a notice is shown as a status line", "W B3"),
    "tools.history": Requirement(
        "calls and results reach the agent in pairs, open results as what to resume with", "D 4"
    ),
    "tools.history.orphans": Requirement("a call or result that stands alone is a 400 that names its place", "W A1"),
    "tools.round-trip": Requirement(
        "a client that runs the tools it is asked to gets its answer in the next request", "W B4 5"
    ),
    "tools.sdk-parsing": Requirement("the SDK's parse and stream helpers fill in parsed objects", "W A1"),
    "completions.answer": Requirement(
        "legacy completions answer with the same text and reasons, streamed and plain", "W A6"
    ),
    "completions.prompts": Requirement("several prompts, n and echo make one choice each, in order", "W A6"),
    "completions.refused": Requirement(
        "what legacy completions cannot honour is a 400 that names the parameter", "W A6"
    ),
    "conversations.keep": Requirement("conversations are made, shown, labelled and deleted", "W A4"),
    "conversations.items": Requirement("items are added, listed by pages, shown and taken out", "W A4"),
    "conversations.same": Requirement("they are the conversations of chat and of responses, there and back", "D 6"),
    "conversations.owner": Requirement("foreign and unknown ids are a 404", "T 76"),
    "conversations.busy": Requirement("while a turn runs, nothing is added: 409 conversation_busy", "D 5"),
    "conversations.input": Requirement("bad input is a 400 that names the parameter, and changes nothing", "T 92"),
    "embeddings.answer": Requirement("one vector for each input, as numbers or base64, and the tokens read", "W A6"),
    "embeddings.functions": Requirement(
        "an embed function is plain or async and gets what it has parameters for", "W A6"
    ),
    "embeddings.input": Requirement("bad input is a 400 that names the parameter; the function does not run", "W A6"),
    "embeddings.models": Requirement("what makes embeddings is a model among the others", "W A6"),
    "embeddings.failures": Requirement("exceptions and wrong shapes are a 500, never a wrong answer", "T 149-176"),
    "state.turn": Requirement("what an agent leaves with a turn comes back with the one that continues it", "D 6"),
    "state.failed": Requirement(
        "a turn that fails, is left or takes too long leaves the agent's state as it was", "D 5"
    ),
    "state.owner": Requirement("an agent's state is its own, and its principal's: nobody else is given it", "T 74"),
    "state.fork": Requirement("what branches off gets the state of where it does, each branch the same", "D 6"),
    "state.pause": Requirement(
        "the results that an agent has paused for bring the state that it has paused with", "D 4"
    ),
    "state.forget": Requirement("an agent is told which of its states nothing leads to any more, at least once", "D 6"),
    "state.kept": Requirement("an agent knows whether another turn can continue this one", "D 6"),
    "state.version": Requirement("a state in a form that its agent cannot read is not given to it, and said", "D 5"),
    "state.bound": Requirement(
        "a state that is no JSON, or too large, is the agent's error and changes nothing", "D 5"
    ),
    "approval.text": Requirement("approvals are asked and answered as text where there is no other way", "D 4"),
    "approval.tool": Requirement("a client that offers request_approval is asked by a call of it", "D 4"),
    "approval.grants": Requirement(
        "what a person has allowed for always holds in every process, until they take it back", "D 6"
    ),
    "approval.superseded": Requirement(
        "another message instead of a decision is told to be one, in a history without the server's question", "D 4"
    ),
    "approval.bound": Requirement(
        "a decision counts only for its principal, agent, conversation, tool and arguments; else nothing is spent",
        "T 85",
    ),
    "approval.shown": Requirement("a resumed call is shown as it was asked about, and a denied one as denied", "D 4"),
    "approval.edited": Requirement("changed arguments are run, or refused before anything is", "D 4"),
    "backend.keyed": Requirement(
        "a session gets its warm agent again, nobody else's, made anew where it is gone", "B D9"
    ),
    "agent.asks": Requirement("an agent that is a function asks in its middle, and goes on where it was", "B D10"),
    "agent.parked": Requirement(
        "what waits keeps its slot, is bounded in number and time, and ends with the server", "B D10"
    ),
    "approval.once": Requirement("an approval is decided once, by the principal that was asked", "T 85"),
    "compaction.told": Requirement("an agent can tell that it is asked for a summary", "D 4"),
    "session.key": Requirement("a session key is one principal's, the same in every process", "D 4"),
    "sandbox.keys": Requirement("a command in the sandbox reads certificates, never a private key", "D 8"),
    "chat.terminal": Requirement("control characters of an answer are shown in the terminal, not obeyed", "D 8"),
    "compaction": Requirement("conversations are made shorter in time, and the summary is kept", "D 4"),
    "responses.plain": Requirement("a plain Response has all its keys, its output and its usage", "W A3"),
    "responses.stream": Requirement("a Responses stream is numbered, ordered, and comes to what is stored", "W A3.1"),
    "responses.chain": Requirement("a response continues another of the same principal; chains fork", "W A3"),
    "responses.kept": Requirement("stored responses are their principal's, others are not there", "T 77"),
    "responses.conversation": Requirement(
        "a conversation is one for chat and Responses; failed turns add nothing", "D 4"
    ),
    "responses.wrong": Requirement("a Responses request that makes no sense is an error with its param", "W A3"),
    "responses.tools": Requirement("the client's tools pause a response; their results go on with it", "W A3"),
    "clients.terminal": Requirement("Codex and opencode work, over HTTP and WebSocket, as people use them", "W B2"),
    "responses.more_tools": Requirement("tools that items bring are offered from there on", "W A0"),
    "responses.warm_up": Requirement("a request that wants no answer needs nothing to say", "W A0"),
    "responses.other_calls": Requirement("calls that other servers made are taken with their results", "W B4.9"),
    "responses.results": Requirement(
        "results are found wherever they stand in the new input, and without an id where one call can be meant", "W A3"
    ),
    "responses.heals": Requirement("a kept conversation goes on after a call that nobody has answered", "W A3"),
    "responses.approval": Requirement("an approval is decided once, by its principal, and resumes the turn", "W B0.8"),
    "responses.structured": Requirement(
        "answers are checked against text.format, and repaired once if possible", "D 4"
    ),
    "responses.incomplete": Requirement("an answer that was cut off is incomplete and says why", "W A3"),
    "responses.limits": Requirement("max_tool_calls ends a turn, truncation makes a conversation fit", "W A3"),
    "responses.background": Requirement("background responses are polled, cancelled, and end", "W A3"),
    "responses.log_bounded": Requirement("of a stream's events the last ones are kept, so many bytes of them", "D 6"),
    "responses.resume": Requirement("a stream can be followed from any event, also while it runs", "W A3"),
    "responses.detach": Requirement("with detach, a response outlives its client and is found by its id", "D 5"),
    "responses.disconnect": Requirement("a foreground response stops when its client leaves", "W A3"),
    "responses.failure": Requirement(
        "failures have their status, or are told in the stream, without their text", "W B0.5"
    ),
    "responses.deadline": Requirement("background responses have a deadline of their own", "D 5"),
    "store.copied": Requirement("a copy of the store that was made while it served goes on where it was", "D 8"),
    "responses.drain": Requirement("a shutdown leaves no response in progress", "T 207"),
    "responses.compact": Requirement("conversations are compacted, and go on from the summary", "W A3"),
    "files.keep": Requirement("files are kept, shown, read and deleted as they were sent, until they expire", "W A6"),
    "files.owner": Requirement("a file belongs to its principal", "T 76"),
    "files.list": Requirement("lists are paged by after, limit and order; a bad cursor is a 400", "W A6"),
    "files.input": Requirement("bad forms, and those of foreign web pages, are refused and nothing is kept", "T 72"),
    "files.limits": Requirement("files have a size and each caller a number of them, told before all is read", "T 107"),
    "files.attached": Requirement("agents get files named by id as bytes, name and media type", "W A6"),
    "files.missing": Requirement("a file that is not there is a 400 that names the part; no agent runs", "T 92"),
    "embeddings.slots": Requirement("embed functions have slots, deadlines and an end, as agents do", "T 112-116"),
    "backends.numbers": Requirement(
        "temperature and its like reach the model behind a backend, or are a 400 that names them", "W A1"
    ),
    "ws.events": Requirement("over WebSocket come the events of a stream, with the lane's stream_id on each", "W A3.2"),
    "ws.fifo": Requirement("without stream_id, responses are made one after the other", "W A3.2"),
    "ws.lanes": Requirement("lanes run side by side, each in order", "W A0"),
    "ws.local": Requirement("what is not stored can be continued on its connection, and only there", "W A3.2"),
    "ws.bounded": Requirement("what connections know is bounded in bytes, in all and for each caller", "D 6"),
    "ws.evict": Requirement("a response that could not be continued in its lane is forgotten", "W A3.2"),
    "ws.generate": Requirement("generate: false makes a response that remembers its input; no agent runs", "W A0"),
    "ws.steer": Requirement("input for a running response is accepted, and committed or handed back", "W A0"),
    "ws.errors": Requirement("a request's error is one event with its status; the connection goes on", "W A3.2"),
    "ws.leave": Requirement("a client that leaves is treated as over HTTP", "T 53"),
    "ws.slow": Requirement("a client that does not read is left", "T 55"),
    "ws.limit": Requirement("a connection lasts an hour; its last turn may end", "W A3.2"),
    "ws.drain": Requirement("a server that ends closes connections with 1012 as soon as nothing runs", "T 204"),
    "ws.auth": Requirement(
        "key, Host and Origin are checked before a WebSocket is accepted, the key at each turn", "T 36"
    ),
    "ws.processed": Requirement("a client that says what it has read gets no answer to that", "W A3.2"),
    "ws.sdk": Requirement("the openai SDK's connect(), plain and async, with its sessions and lanes", "W A0"),
    "page.served": Requirement(
        "where it is asked for, a page to talk to the agents is served, and a browser at the root is led to it", "D 4"
    ),
    "page.talk": Requirement("the page talks to an agent and shows what it says, thinks and does", "D 4"),
    "page.approvals": Requirement("in the page a call is allowed once, always, with other arguments, or denied", "D 4"),
    "page.tools": Requirement("in the page people answer for the client's tools", "D 4"),
    "page.stop": Requirement("the page stops an agent, and the next turn knows what it has said", "D 4"),
    "page.errors": Requirement("the page tells failures as clients get them, and goes on after a restart", "D 4"),
    "page.key": Requirement("the page asks for a key where one is needed, and keeps it to its tab", "D 4"),
    "page.files": Requirement("the page sends pictures and files, up to a size", "D 4"),
    "page.text": Requirement("in the page nothing of an agent becomes markup", "D 4"),
    "page.fast": Requirement("no text makes the page hang", "D 4"),
    "page.inspect": Requirement("the page shows code that makes its requests, and that runs as it is", "D 4"),
    "page.everybody": Requirement("the page is for phones, keyboards and screen readers too", "D 4"),
    "page.small": Requirement("the page is small, and nothing of it comes from elsewhere", "D 4"),
    "models.about": Requirement("a model tells what it is for, and what a request to it may have", "D 4"),
    "models.list": Requirement("the agents are the models, with created and owned_by", "W A5"),
    "models.get": Requirement("a model is found by its name, whatever characters it has", "W A5"),
    "paths.bare": Requirement("the API is answered without /v1 too where the server is told so, and only there", "D 2"),
    "paths.azure": Requirement("Azure's clients are served: their header for the key, their paths", "W A2"),
    "serve.framing": Requirement(
        "serve hears no request that another strict parser does not find in the same bytes", "T 1"
    ),
    "body.compressed": Requirement("gzip and deflate are opened, within the limits on what they become", "T 21"),
    "body.mark": Requirement("a byte order mark before JSON is passed over", "T 22"),
    "lists.cursor": Requirement("a page after an object that is gone begins where it stood", "W A1"),
    "paths.methods": Requirement(
        "any method on any path, with or without a slash at its end, is answered; a 405 names the path's own methods",
        "D 2",
    ),
    "paths.unknown": Requirement("a path that is not served is named, and where the list of those that are is", "D 2"),
    "paths.health": Requirement("healthz and readyz need no key; readyz says when no new turns are taken", "D 2"),
    "paths.draining": Requirement("a host says that it will stop: unready, nothing new, what runs goes on", "D 8"),
    "text.linear": Requirement("work grows no faster than the text that clients and agents send", "T 3.3"),
    "values.bounded": Requirement(
        "the values of a body are counted before objects are made, and others are answered meanwhile", "T 105"
    ),
    "schemas.bounded": Requirement(
        "the check of a schema, and of an answer against it, has a bound on its steps", "T 99"
    ),
    "schemas.inside": Requirement(
        "a JSON Schema's references lead to places in it, or it is refused; nothing is fetched, no pattern compiled",
        "T 99",
    ),
    "openapi.document": Requirement(
        "openapi.json is open without a key, has only references that resolve, and valid schemas", "D 2"
    ),
    "openapi.names": Requirement("schemas and operations of openapi.json have plain names", "D 2"),
    "openapi.security": Requirement("openapi.json says where which key is needed", "D 2"),
    "openapi.strict": Requirement("what openapi.json allows is accepted, and what it forbids refused", "D 2"),
    "openapi.matches": Requirement("what is sent and answered is valid by openapi.json", "D 2"),
    "wrong.place": Requirement("a parameter of another API is refused, and it is said what to send", "W A2"),
    "errors.envelope": Requirement(
        "every error has the envelope with all four keys, its status and its request id", "W A2"
    ),
    "errors.words": Requirement(
        "what is wrong with a request is told in our own words, not in those of a library", "W A2"
    ),
    "errors.request-id": Requirement("x-request-id is on every answer and leads to the lines of the log", "W A2"),
    "errors.run-once": Requirement("an agent that has started is not run again by the SDK's retries", "T 178"),
    "errors.retry-after": Requirement("429 and 503 say when to come back; nothing had started", "W A2"),
    "errors.upstream": Requirement(
        "exceptions of models' clients inside an agent are mapped, and those of frameworks that wrap them", "T 180"
    ),
    "errors.declared": Requirement("an agent's own AgentError keeps status, code, type, param and message", "D 4"),
    "errors.mid-stream": Requirement(
        "a failure in mid-stream is the text so far, then an error, no finish_reason, no [DONE]", "T 173"
    ),
    "errors.not-an-event": Requirement("what an agent yields that is no well-formed event is its failure", "T 175"),
    "errors.private": Requirement("exception text reaches the log and never the client", "T 67"),
    "provider.types": Requirement("fifteen model providers are asked as their APIs want it", "D 4"),
    "provider.secret": Requirement("keys of providers are never shown, and go to nobody else", "D 4"),
    "provider.configure": Requirement("other settings of a provider count from the next turn on", "D 4"),
    "provider.health": Requirement("health is a real call, bounded in time, and remembered for a while", "D 4"),
    "provider.fallback": Requirement("another model takes over before anything was said, and it is told", "D 4"),
    "team.file": Requirement("agents, models and tools can be described by a file", "D 4"),
    "team.errors": Requirement("what is wrong with a file is told in a line that names it and the key", "D 4"),
    "chat_rest.completion": Requirement(
        "a completion has the documented shape, and honours every documented field", "D 5"
    ),
    "chat_rest.stream": Requirement("streams are event streams, with pieces of text and one frame that sums up", "D 5"),
    "chat_rest.commit": Requirement("a turn that fails leaves nothing, the user's message neither", "T 3.1"),
    "chat_rest.busy": Requirement("one turn at a time in a conversation: 409 conversation_busy", "D 5"),
    "chat_rest.conversations": Requirement("conversations are made, listed, named, copied, exported, deleted", "D 5"),
    "chat_rest.owner": Requirement("another principal's conversations and approvals are unknown", "T 3.2"),
    "chat_rest.agentic": Requirement(
        "an agentic turn tells each step, call and piece of text in documented events", "D 5"
    ),
    "chat_rest.deadline": Requirement("the deadline of an agentic turn stops the agent", "D 5"),
    "chat_rest.resume": Requirement("a stream that was lost is taken up again under the detach policy", "D 5"),
    "chat_rest.approve": Requirement("a decision counts once and resumes its turn once, with the result kept", "D 4"),
    "chat_rest.restart": Requirement("a server that was started anew goes on with what was asked before", "D 4"),
    "chat_rest.cookie.pages": Requirement(
        "pages of origins that cors names may use the cookie, and only these", "T 3.3"
    ),
    "chat_rest.cookie": Requirement("a cookie may bring the key, but not for other sites' pages", "T 3.3"),
    "chat_rest.refusals": Requirement("bad requests get OpenAI's envelope with the field at fault", "T 3.1"),
    "chat_rest.models": Requirement("what is listed can be asked for, and agents say whose they are", "D 5"),
    "chat_rest.providers": Requirement("providers are told and changed; keys never come back", "D 5"),
    "chat_rest.openapi": Requirement("the openapi document describes every path and answer", "D 5"),
    "sdk.values": Requirement("what the SDK's types let a client write is taken, and shown as they say", "W A3"),
    "server.garbage": Requirement("a request leaves nothing behind that only the garbage collector takes away", "T 60"),
    "server.cost": Requirement(
        "a request enters no more functions, and a stream holds no more objects, than its budget", "T 65"
    ),
    "server.one_slot": Requirement("one slot for a whole answer, with its repairs and its client's tools", "T 61"),
    "server.frozen_store": Requirement("the deadline of a request covers a store that does not answer", "T 64"),
    "run_once.replayed": Requirement(
        "where that is wanted, a client that asks again at once gets the failure again, a person a run", "W 22"
    ),
    "api.contract": Requirement(
        "every API, one from outside too, has the same turns, errors in its own form, keys, rates and repeats", "D 4"
    ),
    "anthropic.sdk": Requirement(
        "Anthropic's SDK has of any agent what it has of a model: streams, tools, threads, errors, counts", "D 4"
    ),
    "anthropic.order": Requirement(
        "a message has one block open at a time, without gaps; the plain answer is the fold of its stream", "D 4"
    ),
    "anthropic.once": Requirement(
        "an agent that fails, refuses, says nothing or much runs once under Claude Code, and no call of a failed answer does",
        "D 4",
    ),
    "anthropic.reconnect": Requirement(
        "a request that Claude Code sends again for a broken connection is told what the first one is, and runs nothing",
        "D 4",
    ),
    "anthropic.requests": Requirement(
        "what Claude Code and the SDKs send is understood, and refused by its place", "D 4"
    ),
    "anthropic.threads": Requirement("a thread is kept, gone on from once, and its caller's alone", "D 4"),
    "anthropic.types": Requirement("a field or event that Anthropic's SDK gains fails a test by name", "D 4"),
    "decisions.answer": Requirement("questions are answered in order, with how likely each answer is", "W A6"),
    "decisions.functions": Requirement(
        "a decide function is plain or async, gets what it has parameters for, and returns what fits the question",
        "W A6",
    ),
    "ollama.sdk": Requirement("Ollama's clients have of any agent what they have of a model", "D 4"),
    "ollama.lines": Requirement(
        "an answer is lines that Ollama's clients read, also in silence; the plain one is their fold", "D 4"
    ),
    "ollama.once": Requirement("a client's tool is called at the end of an answer that did not fail", "D 4"),
    "ollama.requests": Requirement("what Ollama's clients send is understood, and refused by its place", "D 4"),
    "ollama.models": Requirement("agents are listed as Ollama lists models, with what clients choose by", "D 4"),
    "ollama.types": Requirement("a field that Ollama's package gains fails a test by name", "D 4"),
    "server.settings": Requirement("settings are values: several servers may have the same ones", "T 62"),
    "stream.silence": Requirement(
        "official clients read streams of silent agents, under each disconnect policy", "T 63"
    ),
    "sdk.request": Requirement("every request field of the installed SDK has a field of ours", "W A1"),
    "sdk.answer": Requirement(
        "every answer field of the installed SDK is produced, or named here with the reason why not", "W A1"
    ),
    "sdk.strict": Requirement("every answer is valid by the SDK's own types, strictly", "W A1"),
}


def requirement(identifier: str) -> Callable[[Test], Test]:
    """Mark a test as proof of a promise."""

    def mark(test: Test) -> Test:
        return pytest.mark.requirement(identifier)(test)

    return mark
