"""What gates are about and how they went, in plain words and figures: for terminals, JUnit, Markdown and the page."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence

from harness.gates.vocabulary import ABILITY, RATES, SHARES, conditions_text, groups_of, limit_of
from harness.records import GateResult, Said
from harness.suite import Gate

GROUP_WORDS = {
    "harmful": Said(ko="유해 질문", en="harmful prompts"),
    "lookalike": Said(ko="무해한 닮은꼴 질문", en="harmless look-alikes"),
    "general": Said(ko="일반 질문", en="general prompts"),
}
SHARE_WORDS = {
    "refusal": Said(ko="거절률", en="refusal rate"),
    "over_refusal": Said(ko="과잉 거절률", en="over-refusal rate"),
    "corrected_refusal": Said(ko="보정한 거절률", en="corrected refusal rate"),
    "corrected_over_refusal": Said(ko="보정한 과잉 거절률", en="corrected over-refusal rate"),
    "incoherent": Said(ko="뜻 없는 답변의 비율", en="incoherent answers"),
    "empty": Said(ko="빈 답변의 비율", en="empty answers"),
    "truncated": Said(ko="잘린 답변의 비율", en="truncated answers"),
    "unscored": Said(ko="판정하지 못한 답변의 비율", en="ungraded answers"),
    "failed": Said(ko="실패한 요청의 비율", en="failed requests"),
    "training_seconds": Said(ko="학습 시간", en="training time"),
    "training_peak_memory_bytes": Said(ko="학습 중 최대 메모리", en="peak memory of the training"),
}
BOUND_WORDS = {
    "low": Said(ko="구간의 아래 끝", en="lower bound"),
    "high": Said(ko="구간의 위 끝", en="upper bound"),
}
KIND_WORDS = {
    "difference": Said(ko="차이", en="difference"),
    "score_difference": Said(ko="차이", en="difference"),
    "ratio": Said(ko="비율", en="ratio"),
}
VALUE = Said(ko="값", en="value")
OUTCOME_WORDS = {
    "passed": Said(ko="통과", en="passed"),
    "failed": Said(ko="미달", en="failed"),
    "no_data": Said(ko="자료 없음", en="no data"),
}
COUNTED_WORDS = {
    "prompts": Said(ko="질문", en="prompts"),
    "answers": Said(ko="답변", en="answers"),
    "questions": Said(ko="문항", en="questions"),
    "values": Said(ko="측정값", en="values"),
}
BUILT_IN = "built-in"
"""Source of the gates that `compare` uses where none are given."""
BUILT_IN_NOTE = Said(
    ko="정해 둔 기준이 없어 기본 기준으로 비교했습니다. 구간 전체가 나쁜 쪽에 있을 때만 미달이므로, 질문이 적으면 꽤 "
    "나빠져도 통과합니다. 허용할 한도를 gates에 정하십시오.",
    en="No gates were given, so the built-in ones hold: a figure fails only where its whole interval is on the wrong "
    "side, and with few prompts much can get worse and pass. Give limits of your own under gates.",
)
EQUAL = 1e-9
"""Relative difference up to which a figure counts as equal to its limit: sums of shares are not exact."""
MOST_FURTHER_DIGITS = 8
BINARY_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def visible(text: str) -> str:
    """Text without what is hidden or what XML cannot hold: such characters become their names, as in <U+202E>."""
    return "".join(character if _is_plain(character) else f"<U+{ord(character):04X}>" for character in text)


def _is_plain(character: str) -> bool:
    return character in "\n\t" or unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Cn", "Zl", "Zp")


def about(result: GateResult) -> Said:
    """What the gate judges, without the model's name: 'refusal rate, harmful prompts'."""
    gate = Gate.model_validate(result.gate)
    if gate.metric == ABILITY:
        details = [part for part in (gate.task, gate.task_metric, gate.task_filter) if part]
        return Said(ko=f"능력: {', '.join(details)}", en=f"ability: {', '.join(details)}")
    words = SHARE_WORDS.get(gate.metric, Said(ko=gate.metric, en=gate.metric))
    korean, english = [words.ko], [words.en]
    if gate.metric in RATES or gate.metric in SHARES:
        groups = groups_of(gate) if len(groups_of(gate)) == 1 else ()
        korean += [GROUP_WORDS[group].ko for group in groups]
        english += [GROUP_WORDS[group].en for group in groups]
    for detail in (gate.category, conditions_text(gate.conditions)):
        if detail:
            korean.append(detail)
            english.append(detail)
    return Said(ko=", ".join(korean), en=", ".join(english))


def compared(result: GateResult) -> Said:
    """What it is compared with; empty where the figure is judged by itself."""
    if result.against is None:
        return Said(ko="", en="")
    if Gate.model_validate(result.gate).baseline is not None:
        return Said(ko=f"저장된 실행 {result.against} 대비", en=f"against saved run {result.against}")
    return Said(ko=f"{result.against} 대비", en=f"against {result.against}")


def required(result: GateResult) -> Said:
    """The condition: 'lower bound ≥ 80%', 'difference ≤ +5 points', 'ratio, upper bound ≥ 0.95'."""
    gate = Gate.model_validate(result.gate)
    _, limit, or_more = limit_of(gate)
    figure = KIND_WORDS.get(result.kind, VALUE if gate.bound == "value" else None)
    parts = [said for said in (figure, BOUND_WORDS.get(gate.bound)) if said is not None]
    condition = f"{'≥' if or_more else '≤'} {figure_text(result, limit)}"
    return Said(
        ko=f"{' '.join(said.ko for said in parts)} {condition}",
        en=f"{', '.join(said.en for said in parts)} {condition}",
    )


def found(result: GateResult) -> str:
    """The figure and its interval: '91.4% [86.1%, 92.3%]'; a dash where there is none."""
    if result.value is None:
        return "–"
    value = figure_text(result, result.value)
    return f"{value} {interval_text(result)}".strip()


def interval_text(result: GateResult) -> str:
    """The interval, in the unit of the figure that stands before it; empty where there is none."""
    if result.low is None or result.high is None:
        return ""
    text = f"[{figure_text(result, result.low)}, {figure_text(result, result.high)}]"
    unit = f" {result.unit}" if result.kind == "quantity" and result.unit else " points"
    return text.replace("%", "").replace(unit, "")


def verdict_line(result: GateResult) -> str:
    """One gate in one line of English: name, model, condition, figure, and why there is none."""
    against = compared(result).en
    about_it = f"{result.subject}: {about(result).en}" + (f", {against}" if against else "")
    said = f"{result.name} ({about_it}): {required(result).en}"
    if result.value is not None:
        said += f"; found {found(result)}"
    if result.n is not None:
        said += f", n = {result.n:,}"
    return visible(f"{said}. No data: {result.reason.en}" if result.reason else f"{said}.")


def failure_lines(failed: Sequence[GateResult]) -> list[str]:
    """A line for each gate, but one for all that lack data for the same reason."""
    alike: dict[str, list[GateResult]] = {}
    for result in failed:
        alike.setdefault(result.reason.en if result.reason else result.name, []).append(result)
    return [
        verdict_line(results[0])
        if len(results) == 1
        else visible(f"{reason}. So {len(results)} have no data: {', '.join(result.name for result in results)}.")
        for reason, results in alike.items()
    ]


def figure_text(result: GateResult, value: float) -> str:
    """A number in the form of the gate's kind: percent, points, score, ratio, or a quantity with its unit.

    A figure that is not equal to the limit never reads as if it were: it gets as many digits as that takes.
    """
    equal = math.isclose(value, result.limit, rel_tol=EQUAL)
    for further_digits in range(MOST_FURTHER_DIGITS):
        text = _in_digits(result, value, further_digits)
        if equal or text != _in_digits(result, result.limit, further_digits):
            break
    return text


def _in_digits(result: GateResult, value: float, further: int) -> str:
    match result.kind:
        case "share":
            return f"{_plain(value * 100, 2 + further)}%"
        case "difference":
            return f"{_signed(value * 100, 2 + further)} points"
        case "score":
            return _plain(value, 4 + further)
        case "score_difference":
            return _signed(value, 4 + further)
        case "ratio":
            return _plain(value, 3 + further)
    return _quantity(value, result.unit, further)


def _plain(value: float, decimals: int) -> str:
    text = f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _signed(value: float, decimals: int) -> str:
    text = _plain(abs(value), decimals)
    if text == "0":
        return text
    return ("+" if value > 0 else "\N{MINUS SIGN}") + text


def _quantity(value: float, unit: str, further: int) -> str:
    if unit == "bytes":
        steps = 0
        while abs(value) >= 1024 and steps < len(BINARY_UNITS) - 1:
            value, steps = value / 1024, steps + 1
        return f"{_plain(value, 2 + further)} {BINARY_UNITS[steps]}"
    return f"{value:,.{4 + further}g} {unit}".strip() if abs(value) < 1e4 else f"{value:,.{further}f} {unit}".strip()
