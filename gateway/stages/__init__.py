"""The stages of a request, one per file, in the order in which `gateway.application` registers them.

`start` reads the request, `host_check` and `path_check` refuse what is malformed, `cors` answers preflights,
`authentication` verifies the token, `rate_limit` charges the limits, `operation_check` compares the request with the
API document; `rate_limit_headers` and `finish` complete the response, and `problems` turns errors into responses."""
