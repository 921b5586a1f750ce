"""README.md and docs/*.md are right: link targets exist, examples are valid, commands print what the pages show."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from gateway.config import load_settings
from gateway.errors import GatewayError
from gateway.stages.finish import ABORTED, GONE
from tests.support.client import exchange, request_bytes
from tests.support.documentation import PAGES, blocks, commands, section
from tests.support.gateway import BUILT_IN, ROOT, clean_environment
from tests.support.redis import wait_until
from tests.support.sockets import free_ports

LINK = re.compile(r"\]\(([^)\s]+)\)")
# Examples name files in these folders, which do not exist on this machine.
EXAMPLE_FILE = re.compile(r'"/(?:etc/gateway|run/secrets)/([\w.-]+)"')
# The ports that the pages use: of the gateway, of the four built-in services, and of the first own service.
PORTS = ("8000", "8001", "8002", "8003", "8004", "9000")
MARK = "exit code of the documented command: "


def anchors(text: str) -> set[str]:
    """The fragments by which GitHub links to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", PAGES)
def test_link_targets_exist(name: str) -> None:
    for link in LINK.findall(PAGES[name]):
        path, _, fragment = link.partition("#")
        if re.match(r"https?:", path):
            continue
        target = (ROOT / name).parent.joinpath(path).resolve() if path else ROOT / name
        assert target.exists(), link
        if fragment:
            assert fragment in anchors(target.read_text(encoding="utf-8")), link


@pytest.mark.parametrize("name", PAGES)
def test_configuration_files_are_valid(name: str, tmp_path: Path) -> None:
    for number, block in enumerate(blocks(PAGES[name], "toml")):
        for file_name in EXAMPLE_FILE.findall(block):
            (tmp_path / file_name).write_text("redis://127.0.0.1" if "redis" in file_name else "secret" * 8)
        file = tmp_path / f"{number}.toml"
        file.write_text(EXAMPLE_FILE.sub(rf'"{tmp_path}/\1"', block))
        assert load_settings({"GATEWAY_CONFIG": str(file)}).services


@pytest.mark.parametrize("name", PAGES)
def test_yaml_can_be_read(name: str) -> None:
    for block in blocks(PAGES[name], "yaml"):
        assert yaml.safe_load(block)


class Installation:
    """A copy of the project, with its own gateway.toml and instance/. It uses free ports in place of the ports that the
    pages name."""

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        self.folder = folder
        shutil.copytree(ROOT / "gateway", folder / "gateway")
        for name in ("wsgi.py", "gunicorn.conf.py", "LICENSE"):
            shutil.copy(ROOT / name, folder)
        (folder / ".venv").symlink_to(sys.prefix)
        first = free_ports(len(PORTS))
        self._ports = {port: str(number) for number, port in enumerate(PORTS, first)}
        self._environ = clean_environment()
        # Without this variable the gateway reads the gateway.toml beside wsgi.py.
        del self._environ["GATEWAY_CONFIG"]
        wanted = {"GATEWAY_SERVER__BIND": "127.0.0.1:8000", **environ}
        self._environ |= {name: self.with_own_ports(value) for name, value in wanted.items()}

    @property
    def port(self) -> int:
        """The port of this installation's gateway."""
        return int(self._ports["8000"])

    def with_own_ports(self, text: str) -> str:
        """The text of a page, with this installation's ports."""
        return re.sub(r"\b(?:" + "|".join(PORTS) + r")\b", lambda found: self._ports[found[0]], text)

    def with_documented_ports(self, text: str) -> str:
        """Printed text, with the ports that the pages name."""
        documented = {own: port for port, own in self._ports.items()}
        return re.sub("|".join(documented), lambda found: documented[found[0]], text)

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            words, cwd=self.folder, env=self._environ, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    @contextmanager
    def demo(self) -> Iterator[None]:
        port, first = self._ports["8000"], self._ports["8001"]
        with self.start(".venv/bin/flask", "demo", "--port", port, "--services-from", first) as process:
            assert process.stdout is not None
            try:
                assert any(line.startswith("Ctrl-C") for line in process.stdout), "the demo did not start"
                yield
            finally:
                process.terminate()

    @contextmanager
    def server(self, command: str, port: str) -> Iterator[None]:
        """Runs a documented command until the `with` block ends. The block begins once the command listens."""
        log = self.folder / f"{port}.log"
        # The output is not read before the end. It goes to a file, because a pipe could become full.
        script = f"exec {self.with_own_ports(command)} > {log} 2>&1"
        with self.start("bash", "-c", script) as process:
            try:
                wait_until(lambda: accepts_connections(int(self._ports[port])), f"{command} listens")
                yield
            finally:
                process.terminate()

    def run(self, text: str) -> None:
        """Runs the commands in a text, in one shell. Each must end with exit code 0 and print what the text shows."""
        pasted = list(commands(text))
        script = "".join(f'{self.with_own_ports(one.script)}\necho "{MARK}$?"\n' for one in pasted)
        with self.start("bash", "-c", script) as process:
            printed, errors = process.communicate(timeout=100)
        parts = re.split(rf"{MARK}(\d+)\n", self.with_documented_ports(printed))
        assert len(parts) == 2 * len(pasted) + 1, printed + errors
        for one, output, code in zip(pasted, parts[::2], parts[1::2], strict=False):
            assert code == "0", f"{one.script}\n{output}{errors}"
            assert not one.output or one.shows(output), f"{one.script}\n{output}"


def accepts_connections(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation whose `flask demo` is running."""
    targets = {
        f"GATEWAY_SERVICES__{name}__TARGETS": f'["http://127.0.0.1:{port}"]'
        for name, port in zip(BUILT_IN, PORTS[1:], strict=False)
    }
    installation = Installation(tmp_path_factory.mktemp("installation"), targets)
    with installation.demo():
        # /openapi.json is a 503 until the documents have been fetched, which takes longer on a busy machine.
        request = request_bytes("GET", "/openapi.json")
        wait_until(lambda: exchange(installation.port, request).status == 200, "the API document is there")
        yield installation


@pytest.mark.parametrize("name", [name for name in PAGES if name != "README.md" and blocks(PAGES[name], "sh")])
def test_commands_print_what_the_page_shows(installation: Installation, name: str) -> None:
    installation.run(PAGES[name])


def test_the_tour_prints_what_the_readme_shows(installation: Installation) -> None:
    installation.run(section(PAGES["README.md"], "A tour"))


def test_the_first_service_of_the_readme_answers(tmp_path: Path) -> None:
    page = section(PAGES["README.md"], "Your first service")
    installation = Installation(tmp_path, {})
    (configuration,) = blocks(page, "toml")
    (tmp_path / "gateway.toml").write_text(installation.with_own_ports(configuration))
    servers, calls = blocks(page, "sh")
    service, gateway = servers.splitlines()
    with installation.server(service, "9000"), installation.server(gateway, "8000"):
        installation.run(f"```sh\n{calls}```\n")


def test_all_error_codes_are_listed() -> None:
    rows = re.findall(r"^\| (`[a-z_]+`(?:, `[a-z_]+`)*) \| \d{3}", PAGES["docs/failures.md"], re.MULTILINE)
    assert {code for row in rows for code in re.findall(r"[a-z_]+", row)} == error_codes()


def test_operators_read_where_to_look_first() -> None:
    text = section(PAGES["docs/failures.md"], "What to look at first")
    # The page must explain these codes. All other codes are caused by the client alone.
    expected = {"internal", "missing_token", "invalid_token", "insufficient_scope", "quota_exceeded", "overloaded"}
    expected |= {code for code in error_codes() if code.startswith(("upstream_", "limiter_", "keys_"))} | {
        GONE,
        ABORTED,
    }
    assert {code for code in expected if f"| `{code}` |" not in text} == set()


def error_codes() -> set[str]:
    def codes_of(kind: type[GatewayError]) -> set[str]:
        return {kind.code}.union(*map(codes_of, kind.__subclasses__()))

    return codes_of(GatewayError)


def test_named_files_exist() -> None:
    for name, page in PAGES.items():
        for path in re.findall(r"`((?:gateway|tests|docs|\.ci)/[\w./]+)`", page):
            assert (ROOT / path).exists(), f"{name}: {path}"
        for module in re.findall(r"\btests\.benchmarks\.([a-z]\w*)", page):
            assert (ROOT / "tests" / "benchmarks" / f"{module}.py").exists(), f"{name}: {module}"


def test_the_architecture_has_all_rooms_and_stages() -> None:
    page = PAGES["docs/architecture.md"]
    rooms = [path.parent for path in (ROOT / "gateway").glob("*/__init__.py")]
    assert [room.name for room in rooms if f"| `gateway/{room.name}/` |" not in page] == []
    stages = [path.stem for path in (ROOT / "gateway" / "stages").glob("[a-z]*.py")]
    assert [name for name in stages if not re.search(rf"\b{name}\b", page)] == []
    for name in re.findall(r"\b(?:stages|routes|proxy|gunicorn)/\w+", "".join(blocks(page, "text"))):
        assert list((ROOT / "gateway").glob(f"{name}*")), name
