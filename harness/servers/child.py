"""One model server as a child of the run: started, waited for, stopped, and asked for its last words."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx

from harness.errors import JobFailed
from harness.process import SHORT_SPIN
from harness.screen import printable
from harness.servers.commands import ServerCommand
from harness.suite import Server

KEEPER = Path(__file__).with_name("keeper.py")
SECONDS_BETWEEN_CHECKS = 0.2
SECONDS_TO_STOP = 20
SECONDS_TO_ANSWER = 3
SECONDS_TO_CLEAR_UP = 12
"""After the server's end its keeper, which ends what the server left behind, is gone within these."""
LAST_LINES = 4
LONGEST_LINE = 300


def free_port() -> int:
    """Return a TCP port of the loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ChildServer:
    """A server process with a keeper in front of it (see `keeper`)."""

    def __init__(self, name: str, settings: Server, command: ServerCommand, port: int, log_file: Path) -> None:
        self.name = name
        self.settings = settings
        self.names = command.names
        self.endpoint = f"http://127.0.0.1:{port}/v1"
        self.log_file = log_file
        self._health = f"http://127.0.0.1:{port}/health"
        self._arguments = command.arguments
        self._keeper: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server and wait until it is healthy. JobFailed, with its last lines, if it does not come up."""
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        with self.log_file.open("ab") as log:
            log.write(f"$ {' '.join(self._arguments)}\n".encode())
            log.flush()
            self._keeper = subprocess.Popen(
                [sys.executable, "-P", str(KEEPER), *self._arguments],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "GOMP_SPINCOUNT": SHORT_SPIN, "VLLM_NO_USAGE_STATS": "1"},
            )
        deadline = time.monotonic() + self.settings.start_timeout_seconds
        while not self._is_healthy():
            problem = None
            if self._keeper.poll() is not None:
                problem = "ended before it was ready"
            elif time.monotonic() > deadline:
                problem = f"was not ready within {self.settings.start_timeout_seconds:g} seconds"
            if problem:
                self.stop()
                raise JobFailed(
                    f"Server '{self.name}' ({self.settings.kind} serve) {problem}: {self.last_lines()}",
                    f"Its whole log is {self.log_file}.",
                )
            time.sleep(SECONDS_BETWEEN_CHECKS)

    def has_died(self) -> bool:
        """Say whether the server has ended by itself."""
        if self._keeper is None:
            return False
        if self._keeper.poll() is None and self._is_healthy():
            return False
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._keeper.wait(SECONDS_TO_CLEAR_UP)
        return self._keeper.poll() is not None

    def stop(self) -> None:
        """End the server and everything it started, first asking, then by force."""
        keeper, self._keeper = self._keeper, None
        if keeper is None or keeper.stdin is None:
            return
        keeper.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            keeper.wait(SECONDS_TO_STOP)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(keeper.pid, signal.SIGKILL)
        keeper.wait()

    def last_lines(self) -> str:
        """Return the end of the log on one line."""
        try:
            lines = self.log_file.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return "(there is no log)"
        told = [printable(line.strip())[:LONGEST_LINE] for line in lines if line.strip()]
        return " | ".join(told[-LAST_LINES:])

    def _is_healthy(self) -> bool:
        try:
            return httpx.get(self._health, timeout=SECONDS_TO_ANSWER, trust_env=False).is_success
        except httpx.HTTPError:
            return False
