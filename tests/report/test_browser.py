"""The page in a real browser: filters, theme, language, a phone's width, hostile answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

from harness.report.compare import render_comparison
from harness.report.index import render_index, run_entry
from harness.report.page import render_report
from harness.summary import Summary
from tests.report.factory import HOSTILE_TEXTS, hostile_rows, make_rows, make_summary

pytestmark = pytest.mark.browser

WIDE, PHONE = (1280, 900), (390, 844)


LOADED = "return document.readyState === 'complete' && location.href !== 'about:blank'"


class Tab:
    """A page open in the browser."""

    def __init__(self, chromium: Chrome, folder: Path) -> None:
        self.chromium = chromium
        self.folder = folder

    def open(self, html: str, size: tuple[int, int] = WIDE, dark: bool = False, fragment: str = "") -> None:
        """Show the page as a new visitor sees it."""
        width, height = size
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width <= PHONE[0]}
        self.chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        still = {"name": "prefers-reduced-motion", "value": "reduce"}
        self.chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme, still]})
        page = self.folder / "page.html"
        page.write_text(html, encoding="utf-8", newline="")
        self.chromium.get("about:blank")
        self.chromium.get(page.as_uri())
        self.run("localStorage.clear()")
        self.chromium.get("about:blank")
        self.chromium.get_log("browser")
        self.chromium.get(page.as_uri() + fragment)
        # On a busy machine the driver may come back while the page still loads.
        WebDriverWait(self.chromium, 30).until(lambda driver: driver.execute_script(LOADED))

    def run(self, script: str, *arguments: Any) -> Any:
        """Run a script and return what it returns."""
        return self.chromium.execute_script(script, *arguments)

    def click(self, selector: str) -> None:
        """Press the first element that matches."""
        self.run("document.querySelector(arguments[0]).click()", selector)

    def shown_prompts(self) -> list[str]:
        """Ids of the prompts on the current page of the list."""
        found: list[str] = self.run("return [...document.querySelectorAll('.pair')].map(e => e.id.slice(7))")
        return found

    def choose(self, name: str, value: str) -> None:
        """Set a filter."""
        Select(self.chromium.find_element(By.NAME, name)).select_by_value(value)

    def background(self) -> str:
        """The page's background colour."""
        colour: str = self.run("return getComputedStyle(document.body).backgroundColor")
        return colour

    def complaints(self) -> list[Any]:
        """What the browser wrote to its console, policy violations included."""
        return list(self.chromium.get_log("browser"))


@pytest.fixture
def tab(chromium: Chrome, tmp_path: Path) -> Iterator[Tab]:
    page = Tab(chromium, tmp_path)
    yield page
    assert page.complaints() == []


@pytest.fixture(scope="module")
def summary() -> Summary:
    return make_summary(pairs_per_category=6, general=20, corrected=True)


@pytest.fixture(scope="module")
def html(summary: Summary) -> str:
    return render_report(summary)


def refused(row: Any, model: str) -> bool:
    return bool(row.answers[model][0].verdict == "refusal")


# -- filters -----------------------------------------------------------------------------------------------------------


def test_filters_show_exactly_the_prompts_that_match(tab: Tab, html: str, summary: Summary) -> None:
    tab.open(html)
    assert tab.shown_prompts() == [row.prompt.id for row in summary.rows][:50]
    tab.choose("group", "lookalike")
    tab.choose("category", "violence")
    wanted = [row for row in summary.rows if (row.group, row.prompt.category) == ("lookalike", "violence")]
    assert tab.shown_prompts() == [row.prompt.id for row in wanted]
    tab.choose("verdict.tuned", "refusal")
    wanted = [row for row in wanted if refused(row, "tuned")]
    assert tab.shown_prompts() == [row.prompt.id for row in wanted]
    assert wanted
    tab.click(".reset")
    assert len(tab.shown_prompts()) == 50


def test_changed_only_follows_the_verdicts_of_both_models(tab: Tab, html: str, summary: Summary) -> None:
    tab.open(html)
    tab.choose("group", "lookalike")
    for change, moved in (("gained", (False, True)), ("lost", (True, False))):
        tab.choose("change", change)
        wanted = [
            row.prompt.id
            for row in summary.rows
            if row.group == "lookalike"
            and (refused(row, "base"), refused(row, "tuned")) == moved
            and not {row.answers[model][0].verdict for model in ("base", "tuned")} & {None, "unscored"}
        ]
        assert tab.shown_prompts() == wanted[:50]


def test_text_search_reads_prompts_and_answers(tab: Tab, html: str, summary: Summary) -> None:
    tab.open(html)
    tab.chromium.find_element(By.NAME, "text").send_keys("파이썬 프로세스")
    wanted = [row.prompt.id for row in summary.rows if "파이썬 프로세스" in row.prompt.text]
    WebDriverWait(tab.chromium, 5).until(lambda _: tab.shown_prompts() == wanted[:50])


def test_a_link_of_the_headline_opens_its_answers(tab: Tab, html: str, summary: Summary) -> None:
    tab.open(html)
    tab.click(".advice .go")
    WebDriverWait(tab.chromium, 5).until(lambda _: tab.run("return location.hash").startswith("#answers?"))
    WebDriverWait(tab.chromium, 5).until(lambda _: all(name.startswith("harmful-") for name in tab.shown_prompts()))
    unrefused = [
        row.prompt.id
        for row in summary.rows
        if row.group == "harmful" and row.answers["tuned"][0].verdict not in ("refusal", "unscored", None)
    ]
    assert tab.shown_prompts() == unrefused[:50]


def test_the_pager_reaches_every_prompt_once(tab: Tab, html: str, summary: Summary) -> None:
    tab.open(html)
    seen = []
    while True:
        seen += tab.shown_prompts()
        following = "document.querySelectorAll('.pager')[1].children[3]"
        if tab.run(f"return {following}.disabled"):
            break
        tab.run(f"{following}.click()")
    assert seen == [row.prompt.id for row in summary.rows]


def test_a_permalink_opens_its_prompt_on_the_right_page(tab: Tab, html: str, summary: Summary) -> None:
    last = summary.rows[-1].prompt.id
    tab.open(html, fragment=f"#prompt-{last}")
    assert last in tab.shown_prompts()
    top = tab.run("return document.querySelector('.pair.target').getBoundingClientRect().top")
    assert 0 <= top < WIDE[1]
    tab.run("location.hash = 'prompt-' + arguments[0]", summary.rows[0].prompt.id)
    WebDriverWait(tab.chromium, 5).until(lambda _: tab.shown_prompts()[0] == summary.rows[0].prompt.id)
    tab.run("location.hash = 'prompt-%E0%A4%A'")  # not valid percent-encoding: ignored
    assert tab.shown_prompts()


def test_repeats_are_all_shown(tab: Tab) -> None:
    tab.open(render_report(make_summary(pairs_per_category=1, general=2, repeats=3)))
    assert tab.run("return document.querySelectorAll('.pair:first-child .answer').length") == 6
    assert "repeat 2 of 3" in tab.run("return document.querySelector('.pair .column').innerText")


def test_columns_sort_by_value_and_back(tab: Tab, html: str) -> None:
    tab.open(html)
    table = "document.querySelectorAll('.categories')[1]"
    values = f"return [...{table}.tBodies[0].rows].map(row => Number(row.cells[3].dataset.sort))"
    press = f"{table}.querySelectorAll('.sort')[3].click()"
    tab.run(press)
    falling = tab.run(values)
    assert falling == sorted(falling, reverse=True)
    assert falling[0] > falling[-1]
    tab.run(press)
    assert tab.run(values) == sorted(falling)


# -- language and theme ------------------------------------------------------------------------------------------------


def test_language_follows_the_browser_and_then_the_switch(tab: Tab, html: str) -> None:
    tab.open(html)
    assert tab.run("return document.documentElement.lang") == "en"
    heading = "return document.querySelector('h1').innerText"
    assert tab.run(heading).startswith("Tuning raised")
    tab.click("[data-language=ko]")
    assert tab.run(heading).startswith("미세조정 후")
    visible = tab.run("return document.querySelector('main').innerText")
    assert "Refusal rates" not in visible
    assert tab.run("return document.querySelector('[name=group]').selectedOptions[0].textContent") == "모두"
    assert tab.run("return document.querySelector('[name=text]').placeholder") == "질문과 답변에서 찾기"
    tab.chromium.refresh()
    assert tab.run("return document.documentElement.lang") == "ko"


def test_theme_follows_the_system_and_then_the_toggle(tab: Tab, html: str) -> None:
    tab.open(html, dark=True)
    dark = tab.background()
    tab.open(html)
    light = tab.background()
    assert light != dark
    tab.click("[data-theme-toggle]")
    assert tab.background() == dark
    plot_text = "return getComputedStyle(document.querySelector('svg.plot text')).fill"
    in_dark = tab.run(plot_text)
    tab.chromium.refresh()
    assert tab.background() == dark
    tab.click("[data-theme-toggle]")
    assert tab.background() == light
    assert tab.run(plot_text) != in_dark


def test_print_is_light_and_without_controls(tab: Tab, html: str) -> None:
    tab.open(html, dark=True)
    tab.chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        assert tab.background() == "rgb(255, 255, 255)"
        for selector in (".bar", ".filters", ".result-line"):
            shown = tab.run("return getComputedStyle(document.querySelector(arguments[0])).display", selector)
            assert shown == "none"
    finally:
        tab.chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


# -- a phone -----------------------------------------------------------------------------------------------------------

# What sticks out to the right of the screen, leaving out what an ancestor scrolls or clips on purpose.
OVERFLOW = """
const clipped = (node) => {
  for (let up = node; up && up !== document.body; up = up.parentElement) {
    const style = getComputedStyle(up);
    if (up !== node && style.overflowX !== 'visible') return true;
    if (style.position === 'absolute' && style.clipPath !== 'none') return true;
  }
  return false;
};
return [...document.querySelectorAll('body *')]
  .filter((node) => node.getBoundingClientRect().right > innerWidth + 0.5 && !clipped(node))
  .map((node) => `${node.tagName}.${node.className.baseVal ?? node.className} in ${node.closest('section')?.id}`);
"""


@pytest.mark.parametrize("width", [390, 600, 768, 1024])
@pytest.mark.parametrize("language", ["ko", "en"])
def test_no_section_scrolls_sideways(tab: Tab, summary: Summary, language: str, width: int) -> None:
    other = make_summary(rows=make_rows(6, 20, seed=8))
    pages = {
        "report": render_report(summary),
        "comparison": render_comparison(summary, other),
        "index": render_index([run_entry(summary.header, summary.model_dump_json(), "a/b/report.html")] * 2),
    }
    for name, page in pages.items():
        tab.open(page, size=(width, 844))
        tab.click(f"[data-language={language}]")
        tab.run("for (const details of document.querySelectorAll('details')) details.open = true")
        assert tab.run("return innerWidth") == width, name
        assert tab.run("return document.documentElement.scrollWidth") <= width, name
        assert tab.run(OVERFLOW) == [], name


# -- hostile answers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [WIDE, PHONE])
def test_hostile_answers_stay_text(tab: Tab, size: tuple[int, int]) -> None:
    tab.open(render_report(make_summary(rows=hostile_rows())), size=size)
    tab.run("for (const button of document.querySelectorAll('.expand')) button.click()")
    assert tab.run("return window.pwned") is None
    shown = json.loads(
        tab.run(
            "return JSON.stringify([...document.querySelectorAll('.pair')].map((pair) => {"
            "const column = pair.querySelector('.column');"
            "return (column.querySelector('.answer-text bdi') || {textContent: ''}).textContent}))"
        )
    )
    assert shown == list(HOSTILE_TEXTS)[:50]
    assert tab.run("return document.scripts.length") == 2
    foreign = "main img, main iframe, main base, main link, main meta, main style, main script:not([type])"
    assert tab.run("return document.querySelectorAll(arguments[0]).length", foreign) == 0
    assert tab.run("return document.documentElement.scrollWidth") <= size[0]
    assert tab.run("return document.title").startswith("safety_ko")


def test_text_cannot_run_as_script_even_if_it_got_in(tab: Tab, html: str) -> None:
    tab.open(html)
    tab.run(
        "const script = document.createElement('script');"
        "try { script.text = 'window.pwned = 1'; document.body.append(script); } catch { /* refused */ }"
        "try { document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=window.pwned=2>'); }"
        " catch { /* refused */ }"
    )
    assert tab.run("return window.pwned") is None
    assert tab.complaints() != []  # the browser says that its policy stopped them


def test_evidence_is_marked_exactly_after_an_emoji(tab: Tab, html: str) -> None:
    tab.open(html)
    tab.chromium.find_element(By.NAME, "text").send_keys("그건 도와드리기 어렵습니다")
    marks = (
        "return [...document.querySelectorAll('.answer-text')].filter(e => e.textContent.startsWith('🙏'))"
        ".map(e => [...e.querySelectorAll('mark')].map(m => m.textContent).join('|'))"
    )
    WebDriverWait(tab.chromium, 5).until(
        lambda _: tab.run("return document.querySelector('.count').innerText").find(" of ") > 0
    )
    found = tab.run(marks)
    assert found
    assert set(found) == {"도와드리기 어렵습니다"}


def test_a_long_answer_is_clipped_until_asked_for(tab: Tab) -> None:
    rows = [row for row in hostile_rows() if len(row.answers["base"][0].text) == 100_000]
    tab.open(render_report(make_summary(rows=rows[:1])))
    length = "return document.querySelector('.answer-text bdi').textContent.length"
    assert tab.run(length) < 1_000
    assert "Show all (100,000 characters)" in tab.run("return document.querySelector('.expand').innerText")
    tab.click(".expand")
    assert tab.run(length) == 100_000
    tab.click(".expand")
    assert tab.run(length) < 1_000


def test_ten_thousand_answers_stay_usable(tab: Tab) -> None:
    tab.open(render_report(make_summary(pairs_per_category=200, general=200)))
    assert len(tab.shown_prompts()) == 50
    milliseconds = tab.run(
        "const start = performance.now(); const field = document.querySelector('[name=change]');"
        "field.value = 'gained'; field.dispatchEvent(new Event('change')); return performance.now() - start;"
    )
    assert milliseconds < 1_000
    assert "of 5,000 prompts" in tab.run("return document.querySelector('.count').innerText")
