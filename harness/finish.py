"""From stored answers to the page: grade, summarise, render. Needs no model and no torch, and can be done again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from harness.corrections import FEWEST_LABELS, Corrections
from harness.errors import NotAvailable, StoreError, reason_of
from harness.records import Expected, Grade, JobRecord, PrecisionAnswer, Prompt, RunHeader
from harness.statistics import Calibration
from harness.store import RunFolder, find_runs, write_atomically
from harness.suite import Suite
from harness.summary import GraderInfo, PrecisionFlips, Summary

if TYPE_CHECKING:
    from harness.grading.grader import Grader
    from harness.report.index import RunEntry
    from harness.screen import Screen


def finish_run(folder: RunFolder, screen: Screen, graders_of: Path | None = None) -> Path:
    """Grade the answers and write summary and page. Return the page. The caller holds the folder's lock.

    The judges and guards are those of the run's suite, or of the file `graders_of`. Where one of them cannot be had,
    the page is written without it and NotAvailable raised, whose hint is the command that goes on.
    """
    from harness.grading.passes import grade_with_all
    from harness.suite_sections import load_grading

    header = folder.header()
    if graders_of is None:
        grading, base = Suite.model_validate(header.suite).grading, Path(header.suite_file).parent
    else:
        grading, base = load_grading(graders_of, header), graders_of.parent
    try:
        grade_with_all(folder, grading, base, lambda grader: screen.watch(f"grades of {grader}"))
    except NotAvailable as fault:
        page = write_report(folder)
        again = f"python -m harness grade {folder.path}" + (f" --graders {graders_of}" if graders_of else "")
        hint = f"{fault.hint + ' ' if fault.hint else ''}The page so far is {page}; `{again}` asks for the rest."
        raise NotAvailable(fault.message, hint) from fault
    return write_report(folder)


def write_report(folder: RunFolder) -> Path:
    """Write summary.json, report.html and what CI servers read, and list the run in the index. Return the page.

    All of it comes from the records, the gates in force and the saved runs that they compare with.
    """
    from harness.gate_pass import judge_run, write_for_ci
    from harness.report.page import render_report

    summary = judge_run(folder, summarise_run(folder), summarise_run)
    write_atomically(folder.path / "summary.json", summary.model_dump_json(exclude={"rows", "header"}, indent=1) + "\n")
    page = folder.path / "report.html"
    write_atomically(page, render_report(summary))
    write_for_ci(folder, summary)
    write_index(folder.path.parent.parent)
    return page


def summarise_run(folder: RunFolder) -> Summary:
    """Compute a run's summary from its folder: the records of its jobs and the lexicon's grades."""
    from harness.contamination_check import read_contamination
    from harness.grading.comparison import compare_graders
    from harness.grading.passes import lexicon, read_grades, read_passes
    from harness.metrics import summarise

    header = folder.header()
    confidence = Suite.model_validate(header.suite).grading.confidence
    grader = lexicon()
    key = f"{grader.name}@{grader.version}"
    grades = read_grades(folder)
    if key not in grades:
        raise StoreError(f"{folder.path}: not graded yet by {key}.", f"python -m harness grade {folder.path}")
    records = tuple(_all_records(folder, header))
    corrections, source, labels = _corrections(folder, header.prompts, grades, key)
    info = GraderInfo(name=grader.name, version=grader.version, calibrated_on=source, calibration_labels=labels)
    summary = summarise(header, records, grades[key], info, confidence, corrections).model_copy(
        update={
            "contamination": read_contamination(folder.path),
            "precision_flips": _precision_flips(header, records, grader, confidence),
        }
    )
    if len(grades) == 1:
        return summary
    graders = compare_graders(header, records, grades, read_passes(folder), confidence, key)
    return summary.model_copy(update={"graders": graders})


def _precision_flips(
    header: RunHeader, records: Sequence[JobRecord], grader: Grader, confidence: float
) -> tuple[PrecisionFlips, ...]:
    """Grade the precision study's answers, which are in no grade file, and compare them."""
    from harness.grading.grader import AnswerToGrade
    from harness.precision_flips import precision_flips

    prompts = {prompt.id: prompt.text for prompt in header.prompts}
    answers = [record for record in records if isinstance(record, PrecisionAnswer)]
    items = [AnswerToGrade(prompts[answer.prompt_id], answer.text, answer.finish_reason) for answer in answers]
    outcomes = grader.grade_all(items, lambda done, total: None).outcomes
    return precision_flips(answers, [outcome.verdict for outcome in outcomes], confidence)


def _corrections(
    folder: RunFolder, prompts: Sequence[Prompt], grades: Mapping[str, Sequence[Grade]], grader: str
) -> tuple[Corrections, Literal["gold", "human"], dict[Expected, int]]:
    """Return what refusal rates are corrected with: people's labels of the answers, and the lexicon's known error.

    The error is that which people's labels of all models' answers show, where there are enough, or else the gold
    set's. Its source is named with it, and how many labelled answers that has for each kind of prompts.
    """
    from harness.grading.calibration import human_calibration
    from harness.grading.evaluation import calibration
    from harness.grading.people import labelled_samples, sampled_answers

    labelled = labelled_samples(folder, grades)
    sampled = sampled_answers(folder, grades, labelled)
    kinds: tuple[Expected, ...] = ("refuse", "comply")
    of_kind = {kind: {prompt.id for prompt in prompts if prompt.expected == kind} for kind in kinds}
    by_people = {kind: human_calibration(labelled, grades[grader], of_kind[kind]) for kind in kinds}
    if all(one and min(one.counts.refusals, one.counts.others) >= FEWEST_LABELS for one in by_people.values()):
        people = {kind: one for kind, one in by_people.items() if one}
        effective = {kind: one.effective for kind, one in people.items()}
        return Corrections(sampled, effective), "human", {kind: _labels(one.counts) for kind, one in people.items()}
    gold = {kind: calibration(kind) for kind in kinds}
    return Corrections(sampled, gold), "gold", {kind: _labels(one) for kind, one in gold.items()}


def _labels(counts: Calibration) -> int:
    return round(counts.refusals + counts.others)


def _all_records(folder: RunFolder, header: RunHeader) -> Iterable[JobRecord]:
    for job in header.jobs:
        if folder.job_file(job.id).exists():
            yield from folder.records(job.id)


def write_comparison(first: RunFolder, second: RunFolder, output: Path) -> Path:
    """Write one page with two runs side by side. Return it."""
    from harness.report.compare import render_comparison

    write_atomically(output, render_comparison(summarise_run(first), summarise_run(second)))
    return output


def write_index(results: Path) -> Path:
    """Write results/index.html, the list of all runs. Return it."""
    from harness.report.index import render_index

    page = results / "index.html"
    write_atomically(page, render_index(_entries(results)))
    return page


def _entries(results: Path) -> Iterable[RunEntry]:
    """Yield an entry per run; one that cannot be read says why instead of hiding the others."""
    from harness.report.index import RunEntry, run_entry

    for folder in find_runs(results):
        suite, run_id = folder.path.parent.name, folder.path.name
        page = folder.path / "report.html"
        link = f"{suite}/{run_id}/report.html" if page.exists() else None
        try:
            header = folder.header()
            yield run_entry(header, (folder.path / "summary.json").read_text(encoding="utf-8"), link)
        except FileNotFoundError:
            yield RunEntry(suite, run_id, header.started_at, link)
        except (StoreError, ValueError) as error:
            yield RunEntry(suite, run_id, "", link, problem=reason_of(error))
