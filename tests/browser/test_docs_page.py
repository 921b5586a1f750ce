"""The page at /docs as a person uses it, in a real browser, in front of real FastAPI services."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.support.browser import Browser
from tests.support.gateway import GatewayProcess
from tests.support.redis import free_port
from tests.support.services import FastAPIService
from tests.support.tokens import signed

SERVICE = """
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI(title="Devices")

class Device(BaseModel):
    name: str

@app.get("/api/devices", tags=["things"])
def list_devices() -> list[Device]:
    return [Device(name="lamp")]
"""
numbers = count(1)


@pytest.fixture
def page(chromium: Browser) -> Browser:
    """The browser, with nothing left of the test before."""
    chromium.complaints()
    chromium.hosts_asked()
    return chromium


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FastAPIService]:
    with FastAPIService(tmp_path_factory.mktemp("service"), SERVICE) as running:
        yield running


def settings_for(service: FastAPIService, **more: Any) -> dict[str, Any]:
    dead = [f"http://127.0.0.1:{free_port()}"]
    targets = {"auth": dead, "livestreams": dead, "rules": dead, "devices": [service.url]}
    return {
        "docs": {"title": "Home"},
        "services": {name: {"targets": urls} for name, urls in targets.items()},
        "ratelimit": {"default": "3/day"},
    } | more


@pytest.fixture(scope="module")
def gateway(start_gateway: Callable[..., GatewayProcess], service: FastAPIService) -> GatewayProcess:
    return start_gateway(settings_for(service))


def url(gateway: GatewayProcess, path: str = "/docs") -> str:
    return f"http://127.0.0.1:{gateway.port}{path}"


def use_token(page: Browser, subject: str) -> None:
    page.element("#token").send_keys(signed(subject))
    page.click("#token-form button")
    # Swagger UI shows a closed lock.
    page.element("button.authorize.locked")


def execute(page: Browser, status: str) -> str:
    """Sends the operation that is open; what is shown of the answer."""
    page.click("button.execute")
    return page.element(".live-responses-table .response", status).text


def test_one_looks_authorizes_once_and_tries_until_the_quota_is_used_up(page: Browser, gateway: GatewayProcess) -> None:
    page.open(url(gateway))
    page.element("#title", "Home")
    page.element(".opblock-summary-path", "/api/devices")
    use_token(page, f"caller-{next(numbers)}")
    page.click(".opblock-summary-path", "/api/devices")
    page.click("button.try-out__btn")
    shown = execute(page, "200")
    assert "lamp" in shown
    assert "x-ratelimit-remaining: 2" in shown
    assert 'ratelimit-policy: "default";q=3;w=86400' in shown
    for _ in range(2):
        execute(page, "200")
    assert page.complaints() == []
    shown = execute(page, "429")
    assert "quota-exceeded" in shown
    assert "retry-after" in shown
    assert page.hosts_asked() == {f"127.0.0.1:{gateway.port}"}
    # What is left is the browser's own word for an answer of 429.
    assert all("429" in line for line in page.complaints())


def test_each_service_by_itself_and_what_is_missing_is_told(page: Browser, gateway: GatewayProcess) -> None:
    page.open(url(gateway))
    page.element("#state", "The document of rules can't be had at the moment.")
    options = {one.text: one.is_enabled() for one in page.element("#service").find_elements("tag name", "option")}
    assert options == {
        "All services": True,
        "auth (unavailable)": False,
        "livestreams (unavailable)": False,
        "rules (unavailable)": False,
        "Devices": True,
    }
    use_token(page, f"caller-{next(numbers)}")
    page.click("#service option", "Devices")
    page.element(".info .title", "Devices")
    # Authorized still: it is the same gateway.
    page.element("button.authorize.locked")
    assert page.element("#service").get_attribute("value") == "devices"
    assert page.complaints() == []


def test_a_document_that_got_old_is_told_so(
    page: Browser, tmp_path: Path, start_gateway: Callable[..., GatewayProcess]
) -> None:
    with FastAPIService(tmp_path, SERVICE, "old") as service:
        gateway = start_gateway(settings_for(service, docs={"refresh_seconds": 1}), workers=1)
        page.open(url(gateway))
        page.element("#service option", "Devices")
    states = "/docs/services.json"
    gateway.wait_until(lambda: b'"state":"stale"' in gateway.get(states).body, "notice")
    page.open(url(gateway))
    page.element("#state", "The document of Devices could not be renewed since 20")
    page.element("#service option", "Devices (as of 20")
    # What it said is still shown.
    page.element(".opblock-summary-path", "/api/devices")


def test_where_documents_need_a_token_the_page_asks_for_it(
    page: Browser, service: FastAPIService, start_gateway: Callable[..., GatewayProcess]
) -> None:
    guarded = start_gateway(settings_for(service, docs={"auth": "required"}), workers=1)
    page.open(url(guarded))
    page.element("#state", "These documents need a token.")
    assert "/api/devices" not in page.text()
    use_token(page, f"caller-{next(numbers)}")
    page.element(".opblock-summary-path", "/api/devices")


class Page(BaseHTTPRequestHandler):
    """An empty page, for other origins to be at."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>another origin</title><link rel=icon href=data:>")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def origins() -> Iterator[list[str]]:
    """Two origins that serve a page each."""
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), Page) for _ in range(2)]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    yield [f"http://127.0.0.1:{server.server_port}" for server in servers]
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_page_of_an_allowed_origin_reads_answers_and_another_does_not(
    page: Browser, service: FastAPIService, origins: list[str], start_gateway: Callable[..., GatewayProcess]
) -> None:
    allowed, other = origins
    gateway = start_gateway(settings_for(service, cors={"origins": [allowed]}), workers=1)
    script = f"""
        const answer = await fetch("{url(gateway, "/api/devices")}",
            {{headers: {{Authorization: "Bearer {signed(f"caller-{next(numbers)}")}"}}}});
        return [answer.status, answer.headers.get("X-RateLimit-Remaining"), await answer.text()];
    """
    page.open(allowed)
    assert page.run(script) == [200, "2", '[{"name":"lamp"}]']
    document = f'return (await (await fetch("{url(gateway, "/openapi.json")}")).json()).openapi;'
    assert page.run(document) == "3.1.0"
    assert page.complaints() == []
    page.open(other)
    assert "failed: TypeError" in page.run(script)
    assert "failed: TypeError" in page.run(document)
    # A refused preflight reached no service: the allowed page's quota is as it was.
    page.open(allowed)
    assert page.run(script)[:2] == [200, "1"]


def test_it_looks_right_at_both_widths(page: Browser, gateway: GatewayProcess, tmp_path: Path) -> None:
    page.open(url(gateway))
    page.element(".opblock-summary-path", "/api/devices")
    for width in (390, 1280):
        page.driver.set_window_size(width, 1200)
        assert page.run("return document.documentElement.scrollWidth <= window.innerWidth;")
        page.driver.save_screenshot(str(tmp_path / f"{width}.png"))
        assert (tmp_path / f"{width}.png").stat().st_size > 10_000
    page.driver.set_window_size(1280, 1600)
