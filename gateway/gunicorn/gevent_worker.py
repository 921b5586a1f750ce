"""gunicorn's gevent worker: how it takes connections, serves the requests on them, and ends."""

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
from gunicorn.workers.ggevent import GeventWorker as GunicornGevent

from gateway.errors import TooManyConnections
from gateway.gunicorn.acceptor import CROWD, Acceptor
from gateway.gunicorn.base_worker import GatewayWorker
from gateway.gunicorn.client_connections import Connections, Waiting
from gateway.gunicorn.wsgi_environ import create
from gateway.stages.start import REFUSAL
from gateway.system.flags import SharedFlag
from gateway.system.resource_exhaustion import RESOURCE_EXHAUSTION
from gateway.system.shutdown import GATEWAY_SHUTDOWN, WORKER_SHUTDOWN, share_to_end
from gateway.system.time_slice import yield_now

NAME_THREADS = 64
# What requests have to end where the whole is to end quickly.
QUICK_END_SECONDS = 1.0
UNREAD_BYTES = 64 * 1024


@dataclass(frozen=True)
class ListeningAt:
    """What gunicorn asks of the listener for each connection, also when it has been closed in the meantime."""

    address: Any

    def getsockname(self) -> Any:
        return self.address


class GeventWorker(GatewayWorker, GunicornGevent):  # type: ignore[misc]
    """Serves each connection in a greenlet. Ends as soon as it has nothing left to do, and makes room for new
    connections by sending away those that wait longest for a request."""

    # When it has to have ended, once it is to end quickly.
    _latest = float("inf")
    _gateway_end_seen_at: float | None = None

    def init_process(self) -> None:
        self.connections = Connections(self.settings.connections_per_client)
        self._keepalive_seconds: int = self.cfg.keepalive
        # The gateway has its own log; who asks gunicorn for another one gets it.
        self._has_second_log = bool(self.cfg.accesslog or self.cfg.statsd_host or self.cfg.syslog)
        super().init_process()

    def handle_quit(self, sig: int, frame: Any) -> None:  # noqa: ARG002 - a signal handler's
        """What the master makes of Ctrl-C. gunicorn would cut everything a tenth of a second later."""
        self._latest = min(self._latest, time.monotonic() + QUICK_END_SECONDS)
        self.alive = False

    def run(self) -> None:
        self._prepare_hub()
        self._pool = Pool(self.worker_connections)
        # The handshake is waited for in `handle`, where it has a deadline and its connection can be sent away.
        tls = {"ssl_context": ssl_context(self.cfg), "do_handshake_on_connect": False} if self.cfg.is_ssl else {}
        servers = []
        for listener in self.sockets:
            listener.setblocking(1)
            handle = partial(self.handle, ListeningAt(listener.getsockname()))
            server = Acceptor(listener, handle, self._pool, self.connections, tls)
            server.start()
            servers.append(server)
        self._tell_master(self.is_serving)
        while self.alive:
            self.notify()
            overdue_in = self.connections.send_away_overdue(self._keepalive_seconds)
            if self._pool.full():
                self.connections.send_away(CROWD)
            # Signals write to gunicorn's pipe.
            if select([self.PIPE[0]], [], [], min(1.0, overdue_in))[0]:
                os.read(self.PIPE[0], 4096)
        self._end(servers)

    @staticmethod
    def _prepare_hub() -> None:
        """gevent prints what fails in its own loop, and goes on. Without memory all fails there."""
        hub = gevent.get_hub()
        # Names whose server hangs keep one each, for as long as it does.
        hub.threadpool.maxsize = NAME_THREADS
        usual = hub.handle_error

        def handle_error(context: Any, kind: Any, value: Any, traceback: Any) -> None:
            if isinstance(value, MemoryError) or kind is MemoryError:
                RESOURCE_EXHAUSTION.tell(MemoryError())
            else:
                usual(context, kind, value, traceback)

        hub.handle_error = handle_error

    def _tell_master(self, flag: SharedFlag) -> None:
        flag.set()
        # It looks when a worker ends, and once a second.
        os.kill(self.ppid, signal.SIGCHLD)

    def _end(self, servers: Sequence[Acceptor]) -> None:
        """Takes no more connections, ends those that wait, and lets requests finish, within `graceful_timeout`."""
        self._tell_master(self.is_leaving)
        self._begun = time.monotonic()
        # gunicorn's master kills at that time; what is cut before can still be logged.
        self._deadline = self._begun + max(self.cfg.graceful_timeout - 1, self.cfg.graceful_timeout / 2)
        if GATEWAY_SHUTDOWN.is_raised:
            self._wait(until=min(self._deadline, self._begun + self.settings.drain_seconds))
        for server in servers:
            if GATEWAY_SHUTDOWN.is_raised:
                # Otherwise other workers take them.
                server.take_rest()
            server.close()
        while self._pool and time.monotonic() < min(self._deadline, self._latest):
            self._end_streams()
            if self._latest < float("inf"):
                self.connections.send_away(self.connections.waiting_count)
            else:
                self.connections.send_away_spare()
            self.connections.send_away_overdue(self._keepalive_seconds)
            self.notify()
            self._pool.join(timeout=0.05)
        if self._pool:
            self.log.warning("Worker graceful timeout (pid:%s)", self.pid)
            self._pool.kill(block=True, timeout=0.5)

    def _end_streams(self) -> None:
        now = time.monotonic()
        if GATEWAY_SHUTDOWN.is_raised and self._gateway_end_seen_at is None:
            self._gateway_end_seen_at = now
        if self._latest < float("inf"):
            WORKER_SHUTDOWN.tell()
        else:
            drain_seconds, told_at = self.settings.drain_seconds, self._gateway_end_seen_at
            WORKER_SHUTDOWN.tell(share_to_end(now, self._begun, self._deadline, told_at, drain_seconds))

    def _wait(self, until: float) -> None:
        while (remaining := min(until, self._latest) - time.monotonic()) > 0:
            self.notify()
            self._end_streams()
            overdue_in = self.connections.send_away_overdue(self._keepalive_seconds)
            gevent.sleep(min(0.2, remaining, overdue_in))

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        with self.connections.taking(client, addr) as may_be_served:
            if self.cfg.is_ssl and not self._shake_hands(client, addr):
                client.close()
                return
            if not may_be_served:
                self.refuse(client, addr, TooManyConnections(), None)
                with suppress(OSError):
                    # A request that is unread at the close would have the answer lost (RFC 9112 9.6). Not waited for.
                    client.settimeout(0)
                    client.recv(UNREAD_BYTES)
                client.close()
                return
            if self._pool.full():
                self.connections.send_away(1)
            super().handle(listener, client, addr)

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> bool:
        """gunicorn's, less its hooks. Raises StopIteration where the connection is to end, OSError where it has."""
        started = datetime.now() if self._has_second_log else None  # noqa: DTZ005 - for a difference
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
            # The worker has waited for it as long as it may.
            raise StopIteration from error
        except Exception as error:
            if isinstance(error, OSError) or not response.headers_sent:
                raise
            # A second answer on the same connection would be taken for a part of the first.
            self.log.exception("Error handling request")
            sock.close()
            raise StopIteration from error
        response.finish()
        if response.should_close():
            raise StopIteration
        req.release()
        if req.unreader.has_more:
            # Who sends requests ahead takes turns with those who wait for each answer: one request, not a whole slice.
            yield_now()
        return True

    def _try_h2c_upgrade(self, *_: Any) -> bool:
        """Upgrades are not offered: a client that asks for one goes on in HTTP/1.1 (RFC 9110 7.8)."""
        return False

    def _shake_hands(self, client: Any, addr: Any) -> bool:
        """Whether TLS is agreed on, in the time that a request's head has."""
        with self.timeout_ctx():
            try:
                client.do_handshake()
            except OSError as error:
                self.handle_error(None, client, addr, error)
                return False
            return True
        return False

    def timeout_ctx(self) -> Waiting:
        """gunicorn enters it to wait for each request's head."""
        if self._pool.full():
            self.connections.send_away(1)
        return self.connections.wait()


WORKER_CLASS = f"{__name__}.{GeventWorker.__name__}"
