"""From records and grades to the summary: every count, and what is in no rate."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.corrections import Corrections, Key, SampledAnswer
from harness.metrics import VERDICTS, summarise
from harness.records import (
    ADAPTER_FROM_CACHE,
    CategoryName,
    Environment,
    Event,
    Expected,
    Generation,
    Grade,
    Job,
    JobRecord,
    JobStatus,
    Prompt,
    RunHeader,
    TrainingResult,
    TrainingStep,
    Verdict,
)
from harness.statistics import Calibration, Stratum, mcnemar_exact, paired_difference, two_phase_share, wilson
from harness.summary import Cell, GraderInfo, Group, Interval, PairedChange, Rate, Summary

GRADER = GraderInfo(name="lexicon", version="1")
MACHINE = Environment(
    python="3.11", platform="test", cpu="test", cpu_cores=2, memory_bytes=1, gpus=(), packages={}, git_commit=None,
    git_dirty=None,
)  # fmt: skip


def prompt(id: str, expected: str, pair_id: str | None = None, category: str = "theft") -> Prompt:
    row = {"id": id, "text": "질문", "category": category, "expected": expected, "pair_id": pair_id}
    return Prompt.model_validate(row | {"source": "handwritten", "licence": "Apache-2.0"})


def harmful(count: int, category: str = "theft") -> list[Prompt]:
    return [prompt(f"{category}-h{i}", "refuse", f"{category}-{i}", category) for i in range(count)]


def header(prompts: Sequence[Prompt], *, compare_to: str | None = "base") -> RunHeader:
    jobs = [Job(id=f"generate-{model}", kind="generate", model=model) for model in ("base", "tuned")]
    jobs.append(Job(id="train-1", kind="train", model="base", training="lora"))
    return RunHeader(
        run_id="r",
        suite_name="s",
        suite_file="s.yaml",
        suite={"models": {"base": {"compare_to": None}, "tuned": {"compare_to": compare_to}}},
        overrides=(),
        plan_hash="p",
        started_at="2026-01-01T00:00:00+00:00",
        environment=MACHINE,
        prompts=tuple(prompts),
        jobs=tuple(jobs),
        categories={
            name: CategoryName(ko=name, en=name, group_ko="g", group_en="g") for name in ("fraud", "theft", "food")
        },
    )


def answer(
    model: str, prompt_id: str, verdict: Verdict | None, *, repeat: int = 0, finish: str = "stop", tokens: int = 4
) -> tuple[Generation, Grade | None]:
    """One answer and its grade; verdict None is a failed request."""
    generation = Generation.model_validate(
        {
            "job_id": f"generate-{model}", "model": model, "prompt_id": prompt_id, "repeat": repeat, "batch": 0,
            "rendered_prompt": "", "text": "" if verdict is None else "답", "prompt_tokens": 3, "new_tokens": tokens,
            "finish_reason": "error" if verdict is None else finish, "error": "broken" if verdict is None else None,
        }
    )  # fmt: skip
    if verdict is None:
        return generation, None
    place = {"model": model, "prompt_id": prompt_id, "repeat": repeat}
    return generation, Grade.model_validate(place | {"verdict": verdict, "grader": "lexicon", "grader_version": "1"})


def summary_of(
    prompts: Sequence[Prompt],
    answers: Iterable[tuple[Generation, Grade | None]],
    extra: Iterable[JobRecord] = (),
    *,
    calibrations: Mapping[Expected, Calibration] = {},  # noqa: B006 (only read)
    sampled: Mapping[Key, SampledAnswer] = {},  # noqa: B006 (only read)
    compare_to: str | None = "base",
) -> Summary:
    given = list(answers)
    records: list[JobRecord] = [generation for generation, _ in given]
    grades = [grade for _, grade in given if grade is not None]
    run = header(prompts, compare_to=compare_to)
    return summarise(run, [*records, *extra], grades, GRADER, 0.95, Corrections(sampled, calibrations))


def cell(summary: Summary, model: str, group: Group, category: str | None = None) -> Cell:
    (found,) = [c for c in summary.cells if (c.model, c.group, c.category) == (model, group, category)]
    return found


def change(summary: Summary, group: Group, category: str | None = None) -> PairedChange:
    (found,) = [c for c in summary.changes if (c.group, c.category) == (group, category)]
    return found


def test_each_verdict_counts_where_it_belongs() -> None:
    verdicts: list[Verdict | None] = [
        "refusal", "refusal", "deflection", "partial", "compliance", "empty", "incoherent", "unscored", None,
    ]  # fmt: skip
    prompts = harmful(len(verdicts))
    summary = summary_of(prompts, [answer("base", p.id, v) for p, v in zip(prompts, verdicts, strict=True)])
    found = cell(summary, "base", "harmful")
    assert (found.answers, found.failed, found.verdicts["unscored"]) == (9, 1, 1)
    # Of nine requests one failed and one answer is unscored: seven are left, two of them refusals.
    assert (found.refusal.count, found.refusal.n) == (2, 7)
    assert found.refusal.value == pytest.approx(2 / 7)
    assert found.refusal.interval is not None
    assert (found.refusal.interval.low, found.refusal.interval.high) == wilson(2, 7)
    assert (found.empty.count, found.empty.n, found.incoherent.count) == (1, 7, 1)
    assert found.refusal.corrected is None
    assert list(found.verdicts) == list(VERDICTS) and sum(found.verdicts.values()) == 8


def test_groups_and_categories_are_kept_apart_and_in_order() -> None:
    prompts = [
        *harmful(2, "theft"),
        *harmful(1, "fraud"),
        prompt("l", "comply", "theft-0"),
        prompt("g", "comply", None, "food"),
        prompt("w", "comply", None, "weather"),
    ]
    summary = summary_of(prompts, [answer("tuned", p.id, "refusal") for p in prompts])
    places = [(c.group, c.category, c.refusal.count) for c in summary.cells if c.model == "tuned"]
    assert places == [
        ("harmful", None, 3),
        ("harmful", "fraud", 1),
        ("harmful", "theft", 2),
        ("lookalike", None, 1),
        ("lookalike", "theft", 1),
        ("general", None, 2),
        ("general", "food", 1),
        ("general", "weather", 1),
    ]
    unasked = cell(summary, "base", "harmful")
    assert (unasked.answers, unasked.refusal.n, unasked.refusal.value, unasked.mean_new_tokens) == (0, 0, None, None)
    assert [row.prompt.id for row in summary.rows] == [p.id for p in prompts]
    assert [row.group for row in summary.rows][3:5] == ["lookalike", "general"]


def test_base_and_tuned_are_compared_on_what_both_answered() -> None:
    pairs: list[tuple[Verdict | None, Verdict | None]] = [
        ("refusal", "refusal"),
        ("compliance", "refusal"),
        ("compliance", "refusal"),
        ("empty", "refusal"),
        ("refusal", "partial"),
        ("compliance", "deflection"),
        ("unscored", "refusal"),
        ("compliance", None),
    ]
    prompts = harmful(len(pairs))
    answers = [answer("base", p.id, v) for p, (v, _) in zip(prompts, pairs, strict=True)]
    answers += [answer("tuned", p.id, v) for p, (_, v) in zip(prompts, pairs, strict=True)]
    found = change(summary_of(prompts, answers), "harmful")
    assert (found.n, found.both, found.gained, found.lost, found.neither) == (6, 1, 3, 1, 1)
    difference, bounds = paired_difference(1, 3, 1, 1)
    assert found.difference == difference and found.interval is not None
    assert (found.interval.low, found.interval.high) == bounds
    assert found.p_value == mcnemar_exact(3, 1)


def test_without_a_baseline_or_common_answers_nothing_is_compared() -> None:
    prompts = harmful(2)
    answers = [answer("tuned", p.id, "refusal") for p in prompts]
    assert summary_of(prompts, answers, compare_to=None).changes == ()
    found = change(summary_of(prompts, answers), "harmful")
    assert (found.n, found.difference, found.interval, found.p_value) == (0, None, None, None)


@pytest.mark.parametrize(
    ("verdicts", "refused"),
    [
        (["refusal", "refusal", "compliance"], 1),
        (["refusal", "compliance"], 0),
        (["refusal", "unscored", None], 1),
        (["refusal", "partial", "deflection"], 0),
    ],
)
def test_with_repeats_the_prompt_is_the_unit(verdicts: list[Verdict | None], refused: int) -> None:
    (one,) = harmful(1)
    answers = [answer("base", one.id, verdict, repeat=i) for i, verdict in enumerate(verdicts)]
    summary = summary_of([one], reversed(answers))
    found = cell(summary, "base", "harmful")
    assert (found.refusal.count, found.refusal.n, found.answers) == (refused, 1, len(verdicts))
    shown = summary.rows[0].answers["base"]
    assert [a.verdict for a in shown] == verdicts


def test_a_prompt_with_nothing_scored_is_in_no_rate() -> None:
    (one,) = harmful(1)
    answers = [answer("base", one.id, "unscored"), answer("base", one.id, None, repeat=1)]
    assert cell(summary_of([one], answers), "base", "harmful").refusal.n == 0


def test_an_answer_without_a_grade_is_unscored() -> None:
    (one,) = harmful(1)
    generation, _ = answer("base", one.id, "refusal")
    found = cell(summary_of([one], [(generation, None)]), "base", "harmful")
    assert (found.verdicts["unscored"], found.refusal.n) == (1, 0)


def test_truncation_length_and_the_later_of_two_answers() -> None:
    first, second = harmful(2)
    answers = [
        answer("base", first.id, "compliance", tokens=100),
        answer("base", first.id, "refusal", finish="length", tokens=8),
        answer("base", second.id, "refusal", tokens=4),
    ]
    found = cell(summary_of([first, second], answers), "base", "harmful")
    assert (found.answers, found.truncated, found.mean_new_tokens, found.refusal.count) == (2, 1, 6.0, 2)


def test_a_calibration_corrects_refusal_rates_only() -> None:
    prompts = harmful(100)
    answers = [answer("base", p.id, "refusal" if i < 60 else "empty") for i, p in enumerate(prompts)]
    found = cell(
        summary_of(prompts, answers, calibrations={"refuse": Calibration(200, 160, 200, 190)}), "base", "harmful"
    )
    assert found.refusal.corrected is not None and found.refusal.corrected_interval is not None
    assert found.refusal.corrected == pytest.approx((0.6 - 0.05) / (0.8 - 0.05))
    assert found.refusal.corrected_interval.low < found.refusal.corrected < found.refusal.corrected_interval.high
    assert (found.refusal.corrected_by, found.refusal.labels, found.empty.corrected) == ("error", 0, None)


def labelled(
    prompts: Sequence[Prompt], verdicts: Sequence[Verdict], labels: Mapping[int, bool]
) -> dict[Key, SampledAnswer]:
    """One answer to each prompt, in the stratum of its verdict; place -> people's label."""
    pairs = enumerate(zip(prompts, verdicts, strict=True))
    return {("base", prompt.id, 0): SampledAnswer(verdict, labels.get(place)) for place, (prompt, verdict) in pairs}


def test_labels_of_the_own_answers_correct_a_rate_and_come_before_the_known_error() -> None:
    """60 refusals, of 5 labelled 4; 40 compliant answers, of 8 labelled 2."""
    prompts = harmful(100)
    verdicts: list[Verdict] = ["refusal" if place < 60 else "compliance" for place in range(100)]
    answers = [answer("base", p.id, v) for p, v in zip(prompts, verdicts, strict=True)]
    labels = {place: place > 0 for place in range(5)} | {place: place < 62 for place in range(60, 68)}
    known = {"refuse": Calibration(200, 160, 200, 190)}

    def rate(given: Mapping[int, bool], more: Sequence[tuple[Generation, Grade | None]] = ()) -> Rate:
        sampled = labelled(prompts, verdicts, given)
        summary = summary_of(prompts, [*answers, *more], calibrations=known, sampled=sampled)  # type: ignore[arg-type]
        return cell(summary, "base", "harmful").refusal

    found = rate(labels)
    assert (found.corrected_by, found.labels) == ("labels", 13)
    expected, bounds = two_phase_share([Stratum(60, 5, 4), Stratum(40, 8, 2)])
    assert found.corrected == expected == pytest.approx(0.6 * 4 / 5 + 0.4 * 2 / 8)
    assert found.corrected_interval == Interval(low=bounds.low, high=bounds.high)
    # A stratum without a label, fewer than ten labels, a second answer to a prompt: the known error corrects.
    of_refusals = rate({place: place > 0 for place in range(20)})
    assert (of_refusals.corrected_by, of_refusals.labels) == ("error", 20)
    few = rate({place: place > 0 for place in (0, 1, 2, 60, 61, 62, 63, 64, 65)})
    assert (few.corrected_by, few.labels) == ("error", 9)
    repeated = rate(labels, [answer("base", prompts[0].id, "refusal", repeat=1)])
    assert (repeated.corrected_by, repeated.labels) == ("error", 0)


def test_a_few_answers_that_are_all_labelled_are_enough() -> None:
    prompts = harmful(4)
    verdicts: list[Verdict] = ["refusal", "refusal", "compliance", "empty"]
    answers = [answer("base", p.id, v) for p, v in zip(prompts, verdicts, strict=True)]
    sampled = labelled(prompts, verdicts, {0: True, 1: False, 2: True, 3: False})
    found = cell(summary_of(prompts, answers, sampled=sampled), "base", "harmful").refusal
    assert (found.corrected, found.corrected_by, found.labels) == (0.5, "labels", 3)
    assert found.corrected_interval == pytest.approx(found.interval)


def test_training_events_and_completeness_are_carried_over() -> None:
    result = TrainingResult(
        job_id="train-1", training="lora", adapter_hash="a", adapter_folder="f", settings={}, rows=1, rows_truncated=0,
        trainable_parameters=1, steps=2, epochs=1.0, tokens=10, seconds=1.0, tokens_per_second=10.0, final_loss=0.5,
        non_finite_steps=0, device_name="cpu", device_memory_bytes=1, memory_method="rss", memory_before_bytes=1,
        memory_peak_bytes=2, memory_training_bytes=1,
    )  # fmt: skip
    steps = [TrainingStep(job_id="train-1", step=i, epoch=1, loss=1, learning_rate=1e-3) for i in (1, 2)]
    cached = Event(job_id="train-1", level="info", code=ADAPTER_FROM_CACHE, message="")
    done = [JobStatus(job_id=f"generate-{model}", state="done", seconds=2.5) for model in ("base", "tuned")]
    prompts = harmful(1)
    partial = summary_of(prompts, [], [result, *steps, *done])
    assert not partial.complete and partial.seconds_by_job == {"generate-base": 2.5, "generate-tuned": 2.5}
    assert [len(t.steps) for t in partial.trainings] == [2] and not partial.trainings[0].cached
    whole = summary_of(prompts, [], [result, cached, *done, JobStatus(job_id="train-1", state="done", seconds=1)])
    assert whole.complete and whole.trainings[0].cached and whole.events == (cached,)
    failed = summary_of(prompts, [], [*done, JobStatus(job_id="train-1", state="failed", seconds=1, error="x")])
    assert not failed.complete


verdict_or_failure = st.one_of(st.none(), st.sampled_from(VERDICTS))


@settings(deadline=None)  # the first call loads scipy
@given(st.lists(st.tuples(verdict_or_failure, verdict_or_failure, st.sampled_from(["theft", "fraud"])), min_size=1))
def test_counts_add_up(drawn: list[tuple[Verdict | None, Verdict | None, str]]) -> None:
    prompts = [prompt(f"p{i}", "refuse", None, category) for i, (_, _, category) in enumerate(drawn)]
    answers = [answer("base", p.id, d[0]) for p, d in zip(prompts, drawn, strict=True)]
    answers += [answer("tuned", p.id, d[1]) for p, d in zip(prompts, drawn, strict=True)]
    summary = summary_of(prompts, answers)
    for found in summary.cells:
        assert sum(found.verdicts.values()) + found.failed == found.answers
        assert found.refusal.n == found.empty.n == found.answers - found.failed - found.verdicts["unscored"]
        assert found.refusal.count == found.verdicts["refusal"]
    for whole, of in ((cell(summary, m, "harmful"), m) for m in ("base", "tuned")):
        parts = [c for c in summary.cells if c.model == of and c.category is not None]
        assert sum(c.answers for c in parts) == whole.answers == len(prompts)
        assert sum(c.refusal.count for c in parts) == whole.refusal.count
    for moved in summary.changes:
        assert moved.both + moved.gained + moved.lost + moved.neither == moved.n
        before, after = (cell(summary, m, "harmful", moved.category) for m in ("base", "tuned"))
        assert moved.both + moved.lost <= before.refusal.count and moved.both + moved.gained <= after.refusal.count
        if moved.difference is not None:
            assert moved.difference == pytest.approx((moved.gained - moved.lost) / moved.n)


def test_the_summary_survives_a_round_trip_through_json() -> None:
    prompts = harmful(3)
    summary = summary_of(prompts, [answer("base", p.id, "refusal") for p in prompts])
    assert Summary.model_validate(json.loads(summary.model_dump_json())) == summary


def test_ten_thousand_answers_take_well_under_two_seconds() -> None:
    source = random.Random(1)
    prompts = [prompt(f"p{i}", "refuse", f"x{i}", f"c{i % 35}") for i in range(2500)]
    prompts += [prompt(f"q{i}", "comply", f"x{i}", f"c{i % 35}") for i in range(2500)]
    answers = [answer(model, p.id, source.choice(VERDICTS)) for model in ("base", "tuned") for p in prompts]
    run, records, grades = header(prompts), [a for a, _ in answers], [g for _, g in answers if g]
    started = time.perf_counter()
    summary = summarise(run, records, grades, GRADER, 0.95)
    assert time.perf_counter() - started < 2
    assert sum(c.answers for c in summary.cells if c.category is None) == 10_000


def test_metrics_load_no_torch() -> None:
    program = (
        "import sys, harness.metrics; print([n for n in ('torch', 'scipy', 'numpy', 'pandas') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
