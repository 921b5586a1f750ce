"""The page /status, used as by an operator in a real browser: narrow and wide, light and dark."""

from __future__ import annotations

import base64
import json
import signal
import struct
import zlib
from collections import Counter
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest

from tests.support.browser import Browser
from tests.support.gateway import GatewayProcess, four_services
from tests.support.tokens import bearer
from tests.support.upstream import ScriptedUpstream

PHONE, DESK = (390, 844), (1280, 900)
HOSTILE = '<img src=x onerror="document.title=1">'


@pytest.fixture
def page(chromium: Browser) -> Browser:
    """The browser without the state of the previous test."""
    chromium.open("about:blank")
    chromium.complaints()
    chromium.hosts_asked()
    look_as(chromium, DESK, "light")
    return chromium


@pytest.fixture(scope="module")
def busy(start_gateway: Callable[..., GatewayProcess], module_upstream: ScriptedUpstream) -> GatewayProcess:
    """A gateway with some traffic, whose configuration contains HTML in names."""
    settings = four_services(module_upstream.url)
    settings["ratelimit"] = {"default": "1000/minute", "plans": json.dumps({HOSTILE: ["1/minute"]})}
    settings["docs"] = {"title": HOSTILE, "enabled": False}
    settings["services"]["auth"] |= {"auth": "none", "limits": ["2/day"]}
    settings["services"]["a_service_with_quite_a_long_name_" + 40 * "x"] = {
        "prefix": "/api/long/" + 60 * "y",
        "targets": [f"{module_upstream.url}/{60 * 'z'}", "http://a-target-with-a-long-name.internal.example.com:8004"],
        "health": {"path": "/health"},
    }
    settings["services"]["zz_broken"] = {"prefix": "/api/broken", "targets": ["http://127.0.0.1:9"], "auth": "none"}
    return start_gateway(settings, workers=1)


def look_as(page: Browser, size: tuple[int, int], scheme: str) -> None:
    width, height = size
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def url(gateway: GatewayProcess) -> str:
    return f"http://127.0.0.1:{gateway.port}/status"


def figure(page: Browser, service: str, name: str) -> str:
    return page.element(f'article[aria-label="{service}"] [data-figure="{name}"]').text


def request_count(page: Browser, service: str) -> int:
    text = page.element(f'article[aria-label="{service}"] .facts').text
    return int(text.partition(" request")[0].split()[-1].replace(",", ""))


def test_the_page_updates_itself_and_loads_nothing_from_other_hosts(page: Browser, busy: GatewayProcess) -> None:
    page.open(url(busy))
    page.element("#as-of", "as of")
    before = request_count(page, "rules")
    for _ in range(7):
        assert busy.get("/api/rules", bearer()).status == 200
    page.wait_for(lambda: request_count(page, "rules") == before + 7, "the page shows the requests")
    assert figure(page, "rules", "requests_per_second") != "0"
    assert figure(page, "rules", "p99_seconds").endswith("s")
    assert figure(page, "rules", "error_share") == "0 %"
    for _ in range(3):
        busy.get("/api/auth/me")
    page.element('article[aria-label="auth"]', "quota_exceeded 1")
    assert page.complaints() == []
    assert page.hosts_asked() == {f"127.0.0.1:{busy.port}"}


def test_a_hidden_page_sends_no_requests(page: Browser, busy: GatewayProcess) -> None:
    page.open(url(busy))
    page.element("#as-of", "as of")
    script = """
        let fetches = 0;
        const fetched = window.fetch;
        window.fetch = (...all) => { fetches += 1; return fetched(...all); };
        Object.defineProperty(document, "hidden", { value: true, configurable: true });
        const until = async (what) => { while (!what()) await new Promise((go) => setTimeout(go, 50)); };
        // The update that is already scheduled is the last one.
        await until(() => fetches === 1);
        await new Promise((go) => setTimeout(go, 3600));
        const whileHidden = fetches;
        Object.defineProperty(document, "hidden", { value: false, configurable: true });
        document.dispatchEvent(new Event("visibilitychange"));
        await until(() => fetches > whileHidden);
        return whileHidden;
    """
    assert page.run(script) == 1


def test_the_page_shows_when_the_gateway_is_unreachable(
    page: Browser, start_gateway: Callable[..., GatewayProcess], module_upstream: ScriptedUpstream
) -> None:
    gateway = start_gateway(four_services(module_upstream.url), workers=1)
    page.open(url(gateway))
    page.element("#as-of", "as of")
    assert page.driver.find_element("id", "trouble").text == ""
    # A graceful shutdown would wait for the open connection of the browser.
    gateway.stop(signal.SIGQUIT)
    page.element("#trouble", "The gateway can't be reached since")
    # The last known figures are still shown.
    page.element("article", "devices")


def test_html_in_texts_is_escaped(page: Browser, busy: GatewayProcess) -> None:
    page.open(url(busy))
    page.click("details summary")
    page.element("#configuration tr", HOSTILE.replace('"', '\\"'))
    assert page.driver.find_elements("css selector", "main img") == []
    assert page.driver.title == "Gateway status"
    assert page.complaints() == []


def test_failing_services_come_first_with_the_reason(page: Browser, busy: GatewayProcess) -> None:
    for _ in range(6):
        assert busy.get("/api/broken").status in (502, 503)
    page.open(url(busy))
    page.element('article[aria-label="zz_broken"] .why', "the breaker of http://127.0.0.1:9 is open")
    assert page.driver.find_element("css selector", "article").get_attribute("aria-label") == "zz_broken"
    tile = page.element("#totals .tile", "Services").text
    assert tile.endswith("of 6 failing")
    # The other services have had no request yet, or respond.
    states = {one.text for one in page.driver.find_elements("css selector", "article header .badge")}
    assert any(state.endswith("failing") for state in states)
    assert page.driver.find_element("css selector", "article .axis").text.split() == ["15", "min", "ago", "now"]
    assert not page.driver.find_element("id", "to-docs").is_displayed()


def test_the_configuration_can_be_filtered_and_marks_changed_values(page: Browser, busy: GatewayProcess) -> None:
    page.open(url(busy))
    page.click("details summary")
    page.element("#configuration tr", "services.rules.targets")

    def shown() -> list[str]:
        # A single call of the driver, because three calls for each of hundreds of rows take too long.
        names: list[str] = page.run("""
            return [...document.querySelectorAll("#configuration tbody tr")]
                .filter((row) => row.checkVisibility()).map((row) => row.querySelector("td").innerText.trim());
        """)
        return names

    whole = shown()
    assert {"services.rules.retries", "services.rules.targets", "cors.max_age_seconds"} <= set(whole)
    page.driver.find_element("id", "filter").send_keys("RULES.")
    assert shown() == [name for name in whole if name.startswith("services.rules.")]
    page.click("#only-set")
    assert "services.rules.targets" in shown()
    assert "services.rules.retries" not in shown()
    assert page.complaints() == []


@pytest.mark.parametrize(("size", "scheme"), [(PHONE, "dark"), (DESK, "light")], ids=["phone", "desk"])
def test_it_looks_right(
    page: Browser, busy: GatewayProcess, tmp_path: Path, size: tuple[int, int], scheme: str
) -> None:
    look_as(page, size, scheme)
    assert busy.get("/api/devices", bearer()).status == 200
    page.open(url(busy))
    page.click("details summary")
    line = 'article[aria-label="devices"] .spark.flow .line'
    page.wait_for(lambda: page.driver.find_elements("css selector", line), "a line is drawn")
    width, overflow = page.run("return [innerWidth, document.scrollingElement.scrollWidth - innerWidth];")
    assert (width, overflow <= 0) == (size[0], True)
    cut = """
        return [...document.querySelectorAll("td, dd, h3, .value, .most, .badge")]
            .filter((one) => one.getBoundingClientRect().right > innerWidth).map((one) => one.textContent);
    """
    assert page.run(cut) == []
    # Each service has one chart for each figure, with a text alternative.
    assert page.run('return document.querySelectorAll("article").length * 5;') == len(
        page.driver.find_elements("css selector", 'svg.spark[role="img"][aria-label*="15 minutes"]')
    )

    whole = screenshot(page, tmp_path / f"{size[0]}-{scheme}.png")
    assert (whole.width, whole.height) == size
    colours = Counter(whole.pixel(x, y) for x in range(0, whole.width, 3) for y in range(0, whole.height, 3))
    assert len(colours) > 20
    background = colours.most_common(1)[0][0]
    assert (sum(background) > 600) == (scheme == "light")

    script = f"""
        const line = document.querySelector('{line}');
        line.closest("article").scrollIntoView();
        const {{ x, y, width, height }} = line.closest("svg").getBoundingClientRect();
        return [x, y, width, height, getComputedStyle(line).stroke];
    """
    x, y, wide, high, stroke = page.run(script)
    chart = screenshot(page, tmp_path / "chart.png")
    drawn = Counter(
        chart.pixel(int(x) + dx, int(y) + dy) for dx in range(int(wide)) for dy in range(int(high)) if y + dy >= 0
    )
    wanted = tuple(int(number) for number in stroke.removeprefix("rgb(").removesuffix(")").split(","))
    assert drawn[wanted] >= wide / 2


class Picture:
    """The pixels of a PNG with eight bits per channel and without interlacing, as browsers write it."""

    def __init__(self, content: bytes) -> None:
        assert content.startswith(b"\x89PNG\r\n\x1a\n")
        at, data = 8, b""
        while at < len(content):
            (length,), kind = struct.unpack(">I", content[at : at + 4]), content[at + 4 : at + 8]
            piece = content[at + 8 : at + 8 + length]
            if kind == b"IHDR":
                self.width, self.height, depth, colour, _, _, interlacing = struct.unpack(">IIBBBBB", piece)
                assert (depth, interlacing) == (8, 0)
                self._channels = {2: 3, 6: 4}[colour]
            elif kind == b"IDAT":
                data += piece
            at += 12 + length
        self._rows = self._unfiltered(zlib.decompress(data))

    def pixel(self, x: int, y: int) -> tuple[int, ...]:
        start = x * self._channels
        return tuple(self._rows[y][start : start + 3])

    def _unfiltered(self, data: bytes) -> list[bytearray]:
        """Reverts the filter of each row (PNG specification, 9)."""
        length, step = self.width * self._channels, self._channels
        rows: list[bytearray] = []
        above = bytearray(length)
        for start in range(0, len(data), length + 1):
            kind, row = data[start], bytearray(data[start + 1 : start + 1 + length])
            if kind == 1:
                for channel in range(step):
                    row[channel::step] = bytes(total & 0xFF for total in accumulate(row[channel::step]))
            elif kind == 2:
                row = bytearray((one + up) & 0xFF for one, up in zip(row, above, strict=True))
            elif kind:
                for i in range(length):
                    left, corner = (row[i - step], above[i - step]) if i >= step else (0, 0)
                    row[i] = (row[i] + predicted(kind, left, above[i], corner)) & 0xFF
            rows.append(row)
            above = row
        return rows


def predicted(kind: int, left: int, up: int, corner: int) -> int:
    if kind == 4:
        distance = {left: abs(up - corner), up: abs(left - corner), corner: abs(left + up - 2 * corner)}
        return min((left, up, corner), key=lambda one: distance[one])
    return (left + up) // 2


def screenshot(page: Browser, file: Path) -> Picture:
    taken: Any = page.driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png", "optimizeForSpeed": True})
    file.write_bytes(base64.b64decode(taken["data"]))
    return Picture(file.read_bytes())
