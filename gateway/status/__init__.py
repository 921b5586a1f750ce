"""The figures of `/status`, over all workers of all gateways that share a Redis. No Flask.

Each worker counts requests in `rolling_stats` and describes its present state in `worker_state`. `publisher` writes
both to Redis in the form of `report_schema`. `summary` adds up the workers' reports: `series` and `latency` calculate
the figures over time, `service_health` the state of a service. `document` turns the summary, the states of the API
documents (`service_documents`) and the redacted configuration (`redaction`) into JSON. `factory` assembles the parts.

Report: the present state of one worker. Slot: the requests of ten seconds. History: a worker's finished slots.
"""
