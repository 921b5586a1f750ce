"""The checks at start detect an upgraded library that would disable a part of the gateway.

Each check fails where what it is about is taken away, and names the library."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import flask_limiter
import gevent.baseserver
import gevent.hub
import gevent.socket
import gunicorn.arbiter
import gunicorn.config
import gunicorn.http.message
import gunicorn.workers.base_async
import jwt
import pytest
import redis.connection
import redis.sentinel
from flask import Flask
from prometheus_client import Histogram, mmap_dict, multiprocess
from werkzeug.datastructures import Headers
from werkzeug.routing import Rule
from werkzeug.wrappers import Response

from gateway.config import CorsSettings
from gateway.errors import LibraryMismatch
from gateway.library_checks import calls, check_libraries
from gateway.stages import cors
from tests.support.gateway import ROOT, clean_environment

Change = Callable[[pytest.MonkeyPatch], None]
nothing: Callable[..., None] = lambda *_, **__: None  # noqa: E731 - in the place of functions
AsyncWorker = gunicorn.workers.base_async.AsyncWorker


def without(owner: Any, name: str) -> Change:
    return lambda patch: patch.delattr(owner, name)


def replaced(owner: Any, name: str, by: Any = nothing) -> Change:
    return lambda patch: patch.setattr(owner, name, by)


def another_parser(cfg: Any, source: Any, source_addr: Any, http2_connection: bool = False) -> Any:
    """The library looks the class up elsewhere, so that the gateway's is not used."""
    del http2_connection
    return gunicorn.http.parser.RequestParser(cfg, source, source_addr)


def decode_without_claims_hook(self: Any, token: str, key: Any, **_: Any) -> dict[str, Any]:
    """PyJWT checks claims in another method than the one that the gateway overrides."""
    decoded: dict[str, Any] = self._jws.decode_complete(token, key, [key.algorithm_name])
    return decoded | {"payload": self._decode_payload(decoded)}


def decode_without_payload_hook(self: Any, token: str, key: Any, **more: Any) -> dict[str, Any]:
    decoded: dict[str, Any] = self._jws.decode_complete(token, key, [key.algorithm_name])
    payload = jwt.PyJWT._decode_payload(self, decoded)
    self._validate_claims(payload, self.options, more["audience"], more["issuer"])
    return decoded | {"payload": payload}


def decode_with_another_reader(
    self: Any, token: str, key: Any, algorithms: Any, options: Any = None, **_: Any
) -> dict[str, Any]:
    """PyJWT parses tokens in another method."""
    payload, signed, header, signature = jwt.PyJWS._load(self, token)
    self._verify_signature(signed, header, signature, key, algorithms, options=options)
    return {"payload": payload, "header": header, "signature": signature}


def limiter_with_another_check(self: Any, app: Flask) -> None:
    """Flask-Limiter checks limits in another method; its other hooks are unchanged."""
    for register in (app.after_request, app.teardown_request):
        hook = lambda given: given  # noqa: E731
        hook.__module__ = "flask_limiter.hooks"
        register(hook)
    self.initialized = True


def limiter_with_another_last_hook(
    self: Any, app: Flask, usual: Callable[..., None] = flask_limiter.Limiter.init_app
) -> None:
    usual(self, app)
    app.after_request(lambda response: response)


def settings_without(name: str) -> list[Any]:
    return [one for one in gunicorn.config.KNOWN_SETTINGS if one.name != name]


CHANGES: dict[str, tuple[str, Change]] = {
    "another parser": ("gunicorn", replaced(gunicorn.http, "get_parser", another_parser)),
    "no handle_request": ("gunicorn", without(AsyncWorker, "handle_request")),
    "handle_request takes something else": ("gunicorn", replaced(AsyncWorker, "handle_request")),
    "handle_request is not called": ("gunicorn", replaced(AsyncWorker, "handle")),
    "the body's reader": ("gunicorn", replaced(gunicorn.http.message.Message, "__init__")),
    "the head's reader": ("gunicorn", without(gunicorn.http.message.Request, "read_into")),
    "a master's method": ("gunicorn", replaced(gunicorn.arbiter.Arbiter, "run")),
    "a setting": ("gunicorn", replaced(gunicorn.config, "KNOWN_SETTINGS", settings_without("control_socket_disable"))),
    "a rule of messages": ("gunicorn", replaced(gunicorn.config, "KNOWN_SETTINGS", settings_without("header_map"))),
    "accepting": ("gevent", replaced(gevent.baseserver.BaseServer, "_do_read")),
    "the hub's errors": ("gevent", replaced(gevent.hub.Hub, "handle_error")),
    "sockets": ("gevent", replaced(gevent.socket, "socket", type("socket", (), {}))),
    "the builder of URLs": ("Werkzeug", replaced(Rule, "_compile_builder", lambda *_: nothing)),
    "fields": ("Werkzeug", replaced(Headers, "to_wsgi_list", lambda _: [])),
    "a status": ("Werkzeug", replaced(Response, "status", property(lambda _: "200 OK"))),
    "what runs at the close": ("Werkzeug", replaced(Response, "close")),
    "the check of limits": ("Flask-Limiter", replaced(flask_limiter.Limiter, "init_app", limiter_with_another_check)),
    "the last hook": ("Flask-Limiter", replaced(flask_limiter.Limiter, "init_app", limiter_with_another_last_hook)),
    "claims": ("PyJWT", replaced(jwt.PyJWT, "decode_complete", decode_without_claims_hook)),
    "the payload": ("PyJWT", replaced(jwt.PyJWT, "decode_complete", decode_without_payload_hook)),
    "an issuer": ("PyJWT", without(jwt.PyJWT, "_validate_iss")),
    "an audience": ("PyJWT", replaced(jwt.PyJWT, "_validate_aud")),
    "segments": ("PyJWT", replaced(jwt.PyJWS, "decode_complete", decode_with_another_reader)),
    "how it connects": ("redis", replaced(redis.connection.Connection, "connect")),
    "TLS": ("redis", without(redis.connection.SSLConnection, "_wrap_socket_with_ssl")),
    "sentinels": ("redis", without(redis.sentinel.Sentinel, "discover_master")),
    "the format of files": ("prometheus_client", replaced(mmap_dict, "_unpack_two_doubles", lambda *_: (0.0, 0.0))),
    "the names of files": ("prometheus_client", replaced(multiprocess, "mark_process_dead")),
    "sums": ("prometheus_client", replaced(multiprocess.MultiProcessCollector, "collect", lambda _: [])),
    "buckets": ("prometheus_client", replaced(Histogram, "observe")),
}


def test_the_libraries_that_are_installed_fit() -> None:
    check_libraries()


@pytest.mark.parametrize(("library", "change"), CHANGES.values(), ids=CHANGES)
def test_each_change_is_noticed(monkeypatch: pytest.MonkeyPatch, library: str, change: Change) -> None:
    with monkeypatch.context() as patch:
        change(patch)
        with pytest.raises(LibraryMismatch) as caught:
            check_libraries()
    assert {line.partition(" ")[0] for line in caught.value.mismatches} == {library}
    check_libraries()


def test_flask_cors_that_registers_nothing_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cors, "CORS", nothing)
    with pytest.raises(LibraryMismatch, match="flask-cors"):
        cors.install(Flask("test"), CorsSettings(origins=("https://app.example.com",)))


def test_all_settings_of_the_configuration_file_are_checked() -> None:
    tree = ast.parse((ROOT / "gunicorn.conf.py").read_text())
    names = {target.id for one in tree.body if isinstance(one, ast.Assign) for target in one.targets}  # type: ignore[attr-defined]
    names |= {one.name for one in tree.body if isinstance(one, ast.FunctionDef)}
    assert names - {"settings"} == set(calls.SETTINGS)


@pytest.mark.parametrize("command", [["gunicorn", "wsgi:app"], ["flask", "check"]], ids=["gunicorn", "check"])
def test_nothing_starts_then_and_the_message_names_the_library(tmp_path: Path, command: Sequence[str]) -> None:
    # Python runs this file before anything else.
    (tmp_path / "sitecustomize.py").write_text("import jwt\ndel jwt.PyJWT._validate_iss\n")
    environ = clean_environment() | {
        "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)]),
        "GATEWAY_SERVER__BIND": "127.0.0.1:0",
        "GATEWAY_JWT__SECRET": "a-secret-of-this-test-of-more-than-32-bytes",
    }
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert f"PyJWT {jwt.__version__}: " in done.stderr
    assert "_validate_iss" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Listening" not in done.stderr
