"""When streams of events end: in groups, within the time that there is."""

from __future__ import annotations

import select

from hypothesis import given
from hypothesis import strategies as st

from gateway.system.shutdown import GROUPS, WorkerShutdown, share_to_end

SECONDS = st.floats(0, 100)


@given(st.floats(0.5, 100), st.none() | SECONDS, SECONDS, SECONDS, SECONDS)
def test_streams_end_one_after_the_other_and_in_time(
    limit: float, told_at: float | None, drain: float, one: float, other: float
) -> None:
    earlier, later = sorted((one, other))
    if told_at is not None:
        told_at = min(told_at, limit)
    shares = [share_to_end(now, 0, limit, told_at, drain) for now in (earlier, later)]
    assert 0 <= shares[0] <= shares[1] <= 1
    # Each has a moment left to finish the event that it is in.
    assert share_to_end(limit - min(1, limit / 4), 0, limit, told_at, drain) == 1


def test_a_reload_leaves_all_of_them_alone_until_shortly_before_its_end() -> None:
    assert [share_to_end(now, 0, 29, None, 0) for now in (0, 24.9)] == [0, 0]
    assert [round(GROUPS * share_to_end(now, 0, 29, None, 0)) for now in (25, 26.5, 28)] == [1, 8, 16]


def test_the_end_of_the_gateway_uses_the_drain_time() -> None:
    assert [round(GROUPS * share_to_end(now, 0, 29, 0, 10)) for now in (0, 5, 10)] == [1, 8, 16]
    # Without one it takes moments, and so it does in the middle of a reload.
    assert [round(GROUPS * share_to_end(now, 0, 29, 0, 0)) for now in (0, 1.5, 3)] == [1, 8, 16]
    assert [share_to_end(now, 0, 29, 10, 0) for now in (13, 14)] == [1, 1]


def test_groups_get_their_streams_in_turn_and_new_ones_go_on_longest() -> None:
    end = WorkerShutdown()
    end.open()
    streams = [end.join() for _ in range(2 * GROUPS)]
    end.tell(1 / GROUPS)
    assert [stream.is_told for stream in streams] == ([True] + [False] * (GROUPS - 1)) * 2
    assert not any(end.join().is_told for _ in range(2 * GROUPS))
    descriptors = [stream.descriptor for stream in streams[:GROUPS] if stream.descriptor is not None]
    assert select.select(descriptors, [], [], 0)[0] == [streams[0].descriptor]
    end.tell()
    assert all(stream.is_told for stream in streams)
    assert end.join().is_told


def test_where_there_is_no_worker_nothing_is_opened() -> None:
    end = WorkerShutdown()
    stream = end.join()
    assert stream.descriptor is None
    end.tell()
    end.retire()
    assert stream.is_told
