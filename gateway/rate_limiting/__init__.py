"""Rate limiting: how many requests each caller may make. No Flask here; `gateway.stages.rate_limit` is the adapter.

`limit_sets` finds the limits of a request and makes one `LimitCheck` (`models`) of each. `algorithms` defines how
requests are counted: in this process by `local_counters`, in Redis by `redis_counters` (consume_limits.lua), in one
round trip for all limits of a request. `fallback` decides what happens when Redis fails, with a `redis_breaker` for
each server; `flask_limiter_backend` registers the counters as a storage and a strategy of limits, where Flask-Limiter
finds them.
"""
