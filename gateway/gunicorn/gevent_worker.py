"""gunicorn's gevent worker: accepts connections, serves their requests, and shuts down."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import gevent
from gevent.pool import Pool
from gevent.select import select
from gunicorn.sock import ssl_context
from gunicorn.workers.ggevent import GeventWorker as GunicornGeventWorker

from gateway.errors import TooManyConnections
from gateway.gunicorn.acceptor import EVICTED_AT_ONCE, Acceptor
from gateway.gunicorn.base_worker import GatewayWorker
from gateway.gunicorn.connection_eviction import ClientConnections, RequestWait
from gateway.gunicorn.slow_clients import evict_slow_heads
from gateway.gunicorn.wsgi_environ import create
from gateway.stages.start import REFUSAL
from gateway.system.fair_scheduling import yield_now
from gateway.system.resource_exhaustion import RESOURCE_EXHAUSTION
from gateway.system.shared_flag import SharedFlag
from gateway.system.shutdown import GATEWAY_SHUTDOWN, WORKER_SHUTDOWN, share_to_end

# gevent's native threads, which resolve names. A lookup occupies its thread until the name server replies.
RESOLVER_THREADS = 64
# The time that a quick shutdown gives to running requests.
QUICK_SHUTDOWN_SECONDS = 1.0
UNREAD_BYTES = 64 * 1024


@dataclass(frozen=True)
class ListenerAddress:
    """Replaces the listener where gunicorn reads its address: for each connection, also after the listener was
    closed."""

    address: Any

    def getsockname(self) -> Any:
        return self.address


class GeventWorker(GatewayWorker, GunicornGeventWorker):  # type: ignore[misc]
    """Serves each connection in a greenlet. Exits as soon as its last request is finished. Makes room for new
    connections by closing those that have waited longest for a request."""

    # The time when a quick shutdown cuts requests; infinite without a quick shutdown.
    _quick_deadline = float("inf")
    _gateway_shutdown_seen_at: float | None = None

    def init_process(self) -> None:
        self.connections = ClientConnections(self.settings.connections_per_client)
        self._keepalive_seconds: int = self.cfg.keepalive
        # Whether gunicorn's own access log is configured; the gateway's log does not depend on it.
        self._has_gunicorn_log = bool(self.cfg.accesslog or self.cfg.statsd_host or self.cfg.syslog)
        super().init_process()

    def handle_quit(self, sig: int, frame: Any) -> None:  # noqa: ARG002 - a signal handler's
        """Handles SIGQUIT, which the master also sends after Ctrl-C: begins a quick shutdown. gunicorn's own handler
        would cut every request 0.1 s later."""
        self._quick_deadline = min(self._quick_deadline, time.monotonic() + QUICK_SHUTDOWN_SECONDS)
        self.alive = False

    def run(self) -> None:
        self._prepare_hub()
        self._pool = Pool(self.worker_connections)
        # `handle` does the TLS handshake: there it has a deadline, and its connection can be evicted.
        tls = {"ssl_context": ssl_context(self.cfg), "do_handshake_on_connect": False} if self.cfg.is_ssl else {}
        acceptors = []
        for listener in self.sockets:
            listener.setblocking(1)
            handle = partial(self.handle, ListenerAddress(listener.getsockname()))
            acceptor = Acceptor(listener, handle, self._pool, self.connections, tls)
            acceptor.start()
            acceptors.append(acceptor)
        self._set_for_master(self.is_serving)
        while self.alive:
            self.notify()
            next_check_seconds = evict_slow_heads(self.connections, self._keepalive_seconds)
            if self._pool.full():
                self.connections.evict(EVICTED_AT_ONCE)
            # gunicorn's signal handling writes to this pipe, so a signal ends the wait.
            if select([self.PIPE[0]], [], [], min(1.0, next_check_seconds))[0]:
                os.read(self.PIPE[0], 4096)
        self._shut_down(acceptors)

    @staticmethod
    def _prepare_hub() -> None:
        """Prepares gevent's loop: if memory runs out, one line is logged once in a while. gevent would print an error
        for every callback that fails, and without memory every callback fails."""
        hub = gevent.get_hub()
        hub.threadpool.maxsize = RESOLVER_THREADS
        gevent_handler = hub.handle_error

        def handle_error(context: Any, kind: Any, value: Any, traceback: Any) -> None:
            if isinstance(value, MemoryError) or kind is MemoryError:
                RESOURCE_EXHAUSTION.report(MemoryError())
            else:
                gevent_handler(context, kind, value, traceback)

        hub.handle_error = handle_error

    def _set_for_master(self, flag: SharedFlag) -> None:
        flag.set()
        # Wakes the master up. Otherwise it checks the flags of its workers only once a second.
        os.kill(self.ppid, signal.SIGCHLD)

    def _shut_down(self, acceptors: Sequence[Acceptor]) -> None:
        """Accepts no more connections, closes those that wait for a request, and lets requests finish within
        `graceful_timeout`."""
        self._set_for_master(self.is_leaving)
        self._shutdown_began = time.monotonic()
        # Requests are cut before gunicorn's master kills this process, so that they can still be logged.
        grace = max(self.cfg.graceful_timeout - 1, self.cfg.graceful_timeout / 2)
        self._deadline = self._shutdown_began + grace
        if GATEWAY_SHUTDOWN.is_set:
            self._drain(until=min(self._deadline, self._shutdown_began + self.settings.drain_seconds))
        for acceptor in acceptors:
            if GATEWAY_SHUTDOWN.is_set:
                # The whole gateway shuts down. If only this worker ended, other workers would accept the pending
                # connections.
                acceptor.accept_pending()
            acceptor.close()
        while self._pool and time.monotonic() < min(self._deadline, self._quick_deadline):
            self._end_event_streams()
            if self._quick_deadline < float("inf"):
                self.connections.evict(self.connections.waiting_count)
            else:
                self.connections.evict_idle()
            evict_slow_heads(self.connections, self._keepalive_seconds)
            self.notify()
            self._pool.join(timeout=0.05)
        if self._pool:
            self.log.warning("Worker graceful timeout (pid:%s)", self.pid)
            self._pool.kill(block=True, timeout=0.5)

    def _end_event_streams(self) -> None:
        now = time.monotonic()
        if GATEWAY_SHUTDOWN.is_set and self._gateway_shutdown_seen_at is None:
            self._gateway_shutdown_seen_at = now
        share = 1.0
        if self._quick_deadline == float("inf"):
            drain_seconds, gateway_shutdown_at = self.settings.drain_seconds, self._gateway_shutdown_seen_at
            share = share_to_end(now, self._shutdown_began, self._deadline, gateway_shutdown_at, drain_seconds)
        WORKER_SHUTDOWN.end_streams(share)

    def _drain(self, until: float) -> None:
        """Continues to serve for a time while /readyz already reports the shutdown to load balancers."""
        while (remaining := min(until, self._quick_deadline) - time.monotonic()) > 0:
            self.notify()
            self._end_event_streams()
            next_check_seconds = evict_slow_heads(self.connections, self._keepalive_seconds)
            gevent.sleep(min(0.2, remaining, next_check_seconds))

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        with self.connections.registered(client, addr) as may_be_served:
            if self.cfg.is_ssl and not self._shake_hands(client, addr):
                client.close()
                return
            if not may_be_served:
                self.refuse(client, addr, TooManyConnections(), None)
                with suppress(OSError):
                    # Closing the connection with an unread request would reset it, and the client could lose the
                    # response (RFC 9112 9.6). Only bytes that have arrived are read.
                    client.settimeout(0)
                    client.recv(UNREAD_BYTES)
                client.close()
                return
            if self._pool.full():
                self.connections.evict(1)
            super().handle(listener, client, addr)

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> bool:
        """Serves a request like gunicorn's method, but without calling gunicorn's hooks. Raises StopIteration to end
        the connection, OSError if the client ended it."""
        started = datetime.now() if self._has_gunicorn_log else None  # noqa: DTZ005 - for a difference
        response, environ = create(req, sock, addr, listener_name, self.cfg)
        environ["wsgi.multithread"] = True
        if req.refusal is not None:
            environ[REFUSAL] = req.refusal
        self.nr += 1
        if self.nr >= self.max_requests and self.alive:
            self.log.info("Autorestarting worker after current request.")
            self.alive = False
        if not self.alive or not self._keepalive_seconds:
            response.force_close()
        try:
            pieces = self.wsgi(environ, response.start_response)
            try:
                for piece in pieces:
                    response.write(piece)
                response.close()
            finally:
                if started is not None:
                    self.log.access(response, req, environ, datetime.now() - started)  # noqa: DTZ005
                if close := getattr(pieces, "close", None):
                    close()
        except (gevent.GreenletExit, SystemExit) as error:
            # The worker's shutdown has cut the request.
            raise StopIteration from error
        except Exception as error:
            if isinstance(error, OSError) or not response.headers_sent:
                raise
            # An error response is not possible any more: the client would read it as a part of the first response's
            # body.
            self.log.exception("Error handling request")
            sock.close()
            raise StopIteration from error
        response.finish()
        if response.should_close():
            raise StopIteration
        req.release()
        if req.unreader.has_more:
            # The client has sent its next requests already (pipelining). Other clients get their turn before each of
            # them.
            yield_now()
        return True

    def _try_h2c_upgrade(self, *_: Any) -> bool:
        """Declines every upgrade to h2c, so the request is served in HTTP/1.1 (RFC 9110 7.8)."""
        return False

    def _shake_hands(self, client: Any, addr: Any) -> bool:
        """Does the TLS handshake. Returns whether it succeeded within the deadline of a request head."""
        with self.timeout_ctx():
            try:
                client.do_handshake()
            except OSError as error:
                self.handle_error(None, client, addr, error)
                return False
            return True
        return False

    def timeout_ctx(self) -> RequestWait:
        """The context in which gunicorn waits for each request head."""
        if self._pool.full():
            self.connections.evict(1)
        return self.connections.request_wait()


WORKER_CLASS = f"{__name__}.{GeventWorker.__name__}"
