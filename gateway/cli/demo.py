"""`flask demo`: runs the gateway in front of four sample services, and prints a tour of commands to paste."""

from __future__ import annotations

import errno
import json
import os
import shlex
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import click

from gateway.cli.output import CouldNotRun, progress_bar
from gateway.config import Settings, project_folder
from gateway.config.load import environment_without_settings
from gateway.demo import ADA
from gateway.system.processes import Child

SERVICES = ("auth", "livestreams", "rules", "devices")
PORT = click.IntRange(1, 65535)
FIRST_PORT = click.IntRange(1, 65536 - len(SERVICES))
START_SECONDS = 30.0


def demo_command(settings: Settings) -> click.Command:
    @click.command("demo")
    @click.option("--port", type=PORT, default=8000, show_default=True, help="The gateway's port.")
    @click.option(
        "--services-from",
        "first_port",
        type=FIRST_PORT,
        default=8001,
        show_default=True,
        help="The first of the four ports of the services.",
    )
    def demo(port: int, first_port: int) -> None:
        """Run four sample services and the gateway until Ctrl-C."""
        if settings.jwt.secret is None:
            raise CouldNotRun(
                "jwt.secret is not set, which the sample auth service signs with: "
                "leave jwt.public_key_file and jwt.jwks_url out, and a secret is generated"
            )
        secret = settings.jwt.secret.get_secret_value()
        check_ports(port, first_port)
        for signal_number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(signal_number, interrupt)
        with tempfile.TemporaryDirectory(prefix="gateway-demo-") as folder:
            children: dict[str, Child] = {}
            try:
                starts = start_all(secret, port, first_port, Path(folder))
                with progress_bar(starts, "Starting", len(SERVICES) + 1) as shown_starts:
                    for name, child in shown_starts:
                        children[name] = child
                        number = port if name == "gateway" else first_port + SERVICES.index(name)
                        wait_until_listening(name, child, number, Path(folder))
                click.echo(tour(f"http://127.0.0.1:{port}", folder))
                while not (ended := [name for name, child in children.items() if child.has_ended()]):
                    time.sleep(0.2)
                raise CouldNotRun(f"{', '.join(ended)} ended unexpectedly:\n{end_of_log(Path(folder), ended[0])}")
            except KeyboardInterrupt:
                click.echo("\nStopping…")
            finally:
                # The gateway stops first, so that it does not forward requests to a service that has stopped.
                for child in reversed(children.values()):
                    child.stop()

    return demo


def interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def check_ports(port: int, first_port: int) -> None:
    """Raises CouldNotRun if the gateway or a service could not listen at its port."""
    service_ports = range(first_port, first_port + len(SERVICES))
    if port in service_ports:
        raise CouldNotRun(f"port {port} can't be both the gateway's and a service's: choose another --port")
    for number in (*service_ports, port):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", number))
            except OSError as error:
                reason = "is in use" if error.errno == errno.EADDRINUSE else f"can't be used ({error.strerror})"
                raise CouldNotRun(f"port {number} {reason}: choose others with --port and --services-from") from error


def start_all(secret: str, port: int, first_port: int, folder: Path) -> Iterator[tuple[str, Child]]:
    """Starts the next process each time that the caller asks for one; its output goes to a log in the folder."""
    ports = {name: first_port + index for index, name in enumerate(SERVICES)}
    root = project_folder()
    environ = environment_without_settings()
    for name, number in ports.items():
        command = [sys.executable, "-m", "gateway.demo", name, str(number)]
        yield name, Child.start(command, root, folder / f"{name}.log", {**environ, "DEMO_SECRET": secret})
    # A gateway.toml beside wsgi.py is not for the demo.
    environ["GATEWAY_CONFIG"] = os.devnull
    environ["GATEWAY_JWT__SECRET"] = secret
    environ["GATEWAY_SERVER__BIND"] = f"127.0.0.1:{port}"
    for name, number in ports.items():
        environ[f"GATEWAY_SERVICES__{name.upper()}__TARGETS"] = f'["http://127.0.0.1:{number}"]'
    command = [sys.executable, "-m", "gunicorn", "wsgi:app"]
    yield "gateway", Child.start(command, root, folder / "gateway.log", environ)


def wait_until_listening(name: str, child: Child, port: int, folder: Path) -> None:
    """Raises CouldNotRun, with the end of its log, if the process does not listen within START_SECONDS."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and not child.has_ended():
        with socket.socket() as probe:
            probe.settimeout(0.5)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise CouldNotRun(f"{name} did not start:\n{end_of_log(folder, name)}")


def end_of_log(folder: Path, name: str) -> str:
    log = folder / f"{name}.log"
    return "\n".join(log.read_text(errors="replace").splitlines()[-15:]) if log.exists() else ""


def tour(base: str, folder: str) -> str:
    """The introduction and the commands to paste, each followed by its output as a comment."""
    email, password = ADA
    body = shlex.quote(json.dumps({"email": email, "password": password}))
    pick = "python3 -c 'import json, sys; print(json.load(sys.stdin)[\"access_token\"])'"
    bearer = '-H "Authorization: Bearer $TOKEN"'
    json_type = "-H 'Content-Type: application/json'"
    return f"""
The gateway listens at {base}, in front of four sample services; their logs are in {folder}.
Paste these into another terminal:

TOKEN=$(curl -s {base}/api/auth/login {json_type} -d {body} | {pick})

curl -s {base}/api/devices {bearer}
# [{{"id":"1","name":"lamp","status":"online"}}]

curl -s {base}/api/devices {bearer} {json_type} -d '{{"name": "fan"}}'
# {{"id":"2","name":"fan"}}

curl -s {base}/api/auth/me {bearer}
# {{"email":"{email}","user_id":"1"}}

curl -s -o /dev/null -w '%{{http_code}}\\n' {base}/api/rules
# 401

curl -s -o /dev/null -D - {base}/api/livestreams {bearer} | grep -i x-ratelimit-limit
# X-RateLimit-Limit: 300

Ctrl-C stops everything.
"""
