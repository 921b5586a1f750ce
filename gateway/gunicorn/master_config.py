"""Loads and checks the settings in gunicorn's master, at the start and on reloads (HUP), so that no worker is started
with wrong settings."""

from __future__ import annotations

import json
import logging
import os
import sys
from contextlib import suppress
from importlib import metadata
from typing import TYPE_CHECKING

from gevent import monkey
from gevent.monkey import get_original
from pydantic import SecretStr

from gateway.config import Settings, adopt, with_keys
from gateway.config.load import load
from gateway.errors import CannotStart, ConfigurationError
from gateway.gunicorn.descriptor_limit import raise_descriptor_limit
from gateway.system.memory import build_without_garbage_collection
from gateway.telemetry.metrics.worker_files import open_metrics_folder

if TYPE_CHECKING:
    from gateway.gunicorn.listeners import Listeners

log = logging.getLogger("gunicorn.error")


class MasterConfig:
    """The master's settings. The only instance belongs to this module, so it survives reloads: gunicorn runs its
    configuration file again for each reload."""

    def __init__(self) -> None:
        self.in_force: Settings | None = None
        # The sources of the settings in force, in one line.
        self.sources = ""
        self.private_redis_url: str | None = None
        self.addresses_at_start: tuple[str, ...] = ()
        self.listeners: Listeners | None = None
        # Whether the last reload put new settings in force.
        self.is_reloaded = False
        self._has_metrics_folder = False

    def load(self) -> Settings:
        """Loads and checks the settings, and returns the settings in force. At the start, an error ends the process. On
        a reload, an error is logged and the old settings stay in force."""
        try:
            loaded = load()
            settings = with_keys(loaded.settings)
            # Before other imports: what a module has imported from an unpatched module stays unpatched.
            patch_standard_library()
            if not self._has_metrics_folder:
                open_metrics_folder()
                self._has_metrics_folder = True
            if self.in_force is None:
                with build_without_garbage_collection():
                    check_installed_libraries()
                    build_application(settings)
            else:
                build_in_child(settings)
            if self.listeners is not None:
                self.listeners.prepare(settings.server.addresses)
            raise_descriptor_limit(settings.server.connections_per_worker)
        except CannotStart as error:
            if self.in_force is None:
                sys.exit(error.listing())
            for line in error.errors:
                log.error("not reloaded: %s", line)
            self.is_reloaded = False
            return self.in_force
        self.is_reloaded = self.in_force is not None
        self.addresses_at_start = self.addresses_at_start or settings.server.addresses
        self.in_force, self.sources = settings, loaded.summary()
        return self._adopt()

    @property
    def settings(self) -> Settings:
        """The settings in force; `load` must have succeeded."""
        assert self.in_force is not None  # noqa: S101
        return self.in_force

    def use_private_redis(self, url: str) -> None:
        self.private_redis_url = url
        self._adopt()

    def _adopt(self) -> Settings:
        """Puts the settings in force for workers that are forked from now on."""
        settings = self.settings
        if settings.redis_url is None and self.private_redis_url is not None:
            settings = settings.model_copy(update={"redis_url": SecretStr(self.private_redis_url)})
        return adopt(settings)


def patch_standard_library() -> None:
    """Calls gevent's `patch_all`, which searches the metadata of all installed packages for plugins 25 times. Here the
    metadata is read once, which saves a tenth of the CPU time of a start."""
    entry_points = metadata.entry_points
    metadata.entry_points = entry_points().select
    try:
        monkey.patch_all()
    finally:
        metadata.entry_points = entry_points


def check_installed_libraries() -> None:
    """Raises LibraryMismatch if a check fails. Called only at the start: a reload imports no other version."""
    from gateway.library_checks import check_libraries  # noqa: PLC0415 - must not be imported before the patches

    check_libraries()


def build_application(settings: Settings) -> None:
    """Builds the application once, to check keys and certificates, and to import before the fork all that workers need.
    Raises ConfigurationError."""
    from gateway.application import build  # noqa: PLC0415 - must not be imported before the patches

    build(settings)


def build_in_child(settings: Settings) -> None:
    """Runs `build_application` in a forked process. The master would grow if it built an application for each reload,
    as libraries keep references to every application.

    Raises ConfigurationError."""
    read_end, write_end = os.pipe()
    # File objects are closed at once, whereas gevent's os.close() closes later.
    with open(read_end, encoding="utf-8") as reader, open(write_end, "w", encoding="utf-8") as writer:
        try:
            pid = get_original("os", "fork")()
        except OSError as error:
            raise ConfigurationError([f"it can't be checked now: {error.strerror}"]) from error
        if pid == 0:
            try:
                json.dump(build_errors(settings), writer)
                writer.flush()
            finally:
                os._exit(0)
        writer.close()
        text = reader.read()
    with suppress(ChildProcessError):
        get_original("os", "waitpid")(pid, 0)
    if errors := json.loads(text or '["the process that checks it has died"]'):
        raise ConfigurationError(errors)


def build_errors(settings: Settings) -> list[str]:
    """The reasons why the application can't be built; empty if it can be built."""
    from prometheus_client import values  # noqa: PLC0415 - must not be imported before the patches

    # Metrics stay in memory: two processes must not write to the master's files.
    values.ValueClass = values.MutexValue
    try:
        build_application(settings)
    except ConfigurationError as error:
        return error.errors
    except Exception:
        log.exception("the application can't be built")
        return ["the application can't be built, see above"]
    return []


MASTER_CONFIG = MasterConfig()
