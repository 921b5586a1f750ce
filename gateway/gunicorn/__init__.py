"""Serves the gateway with gunicorn.

The master: `master_config` loads and checks the settings, `listeners` opens and changes the sockets,
`arbiter_extension` replaces workers, `descriptor_limit` raises the limit on file descriptors. A worker: `base_worker`
starts, `gevent_worker` serves and shuts down, `acceptor` accepts connections, `connection_eviction` closes them to make
room, `slow_clients` has the time limits for heads (slowloris) and bodies. A request: `request_heads` and
`request_bodies` parse it with `parser_settings`, `wsgi_environ` hands it to the application, `response_writer` sends
the response, `parse_errors` responds to requests that can't be parsed. `patches` puts these modules in place of
gunicorn's.

Head: request line and header. Eviction: closing a connection that waits for a request. Lingering: reading on after the
last response, so that the client receives it."""
