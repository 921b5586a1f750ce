"""Rate limiting: how many requests each caller may make. No Flask here; `gateway.stages.rate_limit` is the adapter.

In reading order: `limit_sets` finds the limits that apply to a request and makes one `LimitCheck` of each (`models`).
`algorithms` defines how requests are counted: `local_counters` counts in this process, `redis_counters` in Redis
(consume_limits.lua), in one round trip for all limits of a request. `fallback` decides what happens if Redis fails,
with one `redis_breaker` per server. `flask_limiter_backend` registers all this with Flask-Limiter.

Glossary:
- limit: a number of requests per time for one kind of caller, such as `300/minute by address`
- limit set: limits that a request has to pass together; it is charged to all of them or to none
- counter: what one caller has used of one limit
- cost: what a request is charged, 1 unless its route says otherwise
- plan: a caller's subscription tier, from a claim of its token; it may have limits of its own
"""
