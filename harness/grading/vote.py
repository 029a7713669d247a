"""Several judges, one verdict: the majority's."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from harness.records import Grade, Verdict

VOTE = "judges"
"""The vote's name as a grader."""


def vote_version(judges: Iterable[str]) -> str:
    """Return the vote's version: a hash of who votes ('grader@version' each)."""
    return hashlib.sha256("\n".join(sorted(judges)).encode()).hexdigest()[:12]


def majority(judges: Mapping[str, Sequence[Grade]]) -> list[Grade]:
    """Return one grade per answer: the verdict of more than half of all judges, else 'unscored'.

    `judges` maps 'grader@version' to its grades. A judge that could not decide still counts among 'all': one vote
    out of three is no majority because the other two are silent. `reply` lists who voted what.
    """
    votes: dict[tuple[str, str, int], dict[str, Verdict]] = {}
    for judge in sorted(judges):
        for grade in judges[judge]:
            votes.setdefault((grade.model, grade.prompt_id, grade.repeat), {})[judge] = grade.verdict
    version = vote_version(judges)
    return [
        Grade(
            model=model,
            prompt_id=prompt_id,
            repeat=repeat,
            verdict=_decide(cast, len(judges)),
            grader=VOTE,
            grader_version=version,
            reply="; ".join(f"{judge}: {verdict}" for judge, verdict in cast.items()),
        )
        for (model, prompt_id, repeat), cast in votes.items()
    ]


def _decide(cast: Mapping[str, Verdict], judges: int) -> Verdict:
    (verdict, count), *_ = Counter(cast.values()).most_common(1)
    return verdict if 2 * count > judges else "unscored"
