"""The page's first sentence: what tuning changed, with numbers and intervals, in Korean and in English."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from harness.report.lookup import Lookup
from harness.report.wording import GROUP_NAMES, both, join, percent, points, points_interval
from harness.summary import PairedChange


def is_significant(change: PairedChange, confidence: float) -> bool:
    """Whether exact McNemar rejects 'no change' at the suite's level."""
    return change.p_value is not None and change.p_value < 1 - confidence


def is_tuned(lookup: Lookup, model: str) -> bool:
    """Whether the model carries an adapter, as the suite that took effect says."""
    models = lookup.summary.header.suite.get("models")
    settings = models.get(model) if isinstance(models, Mapping) else None
    return isinstance(settings, Mapping) and settings.get("adapter") is not None


def change_sentence(lookup: Lookup, model: str, who: tuple[str, str] | None = None) -> Markup:
    """What changed from the model's baseline to the model, on harmful prompts and on their look-alikes.

    `who` begins the sentence in Korean and in English where something else than tuning or the model made the change.
    """
    clauses = _clauses(lookup, model, ("harmful", "lookalike")) or _clauses(lookup, model, ("general",))
    if not clauses:
        return both("비교할 답변이 아직 없습니다.", "There are no answers to compare yet.")
    korean = [clause for clause, _ in clauses]
    english = _joined_english([clause for _, clause in clauses])
    if who is None:
        tuned = is_tuned(lookup, model)
        who = ("미세조정 후", "Tuning") if tuned else (f"{model} 모델의 경우,", f"Model {model}")
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
    lead: str
    numbers: Markup


KOREAN_SUBJECTS = {
    "harmful": "유해 질문 거절률은",
    "lookalike": "무해한 닮은꼴 질문을 거절한 비율은",
    "general": "일반 질문을 거절한 비율은",
}
ENGLISH_GROUPS = {"harmful": "harmful prompts", "lookalike": "harmless look-alikes", "general": "general prompts"}


def _joined_english(clauses: list[_English]) -> Markup:
    first, *others = clauses
    text = Markup("{} refusals of {}{}").format(first.verb, first.lead, first.numbers)
    for clause in others:
        verb = "" if clause.verb == first.verb else f"{clause.verb} those "
        text += Markup(", and {}of {}{}").format(verb, clause.lead, clause.numbers)
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
    chained, final = ("뚜렷하게 달라지지는 않았고", "뚜렷하게 달라지지는 않았습니다")
    if moved:
        chained, final = ("올랐고", "올랐습니다") if rose else ("내렸고", "내렸습니다")
    korean = _Korean(Markup("{} {} {}").format(path, chained, aside), Markup("{} {} {}").format(path, final, aside))
    verb = ("raised" if rose else "lowered") if moved else "did not significantly change"
    tail = Markup('{before} to {after} <span class="aside">({points} points, {level} CI {interval})</span>')
    lead = " from " if moved else ": "
    return korean, _English(verb, ENGLISH_GROUPS[group] + lead, tail.format(**numbers))


def rates_sentence(lookup: Lookup, model: str) -> Markup:
    """What share of each group a model refused, where there is no baseline."""
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
