"""From stored answers to the page: grade, summarise, render. Needs no model and no torch, and can be done again."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from harness.errors import StoreError
from harness.records import JobRecord
from harness.store import RunFolder, find_runs, write_atomically
from harness.suite import Suite
from harness.summary import GraderInfo, Summary


def finish_run(folder: RunFolder) -> Path:
    """Grade the answers with today's lexicon and write summary and page. Return the page. The caller holds the lock."""
    from harness.grading.passes import grade_run

    grade_run(folder)
    return write_report(folder)


def write_report(folder: RunFolder) -> Path:
    """Write summary.json and report.html from the records alone, and list the run in the index. Return the page."""
    from harness.report.page import render_report

    summary = summarise_run(folder)
    write_atomically(folder.path / "summary.json", summary.model_dump_json(exclude={"rows", "header"}, indent=1) + "\n")
    page = folder.path / "report.html"
    write_atomically(page, render_report(summary))
    write_index(folder.path.parent.parent)
    return page


def summarise_run(folder: RunFolder) -> Summary:
    """Compute a run's summary from its folder: records of its jobs, the newest grades of the suite's grader."""
    from harness.grading.passes import lexicon, read_grades
    from harness.metrics import summarise

    header = folder.header()
    suite = Suite.model_validate(header.suite)
    grader = lexicon()
    key = f"{grader.name}@{grader.version}"
    grades = read_grades(folder)
    if key not in grades:
        raise StoreError(f"{folder.path}: not graded yet by {key}.", f"python -m harness grade {folder.path}")
    info = GraderInfo(name=grader.name, version=grader.version)
    return summarise(header, _all_records(folder), grades[key], info, suite.grading.confidence)


def _all_records(folder: RunFolder) -> Iterable[JobRecord]:
    for job in folder.header().jobs:
        if folder.job_file(job.id).exists():
            yield from folder.records(job.id)


def write_index(results: Path) -> Path:
    """Write results/index.html, the list of all runs."""
    return results
