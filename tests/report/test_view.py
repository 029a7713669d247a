"""The server: what it gives, and what it must not give."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from harness.errors import NotAvailable
from harness.report.view import make_server, serve


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    run = folder / "suite 한글" / "run"
    run.mkdir(parents=True)
    (folder / "index.html").write_text("index", encoding="utf-8")
    (run / "report.html").write_text("report", encoding="utf-8")
    (run / "records.jsonl").write_text("{}", encoding="utf-8")
    (run / "tricky.svg").write_text("<svg onload='x()'/>", encoding="utf-8")
    (tmp_path / "secret.txt").write_text("secret", encoding="utf-8")
    (tmp_path / "results-too").mkdir()
    (tmp_path / "results-too" / "secret.txt").write_text("secret", encoding="utf-8")
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    return folder


@pytest.fixture
def server(results: Path) -> Iterator[ThreadingHTTPServer]:
    with make_server(results, 0) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def ask(
    server: ThreadingHTTPServer, path: str, method: str = "GET", host: str | None = None
) -> tuple[int, dict[str, str], bytes]:
    """One request whose path is sent exactly as given."""
    port = server.server_address[1]
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.putrequest(method, path, skip_host=True)
    connection.putheader("Host", host or f"127.0.0.1:{port}")
    connection.endheaders()
    response = connection.getresponse()
    return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()


def test_pages_are_served_with_strict_headers(server: ThreadingHTTPServer) -> None:
    status, headers, body = ask(server, "/")
    assert (status, body) == (200, b"index")
    status, headers, body = ask(server, "/suite%20%ED%95%9C%EA%B8%80/run/report.html")
    assert (status, body) == (200, b"report")
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert ask(server, "/index.html", method="HEAD")[2] == b""


def test_only_pages_are_html(server: ThreadingHTTPServer) -> None:
    run = "/suite%20%ED%95%9C%EA%B8%80/run/"
    assert ask(server, run + "records.jsonl")[1]["content-type"] == "text/plain; charset=utf-8"
    assert ask(server, run + "tricky.svg")[1]["content-type"] == "application/octet-stream"


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "/%2e%2e%2fsecret.txt",
        "/suite%20%ED%95%9C%EA%B8%80/../../secret.txt",
        "/..%5csecret.txt",
        "/../results-too/secret.txt",
        "//../secret.txt",
        "/link.txt",
        "/%00",
        "/%ff%fe",
        "/" + "a" * 5_000,
        "/etc/passwd",
        "//etc/passwd",
        "/index.html/../../secret.txt",
    ],
)
def test_nothing_outside_the_results_folder_is_given(server: ThreadingHTTPServer, path: str) -> None:
    status, _, body = ask(server, path)
    assert status == 404
    assert b"secret" not in body
    assert b"root:" not in body


def test_folders_are_not_listed(server: ThreadingHTTPServer) -> None:
    status, _, body = ask(server, "/suite%20%ED%95%9C%EA%B8%80/run/")
    assert status == 404
    assert b"report" not in body


def test_other_names_for_this_machine_are_refused(server: ThreadingHTTPServer) -> None:
    port = server.server_address[1]
    assert ask(server, "/", host="evil.example")[0] == 421
    assert ask(server, "/", host=f"evil.example:{port}")[0] == 421
    assert ask(server, "/", host=f"localhost:{port}")[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_it_only_reads(server: ThreadingHTTPServer, method: str) -> None:
    assert ask(server, "/", method=method)[0] == 501


def test_it_listens_on_loopback_only(server: ThreadingHTTPServer) -> None:
    assert server.server_address[0] == "127.0.0.1"


def test_a_missing_folder_and_a_taken_port_are_said_in_a_sentence(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    with pytest.raises(NotAvailable, match="there is no such folder"):
        make_server(tmp_path / "absent", 0)
    with pytest.raises(NotAvailable, match="cannot be opened"):
        make_server(tmp_path, server.server_address[1])


def test_serving_opens_the_browser_at_the_address_and_ends_with_ctrl_c(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    said: list[str] = []

    def interrupted(self: ThreadingHTTPServer) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("webbrowser.open", opened.append)
    monkeypatch.setattr(ThreadingHTTPServer, "serve_forever", interrupted)
    serve(results, 0, open_browser=True, announce=said.append)
    assert opened[0].startswith("http://127.0.0.1:")
    assert said[0].startswith(opened[0])
    serve(results, 0, open_browser=False, announce=said.append)
    assert len(opened) == 1
