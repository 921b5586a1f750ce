"""The page at /docs, used as by a person in a real browser, for real FastAPI services."""

from __future__ import annotations

import re
import shlex
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
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

app = FastAPI(title="Devices")

class Device(BaseModel):
    name: str

@app.get("/api/devices", tags=["things"])
def list_devices() -> list[Device]:
    return [Device(name="lamp")]

@app.post("/api/devices/{id}/it's/events", tags=["things"], responses={200: {"content": {"text/event-stream": {}}}})
def listen(id: str) -> StreamingResponse:
    return StreamingResponse(iter(["data: lamp\\n\\n"]), media_type="text/event-stream")
"""
numbers = count(1)


@pytest.fixture
def page(chromium: Browser) -> Browser:
    """The browser without the state of the previous test."""
    chromium.run("sessionStorage.clear();")
    chromium.open("about:blank")
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
    services: dict[str, Any] = {name: {"targets": urls} for name, urls in targets.items()}
    services["livestreams"]["openapi_path"] = ""
    return {"docs": {"title": "Home"}, "services": services, "ratelimit": {"default": "3/day"}} | more


@pytest.fixture(scope="module")
def gateway(start_gateway: Callable[..., GatewayProcess], service: FastAPIService) -> GatewayProcess:
    return start_gateway(settings_for(service))


def url(gateway: GatewayProcess, path: str = "/docs") -> str:
    return f"http://127.0.0.1:{gateway.port}{path}"


def authorize(page: Browser, token: str) -> None:
    """Enters a token at "Authorize"."""
    page.click("button.authorize")
    page.element(".auth-container input").send_keys(token)
    page.click(".auth-container button.authorize")
    page.click(".close-modal, .btn-done")


def use_token(page: Browser, subject: str) -> None:
    authorize(page, signed(subject))
    # Swagger UI shows a closed lock.
    page.element("button.authorize.locked")


def execute(page: Browser, status: str) -> str:
    """Executes the open operation and returns the response that the page shows."""
    before = [one.text for one in page.driver.find_elements("css selector", ".live-responses-table .response")]
    page.click("button.execute")

    def next_response() -> str | None:
        text = page.element(".live-responses-table .response", status).text
        return None if text in before else text

    # The page shows the previous response until the next one arrives. Their remaining requests differ.
    return page.wait_for(next_response, "no new response")


def test_a_reader_authorizes_once_and_tries_an_operation_until_429(page: Browser, gateway: GatewayProcess) -> None:
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
    # Browsers themselves log a response of 429.
    assert all("429" in line for line in page.complaints())


def test_each_service_can_be_chosen_and_missing_documents_are_named(page: Browser, gateway: GatewayProcess) -> None:
    page.open(url(gateway))
    page.element("#state", "The document of rules is not available at the moment.")
    assert "livestreams" not in page.element("#state").text
    options = {one.text: one.is_enabled() for one in page.element("#service").find_elements("tag name", "option")}
    assert options == {
        "All services": True,
        "auth (unavailable)": False,
        "livestreams (no document)": False,
        "rules (unavailable)": False,
        "Devices": True,
    }
    use_token(page, f"caller-{next(numbers)}")
    page.click("#service option", "Devices")
    page.element(".info .title", "Devices")
    # The token is still valid, because the same gateway is shown.
    page.element("button.authorize.locked")
    assert page.element("#service").get_attribute("value") == "devices"
    assert page.complaints() == []


def test_the_page_shows_the_age_of_a_stale_document(
    page: Browser, tmp_path: Path, start_gateway: Callable[..., GatewayProcess]
) -> None:
    with FastAPIService(tmp_path, SERVICE, "old") as service:
        gateway = start_gateway(settings_for(service, docs={"refresh_seconds": 1}), workers=1)
        page.open(url(gateway))
        page.element("#service option", "Devices")
    states = "/docs/services.json"
    gateway.wait_until(lambda: b'"state":"stale"' in gateway.get(states).body, "notice")
    page.open(url(gateway))
    # A time of today is shown as hour and minute in the time zone of the reader.
    said = page.element("#state", "The document of Devices is not available at the moment").text
    assert re.search(r"showing the copy of \d{1,2}:\d\d( [AP]M)?\.", said)
    assert re.search(r"^Devices \(copy of \d{1,2}:\d\d( [AP]M)?\)$", page.element("#service option", "Devices").text)
    # The last known content of the document is still shown.
    page.element(".opblock-summary-path", "/api/devices")


def test_the_page_asks_for_a_token_if_documents_require_one(
    page: Browser, service: FastAPIService, start_gateway: Callable[..., GatewayProcess]
) -> None:
    guarded = start_gateway(settings_for(service, docs={"auth": "required"}), workers=1)
    page.open(url(guarded))
    page.element("#state", "These documents require a token.")
    assert "/api/devices" not in page.text()
    give = page.element("#token").send_keys
    give(signed("anyone", exp=1000))
    page.click("#token-form button")
    page.element("#trouble", "The gateway does not accept this token: the token has expired.")
    page.element("#token").send_keys(f"Bearer {signed('anyone')}")
    page.click("#token-form button")
    page.element(".opblock-summary-path", "/api/devices")
    # The token that loads the document also authorizes the operations, so the page has only one place to enter it.
    page.element("button.authorize.locked")
    assert not page.driver.find_element("id", "token-form").is_displayed()
    assert not page.driver.find_element("id", "trouble").is_displayed()
    page.click("#forget")
    page.element("#state", "These documents require a token.")
    assert "/api/devices" not in page.text()
    assert page.run("return Object.keys(sessionStorage).length;") == 0


def test_the_page_shows_why_a_token_is_invalid(page: Browser, gateway: GatewayProcess) -> None:
    page.open(url(gateway))
    page.element(".opblock-summary-path", "/api/devices")
    # The page has only one control for tokens.
    assert not page.driver.find_element("id", "token-form").is_displayed()
    assert not page.driver.find_element("id", "forget").is_displayed()
    for token, why in [(signed("anyone", exp=1000), "the token has expired"), ("nonsense", "the token")]:
        authorize(page, token)
        page.element("#trouble", f"The gateway does not accept this token: {why}")
        page.element("button.authorize.unlocked")
    use_token(page, f"caller-{next(numbers)}")
    page.wait_for(lambda: not page.driver.find_element("id", "trouble").is_displayed(), "no trouble any more")
    # The token survives a reload until it is forgotten.
    page.open(url(gateway))
    page.element("button.authorize.locked")
    page.click("#forget")
    page.element("button.authorize.unlocked")
    assert page.run("return Object.keys(sessionStorage).length;") == 0
    # This token has expired since the page stored it.
    page.run(f"sessionStorage.setItem('gateway-token', '{signed('anyone', exp=1000)}');")
    page.open(url(gateway))
    page.element("#trouble", "The gateway does not accept this token: the token has expired.")
    page.element("button.authorize.unlocked")


def test_streaming_operations_show_a_curl_command(page: Browser, gateway: GatewayProcess) -> None:
    page.open(url(gateway))
    page.click(".opblock-summary-path", "events")
    command = page.element(".stream pre").text
    path = "/api/devices/{id}/it'\\''s/events"
    assert command == (
        f"curl -N -X POST -H 'Accept: text/event-stream' -H \"Authorization: Bearer $TOKEN\" '{url(gateway, '')}{path}'"
    )
    words = shlex.split(command)
    assert words[-1] == url(gateway, "/api/devices/{id}/it's/events")
    page.click(".opblock-summary-path", "events")
    page.click(".opblock-get .opblock-summary-control")
    page.element(".opblock-get .responses-wrapper")
    assert not page.driver.find_elements("css selector", ".opblock-get .stream")
    assert page.complaints() == []


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_the_page_follows_the_dark_mode_of_the_system(page: Browser, gateway: GatewayProcess, scheme: str) -> None:
    def look_as(wanted: str) -> None:
        features = [{"name": "prefers-color-scheme", "value": wanted}]
        page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def lightness(selector: str) -> int:
        found = f"getComputedStyle(document.querySelector('{selector}')).backgroundColor"
        return int(page.run(f"return Number({found}.match(/[0-9]+/g)[0]);"))

    # An open page follows a change of the preferred color scheme.
    look_as("light" if scheme == "dark" else "dark")
    page.open(url(gateway))
    page.element(".opblock-summary-path", "/api/devices")
    look_as(scheme)
    for selector in ("body", ".swagger-ui select, #service"):
        page.wait_for(lambda: (lightness(selector) < 128) == (scheme == "dark"), f"{selector} in {scheme} colours")  # noqa: B023 - called at once
    look_as("light")


def test_the_page_shows_that_it_is_loading(page: Browser, service: FastAPIService, gateway: GatewayProcess) -> None:
    page.driver.execute_cdp_cmd("Network.enable", {})
    page.driver.execute_cdp_cmd("Network.setBlockedURLs", {"urls": ["*/services.json"]})
    try:
        page.open(url(gateway))
        page.element("#state", "Loading…")
    finally:
        page.driver.execute_cdp_cmd("Network.setBlockedURLs", {"urls": []})
    page.open(url(gateway))
    page.element("#state", "The document of auth is not available")
    assert "Loading" not in page.element("#state").text
    page.driver.execute_cdp_cmd("Network.setBlockedURLs", {"urls": ["*/openapi/devices.json"]})
    try:
        page.click("#service option", "Devices")
        page.element("#state", "The document is not available.")
    finally:
        page.driver.execute_cdp_cmd("Network.setBlockedURLs", {"urls": []})
    page.complaints()


class Page(BaseHTTPRequestHandler):
    """An empty page of another origin."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>another origin</title><link rel=icon href=data:>")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def origins() -> Iterator[list[str]]:
    """Two origins with a page each."""
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), Page) for _ in range(2)]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    yield [f"http://127.0.0.1:{server.server_port}" for server in servers]
    for server in servers:
        server.shutdown()
        server.server_close()


def test_only_pages_of_allowed_origins_can_read_responses(
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
    # The refused preflight reached no service and was not charged: this request is the second one that counts.
    page.open(allowed)
    assert page.run(script)[:2] == [200, "1"]


def test_the_page_looks_right_at_both_widths(page: Browser, gateway: GatewayProcess, tmp_path: Path) -> None:
    page.open(url(gateway))
    page.element(".opblock-summary-path", "/api/devices")
    for width in (390, 1280):
        page.driver.set_window_size(width, 1200)
        assert page.run("return document.documentElement.scrollWidth <= window.innerWidth;")
        page.driver.save_screenshot(str(tmp_path / f"{width}.png"))
        assert (tmp_path / f"{width}.png").stat().st_size > 10_000
    page.driver.set_window_size(1280, 1600)
