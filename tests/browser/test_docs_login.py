"""Login on /docs by name and password, as the document of a service describes it, behind a path prefix."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.support.browser import Browser
from tests.support.gateway import GatewayProcess
from tests.support.redis import free_port
from tests.support.services import FastAPIService
from tests.support.tokens import signed

SERVICE = f"""
from typing import Annotated
from urllib.parse import parse_qs
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.security import OAuth2PasswordBearer

app = FastAPI(title="Devices")
login = OAuth2PasswordBearer("api/devices/login")

@app.post("/api/devices/login")
async def give_token(request: Request) -> dict[str, str]:
    form = parse_qs((await request.body()).decode())
    if (form["username"], form["password"]) != (["alice"], ["secret"]):
        raise HTTPException(400)
    return {{"access_token": "{signed("alice")}", "token_type": "bearer"}}

@app.get("/api/devices")
def list_devices(token: Annotated[str, Depends(login)]) -> list[str]:
    return ["lamp"]
"""
PREFIX = "/home/gateway"


class Front(BaseHTTPRequestHandler):
    """A proxy that serves the gateway at port `behind` under a path prefix."""

    behind = 0

    def do_GET(self) -> None:
        if not self.path.startswith(PREFIX + "/"):
            self.send_error(404)
            return
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        connection = http.client.HTTPConnection("127.0.0.1", self.behind)
        connection.request(self.command, self.path.removeprefix(PREFIX), body, dict(self.headers))
        answer = connection.getresponse()
        content = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "content-length", "connection", "date", "server"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        connection.close()

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def front(start_gateway: Callable[..., GatewayProcess], service: FastAPIService) -> Iterator[str]:
    dead = [f"http://127.0.0.1:{free_port()}"]
    targets = {"auth": dead, "livestreams": dead, "rules": dead, "devices": [service.url]}
    services: dict[str, Any] = {name: {"targets": urls} for name, urls in targets.items()}
    services["devices"]["routes"] = [{"path": "/api/devices/login", "methods": ["POST"], "auth": "none"}]
    gateway = start_gateway({"services": services}, workers=1)
    handler = type("Handler", (Front,), {"behind": gateway.port})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}{PREFIX}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FastAPIService]:
    with FastAPIService(tmp_path_factory.mktemp("service"), SERVICE) as running:
        yield running


def test_login_by_name_and_password_works_behind_a_path_prefix(chromium: Browser, front: str) -> None:
    page = chromium
    for document in ("", "Devices"):
        page.open(f"{front}/docs")
        page.element(".opblock-summary-path", "/api/devices")
        if document:
            page.click("#service option", document)
            page.element(".info .title", document)
        page.click("button.authorize")
        page.element(".auth-container #oauth_username").send_keys("alice")
        page.element(".auth-container #oauth_password").send_keys("secret")
        login = "[...document.querySelectorAll('.auth-container')].find((one) => one.querySelector('#oauth_username'))"
        page.run(f"{login}.querySelector('button.authorize').click();")
        page.element(".auth-container", "Authorized")
        page.click(".close-modal")
        page.element("#forget")
        page.click(".opblock-get .opblock-summary-control")
        page.click("button.try-out__btn")
        page.click("button.execute")
        assert "lamp" in page.element(".live-responses-table .response", "200").text
        assert f"{front}/api/devices" in page.element(".request-url").text
