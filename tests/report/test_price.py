"""What the headline says of ability lost and of cost."""

from __future__ import annotations

import re

import pytest

from harness.report.page import render_report
from harness.statistics import mcnemar_exact, paired_difference
from harness.summary import AbilityChange, AbilityScore, Interval, Summary
from tests.report.factory import make_measurements, make_summary
from tests.report.reading import Page

QUESTIONS = 200


def with_tasks(*changes: tuple[int, int]) -> Summary:
    """A summary with tasks task0, task1, ...: how many of 200 questions were gained and lost; 150 right before."""
    scores, found = [], []
    for number, (gained, lost) in enumerate(changes):
        task = f"task{number}"
        for model, right in (("base", 150), ("tuned", 150 + gained - lost)):
            value = right / QUESTIONS
            scores.append(
                AbilityScore(
                    model=model, task=task, metric="acc", filter="none", value=value, stderr=0.03, n=QUESTIONS,
                    higher_is_better=True, group=False,
                )
            )  # fmt: skip
        difference, bounds = paired_difference(150 - lost, gained, lost, QUESTIONS - 150 - gained)
        found.append(
            AbilityChange(
                baseline="base", model="tuned", task=task, metric="acc", filter="none", n=QUESTIONS, gained=gained,
                lost=lost, difference=difference, interval=Interval(low=bounds.low, high=bounds.high),
                p_value=mcnemar_exact(gained, lost),
            )
        )  # fmt: skip
    summary = make_summary(pairs_per_category=2, general=4)
    return summary.model_copy(update={"abilities": tuple(scores), "ability_changes": tuple(found)})


def advice(summary: Summary) -> list[tuple[str, str]]:
    """Level and text, in both languages, of the headline's lines."""
    html = render_report(summary)
    lines = re.findall(r'<li class="(good|act|note)"><p>(.*?)</p></li>', html, re.S)
    return [(level, Page(text).text.replace("\xa0", " ")) for level, text in lines]


@pytest.mark.parametrize(
    ("changes", "level", "said"),
    [
        ([(3, 30)], "act", "Ability fell significantly on 1 of 1 tasks: task0 75.0% → 61.5% (p < 0.001)"),
        ([(30, 2), (4, 4)], "good", "fell significantly on no task and rose on 1 of 2: task0 75.0% → 89.0%"),
        ([(4, 5)], "note", "No significant change in ability: task0 75.0% → 74.5% (p = 1.000); a fall of up to 3."),
        ([(5, 4), (4, 6), (6, 5)], "note", "on any of 3 tasks. The lowest change: task1 75.0% → 74.0%"),
    ],
)
def test_ability_is_in_the_headline(changes: list[tuple[int, int]], level: str, said: str) -> None:
    (line,) = [line for line in advice(with_tasks(*changes)) if "bility" in line[1]]
    assert line[0] == level and said in line[1]


def test_many_tasks_do_not_make_a_chance_fall_look_real() -> None:
    chance = (4, 14)
    assert mcnemar_exact(*chance) < 0.05 < 10 * mcnemar_exact(*chance)
    assert any(level == "act" and "Ability fell" in text for level, text in advice(with_tasks(chance)))
    assert not any("Ability fell" in text for _, text in advice(with_tasks(chance, *[(3, 3)] * 9)))


def test_the_cost_is_in_the_headline() -> None:
    summary = make_summary(pairs_per_category=2, general=4)
    steady = tuple(item.model_copy(update={"values": (item.values[0],)}) for item in make_measurements())
    (line,) = [text for _, text in advice(summary.model_copy(update={"measurements": steady})) if "Cost:" in text]
    speeds = {
        (item.model, item.conditions["batch_size"]): item.values[0]
        for item in steady
        if item.name == "decode_tokens_per_second" and item.conditions["study"] == "throughput"
    }
    ratios = [speeds["tuned", batch] / speeds["base", batch] for batch in (1, 8, 16)]
    assert f"{min(ratios):.2f}–{max(ratios):.2f} times the speed of base" in line
    assert "training " in line and "peak memory" in line


def test_a_figure_that_is_not_comparable_has_no_part_in_the_cost() -> None:
    foul = tuple(item.model_copy(update={"not_comparable": "others on the GPU"}) for item in make_measurements())
    summary = make_summary(pairs_per_category=2, general=4, measurements=foul)
    (line,) = [text for _, text in advice(summary) if "Cost:" in text]
    assert "training" in line and "times" not in line


def test_a_run_that_measured_neither_says_nothing_of_them() -> None:
    bare = make_summary(pairs_per_category=2, general=4, measurements=(), trainings=())
    assert not [text for _, text in advice(bare) if "Cost" in text or "bility" in text]
