"""Running and waiting requests of a Responses WebSocket, and the responses that only the connection knows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openai_compat.api.responses.websocket.lanes import LaneLimits, Lanes
from openai_compat.api.responses.websocket.local_responses import MAX_RESPONSES, ConnectionResponses, shares_of
from openai_compat.errors import OpenAICompatError
from openai_compat.wire.responses.parse.websocket import Create
from tests.conftest import anyio_backend as anyio_backend
from tests.requirements import requirement

LANES = st.sampled_from([None, "a", "b", "c"])


def create(lane: str | None = None, size: int = 1, name: str = "") -> Create:
    return Create(lane, {"input": name}, size)


def test_a_lane_runs_one_after_the_other_and_lanes_run_side_by_side() -> None:
    lanes = Lanes(LaneLimits())
    first, second, other = create(name="first"), create(name="second"), create("b", name="other")
    for request in (first, second, other):
        lanes.add(request)
    assert lanes.take() == [first, other]
    assert lanes.take() == []
    lanes.mark_done(other)
    assert lanes.take() == []
    lanes.mark_done(first)
    assert lanes.take() == [second]
    lanes.mark_done(second)
    assert lanes.idle


@given(st.lists(st.tuples(LANES, st.booleans()), max_size=60), st.integers(1, 3))
def test_whatever_comes_and_ends_each_lane_keeps_its_order_and_never_too_many_run(
    steps: list[tuple[str | None, bool]], active: int
) -> None:
    lanes = Lanes(LaneLimits(active=active, waiting=100))
    added: list[Create] = []
    began: list[Create] = []
    running: list[Create] = []
    for lane, ends in steps:
        if ends and running:
            lanes.mark_done(running.pop(0))
        else:
            added.append(create(lane))
            lanes.add(added[-1])
        taken = lanes.take()
        began += taken
        running += taken
        assert len(running) <= active
        assert len({request.lane for request in running}) == len(running)
    while running:
        lanes.mark_done(running.pop(0))
        taken = lanes.take()
        began += taken
        running += taken
    assert lanes.idle
    for lane in (None, "a", "b", "c"):
        assert [one for one in began if one.lane == lane] == [one for one in added if one.lane == lane]


def test_what_comes_first_goes_before_what_waits_whatever_the_bounds_say() -> None:
    lanes = Lanes(LaneLimits(waiting=1))
    running, waiting, follower = create(), create(), create()
    lanes.add(running)
    assert lanes.take() == [running]
    lanes.add(waiting)
    lanes.add(follower, first=True)
    lanes.mark_done(running)
    assert lanes.take() == [follower]


@pytest.mark.parametrize("limits", [LaneLimits(waiting=2), LaneLimits(bytes=20)])
def test_too_much_that_waits_is_refused(limits: LaneLimits) -> None:
    lanes = Lanes(limits)
    lanes.add(create(size=10))
    assert len(lanes.take()) == 1
    lanes.add(create(size=10))
    lanes.add(create(size=10))
    with pytest.raises(OpenAICompatError) as refusal:
        lanes.add(create(size=10))
    assert (refusal.value.status, refusal.value.code) == (429, "websocket_queue_full")


def test_the_largest_request_may_wait_alone() -> None:
    lanes = Lanes(LaneLimits(bytes=20))
    lanes.add(create(size=20))
    assert len(lanes.take()) == 1
    lanes.add(create(size=20))


def test_a_lane_too_many_is_refused_and_the_others_go_on() -> None:
    lanes = Lanes(LaneLimits(names=2))
    for name in ("a", "b", "a", None):
        lanes.add(create(name))
    with pytest.raises(OpenAICompatError) as refusal:
        lanes.add(create("c"))
    assert (refusal.value.status, refusal.value.code) == (400, "websocket_stream_limit_reached")
    assert refusal.value.param == "stream_id"
    lanes.add(create("b"))


def test_responses_are_known_until_others_need_the_room() -> None:
    nearby = ConnectionResponses(shares_of(1000), "ann")
    for number in range(MAX_RESPONSES + 1):
        nearby.keep(str(number), [{"n": number}], after=None, lane=None, size=1)
    assert "0" not in nearby
    assert nearby["1"] == [{"n": 1}]
    assert len(nearby) == len(list(nearby)) == MAX_RESPONSES


def test_large_responses_take_the_room_of_several_and_the_last_is_always_known() -> None:
    nearby = ConnectionResponses(shares_of(50_000), "ann")
    nearby.keep("a", [], after=None, lane=None, size=200_000)
    nearby.keep("b", [], after="a", lane=None, size=50_000)
    assert list(nearby) == ["b"]
    nearby.keep("c", [], after="b", lane=None, size=10_000_000)
    assert list(nearby) == ["c"]


@requirement("ws.bounded")
def test_connections_of_one_caller_share_its_room_and_take_nothing_of_anothers() -> None:
    shares = shares_of(50_000)
    bobs, anns = ConnectionResponses(shares, "bob"), [ConnectionResponses(shares, "ann") for _ in range(20)]
    bobs.keep("his", [{"n": 1}], after=None, lane=None, size=1000)
    for nearby in anns:
        nearby.keep("hers", [], after=None, lane=None, size=100_000)
    assert shares.size_of("ann") <= shares.each
    assert ["hers" in nearby for nearby in anns] == [False] * 18 + [True] * 2
    assert bobs["his"] == [{"n": 1}]
    for nearby in (*anns, bobs):
        nearby.forget()
    assert shares.size == 0


def test_a_response_that_its_own_lane_could_not_continue_is_forgotten_but_not_because_of_a_fork() -> None:
    nearby = ConnectionResponses(shares_of(1000), "ann")
    nearby.keep("a", [], after=None, lane="one", size=1)
    for identifier, lane in (("a", "two"), ("a", None), ("b", "one"), (None, "one")):
        nearby.drop_failed(identifier, lane)
        assert "a" in nearby
    nearby.drop_failed("a", "one")
    assert "a" not in nearby
