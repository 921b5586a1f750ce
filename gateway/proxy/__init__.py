"""The reverse proxy: forwards one request to a service and returns the response (RFC 9110, 9112). Knows no Flask.

Read `forwarder` first: its docstring numbers the steps of a request. Then, in the order in which a request meets them:

- what is forwarded: `path_validation`, `prefix_mapping`, `trusted_proxies`, `header_filter`, `request_body`
- where to: `in_flight_limits`, `balancer`, `breaker`, `retry`; in the background `health_checks`, `recovery_monitor`
- how: `requests_session` → `round_trip` → `connection_pool`, `connection`, `upload`, `response_head_reader`; `http1`
  and `chunked` parse and write the bytes
- what the client receives: `response_body`, `response_rewriting`

Glossary: a *service* has one or more *targets* (base URLs); an *attempt* sends a request to one target; a *round trip*
is one request and response on one connection; a *probe* is the request that tests a target whose *breaker* is open.
"""
