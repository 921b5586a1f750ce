"""The rate limiting algorithms, for counting in one process. consume_limits.lua has the same ones for Redis.

`sliding`, the default, is a sliding window counter. Time is divided into windows. What is used is the count of the
current window plus the count of the previous one, weighted by how much of it the sliding window still covers:
`used = current + previous * (1 - elapsed / window)`. Within one window no more than `amount` passes, exactly. Over any
period of one window's length, traffic that was uneven inside the previous window can in theory reach 2 * `amount`; in
practice it stays within a few percent of `amount`. A caller with an even pace gets `amount`, or one less.

`fixed` resets the count when the clock's window ends. No more than `amount` passes in each window, but up to
2 * `amount` in a short time around the end of a window.

`bucket` is a token bucket: it holds `burst` and gains `amount` per window, evenly. Over any time t no more than
`burst + amount * t / window` passes, exactly.

All arithmetic is in integers: with floats, a request that is repeated exactly after `retry_after_seconds` could be
refused because of a rounding error.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.rate_limiting.models import LimitCheck, LimitResult

# The three numbers of a counter. For `sliding` and `fixed`: the window's number, the previous window's count, this
# window's count. For `bucket`: a time in milliseconds, the bucket's level at that time in parts of a request, 0.
State = tuple[int, int, int]


@dataclass(slots=True)
class Decision:
    """What one check would do. `uncharged` is the result if the request is not charged. If it is charged, `charged` is
    the result, and `state` the new state of the counter."""

    uncharged: LimitResult
    charged: LimitResult
    state: State


def decide(check: LimitCheck, now: int, state: State | None) -> Decision:
    """Applies the algorithm of the check. `now` is in milliseconds; `state` is the counter, None for a new caller."""
    if check.algorithm == "bucket":
        return decide_by_bucket(check, now, state)
    return decide_by_window(check, now, state)


def decide_by_window(check: LimitCheck, now: int, state: State | None) -> Decision:
    window = check.window_seconds * 1000
    index = now // window
    at, previous, current = state or (index, 0, 0)
    late = 0
    if at == index + 1:
        # The clock was set back a little: the counter's window is treated as beginning now, and lasts longer.
        index, late = at, at * window - now
    elapsed = max(0, now - index * window)
    if at == index - 1:
        at, previous, current = index, current, 0
    elif at != index:
        at, previous, current = index, 0, 0
    if check.algorithm == "fixed":
        previous = 0
    ends_in = late + window - elapsed
    # The share of the previous window is rounded up.
    left = check.amount - current - -(-previous * (window - elapsed) // window)
    spare = check.amount - check.cost
    if check.cost <= left:
        wait = 0
    elif spare < 0:
        wait = window
    elif check.algorithm == "fixed":
        wait = ends_in
    elif current <= spare:
        # The wait ends when enough of the previous window has left the sliding window.
        wait = ends_in - (spare - current) * window // previous
    else:
        # The wait ends in the next window, when enough of this window has left the sliding window.
        wait = ends_in + window - spare * window // current

    def reset_seconds(count: int) -> float:
        """Seconds until the whole limit is available again, if `count` of it has been used in this window."""
        if count:
            return (ends_in if check.algorithm == "fixed" else ends_in + window) / 1000
        return ends_in / 1000 if previous else 0

    charged = current + check.cost
    return Decision(
        LimitResult(wait == 0, max(0, left), reset_seconds(current), wait / 1000, check.amount),
        LimitResult(True, max(0, left - check.cost), reset_seconds(charged), 0, check.amount),
        (at, previous, charged),
    )


def decide_by_bucket(check: LimitCheck, now: int, state: State | None) -> Decision:
    # A request has as many parts as the window has milliseconds, so the bucket gains `amount` parts per millisecond.
    window = check.window_seconds * 1000
    full, need = check.burst * window, check.cost * window
    at, level, _ = state or (now, full, 0)
    if at > now + window:
        # The clock was set back far. The bucket counts as full, as callers would otherwise be refused until the clock
        # has caught up.
        at, level = now, full
    level = min(full, level + max(0, now - at) * check.amount)
    at = max(at, now)

    def time_to_gain(parts: int) -> int:
        """Milliseconds until the bucket has gained `parts`, rounded up. After the clock was set back, it gains nothing
        until the clock has caught up."""
        return at - now + -(-parts // check.amount) if parts > 0 else 0

    wait = window if need > full else time_to_gain(need - level)
    return Decision(
        LimitResult(wait == 0, level // window, time_to_gain(full - level) / 1000, wait / 1000, check.burst),
        LimitResult(True, max(0, level - need) // window, time_to_gain(full - level + need) / 1000, 0, check.burst),
        (at, level - need, 0),
    )
