"""Chat WebSocket threads in several processes: one runs the turn and numbers its frames, others resume, stop and feed it.

The frames are copied to the store every quarter of a second, and read there by processes with followers. These processes
send their input for the turn as signals, which are read along with the copying.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any, TypeAlias, cast

import anyio

from ...aio.background import Task, spawn
from ...errors import Unavailable
from ...state.degraded import LateWork
from ...stores.port import Events, Key, Store, StoredThread
from ...wire.chat_websocket.parse import ToolResultFrame
from ...wire.json import from_stored_json, stored_json
from ..services import logger
from .threads import MAX_AHEAD, ChatThreads, Thread

Fields: TypeAlias = dict[str, Any]

COPY_INTERVAL = 0.25
"""Seconds between two copies of new frames, and between two polls for signals."""

COPY_BATCH = MAX_AHEAD // 2
"""Number of frames that are copied without waiting for the pause."""

POLL_INTERVAL = 0.1
"""Seconds between two polls of a thread of another process."""

COPY_TIMEOUT = 2.0
"""Seconds within which a frame that a client has seen is in the store, if its process lives."""

POLLS_PER_SIGNAL = 100
"""Polls after which the other process is signalled that the thread has a follower, so that its turn goes on."""


class CopiedThread:
    """A thread whose turn runs in this process, and how far its frames are in the store."""

    def __init__(self, thread: Thread, token: str, wake: anyio.Event) -> None:
        self.thread = thread
        self.token = token
        self.wake = wake
        self.written: StoredThread | None = None
        self.lock = anyio.Lock()
        self.follower = thread.log.follow(thread.log.last, self._on_frames, binary=False, reads=False)

    def _on_frames(self) -> None:
        if self.thread.log.last - self.follower.position >= COPY_BATCH:
            self.wake.set()

    def leave(self) -> None:
        """Stop following the thread."""
        self.thread.log.leave(self.follower)
        self.follower.wake = self.wake.set  # a bound method of this object, which has the follower, is a cycle

    async def copy(self, store: Store) -> bool:
        """Copy new frames. False if another process has taken the thread."""
        async with self.lock:
            while True:
                frames, log = self.follower.next_frames(), self.thread.log
                current = self.thread.current
                stored = StoredThread(
                    self.thread.key.id,
                    frames[-1]["chat_seq"] if frames else self.follower.position,
                    log.settled,
                    self.thread.model,
                    stored_json(None if current is None else current.describe()),
                    running=True,
                )
                # A turn that waits for a client sends no frames, and costs the store nothing.
                if not frames and stored == self.written:
                    return True
                first = frames[0]["chat_seq"] if frames else 0
                batch = Events(first, stored.last, frames_to_json(frames)) if frames else None
                if not await store.append_frames(self.thread.key, self.token, stored, batch):
                    return False
                self.written = stored
                if frames:
                    self.follower.mark_sent(stored.last)


class SharedThreads:
    """Shares the threads of one server with the processes that use the same store, and theirs with this server."""

    def __init__(self, store: Store, lease: float, late: LateWork, threads: ChatThreads) -> None:
        self._store = store
        self._lease = lease
        self._late = late
        self._threads = threads
        self._held: dict[str, CopiedThread] = {}
        self._wake = anyio.Event()
        self._task: Task | None = None

    # turns that run in this process

    async def begin(self, thread: Thread, token: str) -> None:
        """Continue after the frames of other processes, now that a turn holds the thread's conversation."""
        ring = self._threads.settings.ring
        found = await self._store.take_thread(thread.key, token, ring, self._lease)
        while found is None:
            await anyio.sleep(POLL_INTERVAL / 2)  # the previous process is still writing its last frames
            found = await self._store.take_thread(thread.key, token, ring, self._lease)
        thread.runs_elsewhere = False
        unknown = not thread.log.last
        await self._load_new_frames(thread, found)
        thread.log.skip_to(found.last)
        if unknown:  # followers want new frames, not the whole history from elsewhere
            thread.log.move_followers_to_end()
        self._held[token] = CopiedThread(thread, token, self._wake)
        if self._task is None or self._task.done:
            self._task = spawn(self._copy, "frames of threads", lambda: None)

    async def end(self, thread: Thread, token: str) -> None:
        """Write the turn's last frames, and release the thread to other processes."""
        copied = self._held.pop(token, None)

        async def finish() -> None:
            try:
                if copied is not None:
                    await copied.copy(self._store)
                await self._store.leave_thread(thread.key, token)
            finally:
                if copied is not None:
                    copied.leave()

        await self._late.run_shielded(finish, "last frames of a thread")

    async def _copy(self) -> None:
        while self._held:
            try:
                for copied in list(self._held.values()):
                    if not await copied.copy(self._store):
                        # Another process took the thread; its turn learns that from its conversation.
                        self._held.pop(copied.token, None)
                        copied.leave()
                for token, body in await self._store.take_signals(list(self._held)):
                    self._on_signal(token, from_stored_json(body))
            except Unavailable as error:
                logger.info("frames of threads could not be copied: %s", error.code)
            except Exception as error:
                logger.error("frames of threads could not be copied", exc_info=error)
            with anyio.move_on_after(COPY_INTERVAL):
                await self._wake.wait()
            self._wake = anyio.Event()
            for copied in self._held.values():
                copied.wake = self._wake

    def _on_signal(self, token: str, signal: Fields) -> None:
        copied = self._held.get(token)
        for turn in [] if copied is None else list(copied.thread.turns):
            match signal["kind"]:
                case "stop":
                    turn.stop()
                case "follow":
                    turn.end_grace_period()
                    if copied is not None and not copied.thread.log.followed:
                        turn.start_grace_period()  # restarts the grace period
                case _:
                    frame = ToolResultFrame.model_validate(signal["frame"])
                    if turn.waits_for(frame.tool_call_id):
                        turn.accept_tool_result(frame)

    # turns that run in other processes

    async def load_thread(self, key: Key, seen: int) -> None:
        """Load the frames of a thread, and keep loading new ones if its turn runs in another process.

        A client has `seen` frames up to that number: the last ones may take a moment to get into the store.
        """
        thread = self._threads.find(key)
        if thread is not None and (thread.turns or thread.runs_elsewhere):
            return
        found = await self._store.thread(key, self._threads.settings.replay)
        # The store does not know it either: a new thread, or one whose frames are gone.
        if found is None:
            return
        thread = self._threads.start_mirroring(key)
        await self._load_new_frames(thread, found)
        with anyio.move_on_after(COPY_TIMEOUT):
            while found.running and thread.log.last < seen:
                await anyio.sleep(POLL_INTERVAL / 2)
                await self._load_new_frames(thread, found)
        if found.running and not thread.turns and not thread.runs_elsewhere:
            thread.runs_elsewhere = True
            spawn(lambda: self._mirror(thread), f"mirror of thread {key.id}", lambda: None)
        else:
            self._threads.stop_mirroring(thread)

    async def _load_new_frames(self, thread: Thread, found: StoredThread) -> None:
        for batch in await self._store.frames(thread.key, thread.log.last):
            thread.log.restore(frames_from_json(batch.body))
        thread.log.settled = max(thread.log.settled, found.settled)
        thread.model = thread.model or found.model

    async def _mirror(self, thread: Thread) -> None:
        polls = 0
        try:
            # Until a turn begins here, the other turn ends, or nobody follows.
            while thread.runs_elsewhere and thread.log.followed:
                try:
                    if not polls % POLLS_PER_SIGNAL:
                        await self._store.put_signal(thread.key, stored_json({"kind": "follow"}))
                    found = await self._store.thread(thread.key, self._threads.settings.replay)
                    if found is None or not thread.runs_elsewhere:
                        return
                    # After `found`: a turn writes its last frames before it ends.
                    await self._load_new_frames(thread, found)
                    if not found.running:
                        return
                except Unavailable as error:
                    logger.info("a thread of another process cannot be read: %s", error.code)
                polls += 1
                await anyio.sleep(POLL_INTERVAL)
        except Exception as error:
            logger.error("a thread of another process cannot be read", exc_info=error)
        finally:
            thread.runs_elsewhere = False
            self._threads.stop_mirroring(thread)

    async def stop(self, key: Key) -> bool:
        """Stop the turn of a thread, wherever it runs. False if none runs."""
        return await self._store.put_signal(key, stored_json({"kind": "stop"}))

    async def pass_tool_result(self, principal: str, frame: ToolResultFrame) -> bool:
        """Pass the result of a call to the turn in another process that waits for it. False if none does."""
        body = stored_json({"kind": "answer", "frame": frame.model_dump(mode="json")})
        for thread in await self._store.threads(principal):
            active: Fields = from_stored_json(thread.active) or {}
            waits = frame.tool_call_id in active.get("waits_for", ())
            if waits and frame.thread_id in (None, thread.id):
                return await self._store.put_signal(Key(principal, thread.id), body)
        return False

    async def describe_running(self, principal: str, here: Sequence[str]) -> list[Fields]:
        """The frames that describe turns in other processes, except for the threads in `here`."""
        found = [thread for thread in await self._store.threads(principal) if thread.id not in here]
        described = [(thread, from_stored_json(thread.active)) for thread in found]
        return [{**active, "thread_id": thread.id, "last_seq": thread.last} for thread, active in described if active]


BYTES_KEY = "\0bytes"
"""The only key of an object that stands for bytes; no frame has this key itself."""


def frames_to_json(frames: Sequence[Fields]) -> bytes:
    """Frames as JSON for the store, including the bytes that frames of MessagePack have."""
    text = json.dumps(frames, separators=(",", ":"), default=lambda data: {BYTES_KEY: base64.b64encode(data).decode()})
    return text.encode()


def frames_from_json(text: bytes) -> list[Fields]:
    """Read the frames that `frames_to_json` has written."""
    return cast("list[Fields]", json.loads(text, object_hook=_decode_bytes))


def _decode_bytes(value: Fields) -> Any:
    return base64.b64decode(value[BYTES_KEY]) if BYTES_KEY in value else value
