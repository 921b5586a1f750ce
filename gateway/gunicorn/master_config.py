"""The settings in gunicorn's master: checked whole before any worker is started with them, also on HUP."""

from __future__ import annotations

import json
import logging
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from gevent import monkey
from gevent.monkey import get_original
from pydantic import SecretStr

from gateway.config import Settings, adopt, with_keys
from gateway.config.load import load
from gateway.errors import ConfigurationError, LibraryMismatch
from gateway.gunicorn.descriptor_limit import raise_descriptor_limit
from gateway.system.memory import build_without_garbage_collection
from gateway.telemetry.metrics.worker_files import open_metrics_folder

if TYPE_CHECKING:
    from gateway.gunicorn.listeners import Listeners

log = logging.getLogger("gunicorn.error")


class MasterConfig:
    """Kept on gunicorn's own module state through reloads, as its configuration file is run anew for each of them."""

    def __init__(self) -> None:
        self.in_force: Settings | None = None
        self.sources = ""
        self.embedded_url: str | None = None
        self.addresses_at_start: tuple[str, ...] = ()
        self.listeners: Listeners | None = None
        # Whether the last reload put new settings in force.
        self.is_reloaded = False
        self._has_metrics_folder = False

    def load(self) -> Settings:
        """The settings in force. An error ends the first start; on a reload it is logged and the old settings stay."""
        try:
            loaded = load()
            settings = with_keys(loaded.settings)
            # Before anything else is imported: what has been taken from an unpatched module stays unpatched.
            monkey.patch_all()
            if not self._has_metrics_folder:
                open_metrics_folder()
                self._has_metrics_folder = True
            if self.in_force is None:
                with build_without_garbage_collection():
                    check_once()
                    build_once(settings)
            else:
                build_apart(settings)
            if self.listeners is not None:
                self.listeners.prepare(settings.server.addresses)
            raise_descriptor_limit(settings.server.connections_per_worker)
        except LibraryMismatch as error:
            sys.exit(error.listing())
        except ConfigurationError as error:
            if self.in_force is None:
                sys.exit("The configuration can't be used:\n" + error.listing())
            for line in error.errors:
                log.error("not reloaded: %s", line)
            self.is_reloaded = False
            return self.in_force
        self.is_reloaded = self.in_force is not None
        self.addresses_at_start = self.addresses_at_start or settings.server.addresses
        self.in_force, self.sources = settings, loaded.summary()
        return self.adopt()

    @property
    def settings(self) -> Settings:
        """Those in force. `load` comes first, or the process ends."""
        assert self.in_force is not None  # noqa: S101
        return self.in_force

    def use_embedded_redis(self, url: str) -> None:
        self.embedded_url = url
        self.adopt()

    def adopt(self) -> Settings:
        """Puts the settings in force for workers that are forked from now on."""
        settings = self.settings
        if settings.redis_url is None and self.embedded_url is not None:
            settings = settings.model_copy(update={"redis_url": SecretStr(self.embedded_url)})
        return adopt(settings)


def check_once() -> None:
    """Raises LibraryMismatch. Not on a reload, which imports no library anew."""
    from gateway.library_checks import check_libraries  # noqa: PLC0415 - must not be imported before the patches

    check_libraries()


def build_once(settings: Settings) -> None:
    """Builds the application to see that it can be built: keys, certificates and all. Raises ConfigurationError.

    It also imports, once for all workers, what they need."""
    from gateway.application import build  # noqa: PLC0415 - must not be imported before the patches

    build(settings)


def build_apart(settings: Settings) -> None:
    """The same in a process of its own, which imports nothing for workers either. The libraries keep something of
    each application that was ever built: a master that is often told to reload would grow.

    Raises ConfigurationError."""
    reader, writer = os.pipe()
    # File objects, as gevent puts off what os.close() does.
    with open(reader, encoding="utf-8") as found, open(writer, "w", encoding="utf-8") as finding:
        try:
            pid = get_original("os", "fork")()
        except OSError as error:
            raise ConfigurationError([f"it can't be checked now: {error.strerror}"]) from error
        if pid == 0:
            try:
                json.dump(errors_in(settings), finding)
                finding.flush()
            finally:
                os._exit(0)
        finding.close()
        text = found.read()
    with suppress(ChildProcessError):
        get_original("os", "waitpid")(pid, 0)
    if errors := json.loads(text or '["the process that checks it has died"]'):
        raise ConfigurationError(errors)


def errors_in(settings: Settings) -> list[str]:
    from prometheus_client import values  # noqa: PLC0415 - must not be imported before the patches

    # Without files: two processes must not write to those of the master.
    values.ValueClass = values.MutexValue
    try:
        build_once(settings)
    except ConfigurationError as error:
        return error.errors
    except Exception:
        log.exception("the application can't be built")
        return ["the application can't be built, see above"]
    return []


MASTER = MasterConfig()
