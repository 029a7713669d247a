"""The section on a sweep: what each setting gains and costs, and which differences are more than chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from harness.report.advice import Headline, Line
from harness.report.pareto_plot import Coordinate, Point, pareto_front, pareto_panel
from harness.report.strips import difference_strip
from harness.report.tables import Column, Entry, Table
from harness.report.wording import (
    NO_DATA,
    both,
    join,
    p_value,
    percent,
    points,
    points_interval,
    setting,
    share_interval,
)
from harness.summary import SettingDifference, SettingRate, Summary, SweepMeasure, SweepSetting, SweepSummary

FEW_SEEDS = 5
"""Seeds below which the page says that their spread is hardly known."""
MOST_SEEDS_NAMED = 5
MOST_ROWS = 400
REAL_ROWS_SHOWN = 20
MEASURES: dict[SweepMeasure, tuple[str, str]] = {
    "harmful": ("유해 질문 거절률", "Refusal of harmful prompts"),
    "lookalike": ("닮은꼴 과잉 거절률", "Over-refusal of look-alikes"),
    "general": ("일반 질문 과잉 거절률", "Over-refusal of general prompts"),
    "ability": ("능력 (정답률)", "Ability (answered right)"),
}
MORE: dict[SweepMeasure, tuple[str, str]] = {
    "harmful": ("유해 질문을 더 많이 거절합니다", "refuses more harmful prompts"),
    "lookalike": ("무해한 닮은꼴을 더 많이 거절합니다", "refuses more harmless look-alikes"),
    "general": ("일반 질문을 더 많이 거절합니다", "refuses more general prompts"),
    "ability": ("능력 문항을 더 많이 맞힙니다", "answers more ability questions right"),
}


@dataclass(frozen=True)
class Panel:
    """One Pareto plot with the names of its non-dominated settings.

    `alike` is the one share that all settings have, where there is nothing to weigh and so no plot.
    """

    title: Markup
    plot: Markup | None
    front: str
    alike: str | None = None


@dataclass(frozen=True)
class SweepView:
    """Everything of the section.

    `real` has the largest of the differences that remain after correction, `more_real` the next ones, `others` those
    that do not remain; `left_out` counts the differences beyond what a page can hold.
    """

    swept: str
    verdict: Markup
    seeds: Markup | None
    panels: tuple[Panel, ...]
    settings: Table
    real: Table
    more_real: Table
    others: Table
    left_out: int
    tests: int
    ability_tasks: tuple[str, ...]


def sweep_view(summary: Summary) -> SweepView | None:
    """The section, or None where the suite sweeps nothing."""
    sweep = summary.sweep
    if sweep is None:
        return None
    real, others = _split(sweep, summary.confidence)
    fronts: dict[SweepMeasure, dict[str, bool]]
    fronts = {measure: _front(sweep, measure) for measure in MEASURES if measure != "harmful"}
    return SweepView(
        swept=_swept(sweep),
        verdict=_verdict(sweep, summary.confidence),
        seeds=_seeds(sweep),
        panels=tuple(_panel(sweep, measure, front) for measure, front in fronts.items() if front),
        settings=_settings_table(sweep, fronts),
        real=_differences_table(real[:REAL_ROWS_SHOWN]),
        more_real=_differences_table(real[REAL_ROWS_SHOWN:MOST_ROWS]),
        others=_differences_table(others[:MOST_ROWS]),
        left_out=sum(max(len(part) - MOST_ROWS, 0) for part in (real, others)),
        tests=len(sweep.differences),
        ability_tasks=sweep.ability_tasks,
    )


def sweep_headline(summary: Summary) -> list[Headline]:
    """The page's first sentence where many models are the settings of one sweep; none without a sweep."""
    sweep = summary.sweep
    candidates = [] if sweep is None else [one for one in sweep.settings if one.values and _rate(one, "harmful")]
    if sweep is None or not candidates:
        return []
    best = max(candidates, key=lambda one: _value(one, "harmful"))
    harmful = _rate(best, "harmful")
    assert harmful is not None
    values = {
        "count": len(candidates),
        "name": best.name,
        "rate": Markup('<b class="number">{}</b>').format(percent(harmful.value)),
    }
    level, interval = f"{summary.confidence:.0%}", share_interval(harmful.interval)
    aside = Markup('<span class="aside">({} {} {})</span>')
    costs = [(one, percent(rate.value)) for one in ("lookalike", "general") if (rate := _rate(best, one))]
    korean = {"lookalike": "무해한 닮은꼴의 {}", "general": "일반 질문의 {}"}
    english = {"lookalike": "{} of the harmless look-alikes", "general": "{} of the general prompts"}
    sentence = both(
        "설정 {count}가지 가운데 유해 질문을 가장 많이 거절한 것은 {name}입니다: {rate} {aside_ko}{costs_ko}.",
        "Of {count} settings, {name} refuses harmful prompts most often: {rate} {aside_en}{costs_en}.",
        aside_ko=aside.format(level, "신뢰구간", interval),
        aside_en=aside.format(level, "CI", interval),
        costs_ko="".join([", 과잉 거절은 " * bool(costs), ", ".join(korean[one].format(rate) for one, rate in costs)]),
        costs_en="".join([", and " * bool(costs), " and ".join(english[one].format(rate) for one, rate in costs)]),
        **values,
    )
    lines = [
        Line("note", _verdict(sweep, summary.confidence), "#sweep", both("설정 비교 보기", "Compare the settings"))
    ]
    if seeds := _seeds(sweep):
        lines.append(Line("act", seeds))
    return [Headline(best.name, sentence, tuple(lines))]


def _rate(one: SweepSetting, measure: SweepMeasure) -> SettingRate | None:
    return next((rate for rate in one.rates if rate.measure == measure), None)


def _value(one: SweepSetting, measure: SweepMeasure) -> float:
    rate = _rate(one, measure)
    return rate.value if rate else -1.0


def _swept(sweep: SweepSummary) -> str:
    """'lora.r: 8, 16 · trainer.learning_rate: 0.0001, 0.0002'."""
    values: dict[str, dict[str, None]] = {}
    for one in sweep.settings:
        for key, value in one.values.items():
            values.setdefault(key, {})[setting(value)] = None
    return " · ".join(f"{key}: {', '.join(shown)}" for key, shown in values.items())


def _split(sweep: SweepSummary, confidence: float) -> tuple[list[SettingDifference], list[SettingDifference]]:
    """The differences that remain after correction, the largest first, and the others, by their p-values."""
    real = [one for one in sweep.differences if one.adjusted < 1 - confidence]
    others = [one for one in sweep.differences if one.adjusted >= 1 - confidence]
    return sorted(real, key=lambda one: -abs(one.difference)), sorted(others, key=lambda one: one.p_value)


def _verdict(sweep: SweepSummary, confidence: float) -> Markup:
    real, others = _split(sweep, confidence)
    values = {"real": len(real), "all": len(real) + len(others), "level": f"{1 - confidence:.0%}"}
    if not real:
        return both(
            "설정을 비교한 검정 {all}건 가운데 우연으로 보기 어려운 차이는 하나도 없습니다 (Holm 보정, {level}). "
            "질문이나 시드(seed)를 늘려야 차이를 가릴 수 있습니다.",
            "None of {all} tests between settings finds a difference beyond chance (Holm, {level}). "
            "More prompts or more seeds would tell more.",
            **values,
        )
    return both(
        "설정을 비교한 검정 {all}건 가운데 {real}건의 차이는 우연으로 보기 어렵습니다 (Holm 보정, {level}).",
        "{real} of {all} tests between settings find a difference beyond chance (Holm, {level}).",
        **values,
    )


def _seeds(sweep: SweepSummary) -> Markup | None:
    """What too few seeds mean; None where there are enough or nothing is trained."""
    counts = [len(one.models) for one in sweep.settings if one.trained]
    fewest = min(counts, default=FEW_SEEDS)
    if fewest >= FEW_SEEDS:
        return None
    if fewest == 1:
        return both(
            "시드(seed)가 하나뿐인 설정이 있습니다. 같은 학습을 다른 시드로 되풀이하면 얼마나 달라지는지 알 수 없어, "
            "그런 설정 사이의 차이는 시드 탓일 수 있습니다.",
            "Some settings have one seed. How much the same training varies from seed to seed is not known, "
            "so a difference between them may be the seed's doing.",
        )
    return both(
        "시드(seed)가 {count}개뿐이라 구간이 넓습니다. 이렇게 적은 시드로는 그 흩어짐을 대강만 알 수 있습니다. "
        "스위트의 seeds를 {enough}개 이상으로 늘리십시오.",
        "{count} seeds: intervals are wide, because so few say little of how much seeds vary. "
        "Give {enough} or more under seeds in the suite.",
        count=fewest,
        enough=FEW_SEEDS,
    )


def _front(sweep: SweepSummary, measure: SweepMeasure) -> dict[str, bool]:
    """Setting -> whether it is non-dominated in refusals of harmful prompts against this measure."""
    found = [one for one in sweep.settings if _rate(one, "harmful") and _rate(one, measure)]
    sign = 1 if measure == "ability" else -1
    front = pareto_front([(sign * _value(one, measure), _value(one, "harmful")) for one in found])
    return {one.name: on_front for one, on_front in zip(found, front, strict=True)}


def _alike(sweep: SweepSummary, measure: SweepMeasure) -> str | None:
    """The share that every setting has; None where they differ."""
    shares = {percent(rate.value) for one in sweep.settings if (rate := _rate(one, measure))}
    return shares.pop() if len(shares) == 1 else None


def _panel(sweep: SweepSummary, measure: SweepMeasure, front: dict[str, bool]) -> Panel:
    if alike := _alike(sweep, measure):
        return Panel(both(*MEASURES[measure]), None, "", alike)
    shown = []
    for number, one in enumerate(sweep.settings, start=1):
        cost, gain = _rate(one, measure), _rate(one, "harmful")
        if cost and gain:
            coordinates = [Coordinate(rate.value, rate.interval, rate.by_seed) for rate in (cost, gain)]
            shown.append(Point(str(number), coordinates[0], coordinates[1], front[one.name], one.trained))
    return Panel(
        title=both(*MEASURES[measure]),
        plot=pareto_panel(f"pareto-{measure}", shown, MEASURES[measure], less_is_better=measure != "ability"),
        front=" · ".join(
            f"{number}\N{NO-BREAK SPACE}{one.name}"
            for number, one in enumerate(sweep.settings, start=1)
            if front.get(one.name)
        ),
    )


def _settings_table(sweep: SweepSummary, fronts: dict[SweepMeasure, dict[str, bool]]) -> Table:
    columns = [Column("설정", "Setting"), Column("시드", "Seeds", "number")]
    measures = [measure for measure in MEASURES if any(_rate(one, measure) for one in sweep.settings)]
    columns += [Column(*MEASURES[measure], "number") for measure in measures]
    rows = []
    for number, one in enumerate(sweep.settings, start=1):
        on_fronts = [
            both(*MEASURES[measure])
            for measure, front in fronts.items()
            if front.get(one.name) and not _alike(sweep, measure)
        ]
        mark = both("앞선 설정: {fronts}", "on the front: {fronts}", fronts=join(on_fronts)) if on_fronts else ""
        name = Markup("<b>{} · {}</b><small>{}</small>").format(number, one.name, mark)
        rows.append(
            [
                Entry(name, number),
                Entry(str(len(one.models)) if one.trained else NO_DATA, len(one.models)),
                *(_rate_entry(_rate(one, measure)) for measure in measures),
            ]
        )
    return Table(columns, rows, sortable=True, css_class="sweep")


def _rate_entry(rate: SettingRate | None) -> Entry:
    if rate is None:
        return Entry(NO_DATA)
    seeds = ""
    if 1 < len(rate.by_seed) <= MOST_SEEDS_NAMED:
        seeds = " / ".join(f"{share * 100:.1f}" for share in rate.by_seed)
    elif len(rate.by_seed) > MOST_SEEDS_NAMED:
        seeds = f"{min(rate.by_seed) * 100:.1f} – {max(rate.by_seed) * 100:.1f}"
    shown = Markup('<b>{}</b> <span class="interval">{}</span><small>{}</small>')
    return Entry(shown.format(percent(rate.value), share_interval(rate.interval), seeds), rate.value)


def _differences_table(differences: Sequence[SettingDifference]) -> Table:
    columns = [
        Column("비교", "Comparison"),
        Column("차이 (%p)", "Difference (points)", "number"),
        Column("구간", "Interval", "plot"),
        Column("보정한 p", "Adjusted p", "number"),
        Column("p", "p", "number"),
    ]
    rows = []
    for one in differences:
        value = Markup('<b>{}</b> <span class="interval">{}</span>').format(
            points(one.difference), points_interval(one.interval)
        )
        rows.append(
            [
                Entry(_comparison(one)),
                Entry(value, one.difference),
                Entry(difference_strip([(1, one.difference, one.interval)])),
                Entry(p_value(one.adjusted), one.adjusted),
                Entry(p_value(one.p_value), one.p_value),
            ]
        )
    return Table(columns, rows, css_class="changes")


def _comparison(one: SettingDifference) -> Markup:
    """The difference as a sentence, with the setting that has more of it first."""
    more, less = (one.first, one.second) if one.difference >= 0 else (one.second, one.first)
    korean, english = MORE[one.measure]
    return Markup("{}<small>{} · {} {} · n = {:,}</small>").format(
        both(
            "{more} 설정은 {less} 설정보다 {more_ko}." if one.difference else "{more} 설정과 {less} 설정이 같습니다.",
            "{more} {more_en} than {less}." if one.difference else "{more} and {less} are alike.",
            more=more,
            less=less,
            more_ko=korean,
            more_en=english,
        ),
        both(*MEASURES[one.measure]),
        one.first,
        both("빼기 {b}", "minus {b}", b=one.second),
        one.n,
    )
