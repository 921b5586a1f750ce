"""FastAPI services in their own processes, served by uvicorn."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

START_SECONDS = 30.0


class FastAPIService:
    """Runs a module that contains a FastAPI `app` on a free port of 127.0.0.1. The module is given as source text."""

    def __init__(self, folder: Path, source: str, name: str = "service") -> None:
        (folder / f"{name}.py").write_text(source)
        self._output = tempfile.TemporaryFile("w+b")  # noqa: SIM115 - open as long as the process
        self._process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", f"{name}:app", "--port", "0", "--app-dir", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._output,
        )
        try:
            self.url = self._wait_for_url()
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> FastAPIService:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def output(self) -> str:
        self._output.seek(0)
        return self._output.read().decode()

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()

    def _wait_for_url(self) -> str:
        deadline = time.monotonic() + START_SECONDS
        while not (found := re.search(r"running on (http://127\.0\.0\.1:\d+)", self.output())):
            assert self._process.poll() is None, self.output()
            assert time.monotonic() < deadline, self.output()
            # Pause between two polls; its length does not matter.
            time.sleep(0.02)
        return found[1]
