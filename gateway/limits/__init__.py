"""Quotas: how much each caller may still ask for (limits, on Redis). No Flask here: `gateway.quota` joins it to that.

`window` defines the algorithm and counts in the process, `redis_counters` counts the same way in Redis with one
round trip for all limits of a request, `ladder` decides what happens when Redis fails, `extension` plugs the two
into limits' own registries of storages and strategies, where Flask-Limiter finds them.
"""
