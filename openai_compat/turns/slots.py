"""Slots: the limit on agents running at once, and the queue of requests that find no free slot."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self, TypeAlias

import anyio

from ..agent_request import AgentRequest, Principal
from ..agents.setting_types import check_fields
from ..errors import RateLimited, Unavailable
from ..policies.limits import Limits

if TYPE_CHECKING:
    from .shared_slots import SharedSlots

Busy: TypeAlias = str | Callable[[AgentRequest], str | Awaitable[str]]

LOOK_AGAIN = 0.25
"""Seconds between two attempts to get a slot from another process. There are always at least two attempts: a client sees
the end of an answer a moment before the store knows of the free slot."""


@dataclass(frozen=True, slots=True)
class Admission:
    """Handling of requests for which no slot is free (`Limits.slots` and the related limits).

    Attributes:
        queue: seconds that a request waits, first come, first served; 0 refuses it at once with 429.
        busy: text of an assistant message instead of the 429, or a function that returns it.
    """

    queue: float = 0.0
    busy: Busy | None = None

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(slots=True)  # not frozen, which takes three times as long to make
class SlotRequest:
    """A request for slots: how many, for which agent and principal, and the principal's maximum."""

    number: int
    agent: str
    principal: Principal
    most: int | None = None


class Seat:
    """The slots of one answer, held from before its first run until its last run has ended, repairs included.

    Each started agent borrows a slot. Once the seat is closed no further agent is started, and a slot is released when its
    agent has really ended, which may be after its client has disconnected.

    Attributes:
        queued: seconds that the request waited for it.
        is_open: True if further agents may be started.
    """

    __slots__ = ("_borrowed", "_held", "_request", "_slots", "is_open", "queued")

    def __init__(self, slots: Slots, request: SlotRequest, queued: float = 0.0) -> None:
        self.queued = queued
        self._slots = slots
        self._request = request
        self._held = request.number
        self._borrowed = 0
        self.is_open = True

    def borrow_slot(self) -> None:
        """Borrow a slot for an agent about to start; `return_slot` must be called once it has ended."""
        self._borrowed += 1

    def return_slot(self) -> None:
        """Return the slot of an agent that has ended. It is released, unless the answer may need it again."""
        self._borrowed -= 1
        if not self.is_open:
            self._release_unused()

    def take_over(self, earlier: Seat) -> None:
        """Take over the slot that a resumed agent borrowed from an earlier seat and still holds."""
        earlier._held -= 1
        earlier._borrowed -= 1
        self._held += 1

    def close(self) -> None:
        """Release the slots, since no further agent will be started. Closing again does nothing."""
        if self.is_open:
            self.is_open = False
            self._release_unused()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *failure: object) -> None:
        """Close the seat, and return once other processes can take the released slots."""
        self.close()
        await self._slots.wait_released()

    def _release_unused(self) -> None:
        while self._held > self._borrowed:
            self._held -= 1
            self._slots.release(self._request)


class NoSlot(RateLimited):
    """No slot is free, and the request may not wait longer. SDKs retry a 429, which is right: no agent was started."""


class _Waiter:
    def __init__(self, request: SlotRequest) -> None:
        self.request = request
        self.called = anyio.Event()
        self.admitted = False


_Bound: TypeAlias = tuple[int, int, str, str]
"""Used slots, maximum, owner, and the setting of the limit."""


class Slots:
    """Counts running agents. A slot is released when its agent has really ended, not when its client has disconnected.

    If there are `shared` slots, each agent also needs one of them.

    Attributes:
        used: number of slots in use.
        closed: True once the server shuts down: no new agent is started.
        are_shared: True if other processes share the slots.
    """

    def __init__(self, limits: Limits, admission: Admission, shared: SharedSlots | None = None) -> None:
        self._limits = limits
        self._admission = admission
        self._shared = shared
        self.are_shared = shared is not None
        more = (limits.shared_slots, limits.slots_per_agent, limits.slots_per_principal)
        self._has_more_bounds = any([bound is not None for bound in more])
        self._agents: dict[str, int] = {}
        self._principals: dict[str, int] = {}
        self._waiters: deque[_Waiter] = deque()
        self._unused: anyio.Event | None = None
        self.used = 0
        self.closed = False

    def close(self) -> None:
        """Start no new agents; queued requests are refused."""
        self.closed = True
        for waiter in self._waiters:
            waiter.called.set()

    async def take(self, request: SlotRequest) -> Seat:
        """Take all requested slots or none, waiting in the queue if there is one. The caller closes the seat: `async with`.

        Raises NoSlot (429) or, during shutdown, Unavailable (503).
        """
        if self.closed:
            self.refuse_when_closed()
        of_principal = self._limits.slots_per_principal
        if of_principal is not None:
            most = of_principal(request.principal) if callable(of_principal) else of_principal
            request = replace(request, most=most)
        # Room alone is not enough: no request may overtake the queue.
        has_room = not self._waiters and self._can_admit(request)
        if has_room:
            self.used += request.number
            if self._has_more_bounds:
                self._count_by_owner(request, request.number)
        if has_room and self._shared is None:
            return Seat(self, request)
        asked, began = time.monotonic(), anyio.current_time()
        if not has_room:
            # Refused at once if queueing is off or could not help: a refusal must cost less than an answer.
            hopeless = any([request.number > most for _, most, _, _ in self._bounds(request)])
            if not self._admission.queue or hopeless or not await self._wait_in_queue(request):
                raise self._no_slot(request)
        if self._shared is not None and request.number:
            await self._take_shared(self._shared, request, began + max(self._admission.queue, LOOK_AGAIN))
        return Seat(self, request, time.monotonic() - asked)

    async def _take_shared(self, shared: SharedSlots, request: SlotRequest, patient_until: float) -> None:
        """Take the shared slots too; if there are none, release the slots of this process."""
        try:
            while not await shared.take(request.number):
                self.refuse_when_closed()
                if anyio.current_time() >= patient_until:
                    raise self._no_slot(request)
                await anyio.sleep(min(LOOK_AGAIN, patient_until - anyio.current_time()))
        except BaseException:
            self._release_slots(request, request.number)
            raise

    async def _wait_in_queue(self, request: SlotRequest) -> bool:
        """Wait for room. If cancelled in the same step in which it was admitted, release the slots."""
        waiter = _Waiter(request)
        self._waiters.append(waiter)
        try:
            with anyio.move_on_after(self._admission.queue):
                await waiter.called.wait()
        except BaseException:
            if waiter.admitted:
                self._release_slots(request, request.number)
            raise
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            self._admit_waiters()
        if not waiter.admitted:
            self.refuse_when_closed()
        return waiter.admitted

    def release(self, request: SlotRequest) -> None:
        """Release one of a request's slots."""
        if self._shared is not None:
            self._shared.release()
        self._release_slots(request, 1)

    async def wait_released(self) -> None:
        """Return once other processes can take the slots released here."""
        if self._shared is not None:
            await self._shared.wait_released()

    def _release_slots(self, request: SlotRequest, number: int) -> None:
        self.used -= number
        if self._has_more_bounds:
            self._count_by_owner(request, -number)
        if self._waiters:
            self._admit_waiters()
        if self._unused is not None and not self.used:
            self._unused.set()
            self._unused = None

    def _admit_waiters(self) -> None:
        for waiter in list(self._waiters):
            if not self.closed and self._can_admit(waiter.request):
                self._waiters.remove(waiter)
                self.used += waiter.request.number
                self._count_by_owner(waiter.request, waiter.request.number)
                waiter.admitted = True
                waiter.called.set()

    def _count_by_owner(self, request: SlotRequest, number: int) -> None:
        if self._limits.slots_per_agent is not None:
            _add_to_count(self._agents, request.agent, number)
        if self._limits.slots_per_principal is not None:
            _add_to_count(self._principals, request.principal.id, number)

    def refuse_when_closed(self) -> None:
        """Raise Unavailable (503 `shutting_down`) during shutdown."""
        if self.closed:
            raise Unavailable("The server is shutting down.", code="shutting_down")

    def _can_admit(self, request: SlotRequest) -> bool:
        if self.used + request.number > self._limits.slots:
            return False
        return not self._has_more_bounds or self._is_within_bounds(request)

    def _is_within_bounds(self, request: SlotRequest) -> bool:
        return all([used + request.number <= most for used, most, _, _ in self._bounds(request)])

    def _bounds(self, request: SlotRequest) -> list[_Bound]:
        limits = self._limits
        bounds: list[_Bound] = [(self.used, limits.slots, "", "--max-concurrency")]
        if limits.shared_slots is not None:  # also while the store of the shared slots is unreachable
            bounds.append((self.used, limits.shared_slots, "", "--shared-concurrency"))
        if limits.slots_per_agent is not None:
            used = self._agents.get(request.agent, 0)
            bounds.append((used, limits.slots_per_agent, " of this model", "Limits.slots_per_agent"))
        if request.most is not None:
            used = self._principals.get(request.principal.id, 0)
            bounds.append((used, request.most, " of yours", "Limits.slots_per_principal"))
        return bounds

    def _no_slot(self, request: SlotRequest) -> NoSlot:
        bounds = self._bounds(request)
        reached = [bound for bound in bounds if bound[0] + request.number > bound[1]]
        # If no limit of this process is reached, other processes hold the shared slots.
        _, most, whose, setting = reached[0] if reached else bounds[min(1, len(bounds) - 1)]
        text = f"Too many turns{whose} are running: at most {most} may at once ({setting})."
        return NoSlot(f"{text} Try again shortly.")

    @property
    def waiting(self) -> int:
        """Number of requests in the queue."""
        return len(self._waiters)

    async def wait_unused(self) -> None:
        """Return once no agent runs any more."""
        while self.used:
            self._unused = self._unused or anyio.Event()  # one event for all callers
            await self._unused.wait()


def _add_to_count(counts: dict[str, int], name: str, number: int) -> None:
    """Add to the count of a name; names with a count of 0 are removed."""
    counts[name] = counts.get(name, 0) + number
    if not counts[name]:
        del counts[name]
