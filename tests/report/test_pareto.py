"""The section on a sweep: which settings are in front, which differences are real, and pages with many models."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.select import Select
from selenium.webdriver.support.wait import WebDriverWait

from harness.records import SweepPoint, TaskSample
from harness.report.page import render_report
from harness.report.pareto_plot import pareto_front
from harness.summary import Group, Rate, Summary
from harness.sweep_summary import summarise_sweep
from tests.report.factory import make_rows, make_summary, wilson
from tests.report.reading import Page

NUMBERS = st.integers(0, 6).map(lambda number: number / 4)
GROUPS: tuple[Group, ...] = ("harmful", "lookalike", "general")


@settings(deadline=None)
@given(st.lists(st.tuples(NUMBERS, NUMBERS), max_size=25))
def test_the_front_is_what_brute_force_finds(points: list[tuple[float, float]]) -> None:
    def dominated(point: tuple[float, float]) -> bool:
        return any(other[0] >= point[0] and other[1] >= point[1] and other != point for other in points)

    assert pareto_front(points) == [not dominated(point) for point in points]


def swept(
    refusal: Mapping[int, tuple[float, float]], seeds: int, spread: float = 0.0, pairs: int = 8, ability: bool = True
) -> Summary:
    """A run that sweeps lora.r: rank -> shares of harmful prompts and of look-alikes refused, by `seeds` models each.

    `spread` moves each seed's shares up or down.
    """
    draw = random.Random(4)
    points = [
        SweepPoint(model=f"tuned-r{r}-s{s}", swept="tuned", setting=f"tuned-r{r}", values={"lora.r": r}, seed=str(s))
        for r in refusal
        for s in range(1, seeds + 1)
    ]
    models = ("base", *(point.model for point in points))
    rows = make_rows(pairs, 6)
    moved = {point.model: draw.uniform(-spread, spread) for point in points}
    hardness = {row.prompt.id: draw.random() for row in rows}

    def refused(point: SweepPoint, group: Group, prompt: str) -> bool:
        harmful, lookalike = refusal[int(point.values["lora.r"] or 0)]
        share = {"harmful": harmful, "lookalike": lookalike, "general": 0.0}[group] + moved[point.model]
        return 0.7 * hardness[prompt] + 0.3 * draw.random() < share

    decided = {(group, "base"): {(row.prompt.id,): False for row in rows if row.group == group} for group in GROUPS}
    for point in points:
        for group in GROUPS:
            decided[group, point.model] = {
                (row.prompt.id,): refused(point, group, row.prompt.id) for row in rows if row.group == group
            }
    samples = (
        [
            TaskSample(
                job_id="lm_eval",
                model=model,
                task="world",
                filter="none",
                doc_id=question,
                doc_hash=str(question),
                scores={"perplexity": 7.5, "acc": float(question % 5 > 0 or model == "base"), "acc_norm": 1.0},
            )
            for model in models
            for question in range(40)
        ]
        if ability
        else []
    )
    sweep = summarise_sweep(
        points,
        models,
        {point.model: "base" for point in points},
        [point.model for point in points],
        {group: (lambda model, group=group: decided[group, model]) for group in GROUPS},  # type: ignore[misc]
        samples,
        0.95,
    )
    plain = make_summary(rows=rows)
    cells = tuple(
        cell.model_copy(update={"model": model, "refusal": _rate(decided.get((cell.group, model), {}), cell.category)})
        for model in models
        for cell in plain.cells
        if cell.model == ("base" if model == "base" else "tuned")
    )
    changes = tuple(change.model_copy(update={"model": point.model}) for point in points for change in plain.changes)
    answers = tuple(
        row.model_copy(
            update={"answers": {model: row.answers["base" if model == "base" else "tuned"] for model in models}}
        )
        for row in rows
    )
    baselines = {point.model: "base" for point in points}
    update = {"models": models, "baselines": baselines, "cells": cells, "changes": changes, "rows": answers}
    return plain.model_copy(update={**update, "sweep": sweep})


def _rate(decided: Mapping[tuple[str], bool], category: str | None) -> Rate:
    known = [value for (prompt,), value in decided.items() if category is None or f"-{category}-" in prompt]
    return wilson(sum(known), len(known))


@pytest.fixture(scope="module")
def grid() -> Summary:
    """Ranks 8 and 16 trade refusals for over-refusals, 64 is worse than 16 in both; three seeds."""
    return swept({8: (0.5, 0.05), 16: (0.9, 0.2), 64: (0.7, 0.6)}, seeds=3, spread=0.03)


@pytest.fixture(scope="module")
def page(grid: Summary) -> Page:
    return Page(render_report(grid))


def section(page: Page) -> str:
    found = re.search(r'<section id="sweep">(.*?)</section>', page.html, re.S)
    assert found is not None
    return found[1]


def test_seeds_are_grouped_and_the_mean_has_a_wider_interval_than_one_seed(grid: Summary) -> None:
    assert grid.sweep is not None
    assert [one.name for one in grid.sweep.settings] == ["base", "tuned-r8", "tuned-r16", "tuned-r64"]
    rate = grid.sweep.settings[2].rates[0]
    assert rate.measure == "harmful" and len(rate.by_seed) == 3 and rate.n == 96
    assert rate.value == pytest.approx(sum(rate.by_seed) / 3)
    assert rate.interval.low < min(rate.by_seed) and rate.interval.high > max(rate.by_seed)
    assert grid.sweep.ability_tasks == ("world (acc)",)


def test_settings_are_compared_where_one_key_or_the_baseline_differs(grid: Summary) -> None:
    assert grid.sweep is not None
    pairs = {(one.first, one.second) for one in grid.sweep.differences}
    assert len(pairs) == 6 and len(grid.sweep.differences) == 24
    assert ("tuned-r16", "base") in pairs and ("tuned-r64", "tuned-r8") in pairs
    assert all(one.p_value <= one.adjusted <= 1 for one in grid.sweep.differences)


def test_real_differences_are_said_in_sentences(page: Page) -> None:
    real = section(page).split("Which differences are real")[1].split('<details class="more">')[0]
    assert "tuned-r16 refuses more harmful prompts than tuned-r8." in real
    assert "tuned-r16 설정은 tuned-r8 설정보다 유해 질문을 더 많이 거절합니다." in real
    assert "tuned-r64 refuses more harmless look-alikes than tuned-r16." in real
    assert re.search(r"\d+ of 24 tests between settings find a difference beyond chance \(Holm, 5%\)", real)


def test_the_front_is_named_and_a_dominated_setting_is_not_on_it(page: Page) -> None:
    front = re.search(r"On the front: ([^<]*)<", section(page))
    assert front is not None and front[1].replace("\N{NO-BREAK SPACE}", " ") == "1 base · 2 tuned-r8 · 3 tuned-r16"


def test_where_all_settings_pay_the_same_there_is_no_plot(page: Page) -> None:
    """No setting refuses a general prompt."""
    assert "0% in every setting, so there is nothing to weigh." in section(page)
    assert 'id="pareto-general' not in section(page) and "on the front: Over-refusal of general" not in section(page)


def test_settings_at_one_place_share_a_label() -> None:
    """Their numbers would be written over each other."""
    alike = swept({8: (1.1, -0.1), 16: (1.1, -0.1), 64: (1.1, 1.1)}, seeds=2, ability=False, pairs=3)
    plot = section(Page(render_report(alike))).split("<svg", 1)[1].split("</svg>")[0]
    labels = re.findall(r">([1-4·]+)</text>", plot)
    assert sorted(labels) == ["1", "2·3", "4"]


def test_few_seeds_are_said(page: Page) -> None:
    assert "3 seeds: intervals are wide" in section(page) and "시드(seed)가 3개뿐이라" in section(page)
    assert "Give 5 or more under seeds" in section(page)
    assert "intervals are wide" not in section(Page(render_report(swept({8: (0.5, 0.1), 16: (0.6, 0.1)}, seeds=5))))
    assert "have one seed" in section(Page(render_report(swept({8: (0.5, 0.1), 16: (0.6, 0.1)}, seeds=1))))


def test_settings_that_are_alike_are_not_told_apart() -> None:
    page = Page(render_report(swept({8: (0.5, 0.1), 16: (0.5, 0.1)}, seeds=3, ability=False, pairs=3)))
    real = section(page).split("Which differences are real")[1].split("<details")[0]
    assert "than tuned-r8." not in real and "than tuned-r16." not in real
    assert "pareto-ability" not in section(page)


def test_the_headline_speaks_of_settings_and_folds_the_models(page: Page) -> None:
    assert "Of 3 settings, tuned-r16 refuses harmful prompts most often" in page.sentence("en")
    assert "(95% CI [" in page.sentence("en") and "(95% 신뢰구간 [" in page.sentence("ko")
    assert page.html.count('<h2 class="further">') == 9
    assert "A sentence on each model (9)" in page.html


def test_the_section_has_a_link_and_its_plots_are_unique(page: Page) -> None:
    assert '<a href="#sweep">' in page.html
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    plots = re.findall(r'<svg [^>]*class="plot"', section(page))
    assert len(plots) == 2  # against look-alikes and ability; general prompts are answered by every setting


def test_a_page_without_a_sweep_has_no_such_section() -> None:
    assert 'id="sweep"' not in render_report(make_summary(pairs_per_category=1, general=2))


def test_with_many_models_categories_show_the_range_and_not_a_column_each(page: Page) -> None:
    categories = re.search(r'<section id="categories">(.*?)</section>', page.html, re.S)
    assert categories is not None and "Highest" in categories[1] and "Change tuned" not in categories[1]


@pytest.mark.browser
def test_many_models_stay_readable_in_a_browser(chromium: webdriver.Chrome, grid: Summary, tmp_path: Path) -> None:
    """Ten models at phone width: nothing scrolls sideways, two answers are shown, the others on request or by name."""
    page = tmp_path / "page.html"
    page.write_text(render_report(grid), encoding="utf-8")
    chromium.set_window_size(500, 900)
    chromium.get(page.as_uri())
    assert chromium.execute_script(
        "return document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    )
    card = chromium.find_element(By.CSS_SELECTOR, ".pair")
    assert len(card.find_elements(By.CSS_SELECTOR, ".column")) == 2
    more = card.find_element(By.CSS_SELECTOR, "details.more > summary")
    chromium.execute_script("arguments[0].click()", more)
    WebDriverWait(chromium, 10).until(lambda _: len(card.find_elements(By.CSS_SELECTOR, ".column")) == 10)
    Select(chromium.find_element(By.NAME, "model")).select_by_value("tuned-r16-s2")
    names = [name.text for name in chromium.find_elements(By.CSS_SELECTOR, ".pair:first-of-type .column .model")]
    assert names == ["base", "tuned-r16-s2"]
    wanted = [log for log in chromium.get_log("browser") if log["level"] == "SEVERE"]
    assert wanted == []
