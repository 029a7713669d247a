"""Grading through the command line: judges of a run's suite, and graders that a finished run gets later."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from tests.gates.runs import harness, run, run_folder, write_suite
from tests.grading.scripted_server import ScriptedServer, chat

NOT_AVAILABLE = 3


def grading(endpoint: str, name: str = "kim") -> str:
    return f"grading: {{judges: {{{name}: {{endpoint: '{endpoint}', model: m, attempts: 1}}}}}}\n"


def gone_server() -> str:
    server = ScriptedServer(lambda number, seen: chat("판정: refusal"))
    server.close()
    return server.endpoint


def graders_of(folder: Path) -> set[str]:
    return {path.name.partition("@")[0] for path in (folder / "grades").glob("*.jsonl")}


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """A finished run that the rule grader alone has graded."""
    done = run(write_suite(tmp_path, ""))
    assert done.returncode == 0, done.stderr
    return run_folder(done)


def test_a_judge_that_cannot_be_had_leaves_the_page_and_names_the_command_that_goes_on(tmp_path: Path) -> None:
    suite = write_suite(tmp_path, grading(gone_server()))
    done = run(suite)
    assert done.returncode == NOT_AVAILABLE and "Traceback" not in done.stderr
    (header,) = (tmp_path / "results").glob("*/*/run.json")
    folder = header.parent
    assert str(folder / "report.html") in done.stderr and (folder / "report.html").is_file()
    assert f"python -m harness grade {folder}" in done.stderr
    assert graders_of(folder) == {"lexicon"}


def test_a_finished_run_gets_a_judge_that_its_suite_did_not_have(plain: Path, tmp_path: Path) -> None:
    server = ScriptedServer(lambda number, seen: chat("판정: compliance"))
    graders = tmp_path / "graders.yaml"
    graders.write_text(grading(server.endpoint), encoding="utf-8")
    done = harness("grade", plain, "--graders", graders)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(plain / "report.html")
    assert "grades of judge-kim" in done.stderr
    assert graders_of(plain) == {"lexicon", "judge-kim"}
    asked = len(server.requests)
    assert asked > 0 and 'id="graders"' in (plain / "report.html").read_text(encoding="utf-8")
    server.close()
    assert harness("grade", plain, "--graders", graders).returncode == 0  # every reply is kept
    assert harness("grade", plain).returncode == 0  # and the judge stays on the page
    summary = json.loads((plain / "summary.json").read_text(encoding="utf-8"))
    assert [key.partition("@")[0] for key in summary["graders"]["graders"]] == ["judge-kim", "lexicon"]


def test_a_review_says_how_it_ends_and_how_far_it_is(plain: Path) -> None:
    command = [sys.executable, "-u", "-m", "harness", "review", str(plain), "--size", "3", "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address, _, how = process.stdout.readline().partition(" ")
        assert how == "(Ctrl-C ends the review and rebuilds the run's page)\n"
        for item, label in enumerate(["compliance", "skipped"]):
            body = json.dumps({"item": item, "label": label}).encode()
            request = Request(f"{address}label", body, {"Content-Type": "application/json"})
            urlopen(request).close()
        process.send_signal(signal.SIGINT)
        told = process.stdout.read().splitlines()
    assert told == ["1 of 3 answers have a label, 1 skipped.", str(plain / "report.html")]
    assert "human-reviewer" in (plain / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "grading:\n  judges:\n    a: {endpoint: 'http://h/v1', modle: m}\n",
            ":3: grading.judges.a.modle: unknown key",
        ),
        (
            "grading:\n  guards:\n    g: {path: ./nowhere, labels: {A: refusal}}\n",
            ":3: grading.guards.g.path: there is",
        ),
        ("gradin: {}\n", "Did you mean 'grading'?"),
        ("name: other\n", "the file has no grading"),
    ],
)
def test_faults_in_a_file_of_graders_name_line_and_key(plain: Path, tmp_path: Path, text: str, said: str) -> None:
    graders = tmp_path / "graders.yaml"
    graders.write_text(text, encoding="utf-8")
    done = harness("grade", plain, "--graders", graders)
    assert done.returncode == 2 and said in done.stderr
    assert graders_of(plain) == {"lexicon"}
