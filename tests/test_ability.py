"""General ability: what the records of lm-eval jobs come to, how the jobs are planned, and what a suite may say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.ability import ability_changes, ability_scores, paired_means
from harness.environment import describe_environment
from harness.errors import InvalidInput
from harness.near_duplicates import NearDuplicates
from harness.plan import make_plan
from harness.records import Environment, TaskResult, TaskSample
from harness.report.page import render_report
from harness.statistics import mcnemar_exact
from harness.suite_file import load_suite
from harness.tiny_ko.corpus import load_lexicon
from tests.report.factory import make_summary

REPOSITORY = Path(__file__).parents[1]
TASK_FOLDER = REPOSITORY / "prompts/lm_eval"


def sample(model: str, doc_id: int, doc_hash: str = "same", **scores: float) -> TaskSample:
    return TaskSample(
        job_id="j", model=model, task="quiz", filter="none", doc_id=doc_id, doc_hash=doc_hash, scores=scores
    )


def result(model: str, metric: str = "acc", value: float = 0.5, task: str = "quiz") -> TaskResult:
    return TaskResult(
        job_id="j",
        model=model,
        task=task,
        metric=metric,
        filter="none",
        value=value,
        stderr=0.05,
        n=100,
        higher_is_better=True,
        group=False,
    )


def paired_samples(both: int, gained: int, lost: int, neither: int) -> list[TaskSample]:
    pairs = [(1, 1)] * both + [(0, 1)] * gained + [(1, 0)] * lost + [(0, 0)] * neither
    return [
        sample(model, number, acc=float(score))
        for number, pair in enumerate(pairs)
        for model, score in zip(("base", "tuned"), pair, strict=True)
    ]


def test_right_or_wrong_answers_are_compared_as_pairs() -> None:
    # The counts of Newcombe 1998 (Stat. Med. 17, 2635-2650), table II, first column: 36, 12, 2, 0.
    (change,) = ability_changes(paired_samples(36, 2, 12, 0), {"tuned": "base"}, 0.95)
    assert (change.n, change.gained, change.lost) == (50, 2, 12)
    assert change.difference == pytest.approx(-0.2) and change.interval is not None
    assert (change.interval.low, change.interval.high) == pytest.approx((-0.3404, -0.0569), abs=5e-5)
    assert change.p_value == mcnemar_exact(2, 12)


def test_only_the_same_question_with_the_same_contents_makes_a_pair() -> None:
    samples = [
        sample("base", 0, acc=1.0),
        sample("base", 1, "before", acc=1.0),
        sample("tuned", 0, acc=0.0),
        sample("tuned", 1, "after", acc=0.0),
        sample("tuned", 2, acc=0.0),
    ]
    (change,) = ability_changes(samples, {"tuned": "base"}, 0.95)
    assert (change.n, change.lost) == (1, 1)
    assert ability_changes(samples, {"tuned": "other"}, 0.95) == ()


def test_other_metrics_have_the_mean_of_their_differences() -> None:
    # Differences 1, 2, 3: mean 2, standard deviation 1, standard error 1 / sqrt(3).
    mean, interval = paired_means([(1.0, 2.0), (2.0, 4.0), (0.0, 3.0)], 0.95)
    assert mean == 2 and interval == pytest.approx((2 - 1.959964 / 3**0.5, 2 + 1.959964 / 3**0.5))
    assert paired_means([(1.0, 4.0)], 0.95) == (3.0, None)
    samples = [
        sample(model, n, f1=value)
        for n, pair in enumerate([(0.2, 0.5), (0.9, 0.7)])
        for model, value in zip(("base", "tuned"), pair, strict=True)
    ]
    (change,) = ability_changes(samples, {"tuned": "base"}, 0.95)
    assert change.difference == pytest.approx(0.05) and change.p_value is None and change.gained is None


def test_scores_keep_the_order_of_tasks_and_models() -> None:
    results = [result("tuned"), result("tuned", "acc_norm"), result("base", value=0.1), result("base", value=0.2)]
    scores = ability_scores(results, ("base", "tuned"))
    assert [(s.metric, s.model, s.value) for s in scores] == [
        ("acc", "base", 0.2),
        ("acc", "tuned", 0.5),
        ("acc_norm", "tuned", 0.5),
    ]


def test_the_page_shows_ability_beside_the_refusal_rates() -> None:
    summary = make_summary(pairs_per_category=2, general=6)
    assert 'id="ability"' not in render_report(summary)
    base, tuned = summary.models[:2]
    records = [
        s.model_copy(update={"model": {"base": base, "tuned": tuned}[s.model]}) for s in paired_samples(36, 2, 12, 0)
    ]
    page = render_report(
        summary.model_copy(
            update={
                "abilities": ability_scores([result(base, value=0.96), result(tuned, value=0.76)], summary.models),
                "ability_changes": ability_changes(records, {tuned: base}, 0.95),
            }
        )
    )
    section = page.split('id="ability"')[1].split("</section>")[0]
    for text in (
        "quiz: acc",
        "96.0%",
        "76.0%",
        "\N{MINUS SIGN}20.0",
        "\N{PLUS-MINUS SIGN} 5.0",
        "p\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}0.013",
    ):
        assert text in section, text
    assert section.index("refusal rate") < section.index("quiz: acc")


# -- plan and suite ----------------------------------------------------------------------------------------------------


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A suite with two models and a task folder of its own."""
    prompt = {
        "id": "a",
        "text": "?",
        "category": "c",
        "expected": "comply",
        "pair_id": None,
        "source": "t",
        "licence": "t",
    }
    (tmp_path / "prompts.jsonl").write_text(json.dumps(prompt) + "\n", encoding="utf-8")
    for model in ("one", "two"):
        (tmp_path / model).mkdir()
        (tmp_path / model / "config.json").write_text(json.dumps({"name": model}), encoding="utf-8")
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks/quiz.yaml").write_text("task: korean_quiz\n", encoding="utf-8")
    (tmp_path / "tasks/quiz.jsonl").write_text("{}\n", encoding="utf-8")
    (tmp_path / "suite.yaml").write_text(
        "name: s\nprompts: [prompts.jsonl]\n"
        "models:\n  base: {path: one}\n  tuned: {path: two, compare_to: base}\n"
        "lm_eval: {tasks: [korean_quiz], task_folders: [tasks]}\n",
        encoding="utf-8",
    )
    return tmp_path / "suite.yaml"


def job_ids(suite: Path, environment: Environment, *overrides: str) -> dict[tuple[str, str], str]:
    loaded = load_suite(suite, overrides)
    return {(job.kind, job.model): job.id for job in make_plan(loaded, loaded.prompts, environment).jobs}


def test_a_job_per_model_whose_identity_holds_the_tasks_and_lm_evals_version(suite: Path) -> None:
    environment = describe_environment()
    before = job_ids(suite, environment)
    assert [key for key in before if key[0] == "lm_eval"] == [("lm_eval", "base"), ("lm_eval", "tuned")]
    assert before["lm_eval", "base"].split("-")[-1] != before["lm_eval", "tuned"].split("-")[-1]
    assert job_ids(suite, environment) == before

    def changed(after: dict[tuple[str, str], str]) -> set[str]:
        return {kind for (kind, model), job_id in after.items() if before[kind, model] != job_id}

    other = environment.model_copy(update={"packages": {**environment.packages, "lm_eval": "0.0"}})
    assert changed(job_ids(suite, other)) == {"lm_eval"}
    assert changed(job_ids(suite, environment, "lm_eval.limit=3")) == {"lm_eval"}
    (suite.parent / "tasks/quiz.jsonl").write_text('{"changed": 1}\n', encoding="utf-8")
    assert changed(job_ids(suite, environment)) == {"lm_eval"}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("lm_eval.task_folders=[task]", "there is no folder .*task. Did you mean 'tasks'"),
        (
            "lm_eval.tasks=[korean_qiuz]",
            "neither the task folders nor lm-eval have a task 'korean_qiuz'. Did you mean 'korean_quiz'",
        ),
        (
            "lm_eval.tasks=[kobest_hellaswa]",
            "neither the task folders nor lm-eval have a task 'kobest_hellaswa'. Did you mean 'kobest_hellaswag'",
        ),
        ("lm_eval.models=[tunde]", "there is no model 'tunde'. Did you mean 'tuned'"),
        ("lm_eval.batch_size=0", "batch_size: must be at least 1"),
        ("lm_eval.tasks=[]", "tasks: "),
    ],
)
def test_a_faulty_section_is_named_with_the_nearest_valid_name(suite: Path, override: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        load_suite(suite, (override,))


def test_lm_evals_own_tasks_are_known_by_name_and_by_pattern(suite: Path) -> None:
    names = "kobest_hellaswag, 'kmmlu_*', haerae, click, kbl_reasoning_em"  # the last is in a file called _x_yaml
    loaded = load_suite(suite, (f"lm_eval.tasks=[{names}]",))
    assert loaded.suite.lm_eval is not None and len(loaded.suite.lm_eval.tasks) == 5


# -- the shipped task --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def items() -> list[dict[str, Any]]:
    lines = (TASK_FOLDER / "tiny_ko_world.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_the_shipped_items_are_well_formed_and_without_a_favoured_place(items: list[dict[str, Any]]) -> None:
    assert len(items) >= 100
    assert len({item["id"] for item in items}) == len({item["question"] for item in items}) == len(items)
    for item in items:
        assert len(item["choices"]) == len(set(item["choices"])) == 4, item["id"]
    places = [sum(item["answer"] == place for item in items) for place in range(4)]
    assert max(places) - min(places) <= 1


def test_the_shipped_questions_are_worded_unlike_those_the_demonstration_model_learned(
    items: list[dict[str, Any]],
) -> None:
    learned = NearDuplicates([question for subject in load_lexicon().general for question, _ in subject])
    assert [item["question"] for item in items if learned.find(item["question"])] == []
