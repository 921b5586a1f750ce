"""`flask demo` runs the sample services and the gateway, and leaves nothing behind."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from gateway import create_app
from gateway.demo.resources import DEVICES, resource_app
from tests.support.commands import run_flask, start_flask
from tests.support.configuration import loaded
from tests.support.gateway import clean_environment
from tests.support.process_table import is_running
from tests.support.sockets import free_ports
from tests.support.tokens import SECRET

LOCAL = "127.0.0.1"


def descendants(pid: int) -> set[int]:
    found: set[int] = set()
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found |= {child} | descendants(child)
    return found


@contextmanager
def demo(port: int, first: int) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """Runs `flask demo`. Yields the process and the lines that it has printed when it is ready."""
    process = start_flask("demo", "--port", str(port), "--services-from", str(first))
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stdout, process.stderr:
        try:
            lines = []
            for line in process.stdout:
                lines.append(line.rstrip("\n"))
                if line.startswith("Ctrl-C stops everything"):
                    break
            else:
                raise AssertionError(f"the demo did not start: {process.stderr.read()}")
            yield process, lines
        finally:
            process.kill()
            process.wait()


def answers_to(lines: list[str]) -> list[tuple[str, str]]:
    """For each command that the demo printed: its output in a shell, and the output that the demo printed for it."""
    commands = [line for line in lines if line.startswith("curl ")]
    said = [line.removeprefix("# ") for line in lines if line.startswith("# ")]
    (login,) = [line for line in lines if line.startswith("TOKEN=")]
    script = "\n".join([login, *(f"{command}; echo; echo @@@" for command in commands)])
    shell = subprocess.run(
        ["bash", "-c", script],  # noqa: S607 - as a user would
        env=clean_environment() | {"no_proxy": "*"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=60,
    )
    return list(zip((one.strip() for one in shell.stdout.split("@@@")[:-1]), said, strict=True))


@pytest.mark.skipif(shutil.which("curl") is None, reason="the lines to paste call curl")
def test_demo_prints_what_its_commands_print_and_leaves_nothing_behind() -> None:
    first = free_ports(5)
    port = first + 4
    with demo(port, first) as (process, lines):
        answers = answers_to(lines)
        assert len(answers) == 5
        for printed, said in answers:
            assert printed == said
        (folder,) = re.findall(r"their logs are in (\S+)\.$", "\n".join(lines), re.MULTILINE)
        logs = {path.name for path in Path(folder).iterdir()}
        assert logs == {"auth.log", "livestreams.log", "rules.log", "devices.log", "gateway.log"}
        children = descendants(process.pid)
        # The demo has four services, gunicorn with its workers, and gunicorn's Redis.
        assert len(children) >= 8

        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        assert [pid for pid in children if is_running(pid)] == []
        assert not Path(folder).exists()
        assert process.stderr is not None
        assert process.stderr.read() == ""
    with ExitStack() as stack:
        for number in range(first, first + 5):
            stack.enter_context(socket.create_server((LOCAL, number)))


def refused_demo(*words: str) -> str:
    """Runs `flask demo` in this process, where it must fail at once. Returns its output."""
    result = create_app(loaded({"jwt": {"secret": SECRET}})).test_cli_runner().invoke(args=["demo", *words])
    assert isinstance(result.exception, SystemExit)
    assert result.exit_code != 0
    return result.output


def test_demo_names_the_port_that_is_in_use() -> None:
    first = free_ports(5)
    words = ("--port", str(first + 4), "--services-from", str(first))
    for taken in (first, first + 3, first + 4):
        with socket.create_server((LOCAL, taken)):
            said = f"Error: port {taken} is in use: choose others with --port and --services-from\n"
            assert refused_demo(*words) == said
    with socket.create_server((LOCAL, first + 4)):
        assert run_flask("demo", *words) == (2, "", said)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--port", "0"], "Invalid value for '--port': 0 is not in the range 1<=x<=65535."),
        (["--port", "65536"], "Invalid value for '--port': 65536 is not in the range 1<=x<=65535."),
        (["--port", "http"], "Invalid value for '--port': 'http' is not a valid integer"),
        (["--services-from", "65533"], "Invalid value for '--services-from': 65533 is not in the range 1<=x<=65532."),
        (["--port", "9003", "--services-from", "9000"], "port 9003 can't be both the gateway's and a service's"),
    ],
)
def test_invalid_ports_of_the_demo_are_refused(words: list[str], said: str) -> None:
    assert said in refused_demo(*words)


def test_sample_services_respond_the_same_with_flask_debug(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLASK_DEBUG", "1")
    answer = resource_app(DEVICES).test_client().get("/api/devices")
    assert answer.text == json.dumps(DEVICES.examples, separators=(",", ":")) + "\n"
