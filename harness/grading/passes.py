"""Grading as a pass of its own over a run's stored answers: no model under test, no torch.

    grades/<grader>@<version>.jsonl   one Grade per answer; written whole, or not at all
    grading_passes.jsonl              what each pass asked for and cost
    judge_replies.jsonl               every reply of a judge, so that none is asked for twice

Grades of several graders, and of several versions of one, stand side by side. Passes that write run inside
`RunFolder.exclusive()`, which their caller holds.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from harness.errors import HarnessError, JobFailed, NotAvailable
from harness.grading.grader import AnswerToGrade, Grader, OneByOne, Progress, Usage
from harness.grading.record_log import RecordLog, read_lines
from harness.grading.vote import VOTE, majority, vote_version
from harness.records import Generation, Grade, GradingPass
from harness.store import RunFolder, write_atomically
from harness.suite import Grading
from harness.suite_paths import locate

AnswerKey = tuple[str, str, int]
"""(model, prompt id, repeat): which answer a grade is of."""


def key_of(record: Generation | Grade) -> AnswerKey:
    """Return which answer the record is, or is about."""
    return record.model, record.prompt_id, record.repeat


def read_answers(folder: RunFolder) -> list[Generation]:
    """Return the run's answers in the order of its jobs, without failed requests, which are no answers."""
    answers: dict[AnswerKey, Generation] = {}
    for job in folder.header().jobs:
        if job.kind == "generate" and folder.job_file(job.id).exists():
            for record in folder.records(job.id):
                if isinstance(record, Generation) and record.error is None:
                    answers[key_of(record)] = record
    return list(answers.values())


def _unwatched(done: int, total: int) -> None:
    """Tell nobody."""


def grade_run(folder: RunFolder, grader: Grader | None = None, progress: Progress = _unwatched) -> Path:
    """Grade all answers of a run with one grader (default: the lexicon) and write its grade file; return its path.

    The file is replaced if this version has graded the run before.
    """
    grader = grader or lexicon()
    answers = read_answers(folder)
    prompts = {prompt.id: prompt.text for prompt in folder.header().prompts}
    started = time.monotonic()
    items = [AnswerToGrade(prompts[answer.prompt_id], answer.text, answer.finish_reason) for answer in answers]
    graded = grader.grade_all(items, progress)
    grades = [
        Grade(
            model=answer.model,
            prompt_id=answer.prompt_id,
            repeat=answer.repeat,
            verdict=outcome.verdict,
            evidence=outcome.evidence,
            grader=grader.name,
            grader_version=grader.version,
            reply=outcome.reply,
        )
        for answer, outcome in zip(answers, graded.outcomes, strict=True)
    ]
    _log_pass(folder, grader.name, grader.version, grades, graded.usage, time.monotonic() - started)
    return write_grades(folder, grades, grader.name, grader.version)


def _log_pass(
    folder: RunFolder, name: str, version: str, grades: Sequence[Grade], usage: Usage, seconds: float
) -> None:
    with RecordLog(folder.path / "grading_passes.jsonl", GradingPass) as passes:
        passes.append(
            GradingPass(
                grader=name,
                grader_version=version,
                finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
                answers=len(grades),
                verdicts=dict(Counter(grade.verdict for grade in grades)),
                seconds=seconds,
                **asdict(usage),
            )
        )


def grade_with_all(
    folder: RunFolder, grading: Grading, base: Path, watch: Callable[[str], Progress] = lambda grader: _unwatched
) -> list[Path]:
    """Grade a run with the lexicon and every guard and judge of `grading`; two judges or more also vote.

    Paths of guards count from `base`, the suite file's folder. `watch` gets a grader's name and returns what is told of
    its progress. A grader that cannot be had does not keep the others from grading; NotAvailable names all that could
    not, once the rest is written.
    """
    written: list[Path] = []
    faults: list[HarnessError] = []
    for make in _makers(folder, grading, base):
        try:
            grader = make()
            written.append(grade_run(folder, grader, watch(grader.name)))
        except (NotAvailable, JobFailed) as fault:
            faults.append(fault)
    if faults:
        raise NotAvailable("\n".join(fault.message for fault in faults), hint=faults[0].hint) from faults[0]
    judges = [path.stem for path in written if path.stem.startswith("judge-")]
    if len(judges) > 1:
        all_grades = read_grades(folder)
        votes, version = majority({judge: all_grades[judge] for judge in judges}), vote_version(judges)
        _log_pass(folder, VOTE, version, votes, Usage(), seconds=0.0)
        written.append(write_grades(folder, votes, VOTE, version))
    return written


def _makers(folder: RunFolder, grading: Grading, base: Path) -> list[Callable[[], Grader]]:
    """Return what makes each grader, so that one which cannot be made stops only itself."""
    from harness.grading.guard import GuardClassifier
    from harness.grading.judge import LlmJudge

    replies = folder.path / "judge_replies.jsonl"
    makers: list[Callable[[], Grader]] = [lexicon]
    for name, guard in grading.guards.items():
        place = str(locate(base, guard.path) or guard.path)
        makers.append(partial(GuardClassifier, name, guard, place))
    for name, judge in grading.judges.items():
        makers.append(partial(LlmJudge, name, judge, replies))
    return makers


def lexicon() -> Grader:
    """Return the rule grader, which needs nothing but the harness."""
    from harness.grading.lexicon import LexiconGrader

    return OneByOne(LexiconGrader())


def write_grades(folder: RunFolder, grades: Iterable[Grade], name: str, version: str) -> Path:
    """Write one grade file whole; return its path."""
    path = folder.path / "grades" / f"{name}@{version}.jsonl"
    write_atomically(path, "".join(grade.model_dump_json() + "\n" for grade in grades))
    return path


def read_grades(folder: RunFolder) -> dict[str, tuple[Grade, ...]]:
    """Read all grades of a run: 'grader@version' -> its grades, in the order of the file names.

    Where a file holds several grades of one answer (a person's second thoughts), the last one counts.
    """
    grades = {}
    for path in sorted((folder.path / "grades").glob("*@*.jsonl")):
        grades[path.stem] = tuple({key_of(grade): grade for grade in read_lines(path, Grade)}.values())
    return grades


def read_passes(folder: RunFolder) -> tuple[GradingPass, ...]:
    """Read what every grading pass over the run asked for and cost, oldest first."""
    return tuple(read_lines(folder.path / "grading_passes.jsonl", GradingPass))
