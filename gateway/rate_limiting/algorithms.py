"""The algorithms of quotas, as consume_limits.lua has them for Redis; here for counting in one process.

`sliding`, the default, is a sliding window counter. Time is cut into windows; what was used is the current window's
count plus the previous one's, weighted with the share of it that the sliding window still covers:
`used = current + previous * (1 - elapsed / window)`. Within one window no more than `amount` passes, exactly. Over any
stretch of one window's length, traffic that was uneven inside the previous window can reach up to 2 * amount in theory,
and in practice stays within some percent of `amount`; one who goes on at an even pace gets `amount`, or one less.

`fixed` forgets everything when the clock's window ends: exactly `amount` in each window, and up to 2 * amount within a
moment around its end.

`bucket` is a token bucket: it holds `burst` and gains `amount` per window, evenly. Over any time t no more than
`burst + amount * t / window` passes, exactly.

All of it in whole numbers: with fractions, a request that comes back just when it was told to could miss by one bit.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.rate_limiting.models import LimitCheck, LimitResult

# Sliding and fixed: (number of the window, the previous window's count, its own). Bucket: (milliseconds, what it held
# then in parts of a request, 0).
State = tuple[int, int, int]


@dataclass(slots=True)
class Judgement:
    """`result` where nothing is taken; `charged` and `state` where it is."""

    result: LimitResult
    charged: LimitResult
    state: State


def judge(check: LimitCheck, now: int, kept: State | None) -> Judgement:
    """What becomes of the check at `now` (milliseconds), by what is `kept` under its key."""
    if check.algorithm == "bucket":
        return judge_bucket(check, now, kept)
    return judge_window(check, now, kept)


def judge_window(check: LimitCheck, now: int, kept: State | None) -> Judgement:
    window = check.window_seconds * 1000
    index = now // window
    at, previous, current = kept or (index, 0, 0)
    late = 0
    if at == index + 1:
        # The clock was set back a little: the window that it was in is taken to begin now, and lasts longer.
        index, late = at, at * window - now
    elapsed = max(0, now - index * window)
    if at == index - 1:
        at, previous, current = index, current, 0
    elif at != index:
        at, previous, current = index, 0, 0
    if check.algorithm == "fixed":
        previous = 0
    ends_in = late + window - elapsed
    # What the sliding window still covers of the previous one, rounded up.
    left = check.amount - current - -(-previous * (window - elapsed) // window)
    spare = check.amount - check.cost
    if check.cost <= left:
        wait = 0
    elif spare < 0:
        wait = window
    elif check.algorithm == "fixed":
        wait = ends_in
    elif current <= spare:
        # Enough of the previous window has to slide out.
        wait = ends_in - (spare - current) * window // previous
    else:
        # Not in this window; in the next one, enough of this window has to slide out.
        wait = ends_in + window - spare * window // current

    def free_in(count: int) -> float:
        """Seconds until nothing is left of what was used, where it is `count` in this window."""
        if count:
            return (ends_in if check.algorithm == "fixed" else ends_in + window) / 1000
        return ends_in / 1000 if previous else 0

    charged = current + check.cost
    return Judgement(
        LimitResult(wait == 0, max(0, left), free_in(current), wait / 1000, check.amount),
        LimitResult(True, max(0, left - check.cost), free_in(charged), 0, check.amount),
        (at, previous, charged),
    )


def judge_bucket(check: LimitCheck, now: int, kept: State | None) -> Judgement:
    # A request is as many parts as the window has milliseconds, so that `amount` parts come in with each of them.
    window = check.window_seconds * 1000
    full, need = check.burst * window, check.cost * window
    at, level, _ = kept or (now, full, 0)
    if at > now + window:
        # The clock was set back far: nobody is locked out until it has caught up.
        at, level = now, full
    level = min(full, level + max(0, now - at) * check.amount)
    at = max(at, now)

    def time_to_gain(parts: int) -> int:
        """Milliseconds until it has gained that much, rounded up; where the clock was set back, it gains nothing until
        that has caught up."""
        return at - now + -(-parts // check.amount) if parts > 0 else 0

    wait = window if need > full else time_to_gain(need - level)
    return Judgement(
        LimitResult(wait == 0, level // window, time_to_gain(full - level) / 1000, wait / 1000, check.burst),
        LimitResult(True, max(0, level - need) // window, time_to_gain(full - level + need) / 1000, 0, check.burst),
        (at, level - need, 0),
    )
