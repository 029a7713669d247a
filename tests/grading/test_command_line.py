"""Grading through the command line: judges of a run's suite, and graders that a finished run gets later."""

from __future__ import annotations

import json
from pathlib import Path

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
