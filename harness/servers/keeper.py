"""Runs a model server and ends it, with all it started, as soon as standard input is closed.

A program of its own, between the run and the server: `python keeper.py COMMAND...`. The run holds the other end of
standard input, so however the run ends, killed without warning included, no server is left behind.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

import psutil

SECONDS_TO_END = 10


def main() -> int:
    """Run the server. Return 0 if it ended with exit status 0, else 1; the log's last line says how it ended."""
    for stop in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(stop, lambda *_: None)  # only the end of standard input counts; the server itself gets signals
    try:
        server = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
    except OSError as error:
        print(f"The server could not be started: {error.strerror}: {sys.argv[1]}", file=sys.stderr)
        return 1
    threading.Thread(target=_end_with_input, args=(server,), daemon=True).start()
    status = server.wait()
    how = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
    _end_session(server)  # what it left behind, which may write to the log as it goes
    print(f"The server ended with {how}.", file=sys.stderr, flush=True)
    return 0 if status == 0 else 1


def _end_with_input(server: subprocess.Popen[bytes]) -> None:
    while os.read(sys.stdin.fileno(), 1024):  # not through sys.stdin, whose lock would break the end of this program
        pass
    _end_session(server)


def _end_session(server: subprocess.Popen[bytes]) -> None:
    """End the server and every other process of this session, which the run has opened for this program alone.

    The server is waited for through its own object only: psutil would take its exit status away from it.
    """
    ends = time.monotonic() + SECONDS_TO_END
    spared = {os.getpid(), server.pid}
    others = [process for process in psutil.process_iter() if process.pid not in spared and _is_here(process.pid)]
    server.terminate()
    for process in others:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _, alive = psutil.wait_procs(others, timeout=SECONDS_TO_END)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    try:
        server.wait(max(0.0, ends - time.monotonic()))
    except subprocess.TimeoutExpired:
        server.kill()


def _is_here(number: int) -> bool:
    try:
        return os.getsid(number) == os.getsid(0)
    except (ProcessLookupError, PermissionError):
        return False


if __name__ == "__main__":
    sys.exit(main())
