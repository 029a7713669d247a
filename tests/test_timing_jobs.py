"""Which jobs a `performance` section becomes."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from harness.records import Prompt
from harness.suite import Precision, Suite, Throughput, TimingPoint
from harness.timing_jobs import evenly_spread, timing_jobs

PROMPTS = tuple(
    Prompt(id=f"p{i}", text="x", category="c", expected="comply", pair_id=None, source="s", licence="l")
    for i in range(10)
)


def suite(**performance: Any) -> Suite:
    models = {"base": {"path": "m"}, "half": {"path": "m", "dtype": "bfloat16"}, "told": {"backend": "scripted"}}
    return Suite.model_validate({"name": "s", "prompts": ["p.jsonl"], "models": models, "performance": performance})


def kinds(**performance: Any) -> list[tuple[str, str]]:
    return [(job.kind, job.model) for job in timing_jobs(suite(**performance), PROMPTS)]


def test_a_model_is_loaded_once_whatever_the_sweep() -> None:
    swept = {"batch_sizes": [1, 8, 64], "prompt_tokens": [128, 1024], "new_tokens": [32, 64]}
    assert kinds(throughput=swept) == [("throughput", "base"), ("throughput", "half")]
    assert len(Throughput.model_validate(swept).grid()) == 12


def test_the_scalar_form_still_holds() -> None:
    grid = Throughput.model_validate({"batch_sizes": [8, 1], "prompt_tokens": 64, "new_tokens": 32}).grid()
    assert grid == (
        TimingPoint(batch_size=1, prompt_tokens=64, new_tokens=32),
        TimingPoint(batch_size=8, prompt_tokens=64, new_tokens=32),
    )


def test_points_are_measured_once_each_from_the_smallest() -> None:
    one, two = ({"batch_size": batch, "prompt_tokens": 4, "new_tokens": 4} for batch in (2, 1))
    grid = Throughput.model_validate({"points": [one, two, one]}).grid()
    assert [point.batch_size for point in grid] == [1, 2]


@pytest.mark.parametrize("wrong", [{"prompt_tokens": []}, {"prompt_tokens": [1]}, {"new_tokens": "many"}])
def test_lengths_that_are_none_are_faults(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Throughput.model_validate(wrong)


def test_the_machine_is_probed_only_when_asked_and_in_the_precisions_timed() -> None:
    assert ("ceilings", "base") not in kinds(throughput={})
    jobs = timing_jobs(
        suite(
            roofline=True,
            throughput={"models": ["half"]},
            precision={"model": "base", "dtypes": ["float16", "float32"]},
        ),
        PROMPTS,
    )
    assert jobs[0].kind == "ceilings"
    assert jobs[0].parameters["dtypes"] == "float32, bfloat16, float16"
    assert all(job.parameters.get("roofline") for job in jobs[1:])


def test_each_precision_has_processes_of_its_own_and_the_reference_answers_twice() -> None:
    section = {"model": "base", "dtypes": ["bfloat16", "float16"], "quantizations": ["none", "4bit"], "flips": 4}
    jobs = timing_jobs(suite(precision=section), PROMPTS)
    assert [job.kind for job in jobs] == ["throughput", "train_timing", "precision_answers"] * 4
    assert [(job.parameters["dtype"], job.parameters["quantization"]) for job in jobs[::3]] == [
        ("bfloat16", "none"),
        ("float16", "none"),
        ("bfloat16", "4bit"),
        ("float16", "4bit"),
    ]
    assert [job.parameters["times"] for job in jobs[2::3]] == [2, 1, 1, 1]
    assert len({job.prompts for job in jobs[2::3]}) == 1


def test_without_flips_or_prompts_nothing_is_answered() -> None:
    section = {"model": "base", "dtypes": ["float32", "bfloat16"], "flips": 4}
    assert all(job.kind != "precision_answers" for job in timing_jobs(suite(precision=section), ()))
    assert Precision.model_validate(section).grid("8bit")[0].quantization == "8bit"


def test_prompts_are_spread_over_all_of_them() -> None:
    assert [prompt.id for prompt in evenly_spread(PROMPTS, 5)] == ["p0", "p2", "p4", "p6", "p8"]
    assert len(evenly_spread(PROMPTS, 99)) == 10
