"""Gates as a pass over a run folder or two: judge, write what CI servers read, say how it went. Needs no model.

gates.json         the gates in force and their results
gates.junit.xml    the same for CI servers; only where there are gates
summary.md         gates, rates, ability and speed for the summary of a CI job
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from harness.errors import Fault, InvalidInput, NotAvailable
from harness.gates.baselines import find_saved, save, saved_names
from harness.gates.figures import Run
from harness.gates.judge import judge
from harness.gates.regressions import regression_gates
from harness.gates.stored import gates_in_force, put_in_force, read_report, require, write_report
from harness.gates.words import BUILT_IN, verdict_line
from harness.records import GateReport, GateResult, TaskSample
from harness.store import RunFolder, saving, write_atomically
from harness.suite import Gate
from harness.summary import Summary

JUNIT = "gates.junit.xml"
MARKDOWN = "summary.md"

Summarise = Callable[[RunFolder], Summary]


def judge_run(folder: RunFolder, summary: Summary, summarise: Summarise) -> Summary:
    """The summary with the results of the gates in force, where there are any. `summarise` reads a saved run."""
    source, gates = gates_in_force(folder.path, summary.header)
    if not gates:
        return summary
    results = judge(gates, _run(folder, summary), partial(_saved, results_of(folder), summarise))
    return summary.model_copy(update={"gates": _report(source, gates, results)})


def write_for_ci(folder: RunFolder, summary: Summary) -> None:
    """Write gates.json, gates.junit.xml and summary.md."""
    from harness.report.junit import junit_xml
    from harness.report.step_summary import step_summary

    if summary.gates is not None:
        write_report(folder.path, summary.gates)
        write_atomically(folder.path / JUNIT, junit_xml(summary.header, summary.gates))
    else:
        with saving(folder.path / JUNIT):
            (folder.path / JUNIT).unlink(missing_ok=True)
    write_atomically(folder.path / MARKDOWN, step_summary(summary))


def replace_gates(folder: RunFolder, gates_file: Path) -> None:
    """Put the gates of another file in force for a run; the caller holds the folder's lock and writes the page."""
    from harness.suite_sections import load_gates

    gates = load_gates(gates_file, folder.header(), saved_names(results_of(folder)))
    put_in_force(folder.path, gates, str(gates_file))


def verdict_lines(folder: RunFolder) -> list[str]:
    """One line for each gate of a run that was judged; NotAvailable where it has none."""
    report = read_report(folder.path)
    if report is None or not report.results:
        raise NotAvailable(f"{folder.path}: the run has no gates.", "Give some with --gates FILE.")
    return [f"{result.outcome.replace('_', ' ')}: {verdict_line(result)}" for result in report.results]


def require_gates(folder: RunFolder) -> None:
    """Raise GatesFailed where the run's gates, as they were judged last, did not all pass."""
    report = read_report(folder.path)
    if report is not None:
        require(report.results, folder.path / "report.html")


def compare_runs(
    saved: RunFolder, run: RunFolder, name: str, gates_file: Path | None, output: Path, summarise: Summarise
) -> GateReport:
    """Judge a run against a saved one, and write the comparison page with JUnit and Markdown beside it.

    Judged are the gates of the file, or else those of the run, that have a `baseline`, whichever it names; where the
    run has none such, the built-in ones.
    """
    from harness.report.compare import render_comparison
    from harness.report.junit import junit_xml
    from harness.report.step_summary import comparison_summary

    before, after = summarise_graded(saved, summarise), summarise_graded(run, summarise)
    source, gates = _comparing_gates(run, after, gates_file)
    if not gates:
        source, gates = BUILT_IN, regression_gates(before, name)
    if not gates:
        raise NotAvailable(f"{saved.path}: there is nothing to compare in this run.")
    gates = {key: gate.model_copy(update={"baseline": name}) for key, gate in gates.items()}
    first = _run(saved, before)
    report = _report(source, gates, judge(gates, _run(run, after), lambda _: first))
    write_atomically(output, render_comparison(before, after, report))
    write_atomically(output.with_suffix(".junit.xml"), junit_xml(after.header, report))
    write_atomically(output.with_suffix(".md"), comparison_summary(before, after, report))
    return report


def _comparing_gates(run: RunFolder, summary: Summary, gates_file: Path | None) -> tuple[str, dict[str, Gate]]:
    from harness.suite_sections import load_gates

    if gates_file is None:
        source, gates = gates_in_force(run.path, summary.header)
        return source, {name: gate for name, gate in gates.items() if gate.baseline is not None}
    gates = {
        name: gate
        for name, gate in load_gates(gates_file, summary.header, baselines=None).items()
        if gate.baseline is not None
    }
    if not gates:
        raise InvalidInput([Fault(str(gates_file), None, "gates", "none of the gates has a baseline to compare with.")])
    return str(gates_file), gates


def save_baseline(results: Path, name: str, run: RunFolder, summarise: Summarise, *, replace: bool) -> Path:
    """Keep a copy of a run under a name and return its folder; only a complete run whose records can be read."""
    if not summarise_graded(run, summarise).complete:
        raise NotAvailable(f"{run.path}: the run is not complete.", "Give its command again, then save it.")
    return save(results, name, run, replace=replace)


def open_saved(results: Path, name_or_folder: str) -> tuple[str, RunFolder]:
    """A saved run by its name, or any run by its folder, with the name to call it by."""
    if (Path(name_or_folder) / "run.json").is_file():
        folder = RunFolder.open(Path(name_or_folder))
        return folder.header().run_id, folder
    return name_or_folder, find_saved(results, name_or_folder)


def results_of(folder: RunFolder) -> Path:
    """The folder of all runs that a run lies in."""
    return folder.path.parent.parent


def _saved(results: Path, summarise: Summarise, name: str) -> Run:
    folder = find_saved(results, name)
    return _run(folder, summarise_graded(folder, summarise))


def summarise_graded(folder: RunFolder, summarise: Summarise) -> Summary:
    """A run's summary by today's rule grader, whichever graded it before."""
    with folder.exclusive():
        grade_if_needed(folder)
    return summarise(folder)


def grade_if_needed(folder: RunFolder) -> None:
    """Grade a run that only an earlier rule grader has graded; the caller holds the folder's lock."""
    from harness.grading.passes import grade_run, lexicon, read_grades

    grader = lexicon()
    if f"{grader.name}@{grader.version}" not in read_grades(folder):
        grade_run(folder, grader)


def _run(folder: RunFolder, summary: Summary) -> Run:
    return Run(summary, partial(_samples, folder, summary))


def _samples(folder: RunFolder, summary: Summary) -> tuple[TaskSample, ...]:
    jobs = [job.id for job in summary.header.jobs if job.kind == "lm_eval" and folder.job_file(job.id).exists()]
    return tuple(record for job in jobs for record in folder.records(job) if isinstance(record, TaskSample))


def _report(source: str, gates: Mapping[str, Gate], results: tuple[GateResult, ...]) -> GateReport:
    plain = {name: gate.model_dump(mode="json", exclude_defaults=True) for name, gate in gates.items()}
    return GateReport(source=source, gates=plain, results=results)
