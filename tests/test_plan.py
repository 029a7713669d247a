"""A job's identity changes with everything that can change what it yields, and with nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.environment import describe_environment
from harness.plan import Plan, fixed_batches, make_plan
from harness.records import Prompt
from harness.suite_file import load_suite
from tests.tiny_models import make_tiny_llama

SUITE = """\
name: small
prompts: [prompts.jsonl]
models:
  base: {path: llama, prompt_format: alpaca_ko}
  tuned: {like: base, adapter: {trained_by: lora}, compare_to: base}
training:
  lora:
    model: base
    data: {path: rows.jsonl}
    trainer: {max_steps: 4, optim: adamw_torch}
sampling: {batch_size: 4, engine: plain}
performance:
  throughput: {batch_sizes: [1, 2]}
  precision: {model: base, dtypes: [float32, bfloat16]}
"""


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture
def suite(tmp_path: Path, llama: Path) -> Path:
    (tmp_path / "llama").mkdir()
    for file in llama.iterdir():
        (tmp_path / "llama" / file.name).write_bytes(file.read_bytes())
    row = {"instruction": "질문", "input": "", "output": "답"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    (tmp_path / "prompts.jsonl").write_text(
        "".join(prompt(number).model_dump_json() + "\n" for number in range(10)), encoding="utf-8"
    )
    (tmp_path / "suite.yaml").write_text(SUITE, encoding="utf-8")
    return tmp_path / "suite.yaml"


def prompt(number: int) -> Prompt:
    return Prompt(
        id=f"p{number}",
        text="가" * (number + 1),
        category="c",
        expected="comply",
        pair_id=None,
        source="test",
        licence="Apache-2.0",
    )


def plan(suite: Path, *overrides: str) -> Plan:
    loaded = load_suite(suite, overrides)
    return make_plan(loaded, loaded.prompts, describe_environment())


def ids(suite: Path, *overrides: str) -> dict[str, str]:
    """Job ids by what the job is."""
    found = {}
    for job in plan(suite, *overrides).jobs:
        values = (value for name, value in job.parameters.items() if name != "engine")
        found[" ".join(map(str, (job.kind, job.model, *values)))] = job.id
    return found


def test_training_comes_first_and_the_tuned_model_waits_for_it(suite: Path) -> None:
    jobs = plan(suite).jobs
    assert [job.kind for job in jobs[:3]] == ["train", "generate", "generate"]
    assert all(job.needs == ((jobs[0].id,) if job.model == "tuned" else ()) for job in jobs)
    assert len({job.id for job in jobs}) == len(jobs)


def test_an_engine_answers_for_base_and_tuned_in_one_job(suite: Path) -> None:
    training, shared, *others = plan(suite, "sampling.engine=fast").jobs
    assert (shared.model, shared.partners, shared.needs) == ("base", ("tuned",), (training.id,))
    assert "generate" not in {job.kind for job in others}
    for override in ("training.lora.lora.r=8", "sampling.max_new_tokens=7", "sampling.engine=vllm"):
        assert plan(suite, "sampling.engine=fast", override).jobs[1].id != shared.id
    merged = plan(suite, "sampling.engine=fast", "models.tuned.adapter.mode=merged").jobs
    assert [(job.model, job.partners) for job in merged if job.kind == "generate"] == [("base", ()), ("tuned", ())]


def test_the_same_suite_gives_the_same_plan_wherever_it_lies(suite: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for path in list(suite.parent.iterdir()):
        if path != moved:
            path.rename(moved / path.name)
    before = {job.id for job in plan(moved / "suite.yaml").jobs}
    assert {job.id for job in plan(moved / "suite.yaml").jobs} == before
    assert plan(moved / "suite.yaml").plan_hash == plan(moved / "suite.yaml").plan_hash


def append(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / name
        path.write_bytes(path.read_bytes() + b" ")

    return change


@pytest.mark.parametrize(
    ("change", "changed"),
    [
        (append("llama/model.safetensors"), {"train", "generate base", "generate tuned", "throughput"}),
        (append("llama/tokenizer.json"), {"train", "generate base", "generate tuned"}),
        (append("rows.jsonl"), {"train", "generate tuned"}),
    ],
)
def test_a_changed_file_changes_what_depends_on_it(
    suite: Path, change: Callable[[Path], None], changed: set[str]
) -> None:
    before = ids(suite)
    change(suite.parent)
    after = ids(suite)
    different = {name for name in before if before[name] != after[name]}
    for part in changed:
        assert any(name.startswith(part) for name in different), part
    unchanged = set(before) - different
    assert ("generate base 0" in unchanged) == ("generate base" not in changed)


@pytest.mark.parametrize(
    ("override", "changed"),
    [
        ("training.lora.lora.r=8", ["train base", "generate tuned 0"]),
        ("training.lora.trainer.seed=1", ["train base", "generate tuned 0"]),
        ("sampling.max_new_tokens=7", ["generate base 0", "generate tuned 0"]),
        ("models.tuned.adapter.mode=merged", ["generate tuned 0"]),
        ("models.tuned.attention=eager", ["generate tuned 0"]),
    ],
)
def test_a_changed_setting_changes_what_depends_on_it(suite: Path, override: str, changed: list[str]) -> None:
    before, after = ids(suite), ids(suite, override)
    answers_and_training = [name for name in before if name.startswith(("train base", "generate"))]
    assert [name for name in answers_and_training if before[name] != after[name]] == changed


def test_another_prompt_changes_only_the_answers(suite: Path) -> None:
    before = ids(suite)
    path = suite.parent / "prompts.jsonl"
    path.write_text(path.read_text(encoding="utf-8").replace("가가가", "나가가", 1), encoding="utf-8")
    after = ids(suite)
    assert {name for name in before if before[name] != after[name]} == {"generate base 0", "generate tuned 0"}


def test_batches_hold_every_prompt_once_the_longest_first() -> None:
    batches = fixed_batches([prompt(number) for number in range(10)], 4)
    assert [len(batch) for batch in batches] == [4, 4, 2]
    assert [name for batch in batches for name in batch] == [f"p{number}" for number in reversed(range(10))]
