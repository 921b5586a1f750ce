"""Event streams end in groups, and in time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.system.shutdown import GROUPS, WorkerShutdown, share_to_end

SECONDS = st.floats(0, 100)


@given(st.floats(0.5, 100), st.none() | SECONDS, SECONDS, SECONDS, SECONDS)
def test_the_share_to_end_grows_and_is_complete_before_the_deadline(
    limit: float, shutdown_at: float | None, drain: float, one: float, other: float
) -> None:
    earlier, later = sorted((one, other))
    if shutdown_at is not None:
        shutdown_at = min(shutdown_at, limit)
    shares = [share_to_end(now, 0, limit, shutdown_at, drain) for now in (earlier, later)]
    assert 0 <= shares[0] <= shares[1] <= 1
    # Shortly before the deadline all streams are told to end, so that each has a moment to finish its current event.
    assert share_to_end(limit - min(1, limit / 4), 0, limit, shutdown_at, drain) == 1


def test_streams_of_a_reloaded_worker_continue_until_shortly_before_the_deadline() -> None:
    assert [share_to_end(now, 0, 29, None, 0) for now in (0, 24.9)] == [0, 0]
    assert [round(GROUPS * share_to_end(now, 0, 29, None, 0)) for now in (25, 26.5, 28)] == [1, 8, 16]


def test_streams_of_a_gateway_that_shuts_down_end_over_the_drain_time() -> None:
    assert [round(GROUPS * share_to_end(now, 0, 29, 0, 10)) for now in (0, 5, 10)] == [1, 8, 16]
    # Without a drain time the streams end within three seconds, also if the shutdown begins during a reload.
    assert [round(GROUPS * share_to_end(now, 0, 29, 0, 0)) for now in (0, 1.5, 3)] == [1, 8, 16]
    assert [share_to_end(now, 0, 29, 10, 0) for now in (13, 14)] == [1, 1]


def test_streams_join_groups_in_turn_and_new_ones_a_group_that_has_not_ended() -> None:
    shutdown = WorkerShutdown()
    shutdown.open()
    streams = [shutdown.join() for _ in range(2 * GROUPS)]
    shutdown.end_streams(1 / GROUPS)
    assert [stream.is_set() for stream in streams] == ([True] + [False] * (GROUPS - 1)) * 2
    assert not any(shutdown.join().is_set() for _ in range(2 * GROUPS))
    shutdown.end_streams()
    assert all(stream.is_set() for stream in streams)
    assert shutdown.join().is_set()


def test_a_process_that_is_no_worker_does_not_retire() -> None:
    shutdown = WorkerShutdown()
    stream = shutdown.join()
    shutdown.end_streams()
    shutdown.retire()
    assert stream.is_set()
