"""The forwarder: one request in, one answer out, nothing lost, invented or let out (RFC 9110, 9112). No Flask here.

The way of a request: `paths` decides which bytes are safe to forward, `headers` what an upstream and a client may
see, `body` reads what the client sends, `session` is the pooled requests session of a service over `connection`
(sockets) and `wire` (HTTP/1.1 as bytes), and `forwarder` puts the steps in order.
"""
