"""All graders of a run side by side, ready to be shown: rates, agreement, and what the corrected rates rest on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from harness.corrections import FEWEST_LABELS
from harness.records import Expected
from harness.report.grader_lists import (
    GraderNames,
    Listing,
    disagreement_list,
    flip_counts,
    flip_list,
    pass_table,
)
from harness.report.lookup import Lookup
from harness.report.strips import Point, difference_strip, share_strip
from harness.report.tables import Column, Entry, Table, number_entry
from harness.report.wording import MINUS, NO_DATA, both, count_of, join, percent, share_interval
from harness.summary import GraderInfo, GraderRate, GroupAgreement, Kappa, PairAgreement, Rate, Summary

KINDS: dict[str, tuple[str, str]] = {
    "lexicon": ("규칙", "rules"),
    "judges": ("판정 모델의 다수결", "vote of the judges"),
    "judge-": ("판정 모델", "judge"),
    "guard-": ("분류 모델", "guard"),
    "human-": ("사람", "person"),
}
"""Grader name, or what it begins with -> what kind of grader it is."""
REFUSAL_SERIES, VERDICT_SERIES = 3, 4
"""Markers of the two kappas. The first ones of the palette belong to models."""


@dataclass(frozen=True)
class GraderLine:
    """One grader with what it is; `headline` marks the one whose verdicts the rest of the page shows."""

    name: str
    version: str
    kind: Markup
    headline: bool


@dataclass(frozen=True)
class GroupRates:
    """The graders' refusal rates on one group of prompts, and between what rates each model lies."""

    group: str
    ranges: Markup
    table: Table


@dataclass(frozen=True)
class GradersView:
    """The section's parts. Tables without rows are left out; `pairs` are those with the page's own grader."""

    graders: tuple[GraderLine, ...]
    people: bool
    rates: tuple[GroupRates, ...]
    pairs: Table
    other_pairs: Table
    groups: Table
    disagreements: Listing
    flip_counts: Table
    flips: Listing
    regraded: bool
    passes: Table


def graders_view(lookup: Lookup) -> GradersView | None:
    """The section, or None where one grader alone, in one version, graded the run."""
    comparison = lookup.summary.graders
    if comparison is None:
        return None
    names = GraderNames(comparison.graders)
    headline = _headline(lookup)
    lines = tuple(_line(key, headline) for key in sorted(comparison.graders, key=lambda key: key != headline))
    with_headline = [pair for pair in comparison.pairs if headline in (pair.first, pair.second)]
    others = [pair for pair in comparison.pairs if headline not in (pair.first, pair.second)]
    return GradersView(
        graders=lines,
        people=any(line.name.startswith("human-") for line in lines),
        rates=tuple(
            _group_rates(lookup, group, found, names)
            for group in lookup.groups
            if (found := [rate for rate in comparison.rates if rate.group == group])
        ),
        pairs=_agreement_table(with_headline, names, headline),
        other_pairs=_agreement_table(others, names, headline),
        groups=_agreement_table(comparison.groups, names, headline),
        disagreements=disagreement_list(lookup, comparison, names),
        flip_counts=flip_counts(comparison),
        flips=flip_list(lookup, comparison),
        regraded=bool(comparison.regraded),
        passes=pass_table(comparison),
    )


def correction_notes(summary: Summary, group: str) -> list[Markup]:
    """What the corrected rates of a group rest on, one sentence for each way in which some were made."""
    ways = {cell.refusal.corrected_by for cell in summary.cells if cell.group == group and cell.category is None}
    notes = []
    if "labels" in ways:
        notes.append(
            both(
                "사람의 판정, 층별 추정: 그 모델의 답변을 판정기의 판정별로 나누고, "
                "나눈 층마다 무작위로 뽑아 사람이 판정한 결과입니다.",
                "By people's labels, stratified: of the model's own answers, drawn at random from those with "
                "each verdict of the grader.",
            )
        )
    if "error" in ways:
        notes.append(_known_error(summary.grader, group))
    return [note for note in notes if note]


def corrected_by(rate: Rate) -> Markup:
    """How a corrected rate was made, as the words that its value follows."""
    if rate.corrected_by == "labels":
        return both(
            "사람의 판정 {k}개로 층별 추정하면",
            "By people's labels of {k} of the {n} answers, stratified",
            k=f"{rate.labels:,}",
            n=f"{rate.n:,}",
        )
    return both("판정기의 알려진 오류로 보정하면", "Corrected by the grader's known error")


def too_few_labels(rate: Rate) -> Markup:
    """That people labelled some of a rate's own answers and it is still not corrected by them; nothing otherwise."""
    if not rate.labels or rate.corrected_by == "labels":
        return Markup("")
    return both(
        "이 답변에 대한 사람의 판정은 {k}개입니다. "
        "층별 추정에는 {fewest}개 이상이, 판정기의 판정마다 하나 이상이 있어야 합니다.",
        "People labelled {k} of these answers. To be corrected by their labels a rate needs {fewest}, and one of each "
        "verdict of the grader.",
        k=f"{rate.labels:,}",
        fewest=min(FEWEST_LABELS, rate.n),
    )


def _known_error(grader: GraderInfo, group: str) -> Markup:
    """What labels the grader's error is known from; nothing where it is not known."""
    kind: Expected = "refuse" if group == "harmful" else "comply"
    count = grader.calibration_labels.get(kind)
    if grader.calibrated_on is None or count is None:
        return Markup("")
    to = {"refuse": ("유해 질문", "harmful prompts"), "comply": ("무해한 질문", "harmless prompts")}[kind]
    values: dict[str, object] = {"to_ko": to[0], "to_en": to[1], "n": f"{count:,}"}
    if grader.calibrated_on == "human":
        return both(
            "판정기 오류의 근거: 사람이 이 실행의 모든 모델에서 판정한 {to_ko}의 답변 {n}개. "
            "오류가 모델마다 같다고 봅니다.",
            "The grader's error is known from people's labels of {n} answers to {to_en}, of all models of this run, "
            "and taken to be the same for each.",
            **values,
        )
    return both(
        "판정기 오류의 근거: 하네스에 들어 있는 골드 세트에서 {to_ko}의 답변 {n}개. 이 실행의 답변이 아닙니다.",
        "The grader's error is known from {n} labelled answers to {to_en} in the gold set that ships with the harness; "
        "they are not answers of this run.",
        **values,
    )


def _headline(lookup: Lookup) -> str:
    return f"{lookup.summary.grader.name}@{lookup.summary.grader.version}"


def _line(key: str, headline: str) -> GraderLine:
    name, _, version = key.partition("@")
    kind = KINDS.get(name) or next((names for start, names in KINDS.items() if name.startswith(start)), ("", ""))
    return GraderLine(name, version, both(*kind), key == headline)


def _group_rates(lookup: Lookup, group: str, found: Sequence[GraderRate], names: GraderNames) -> GroupRates:
    ranges = []
    for model in lookup.summary.models:
        values = [rate.refusal.value for rate in found if rate.model == model and rate.refusal.value is not None]
        if values:
            low, high = percent(min(values)), percent(max(values))
            reach = low if low == high else f"{low} – {high}"
            ranges.append(Markup('<span class="nowrap">{} {}</span>').format(lookup.model(model), reach))
    return GroupRates(group, join(ranges, " "), _rate_table(lookup, found, names))


def _rate_table(lookup: Lookup, rates_found: Sequence[GraderRate], names: GraderNames) -> Table:
    """One row per grader, the page's own first: each model's refusal rate, and all of them on one axis."""
    columns = [Column("판정기", "Grader")]
    columns += [Column(model, model, "number") for model in lookup.summary.models]
    columns.append(Column("0–100%", "0–100%", "plot"))
    found = {(rate.grader, rate.model): rate for rate in rates_found}
    headline = _headline(lookup)
    rows = []
    for grader in sorted(dict.fromkeys(rate.grader for rate in rates_found), key=lambda key: key != headline):
        rates = [found.get((grader, model)) for model in lookup.summary.models]
        points: list[Point] = [
            (lookup.number(rate.model), rate.refusal.value, rate.refusal.interval)
            for rate in rates
            if rate is not None and rate.refusal.value is not None
        ]
        strip = share_strip(points) if points else NO_DATA
        rows.append([Entry(names.marked(grader)), *map(_rate_entry, rates), Entry(strip)])
    return Table(columns, rows, css_class="graders")


def _rate_entry(rate: GraderRate | None) -> Entry:
    if rate is None:
        return Entry(NO_DATA)
    undecided = Markup("")
    if rate.unscored:
        undecided = Markup(' · <span class="undecided">{}</span>').format(
            both("판정 못 함 {n}", "{n} unscored", n=f"{rate.unscored:,}")
        )
    text = Markup('<b>{}</b> <span class="interval">{}</span><small>{}{}</small>').format(
        percent(rate.refusal.value), share_interval(rate.refusal.interval), count_of(rate.refusal), undecided
    )
    return Entry(text, rate.refusal.value)


def _agreement_table(found: Sequence[PairAgreement | GroupAgreement], names: GraderNames, headline: str) -> Table:
    """One row per pair or group: n, and agreement and kappa on refusal or not and on the verdicts as they are."""
    columns = [
        Column("판정기", "Graders"),
        Column("모두 판정한 답변", "Decided by all", "number"),
        Column("판정 못 함", "Undecided", "number"),
        Column("거절 여부: κ", "Refusal or not: κ", "number"),
        Column("판정: κ", "Verdicts: κ", "number"),
        Column("κ −1 … 1", "κ −1 … 1", "plot"),
    ]
    rows = []
    for one in found:
        graders = (one.first, one.second) if isinstance(one, PairAgreement) else one.graders
        graders = tuple(sorted(graders, key=lambda key: key != headline))
        points: list[Point] = [
            (series, kappa.value, kappa.interval)
            for series, kappa in ((REFUSAL_SERIES, one.refusal), (VERDICT_SERIES, one.verdicts))
            if kappa.value is not None
        ]
        rows.append(
            [
                Entry(join([names.marked(key) for key in graders], " · ")),
                number_entry(one.verdicts.n),
                number_entry(one.undecided),
                _kappa_entry(one.refusal),
                _kappa_entry(one.verdicts),
                Entry(difference_strip(points) if points else NO_DATA),
            ]
        )
    return Table(columns, rows, sortable=len(rows) > 1, css_class="agreement")


def _kappa_entry(kappa: Kappa) -> Entry:
    if kappa.n == 0:
        return Entry(
            Markup("{}<small>{}</small>").format(NO_DATA, both("함께 판정한 답변 없음", "no answers in common"))
        )
    agreed = both("{share} 일치", "{share} agree", share=percent(kappa.observed))
    if kappa.value is None:
        undefined = both("판정이 모두 같아 정의되지 않음", "undefined: every verdict is the same")
        return Entry(Markup("{}<small>{} · {}</small>").format(NO_DATA, agreed, undefined))
    interval = ""
    if kappa.interval is not None:
        interval = f"[{_kappa(kappa.interval.low)}, {_kappa(kappa.interval.high)}]"
    text = Markup('<b>{}</b> <span class="interval">{}</span><small>{}</small>')
    return Entry(text.format(_kappa(kappa.value), interval, agreed), kappa.value)


def _kappa(value: float) -> str:
    """Three decimals; what rounds to zero has no sign."""
    text = f"{abs(value):.3f}"
    return f"{MINUS}{text}" if value < 0 and float(text) else text
