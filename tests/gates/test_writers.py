"""JUnit, Markdown and the page: valid, escaped, the same bytes each time; no figure reads as the limit it misses."""

from __future__ import annotations

import re

import pytest
from markdown_it import MarkdownIt

from harness.gates.figures import Run
from harness.gates.judge import judge
from harness.gates.words import failure_lines, figure_text, required, verdict_line
from harness.records import GateReport, GateResult, Said
from harness.report.compare import render_comparison
from harness.report.junit import junit_xml
from harness.report.page import render_report
from harness.report.step_summary import comparison_summary, plain, step_summary
from harness.suite import Gate
from harness.summary import Interval, Summary
from tests.gates.junit_form import read_junit
from tests.report.factory import HOSTILE_TEXTS, make_summary
from tests.report.reading import Page

GATES = {
    "refuses": Gate(metric="refusal", model="tuned", bound="low", at_least=0.5),
    "answers": Gate(metric="over_refusal", model="tuned", bound="high", max_rise=0.05),
    "memory": Gate(metric="peak_process_rss_bytes", model="tuned", conditions={"batch_size": 8}, at_most=2e9),
    "speed": Gate(
        metric="decode_tokens_per_second", model="tuned", conditions={"batch_size": 8}, baseline="main", min_ratio=0.95
    ),
    "knows": Gate(metric="ability", task="kobest", model="tuned", max_drop=0.02),
}


def with_gates(summary: Summary) -> Summary:
    results = judge(GATES, Run(summary), lambda _: Run(summary))
    gates = {name: gate.model_dump(mode="json", exclude_defaults=True) for name, gate in GATES.items()}
    return summary.model_copy(update={"gates": GateReport(source="suite.yaml", gates=gates, results=results)})


@pytest.fixture(scope="module")
def summary() -> Summary:
    return with_gates(make_summary(pairs_per_category=6, general=40))


def report(summary: Summary) -> GateReport:
    assert summary.gates is not None
    return summary.gates


def test_junit_has_one_case_per_gate_and_a_failure_with_figures(summary: Summary) -> None:
    root = read_junit(junit_xml(summary.header, report(summary)))
    cases = {str(case.get("name")): case for case in root.iter("testcase")}
    assert list(cases) == [f"{name} [tuned]" for name in GATES]
    assert cases["refuses [tuned]"].find("failure") is None
    failure = cases["answers [tuned]"].find("failure")
    assert failure is not None and failure.get("type") == "limit not met"
    assert re.search(r"upper bound ≤ \+5 points; found \+[\d.]+ points \[.*\], n = \d+", str(failure.get("message")))
    missing = cases["knows [tuned]"].find("failure")
    assert missing is not None and missing.get("type") == "no data"
    assert "no result of task kobest" in str(missing.get("message"))


def test_the_check_of_the_form_notices_what_is_wrong(summary: Summary) -> None:
    text = junit_xml(summary.header, report(summary))
    for old, new in [('failures="2"', 'failures="1"'), ('classname="', 'class="'), ("<failure", "<fail")]:
        with pytest.raises((AssertionError, KeyError, SyntaxError)):
            read_junit(text.replace(old, new, 1))


def test_markdown_has_tables_of_gates_rates_and_speed(summary: Summary) -> None:
    text = step_summary(summary)
    assert "## ❌ 2 of 5 gates failed" in text
    for title in ("## Refusal and over-refusal", "## Speed"):
        assert title in text
    assert "| ❌ no data | knows | tuned | ability: kobest, acc, against base |" in text
    assert "- knows: there is no result of task kobest for tuned" in text
    assert len([line for line in text.splitlines() if line.startswith("| harm")]) == 4
    tables = [line for line in text.splitlines() if line.startswith("|")]
    widths = {line.count(" | ") for line in tables if "refuses" in line or line.startswith("|  | Gate")}
    assert widths == {7}


def test_markdown_has_the_corrected_rates_and_how_each_was_made(summary: Summary) -> None:
    first, second, *others = summary.cells
    by_labels = {"corrected": 0.5, "corrected_interval": Interval(low=0.25, high=0.75), "corrected_by": "labels"}
    by_error = {**by_labels, "corrected": 0.125, "corrected_by": "error"}
    ways = [{**by_labels, "labels": 13}, {**by_error, "labels": 9}]
    changed = [
        cell.model_copy(update={"refusal": cell.refusal.model_copy(update=way), "category": None})
        for cell, way in zip((first, second), ways, strict=True)
    ]
    text = step_summary(summary.model_copy(update={"cells": (*changed, *others)}))
    assert "| 50.0% [25.0, 75.0], 13 people's labels |" in text
    assert "| 12.5% [25.0, 75.0], grader's known error |" in text


def test_the_same_summary_gives_the_same_bytes(summary: Summary) -> None:
    again = with_gates(make_summary(pairs_per_category=6, general=40))
    assert junit_xml(again.header, report(again)) == junit_xml(summary.header, report(summary))
    assert step_summary(again) == step_summary(summary)
    assert render_report(again) == render_report(summary)


def test_the_page_has_a_section_and_a_link_in_both_languages(summary: Summary) -> None:
    page = Page(render_report(summary))
    assert "#gates" in [link.get("href") for link in page.attributes("a")]
    for words in (
        "통과 기준을 충족하지 못했습니다.",
        "This run does not meet its gates.",
        "2 of 5: answers, knows.",
        "자료 없음",
    ):
        assert words in page.text
    assert "과제 kobest의 결과가 없습니다" in page.text and "there is no result of task kobest" in page.text
    without = Page(render_report(summary.model_copy(update={"gates": None})))
    assert "#gates" not in [link.get("href") for link in without.attributes("a")]
    compared = Page(render_comparison(summary, summary, report(summary)))
    assert "#gates" in [link.get("href") for link in compared.attributes("a")]


HOSTILE_NAMES = (
    "tuned",
    "a|b",
    "**b**",
    "[x](https://evil.example)",
    "https://evil.example/x",
    "www.evil.example",
    "@everyone #1",
    "<img src=x onerror=alert(1)>",
    "`code` $x$ ~~y~~",
    "line\nbreak\n\n# title",
    "back\\slash\\|pipe",
    "\x1b[31mred\x00\u202ereversed\ud800\uffff",
    "]]><failure/>",
    *HOSTILE_TEXTS,
)


def hostile(summary: Summary) -> Summary:
    """Every name and text of the gates, the suite and the models is an attack."""
    results = []
    for number, name in enumerate(HOSTILE_NAMES):
        changes = {"name": f"{number}{name}", "subject": name, "reason": Said(ko=name, en=name), "against": name}
        gate = {**Gate(metric="refusal", model="x", category=name, max_drop=0).model_dump(exclude_defaults=True)}
        results.append(
            GateResult(outcome="no_data", kind="difference", limit=0, unit=name, gate=gate, notes=(), **changes)
        )
    header = summary.header.model_copy(update={"suite_name": HOSTILE_NAMES[7], "run_id": HOSTILE_NAMES[9]})
    cells = tuple(cell.model_copy(update={"model": HOSTILE_NAMES[1]}) for cell in summary.cells)
    gates = GateReport(source="x", gates={}, results=tuple(results))
    return summary.model_copy(update={"header": header, "cells": cells, "gates": gates})


def test_hostile_names_stay_text_in_xml(summary: Summary) -> None:
    attacked = hostile(summary)
    text = junit_xml(attacked.header, report(attacked))
    root = read_junit(text.encode("utf-8").decode("utf-8"))
    cases = list(root.iter("testcase"))
    assert len(cases) == len(HOSTILE_NAMES)
    assert "<U+001B>[31mred<U+0000><U+202E>reversed<U+D800><U+FFFF>" in str(cases[11].get("name"))


def test_hostile_names_stay_text_in_markdown(summary: Summary) -> None:
    attacked = hostile(summary)
    for text in (step_summary(attacked), comparison_summary(attacked, attacked, report(attacked))):
        text.encode("utf-8")
        rows = [line for line in text.splitlines() if line.startswith("| ❌")]
        assert len(rows) == len(HOSTILE_NAMES)
        assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {9}
        assert "<" not in text and "\x1b" not in text and "\u202e" not in text
        assert "https:/" not in text and "www.e" not in text and not re.search(r"(?<!\\)\$x", text)
        page = Page(MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(text))
        allowed = {"h1", "h2", "table", "thead", "tbody", "tr", "th", "td", "ul", "li", "p", "code"}
        assert {tag for tag, _ in page.elements} <= allowed
        assert [len(page.attributes(tag)) for tag in ("h1", "code")] == [1, text.count("`report.html`")]
        assert "[x](https://evil.example)" in page.text and "<img src=x onerror=alert(1)>" in page.text


def test_markdown_shows_plain_words_as_they_are() -> None:
    assert plain("kobest 0.95 × 8, n = 5") == "kobest 0.95 × 8, n = 5"


def result(kind: str, limit: float, value: float, **gate: object) -> GateResult:
    given = {"metric": "refusal", "model": "m", **gate}
    fields = {"name": "it", "subject": "m", "gate": given, "outcome": "failed", "unit": "bytes"}
    return GateResult.model_validate({**fields, "kind": kind, "limit": limit, "value": value})


@pytest.mark.parametrize(
    ("made", "needs", "found"),
    [
        (result("share", 0.8, 0.75, at_least=0.8), "value ≥ 80%", "75%"),
        (result("share", 0.8, 0.79999999, at_least=0.8), "value ≥ 80%", "79.999999%"),
        (
            result("difference", -0.02, -0.03, max_drop=0.02, bound="low"),
            "difference, lower bound ≥ −2 points",
            "−3 points",
        ),
        (result("difference", 0.05, 0.0, max_rise=0.05), "difference ≤ +5 points", "0 points"),
        (result("ratio", 0.95, 0.94996, min_ratio=0.95), "ratio ≥ 0.95", "0.94996"),
        (result("score", 0.5, 0.512345, at_least=0.5), "value ≥ 0.5", "0.5123"),
        (result("quantity", 2 * 2**30, 2.5 * 2**30, at_most=2 * 2**30), "value ≤ 2 GiB", "2.5 GiB"),
    ],
)
def test_figures_read_well_and_never_as_the_limit_they_miss(made: GateResult, needs: str, found: str) -> None:
    assert made.value is not None
    assert required(made).en == needs
    assert figure_text(made, made.value) == found
    assert found in verdict_line(made)


def test_gates_that_lack_data_for_one_reason_share_a_line() -> None:
    missing = Said(ko="재지 않았습니다", en="decode was not measured for base")
    without = [
        result("ratio", 0.95, 0.9, min_ratio=0.95).model_copy(
            update={"name": name, "outcome": "no_data", "value": None, "reason": missing}
        )
        for name in ("a", "b")
    ]
    failed = result("ratio", 0.95, 0.9, min_ratio=0.95)
    lines = failure_lines([without[0], failed, without[1]])
    assert lines == ["decode was not measured for base. So 2 have no data: a, b.", verdict_line(failed)]
    assert failure_lines(without[:1]) == [verdict_line(without[0])]
