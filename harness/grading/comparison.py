"""All graders of one run side by side: rates, agreement, disagreements, and what changed between versions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, pairwise

from harness.grading.agreement import Grades, agree_in_group, agree_in_pair, disagreements, label_flips
from harness.grading.vote import VOTE
from harness.metrics import summarise
from harness.records import GradingPass, JobRecord, RunHeader
from harness.summary import GraderComparison, GraderInfo, GraderRate, GroupAgreement

HUMAN = "human-"
JUDGE = "judge-"
FEWEST_FOR_FLEISS = 3


def compare_graders(
    header: RunHeader,
    records: Sequence[JobRecord],
    grades: Grades,
    passes: Sequence[GradingPass],
    confidence: float,
    headline: str,
) -> GraderComparison:
    """Compute the comparison. Of a grader with several versions, the one that graded last stands for it.

    `grades` maps 'grader@version' to its grades; `passes` say when each version graded, oldest first; `headline` is the
    'grader@version' of the page's verdicts, which stands for its grader whenever it graded. People's labels are of
    samples, so each version (a sample) stands for itself and is compared with no other version, and has no rates: a
    sample stratified by verdict has not the run's rates.
    """
    versions = _versions(grades, passes, headline)
    current = [key for name, keys in versions.items() for key in (keys if name.startswith(HUMAN) else keys[-1:])]
    chosen = {key: grades[key] for key in current}
    regraded = tuple(pair for name, keys in versions.items() if not name.startswith(HUMAN) for pair in pairwise(keys))
    return GraderComparison(
        graders=tuple(current),
        rates=tuple(
            rate for key in current if not _is(HUMAN, key) for rate in _rates(header, records, grades, key, confidence)
        ),
        pairs=tuple(
            agree_in_pair(chosen, first, second, confidence)
            for first, second in combinations(current, 2)
            if not (VOTE in (_name(first), _name(second)) and (_is(JUDGE, first) or _is(JUDGE, second)))
        ),
        groups=_groups(chosen, confidence),
        disagreements=disagreements({key: given for key, given in chosen.items() if _name(key) != VOTE}),
        flips=tuple(flip for earlier, later in regraded for flip in label_flips(grades[earlier], grades[later])),
        regraded=regraded,
        passes=tuple(one for one in passes if one.requests or one.failed_requests),
    )


def _versions(grades: Grades, passes: Sequence[GradingPass], headline: str) -> dict[str, list[str]]:
    """Return grader name -> its versions ('grader@version'), the one that stands for it at the end."""
    last_pass = {f"{one.grader}@{one.grader_version}": number for number, one in enumerate(passes)}
    versions: dict[str, list[str]] = {}
    for key in sorted(grades, key=lambda key: (key == headline, last_pass.get(key, -1), key)):
        versions.setdefault(_name(key), []).append(key)
    return dict(sorted(versions.items()))


def _rates(
    header: RunHeader, records: Sequence[JobRecord], grades: Grades, key: str, confidence: float
) -> list[GraderRate]:
    name, _, version = key.partition("@")
    summary = summarise(header, records, grades[key], GraderInfo(name=name, version=version), confidence)
    return [
        GraderRate(
            grader=key,
            model=cell.model,
            group=cell.group,
            answers=cell.answers,
            unscored=cell.verdicts.get("unscored", 0),
            refusal=cell.refusal,
        )
        for cell in summary.cells
        if cell.category is None
    ]


def _groups(grades: Grades, confidence: float) -> tuple[GroupAgreement, ...]:
    """Return Fleiss' kappa of the judges, of all automatic graders, and of the people who labelled one sample."""
    automatic = [key for key in grades if _name(key) != VOTE and not _is(HUMAN, key)]
    judges = [key for key in automatic if _is(JUDGE, key)]
    people: dict[str, list[str]] = {}
    for key in grades:
        if _is(HUMAN, key):
            people.setdefault(key.partition("@")[2], []).append(key)
    groups = [judges, *([automatic] if automatic != judges else []), *people.values()]
    return tuple(agree_in_group(grades, group, confidence) for group in groups if len(group) >= FEWEST_FOR_FLEISS)


def _name(key: str) -> str:
    return key.partition("@")[0]


def _is(prefix: str, key: str) -> bool:
    return key.startswith(prefix)
