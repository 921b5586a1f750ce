"""Quotas: how much each caller may still ask for (Flask-Limiter on Redis).

`window` defines the algorithm and counts in the process, `redis_counters` counts the same way in Redis with one
round trip for all limits of a request, `ladder` decides what happens when Redis fails, `extension` plugs the two
into limits' own registries of storages and strategies, `quota` joins them to Flask: which limits a request has to
pass, by which key, and what it is told about them.
"""
