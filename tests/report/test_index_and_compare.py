"""The list of runs and the comparison of two."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from harness.finish import write_index
from harness.records import Prompt, Verdict
from harness.report.compare import merge, paired_models, render_comparison, setting_differences, speed_table
from harness.report.index import RunEntry, render_index, run_entry
from harness.summary import AnswerRow, Summary
from tests.grading.runs import make_run
from tests.report.factory import answer, make_summary
from tests.report.reading import Page, in_english
from tests.report.test_timing_headline import speed, timed


def row(name: str, base: Verdict, tuned: Verdict, text: str = "물은 몇 도에서 끓나요?") -> AnswerRow:
    prompt = Prompt(id=name, text=text, category="violence", expected="refuse", pair_id=None, source="t", licence="t")
    answers = {"base": (answer("가", base),), "tuned": (answer("나", tuned),)}
    return AnswerRow(prompt=prompt, group="harmful", answers=answers)


def started(summary: Summary, run_id: str, moment: str, **fields: object) -> Summary:
    header = summary.header.model_copy(update={"run_id": run_id, "started_at": moment, **fields})
    return summary.model_copy(update={"header": header})


@pytest.fixture(scope="module")
def first() -> Summary:
    return make_summary(
        rows=[row("a", "compliance", "refusal"), row("b", "compliance", "refusal"), row("c", "refusal", "refusal")]
    )


@pytest.fixture(scope="module")
def second() -> Summary:
    rows = [
        row("a", "compliance", "compliance"),
        row("b", "compliance", "refusal", text="다른 질문"),
        row("c", "refusal", "refusal"),
        row("d", "refusal", "refusal"),
    ]
    return make_summary(rows=rows)


# -- index -------------------------------------------------------------------------------------------------------------


def test_runs_are_listed_newest_first_with_links_and_flags(first: Summary) -> None:
    old = started(first, "20260101-000000-aaaa", "2026-01-01T00:00:00Z")
    new = started(first, "20260201-000000-bbbb", "2026-02-01T00:00:00Z").model_copy(update={"complete": False})
    entries = [
        run_entry(
            summary.header,
            summary.model_dump_json(exclude={"rows", "header"}),
            f"safety_ko/{summary.header.run_id}/report.html",
        )
        for summary in (old, new)
    ]
    broken = RunEntry("x", "20251201-000000-cccc", "2025-12-01T00:00:00Z", link=None, problem="run.json:1: <not> JSON")
    page = Page(render_index([*entries, broken]))
    runs = [text for text in page.text.split() if text[:4] in ("2026", "2025") and text[8] == "-"]
    assert runs == ["20260201-000000-bbbb", "20260101-000000-aaaa", "20251201-000000-cccc"]
    assert f"safety_ko/{new.header.run_id}/report.html" in [link.get("href") for link in page.attributes("a")]
    assert page.text.count("not complete") == 1
    assert "run.json:1: <not> JSON" in page.text
    assert render_index(entries) == render_index(reversed(entries))
    assert "default-src 'none'" in page.policy


def test_a_run_that_asked_nothing_is_listed_with_its_speed() -> None:
    run = timed(speed("plain", 8, 300.0))
    entry = run_entry(run.header, run.model_dump_json(exclude={"rows", "header"}), None)
    assert "base writes up to 300 tokens/s (batch 8)." in in_english("".join(entry.sentences))
    assert "300" in Page(render_index([entry])).text


def test_a_run_that_stopped_is_not_complete_rather_than_unreadable(tmp_path: Path) -> None:
    make_run(tmp_path, {"base": ["가"]})
    page = Page(write_index(tmp_path).read_text(encoding="utf-8"))
    assert "not complete" in page.text and "끝나지 않음" in page.text
    assert "unreadable" not in page.text


def test_an_empty_index_says_so_and_another_schema_is_refused(first: Summary) -> None:
    assert "No runs yet." in render_index([])
    with pytest.raises(ValidationError):
        run_entry(first.header, '{"models": []}', None)


# -- comparison --------------------------------------------------------------------------------------------------------


def test_changes_count_only_prompts_asked_in_both_runs(first: Summary, second: Summary) -> None:
    merged = merge(first, second, paired_models(first, second))
    assert [row.prompt.id for row in merged.rows] == ["a", "c"]  # b was reworded, d is in one run alone
    assert merged.baselines == {"B:base": "A:base", "B:tuned": "A:tuned"}
    change = next(change for change in merged.changes if (change.model, change.category) == ("B:tuned", None))
    assert (change.n, change.both, change.gained, change.lost, change.neither) == (2, 1, 0, 1, 0)
    assert change.difference == -0.5
    assert change.p_value == 1.0


def test_models_are_paired_by_name_and_then_by_role(first: Summary) -> None:
    renamed = first.model_copy(update={"models": ("llama", "llama_ko"), "baselines": {"llama_ko": "llama"}})
    assert paired_models(first, first) == [("base", "base"), ("tuned", "tuned")]
    assert paired_models(first, renamed) == [("base", "llama"), ("tuned", "llama_ko")]


def test_speeds_are_ratios_under_the_same_conditions(first: Summary) -> None:
    faster = tuple(
        item.model_copy(update={"values": tuple(2 * value for value in item.values)})
        for item in first.measurements
        if item.name == "decode_tokens_per_second" and item.model == "base"
    )
    table = speed_table(first, first.model_copy(update={"measurements": faster}), [("base", "base")])
    assert table is not None
    assert [row[3].sort for row in table.rows] == [2.0, 2.0, 2.0]
    other = tuple(item.model_copy(update={"conditions": {**item.conditions, "prompt_tokens": 999}}) for item in faster)
    assert speed_table(first, first.model_copy(update={"measurements": other}), [("base", "base")]) is None


def test_a_ratio_of_figures_that_are_not_comparable_is_not_given(first: Summary) -> None:
    flagged = [item for item in first.measurements if item.not_comparable]
    table = speed_table(first, first.model_copy(update={"measurements": tuple(flagged)}), [("base", "base")])
    assert table is not None
    assert {row[3].sort for row in table.rows} == {None}


def test_settings_that_differ_are_listed_by_dotted_name(first: Summary) -> None:
    suite = {**first.header.suite, "sampling": {"max_new_tokens": 99}}
    environment = first.header.environment.model_copy(update={"packages": {"torch": "2.9.1", "transformers": "5.10.0"}})
    other = started(first, "x", "2026-02-01T00:00:00Z", suite=suite, environment=environment)
    found = {item.name: (item.first, item.second) for item in setting_differences(first, other)}
    assert found["suite.sampling.max_new_tokens"] == ("–", "99")
    assert found["package.torch"] == ("2.9.0", "2.9.1")
    assert "package.transformers" not in found
    assert setting_differences(first, first) == []


def test_the_page_warns_of_what_makes_runs_hard_to_compare(first: Summary, second: Summary) -> None:
    regraded = second.model_copy(update={"grader": second.grader.model_copy(update={"version": "other"})})
    page = Page(render_comparison(first, regraded))
    assert "Prompts asked in both runs: 2; in A alone: 1; in B alone: 2." in page.text
    assert "The runs were graded by different graders" in page.text
    assert page.answers["models"][1] == {"name": "B:base", "baseline": "A:base", "number": 1}
    alike = Page(render_comparison(first, first)).text
    assert "graded by different graders" not in alike
    assert "Settings and machine are the same." in alike
    assert render_comparison(first, second) == render_comparison(first, second)
