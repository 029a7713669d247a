"""What gates find and decide, on summaries whose figures are known."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from harness.errors import StoreError
from harness.gates.figures import Run
from harness.gates.judge import judge
from harness.gates.regressions import regression_gates
from harness.records import GateResult, Measurement, TaskSample
from harness.suite import Gate
from harness.summary import AbilityChange, AbilityScore, Cell, Interval, Summary
from tests.report.factory import make_measurements, make_summary


def no_saved_run(name: str) -> Run:
    raise StoreError(f"There is no saved run '{name}'.")


def judged(
    gate: Mapping[str, object], run: Summary, saved: Summary | Callable[[str], Run] = no_saved_run
) -> GateResult:
    """One gate on one run."""
    find = (lambda _: Run(saved)) if isinstance(saved, Summary) else saved
    results = judge({"it": Gate.model_validate({"model": "tuned", **gate})}, Run(run), find)
    assert len(results) == 1
    return results[0]


def said(result: GateResult) -> str:
    assert result.outcome == "no_data"
    assert result.reason is not None and result.reason.ko != result.reason.en
    return result.reason.en


@pytest.fixture(scope="module")
def summary() -> Summary:
    return make_summary(pairs_per_category=6, general=40)


def test_a_rate_its_bounds_and_n_are_those_of_the_page(summary: Summary) -> None:
    cell = next(cell for cell in summary.cells if (cell.model, cell.group, cell.category) == ("tuned", "harmful", None))
    assert cell.refusal.interval is not None
    value, low = cell.refusal.value, cell.refusal.interval.low
    result = judged({"metric": "refusal", "at_least": value}, summary)
    assert (result.outcome, result.value, result.low, result.n) == ("passed", value, low, cell.refusal.n)
    assert judged({"metric": "refusal", "bound": "low", "at_least": value}, summary).outcome == "failed"
    assert judged({"metric": "refusal", "bound": "low", "at_least": low}, summary).outcome == "passed"
    assert judged({"metric": "refusal", "bound": "high", "at_most": value}, summary).outcome == "failed"


def test_a_change_is_the_paired_one_of_the_page(summary: Summary) -> None:
    for group in ("lookalike", "general"):
        change = next(one for one in summary.changes if (one.group, one.category) == (group, None))
        result = judged({"metric": "over_refusal", "group": group, "max_rise": 0.05}, summary)
        assert result.value == pytest.approx(change.difference) and result.n == change.n
        assert result.against == "base"
        assert result.outcome == ("passed" if (change.difference or 0) <= 0.05 else "failed")


def test_a_corrected_rate_says_how_it_was_made() -> None:
    summary = make_summary(pairs_per_category=6, general=40, corrected=True)
    gate = {"metric": "corrected_refusal", "at_least": 0}
    assert judged(gate, summary).notes[-1].en == "by the grader's known error."

    def by_labels(cell: Cell) -> Cell:
        return cell.model_copy(
            update={"refusal": cell.refusal.model_copy(update={"corrected_by": "labels", "labels": 31})}
        )

    labelled = summary.model_copy(update={"cells": tuple(map(by_labels, summary.cells))})
    assert judged(gate, labelled).notes[-1].en == "by people's labels of 31 answers, stratified."
    plain = judged({"metric": "refusal", "at_least": 0}, labelled).notes
    assert [note.en for note in plain] == ["1 of 72 prompts have no graded answer."]


def test_a_drop_is_a_negative_difference(summary: Summary) -> None:
    rise = judged({"metric": "refusal", "min_rise": 0.5}, summary)
    assert rise.outcome == "passed" and rise.limit == 0.5
    drop = judged({"metric": "refusal", "max_drop": 0.02}, summary)
    assert drop.outcome == "passed" and drop.limit == -0.02
    swapped = summary.model_copy(update={"baselines": {"base": "tuned"}})
    assert judged({"metric": "refusal", "model": "base", "max_drop": 0.02}, swapped).outcome == "failed"


def test_shares_of_broken_answers_are_over_all_groups_or_one(summary: Summary) -> None:
    cells = [cell for cell in summary.cells if cell.model == "tuned" and cell.category is None]
    everything = judged({"metric": "truncated", "at_most": 1}, summary)
    assert everything.n == sum(cell.answers - cell.failed for cell in cells)
    assert everything.value == pytest.approx(sum(cell.truncated for cell in cells) / everything.n)
    one = judged({"metric": "empty", "group": "general", "at_most": 1}, summary)
    assert one.n == next(cell.empty.n for cell in cells if cell.group == "general")


def test_a_pattern_is_a_gate_for_each_model(summary: Summary) -> None:
    results = judge({"it": Gate(metric="refusal", model="*", at_least=0.5)}, Run(summary), no_saved_run)
    assert [(result.subject, result.outcome) for result in results] == [("base", "failed"), ("tuned", "passed")]


# -- without data ------------------------------------------------------------------------------------------------------


def test_a_gate_without_data_fails_and_says_why(summary: Summary) -> None:
    bare = summary.model_copy(update={"cells": (), "rows": (), "measurements": (), "trainings": (), "baselines": {}})
    decode: dict[str, object] = {"metric": "decode_tokens_per_second", "at_least": 1}
    assert "no graded answers" in said(judged({"metric": "refusal", "at_least": 0}, bare))
    assert "no answers" in said(judged({"metric": "failed", "at_most": 1}, bare))
    assert "compare_to" in said(judged({"metric": "refusal", "max_drop": 1}, bare))
    ability = said(judged({"metric": "ability", "task": "click", "at_least": 0}, bare))
    assert "no result of task click for tuned; there are: none" in ability
    assert "was not measured for tuned; measured were: none" in said(judged(decode, bare))
    training = {"metric": "training_seconds", "model": None, "training": "safety", "at_most": 1e9}
    assert "no record of a training step safety" in said(judged(training, bare))
    assert "no corrected rate" in said(judged({"metric": "corrected_refusal", "at_least": 0}, summary))
    assert "no saved run 'main'" in said(judged({"metric": "refusal", "max_drop": 1, "baseline": "main"}, summary))


def test_a_run_that_is_not_complete_passes_nothing(summary: Summary) -> None:
    half = summary.model_copy(update={"complete": False})
    assert said(judged({"metric": "refusal", "at_least": 0}, half)) == "the run is not complete."
    assert "is not complete" in said(judged({"metric": "refusal", "max_drop": 1, "baseline": "main"}, summary, half))


def test_a_figure_that_is_no_number_passes_nothing(summary: Summary) -> None:
    for value in (float("nan"), float("inf"), float("-inf")):
        run = summary.model_copy(update={"abilities": (score("tuned", value),)})
        assert "not a number" in said(judged({"metric": "ability", "task": "kobest", "at_least": -1e9}, run))


def test_a_measurement_that_must_not_be_compared_is_not(summary: Summary) -> None:
    one = {"metric": "generate_seconds", "model": "base", "conditions": {"study": "precision", "dtype": "float16"}}
    assert "it is emulated" in said(judged({**one, "at_most": 1e9}, summary))


# -- ability -----------------------------------------------------------------------------------------------------------


def score(model: str, value: float, metric: str = "acc", n: int = 100, filter_name: str = "none") -> AbilityScore:
    return AbilityScore(
        model=model,
        task="kobest",
        metric=metric,
        filter=filter_name,
        value=value,
        stderr=0.03,
        n=n,
        higher_is_better=True,
        group=False,
    )


ABILITY: dict[str, object] = {"metric": "ability", "task": "kobest"}


def test_ability_is_judged_by_its_score_and_its_paired_change(summary: Summary) -> None:
    change = AbilityChange(
        baseline="base",
        model="tuned",
        task="kobest",
        metric="acc",
        filter="none",
        n=100,
        gained=3,
        lost=5,
        difference=-0.02,
        interval=Interval(low=-0.08, high=0.04),
        p_value=0.7,
    )
    run = summary.model_copy(
        update={"abilities": (score("base", 0.62), score("tuned", 0.60)), "ability_changes": (change,)}
    )
    plain = judged({**ABILITY, "at_least": 0.6}, run)
    assert plain.outcome == "passed" and plain.low == pytest.approx(0.60 - 1.96 * 0.03, abs=1e-4)
    paired = judged({**ABILITY, "max_drop": 0.02}, run)
    assert (paired.outcome, paired.value, paired.low, paired.n) == ("passed", -0.02, -0.08, 100)
    assert judged({**ABILITY, "max_drop": 0.02, "bound": "low"}, run).outcome == "failed"
    assert "it has: acc" in said(judged({**ABILITY, "task_metric": "f1", "at_least": 0}, run))


def test_a_share_of_right_answers_has_an_interval_even_where_all_are_right(summary: Summary) -> None:
    perfect = score("tuned", 1.0, n=24).model_copy(update={"stderr": 0.0})
    run = summary.model_copy(update={"abilities": (perfect,)})
    result = judged({**ABILITY, "bound": "low", "at_least": 0.95}, run)
    assert result.outcome == "failed" and result.low == pytest.approx(24 / (24 + 1.959964**2))


def test_without_values_per_question_the_interval_is_that_of_unpaired_scores(summary: Summary) -> None:
    run = summary.model_copy(update={"abilities": (score("base", 0.62), score("tuned", 0.60))})
    result = judged({**ABILITY, "max_drop": 0.05}, run)
    half = 1.959964 * (2 * 0.03**2) ** 0.5
    assert result.outcome == "passed" and result.low == pytest.approx(-0.02 - half)
    assert "not paired" in result.notes[0].en
    other = summary.model_copy(update={"abilities": (score("base", 0.62, n=50), score("tuned", 0.60))})
    assert "different numbers of questions" in said(judged({**ABILITY, "max_drop": 0.05}, other))


def test_of_several_filters_one_must_be_named(summary: Summary) -> None:
    scores = (score("tuned", 0.2, filter_name="strict"), score("tuned", 0.6, filter_name="flexible"))
    run = summary.model_copy(update={"abilities": scores})
    assert "strict, flexible" in said(judged({**ABILITY, "at_least": 0.5}, run))
    assert judged({**ABILITY, "task_filter": "flexible", "at_least": 0.5}, run).outcome == "passed"


def samples(model: str, right: set[int], questions: range) -> tuple[TaskSample, ...]:
    return tuple(
        TaskSample(
            job_id="j",
            model=model,
            task="kobest",
            filter="none",
            doc_id=number,
            doc_hash=f"h{number}",
            scores={"acc": float(number in right)},
        )
        for number in questions
    )


def test_against_a_saved_run_only_shared_questions_count(summary: Summary) -> None:
    run = summary.model_copy(update={"abilities": (score("tuned", 0.5),)})
    then = Run(run, lambda: samples("tuned", {1, 2, 3}, range(10)))
    now = Run(run, lambda: samples("tuned", {1, 2, 9}, range(20)))
    gate = Gate(metric="ability", task="kobest", model="tuned", max_drop=0.2, baseline="main")
    (result,) = judge({"it": gate}, now, lambda _: then)
    assert (result.outcome, result.n, result.value) == ("passed", 10, 0.0)
    header = run.header.model_copy(update={"suite": {**run.header.suite, "lm_eval": {"num_fewshot": 5}}})
    zero = run.header.model_copy(update={"suite": {**run.header.suite, "lm_eval": {"num_fewshot": 0}}})
    other = Run(run.model_copy(update={"header": header}), now.samples)
    zeroes = Run(run.model_copy(update={"header": zero}), then.samples)
    (refused,) = judge({"it": gate}, other, lambda _: zeroes)
    assert "num_fewshot 0 → 5" in said(refused)


# -- against a saved run -----------------------------------------------------------------------------------------------


def test_quality_is_paired_on_the_same_prompts_only(summary: Summary) -> None:
    changed = [
        row.model_copy(update={"prompt": row.prompt.model_copy(update={"text": "다른 질문"})}) if number % 2 else row
        for number, row in enumerate(summary.rows)
        if number > 10
    ]
    saved = summary.model_copy(update={"rows": tuple(changed)})
    result = judged({"metric": "refusal", "max_drop": 0, "baseline": "main"}, summary, saved)
    assert result.outcome == "passed" and result.value == 0
    assert result.n is not None and result.n < next(
        cell.refusal.n
        for cell in summary.cells
        if (cell.model, cell.group, cell.category) == ("tuned", "harmful", None)
    )
    assert any("on both sides" in note.en for note in result.notes)
    nothing = summary.model_copy(update={"rows": ()})
    assert "no prompt" in said(judged({"metric": "refusal", "max_drop": 0, "baseline": "main"}, summary, nothing))


def test_other_sampling_is_noted(summary: Summary) -> None:
    def sampled(tokens: int) -> Summary:
        suite = {**summary.header.suite, "sampling": {"max_new_tokens": tokens, "seed": 1}}
        return summary.model_copy(update={"header": summary.header.model_copy(update={"suite": suite})})

    result = judged({"metric": "refusal", "max_drop": 0, "baseline": "main"}, sampled(64), sampled(32))
    assert result.notes[-1].en == "answers were sampled differently: max_new_tokens 32 → 64."


def test_a_model_that_the_saved_run_lacks_is_named(summary: Summary) -> None:
    suite = {**summary.header.suite, "models": {"base": {}}}
    saved = summary.model_copy(update={"header": summary.header.model_copy(update={"suite": suite})})
    result = judged({"metric": "refusal", "max_drop": 0, "baseline": "main"}, summary, saved)
    assert said(result) == "the saved run main has no tuned; it has: base"


# -- speed -------------------------------------------------------------------------------------------------------------

SPEED: dict[str, object] = {
    "metric": "decode_tokens_per_second",
    "conditions": {"batch_size": 8},
    "min_ratio": 0.95,
    "baseline": "main",
}


def slowed(summary: Summary, factor: float) -> Summary:
    measurements = tuple(
        one.model_copy(update={"values": tuple(value * factor for value in one.values)}) for one in summary.measurements
    )
    return summary.model_copy(update={"measurements": measurements})


def on(summary: Summary, **environment: object) -> Summary:
    changed = summary.header.environment.model_copy(update=environment)
    return summary.model_copy(update={"header": summary.header.model_copy(update={"environment": changed})})


def test_speed_is_a_ratio_of_medians_with_an_interval(summary: Summary) -> None:
    same = judged(SPEED, summary, summary)
    assert same.outcome == "passed" and same.value == 1.0 and same.n == 5
    assert same.low is not None and same.high is not None and same.low < 1 < same.high
    slow = judged(SPEED, slowed(summary, 0.8), summary)
    assert slow.outcome == "failed" and slow.value == pytest.approx(0.8)
    assert judged({**SPEED, "bound": "high"}, slowed(summary, 0.5), summary).outcome == "failed"
    inside = judged({**SPEED, "baseline": None, "min_ratio": 0.5}, summary)
    assert inside.against == "base" and inside.outcome == "passed"


def test_another_machine_gpu_or_version_is_refused_unless_the_gate_allows_it(summary: Summary) -> None:
    gpu = summary.header.environment.gpus[0].model_copy(update={"name": "Other GPU"})
    elsewhere = on(summary, gpus=(gpu,), cpu_cores=64)
    reason = said(judged(SPEED, elsewhere, summary))
    assert "machine.cpu_cores 2 → 64" in reason and "Example GPU (24 GiB) → Other GPU (24 GiB)" in reason
    newer = on(summary, packages={**summary.header.environment.packages, "torch": "3.0.0"})
    assert "versions.torch 2.9.0 → 3.0.0" in said(judged(SPEED, newer, summary))
    assert judged({**SPEED, "may_differ": ["versions"]}, newer, summary).outcome == "passed"
    assert said(judged({**SPEED, "may_differ": ["versions"]}, elsewhere, summary)) == reason
    moved = summary.model_copy(
        update={"loaded": tuple(one.model_copy(update={"device": "cuda"}) for one in summary.loaded)}
    )
    assert "machine.device cpu → cuda" in said(judged(SPEED, moved, summary))
    committed = summary.model_copy(update={"header": on(summary, git_commit="fedcba").header})
    assert judged(SPEED, committed, summary).outcome == "passed"


def test_only_the_same_conditions_are_compared(summary: Summary) -> None:
    longer = tuple(
        one.model_copy(update={"conditions": {**one.conditions, "prompt_tokens": 512}}) for one in summary.measurements
    )
    other = summary.model_copy(update={"measurements": longer})
    assert "prompt_tokens: 64" in said(judged(SPEED, summary, other))
    assert "measured were: batch_size: 1, 8, 16" in said(judged({**SPEED, "conditions": {}}, summary, summary))
    zero = slowed(summary, 0.0)
    assert "not positive" in said(judged(SPEED, zero, summary))


def test_a_single_value_has_no_bound_to_judge(summary: Summary) -> None:
    memory = {"metric": "peak_process_rss_bytes", "conditions": {"batch_size": 8}}
    assert judged({**memory, "at_most": 4e9}, summary).outcome == "passed"
    result = judged({**memory, "at_most": 4e9, "bound": "high"}, summary)
    assert "no interval" in said(result) and result.value is not None


def test_training_is_judged_by_what_it_cost(summary: Summary) -> None:
    seconds: dict[str, object] = {"metric": "training_seconds", "model": None, "training": "safety"}
    result = judged({**seconds, "at_most": 48.7}, summary)
    assert (result.outcome, result.value, result.unit) == ("passed", 48.7, "s")
    assert "came from the cache" in result.notes[0].en
    assert judged({**seconds, "at_most": 48.6}, summary).outcome == "failed"
    suite = {**summary.header.suite, "training": {"safety": {}}}
    run = summary.model_copy(update={"header": summary.header.model_copy(update={"suite": suite})})
    assert judged({**seconds, "max_ratio": 1.0, "baseline": "main"}, run, run).outcome == "passed"


# -- built-in gates ----------------------------------------------------------------------------------------------------


def test_built_in_gates_fail_only_what_is_worse_beyond_doubt(summary: Summary) -> None:
    saved = summary.model_copy(update={"abilities": (score("tuned", 0.6),)})
    gates = regression_gates(saved, "main")
    assert {gate.metric for gate in gates.values()} == {
        "refusal",
        "over_refusal",
        "ability",
        "prefill_tokens_per_second",
        "decode_tokens_per_second",
    }
    assert all(result.outcome == "passed" for result in judge(gates, Run(saved), lambda _: Run(saved)))
    results = judge(gates, Run(slowed(saved, 0.5)), lambda _: Run(saved))
    assert {result.kind for result in results if result.outcome == "failed"} == {"ratio"}
    assert sum(result.outcome == "failed" for result in results) == 12


def test_what_the_new_run_lacks_of_the_saved_one_fails(summary: Summary) -> None:
    gates = regression_gates(summary, "main")
    without = summary.model_copy(update={"measurements": ()})
    results = judge(gates, Run(without), lambda _: Run(summary))
    assert {result.outcome for result in results if result.kind == "ratio"} == {"no_data"}


def test_measurements_of_the_precision_study_are_judged_where_asked_for() -> None:
    summary = make_summary(pairs_per_category=1, general=1)
    extra = [one for one in make_measurements() if one.conditions.get("study") == "precision"]
    assert all(isinstance(one, Measurement) for one in extra)
    gate = {"metric": "generate_seconds", "model": "base", "conditions": {"study": "precision", "dtype": "bfloat16"}}
    assert judged({**gate, "at_most": 100}, summary).outcome == "passed"
    both = judged({**gate, "conditions": {"study": "precision"}, "at_most": 100}, summary)
    assert "dtype: float32, bfloat16, float16" in said(both)
