"""The checks at start detect an upgraded library that would disable a part of the gateway.

Each test changes a library as an upgrade could. The check must fail and name this library.
"""

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
from gateway.library_checks import check_libraries, overrides
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
    """gunicorn looks up its parser class at another place, so it does not use the gateway's parser."""
    del http2_connection
    return gunicorn.http.parser.RequestParser(cfg, source, source_addr)


def decode_without_claims_hook(self: Any, token: str, key: Any, **_: Any) -> dict[str, Any]:
    """PyJWT checks claims in another method than the one which the gateway overrides."""
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
    """PyJWT parses tokens in another method than the one which the gateway overrides."""
    payload, signed, header, signature = jwt.PyJWS._load(self, token)
    self._verify_signature(signed, header, signature, key, algorithms, options=options)
    return {"payload": payload, "header": header, "signature": signature}


def other_limiter(self: Any, app: Flask) -> None:
    """Flask-Limiter checks limits in another method; its other hooks are unchanged."""
    for register in (app.after_request, app.teardown_request):
        hook = lambda given: given  # noqa: E731
        hook.__module__ = "flask_limiter.hooks"
        register(hook)
    self.initialized = True


def limiter_with_last_hook(self: Any, app: Flask, usual: Callable[..., None] = flask_limiter.Limiter.init_app) -> None:
    usual(self, app)
    app.after_request(lambda response: response)


def settings_without(name: str) -> list[Any]:
    return [one for one in gunicorn.config.KNOWN_SETTINGS if one.name != name]


CHANGES: dict[str, tuple[str, Change]] = {
    "get_parser ignores RequestParser": ("gunicorn", replaced(gunicorn.http, "get_parser", another_parser)),
    "no handle_request": ("gunicorn", without(AsyncWorker, "handle_request")),
    "other parameters of handle_request": ("gunicorn", replaced(AsyncWorker, "handle_request")),
    "handle_request is not called": ("gunicorn", replaced(AsyncWorker, "handle")),
    "set_body_reader is not called": ("gunicorn", replaced(gunicorn.http.message.Message, "__init__")),
    "no read_into": ("gunicorn", without(gunicorn.http.message.Request, "read_into")),
    "manage_workers is not called": ("gunicorn", replaced(gunicorn.arbiter.Arbiter, "run")),
    "no setting control_socket_disable": (
        "gunicorn",
        replaced(gunicorn.config, "KNOWN_SETTINGS", settings_without("control_socket_disable")),
    ),
    "no setting header_map": ("gunicorn", replaced(gunicorn.config, "KNOWN_SETTINGS", settings_without("header_map"))),
    "do_read is not called": ("gevent", replaced(gevent.baseserver.BaseServer, "_do_read")),
    "other parameters of handle_error": ("gevent", replaced(gevent.hub.Hub, "handle_error")),
    "no _sock": ("gevent", replaced(gevent.socket, "socket", type("socket", (), {}))),
    "other parameters of _compile_builder": ("Werkzeug", replaced(Rule, "_compile_builder", lambda *_: nothing)),
    "no fields in Headers": ("Werkzeug", replaced(Headers, "to_wsgi_list", lambda _: [])),
    "another status": ("Werkzeug", replaced(Response, "status", property(lambda _: "200 OK"))),
    "call_on_close is ignored": ("Werkzeug", replaced(Response, "close")),
    "the check is not called": (
        "Flask-Limiter",
        replaced(flask_limiter.Limiter, "init_app", other_limiter),
    ),
    "another last hook": ("Flask-Limiter", replaced(flask_limiter.Limiter, "init_app", limiter_with_last_hook)),
    "_validate_claims is not called": ("PyJWT", replaced(jwt.PyJWT, "decode_complete", decode_without_claims_hook)),
    "_decode_payload is not called": ("PyJWT", replaced(jwt.PyJWT, "decode_complete", decode_without_payload_hook)),
    "no _validate_iss": ("PyJWT", without(jwt.PyJWT, "_validate_iss")),
    "_validate_aud accepts all": ("PyJWT", replaced(jwt.PyJWT, "_validate_aud")),
    "_load is not called": ("PyJWT", replaced(jwt.PyJWS, "decode_complete", decode_with_another_reader)),
    "connect ignores _connect": ("redis", replaced(redis.connection.Connection, "connect")),
    "no _wrap_socket_with_ssl": ("redis", without(redis.connection.SSLConnection, "_wrap_socket_with_ssl")),
    "no discover_master": ("redis", without(redis.sentinel.Sentinel, "discover_master")),
    "another file format": ("prometheus_client", replaced(mmap_dict, "_unpack_two_doubles", lambda *_: (0.0, 0.0))),
    "gauges stay": ("prometheus_client", replaced(multiprocess, "mark_process_dead")),
    "no samples": ("prometheus_client", replaced(multiprocess.MultiProcessCollector, "collect", lambda _: [])),
    "observe ignores _buckets": ("prometheus_client", replaced(Histogram, "observe")),
}


def test_the_installed_libraries_pass_all_checks() -> None:
    check_libraries()


@pytest.mark.parametrize(("library", "change"), CHANGES.values(), ids=CHANGES)
def test_each_change_is_detected(monkeypatch: pytest.MonkeyPatch, library: str, change: Change) -> None:
    with monkeypatch.context() as patch:
        change(patch)
        with pytest.raises(LibraryMismatch) as caught:
            check_libraries()
    assert {line.partition(" ")[0] for line in caught.value.errors} == {library}
    check_libraries()


def test_flask_cors_that_registers_nothing_is_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cors, "CORS", nothing)
    with pytest.raises(LibraryMismatch, match="flask-cors"):
        cors.install(Flask("test"), CorsSettings(origins=("https://app.example.com",)))


def test_all_settings_in_gunicorn_conf_are_checked() -> None:
    tree = ast.parse((ROOT / "gunicorn.conf.py").read_text())
    names = {target.id for one in tree.body if isinstance(one, ast.Assign) for target in one.targets}  # type: ignore[attr-defined]
    names |= {one.name for one in tree.body if isinstance(one, ast.FunctionDef)}
    assert names - {"settings"} == set(overrides.SETTINGS)


@pytest.mark.parametrize("command", [["gunicorn", "wsgi:app"], ["flask", "check"]], ids=["gunicorn", "check"])
def test_a_changed_library_ends_the_start_with_its_name(tmp_path: Path, command: Sequence[str]) -> None:
    # Python runs this file before all other code.
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
