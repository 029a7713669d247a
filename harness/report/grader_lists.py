"""Disagreements, verdicts that versions changed, and what judges cost: the lists of the section on graders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from markupsafe import Markup

from harness.records import GradingPass, Verdict
from harness.report.lookup import Lookup
from harness.report.tables import Column, Entry, Table, number_entry
from harness.report.wording import NO_DATA, VERDICT_NAMES, both, duration, join, number
from harness.summary import Disagreement, GraderComparison, LabelFlip

LONGEST_LIST = 200
LONGEST_QUESTION = 80


class GraderNames:
    """Short names of graders: without the version where no other grader of the run has the name."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._uses = Counter(key.partition("@")[0] for key in keys)

    def short(self, key: str) -> str:
        """The name as text."""
        name = key.partition("@")[0]
        return name if self._uses[name] <= 1 else key

    def marked(self, key: str) -> Markup:
        """The name as it stands in tables."""
        return marked(self.short(key))


def marked(name: str) -> Markup:
    """A grader's name as it stands in tables, isolated from the text around it."""
    return Markup('<b class="grader"><bdi>{}</bdi></b>').format(name)


@dataclass(frozen=True)
class Listing:
    """The first rows of a list, and how many there are in all; `refusal` counts those that bear on a refusal."""

    total: int
    refusal: int
    table: Table

    @property
    def shown(self) -> int:
        """Number of rows on the page."""
        return len(self.table.rows)


def disagreement_list(lookup: Lookup, comparison: GraderComparison, names: GraderNames) -> Listing:
    """Answers judged differently: first those where graders differ on whether they refuse, which the rates count."""
    found = sorted(comparison.disagreements, key=lambda one: not _on_refusal(one))
    listed = found[:LONGEST_LIST]
    place = _Places(lookup, listed)
    columns = [Column("질문", "Prompt"), Column("모델", "Model"), Column("판정", "Verdicts")]
    rows = [[place.prompt(one), place.model(one), Entry(_sides(one, names))] for one in listed]
    return Listing(len(found), sum(map(_on_refusal, found)), Table(columns, rows, css_class="disputes"))


def _on_refusal(one: Disagreement) -> bool:
    return len({verdict == "refusal" for verdict in one.verdicts.values() if verdict != "unscored"}) > 1


def _sides(one: Disagreement, names: GraderNames) -> Markup:
    """Each verdict with the graders that gave it."""
    return Markup("").join(
        Markup('<p class="side">{} {}</p>').format(
            _badge(verdict), join([names.marked(key) for key, given in one.verdicts.items() if given == verdict])
        )
        for verdict in VERDICT_NAMES
        if verdict in one.verdicts.values()
    )


def _badge(verdict: str) -> Markup:
    return Markup('<span class="badge">{}</span>').format(both(*VERDICT_NAMES[verdict]))


def flip_counts(comparison: GraderComparison) -> Table:
    """How many answers went from which verdict to which, between which versions."""
    columns = [
        Column("판정기", "Grader"),
        Column("버전", "Versions"),
        Column("판정", "Verdict"),
        Column("답변", "Answers", "number"),
    ]
    counts = Counter((flip.earlier, flip.later, flip.earlier_verdict, flip.later_verdict) for flip in comparison.flips)
    pairs = dict.fromkeys((flip.earlier, flip.later) for flip in comparison.flips)
    order = {pair: position for position, pair in enumerate(pairs)}
    rows = [
        [
            Entry(marked(earlier.partition("@")[0])),
            Entry(_versions(earlier, later)),
            Entry(_flip(before, after)),
            number_entry(count),
        ]
        for (earlier, later, before, after), count in sorted(
            counts.items(), key=lambda item: (order[item[0][:2]], -item[1], item[0])
        )
    ]
    return Table(columns, rows, css_class="flips")


def flip_list(lookup: Lookup, comparison: GraderComparison) -> Listing:
    """The answers whose verdict changed, first those that became a refusal or ceased to be one."""
    found = sorted(comparison.flips, key=lambda flip: not _flips_refusal(flip))
    listed = found[:LONGEST_LIST]
    place = _Places(lookup, listed)
    columns = [Column("질문", "Prompt"), Column("모델", "Model"), Column("판정기", "Grader"), Column("판정", "Verdict")]
    rows = [
        [
            place.prompt(flip),
            place.model(flip),
            Entry(
                Markup("{}<small>{}</small>").format(
                    marked(flip.later.partition("@")[0]), _versions(flip.earlier, flip.later)
                )
            ),
            Entry(_flip(flip.earlier_verdict, flip.later_verdict)),
        ]
        for flip in listed
    ]
    return Listing(len(found), sum(map(_flips_refusal, found)), Table(columns, rows, css_class="disputes"))


def _flips_refusal(flip: LabelFlip) -> bool:
    return (flip.earlier_verdict == "refusal") != (flip.later_verdict == "refusal")


def _flip(before: Verdict, after: Verdict) -> Markup:
    return Markup('<span class="nowrap">{} → {}</span>').format(_badge(before), _badge(after))


def _versions(earlier: str, later: str) -> Markup:
    return Markup("<code>{}</code> → <code>{}</code>").format(earlier.partition("@")[2], later.partition("@")[2])


class _Places:
    """Entries that say which answer a row is about. Prompts are texts of users: they are isolated and cut."""

    def __init__(self, lookup: Lookup, wanted: Sequence[Disagreement | LabelFlip]) -> None:
        ids = {one.prompt_id for one in wanted}
        self._lookup = lookup
        self._rows = {row.prompt.id: row for row in lookup.summary.rows if row.prompt.id in ids}

    def prompt(self, one: Disagreement | LabelFlip) -> Entry:
        """The prompt's id, linked to its answers, and its first words."""
        row = self._rows.get(one.prompt_id)
        text = "" if row is None else row.prompt.text
        if len(text) > LONGEST_QUESTION:
            text = f"{text[:LONGEST_QUESTION]} …"
        return Entry(
            Markup('<a href="#prompt-{}"><bdi>{}</bdi></a><small><bdi dir="auto">{}</bdi></small>').format(
                quote(one.prompt_id, safe=""), one.prompt_id, text
            )
        )

    def model(self, one: Disagreement | LabelFlip) -> Entry:
        """The model, and which of its answers where it gave several."""
        row, name = self._rows.get(one.prompt_id), self._lookup.model(one.model)
        repeats = 0 if row is None else len(row.answers.get(one.model, ()))
        if repeats <= 1:
            return Entry(name)
        turn = both("반복 {turn}/{repeats}", "repeat {turn} of {repeats}", turn=one.repeat + 1, repeats=repeats)
        return Entry(Markup("{}<small>{}</small>").format(name, turn))


def pass_table(comparison: GraderComparison) -> Table:
    """What every pass that asked a server asked for and cost, and the sum of several."""
    columns = [
        Column("판정기", "Grader"),
        Column("답변", "Answers", "number"),
        Column("요청", "Requests", "number"),
        Column("저장된 답신", "From cache", "number"),
        Column("재시도", "Retries", "number"),
        Column("실패", "Failed", "number"),
        Column("토큰 (입력 + 출력)", "Tokens (in + out)", "number"),
        Column("걸린 시간", "Time", "number"),
        Column("비용", "Cost", "number"),
    ]
    rows = [_pass_row(_pass_name(one), [one]) for one in comparison.passes]
    if len(rows) > 1:
        rows.append(_pass_row(Markup("<b>{}</b>").format(both("모두", "All")), comparison.passes))
    return Table(columns, rows, css_class="passes")


def _pass_name(one: GradingPass) -> Markup:
    return Markup("{}<small><code>{}</code> · {} UTC</small>").format(
        marked(one.grader), one.grader_version, one.finished_at[:16].replace("T", " ")
    )


def _pass_row(name: Markup, passes: Sequence[GradingPass]) -> list[Entry]:
    failed = sum(one.failed_requests for one in passes)
    failures: str | Markup = f"{failed:,}"
    if failed:
        failures = Markup('<span class="flag">{:,}</span>').format(failed)
    tokens_in, tokens_out = sum(one.prompt_tokens for one in passes), sum(one.completion_tokens for one in passes)
    return [
        Entry(name),
        number_entry(sum(one.answers for one in passes)),
        number_entry(sum(one.requests for one in passes)),
        number_entry(sum(one.from_cache for one in passes)),
        number_entry(sum(one.retries for one in passes)),
        Entry(failures, failed),
        Entry(f"{tokens_in:,} + {tokens_out:,}", tokens_in + tokens_out),
        Entry(duration(sum(one.seconds for one in passes))),
        Entry(_cost(passes)),
    ]


def _cost(passes: Sequence[GradingPass]) -> Markup:
    """The cost per currency, and for how many passes it is not known, and why."""
    costs: dict[str, float] = {}
    for one in passes:
        if one.cost is not None:
            costs[one.currency or ""] = costs.get(one.currency or "", 0.0) + one.cost
    known = [f"{number(cost)} {currency}".strip() for currency, cost in costs.items()]
    unknown = [one for one in passes if one.cost is None]
    text = Markup("<b>{}</b>").format(join(known, " + ")) if known else Markup(NO_DATA)
    if not unknown:
        return text
    without_tokens = sum(one.replies_without_token_counts for one in unknown)
    reason = both("단가를 정하지 않음", "no prices given")
    if len(passes) > 1:
        reason = both("비용을 모르는 판정 {n}회 제외", "passes of unknown cost left out: {n}", n=len(unknown))
    elif without_tokens:
        reason = both("토큰 수 없는 답신 {n}개", "replies without token counts: {n}", n=f"{without_tokens:,}")
    return Markup("{}<small>{}</small>").format(text, reason)
