"""The chat WebSocket: one connection, the frames that it receives, and the threads that it follows."""

from __future__ import annotations

import time
from collections import deque
from contextlib import suppress
from typing import Any, TypeAlias

import anyio
import anyio.lowlevel

from ...aio.background import ChildTasks, child_tasks, drop_tracebacks, spawn
from ...aio.off_loop import run_off_loop
from ...aio.timers import Waiter, asyncio_loop, clock, new_waiter, new_wake_event
from ...backend import AgentBackend
from ...errors import Conflict, InvalidRequest, NotFound, OpenAICompatError, Unauthorized, Unavailable
from ...http import ClientDisconnected, Frame
from ...state.approvals import Binding, check_editable, load_pending_approvals, request_of
from ...state.ids import new_id
from ...stores.records import Key
from ...wire.chat.parse import check_capabilities, parse_chat_object
from ...wire.chat_websocket.parse import (
    ApprovalFrame,
    ChatCommand,
    Command,
    ListTurnsFrame,
    ManifestFrame,
    PingFrame,
    ResumeFrame,
    SetModeFrame,
    StopFrame,
    ToolResultFrame,
    parse_frame,
    to_decision,
)
from ...wire.chat_websocket.serialize import encode, error_frame, generation_stopped
from ...wire.json import QUICK_FRAME
from ...wire.messagepack import import_msgpack
from ..attachments import message_places
from ..request_hooks import report_refused_frame
from ..services import Services, check_tool_names, logger
from ..websocket import POLICY, RESTART, TOO_BIG, WebSocketConnection
from .approvals import approval_frame, load_question, rebuild_request
from .threads import ChatThreads, Follower, Thread
from .turn import WORKFLOW, ChatTurn, ChatTurnRequest, asker_name

Fields: TypeAlias = dict[str, Any]

MOST_FOLLOWED = 100
"""Threads that one connection follows at once; beyond that, it leaves those in which nothing runs."""

MOST_POSTED = 64
"""Replies to a client's frames that may wait to be sent before no more of its frames are read."""


class ChatConnection:
    """One connection: frames are handled one at a time, and outgoing frames wait until the client reads them."""

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
        """Send outgoing frames for as long as the connection lasts."""
        try:
            with suppress(ClientDisconnected):
                await self._write()
        finally:
            self._wake.close()
            # The reader would go on waiting for a client that is gone.
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
                self._ping_if_due()

    async def _send(self) -> bool:
        """Send the frames that are waiting; False if there were none."""
        frames = list(self._posted)
        self._posted.clear()
        read: list[tuple[Follower, int]] = []
        for _, follower in self._followed.values():
            # Many followed threads may be silent, and unread frames may have been dropped.
            if follower.position < follower.log.last and (new := follower.next_frames()):
                # A client that has set a mode gets all frames in it; others get the mode of their last frame.
                binary = follower.binary if self._fixed is None else self._fixed
                frames += [encode(frame, binary=binary) for frame in new]
                read.append((follower, new[-1]["chat_seq"]))
        if not frames:
            return False
        await self._connection.send(*frames)
        # Frames count as read once sent: until then the log keeps them, and turns wait for slow followers.
        for follower, number in read:
            follower.mark_sent(number)
        if self._room is not None:
            self._room.wake()
            self._room = None
        return True

    def _ping_if_due(self) -> None:
        if self._clock() >= self._ping_at:
            self._ping_at = self._clock() + self._threads.settings.ping
            self._threads.sweep()
            self.post({"type": "ping", "ts": time.time()}, binary=self._binary)

    async def end_when_drained(self) -> None:
        """Once the server shuts down, close as soon as nothing runs, so that the client can connect to another process."""
        await self._connection.draining.wait()
        self._wake.set()
        await anyio.sleep_forever()  # the reader or the writer ends this

    def leave(self) -> None:
        """Leave all threads, since the connection is gone. Running turns go on for a while."""
        self._gone = True
        for thread, follower in self._followed.values():
            thread.leave(follower)
        self._followed.clear()

    # in

    async def read(self) -> None:
        """Handle the client's frames until it leaves, no faster than it reads the replies."""
        with suppress(ClientDisconnected):
            while True:
                await self._handle_frame(await self._connection.receive())
                while len(self._posted) > MOST_POSTED:
                    self._room = self._room or new_waiter()
                    await self._room.sleep()
                await anyio.lowlevel.checkpoint()  # frames that have arrived already must not block other tasks
        self._children.cancel()

    async def _handle_frame(self, frame: Frame) -> None:
        if len(frame) > self._services.settings.limits.body:
            # The transport's own limit may be higher.
            self._request_close(TOO_BIG, "message too big")
            return
        binary = isinstance(frame, bytes)
        try:
            values = self._services.settings.limits.values
            if len(frame) > QUICK_FRAME:
                command = await run_off_loop(parse_frame, frame, values)
            else:
                command = parse_frame(frame, values)
            self._binary = binary
            await self._handle_command(command, binary=binary)
        except OpenAICompatError as error:
            self._fail(error, binary=binary and error.code != "msgpack_not_installed")
        except ClientDisconnected:
            raise
        except Exception as error:
            logger.error("%s: unexpected error", self._connection.request_id, exc_info=error)
            self._fail(OpenAICompatError("The server failed.", code="internal_error"), binary=binary)

    def _fail(self, error: OpenAICompatError, *, binary: bool) -> None:
        drop_tracebacks(error)
        request_id = new_id("req_")
        self.post(error_frame(error, request_id), binary=binary)
        report_refused_frame(self._services.live.runner.hooks, self._connection, error, request_id)
        if isinstance(error, Unauthorized):
            self._request_close(POLICY, "invalid_api_key")

    def _request_close(self, code: int, reason: str) -> None:
        self._close = (code, reason)
        self._wake.set()

    async def _handle_command(self, command: Command, *, binary: bool) -> None:
        # Programs ping every few seconds, so a ping does not check the key again.
        if isinstance(command, PingFrame):
            self.post({"type": "pong", "ts": time.time()}, binary=binary)
            return
        await self._connection.authenticate()  # keys can be revoked
        match command:
            case ChatCommand():
                await self._handle_message(command, binary=binary)
            case StopFrame():
                await self._stop(command, binary=binary)
            case ToolResultFrame():
                await self._accept_tool_result(command)
            case ApprovalFrame():
                await self._decide(command, binary=binary)
            case ResumeFrame():
                await self._resume(command, binary=binary)
            case ListTurnsFrame():
                await self._list_turns(binary=binary)
            case ManifestFrame():
                fields = command.model_dump(exclude_none=True)["tools"]
                self._tools = [{"type": "function", "function": tool} for tool in fields]
            case SetModeFrame():
                self._set_mode(command)

    def _set_mode(self, frame: SetModeFrame) -> None:
        if frame.mode == "binary":
            import_msgpack()
        self._fixed = frame.mode == "binary"
        self.post({"type": "set_mode", "mode": frame.mode}, binary=self._fixed)

    @property
    def _principal(self) -> str:
        return self._connection.principal.id

    def _key(self, thread: str) -> Key:
        return Key(self._principal, thread)

    # turns

    async def _handle_message(self, say: ChatCommand, *, binary: bool) -> None:
        await self._check_admission()
        thread = say.frame.thread_id or new_id("thread_")
        agent, model, backend = self._resolve_backend(
            thread, say.frame.model, say.frame.workflow_id, say.frame.provider
        )
        caller = self._services.settings.caller(self._connection.principal, self._connection.request)
        body = {**say.body, "model": model, "tools": say.offered_tools(self._tools) or None}
        if say.frame.provider is not None:
            body["provider"] = say.frame.provider  # for agents that call a model
        try:
            long = say.size > QUICK_FRAME
            parsed = await run_off_loop(parse_chat_object, body, caller) if long else parse_chat_object(body, caller)
            check_capabilities(parsed.request, backend.capabilities)
            places = parsed.tool_places
            await check_tool_names(backend, parsed.request, places.keys(), places.__getitem__)
        except InvalidRequest as error:
            # The client has sent a frame, and does not know of `messages`.
            error.param = (error.param or "").removeprefix("messages[0].") or None
            error.message = error.message.replace("'messages[0].", "'")
            raise
        asked = ChatTurnRequest(
            request=parsed.request,
            agent=agent,
            backend=backend,
            workflow=say.frame.workflow_id,
            places={} if parsed.request.plain else message_places(parsed.request.messages),
            origin=self,
            binary=binary,
            path=self._connection.request.path,
            long=long,
        )
        self._begin_turn(thread, asked)

    async def _check_admission(self) -> None:
        """Raise Unavailable while the server shuts down, before any of the message is stored; also raises RateLimited."""
        if self._connection.draining.is_set():
            raise Unavailable("The server is shutting down.", code="shutting_down", should_retry=False)
        if self._services.live.rates is not None:
            await self._services.live.rates.count(self._connection.principal)

    def _begin_turn(self, thread_id: str, asked: ChatTurnRequest) -> None:
        turn = ChatTurn(self._services, self._threads, asked)
        thread = self._threads.add_turn(self._key(thread_id), turn)
        turn.set_thread(thread)
        thread.model = asked.request.model
        self._last_thread = thread_id
        self._follow(thread, None, binary=asked.binary)
        # Not a child task of the connection: the turn goes on without it.
        spawn(turn.run, f"chat turn in {thread_id}", lambda: None)

    def _follow(self, thread: Thread, at: int | None, *, binary: bool) -> None:
        """Follow a thread after frame `at`; None continues where the connection is, or starts with new frames."""
        found = self._followed.get(thread.key.id)
        if found is not None and found[0] is thread and at is None:
            found[1].binary = binary
        else:
            follower = thread.log.follow(thread.log.last if at is None else at, self._wake.set, binary=binary)
            self._followed[thread.key.id] = (thread, follower)
            self._wake.set()
            if found is not None:
                # Last, or the thread would have no follower for a moment.
                found[0].log.leave(found[1])
        for turn in thread.turns:
            turn.end_grace_period()
        self._leave_idle_threads()

    def _leave_idle_threads(self) -> None:
        """Leave idle threads if the connection follows more than MOST_FOLLOWED."""
        if len(self._followed) <= MOST_FOLLOWED:
            return
        # In the order in which they were first followed.
        idle = [
            key for key, (thread, follower) in self._followed.items() if not (thread.turns or follower.next_frames())
        ]
        for key in idle[: len(self._followed) - MOST_FOLLOWED]:
            thread, follower = self._followed.pop(key)
            thread.leave(follower)

    def _resolve_backend(
        self, thread_id: str, model: str | None, workflow: str | None, provider: str | None = None
    ) -> tuple[str, str, AgentBackend]:
        """The agent to run: its own name, the name in the request, and its backend. Raises NotFound."""
        if workflow is not None:
            backend = self._threads.workflows.get(workflow)
            if backend is None:
                raise NotFound("No workflow has this id.", code="workflow_not_found", param="workflow_id")
            return workflow, model or workflow, backend
        model = model or self._default_model(thread_id)
        qualified = f"{provider}/{model}"
        model = qualified if provider is not None and qualified in self._services.models.agents else model
        agent, backend = self._services.models.agent(model, self._connection.principal)
        return agent, model, backend

    def _default_model(self, thread_id: str) -> str:
        """The model for a message that names none: the thread's last one, or the first that the caller may use."""
        thread, models = self._threads.find(self._key(thread_id)), self._services.models
        if thread is not None and thread.model is not None and thread.model in models.agents:
            return thread.model
        return models.default_model(self._connection.principal) or next(iter(models.agents))

    async def _decide(self, frame: ApprovalFrame, *, binary: bool) -> None:
        await self._check_admission()
        store = self._services.state.store
        approval, thread_id = await load_question(store, self._key(frame.approval_id), frame.thread_id)
        settings = request_of(approval) or {}
        workflow: str | None = settings.get(WORKFLOW)
        model: str | None = frame.model or settings.get("model") or approval.agent
        agent, model, backend = self._resolve_backend(thread_id, model, workflow)
        bound = Binding(self._principal, asker_name(agent, workflow), thread_id)
        answers = await load_pending_approvals(store, bound, {approval.id: to_decision(frame)})
        check_editable(answers, backend.capabilities, "arguments")
        thread = self._threads.find(self._key(thread_id))
        # A turn whose last frame was sent has ended for its client; the new turn waits for the lock.
        if thread is not None and any([not turn.over for turn in thread.turns]):
            text = "Another turn is running in this thread."
            raise Conflict(text, code="conversation_busy", should_retry=False)
        caller = self._services.settings.caller(self._connection.principal, self._connection.request)
        request = rebuild_request(model, settings, self._tools, caller)
        await check_tool_names(backend, request, {tool.name for tool in request.tools}, lambda _: "tools")
        asked = ChatTurnRequest(
            request=request,
            agent=agent,
            backend=backend,
            workflow=workflow,
            answers=answers,
            origin=self,
            binary=binary,
            path=self._connection.request.path,
        )
        self._begin_turn(thread_id, asked)

    async def _accept_tool_result(self, frame: ToolResultFrame) -> None:
        for thread in self._threads.running_threads(self._principal):
            for turn in thread.turns:
                if frame.thread_id in (None, thread.key.id) and turn.waits_for(frame.tool_call_id):
                    turn.accept_tool_result(frame)
                    return
        if self._shared is not None and await self._shared.pass_tool_result(self._principal, frame):
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
        # The client that sent the stop always gets a reply; followers of the thread read it there.
        if not (any(stopped) or elsewhere) or thread_id not in self._followed:
            self.post({**generation_stopped("stop"), "thread_id": thread_id}, binary=binary)

    async def _resume(self, frame: ResumeFrame, *, binary: bool) -> None:
        """Send the thread's status, then all frames after `last_seq`, then new ones as they come.

        A page that has shown nothing yet also gets the calls that wait for a decision, even after a restart.
        """
        store = self._services.state.store
        waiting = await store.approvals(self._principal, frame.thread_id) if frame.last_seq <= 0 else ()
        if self._shared is not None:
            await self._shared.load_thread(self._key(frame.thread_id), frame.last_seq)
        self._replay(frame, binary=binary)
        for approval in waiting:
            self.post({**approval_frame(approval), "thread_id": frame.thread_id}, binary=binary)

    def _replay(self, frame: ResumeFrame, *, binary: bool) -> None:
        status: Fields = {"type": "chat_resumed", "thread_id": frame.thread_id, "status": "unknown"}
        status |= {"last_seq": 0, "replay_count": 0, "replay_incomplete": frame.last_seq > 0}
        thread = self._threads.find(self._key(frame.thread_id))
        if thread is None:
            self.post(status, binary=binary)
            return
        log = thread.log
        # A page that shows nothing yet loads the conversation, so it only needs the frames after that.
        wanted = frame.last_seq if frame.last_seq > 0 else log.settled
        lost = wanted > log.last or wanted < log.first - 1
        # Dropped frames cannot be replayed: send all that are kept, and report that some are missing.
        at = log.first - 1 if lost else wanted
        status |= {"status": "running" if thread.turns or thread.runs_elsewhere else "finished", "last_seq": log.last}
        status |= {"replay_count": log.last - at, "replay_incomplete": lost}
        self._last_thread = frame.thread_id
        self.post(status, binary=binary)
        self._follow(thread, at, binary=binary)

    async def _list_turns(self, *, binary: bool) -> None:
        names: list[str] = []
        for thread in self._threads.running_threads(self._principal):
            if (turn := thread.current) is not None:
                names.append(thread.key.id)
                about = {"thread_id": thread.key.id, "last_seq": thread.log.last}
                self.post({**turn.describe(), **about}, binary=binary)
        for frame in [] if self._shared is None else await self._shared.describe_running(self._principal, names):
            self.post(frame, binary=binary)
            names.append(frame["thread_id"])
        self.post({"type": "chat_turns", "turns": names}, binary=binary)


async def serve(threads: ChatThreads, services: Services, connection: WebSocketConnection) -> None:
    """Accept the connection and serve it until one side leaves. Turns that it has begun go on without it."""
    await connection.accept()
    async with child_tasks() as children:
        socket = ChatConnection(threads, services, connection, children)
        children.start(socket.write, "connection's writer")
        children.start(socket.read, "connection's reader")
        try:
            await socket.end_when_drained()
        finally:  # turns learn of it, and end after their grace period without a client
            socket.leave()
