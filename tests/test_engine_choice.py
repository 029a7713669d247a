"""Which engine a suite gets, and which models share a job."""

from __future__ import annotations

from typing import Any

import pytest

from harness.engine_choice import MODELS_PER_JOB, generation_groups
from harness.environment import describe_environment
from harness.records import Environment, GpuInfo
from harness.suite import Suite

GPU = GpuInfo(name="G", memory_bytes=1, driver="1", compute_capability="9.0")


def machine(*gpus: GpuInfo) -> Environment:
    return describe_environment().model_copy(update={"gpus": gpus})


def suite(models: dict[str, dict[str, Any]], **sampling: Any) -> Suite:
    return Suite.model_validate({"name": "s", "prompts": ["p.jsonl"], "models": models, "sampling": sampling})


BASE = {"path": "m"}
TUNED = {"path": "m", "adapter": {"path": "a"}}


def test_models_that_differ_in_an_attached_adapter_alone_share_a_job() -> None:
    models: dict[str, dict[str, Any]] = {
        "base": BASE,
        "tuned": {**TUNED, "compare_to": "base"},
        "merged": {"path": "m", "adapter": {"path": "a", "mode": "merged"}},
        "half": {"path": "m", "dtype": "bfloat16"},
        "elsewhere": {"path": "other"},
    }
    groups = generation_groups(suite(models), 10, machine())
    assert [names for names, _ in groups] == [("base", "tuned"), ("merged",), ("half",), ("elsewhere",)]


def test_a_great_many_adapters_are_spread_over_jobs() -> None:
    models = {f"m{number}": {**TUNED, "adapter": {"path": f"a{number}"}} for number in range(2 * MODELS_PER_JOB + 1)}
    groups = generation_groups(suite(models), 10, machine())
    assert [len(names) for names, _ in groups] == [MODELS_PER_JOB, MODELS_PER_JOB, 1]


@pytest.mark.parametrize(
    ("prompts", "gpus", "sampling", "model", "expected"),
    [
        (10, (), {}, {}, "fast"),
        (10, (GPU,), {}, {}, "plain"),
        (1000, (GPU,), {}, {}, "fast"),
        (1000, (GPU,), {}, {"quantization": "4bit"}, "plain"),
        (1000, (GPU,), {}, {"backend": "unsloth"}, "plain"),
        (10, (GPU,), {"engine": "fast"}, {}, "fast"),
        (10, (GPU,), {"engine": "vllm"}, {}, "vllm"),
        (1000, (), {"engine": "plain"}, {}, "plain"),
    ],
)
def test_auto_takes_what_pays_for_its_warm_up(
    prompts: int, gpus: tuple[GpuInfo, ...], sampling: dict[str, Any], model: dict[str, Any], expected: str
) -> None:
    groups = generation_groups(suite({"base": {**BASE, **model}}, **sampling), prompts, machine(*gpus))
    assert groups == [(("base",), expected)]


def test_auto_takes_vllm_for_a_large_suite_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    large = suite({"base": BASE})
    assert generation_groups(large, 100_000, machine(GPU))[0][1] == "fast"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert generation_groups(large, 100_000, machine(GPU))[0][1] == "vllm"


def test_the_plain_path_keeps_a_job_for_each_model() -> None:
    groups = generation_groups(suite({"base": BASE, "tuned": TUNED}, engine="plain"), 10, machine())
    assert groups == [(("base",), "plain"), (("tuned",), "plain")]
