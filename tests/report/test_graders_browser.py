"""The section on graders in a real browser: links, widths, languages, print, hostile names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.support.ui import WebDriverWait

from harness.report.page import render_report
from harness.summary import Summary
from tests.report.graders_factory import JUDGES, OLD_LEXICON, make_graded
from tests.report.test_browser import OVERFLOW, PHONE, WIDE, Tab
from tests.report.test_graders import hostile

pytestmark = pytest.mark.browser

OPEN_ALL = "for (const details of document.querySelectorAll('details')) details.open = true"


@pytest.fixture
def tab(chromium: Chrome, tmp_path: Path) -> Iterator[Tab]:
    page = Tab(chromium, tmp_path)
    yield page
    assert page.complaints() == []


@pytest.fixture(scope="module")
def summary() -> Summary:
    return make_graded(pairs_per_category=8, general=40, corrected=True)


@pytest.fixture(scope="module")
def html(summary: Summary) -> str:
    return render_report(summary)


def test_a_disagreement_leads_to_its_answer_whatever_the_filters(tab: Tab, html: str) -> None:
    tab.open(html, fragment="#answers?group=general")
    tab.run(OPEN_ALL)
    link = "document.querySelectorAll('#graders .disputes a')[3]"
    prompt = tab.run(f"return {link}.textContent")
    assert not prompt.startswith("general")
    tab.run(f"{link}.click()")
    WebDriverWait(tab.chromium, 5).until(lambda _: prompt in tab.shown_prompts())
    target = "return document.querySelector('.pair.target')"
    assert tab.run(f"{target}.id") == f"prompt-{prompt}"
    assert 0 <= tab.run(f"{target}.getBoundingClientRect().top") < WIDE[1]


def test_a_prompt_with_a_hostile_id_is_reached_too(tab: Tab) -> None:
    summary = hostile()
    strange = summary.rows[0].prompt.model_copy(update={"id": "a b/?#%<i>'\"&가"})
    rows = (summary.rows[0].model_copy(update={"prompt": strange}), *summary.rows[1:])
    assert summary.graders is not None
    first = summary.graders.disagreements[0].model_copy(update={"prompt_id": strange.id})
    graders = summary.graders.model_copy(update={"disagreements": (first,)})
    tab.open(render_report(summary.model_copy(update={"rows": rows, "graders": graders})), size=PHONE)
    tab.run(OPEN_ALL)
    tab.click("#graders .disputes a")
    WebDriverWait(tab.chromium, 5).until(
        lambda _: tab.run("return document.querySelector('.pair.target')?.id") == f"prompt-{strange.id}"
    )
    assert tab.run("return window.pwned") is None


@pytest.mark.parametrize("width", [360, 390, 600, 768, 1024, 1280])
@pytest.mark.parametrize("language", ["ko", "en"])
def test_no_graders_section_scrolls_sideways(tab: Tab, html: str, language: str, width: int) -> None:
    for page in (html, render_report(hostile())):
        tab.open(page, size=(width, 844), dark=width == PHONE[0])
        tab.click(f"[data-language={language}]")
        tab.run(OPEN_ALL)
        assert tab.run("return document.documentElement.scrollWidth") <= width
        assert tab.run(OVERFLOW) == []
        assert tab.run("return window.pwned") is None
    tables = "return [...document.querySelectorAll('#graders .table')].filter(t => t.scrollWidth > t.clientWidth + 1)"
    tab.open(html, size=(width, 844))
    tab.run(OPEN_ALL)
    assert tab.run(f"{tables}.map(t => t.querySelector('table').className)") == []


def test_both_languages_are_whole(tab: Tab, html: str) -> None:
    tab.open(html)
    tab.run(OPEN_ALL)
    shown = "return document.querySelector('#graders').innerText"
    text = tab.run(shown)
    assert "Fleiss' kappa" in text
    assert "카파" not in text
    tab.click("[data-language=ko]")
    text = tab.run(shown)
    assert "플라이스의 카파" in text
    for word in ("kappa", "refusal", "graders", "answers", "unscored", "passes"):
        assert word not in text.lower()


def test_the_kappas_sort(tab: Tab, html: str) -> None:
    tab.open(html)
    table = "document.querySelector('#graders .agreement')"
    tab.run(f"{table}.querySelectorAll('.sort')[3].click()")
    values = tab.run(f"return [...{table}.tBodies[0].rows].map(row => Number(row.cells[3].dataset.sort))")
    assert len(values) > 3
    assert values == sorted(values, reverse=True)


def test_a_page_with_thousands_of_disagreements_opens_quickly(tab: Tab) -> None:
    large = make_graded({JUDGES[0]: 0.6, OLD_LEXICON: 0.4}, pairs_per_category=200, general=200)
    tab.open(render_report(large))
    assert len(tab.shown_prompts()) == 50
    entries = tab.run("return document.querySelectorAll('#graders .disputes tbody tr').length")
    assert entries == 400
    milliseconds = tab.run(
        f"const start = performance.now(); {OPEN_ALL}; document.body.getBoundingClientRect().height;"
        "return performance.now() - start;"
    )
    assert milliseconds < 2_000


def test_print_opens_every_list(tab: Tab, html: str) -> None:
    tab.open(html)
    tab.run("window.dispatchEvent(new Event('beforeprint'))")
    assert tab.run("return document.querySelectorAll('#graders details:not([open])').length") == 0
    tab.chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        assert tab.run("return document.querySelector('#graders .disputes').getBoundingClientRect().height") > 0
    finally:
        tab.chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
