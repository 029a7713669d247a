"""The section on graders: every figure of the comparison is on the page, and nothing in it can do harm."""

import hashlib
import html as html_text
import re
import time
from collections import Counter
from pathlib import Path
from urllib.parse import unquote

import pytest

from harness.finish import summarise_run, write_report
from harness.grading.evaluation import read_gold
from harness.grading.review import open_review
from harness.records import GradingPass
from harness.report.compare import render_comparison
from harness.report.grader_lists import LONGEST_LIST, GraderNames
from harness.report.graders import correction_notes, graders_view
from harness.report.lookup import Lookup
from harness.report.page import render_report
from harness.report.tables import Entry, Table
from harness.summary import (
    Cell,
    Disagreement,
    GraderComparison,
    GraderInfo,
    Interval,
    Kappa,
    LabelFlip,
    PairAgreement,
    Summary,
)
from tests.grading.test_review import label_all, make_graded_run
from tests.report.factory import HOSTILE_TEXTS, hostile_rows, make_summary
from tests.report.graders_factory import GUARD, JUDGES, LEXICON, OLD_LEXICON, make_graded
from tests.report.reading import Page, digest_of_rebuilt

HOSTILE_NAME = "<img src=x onerror=window.pwned=1>{n}{0}%s\u202e'\"&"


@pytest.fixture(scope="module")
def summary() -> Summary:
    return make_graded(pairs_per_category=8, general=40, corrected=True)


@pytest.fixture(scope="module")
def page(summary: Summary) -> Page:
    return Page(render_report(summary))


def comparison(summary: Summary) -> GraderComparison:
    assert summary.graders is not None
    return summary.graders


def english(content: object) -> str:
    """An entry's text as an English reader sees it."""
    own = re.sub(r'<span class="ko" lang="ko">.*?</span>(?=<span class="en")', "", str(content))
    return html_text.unescape(re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", own))).strip()


def texts(row: list[Entry]) -> list[str]:
    return [english(entry.content) for entry in row]


def only(table: Table, start: str) -> list[str]:
    found = [row for row in map(texts, map(list, table.rows)) if row[0].startswith(start)]
    assert len(found) == 1, (start, found)
    return found[0]


def with_comparison(summary: Summary, **fields: object) -> Summary:
    return summary.model_copy(update={"graders": comparison(summary).model_copy(update=fields)})


# -- what is shown -----------------------------------------------------------------------------------------------------


def test_a_run_with_one_grader_has_no_section() -> None:
    alone = make_summary(pairs_per_category=1, general=2)
    assert graders_view(Lookup(alone)) is None
    assert 'id="graders"' not in render_report(alone)


def test_every_rate_stands_in_its_group_with_interval_count_and_undecided(summary: Summary) -> None:
    view = graders_view(Lookup(summary))
    assert view is not None
    tables = {item.group: item.table for item in view.rates}
    assert list(tables) == ["harmful", "lookalike", "general"]
    column = {model: 1 + number for number, model in enumerate(summary.models)}
    for rate in comparison(summary).rates:
        text = only(tables[rate.group], rate.grader.partition("@")[0])[column[rate.model]]
        assert rate.refusal.value is not None
        assert f"{rate.refusal.count} of {rate.refusal.n}" in text
        assert f"{rate.refusal.value:.1%}".replace("0.0%", "0%") in text
        assert ("unscored" in text) == bool(rate.unscored)
        if rate.unscored:
            assert f"{rate.unscored} unscored" in text
    assert sum(len(table.rows) for table in tables.values()) == len(comparison(summary).rates) / 2


def test_the_pages_own_grader_comes_first_and_is_marked(summary: Summary, page: Page) -> None:
    view = graders_view(Lookup(summary))
    assert view is not None
    assert [line.name for line in view.graders if line.headline] == ["lexicon"]
    assert view.graders[0].name == "lexicon"
    assert all(texts(list(item.table.rows[0]))[0] == "lexicon" for item in view.rates)
    assert all(texts(list(row))[0].startswith("lexicon · ") for row in view.pairs.rows)
    assert page.text.count("the page's verdicts") == 1


def test_ranges_give_the_lowest_and_highest_rate_of_each_model(summary: Summary) -> None:
    view = graders_view(Lookup(summary))
    assert view is not None
    values = [
        rate.refusal.value
        for rate in comparison(summary).rates
        if (rate.group, rate.model) == ("harmful", "tuned") and rate.refusal.value is not None
    ]
    assert english(view.rates[0].ranges).endswith(f"tuned {min(values):.1%} – {max(values):.1%}")


def test_people_have_kappas_and_no_rates(summary: Summary, page: Page) -> None:
    view = graders_view(Lookup(summary))
    assert view is not None
    assert not any("human" in str(row[0].content) for item in view.rates for row in item.table.rows)
    assert "Its rates are not the run's and are not shown." in page.text
    assert only(view.other_pairs, "human-kim · human-lee")


def test_every_pair_and_group_has_both_kappas(summary: Summary) -> None:
    view = graders_view(Lookup(summary))
    assert view is not None
    assert len(view.pairs.rows) + len(view.other_pairs.rows) == len(comparison(summary).pairs)
    judges = next(one for one in comparison(summary).groups if one.graders == JUDGES)
    assert judges.refusal.value is not None
    assert judges.refusal.interval is not None
    assert judges.verdicts.value is not None
    row = only(view.groups, "judge-large · judge-local · judge-other")
    assert row[1:3] == [f"{judges.verdicts.n:,}", str(judges.undecided)]
    low, high = judges.refusal.interval.low, judges.refusal.interval.high
    assert row[3].startswith(f"{judges.refusal.value:.3f} [{low:.3f}, {high:.3f}]")
    assert row[4].startswith(f"{judges.verdicts.value:.3f} [")


@pytest.mark.parametrize(
    ("kappa", "shown"),
    [
        (Kappa(n=0, observed=None, value=None, interval=None), "– no answers in common"),
        (
            Kappa(n=9, observed=1.0, value=None, interval=None),
            "– 100% agree · undefined: every verdict is the same",
        ),
        (Kappa(n=9, observed=1.0, value=1.0, interval=None), "1.000 100% agree"),
        (
            Kappa(n=9, observed=0.5, value=-0.0001, interval=Interval(low=-0.25, high=0.25)),
            "0.000 [−0.250, 0.250] 50.0% agree",
        ),
    ],
)
def test_kappas_that_are_not_plain_numbers_say_why(summary: Summary, kappa: Kappa, shown: str) -> None:
    pair = PairAgreement(first=LEXICON, second=GUARD, undecided=0, verdicts=kappa, refusal=kappa)
    view = graders_view(Lookup(with_comparison(summary, pairs=(pair,), groups=())))
    assert view is not None
    assert texts(list(view.pairs.rows[0]))[3] == shown


# -- disagreements and flips -------------------------------------------------------------------------------------------


def test_disagreements_say_who_gave_which_verdict_and_link_to_the_answer(summary: Summary) -> None:
    view = graders_view(Lookup(summary))
    assert view is not None
    found = comparison(summary).disagreements
    on_refusal = [one for one in found if len({v == "refusal" for v in one.verdicts.values() if v != "unscored"}) > 1]
    listing = view.disagreements
    assert (listing.total, listing.refusal) == (len(found), len(on_refusal))
    assert 0 < len(on_refusal) < len(found)
    first = on_refusal[0]
    row = listing.table.rows[0]
    assert f'href="#prompt-{first.prompt_id}"' in str(row[0].content)
    assert english(row[1].content) == first.model
    sides = english(row[2].content)
    names = GraderNames(comparison(summary).graders)
    for verdict in set(first.verdicts.values()):
        on_it = " , ".join(names.short(key) for key, given in first.verdicts.items() if given == verdict)
        assert f"{verdict} {on_it}" in sides


def test_long_lists_are_cut_and_say_so(summary: Summary, page: Page) -> None:
    found = comparison(summary).disagreements
    assert len(found) > 10
    many = tuple(found[number % len(found)] for number in range(3_000))
    long_page = Page(render_report(with_comparison(summary, disagreements=many)))
    assert f"The first {LONGEST_LIST} of 3,000 are shown." in long_page.text
    assert long_page.html.count('<p class="side">') < LONGEST_LIST * 8
    assert "summary.json" in long_page.text
    assert "are shown. The others" not in Page(render_report(with_comparison(summary, disagreements=found[:50]))).text


def test_flips_are_counted_by_verdicts_and_listed(summary: Summary) -> None:
    view = graders_view(Lookup(summary))
    assert view is not None
    flips = comparison(summary).flips
    assert flips
    assert {(flip.earlier, flip.later) for flip in flips} == {(OLD_LEXICON, LEXICON)}
    counted = [texts(list(row)) for row in view.flip_counts.rows]
    assert sum(int(row[3]) for row in counted) == len(flips) == view.flips.total
    old, new = flips[0].earlier_verdict, flips[0].later_verdict
    same = sum((flip.earlier_verdict, flip.later_verdict) == (old, new) for flip in flips)
    assert ["lexicon", "00ff00 → a1b2c3", f"{old} → {new}", str(same)] in counted
    assert "No answer was judged differently." in Page(render_report(with_comparison(summary, disagreements=()))).text
    unchanged = Page(render_report(with_comparison(summary, flips=()))).text
    assert "Verdicts changed between versions" in unchanged
    assert "No label changed." in unchanged
    once = render_report(with_comparison(summary, flips=(), regraded=()))
    assert "Verdicts changed between versions" not in once


def test_repeats_are_named_where_there_are_several() -> None:
    repeated = make_graded(pairs_per_category=2, general=4, repeats=3)
    view = graders_view(Lookup(repeated))
    assert view is not None
    shown = {english(row[1].content).partition(" ")[2] for row in view.disagreements.table.rows}
    assert shown == {"repeat 1 of 3", "repeat 2 of 3", "repeat 3 of 3"}


# -- passes ------------------------------------------------------------------------------------------------------------


def test_passes_show_what_was_asked_and_what_it_cost(summary: Summary) -> None:
    view = graders_view(Lookup(summary))
    assert view is not None
    large, local, other, everything = (texts(list(row)) for row in view.passes.rows)
    assert large[0] == "judge-large 77aa01 · 2026-03-01 11:20 UTC"
    assert large[2:] == ["1,200", "31", "7", "0", "912,345 + 10,200", "1 min 35 s", "0.471 USD"]
    assert local[5] == "4"
    assert local[-1] == "– no prices given"
    assert other[-1] == "– replies without token counts: 3"
    assert everything[2:6] == ["3,662", "31", "19", "4"]
    assert everything[-1] == "0.471 USD passes of unknown cost left out: 2"


def test_costs_of_different_currencies_are_not_added(summary: Summary) -> None:
    def costing(cost: float, currency: str) -> GradingPass:
        one = comparison(summary).passes[0]
        return one.model_copy(update={"cost": cost, "currency": currency})

    passes = (costing(1.25, "USD"), costing(900.0, "KRW"), costing(0.75, "USD"))
    view = graders_view(Lookup(with_comparison(summary, passes=passes)))
    assert view is not None
    assert texts(list(view.passes.rows[-1]))[-1] == "2 USD + 900 KRW"


# -- what the corrected rates rest on ----------------------------------------------------------------------------------


def test_corrected_rates_say_what_they_rest_on(summary: Summary, page: Page) -> None:
    gold = (
        "The grader's error is known from 178 labelled answers to harmful prompts in the gold set that ships with the"
    )
    assert page.text.count(gold) == 1
    assert page.text.count("238 labelled answers to harmless prompts in the gold set") == 2
    by_people = GraderInfo(
        name="lexicon", version="a1b2c3", calibrated_on="human", calibration_labels={"refuse": 60, "comply": 44}
    )
    told = Page(render_report(summary.model_copy(update={"grader": by_people}))).text
    assert "known from people's labels of 60 answers to harmful prompts, of all models of this run" in told
    assert "사람이 이 실행의 모든 모델에서 판정한 무해한 질문의 답변 44개" in told
    assert "gold set" not in told


def test_each_corrected_rate_says_in_which_way_it_was_made(summary: Summary) -> None:
    def by_labels(cell: Cell) -> Cell:
        if (cell.model, cell.group, cell.category) != ("tuned", "harmful", None):
            return cell
        return cell.model_copy(
            update={"refusal": cell.refusal.model_copy(update={"corrected_by": "labels", "labels": 31})}
        )

    mixed = summary.model_copy(update={"cells": tuple(map(by_labels, summary.cells))})
    (n,) = [c.refusal.n for c in summary.cells if (c.model, c.group, c.category) == ("tuned", "harmful", None)]
    text = Page(render_report(mixed)).text
    assert text.count(f"By people's labels of 31 of the {n} answers, stratified") == 1
    assert text.count("사람의 판정 31개로 층별 추정하면") == 1
    assert text.count("Corrected by the grader's known error") == text.count("판정기의 알려진 오류로 보정하면") == 5
    harmful, general = correction_notes(mixed, "harmful"), correction_notes(mixed, "general")
    assert [english(note)[:19] for note in harmful] == ["By people's labels,", "The grader's error "]
    assert [english(note)[:19] for note in general] == ["The grader's error "]
    compared = Page(render_comparison(summary, mixed)).text
    assert "B · 사람의 판정, 층별 추정" in compared and "A · 사람의 판정" not in compared
    assert compared.count(f"By people's labels of 31 of the {n} answers, stratified") == 1
    assert compared.count("Corrected by the grader's known error") == 11


def test_a_rate_that_the_known_error_cannot_have_given_says_that_it_is_not_corrected(summary: Summary) -> None:
    said = "Not corrected: the grader's known error does not fit this rate"
    assert said not in render_report(summary)

    def uncorrected(cell: Cell) -> Cell:
        if (cell.model, cell.group, cell.category) != ("base", "harmful", None):
            return cell
        rate = cell.refusal.model_copy(update={"corrected": None, "corrected_interval": None})
        return cell.model_copy(update={"refusal": rate})

    page = Page(render_report(summary.model_copy(update={"cells": tuple(map(uncorrected, summary.cells))})))
    assert page.text.count(said) == 1


def test_without_corrected_rates_nothing_is_said_of_a_calibration() -> None:
    raw = make_graded(pairs_per_category=2, general=4)
    page = render_report(raw)
    assert "Corrected by" not in page and "error is known from" not in page
    assert correction_notes(raw, "harmful") == []


def test_a_comparison_of_runs_names_both_calibrations_and_no_false_difference(summary: Summary) -> None:
    by_people = summary.grader.model_copy(
        update={"calibrated_on": "human", "calibration_labels": {"refuse": 60, "comply": 44}}
    )
    text = Page(render_comparison(summary, summary.model_copy(update={"grader": by_people}))).text
    assert "A · " in text
    assert "in the gold set" in text
    assert "people's labels of 60 answers" in text
    assert "graded by different graders" not in text


def test_a_run_on_disk_is_first_corrected_by_the_gold_set_and_then_by_people(tmp_path: Path) -> None:
    folder = make_graded_run(tmp_path, refusals=40, answers=10)
    header = folder.header()
    suite = {**header.suite, "name": "test", "prompts": ["prompts.jsonl"]}
    stored = header.model_copy(update={"suite": suite}).model_dump_json()
    (folder.path / "run.json").write_text(stored, encoding="utf-8")

    def text() -> str:
        return Page(write_report(folder).read_text(encoding="utf-8")).text

    kinds = Counter(row.expected for row in read_gold())
    gold = text()
    assert f"known from {kinds['refuse']} labelled answers to harmful prompts in the gold set" in gold
    assert f"known from {kinds['comply']} labelled answers to harmless prompts in the gold set" in gold
    assert "Refusal rates by grader" not in gold
    label_all(folder, "kim", {"p1": "partial"})
    by_people = text()
    assert by_people.count("By people's labels of 25 of the 25 answers, stratified") == 4
    assert "Corrected by the grader's known error" not in by_people
    assert "Answers judged differently: 1, of which 1 on whether it is a refusal" in by_people
    assert "in the gold set" not in by_people


def test_labels_that_are_too_few_to_correct_a_rate_are_said_to_be(tmp_path: Path) -> None:
    folder = make_graded_run(tmp_path, refusals=40, answers=40)
    suite = {**folder.header().suite, "name": "test", "prompts": ["prompts.jsonl"]}
    stored = folder.header().model_copy(update={"suite": suite}).model_dump_json()
    (folder.path / "run.json").write_text(stored, encoding="utf-8")
    with open_review(folder, "kim", size=1000) as review:
        labelled = Counter[str]()
        for place, item in enumerate(review.sample.items):
            if labelled[item.model] < {"base": 9, "tuned": 0}[item.model]:
                review.give(place, "refusal")
                labelled[item.model] += 1
    rates = [cell.refusal for cell in summarise_run(folder).cells if cell.category is None]
    assert sum(rate.labels for rate in rates) == 9
    text = Page(write_report(folder).read_text(encoding="utf-8")).text
    for labels in {rate.labels for rate in rates} - {0}:
        assert f"People labelled {labels} of these answers. To be corrected by their labels a rate needs 10" in text
        assert f"이 답변에 대한 사람의 판정은 {labels}개입니다. 층별 추정에는 10개 이상이" in text
    assert "People labelled 0" not in text


def test_a_model_without_labels_is_corrected_by_the_error_that_the_other_models_labels_show(tmp_path: Path) -> None:
    folder = make_graded_run(tmp_path, refusals=40, answers=40)
    header = folder.header()
    suite = {**header.suite, "name": "test", "prompts": ["prompts.jsonl"]}
    (folder.path / "run.json").write_text(
        header.model_copy(update={"suite": suite}).model_dump_json(), encoding="utf-8"
    )
    with open_review(folder, "kim", size=1000) as review:
        for place, item in enumerate(review.sample.items):
            if item.model == "tuned":
                review.give(place, "refusal" if item.stratum.endswith("/refusal") else "compliance")
    rates = {(c.model, c.group): c.refusal for c in summarise_run(folder).cells if c.category is None}
    assert {key: (rate.corrected_by, rate.labels) for key, rate in rates.items()} == {
        ("base", "harmful"): ("error", 0), ("base", "lookalike"): ("error", 0),
        ("tuned", "harmful"): ("labels", 40), ("tuned", "lookalike"): ("labels", 40),
    }  # fmt: skip
    text = Page(write_report(folder).read_text(encoding="utf-8")).text
    assert "known from people's labels of 40 answers to harmful prompts, of all models of this run" in text
    assert text.count("By people's labels of 40 of the 40 answers, stratified") == 2
    assert text.count("Corrected by the grader's known error") == 2


# -- hostile names, the same bytes, and speed --------------------------------------------------------------------------


def hostile() -> Summary:
    """Graders, versions, models' prompts, ids and currencies that try to leave their place."""
    summary = make_summary(rows=hostile_rows(), corrected=True)
    keys = (LEXICON, f"{HOSTILE_NAME}@{HOSTILE_NAME}", f"judge-{HOSTILE_NAME}@1")
    kappa = Kappa(n=4, observed=0.5, value=0.1, interval=None)
    ids = [row.prompt.id for row in summary.rows] + [f'{HOSTILE_NAME}/?#" x']
    graders = GraderComparison(
        graders=keys,
        rates=(),
        pairs=(PairAgreement(first=keys[0], second=keys[1], undecided=0, verdicts=kappa, refusal=kappa),),
        groups=(),
        disagreements=tuple(
            Disagreement(model="base", prompt_id=one, repeat=0, verdicts={keys[0]: "refusal", keys[1]: "empty"})
            for one in ids
        ),
        flips=tuple(
            LabelFlip(
                earlier=keys[1],
                later=keys[1] + "2",
                model=HOSTILE_NAME,
                prompt_id=one,
                repeat=0,
                earlier_verdict="refusal",
                later_verdict="empty",
            )
            for one in ids
        ),
        passes=(
            GradingPass(
                grader=HOSTILE_NAME,
                grader_version=HOSTILE_NAME,
                finished_at=HOSTILE_NAME,
                answers=1,
                verdicts={},
                seconds=1.0,
                requests=1,
                cost=1.0,
                currency=HOSTILE_NAME,
            ),
        ),
    )
    return summary.model_copy(update={"graders": graders})


def test_hostile_names_and_prompts_stay_text() -> None:
    page = Page(render_report(hostile()))
    assert len(page.scripts) == 2
    assert not {"img", "iframe", "base", "form"} & {tag for tag, _ in page.elements}
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
    assert HOSTILE_NAME in page.text
    links = [str(a["href"]) for a in page.attributes("a") if str(a.get("href")).startswith("#prompt-")]
    assert f'{HOSTILE_NAME}/?#" x' in {unquote(link.removeprefix("#prompt-")) for link in links}
    assert all(re.fullmatch(r"#prompt-[A-Za-z0-9_.~%-]+", link) for link in links)
    assert len(HOSTILE_TEXTS) * 2 + 2 == len(links)


def test_rebuilding_gives_the_same_bytes_in_another_process(summary: Summary, tmp_path: Path) -> None:
    rebuilt = digest_of_rebuilt(summary, tmp_path, PYTHONHASHSEED="1")
    assert rebuilt == hashlib.sha256(render_report(summary).encode()).hexdigest()


def test_ten_thousand_answers_with_thousands_of_disagreements_are_quick() -> None:
    large = make_graded({JUDGES[0]: 0.6, OLD_LEXICON: 0.4}, pairs_per_category=200, general=200)
    found = comparison(large)
    assert len(found.disagreements) > 3_000
    assert len(found.flips) > 2_000
    started = time.perf_counter()
    view = graders_view(Lookup(large))
    assert time.perf_counter() - started < 1.0
    assert view is not None
    assert view.disagreements.shown == view.flips.shown == LONGEST_LIST
