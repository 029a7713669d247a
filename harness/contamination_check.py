"""Before a run: training rows are read and compared with the prompts; the result is kept in the run folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from harness.contamination import find_overlaps
from harness.errors import Fault, InvalidInput, NotAvailable, StoreError, reason_of
from harness.records import CheckedData, ContaminationReport, OverlapPair, Prompt
from harness.screen import printable
from harness.store import write_atomically
from harness.suite import TrainingData
from harness.suite_file import LoadedSuite
from harness.suite_yaml import shown
from harness.workloads.training_data import load_rows

FILE_NAME = "contamination.json"


def check_suite(loaded: LoadedSuite, prompts: Sequence[Prompt]) -> ContaminationReport:
    """Compare the rows of every training step with the prompts; without prompts there is nothing to look for.

    A hub data set that cannot be had here, and an adapter that was trained elsewhere, are in the report as not checked.
    Raises `InvalidInput` for a local training file with faults.
    """
    settings = loaded.suite.contamination
    data: list[CheckedData] = []
    pairs: list[OverlapPair] = []
    rows_by_prompt: Counter[str] = Counter()
    for name, source in _training_data(loaded).items() if prompts else ():
        shown = source.path or source.hub or ""
        try:
            rows = load_rows(source, str(loaded.resolve(source.path)) if source.path else shown).rows
        except NotAvailable as error:
            data.append(CheckedData(name=name, data=shown, not_checked=error.message))
            continue
        overlaps = find_overlaps(name, rows, prompts, settings)
        data.append(CheckedData(name=name, data=shown, rows=len(rows)))
        pairs += overlaps.pairs
        rows_by_prompt += overlaps.rows_by_prompt
    return ContaminationReport(
        excludes=settings.exclude,
        ngram=settings.ngram,
        ngram_other_scripts=settings.ngram_other_scripts,
        threshold=settings.threshold,
        prompts=len(prompts),
        data=(*data, *(_adapters_from_elsewhere(loaded) if prompts else ())),
        rows_by_prompt=dict(rows_by_prompt),
        pairs=tuple(pairs),
    )


def _training_data(loaded: LoadedSuite) -> dict[str, TrainingData]:
    """Each set of rows once, by the names of the training steps that use it."""
    names: dict[TrainingData, list[str]] = {}
    for name, training in loaded.suite.training.items():
        rows = training.data.model_copy(update={"prompt_format": "plain", "loss_on": "everything"})
        names.setdefault(rows, []).append(name)
    return {_together(steps): rows for rows, steps in names.items()}


def _together(steps: Sequence[str]) -> str:
    """A name for steps with the same rows, of which a sweep has many."""
    return ", ".join(steps) if len(steps) < 3 else f"{steps[0]} and {len(steps) - 1} others"


def _adapters_from_elsewhere(loaded: LoadedSuite) -> list[CheckedData]:
    reason = "The adapter was not trained by this suite, so its training rows are not known."
    elsewhere = [
        CheckedData(name=name, data=model.adapter.path, not_checked=reason)
        for name, model in loaded.suite.models.items()
        if model.adapter is not None and model.adapter.path is not None
    ]
    reason = "The model is on an external server, so the rows it was tuned on are not known."
    return elsewhere + [
        CheckedData(name=name, data=model.served_name or "", not_checked=reason)
        for name, model in loaded.suite.models.items()
        if model.served_name is not None and model.compare_to is not None
    ]


def without_overlaps(loaded: LoadedSuite, prompts: Sequence[Prompt], report: ContaminationReport) -> tuple[Prompt, ...]:
    """The prompts of the run: all, or where the suite excludes them, those that overlap with no training row."""
    if not report.excludes or not prompts:
        return tuple(prompts)
    kept = tuple(prompt for prompt in prompts if prompt.id not in report.rows_by_prompt)
    if not kept:
        problem = "every prompt overlaps with a training row; none is left."
        raise InvalidInput([Fault(shown(loaded.file), None, "contamination.exclude", problem)])
    return kept


def findings(report: ContaminationReport) -> list[str]:
    """What was found, one sentence per line; empty where all was checked and nothing overlaps."""
    lines = [f"{source.name}: not checked for contamination. {source.not_checked}" for source in unchecked(report)]
    affected = len(report.rows_by_prompt)
    if affected:
        done = (
            "contamination.exclude leaves them out" if report.excludes else "contamination.exclude would leave them out"
        )
        lines.append(f"{affected} of {report.prompts} prompts overlap with training rows; {done}.")
    return lines


def listing(report: ContaminationReport) -> list[str]:
    """What was compared, what was found, and every pair on three lines, for the terminal."""
    lines = [f"{source.name}: {source.rows} rows of {source.data}" for source in report.data if not source.not_checked]
    lines += findings(report)
    if not report.data:
        lines.append("The suite trains nothing, so there is nothing to compare its prompts with.")
    elif not report.rows_by_prompt and len(unchecked(report)) < len(report.data):
        lines.append(f"No overlap was found; {report.prompts} prompts were compared.")
    for pair in report.pairs:
        more = report.rows_by_prompt[pair.prompt_id]
        of_several = f" ({more} rows overlap with this prompt)" if more > 1 else ""
        lines += [
            "",
            f"{pair.kind} {pair.score:.2f}  {pair.prompt_id} and row {pair.row} of {pair.training}{of_several}",
            f"  prompt: {_one_line(pair.prompt)}",
            f"  {pair.field}: {_one_line(pair.text)}",
        ]
    return lines


def _one_line(text: str) -> str:
    return printable(" ".join(text.split()))


def unchecked(report: ContaminationReport) -> list[CheckedData]:
    """The sources of training rows that were not compared."""
    return [source for source in report.data if source.not_checked is not None]


def write_contamination(run_folder: Path, report: ContaminationReport) -> None:
    """Keep the report beside the run's records, so that the page can be rebuilt from the folder alone."""
    write_atomically(run_folder / FILE_NAME, report.model_dump_json(indent=1) + "\n")


def read_contamination(run_folder: Path) -> ContaminationReport | None:
    """The report of a run, or None for a run made before there were any; `StoreError` where it is damaged."""
    path = run_folder / FILE_NAME
    try:
        return ContaminationReport.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise StoreError(f"{path}: the contamination report cannot be read: {reason_of(error)}") from error
