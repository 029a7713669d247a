"""Whole runs against a server that was there before: failures are shown, and asked for again by the same command."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.grading.scripted_server import Scripted, ScriptedServer, Seen, completion
from tests.servers.runs import answers, finished_page, records, run, start, wait_for_answers, write_prompts


class Server:
    """Answers all but the prompts in `trouble`, which get what is there for them."""

    def __init__(self) -> None:
        self.trouble: dict[str, Scripted] = {}
        self.asked: list[str] = []
        self.wait_seconds = 0.0
        self.http = ScriptedServer(self._script)

    def _script(self, number: int, seen: Seen) -> Scripted:
        prompt = str(seen.body["prompt"])
        self.asked.append(f"{seen.body['model']}: {prompt}")
        reply = self.trouble.get(prompt) or completion(seen, f"{seen.body['model']}의 답")
        return Scripted(reply.body, reply.status, wait_seconds=reply.wait_seconds or self.wait_seconds)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.http.close()


@pytest.fixture
def suite(tmp_path: Path, server: Server) -> Path:
    write_prompts(tmp_path / "prompts.jsonl", [f"질문 {number}" for number in range(8)])
    (tmp_path / "suite.yaml").write_text(
        "name: far\n"
        "prompts: [prompts.jsonl]\n"
        "servers:\n"
        f"  far: {{kind: external, endpoint: '{server.http.endpoint}', attempts: 2, timeout_seconds: 1}}\n"
        "models:\n"
        "  base: {backend: openai_http, server: far, served_name: base-8b, prompt_format: plain}\n"
        "  tuned: {like: base, served_name: safety, compare_to: base}\n"
        "sampling: {batch_size: 2}\n",
        encoding="utf-8",
    )
    return tmp_path / "suite.yaml"


@pytest.mark.parametrize(
    "trouble",
    [Scripted("busy", status=500), Scripted("<html>"), Scripted("{}", wait_seconds=2)],
    ids=["500", "html", "slow"],
)
def test_a_failed_request_is_shown_as_one_and_asked_again_by_the_same_command(
    suite: Path, server: Server, trouble: Scripted
) -> None:
    results = suite.parent / "results"
    server.trouble = {"질문 3": trouble}
    done = run(suite)
    page = finished_page(done)
    assert "1 requests of base failed after all attempts; the same command asks for them again." in done.stderr
    failed = {key: row for key, row in answers(results, "base").items() if row["error"]}
    assert list(failed) == ["p3"] and (failed["p3"]["text"], failed["p3"]["finish_reason"]) == ("", "error")

    server.trouble, server.asked = {}, []
    again = run(suite)
    assert "Going on with" in again.stderr and finished_page(again) == page
    assert sorted(server.asked) == sorted(
        f"{model}: {prompt}" for model in ("base-8b", "safety") for prompt in ("안녕하세요?", "질문 2", "질문 3")
    )
    for model, name in (("base", "base-8b"), ("tuned", "safety")):
        assert {row["text"] for row in answers(results, model).values()} == {f"{name}의 답"}
        assert len(answers(results, model)) == 8
    assert not any(row["kind"] == "event" for row in records(results, "generate"))
    assert "Going on with" not in run(suite).stderr


def test_a_prompt_that_the_server_will_not_take_does_not_keep_the_run_open(suite: Path, server: Server) -> None:
    server.trouble = {"질문 3": Scripted('{"message": "prompt is too long"}', status=400)}
    finished_page(run(suite))
    assert "prompt is too long" in answers(suite.parent / "results", "tuned")["p3"]["error"]
    assert "Going on with" not in run(suite).stderr


def test_a_server_that_goes_away_ends_the_run_with_a_sentence_and_keeps_what_was_finished(
    suite: Path, server: Server
) -> None:
    server.trouble = {f"질문 {number}": Scripted("gone", status=503) for number in range(3, 8)}
    failed = run(suite, "-o", "sampling.batch_size=1")
    assert failed.returncode == 3 and "Traceback" not in failed.stderr
    assert "Server 'far'" in failed.stderr and "no usable replies any more (HTTP status 503: gone)" in failed.stderr
    server.trouble = {}
    done = run(suite, "-o", "sampling.batch_size=1")
    assert "Going on with" in done.stderr
    finished_page(done)
    assert not any(row["error"] for row in answers(suite.parent / "results", "base").values())


def test_no_server_at_all_is_one_sentence(suite: Path, server: Server) -> None:
    server.http.close()
    failed = run(suite)
    assert failed.returncode == 3
    assert "asked as 'base-8b', does not answer (ConnectError" in failed.stderr and "Traceback" not in failed.stderr


def test_ctrl_c_keeps_whole_batches(suite: Path, server: Server) -> None:
    server.wait_seconds = 0.4
    process = start(suite)
    wait_for_answers(suite.parent / "results", 2)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "The same command goes on from here" in errors
    server.wait_seconds, server.asked = 0.0, []
    finished_page(run(suite))
    assert len(server.asked) < 2 * (8 + 1)


def test_answers_are_streamed_to_the_screen(suite: Path) -> None:
    done = run(suite, "--stream", "--ids", "p1", "-o", "sampling.batch_size=1")
    assert "p1: base-8b의답" in done.stderr
    finished_page(done)
