"""The report's page: what it says, and that nothing in it can do harm."""

import base64
import hashlib
import re
import time
from pathlib import Path

import pytest
from jinja2 import StrictUndefined, UndefinedError

from harness.records import CheckedData, ContaminationReport
from harness.report.page import render_report
from harness.report.rendering import environment
from harness.summary import PairedChange, Summary
from tests.report.factory import HOSTILE_TEXTS, hostile_rows, make_rows, make_summary, make_training
from tests.report.reading import Page, digest_of_rebuilt


@pytest.fixture(scope="module")
def summary() -> Summary:
    return make_summary(pairs_per_category=4, general=12, corrected=True)


@pytest.fixture(scope="module")
def page(summary: Summary) -> Page:
    return Page(render_report(summary))


def with_change(summary: Summary, group: str, **fields: object) -> Summary:
    """The summary with other figures for one group's change."""
    changes = tuple(
        PairedChange.model_validate({**change.model_dump(), **fields})
        if (change.group, change.category) == (group, None)
        else change
        for change in summary.changes
    )
    return summary.model_copy(update={"changes": changes})


# -- the same bytes, and nothing from outside --------------------------------------------------------------------------


def test_rebuilding_gives_the_same_bytes_in_another_process(summary: Summary, tmp_path: Path) -> None:
    digests = {
        digest_of_rebuilt(summary, tmp_path, PYTHONHASHSEED=seed, TZ=zone)
        for seed, zone in (("1", "UTC"), ("2", "Asia/Seoul"))
    }
    assert digests == {hashlib.sha256(render_report(summary).encode()).hexdigest()}


def test_nothing_is_fetched(page: Page) -> None:
    fetching = {"src", "srcset", "action", "formaction", "data", "poster", "background", "ping"}
    for tag, attributes in page.elements:
        assert not fetching & attributes.keys(), (tag, attributes)
        link = attributes.get("href") or "#"
        assert link.startswith("#") or link == "data:,", (tag, attributes)
    assert not re.search(r"url\((?!#)|@import", page.styles[0])


def test_the_policy_lets_only_the_pages_own_script_and_style_run(page: Page) -> None:
    def digest(text: str) -> str:
        return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

    assert len(page.scripts) == 2
    assert page.attributes("script")[1]["type"] == "application/json"
    assert f"script-src '{digest(page.scripts[0])}'" in page.policy
    assert f"style-src '{digest(page.styles[0])}'" in page.policy
    assert page.policy.startswith("default-src 'none'")
    assert "unsafe" not in page.policy
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on") or name == "style"], (tag, attributes)


def test_no_path_of_the_machine_is_on_the_page(page: Page) -> None:
    assert "someone" not in page.html
    assert "…/suites/safety_ko.yaml" in page.text


def test_what_several_jobs_say_in_the_same_words_stands_once(summary: Summary) -> None:
    (first, *rest) = summary.events
    again = first.model_copy(update={"job_id": "generate-tuned"})
    page = Page(render_report(summary.model_copy(update={"events": (first, *rest, again)})))
    assert page.text.count(first.message) == 1


def test_ids_are_unique(page: Page) -> None:
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_every_section_has_its_link_and_every_link_its_section(summary: Summary) -> None:
    contamination = ContaminationReport(
        excludes=False, ngram=8, ngram_other_scripts=8, threshold=0.7, prompts=24, rows_by_prompt={}, pairs=(),
        data=(CheckedData(name="safety", data="rows.jsonl", rows=100),),
    )  # fmt: skip
    page = Page(render_report(summary.model_copy(update={"contamination": contamination})))
    sections = [str(section["id"]) for section in page.attributes("section") if "id" in section]
    links = [str(link.get("href")) for link in page.attributes("a") if str(link.get("href")).startswith("#")]
    assert "contamination" in sections
    assert [f"#{section}" for section in sections] == [link for link in dict.fromkeys(links) if link[1:] in sections]


# -- the headline ------------------------------------------------------------------------------------------------------


def test_the_headline_gives_rates_difference_and_interval(summary: Summary) -> None:
    told = with_change(
        summary, "harmful", difference=0.897, interval={"low": 0.861, "high": 0.923}, p_value=1e-9, gained=43, lost=0
    )
    told = with_change(
        told, "lookalike", difference=0.231, interval={"low": 0.18, "high": 0.28}, p_value=1e-4, gained=11, lost=0
    )
    rates = {(cell.model, cell.group): cell.refusal for cell in told.cells if cell.category is None}
    before, after = rates["base", "harmful"].value, rates["tuned", "harmful"].value
    assert before is not None
    assert after is not None
    page = Page(render_report(told))
    assert page.sentence("en").startswith(
        f"Tuning raised refusals of harmful prompts from {before:.1%} to {after:.1%} "
        "(+89.7 points, 95% CI [+86.1, +92.3]), and of harmless look-alikes from ".replace("0.0%", "0%")
    )
    assert "+89.7%p, 95% 신뢰구간 [+86.1, +92.3]" in page.sentence("ko")
    assert "올랐고" in page.sentence("ko")
    assert page.sentence("ko").endswith(").")
    assert "Over-refusal rose significantly: 11 of" in page.text


def test_no_significant_change_is_said(summary: Summary) -> None:
    quiet = with_change(summary, "harmful", p_value=0.2, gained=3, lost=1, difference=0.01)
    page = Page(render_report(quiet))
    assert "Tuning did not significantly change refusals of harmful prompts" in page.sentence("en")
    assert "뚜렷하게 달라지지는 않았" in page.sentence("ko")
    assert "No significant change in refusals of harmful prompts" in page.text


def test_a_fall_in_refusals_of_harmful_prompts_is_to_act_on(summary: Summary) -> None:
    page = Page(render_report(with_change(summary, "harmful", p_value=0.001, gained=2, lost=30, difference=-0.6)))
    assert "Tuning lowered refusals of harmful prompts" in page.sentence("en")
    assert "Harmful prompts are refused less often: 30 once refused are now answered" in page.text
    assert "내렸" in page.sentence("ko")


def test_the_level_of_significance_follows_the_confidence(summary: Summary) -> None:
    borderline = with_change(summary, "harmful", p_value=0.03)
    assert "did not significantly" not in Page(render_report(borderline)).sentence("en")
    strict = borderline.model_copy(update={"confidence": 0.99})
    assert "did not significantly" in Page(render_report(strict)).sentence("en")


def test_the_worst_categories_of_over_refusal_are_named_first(summary: Summary) -> None:
    told = with_change(summary, "lookalike", p_value=0.001, gained=11, lost=0)
    gains = {"fraud": 4, "theft": 3, "hate": 2, "rumour": 1}
    changes = tuple(
        change.model_copy(update={"gained": gains.get(str(change.category), 0), "lost": 0})
        if change.group == "lookalike" and change.category
        else change
        for change in told.changes
    )
    page = Page(render_report(told.model_copy(update={"changes": changes})))
    assert re.search(r"Look first at.*?Fraud.*?4/4.*?Theft.*?3/4.*?Hate and discrimination.*?2/4\.", page.text, re.S)
    assert "#answers?group=lookalike&category=fraud&change=gained" in [a.get("href") for a in page.attributes("a")]


def test_every_loaded_model_names_what_generated_its_answers(summary: Summary) -> None:
    loaded = tuple(one.model_copy(update={"engine": "fast"}) for one in summary.loaded)
    html = render_report(summary.model_copy(update={"loaded": loaded}))
    assert html.count("engine fast") == html.count("엔진 fast") == len(loaded)


def test_without_a_baseline_the_rates_stand_alone() -> None:
    page = Page(render_report(make_summary(pairs_per_category=2, general=4, baselines={})))
    assert page.sentence("en").startswith("Model base refused")
    assert "change" not in [attributes.get("id") for attributes in page.attributes("section")]


def test_a_run_without_any_answer_renders() -> None:
    empty = make_summary(
        rows=[], trainings=(), measurements=(), loaded=(), events=(), complete=False, seconds_by_job={}
    )
    page = Page(render_report(empty))
    assert page.sentence("en") == "There are no answers to compare yet."
    assert "5 of 5 jobs have not finished" in page.text


def test_demonstration_and_incomplete_runs_say_so(summary: Summary) -> None:
    plain = Page(render_report(summary)).text
    told = Page(render_report(summary.model_copy(update={"demonstration": True, "complete": False}))).text
    for notice in ("This is a demonstration model.", "시연용 모델입니다.", "This run is not complete."):
        assert notice in told
        assert notice not in plain


# -- the sections ------------------------------------------------------------------------------------------------------


def test_every_card_states_what_its_rate_leaves_out(page: Page, summary: Summary) -> None:
    assert page.html.count('<ul class="caveats">') == 3 * len(summary.models)
    for cards in page.html.split('<ul class="caveats">')[1:]:
        for name in ("unscored", "empty", "incoherent", "failed", "truncated"):
            assert name in cards.split("</ul>")[0]


def test_corrected_rates_stand_beside_raw_ones(page: Page) -> None:
    assert page.text.count("Corrected by the grader's known error") == 6
    assert "Corrected by" not in Page(render_report(make_summary(pairs_per_category=1, general=2))).text


def test_training_states_time_memory_and_substitutions(page: Page) -> None:
    for text in (
        "48.7 seconds = 0.81 minutes",
        "0.53 epochs really covered",
        "14.4% of the total",
        "adamw_torch in place of adamw_8bit",
        "taken from the cache",
        "Figures are those of the run that trained the adapter.",
    ):
        assert text in page.text


def test_a_training_that_diverged_is_flagged() -> None:
    report = make_training(cached=False)
    steps = (*report.steps[:-1], report.steps[-1].model_copy(update={"loss": float("nan")}))
    result = report.result.model_copy(update={"non_finite_steps": 1, "final_loss": float("nan")})
    diverged = report.model_copy(update={"steps": steps, "result": result})
    page = Page(render_report(make_summary(pairs_per_category=1, general=2, trainings=(diverged,))))
    assert "1 non-finite steps" in page.text
    assert "trained in this run" in page.text


def test_the_method_names_machine_versions_and_proofs(page: Page) -> None:
    for text in (
        "Example CPU",
        "2.9.0",
        "42 non-zero B matrices",
        "batch_halved",
        "배치를 절반으로 줄임: ",
        "aabbccddeeff",
        "sampling.max_new_tokens=64",
    ):
        assert text in page.text


def test_everything_is_said_in_both_languages(page: Page) -> None:
    spans = [attributes for attributes in page.attributes("span") if attributes.get("class") in ("ko", "en")]
    assert sum(span["class"] == "ko" for span in spans) == sum(span["class"] == "en" for span in spans) > 200
    korean = "".join(re.findall(r'<span class="ko" lang="ko">([^<]*)</span>', page.html))
    english = "".join(re.findall(r'<span class="en" lang="en">([^<]*)</span>', page.html))
    assert re.search("[가-힣]", korean)
    assert not re.search("[가-힣]", english)


# -- hostile text ------------------------------------------------------------------------------------------------------


def test_hostile_texts_reach_the_page_as_data_only() -> None:
    assert len(HOSTILE_TEXTS) >= 50
    page = Page(render_report(make_summary(rows=hostile_rows())))
    assert len(page.scripts) == 2
    assert [row[5][0][0][0] for row in page.answers["rows"]] == list(HOSTILE_TEXTS)
    island = page.html[page.html.index('id="answers-data"') :].split("</script>")[0]
    assert not set("<&\u2028\u2029") & set(island.split(">", 1)[1])
    assert "<i>범주" not in page.html
    assert not [tag for tag, _ in page.elements if tag in ("img", "iframe", "base", "form", "template", "plaintext")]


def test_evidence_is_counted_in_code_points() -> None:
    rows = [row for row in make_rows(6, 0) if any(a.text.startswith("🙏") for a in row.answers["tuned"])]
    page = Page(render_report(make_summary(rows=rows)))
    marked = [
        answer[0][start:end]
        for row in page.answers["rows"]
        for answer in row[5][1]
        if answer[0].startswith("🙏")
        for start, end, _ in answer[5]
    ]
    assert set(marked) == {"도와드리기 어렵습니다"}


def test_templates_escape_and_missing_names_are_errors() -> None:
    assert environment().undefined is StrictUndefined
    assert environment().from_string("{{ x }}").render(x="<i>") == "&lt;i&gt;"
    with pytest.raises(UndefinedError):
        environment().from_string("{{ absent }}").render()


def test_ten_thousand_answers_render_in_time() -> None:
    summary = make_summary(pairs_per_category=200, general=200)
    assert sum(len(answers) for row in summary.rows for answers in row.answers.values()) == 10_000
    started = time.perf_counter()
    html = render_report(summary)
    assert time.perf_counter() - started < 10
    assert len(Page(html).answers["rows"]) == 5_000
