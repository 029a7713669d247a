"""`serve`: the pages under results/ on this machine alone.

The server listens on 127.0.0.1 only, answers only requests that name it so (a page of another site cannot reach it
by pointing its own name here), reads only, and gives nothing that lies outside the results folder.
"""

from __future__ import annotations

import webbrowser
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

from harness.errors import NotAvailable

HOST = "127.0.0.1"
PAGE_TYPE = "text/html; charset=utf-8"
TYPES = {".html": PAGE_TYPE, ".json": "application/json; charset=utf-8"}
TEXT_TYPE = "text/plain; charset=utf-8"
TEXT_SUFFIXES = {".jsonl", ".txt", ".log", ".yaml", ".csv", ".md"}
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}


class ResultsHandler(SimpleHTTPRequestHandler):
    """GET and HEAD of files inside the results folder; a folder is its index.html or nothing."""

    server_version = "harness"
    sys_version = ""

    def __init__(self, *arguments: object, results: Path) -> None:
        self.results = results.resolve()
        super().__init__(*arguments, directory=str(self.results))  # type: ignore[arg-type]

    def do_GET(self) -> None:
        """Send a file."""
        if self._is_for_us():
            super().do_GET()

    def do_HEAD(self) -> None:
        """Send a file's headers."""
        if self._is_for_us():
            super().do_HEAD()

    def _is_for_us(self) -> bool:
        name = (self.headers.get("Host") or "").rsplit(":", 1)[0]
        if name in (HOST, "localhost"):
            return True
        self.send_error(HTTPStatus.MISDIRECTED_REQUEST, "This server answers to 127.0.0.1 and localhost only.")
        return False

    def translate_path(self, path: str) -> str:
        """The file that a request means; a name that cannot exist for anything outside the results folder."""
        relative = unquote(urlsplit(path).path, errors="replace").lstrip("/")
        missing = self.results / "\N{REPLACEMENT CHARACTER}"
        if "\0" in relative or "\\" in relative:
            return str(missing)
        try:
            wanted = (self.results / relative).resolve()
        except OSError:  # a name longer than the file system takes, a loop of links
            return str(missing)
        if not wanted.is_relative_to(self.results):
            return str(missing)
        # The trailing slash tells the base class that a folder was asked for.
        return str(wanted) + ("/" if path.endswith("/") and wanted.is_dir() else "")

    def list_directory(self, path: object) -> None:
        """Folders are not listed: results/index.html is the list."""
        self.send_error(HTTPStatus.NOT_FOUND, "No such page.")

    def guess_type(self, path: object) -> str:
        """Pages as HTML, records as plain text, all else as a download."""
        suffix = Path(str(path)).suffix.lower()
        return TYPES.get(suffix, TEXT_TYPE if suffix in TEXT_SUFFIXES else "application/octet-stream")

    def end_headers(self) -> None:
        """Add the headers that every answer carries."""
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        """Keep the terminal quiet."""


def make_server(results_folder: Path, port: int) -> ThreadingHTTPServer:
    """A bound server that has not started; port 0 takes a free one. NotAvailable where folder or port cannot be had."""
    if not results_folder.is_dir():
        raise NotAvailable(
            f"{results_folder}: there is no such folder.", "Run a suite first, or name its results folder."
        )
    try:
        return ThreadingHTTPServer((HOST, port), partial(ResultsHandler, results=results_folder))
    except OSError as error:
        raise NotAvailable(
            f"Port {port} on {HOST} cannot be opened: {error.strerror}.",
            "Give another one with --port; 0 takes a free one.",
        ) from error


def serve(
    results_folder: Path,
    port: int,
    open_browser: bool,
    announce: Callable[[str], None] = print,
) -> None:
    """Serve until Ctrl-C. Prints the address and, if asked, opens the browser there."""
    with make_server(results_folder, port) as server:
        address = f"http://{HOST}:{server.server_address[1]}/"
        announce(f"{address} (Ctrl-C stops)")
        if open_browser:
            webbrowser.open(address)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            announce("")
