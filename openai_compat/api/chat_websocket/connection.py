"""The chat WebSocket: one connection, what it is sent, and what it follows."""

from __future__ import annotations

import time
from collections import deque
from contextlib import suppress
from typing import Any, TypeAlias

import anyio
import anyio.lowlevel

from ...aio.background import ChildTasks, child_tasks, let_go, spawn
from ...aio.off_loop import off_loop
from ...aio.timers import Waiter, asyncio_loop, clock, new_waiter, new_wake_event
from ...backend import AgentBackend
from ...errors import Conflict, InvalidRequest, NotFound, OpenAICompatError, Unauthorized, Unavailable
from ...http import ClientDisconnected, Frame
from ...state.approvals import Binding, check_editable, load_pending, request_of
from ...state.ids import new_id
from ...stores.records import Key
from ...wire.chat.parse import check_capabilities, parse_chat_object
from ...wire.chat_websocket.parse import (
    ApprovalFrame,
    Command,
    ListTurnsFrame,
    ManifestFrame,
    PingFrame,
    ResumeFrame,
    Say,
    SetModeFrame,
    StopFrame,
    ToolResultFrame,
    decision,
    parse_frame,
)
from ...wire.chat_websocket.serialize import encode, error_frame, generation_stopped
from ...wire.json import QUICK_FRAME
from ...wire.messagepack import check_installed
from ..attachments import message_places
from ..request_hooks import tell_refused_frame
from ..services import Services, check_tool_names, logger
from ..websocket import POLICY, RESTART, TOO_BIG, WebSocketConnection
from .approvals import asked_about, load_question, request_as_before
from .threads import ChatThreads, Follower, Thread
from .turn import WORKFLOW, AskedTurn, ChatTurn, asker_name

Fields: TypeAlias = dict[str, Any]

MOST_FOLLOWED = 100
"""Threads that one connection follows at once; of more, it leaves those in which nothing runs."""

MOST_POSTED = 64
"""Answers to a client's frames that may wait to be sent before no more of its frames are read."""


class ChatConnection:
    """One connection: frames come in one at a time; what goes out waits until the client takes it."""

    def __init__(
        self, threads: ChatThreads, services: Services, connection: WebSocketConnection, children: ChildTasks
    ) -> None:
        self._threads = threads
        self._shared = threads.shared
        self._services = services
        self._connection = connection
        self._children = children
        self._followed: dict[str, tuple[Thread, Follower]] = {}
        self._posted: deque[Frame] = deque()
        self._room: Waiter | None = None
        self._wake = new_wake_event(asyncio_loop())
        self._clock = clock()
        self._ping_at = self._clock() + threads.settings.ping
        self._fixed: bool | None = None
        self._binary = False
        self._tools: list[Fields] = []
        self._last_thread: str | None = None
        self._close: tuple[int, str] | None = None
        self._gone = False

    # out

    def post(self, frame: Fields, *, binary: bool) -> None:
        """Send a frame that belongs to no turn that has begun."""
        if not self._gone:
            self._posted.append(encode(frame, binary=binary if self._fixed is None else self._fixed))
            self._wake.set()

    async def write(self) -> None:
        """Send what there is, as long as the connection is there."""
        try:
            with suppress(ClientDisconnected):
                await self._write()
        finally:
            self._wake.close()
            # Whoever still reads waits for a client that is gone.
            self._children.cancel()

    async def _write(self) -> None:
        while True:
            if not await self._send():
                draining = self._close is None and self._connection.draining.is_set()
                if draining and not any([thread.turns for thread, _ in self._followed.values()]):
                    self._close = (RESTART, "shutting_down")
                if self._close is not None:
                    await self._connection.close(*self._close)
                    return
                await self._wake.wait(self._ping_at)
                self._ping()

    async def _send(self) -> bool:
        """Send what there is; False if there was nothing."""
        frames = list(self._posted)
        self._posted.clear()
        read: list[tuple[Follower, int]] = []
        for _, follower in self._followed.values():
            # Many may be followed in which nothing is said, and what is left to read may be forgotten.
            if follower.at < follower.log.last and (new := follower.take()):
                # One that has set a mode gets all its frames so; others in the form of their last frame.
                binary = follower.binary if self._fixed is None else self._fixed
                frames += [encode(frame, binary=binary) for frame in new]
                read.append((follower, new[-1]["chat_seq"]))
        if not frames:
            return False
        await self._connection.send(*frames)
        # Read is what was sent: until then the log keeps it, and turns wait for who is far behind.
        for follower, number in read:
            follower.moved(number)
        if self._room is not None:
            self._room.wake()
            self._room = None
        return True

    def _ping(self) -> None:
        if self._clock() >= self._ping_at:
            self._ping_at = self._clock() + self._threads.settings.ping
            self._threads.sweep()
            self.post({"type": "ping", "ts": time.time()}, binary=self._binary)

    async def end_when_drained(self) -> None:
        """Once the server shuts down, close as soon as nothing runs: the client may connect to another process."""
        await self._connection.draining.wait()
        self._wake.set()
        await anyio.sleep_forever()  # who reads or writes ends it

    def leave(self) -> None:
        """The connection is gone. What runs goes on for a while."""
        self._gone = True
        for thread, follower in self._followed.values():
            thread.leave(follower)
        self._followed.clear()

    # in

    async def read(self) -> None:
        """Take what the client sends until it leaves, as fast as it reads what it is answered."""
        with suppress(ClientDisconnected):
            while True:
                await self._take(await self._connection.receive())
                while len(self._posted) > MOST_POSTED:
                    self._room = self._room or new_waiter()
                    await self._room.sleep()
                await anyio.lowlevel.checkpoint()  # frames that are there already must not keep others waiting
        self._children.cancel()

    async def _take(self, frame: Frame) -> None:
        if len(frame) > self._services.settings.limits.body:
            # The transport's own limit may be a higher one.
            self._shut(TOO_BIG, "message too big")
            return
        binary = isinstance(frame, bytes)
        try:
            values = self._services.settings.limits.values
            if len(frame) > QUICK_FRAME:
                command = await off_loop(parse_frame, frame, values)
            else:
                command = parse_frame(frame, values)
            self._binary = binary
            await self._obey(command, binary=binary)
        except OpenAICompatError as error:
            self._fail(error, binary=binary and error.code != "msgpack_not_installed")
        except ClientDisconnected:
            raise
        except Exception as error:
            logger.error("%s: unexpected error", self._connection.request_id, exc_info=error)
            self._fail(OpenAICompatError("The server failed.", code="internal_error"), binary=binary)

    def _fail(self, error: OpenAICompatError, *, binary: bool) -> None:
        let_go(error)
        request_id = new_id("req_")
        self.post(error_frame(error, request_id), binary=binary)
        tell_refused_frame(self._services.live.runner.hooks, self._connection, error, request_id)
        if isinstance(error, Unauthorized):
            self._shut(POLICY, "invalid_api_key")

    def _shut(self, code: int, reason: str) -> None:
        self._close = (code, reason)
        self._wake.set()

    async def _obey(self, command: Command, *, binary: bool) -> None:
        # Asked by programs every few seconds, so without another look at the key.
        if isinstance(command, PingFrame):
            self.post({"type": "pong", "ts": time.time()}, binary=binary)
            return
        await self._connection.authenticate()  # keys can be taken back
        match command:
            case Say():
                await self._say(command, binary=binary)
            case StopFrame():
                await self._stop(command, binary=binary)
            case ToolResultFrame():
                await self._answer(command)
            case ApprovalFrame():
                await self._decide(command, binary=binary)
            case ResumeFrame():
                await self._resume(command, binary=binary)
            case ListTurnsFrame():
                await self._list(binary=binary)
            case ManifestFrame():
                fields = command.model_dump(exclude_none=True)["tools"]
                self._tools = [{"type": "function", "function": tool} for tool in fields]
            case SetModeFrame():
                self._set_mode(command)

    def _set_mode(self, frame: SetModeFrame) -> None:
        if frame.mode == "binary":
            check_installed()
        self._fixed = frame.mode == "binary"
        self.post({"type": "set_mode", "mode": frame.mode}, binary=self._fixed)

    @property
    def _principal(self) -> str:
        return self._connection.principal.id

    def _key(self, thread: str) -> Key:
        return Key(self._principal, thread)

    # turns

    async def _say(self, say: Say, *, binary: bool) -> None:
        await self._admit()
        thread = say.frame.thread_id or new_id("thread_")
        agent, model, backend = self._backend(thread, say.frame.model, say.frame.workflow_id, say.frame.provider)
        caller = self._services.settings.caller(self._connection.principal, self._connection.request)
        body = {**say.body, "model": model, "tools": say.offered(self._tools) or None}
        if say.frame.provider is not None:
            body["provider"] = say.frame.provider  # for agents that call a model
        try:
            long = say.size > QUICK_FRAME
            parsed = await off_loop(parse_chat_object, body, caller) if long else parse_chat_object(body, caller)
            check_capabilities(parsed.request, backend.capabilities)
            places = parsed.tool_places
            await check_tool_names(backend, parsed.request, places.keys(), places.__getitem__)
        except InvalidRequest as error:
            # The client has sent a frame, and knows of no `messages`.
            error.param = (error.param or "").removeprefix("messages[0].") or None
            error.message = error.message.replace("'messages[0].", "'")
            raise
        asked = AskedTurn(
            request=parsed.request,
            agent=agent,
            backend=backend,
            workflow=say.frame.workflow_id,
            answers=None,
            places={} if parsed.request.plain else message_places(parsed.request.messages),
            origin=self,
            binary=binary,
            path=self._connection.request.path,
            long=long,
        )
        self._begin(thread, asked)

    async def _admit(self) -> None:
        """Raise Unavailable while the server shuts down, before anything of the message is kept; RateLimited too."""
        if self._connection.draining.is_set():
            raise Unavailable("The server is shutting down.", code="shutting_down", should_retry=False)
        if self._services.live.rates is not None:
            await self._services.live.rates.count(self._connection.principal)

    def _begin(self, thread_id: str, asked: AskedTurn) -> None:
        turn = ChatTurn(self._services, self._threads, asked)
        thread = self._threads.add(self._key(thread_id), turn)
        turn.enter(thread)
        thread.model = asked.request.model
        self._last_thread = thread_id
        self._follow(thread, None, binary=asked.binary)
        # No child of the connection: the turn goes on without it.
        spawn(turn.run, f"chat turn in {thread_id}", lambda: None)

    def _follow(self, thread: Thread, at: int | None, *, binary: bool) -> None:
        """Follow a thread after frame `at`; None to go on where the connection is, or with what is new."""
        found = self._followed.get(thread.key.id)
        if found is not None and found[0] is thread and at is None:
            found[1].binary = binary
        else:
            follower = thread.log.follow(thread.log.last if at is None else at, self._wake.set, binary=binary)
            self._followed[thread.key.id] = (thread, follower)
            self._wake.set()
            if found is not None:
                # Last, or nobody would follow the thread for a moment.
                found[0].log.leave(found[1])
        for turn in thread.turns:
            turn.joined()
        self._leave_some()

    def _leave_some(self) -> None:
        """Follow no more threads than a connection may."""
        if len(self._followed) <= MOST_FOLLOWED:
            return
        # The first ones are those that were followed first.
        idle = [key for key, (thread, follower) in self._followed.items() if not thread.turns and not follower.take()]
        for key in idle[: len(self._followed) - MOST_FOLLOWED]:
            thread, follower = self._followed.pop(key)
            thread.leave(follower)

    def _backend(
        self, thread_id: str, model: str | None, workflow: str | None, provider: str | None = None
    ) -> tuple[str, str, AgentBackend]:
        """The agent that is asked: its name, the name that it is asked by, and itself. Raises NotFound."""
        if workflow is not None:
            backend = self._threads.workflows.get(workflow)
            if backend is None:
                raise NotFound("No workflow has this id.", code="workflow_not_found", param="workflow_id")
            return workflow, model or workflow, backend
        model = model or self._model(thread_id)
        qualified = f"{provider}/{model}"
        model = qualified if provider is not None and qualified in self._services.models.agents else model
        agent, backend = self._services.models.agent(model, self._connection.principal)
        return agent, model, backend

    def _model(self, thread_id: str) -> str:
        """The model that answers where none is named: the thread's last one, or the first that the caller may use."""
        thread, models = self._threads.find(self._key(thread_id)), self._services.models
        if thread is not None and thread.model is not None and thread.model in models.agents:
            return thread.model
        return models.default_model(self._connection.principal) or next(iter(models.agents))

    async def _decide(self, frame: ApprovalFrame, *, binary: bool) -> None:
        await self._admit()
        store = self._services.state.store
        approval, thread_id = await load_question(store, self._key(frame.approval_id), frame.thread_id)
        settings = request_of(approval) or {}
        workflow: str | None = settings.get(WORKFLOW)
        model: str | None = frame.model or settings.get("model") or approval.agent
        agent, model, backend = self._backend(thread_id, model, workflow)
        bound = Binding(self._principal, asker_name(agent, workflow), thread_id)
        answers = await load_pending(store, bound, {approval.id: decision(frame)})
        check_editable(answers, backend.capabilities, "arguments")
        thread = self._threads.find(self._key(thread_id))
        # One whose last frame is out has ended for its client; the new turn waits for its lock.
        if thread is not None and any([not turn.over for turn in thread.turns]):
            text = "Another turn is running in this thread."
            raise Conflict(text, code="conversation_busy", should_retry=False)
        caller = self._services.settings.caller(self._connection.principal, self._connection.request)
        request = request_as_before(model, settings, self._tools, caller)
        await check_tool_names(backend, request, {tool.name for tool in request.tools}, lambda _: "tools")
        asked = AskedTurn(
            request=request,
            agent=agent,
            backend=backend,
            workflow=workflow,
            answers=answers,
            places={},
            origin=self,
            binary=binary,
            path=self._connection.request.path,
        )
        self._begin(thread_id, asked)

    async def _answer(self, frame: ToolResultFrame) -> None:
        for thread in self._threads.running(self._principal):
            for turn in thread.turns:
                if frame.thread_id in (None, thread.key.id) and turn.waits_for(frame.tool_call_id):
                    turn.answer(frame)
                    return
        if self._shared is not None and await self._shared.answer(self._principal, frame):
            return
        text = "No turn waits for the result of this call."
        raise NotFound(text, code="tool_call_not_found", param="tool_call_id")

    async def _stop(self, frame: StopFrame, *, binary: bool) -> None:
        thread_id = frame.thread_id or self._last_thread
        if thread_id is None:
            text = "Missing required parameter: 'thread_id'."
            raise InvalidRequest(text, param="thread_id", code="missing_required_parameter")
        thread = self._threads.find(self._key(thread_id))
        stopped = [turn.stop() for turn in list(thread.turns)] if thread is not None else []
        elsewhere = not any(stopped) and self._shared is not None and await self._shared.stop(self._key(thread_id))
        # Who stopped it is told in any case; those who follow the thread read it there.
        if not (any(stopped) or elsewhere) or thread_id not in self._followed:
            self.post({**generation_stopped("stop"), "thread_id": thread_id}, binary=binary)

    async def _resume(self, frame: ResumeFrame, *, binary: bool) -> None:
        """Tell what there is, then all frames after the number, then those that come.

        A page that has shown nothing yet is told what waits for a decision, too, also after a restart.
        """
        store = self._services.state.store
        waiting = await store.approvals(self._principal, frame.thread_id) if frame.last_seq <= 0 else ()
        if self._shared is not None:
            await self._shared.look(self._key(frame.thread_id), frame.last_seq)
        self._replay(frame, binary=binary)
        for approval in waiting:
            self.post({**asked_about(approval), "thread_id": frame.thread_id}, binary=binary)

    def _replay(self, frame: ResumeFrame, *, binary: bool) -> None:
        told: Fields = {"type": "chat_resumed", "thread_id": frame.thread_id, "status": "unknown"}
        told |= {"last_seq": 0, "replay_count": 0, "replay_incomplete": frame.last_seq > 0}
        thread = self._threads.find(self._key(frame.thread_id))
        if thread is None:
            self.post(told, binary=binary)
            return
        log = thread.log
        # A page that shows nothing yet loads the conversation, so it needs only the frames behind that.
        wanted = frame.last_seq if frame.last_seq > 0 else log.settled
        lost = wanted > log.last or wanted < log.first - 1
        # What is gone cannot be told: all that is kept is, and that it is not everything.
        at = log.first - 1 if lost else wanted
        told |= {"status": "running" if thread.turns or thread.elsewhere else "finished", "last_seq": log.last}
        told |= {"replay_count": log.last - at, "replay_incomplete": lost}
        self._last_thread = frame.thread_id
        self.post(told, binary=binary)
        self._follow(thread, at, binary=binary)

    async def _list(self, *, binary: bool) -> None:
        names: list[str] = []
        for thread in self._threads.running(self._principal):
            if (turn := thread.current) is not None:
                names.append(thread.key.id)
                about = {"thread_id": thread.key.id, "last_seq": thread.log.last}
                self.post({**turn.describe(), **about}, binary=binary)
        for frame in [] if self._shared is None else await self._shared.running(self._principal, names):
            self.post(frame, binary=binary)
            names.append(frame["thread_id"])
        self.post({"type": "chat_turns", "turns": names}, binary=binary)


async def serve(threads: ChatThreads, services: Services, connection: WebSocketConnection) -> None:
    """Accept, and do as the client says until one of both leaves. Turns that it has begun go on without it."""
    await connection.accept()
    async with child_tasks() as children:
        socket = ChatConnection(threads, services, connection, children)
        children.start(socket.write, "connection's writer")
        children.start(socket.read, "connection's reader")
        try:
            await socket.end_when_drained()
        finally:  # turns hear of it within their grace, and so end for want of a client
            socket.leave()
