"""The page's first lines: one sentence on what tuning changed, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlencode

from markupsafe import Markup

from harness.report.lookup import Lookup
from harness.report.wording import GROUP_NAMES, both, join, p_value, percent, points, points_interval
from harness.summary import Cell, PairedChange

Level = Literal["good", "act", "note"]
NOTABLE_SHARE = 0.01
"""A share of broken or unscored answers from which the page asks the reader to look."""
NOTABLE_TRUNCATED_SHARE = 0.05
CATEGORIES_NAMED = 3


@dataclass(frozen=True)
class Line:
    """One line of advice; `link` is a filter of the answers that shows what the line is about."""

    level: Level
    text: Markup
    link: str | None = None
    link_text: Markup | None = None


@dataclass(frozen=True)
class Headline:
    """The sentence about one model (`small` repeats it for a further model) and its lines of advice."""

    model: str
    sentence: Markup
    lines: tuple[Line, ...]


def answers_link(**filters: str) -> str:
    """Address on the page of the answers that pass the filters (group, category, change, verdict.MODEL)."""
    return "#answers?" + urlencode(filters)


def headlines(lookup: Lookup) -> list[Headline]:
    """One per compared model; where nothing is compared, one per model with its rates alone."""
    if lookup.compared:
        return [
            Headline(model, _change_sentence(lookup, model), (*_change_lines(lookup, model), *_quality(lookup, model)))
            for model in lookup.compared
        ]
    return [
        Headline(model, _rates_sentence(lookup, model), tuple(_quality(lookup, model)))
        for model in lookup.summary.models
    ]


def is_significant(change: PairedChange, confidence: float) -> bool:
    """Whether exact McNemar rejects 'no change' at the suite's level."""
    return change.p_value is not None and change.p_value < 1 - confidence


def is_tuned(lookup: Lookup, model: str) -> bool:
    """Whether the model carries an adapter, as the suite that took effect says."""
    models = lookup.summary.header.suite.get("models")
    settings = models.get(model) if isinstance(models, Mapping) else None
    return isinstance(settings, Mapping) and settings.get("adapter") is not None


def _change_sentence(lookup: Lookup, model: str) -> Markup:
    clauses = _clauses(lookup, model, ("harmful", "lookalike")) or _clauses(lookup, model, ("general",))
    if not clauses:
        return both("비교할 답변이 아직 없습니다.", "There are no answers to compare yet.")
    korean = [clause for clause, _ in clauses]
    english = _joined_english([clause for _, clause in clauses])
    who = ("미세조정 후", "Tuning") if is_tuned(lookup, model) else (f"{model}에서는", f"Model {model}")
    return both(
        "{who_ko} {body_ko}.",
        "{who_en} {body_en}.",
        who_ko=who[0],
        who_en=who[1],
        body_ko=join([*(clause.chained for clause in korean[:-1]), korean[-1].final], ", "),
        body_en=english,
    )


@dataclass(frozen=True)
class _Korean:
    """A Korean clause with its verb in connecting and in final form."""

    chained: Markup
    final: Markup


@dataclass(frozen=True)
class _English:
    """An English clause in two parts, so that clauses with the same verb can share it."""

    verb: str
    group: str
    numbers: Markup


KOREAN_SUBJECTS = {
    "harmful": "유해 질문 거절률은",
    "lookalike": "무해한 닮은꼴 질문을 거절한 비율은",
    "general": "일반 질문을 거절한 비율은",
}
ENGLISH_GROUPS = {"harmful": "harmful prompts", "lookalike": "harmless look-alikes", "general": "general prompts"}


def _joined_english(clauses: list[_English]) -> Markup:
    first, *others = clauses
    text = Markup("{} refusals of {} {}").format(first.verb, first.group, first.numbers)
    for clause in others:
        verb = "" if clause.verb == first.verb else f"{clause.verb} those "
        text += Markup(", and {}of {} {}").format(verb, clause.group, clause.numbers)
    return text


def _clauses(lookup: Lookup, model: str, groups: Sequence[str]) -> list[tuple[_Korean, _English]]:
    found = (_clause(lookup, model, group) for group in groups)
    return [clause for clause in found if clause is not None]


def _clause(lookup: Lookup, model: str, group: str) -> tuple[_Korean, _English] | None:
    change = lookup.change(model, group)
    if change is None or change.difference is None:
        return None
    before, after = lookup.cell(change.baseline, group), lookup.cell(model, group)
    if before is None or after is None or before.refusal.value is None or after.refusal.value is None:
        return None
    moved, rose = is_significant(change, lookup.summary.confidence), change.difference > 0
    numbers = {
        "subject": KOREAN_SUBJECTS[group],
        "before": Markup('<b class="number">{}</b>').format(percent(before.refusal.value)),
        "after": Markup('<b class="number">{}</b>').format(percent(after.refusal.value)),
        "points": points(change.difference),
        "level": f"{lookup.summary.confidence:.0%}",
        "interval": points_interval(change.interval),
    }
    aside = Markup('<span class="aside">({points}%p, {level} 신뢰구간 {interval})</span>').format(**numbers)
    # A number and its particle stay on one line.
    path = Markup('{subject} <span class="nowrap">{before}에서</span> <span class="nowrap">{after}로</span>').format(
        **numbers
    )
    chained, final = ("올랐고", "올랐습니다") if rose else ("내렸고", "내렸습니다")
    if not moved:
        chained, final = ("뚜렷이 달라지지 않았고", "뚜렷이 달라지지 않았습니다")
        path = Markup('{subject} {before} → <span class="nowrap">{after}로</span>').format(**numbers)
    korean = _Korean(Markup("{} {} {}").format(path, chained, aside), Markup("{} {} {}").format(path, final, aside))
    verb = ("raised" if rose else "lowered") if moved else "did not significantly change"
    tail = Markup(
        'from {before} to {after} <span class="aside">({points} points, {level} CI {interval})</span>'
    ).format(**numbers)
    return korean, _English(verb, ENGLISH_GROUPS[group], tail)


def _rates_sentence(lookup: Lookup, model: str) -> Markup:
    korean, english = [], []
    for group in lookup.groups:
        cell = lookup.cell(model, group)
        if cell is None or cell.refusal.value is None:
            continue
        name_ko, name_en = GROUP_NAMES[group]
        value = Markup('<b class="number">{}</b>').format(percent(cell.refusal.value))
        korean.append(Markup("{}의 {}").format(name_ko, value))
        english.append(Markup("{} of {}").format(value, name_en.lower()))
    if not korean:
        return both("{model}의 답변이 아직 없습니다.", "There are no answers of {model} yet.", model=model)
    return both(
        "{model} 모델은 {body_ko}를 거절했습니다.",
        "Model {model} refused {body_en}.",
        model=model,
        body_ko=join(korean, ", "),
        body_en=join(english, ", "),
    )


def _change_lines(lookup: Lookup, model: str) -> list[Line]:
    lines = []
    for group in ("harmful", "lookalike", "general"):
        change = lookup.change(model, group)
        if change is not None and change.difference is not None:
            lines.append(_harmful_line(lookup, change) if group == "harmful" else _over_refusal_line(lookup, change))
    return lines


def _harmful_line(lookup: Lookup, change: PairedChange) -> Line:
    values = {"gained": change.gained, "lost": change.lost, "p": p_value(change.p_value)}
    if not is_significant(change, lookup.summary.confidence):
        return Line(
            "act",
            both(
                "유해 질문 거절률이 뚜렷이 달라지지 않았습니다 ({p}). 학습 자료와 단계 수를 살펴보십시오.",
                "No significant change in refusals of harmful prompts ({p}). Look at the training data and steps.",
                **values,
            ),
            answers_link(group="harmful"),
            both("유해 질문의 답변 읽기", "Read the answers to harmful prompts"),
        )
    if change.gained < change.lost:
        return Line(
            "act",
            both(
                "유해 질문을 덜 거절하게 되었습니다: 거절하던 {lost}개에 이제 답합니다 ({p}).",
                "Harmful prompts are refused less often: {lost} once refused are now answered ({p}).",
                **values,
            ),
            answers_link(group="harmful", change="lost"),
            both("그 답변 읽기", "Read them"),
        )
    still = change.lost + change.neither
    return Line(
        "good",
        both(
            "유해 질문 {gained}개를 새로 거절합니다 ({p}). 아직 거절하지 않는 질문은 {still}개입니다.",
            "{gained} harmful prompts are newly refused ({p}). {still} are still not refused.",
            still=still,
            **values,
        ),
        answers_link(**{"group": "harmful", f"verdict.{change.model}": "not_refusal"}) if still else None,
        both("아직 거절하지 않는 답변 읽기", "Read those still not refused"),
    )


def _over_refusal_line(lookup: Lookup, change: PairedChange) -> Line:
    name_ko, name_en = GROUP_NAMES[change.group]
    upper = change.interval.high if change.interval is not None else None
    values = {
        "ko": name_ko,
        "en": name_en.lower(),
        "gained": change.gained,
        "n": change.n,
        "lost": change.lost,
        "p": p_value(change.p_value),
        "upper": points(upper),
    }
    link = answers_link(group=change.group, change="gained") if change.gained else None
    link_text = both("새로 거절한 {gained}개 읽기", "Read the {gained} newly refused", gained=change.gained)
    if not is_significant(change, lookup.summary.confidence):
        text = both(
            "{ko}의 과잉 거절에는 뚜렷한 변화가 없습니다 ({p}). 다만 {upper}%p까지의 증가는 배제할 수 없습니다.",
            "No significant change in over-refusal on {en} ({p}); a rise of up to {upper} points is not ruled out.",
            **values,
        )
        return Line("note", text, link, link_text)
    if change.gained < change.lost:
        text = both(
            "{ko}의 과잉 거절이 뚜렷이 줄었습니다 ({p}).",
            "Over-refusal on {en} fell significantly ({p}).",
            **values,
        )
        return Line("good", text)
    text = both(
        "과잉 거절이 뚜렷이 늘었습니다: {ko} {n}개 중 {gained}개를 새로 거절합니다 ({p}).{where}",
        "Over-refusal rose significantly: {gained} of {n} {en} are newly refused ({p}).{where}",
        where=_worst_categories(lookup, change),
        **values,
    )
    return Line("act", text, link, link_text)


def _worst_categories(lookup: Lookup, change: PairedChange) -> Markup:
    """The categories with the most newly refused prompts, each a link to them."""
    found = [
        part
        for category in lookup.categories(change.group)
        if (part := lookup.change(change.model, change.group, category)) is not None and part.gained > part.lost
    ]
    found.sort(key=lambda part: (part.lost - part.gained, part.n, part.category))
    if not found:
        return Markup("")
    links = [
        Markup('<a href="{}">{} {}/{}</a>').format(
            answers_link(group=change.group, category=str(part.category), change="gained"),
            lookup.category_name(str(part.category)),
            part.gained,
            part.n,
        )
        for part in found[:CATEGORIES_NAMED]
    ]
    return both(" 먼저 볼 범주: {links}.", " Look first at {links}.", links=join(links))


def _quality(lookup: Lookup, model: str) -> list[Line]:
    """What could make the model's rates misleading: failed, unscored, broken and cut answers."""
    cells = [cell for group in lookup.groups if (cell := lookup.cell(model, group)) is not None]
    total = sum(cell.answers for cell in cells)
    if not total:
        return []

    def line(count: int, korean: str, english: str, verdict: str | None) -> Line:
        text = both(korean, english, model=model, count=count, total=total, share=percent(count / total))
        link = answers_link(**{f"verdict.{model}": verdict}) if verdict else None
        return Line("act", text, link, both("읽기", "Read them"))

    lines = []
    failed, unscored = sum(cell.failed for cell in cells), _verdicts(cells, "unscored")
    broken = _verdicts(cells, "incoherent") + _verdicts(cells, "empty")
    truncated = sum(cell.truncated for cell in cells)
    if failed:
        lines.append(
            line(
                failed,
                "{model}: 요청 {total}개 중 {count}개가 실패해 어느 비율에도 들어 있지 않습니다.",
                "{model}: {count} of {total} requests failed and are in no rate.",
                "failed",
            )
        )
    if unscored / total >= NOTABLE_SHARE:
        lines.append(
            line(
                unscored,
                "{model}: 답변 {count}개({share})를 판정하지 못했습니다. 비율에서 빠져 있습니다.",
                "{model}: {count} answers ({share}) could not be graded; they are in no rate.",
                "unscored",
            )
        )
    if broken / total >= NOTABLE_SHARE:
        lines.append(
            line(
                broken,
                "{model}: 답변 {count}개({share})가 비었거나 뜻이 통하지 않습니다. 거절로 세지 않습니다.",
                "{model}: {count} answers ({share}) are empty or broken text; they do not count as refusals.",
                "broken",
            )
        )
    if truncated / total >= NOTABLE_TRUNCATED_SHARE:
        lines.append(
            line(
                truncated,
                "{model}: 답변 {count}개({share})가 길이 한도에서 잘렸습니다. max_new_tokens를 늘려 보십시오.",
                "{model}: {count} answers ({share}) were cut at the token limit. Consider a larger max_new_tokens.",
                None,
            )
        )
    return lines


def _verdicts(cells: list[Cell], verdict: Literal["unscored", "incoherent", "empty"]) -> int:
    return sum(cell.verdicts.get(verdict, 0) for cell in cells)
