"""The page's first lines: one sentence on what tuning changed, and what to do about it."""

from __future__ import annotations

from typing import Literal

from markupsafe import Markup

from harness.report.advice import Headline, Line, answers_link
from harness.report.lookup import Lookup
from harness.report.price import ability_line, cost_line
from harness.report.sentences import change_sentence, is_significant, rates_sentence
from harness.report.timing_headline import timing_headlines
from harness.report.wording import GROUP_NAMES, both, join, p_value, percent, points
from harness.summary import Cell, PairedChange

NOTABLE_SHARE = 0.01
"""A share of broken or unscored answers from which the page asks the reader to look."""
NOTABLE_TRUNCATED_SHARE = 0.05
CATEGORIES_NAMED = 3


def headlines(lookup: Lookup) -> list[Headline]:
    """One per compared model; where nothing is compared, one per model with its rates alone.

    Without prompts they are about speed and precision.
    """
    if not lookup.asked:
        return timing_headlines(lookup)
    if lookup.compared:
        return [
            Headline(
                model,
                change_sentence(lookup, model),
                (*_change_lines(lookup, model), *_price(lookup, model), *_quality(lookup, model)),
            )
            for model in lookup.compared
        ]
    return [
        Headline(model, rates_sentence(lookup, model), tuple(_quality(lookup, model)))
        for model in lookup.summary.models
    ]


def _change_lines(lookup: Lookup, model: str) -> list[Line]:
    lines = []
    for group in ("harmful", "lookalike", "general"):
        change = lookup.change(model, group)
        if change is not None and change.difference is not None:
            lines.append(_harmful_line(lookup, change) if group == "harmful" else _over_refusal_line(lookup, change))
    return lines


def _price(lookup: Lookup, model: str) -> list[Line]:
    return [line for line in (ability_line(lookup, model), cost_line(lookup, model)) if line is not None]


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
