"""Quotas: how much each caller may still ask for (limits, on Redis). No Flask here: `gateway.quota` joins it to that.

`rules` says which limits hold for whom, and makes of them the `asks` of a request. `algorithms` defines how they are
counted: in the process by `local_counters`, in Redis by `redis_counters` (with take.lua), with one round trip for all
that a request asks. `ladder` decides what happens when Redis fails, with a `redis_breaker` for each server; `extension`
plugs it into limits' own registries of storages and strategies, where Flask-Limiter finds them.
"""
