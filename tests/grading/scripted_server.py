"""An OpenAI-compatible server that answers from a script, over a real socket.

In a test it runs in a thread; as a program (`python -m tests.grading.scripted_server COUNT`) it is a process of its
own that kills itself in the middle of reply number COUNT.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Scripted:
    """One reply. `promised_bytes` more than the body has makes a reply that breaks off; `piece_seconds` drips it."""

    body: str
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    wait_seconds: float = 0.0
    piece_seconds: float = 0.0
    promised_bytes: int = 0
    hang_up: bool = False


def chat(text: str | None, finish_reason: str = "stop", usage: tuple[int, int] | None = (100, 10)) -> Scripted:
    """Return a proper chat completion."""
    reply: dict[str, Any] = {
        "object": "chat.completion",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish_reason}],
    }
    if usage:
        reply["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1]}
    return Scripted(json.dumps(reply))


def completion(seen: Seen, text: str, finish_reason: str = "stop", usage: tuple[int, int] | None = (7, 3)) -> Scripted:
    """Return a proper reply to a request of either kind, whole or as a stream of words."""
    key: dict[str, Any]
    choices: list[dict[str, Any]] = []
    for piece in [*text.split(" "), None] if seen.body.get("stream") else [text]:
        if "prompt" in seen.body:
            key = {"text": piece or ""}
        else:
            key = {"delta" if seen.body.get("stream") else "message": {"content": piece}}
        choices.append({"index": 0, **key, "finish_reason": finish_reason if piece in (None, text) else None})
    counts: dict[str, Any] = {"usage": {"prompt_tokens": usage[0], "completion_tokens": usage[1]}} if usage else {}
    if not seen.body.get("stream"):
        return Scripted(json.dumps({"choices": choices, **counts}))
    events: list[dict[str, Any]] = [{"choices": [choice]} for choice in choices]
    events[-1] |= counts
    return Scripted("".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n")


@dataclass
class Seen:
    """One request as it came."""

    path: str
    body: dict[str, Any]
    headers: dict[str, str]
    at: float

    @property
    def message(self) -> str:
        return str(self.body["messages"][-1]["content"])


Script = Callable[[int, Seen], Scripted]
"""(number of the request from 0, the request) -> the reply."""


class ScriptedServer:
    """Listens on a free loopback port until closed; keeps every request and the most that were open at once."""

    def __init__(self, script: Script, port: int = 0) -> None:
        self.requests: list[Seen] = []
        self.most_at_once = 0
        self._open = 0
        self._lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                self._send(Scripted("{}"))  # a health check

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                seen = Seen(self.path, body, {k.lower(): v for k, v in self.headers.items()}, time.monotonic())
                with server._counted(seen) as number:
                    self._send(script(number, seen))

            def _send(self, reply: Scripted) -> None:
                time.sleep(reply.wait_seconds)
                if reply.hang_up:
                    self.close_connection = True
                    return
                content = reply.body.encode()
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content) + reply.promised_bytes))
                self.end_headers()
                if reply.piece_seconds:
                    for byte in content:
                        self.wfile.write(bytes([byte]))
                        self.wfile.flush()
                        time.sleep(reply.piece_seconds)
                else:
                    self.wfile.write(content)
                self.close_connection = bool(reply.promised_bytes)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # a client that gave up waiting is part of the script

        self._server = Server(("127.0.0.1", port), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    @contextmanager
    def _counted(self, seen: Seen) -> Iterator[int]:
        with self._lock:
            number = len(self.requests)
            self.requests.append(seen)
            self._open += 1
            self.most_at_once = max(self.most_at_once, self._open)
        try:
            yield number
        finally:
            with self._lock:
                self._open -= 1

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def main() -> None:
    count = int(sys.argv[1])

    def script(number: int, seen: Seen) -> Scripted:
        if number + 1 == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return chat("판정: refusal")

    print(ScriptedServer(script).endpoint, flush=True)
    signal.pause()


if __name__ == "__main__":
    main()
