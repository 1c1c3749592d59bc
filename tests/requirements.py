"""The promises to users: id, promise, source. A test names the ids that it proves.

`test_requirements.py` fails if a promise has no test, or if a test names an unknown promise.
Sources: W = the wire format as OpenAI documents it and clients need it, D = our design, T = the list of faults to survive.
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
    "hooks.once": Requirement("hooks see each run of an agent, by every API: one start, one end", "D 10"),
    "hooks.task": Requirement(
        "hooks run in the agent's context, in order, on the output that the hooks before them left", "D 10"
    ),
    "hooks.isolated": Requirement("a hook that fails is logged once per turn, and changes no byte", "D 10"),
    "hooks.admit": Requirement(
        "a hook may refuse a turn before it gets a slot; a hook that fails refuses it with 503", "D 10"
    ),
    "hooks.settled": Requirement(
        "hooks that run after the commit get their time, even while the server shuts down", "D 10"
    ),
    "hooks.wrap": Requirement("a wrapped backend changes turns on every API", "D 10"),
    "hooks.refused": Requirement(
        "every refusal before an agent starts has the same reason in hooks, metrics and the log", "D 10"
    ),
    "hooks.webhooks": Requirement("each attempt to deliver a webhook is reported to hooks and counted", "D 10"),
    "hooks.requests": Requirement("hooks see each request, whoever answers it: one start, one end", "D 10"),
    "telemetry.spans": Requirement(
        "each request, run and own tool is a span, named by the semantic conventions", "D 10"
    ),
    "telemetry.nested": Requirement(
        "our spans are children of the client's trace, the agent's spans are children of ours", "D 10"
    ),
    "telemetry.content": Requirement("messages are traced only if the conventions' switch enables it", "D 10"),
    "telemetry.metrics": Requirement(
        "metrics of turns have closed sets of attributes; exporters change no byte", "D 10"
    ),
    "telemetry.prometheus": Requirement("/metrics has the figures of all workers, even after one dies", "D 10"),
    "telemetry.export": Requirement("serve --otel sends all of it to a collector, and never delays an answer", "D 10"),
    "hooks.none": Requirement("a method that a hook does not override is not called", "D 10"),
    "audit.log": Requirement(
        "requests to an agent and its actions are in the audit log before it continues, without content", "D 10"
    ),
    "guard.every": Requirement("a guard around the agents refuses and holds back text on every API", "D 10"),
    "budget.refused": Requirement(
        "a caller who has used up a token budget gets 429 insufficient_quota on every API", "D 10"
    ),
    "budget.exact": Requirement(
        "tokens are counted with the outcome of their turn, exactly, across all processes", "D 10"
    ),
    "budget.away": Requirement(
        "while the store is down, the budget decides who is admitted, and the log says so", "D 10"
    ),
    "log.turn": Requirement("each turn has one log line with its caller, request, cost and outcome", "D 10"),
    "log.events": Requirement("at debug level the log has the events of a turn, not their content", "D 10"),
    "log.content": Requirement("content is logged only on request, and is redacted before it leaves", "D 10"),
    "log.everywhere": Requirement("one call configures the log under every server, and leaves handlers alone", "D 10"),
    "kit.targets": Requirement(
        "the kit examines agents, servers, mounted applications and URLs, or says once why not", "D 9"
    ),
    "kit.apis": Requirement(
        "the kit examines an agent over Anthropic's and Ollama's APIs, and finds what breaks there", "D 4"
    ),
    "kit.model": Requirement("the real SDKs accept a scripted model in place of OpenAI's and Anthropic's APIs", "D 9"),
    "kit.reasoning": Requirement("the kit skips a check only for a reason that another check reports", "D 9"),
    "cli.chat": Requirement("in the terminal pasted text is one message, and the agent's actions are visible", "D 4"),
    "talk.pipes": Requirement("piped input goes to the agent; stdout has its answer alone, or JSON alone", "D 4"),
    "talk.work": Requirement("thoughts, tools, sources, times and tokens of a turn are shown in the terminal", "D 4"),
    "talk.media": Requirement("pictures and sounds are announced in the terminal, and saved on request", "D 4"),
    "talk.approvals": Requirement(
        "in the terminal a key press decides an approval; without a person it is denied, with exit code 3", "D 8"
    ),
    "talk.tools": Requirement("in the terminal people answer for the client's tools", "D 4"),
    "talk.foreign": Requirement(
        "with other servers the chat uses the features they have, and reports their mistakes", "D 4"
    ),
    "talk.commands": Requirement("commands in the terminal are for the program, and unknown ones are reported", "D 4"),
    "talk.stop": Requirement("Ctrl-C stops the agent in whatever it does, and the chat continues", "D 4"),
    "talk.once": Requirement("a long answer is in the terminal once, however often it is redrawn", "D 4"),
    "talk.plain": Requirement("escape codes are written only to terminals that want them", "D 4"),
    "talk.linear": Requirement("an answer of any form is shown in time proportional to its length", "T 3.3"),
    "cli.banner": Requirement(
        "serve says where the agents are and who may call them; log lines summarize each turn", "D 4"
    ),
    "cli.settings": Requirement("the settings that operators need can be set on the command line", "D 4"),
    "cli.user-header": Requirement(
        "the header of a trusted proxy distinguishes callers, and nobody else's does", "D 8"
    ),
    "cli.proxy-auth": Requirement(
        "without a key, other machines reach the server only if a proxy with a login is named", "D 8"
    ),
    "cli.log": Requirement("the log in JSON is JSON alone; probes and messages for clients make no noise", "D 8"),
    "cli.targets": Requirement("a file is served from any folder, and the agent in it is found", "D 4"),
    "cli.defaults": Requirement("without a target, serve runs what the project names, or agent.py", "D 4"),
    "cli.module": Requirement("python -m openai_compat is the command line", "D 4"),
    "cli.quick": Requirement("the program's help appears without importing the library", "D 4"),
    "cli.doctor": Requirement("doctor reports each problem in one line, changes nothing, and reveals no key", "D 4"),
    "cli.wrong": Requirement(
        "a usage error is reported in one line, with exit code 2; a failure with exit code 1", "D 4"
    ),
    "cli.init": Requirement("the file that init writes runs, says what it needs, and overwrites nothing", "D 4"),
    "cli.demo": Requirement("a demo of an agent's abilities runs without a key, with the page", "D 4"),
    "cli.extras": Requirement("a missing package is reported with the extra that installs it", "D 4"),
    "agents.frameworks": Requirement(
        "objects of agent frameworks run, or are refused at start with the way to serve them", "D 4"
    ),
    "settings.types": Requirement("a setting of the wrong type is refused at creation, in a sentence", "D 4"),
    "auth.ids": Requirement("a key's principal may be given as its id", "D 5"),
    "auth.function": Requirement(
        "a function authenticates the caller: a principal with claims, nobody, or an error", "D 8"
    ),
    "auth.closed": Requirement("an authenticator that fails or takes too long admits nobody", "D 8"),
    "auth.every-path": Requirement("without a principal, only the open paths are answered, by any method", "D 8"),
    "auth.secret": Requirement("no key or token is in a log line, an answer or a repr", "D 8"),
    "auth.ready": Requirement("users of a host application are distinguished by its own login", "D 8"),
    "auth.spoofing": Requirement(
        "a proxy's header counts once, in its exact spelling, and from the proxy alone", "D 8"
    ),
    "auth.on-behalf": Requirement(
        "an authorized program may name its user; from any other caller the name is ignored", "D 8"
    ),
    "auth.ambient": Requirement(
        "credentials that browsers send on their own count only for the server's own pages", "D 8"
    ),
    "auth.unused-login": Requirement("an unused login in front of the server is reported once", "D 8"),
    "auth.hashed": Requirement("a key may be stored as its digest, which cannot be sent in its place", "D 8"),
    "auth.jwt": Requirement("all claims of a JWT are checked; an invalid one is refused in constant words", "D 8"),
    "auth.keys-of-issuer": Requirement(
        "an issuer's keys are fetched rarely, and stay valid while the issuer is down", "D 8"
    ),
    "auth.revoked": Requirement("a revoked token stays valid for a bounded, configurable time", "D 8"),
    "auth.introspection": Requirement(
        "a provider is asked about a token only once in a while; its outage is a 503", "D 8"
    ),
    "auth.limits": Requirement("each caller's slots, requests and tokens may depend on its claims", "D 8"),
    "auth.metadata": Requirement("a client without a token is told where to get one (RFC 9728)", "D 8"),
    "cli.key": Requirement("a key can be created whose line in a file does not reveal it", "D 8"),
    "auth.websocket": Requirement("the caller of a WebSocket is authenticated again before each turn", "D 8"),
    "agents.parameters": Requirement("parameters and an answer's schema can be passed on unchanged", "D 4"),
    "agents.parts": Requirement("pictures, speech and documents are available as bytes with their type", "D 4"),
    "agents.turns": Requirement(
        "a conversation is available as turns, with its instructions apart, and as text", "D 4"
    ),
    "agents.usage": Requirement("a cumulative counter can be reported in increments", "D 4"),
    "agents.ignored": Requirement(
        "parameters that an agent does not pass on are reported to the client and in the log", "D 4"
    ),
    "agents.silent": Requirement("an agent that says nothing is logged, once", "D 4"),
    "agents.prompt": Requirement("the user's message reaches the agent, or the agent is refused at start", "D 4"),
    "chat.plain": Requirement("a plain answer is the fold of the agent's events", "W A1"),
    "chat.stream": Requirement(
        "a stream has the role first, one finish_reason, then [DONE], and nothing after it", "W A1"
    ),
    "chat.stream.live": Requirement("a piece is sent before the agent makes the next one", "T 29"),
    "chatws.processes": Requirement(
        "a thread is resumed, stopped and given input through any process, without gaps or duplicate frames", "D 6"
    ),
    "chatws.bounded": Requirement(
        "stored frames are bounded in bytes, whatever their content, per thread, per caller and in all",
        "D 6",
    ),
    "chatws.turn": Requirement("a chat turn is numbered chunks, the last one done, then the whole message", "D 7"),
    "chatws.thread": Requirement("a message without a thread creates one, and every frame names its thread", "D 7"),
    "chatws.encoding": Requirement("JSON is answered in JSON, MessagePack in MessagePack, errors too", "T 35"),
    "chatws.bad_frames": Requirement("a malformed frame gets a typed error, and the connection stays open", "T 50"),
    "chatws.bombs": Requirement("MessagePack bombs are refused with constant memory", "T 51"),
    "chatws.failure": Requirement("a turn that fails leaves nothing behind; no exception text", "T 57"),
    "chatws.stop": Requirement("a stopped turn says so once, with its thread, and leaves no message unfinished", "D 7"),
    "chatws.supersede": Requirement(
        "a new message replaces the running turn; frames of the two are never mixed", "T 56"
    ),
    "chatws.detach": Requirement("a turn outlives its connection for a while", "D 7"),
    "chatws.resume": Requirement("frames can be requested again by number, and a gap is reported", "D 7"),
    "chatws.owner": Requirement("threads and their turns belong to principals", "T 74"),
    "chatws.client_tools": Requirement("the client's tools answer within the turn, from any connection", "D 7"),
    "chatws.approval": Requirement("a decision resumes the turn once, also after a restart", "D 4"),
    "chatws.workflow": Requirement("a workflow's progress is reported, and its end once", "D 7"),
    "chatws.auth": Requirement("the key is in the header or the query, and is checked first", "T 36"),
    "chatws.drain": Requirement(
        "idle sockets are closed with 1012, and new messages are refused before they are stored", "D 7"
    ),
    "conversation.memory": Requirement("a turn sees the earlier messages of its conversation", "D 6"),
    "conversation.commit": Requirement("a turn that fails, is cancelled or loses its client changes nothing", "D 5"),
    "conversation.free": Requirement(
        "a client that has a turn's outcome can continue the conversation at once", "T 131"
    ),
    "conversation.busy": Requirement("a concurrent second turn gets 409 conversation_busy, not to be retried", "D 5"),
    "conversation.busy.queue": Requirement("a second turn may wait for the first", "D 5"),
    "conversation.busy.supersede": Requirement("a second turn may stop the first and take its place", "D 5"),
    "conversation.new_only": Requirement(
        "of a known conversation only new items count; a request without any is a 400", "D 5"
    ),
    "conversation.owner": Requirement("ids belong to principals", "T 74"),
    "conversation.id": Requirement("ids are 1 to 256 printable characters", "T 103"),
    "conversation.sources": Requirement("the id comes from a configurable list of fields and headers", "W B4.11"),
    "conversation.api": Requirement("a conversation can be read and deleted", "D 6"),
    "conversation.transcript": Requirement(
        "conversations of stateless clients are found by transcript; branches stay apart", "D 6"
    ),
    "conversation.tools": Requirement("open client calls are resumed, or answered if they were skipped", "D 4"),
    "idempotency.replay": Requirement("the same key and body get the first answer again, failures too", "T 133"),
    "idempotency.place": Requirement("the same key for another conversation or agent header is a 422", "T 134"),
    "idempotency.other": Requirement("the same key with another body is a 422", "T 134"),
    "idempotency.once": Requirement("five concurrent requests with one key are one run", "T 135"),
    "idempotency.refused": Requirement("a refusal before the agent started is not stored", "D 5"),
    "idempotency.lost": Requirement("a run whose answer is lost is not repeated", "D 5"),
    "idempotency.key": Requirement("keys are 1 to 255 printable characters", "T 1"),
    "principal.models": Requirement("a key gives access only to its principal's models", "D 5"),
    "auth.disabled": Requirement("a key source without keys disables the server", "T 80"),
    "auth.public": Requirement("the list of models can be public", "T 84"),
    "cors.conversation": Requirement("pages may send and read the conversation header", "D 5"),
    "model.unknown": Requirement("unknown models can fall back to the first agent, and are echoed", "D 5"),
    "messages.history": Requirement("history can be cut to the last user message", "D 5"),
    "messages.no_user": Requirement("a request without a user message is answered", "W 4"),
    "messages.user_required": Requirement("a policy can require a user message", "D 5"),
    "text.halves": Requirement("a character that an agent splits into two UTF-16 halves is whole in every API", "W A1"),
    "chat.calls.in_turn": Requirement(
        "in chat the deltas of a call wait until the calls before it are complete", "W A1"
    ),
    "chat.first_chunk": Requirement("the first chunk matches OpenAI's: role, content, refusal", "W A1"),
    "chat.nullable_keys": Requirement("system_fingerprint is present and null, plain and streamed", "W A1"),
    "text.after_tools": Requirement("text after the result of an own tool is another message", "D 4"),
    "usage.limit": Requirement("reported tokens count for max_tokens if the agent reports any", "D 4"),
    "params.whole_numbers": Requirement("4096.0 is an integer, a limit of -1 is no limit, [] is nothing", "W B2"),
    "tools.unseen": Requirement("tools for an agent that can call none are no error; a required call is one", "W B4.5"),
    "tools.pictures": Requirement("pictures in client tool results reach the agent in every API", "W A1"),
    "tools.at_once": Requirement("each of several concurrent tools shows its own outcome", "W B3"),
    "messages.system": Requirement("system messages can be ignored or refused", "D 5"),
    "messages.presentation": Requirement("our own status lines are stripped from replayed history", "W B4.14"),
    "admission.bounds": Requirement("slots are bounded in all, per agent and per principal", "D 5"),
    "admission.queue": Requirement("requests can queue, in order, with a deadline", "D 5"),
    "admission.busy": Requirement("a busy server can answer as the assistant", "D 5"),
    "rates.refused": Requirement("requests above a caller's rate limit get 429 with Retry-After", "T 124"),
    "rates.tokens": Requirement(
        "reported tokens per minute are charged across all processes; a caller over the limit gets 429 with Retry-After",
        "D 10",
    ),
    "rates.headers": Requirement("every answer to a counted request has x-ratelimit-*-requests", "W A2"),
    "rates.replay": Requirement("requests that run nothing are not counted, and only counted ones run", "D 6"),
    "rates.principal": Requirement("rates belong to principals", "T 124"),
    "rates.outage": Requirement("while the store is down, each process counts on its own", "T 6.4"),
    "slots.shared": Requirement("slots can be bounded across all processes with one store", "T 215"),
    "slots.stuck": Requirement("a shared slot is free once its agent has really ended", "D 4"),
    "slots.outage": Requirement("without the store, each process enforces only its own limit", "T 6.4"),
    "providers.stored": Requirement(
        "provider settings that an admin changes reach all processes within a second; keys are sealed or refused",
        "D 6",
    ),
    "webhooks.sdk": Requirement("webhooks are signed and formatted as the SDK verifies and parses them", "W A0"),
    "webhooks.retry": Requirement("a webhook is sent until it is accepted; redirects are not followed", "D 6"),
    "webhooks.kept": Requirement(
        "an outcome and its webhook are stored together; it arrives at least once, whichever process dies", "D 6"
    ),
    "webhooks.bound": Requirement("attempts and the queue of waiting webhooks are bounded", "D 6"),
    "webhooks.end": Requirement("an undelivered webhook is tried once more at shutdown, within a time limit", "D 6"),
    "webhooks.chosen": Requirement("a webhook gets only its own events and principals", "D 6"),
    "webhooks.background": Requirement(
        "the outcome of a background response is sent, and no turn waits for that", "W A0"
    ),
    "tenants.all": Requirement(
        "one caller's objects are unknown to every other caller, in every API that names them", "T 77"
    ),
    "store.bounded": Requirement(
        "memory for stored data is bounded in bytes, in all and per caller, and no caller evicts another's data",
        "D 6",
    ),
    "store.url": Requirement("a store can be given by its URL; the server closes what it opened", "D 6"),
    "store.start": Requirement("the server waits for a store that is down; an unsupported one is refused", "T 188-189"),
    "store.ready": Requirement("readyz reports the state of the store, and cannot be used to overload it", "D 2"),
    "store.sweep": Requirement("data older than its retention is deleted, even if a sweep fails", "D 6"),
    "store.workers": Requirement(
        "data that one process stores is visible to all processes with the same store", "T 209"
    ),
    "store.restart": Requirement("acknowledged answers survive kill -9", "T 183"),
    "store.away": Requirement("without its store a server answers requests that need none; the rest get 503", "T 189"),
    "store.engine": Requirement("a database that is killed, frozen or restarted loses no turn", "T 190-191"),
    "several.turns": Requirement("turns in one conversation never overlap, whichever processes run them", "T 210"),
    "several.lease": Requirement("a running turn keeps its leases; those of a dead process soon expire", "T 211, 213"),
    "several.fence": Requirement("a process that has lost a conversation or response cannot write to it", "T 212, 217"),
    "several.idempotency": Requirement("a key runs once across all processes, whichever of them dies", "T 214"),
    "several.background": Requirement(
        "another process can read, follow and cancel; responses of a dead process have failed", "T 216"
    ),
    "several.supersede": Requirement(
        "a newer message stops the running turn within a second, in whichever process", "D 6"
    ),
    "several.upgrade": Requirement(
        "processes of an older version keep working while newer ones start beside them", "D 6"
    ),
    "several.killed": Requirement(
        "every acknowledged turn survives kill -9, in order; none is stored in part", "T 183-185"
    ),
    "several.rolling": Requirement("a rolling restart loses no turn and runs none twice", "T 218"),
    "store.secret": Requirement("a store's password is in no log and no error, and need not be in `ps`", "T 79"),
    "deadline.silence": Requirement("the time before the first event and between events is bounded", "D 5"),
    "disconnect.cancel": Requirement("by default a turn ends when its client disconnects", "D 5"),
    "disconnect.finish": Requirement("a turn can finish without its client, and is stored", "D 5"),
    "disconnect.detach": Requirement("a detached turn has a grace period", "D 5"),
    "housekeeping.recognised": Requirement("chat programs' own requests never reach the agent or the store", "W B4.11"),
    "housekeeping.hook": Requirement("a hook can answer them", "W B4.11"),
    "housekeeping.people": Requirement("a user's message is not mistaken for one", "W B4.11"),
    "stored.lifecycle": Requirement("stored completions: list, get, update, delete, messages", "W A1"),
    "stored.paging": Requirement("pagination parameters are validated", "W A1"),
    "chat.stream.same-as-plain": Requirement("a stream adds up, in the SDK's accumulator, to the plain answer", "W A1"),
    "chat.stream.bytes": Requirement(
        "a stream is unbuffered text/event-stream of data lines, whatever Accept says", "W B4 1-2"
    ),
    "chat.stream.any-text": Requirement(
        "text arrives character for character, even if it looks like framing", "T 27-28"
    ),
    "chat.stream.events": Requirement("the SDK's stream helper raises its events in order", "W A1"),
    "chat.stream.n": Requirement("choices of one stream each have their own role, text and end", "W A1"),
    "chat.stream.usage": Requirement(
        "usage is in the stream only on request: null, then the sum in a last chunk without choices", "W A1"
    ),
    "chat.usage.unreported": Requirement(
        "usage that the agent did not report is zeros marked `reported: false`", "D 4"
    ),
    "chat.raw-response": Requirement("raw responses of the SDK give status, headers and the parsed answer", "W A2"),
    "chat.sync-client": Requirement("blocking clients work as asynchronous ones do", "D 3"),
    "chat.messages": Requirement("the agent gets the whole conversation, typed and in its original form", "D 4"),
    "chat.message-break": Requirement("consecutive messages have a blank line between them", "D 4"),
    "chat.extra": Requirement("unknown fields, metadata, user and selected headers reach the agent", "D 4"),
    "chat.tolerant": Requirement(
        "fields that clients send with every request are accepted by agents that cannot use them", "W B4 9"
    ),
    "params.all-accepted": Requirement("every documented parameter is accepted and passed on", "W A1"),
    "params.null-is-absent": Requirement("null is the same as absent", "T 97"),
    "params.ranges": Requirement(
        "a missing, mistyped or out-of-range parameter is a 400 that names it; no agent runs", "T 92-98"
    ),
    "params.deprecated-functions": Requirement(
        "functions and function_call are refused with the name of their replacement", "W A1"
    ),
    "params.undeclared": Requirement(
        "a capability that a request needs and an agent lacks is a 400 that names the parameter", "D 4"
    ),
    "params.response-format": Requirement("response_format is passed to the agent unchanged", "W A1"),
    "params.stop": Requirement(
        "a stop sequence and the text after it are never shown, however the text is split; the agent is stopped", "W A1"
    ),
    "params.max-tokens": Requirement(
        "answers are cut at max_tokens or max_completion_tokens, unless the agent counts tokens itself", "W A1"
    ),
    "params.n": Requirement("n answers are n concurrent runs, bounded; one failure fails the answer", "W A1"),
    "params.logprobs": Requirement("token probabilities are delivered on request", "W A1"),
    "parts.typed": Requirement("text, pictures, speech and documents reach the agent typed and in order", "W A1"),
    "parts.undeclared": Requirement("a part the agent cannot accept is a 400 that names messages[i].content[j]", "D 4"),
    "parts.malformed": Requirement("a malformed part is a 400 that names the field", "T 92"),
    "tools.stream": Requirement("client calls stream index, id and name once, then the arguments in deltas", "W A1"),
    "tools.custom": Requirement("custom tool calls carry free text, streamed and plain", "W A1"),
    "tools.gaps": Requirement("whichever part of a call the agent omits, the client gets one whole call", "D 4"),
    "tools.order": Requirement("events that contradict each other are the agent's failure", "D 4"),
    "tools.own_names": Requirement("a client's tool cannot have the name of one of the agent's own", "D 4"),
    "tools.bounds": Requirement("a security mode that the agent cannot enforce is refused", "D 8"),
    "tools.allowed": Requirement("a call that is allowed without a question is whole, with all its arguments", "D 4"),
    "tools.offered": Requirement("the agent gets the client's tools with their schemas", "D 4"),
    "tools.choice": Requirement("the agent's calls must obey tool_choice; a violation is the agent's failure", "W A1"),
    "tools.parallel": Requirement("with parallel_tool_calls false only one call is passed on", "W A1"),
    "tools.own": Requirement(
        "the agent's own tools are never tool_calls; the server's settings decide how they are shown", "W B0 1, B3"
    ),
    "tools.notice": Requirement("a notice is shown as a status line", "W B3"),
    "tools.history": Requirement(
        "calls and results reach the agent in pairs, results of open calls as the resume input", "D 4"
    ),
    "tools.history.orphans": Requirement(
        "a call or result without its counterpart is a 400 that names its place", "W A1"
    ),
    "tools.round-trip": Requirement(
        "a client that runs the requested tools gets its answer in the next request", "W B4 5"
    ),
    "tools.sdk-parsing": Requirement("the SDK's parse and stream helpers fill in parsed objects", "W A1"),
    "completions.answer": Requirement(
        "legacy completions answer with the same text and finish reasons, streamed and plain", "W A6"
    ),
    "completions.prompts": Requirement("several prompts, n and echo make one choice each, in order", "W A6"),
    "completions.refused": Requirement(
        "a parameter that legacy completions cannot honour is a 400 that names it", "W A6"
    ),
    "conversations.keep": Requirement("conversations are created, shown, labelled and deleted", "W A4"),
    "conversations.items": Requirement("items are added, listed in pages, shown and deleted", "W A4"),
    "conversations.same": Requirement("chat, Responses and the conversations API share the same conversations", "D 6"),
    "conversations.owner": Requirement("foreign and unknown ids are a 404", "T 76"),
    "conversations.busy": Requirement("while a turn runs, adding items is a 409 conversation_busy", "D 5"),
    "conversations.input": Requirement("bad input is a 400 that names the parameter, and changes nothing", "T 92"),
    "embeddings.answer": Requirement("one vector for each input, as numbers or base64, and the tokens read", "W A6"),
    "embeddings.functions": Requirement(
        "an embed function is plain or async and gets the arguments that it has parameters for", "W A6"
    ),
    "embeddings.input": Requirement("bad input is a 400 that names the parameter; the function does not run", "W A6"),
    "embeddings.models": Requirement("an embed function is a model among the others", "W A6"),
    "embeddings.failures": Requirement("exceptions and wrong shapes are a 500, never a wrong answer", "T 149-176"),
    "state.turn": Requirement(
        "state that an agent stores with a turn is returned to the turn that continues it", "D 6"
    ),
    "state.failed": Requirement(
        "a turn that fails, times out or loses its client leaves the agent's state unchanged", "D 5"
    ),
    "state.owner": Requirement("an agent's state belongs to it and to its principal: nobody else gets it", "T 74"),
    "state.fork": Requirement("each branch gets the state of the turn where it forks, the same in every branch", "D 6"),
    "state.pause": Requirement("results that an agent paused for arrive with the state that it paused with", "D 4"),
    "state.forget": Requirement("an agent is told, at least once, which of its states are unreachable", "D 6"),
    "state.kept": Requirement("an agent knows whether another turn can continue this one", "D 6"),
    "state.version": Requirement(
        "a state in a format that its agent cannot read is not passed to it, and that is reported", "D 5"
    ),
    "state.bound": Requirement(
        "a state that is not JSON, or too large, is the agent's error and changes nothing", "D 5"
    ),
    "approval.text": Requirement("approvals are requested and answered as text if there is no other way", "D 4"),
    "approval.tool": Requirement("a client that offers request_approval is asked by a call of that tool", "D 4"),
    "approval.grants": Requirement("an always-allow grant holds in every process, until it is revoked", "D 6"),
    "approval.superseded": Requirement(
        "a message in place of a decision reaches the agent as a message, without the server's question in the history",
        "D 4",
    ),
    "approval.bound": Requirement(
        "a decision counts only for its principal, agent, conversation, tool and arguments; any other use does not consume it",
        "T 85",
    ),
    "approval.shown": Requirement("a resumed call is shown as it was asked about, and a denied one as denied", "D 4"),
    "approval.edited": Requirement("changed arguments are run, or refused before anything runs", "D 4"),
    "backend.keyed": Requirement(
        "a session gets its own warm agent again, never another's; a lost one is created again", "B D9"
    ),
    "agent.asks": Requirement("an agent function can ask in the middle, and continues where it was", "B D10"),
    "agent.parked": Requirement(
        "a waiting agent keeps its slot, is bounded in number and time, and ends with the server", "B D10"
    ),
    "approval.once": Requirement("an approval is decided once, by the principal that was asked", "T 85"),
    "compaction.told": Requirement("an agent can tell that a summary is requested", "D 4"),
    "session.key": Requirement("a session key belongs to one principal, and is the same in every process", "D 4"),
    "sandbox.keys": Requirement("a command in the sandbox can read certificates, never a private key", "D 8"),
    "chat.terminal": Requirement("control characters of an answer are shown in the terminal, not obeyed", "D 8"),
    "compaction": Requirement("conversations are compacted before they get too long, and the summary is stored", "D 4"),
    "responses.plain": Requirement("a plain Response has all its keys, its output and its usage", "W A3"),
    "responses.stream": Requirement(
        "a Responses stream is numbered, ordered, and adds up to the stored response", "W A3.1"
    ),
    "responses.chain": Requirement("a response continues another of the same principal; chains fork", "W A3"),
    "responses.kept": Requirement("stored responses belong to their principal; others do not exist for it", "T 77"),
    "responses.conversation": Requirement("chat and Responses share a conversation; failed turns add nothing", "D 4"),
    "responses.wrong": Requirement("an invalid Responses request is an error that names its param", "W A3"),
    "responses.tools": Requirement("the client's tools pause a response; their results resume it", "W A3"),
    "clients.terminal": Requirement("Codex and opencode work, over HTTP and WebSocket, as people use them", "W B2"),
    "responses.more_tools": Requirement("tools that an input item adds are available from that item on", "W A0"),
    "responses.warm_up": Requirement("a request that wants no answer needs no input", "W A0"),
    "responses.other_calls": Requirement("calls that other servers made are accepted with their results", "W B4.9"),
    "responses.results": Requirement(
        "results are found anywhere in the new input, and without an id if only one call is possible", "W A3"
    ),
    "responses.heals": Requirement("a stored conversation continues after an unanswered call", "W A3"),
    "responses.approval": Requirement("an approval is decided once, by its principal, and resumes the turn", "W B0.8"),
    "responses.structured": Requirement(
        "answers are checked against text.format, and repaired once if possible", "D 4"
    ),
    "responses.incomplete": Requirement("a truncated answer is incomplete and says why", "W A3"),
    "responses.limits": Requirement("max_tool_calls ends a turn, truncation makes a conversation fit", "W A3"),
    "responses.background": Requirement("background responses are polled, cancelled, and end", "W A3"),
    "responses.log_bounded": Requirement(
        "the event log of a stream keeps the last events, up to a size in bytes", "D 6"
    ),
    "responses.resume": Requirement("a stream can be followed from any event, even while it runs", "W A3"),
    "responses.detach": Requirement("with detach, a response outlives its client and is found by its id", "D 5"),
    "responses.disconnect": Requirement("a foreground response stops when its client disconnects", "W A3"),
    "responses.failure": Requirement(
        "failures have their status, or are reported in the stream, without exception text", "W B0.5"
    ),
    "responses.deadline": Requirement("background responses have their own deadline", "D 5"),
    "store.copied": Requirement("a backup made while the server runs continues where it was", "D 8"),
    "responses.drain": Requirement("a shutdown leaves no response in progress", "T 207"),
    "responses.compact": Requirement("conversations are compacted, and continue from the summary", "W A3"),
    "files.keep": Requirement("files are stored, shown, read and deleted unchanged, until they expire", "W A6"),
    "files.owner": Requirement("a file belongs to its principal", "T 76"),
    "files.list": Requirement("lists are paged by after, limit and order; a bad cursor is a 400", "W A6"),
    "files.input": Requirement("bad forms, and forms of foreign web pages, are refused and nothing is stored", "T 72"),
    "files.limits": Requirement(
        "file size and number per caller are limited, and refused before the whole upload is read", "T 107"
    ),
    "files.attached": Requirement("agents get files named by id as bytes, name and media type", "W A6"),
    "files.missing": Requirement("a missing file is a 400 that names the part; no agent runs", "T 92"),
    "embeddings.slots": Requirement(
        "embed functions have slots, deadlines and cancellation, as agents do", "T 112-116"
    ),
    "backends.numbers": Requirement(
        "temperature and similar parameters reach the model behind a backend, or are a 400 that names them", "W A1"
    ),
    "ws.events": Requirement("a WebSocket carries the events of a stream, each with its lane's stream_id", "W A3.2"),
    "ws.fifo": Requirement("without stream_id, responses are created one after the other", "W A3.2"),
    "ws.lanes": Requirement("lanes run concurrently, each in order", "W A0"),
    "ws.local": Requirement("an unstored response can be continued on its connection, and only there", "W A3.2"),
    "ws.bounded": Requirement("the memory of connections is bounded in bytes, in all and per caller", "D 6"),
    "ws.evict": Requirement("a response that could not be continued in its lane is evicted", "W A3.2"),
    "ws.generate": Requirement("generate: false creates a response that stores its input; no agent runs", "W A0"),
    "ws.steer": Requirement("input for a running response is accepted, then committed or returned", "W A0"),
    "ws.errors": Requirement("a request's error is one event with its status; the connection stays open", "W A3.2"),
    "ws.leave": Requirement("a disconnect is handled as over HTTP", "T 53"),
    "ws.slow": Requirement("a client that does not read is disconnected", "T 55"),
    "ws.limit": Requirement("a connection lasts an hour; its last turn may finish", "W A3.2"),
    "ws.drain": Requirement("a server that shuts down closes connections with 1012 once nothing runs on them", "T 204"),
    "ws.auth": Requirement(
        "key, Host and Origin are checked before a WebSocket is accepted, and the key at each turn", "T 36"
    ),
    "ws.processed": Requirement("a client's report of the events it has read gets no answer", "W A3.2"),
    "ws.sdk": Requirement("the openai SDK's connect() works, sync and async, with its sessions and lanes", "W A0"),
    "page.served": Requirement(
        "if enabled, a chat page is served, and a browser at the root is redirected to it", "D 4"
    ),
    "page.talk": Requirement("the page talks to an agent and shows its text, thoughts and actions", "D 4"),
    "page.approvals": Requirement("on the page a call is allowed once, always, with other arguments, or denied", "D 4"),
    "page.tools": Requirement("on the page people answer for the client's tools", "D 4"),
    "page.stop": Requirement("the page stops an agent, and the next turn knows its partial answer", "D 4"),
    "page.errors": Requirement("the page shows failures as clients get them, and works again after a restart", "D 4"),
    "page.key": Requirement("the page asks for a key if one is needed, and keeps it within its tab", "D 4"),
    "page.files": Requirement("the page sends pictures and files, up to a size", "D 4"),
    "page.text": Requirement("on the page no text of an agent becomes markup", "D 4"),
    "page.fast": Requirement("no text makes the page hang", "D 4"),
    "page.inspect": Requirement("the page shows code that makes its requests, and the code runs unchanged", "D 4"),
    "page.everybody": Requirement("the page works on phones, with keyboards and with screen readers", "D 4"),
    "page.small": Requirement("the page is small, and loads nothing from elsewhere", "D 4"),
    "models.about": Requirement("a model lists its purpose, and what a request to it may contain", "D 4"),
    "models.list": Requirement("the agents are the models, with created and owned_by", "W A5"),
    "models.get": Requirement("a model is found by its name, with any characters", "W A5"),
    "paths.bare": Requirement("the API is served without /v1 too if enabled, and only then", "D 2"),
    "paths.azure": Requirement("Azure's clients work: their key header, their paths", "W A2"),
    "serve.framing": Requirement(
        "serve accepts no request that another strict parser would not find in the same bytes", "T 1"
    ),
    "body.compressed": Requirement("gzip and deflate are decompressed, with limits on the decompressed size", "T 21"),
    "body.mark": Requirement("a byte order mark before JSON is skipped", "T 22"),
    "lists.cursor": Requirement("a page after a deleted object begins at its former position", "W A1"),
    "paths.methods": Requirement(
        "any method on any path, with or without a trailing slash, is answered; a 405 names the path's methods",
        "D 2",
    ),
    "paths.unknown": Requirement("the error for an unknown path names it and where the served paths are listed", "D 2"),
    "paths.health": Requirement("healthz and readyz need no key; readyz reports when no new turns are accepted", "D 2"),
    "paths.draining": Requirement(
        "a host announces its shutdown: not ready, no new turns, running ones continue", "D 8"
    ),
    "text.linear": Requirement("work grows no faster than the text that clients and agents send", "T 3.3"),
    "values.bounded": Requirement(
        "the values of a body are counted before objects are created, and other requests are answered meanwhile",
        "T 105",
    ),
    "schemas.bounded": Requirement(
        "checking a schema, or an answer against it, takes a bounded number of steps", "T 99"
    ),
    "schemas.inside": Requirement(
        "a JSON Schema with references to anything outside itself is refused; nothing is fetched, no pattern compiled",
        "T 99",
    ),
    "openapi.document": Requirement(
        "openapi.json is open without a key, has only references that resolve, and valid schemas", "D 2"
    ),
    "openapi.names": Requirement("schemas and operations of openapi.json have plain names", "D 2"),
    "openapi.security": Requirement("openapi.json says which key each path needs", "D 2"),
    "openapi.strict": Requirement(
        "requests that openapi.json allows are accepted, and those it forbids are refused", "D 2"
    ),
    "openapi.matches": Requirement("requests and answers are valid by openapi.json", "D 2"),
    "wrong.place": Requirement("a parameter of another API is refused, with the one to send instead", "W A2"),
    "errors.envelope": Requirement(
        "every error has the envelope with all four keys, its status and its request id", "W A2"
    ),
    "errors.words": Requirement("request errors are described in our own words, not in those of a library", "W A2"),
    "errors.request-id": Requirement("x-request-id is on every answer and identifies its log lines", "W A2"),
    "errors.run-once": Requirement("an agent that has started is not run again by the SDK's retries", "T 178"),
    "errors.retry-after": Requirement("429 and 503 have Retry-After; nothing has run", "W A2"),
    "errors.upstream": Requirement(
        "exceptions of model clients inside an agent are mapped, even if a framework wraps them", "T 180"
    ),
    "errors.declared": Requirement("an agent's own AgentError keeps status, code, type, param and message", "D 4"),
    "errors.mid-stream": Requirement(
        "a mid-stream failure is the text so far, then an error, no finish_reason, no [DONE]", "T 173"
    ),
    "errors.not-an-event": Requirement(
        "anything that an agent yields other than a well-formed event is its failure", "T 175"
    ),
    "errors.private": Requirement("exception text reaches the log and never the client", "T 67"),
    "provider.types": Requirement("fifteen model providers get requests in the form of their APIs", "D 4"),
    "provider.secret": Requirement("keys of providers are never shown, and are sent to nobody else", "D 4"),
    "provider.configure": Requirement("changed settings of a provider apply from the next turn on", "D 4"),
    "provider.health": Requirement("a health check is a real call, bounded in time, and cached for a while", "D 4"),
    "provider.fallback": Requirement("another model takes over before any output, and this is reported", "D 4"),
    "team.file": Requirement("a file can describe agents, models and tools", "D 4"),
    "team.errors": Requirement("an error in a file is reported in one line that names the file and the key", "D 4"),
    "chat_rest.completion": Requirement(
        "a completion has the documented shape, and honours every documented field", "D 5"
    ),
    "chat_rest.stream": Requirement("streams are event streams of text deltas, with a final frame that sums up", "D 5"),
    "chat_rest.commit": Requirement("a turn that fails stores nothing, not even the user's message", "T 3.1"),
    "chat_rest.busy": Requirement("one turn at a time in a conversation: 409 conversation_busy", "D 5"),
    "chat_rest.conversations": Requirement(
        "conversations are created, listed, renamed, copied, exported, deleted", "D 5"
    ),
    "chat_rest.owner": Requirement("another principal's conversations and approvals are unknown", "T 3.2"),
    "chat_rest.agentic": Requirement(
        "an agentic turn reports each step, call and text delta in documented events", "D 5"
    ),
    "chat_rest.deadline": Requirement("the deadline of an agentic turn stops the agent", "D 5"),
    "chat_rest.resume": Requirement("a lost stream is resumed under the detach policy", "D 5"),
    "chat_rest.approve": Requirement(
        "a decision counts once and resumes its turn once, and the result is stored", "D 4"
    ),
    "chat_rest.restart": Requirement("a restarted server continues with approvals that were requested before", "D 4"),
    "chat_rest.cookie.pages": Requirement(
        "pages of origins that cors names may use the cookie, and only those", "T 3.3"
    ),
    "chat_rest.cookie": Requirement("a cookie may carry the key, but not for other sites' pages", "T 3.3"),
    "chat_rest.refusals": Requirement("bad requests get OpenAI's envelope with the field at fault", "T 3.1"),
    "chat_rest.models": Requirement("every listed model can be requested, and agents name their owner", "D 5"),
    "chat_rest.providers": Requirement("providers are listed and changed; their keys are never returned", "D 5"),
    "chat_rest.openapi": Requirement("the openapi document describes every path and answer", "D 5"),
    "sdk.values": Requirement("every value that the SDK's types allow is accepted, and shown as they describe", "W A3"),
    "server.garbage": Requirement("a request leaves no reference cycle for the garbage collector", "T 60"),
    "server.cost": Requirement(
        "a request enters no more functions, and a stream holds no more objects, than its budget", "T 65"
    ),
    "server.one_slot": Requirement("one slot covers a whole answer, with its repairs and its client's tools", "T 61"),
    "server.frozen_store": Requirement("a request's deadline covers a store that does not answer", "T 64"),
    "run_once.replayed": Requirement(
        "if enabled, a client that retries at once gets the failure again, and a person gets a new run", "W 22"
    ),
    "api.contract": Requirement(
        "every API, external ones too, has the same turns, errors in its own form, keys, rates and replays", "D 4"
    ),
    "anthropic.sdk": Requirement(
        "with Anthropic's SDK any agent works as a model does: streams, tools, threads, errors, counts", "D 4"
    ),
    "anthropic.order": Requirement(
        "a message has one block open at a time, without gaps; the plain answer is the fold of its stream", "D 4"
    ),
    "anthropic.once": Requirement(
        "an agent that fails, refuses, or says nothing or much runs once under Claude Code; calls of a failed answer never run",
        "D 4",
    ),
    "anthropic.reconnect": Requirement(
        "a request that Claude Code repeats after a broken connection gets the first one's answer, and runs nothing",
        "D 4",
    ),
    "anthropic.requests": Requirement(
        "requests of Claude Code and the SDKs are understood, and refusals name the place at fault", "D 4"
    ),
    "anthropic.threads": Requirement("a thread is stored, continued once, and belongs to its caller alone", "D 4"),
    "anthropic.types": Requirement("a new field or event in Anthropic's SDK fails a test that names it", "D 4"),
    "decisions.answer": Requirement("questions are answered in order, with the probability of each answer", "W A6"),
    "decisions.functions": Requirement(
        "a decide function is plain or async, gets the arguments it has parameters for, and its result must fit the question",
        "W A6",
    ),
    "ollama.sdk": Requirement("with Ollama's clients any agent works as a model does", "D 4"),
    "ollama.lines": Requirement(
        "an answer is lines that Ollama's clients can read, also during silence; the plain one is their fold", "D 4"
    ),
    "ollama.once": Requirement("a client's tool is called only at the end of an answer that did not fail", "D 4"),
    "ollama.requests": Requirement(
        "requests of Ollama's clients are understood, and refusals name the place at fault", "D 4"
    ),
    "ollama.models": Requirement(
        "agents are listed as Ollama lists models, with the fields that clients choose by", "D 4"
    ),
    "ollama.types": Requirement("a new field in Ollama's package fails a test that names it", "D 4"),
    "server.settings": Requirement("settings are values: several servers may share them", "T 62"),
    "stream.silence": Requirement(
        "official clients read streams of silent agents, under each disconnect policy", "T 63"
    ),
    "sdk.request": Requirement("every request field of the installed SDK has a field of ours", "W A1"),
    "sdk.answer": Requirement(
        "every answer field of the installed SDK is produced, or listed here with the reason why not", "W A1"
    ),
    "sdk.strict": Requirement("every answer is valid by the SDK's own types, strictly", "W A1"),
}


def requirement(identifier: str) -> Callable[[Test], Test]:
    """Mark a test as proof of a promise."""

    def mark(test: Test) -> Test:
        return pytest.mark.requirement(identifier)(test)

    return mark
