"""README.md and docs/*.md are right: link targets exist, examples are valid, commands print what the pages show."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from gateway.config import load_settings
from tests.support.documentation import PAGES, Command, blocks, commands
from tests.support.gateway import ROOT, clean_environment
from tests.support.sockets import free_ports

LINK = re.compile(r"\]\(([^)\s]+)\)")
# Files that examples name and that do not exist on this machine.
EXAMPLE_FILE = re.compile(r'"/(?:etc/gateway|run/secrets)/([\w.-]+)"')
SERVICES = ("auth", "livestreams", "rules", "devices")
MARK = "exit code of the documented command: "


def anchors(text: str) -> set[str]:
    """The fragments that GitHub gives to the headings of a page."""
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
    """A copy of the project, with its own gateway.toml and instance/. Free ports replace the ports of the pages."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(ROOT / "gateway", folder / "gateway")
        for name in ("wsgi.py", "gunicorn.conf.py"):
            shutil.copy(ROOT / name, folder)
        (folder / ".venv").symlink_to(sys.prefix)
        first = free_ports(1 + len(SERVICES))
        self.ports = {str(8000 + index): str(first + index) for index in range(1 + len(SERVICES))}
        self._environ = clean_environment()
        del self._environ["GATEWAY_CONFIG"]
        self._environ["GATEWAY_SERVER__BIND"] = f"127.0.0.1:{first}"
        for index, name in enumerate(SERVICES, 1):
            self._environ[f"GATEWAY_SERVICES__{name.upper()}__TARGETS"] = f'["http://127.0.0.1:{first + index}"]'

    def with_own_ports(self, text: str) -> str:
        """A page's text with this installation's ports."""
        return re.sub(r"\b800[0-4]\b", lambda found: self.ports[found[0]], text)

    def with_documented_ports(self, text: str) -> str:
        """Printed text with the ports of the pages."""
        documented = {own: port for port, own in self.ports.items()}
        return re.sub("|".join(documented), lambda found: documented[found[0]], text)

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            words, cwd=self.folder, env=self._environ, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    @contextmanager
    def demo(self) -> Iterator[None]:
        port, first = self.ports["8000"], self.ports["8001"]
        with self.start(".venv/bin/flask", "demo", "--port", port, "--services-from", first) as process:
            assert process.stdout is not None
            assert any(line.startswith("Ctrl-C") for line in process.stdout), process.communicate()
            try:
                yield
            finally:
                process.terminate()

    def run(self, page: str) -> Iterator[tuple[Command, str, int]]:
        """Runs the commands of a page in one shell; yields each with its output and its exit code."""
        pasted = list(commands(page))
        script = "".join(f'{self.with_own_ports(one.script)}\necho "{MARK}$?"\n' for one in pasted)
        with self.start("bash", "-c", script) as process:
            printed, errors = process.communicate(timeout=100)
        parts = re.split(rf"{MARK}(\d+)\n", self.with_documented_ports(printed))
        assert len(parts) == 2 * len(pasted) + 1, printed + errors
        for one, output, code in zip(pasted, parts[::2], parts[1::2], strict=False):
            yield one, output, int(code)


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation in which `flask demo` runs."""
    installation = Installation(tmp_path_factory.mktemp("installation"))
    with installation.demo():
        yield installation


@pytest.mark.parametrize("name", [name for name, page in PAGES.items() if name != "README.md" and any(commands(page))])
def test_commands_print_what_the_page_shows(installation: Installation, name: str) -> None:
    for command, printed, code in installation.run(PAGES[name]):
        assert code == 0, command.script
        if command.output:
            assert command.shows(printed), f"{command.script}\n{printed}"
