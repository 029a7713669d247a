"""Sweeps: what a suite with a `sweep` section expands to, and where its faults are."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.errors import InvalidInput
from harness.suite_file import LoadedSuite
from harness.sweep_names import label
from tests.test_suite_file import GOOD, PROJECT, changed, faults, folder, load, only_fault

__all__ = ["folder"]  # the fixture: a folder with everything that GOOD names

SWEEP = """\
sweep:
  lora:
    lora.r: [8, 64]
    trainer.learning_rate: [1e-4, 2e-4]
    seeds: [1, 2, 3]
"""


def models(loaded: LoadedSuite) -> list[str]:
    return list(loaded.suite.models)


def test_every_combination_becomes_a_training_and_a_model_that_uses_it(folder: Path) -> None:
    loaded = load(GOOD + SWEEP)
    suite = loaded.suite
    assert len(suite.training) == 12 and len(suite.models) == 13 and list(suite.training)[0] == "lora-r8-lr1e-4-s1"
    tuned = suite.models["tuned-r64-lr2e-4-s3"]
    assert tuned.adapter is not None and tuned.adapter.trained_by == "lora-r64-lr2e-4-s3"
    assert (tuned.path, tuned.compare_to) == ("./model", "base")
    training = suite.training["lora-r64-lr2e-4-s3"]
    assert (training.lora.r, training.trainer.learning_rate, training.trainer.max_steps) == (64, 2e-4, 3)
    assert (training.trainer.seed, training.lora.random_state) == (3, 3)
    point = next(point for point in loaded.sweep if point.model == "tuned-r64-lr2e-4-s3")
    assert (point.swept, point.setting, point.seed) == ("tuned", "tuned-r64-lr2e-4", "3")
    assert point.values == {"lora.r": 64, "trainer.learning_rate": 2e-4}
    assert [point.model for point in loaded.sweep] == models(loaded)[1:]


def test_without_a_sweep_nothing_changes(folder: Path) -> None:
    assert load(GOOD).sweep == () and load(GOOD + "sweep: {}\n").suite == load(GOOD).suite


def test_nested_keys_and_dotted_ones_are_the_same(folder: Path) -> None:
    nested = "sweep: {lora: {lora: {r: [8, 64]}, trainer: {learning_rate: [1e-4, 2e-4]}, seeds: [1, 2, 3]}}\n"
    assert load(GOOD + nested).sweep == load(GOOD + SWEEP).sweep


@pytest.mark.parametrize(
    ("override", "count"),
    [
        ("sweep.lora.lora.r=[8]", 6),
        ("sweep.lora.seeds=[7]", 4),
        ("sweep.lora.trainer.weight_decay=[0, 0.1]", 24),
        ("sweep.lora={seeds: [1, 2]}", 2),
        ("sweep={lora: {lora.r: [8, 16, 64], seeds: [1]}}", 3),
        ("sweep.lora={lora.r: [8, 16, 64]}", 3),
        ("sweep={}", 1),
    ],
)
def test_overrides_reach_the_sweep(folder: Path, override: str, count: int) -> None:
    assert len(load(GOOD + SWEEP, override).suite.training) == count


def test_overrides_reach_every_variant(folder: Path) -> None:
    loaded = load(GOOD + SWEEP, "training.lora.trainer.max_steps=7", "models.tuned.dtype=bfloat16")
    assert {training.trainer.max_steps for training in loaded.suite.training.values()} == {7}
    assert {model.dtype for name, model in loaded.suite.models.items() if name != "base"} == {"bfloat16"}


def test_a_sweep_can_be_given_on_the_command_line_alone(folder: Path) -> None:
    assert models(load(GOOD, "sweep.lora.seeds=[1, 2]")) == ["base", "tuned-s1", "tuned-s2"]


def test_checkpoints_multiply_the_models_but_not_the_training(folder: Path) -> None:
    ordered = load(GOOD + "sweep: {lora: {lora.r: [2], seeds: [5], checkpoints: [1]}}\n")
    assert models(ordered)[1:] == ["tuned-r2-step1-s5"]  # as written, but seeds last
    loaded = load(GOOD + "sweep: {lora: {checkpoints: [1, 3], seeds: [5, 6]}}\n")
    assert list(loaded.suite.training) == ["lora-s5", "lora-s6"]
    assert {training.checkpoints for training in loaded.suite.training.values()} == {(1, 3)}
    assert models(loaded)[1:] == ["tuned-step1-s5", "tuned-step1-s6", "tuned-step3-s5", "tuned-step3-s6"]
    adapter = loaded.suite.models["tuned-step3-s5"].adapter
    assert adapter is not None and (adapter.trained_by, adapter.checkpoint) == ("lora-s5", 3)
    assert {point.setting for point in loaded.sweep} == {"tuned-step1", "tuned-step3"}
    assert loaded.sweep[-1].values == {"checkpoint": 3}


def test_a_prompt_limit_of_the_suite_keeps_pairs_together(folder: Path) -> None:
    rows = Path("prompts.jsonl").read_text(encoding="utf-8")
    more = rows.replace("h1", "h2").replace("l1", "l2").replace("g1", "g2").replace("p1", "p2")
    Path("prompts.jsonl").write_text(rows + more, encoding="utf-8")
    assert [prompt.id for prompt in load(GOOD + "prompt_limit: 1\n").prompts] == ["h1", "l1", "g1"]
    assert len(load(GOOD + "prompt_limit: 5\n").prompts) == 6


def test_what_names_a_swept_model_follows_it(folder: Path) -> None:
    text = GOOD + "sweep: {base: {dtype: [float32, bfloat16]}}\nlm_eval: {tasks: [arc_easy], models: [tuned, base]}\n"
    suite = load(text).suite
    assert list(suite.models) == ["base-float32", "base-bfloat16", "tuned-float32", "tuned-bfloat16"]
    tuned = suite.models["tuned-bfloat16"]
    assert (tuned.dtype, tuned.compare_to) == ("bfloat16", "base-bfloat16")
    assert tuned.adapter is not None and tuned.adapter.trained_by == "lora-bfloat16"
    assert suite.training["lora-bfloat16"].model == "base-bfloat16"
    assert suite.lm_eval is not None
    assert suite.lm_eval.models == ("tuned-float32", "tuned-bfloat16", "base-float32", "base-bfloat16")


def test_what_a_swept_model_takes_of_a_node_holds_for_its_variants(folder: Path) -> None:
    text = GOOD + SWEEP + "resources: {gpus: 1, by_model: {base: {gpus: 0}, tuned: {gpus: 0.5}}}\n"
    by_model = load(text).suite.resources.by_model
    assert len(by_model) == 13 and by_model["base"].gpus == 0 and by_model["tuned-r64-lr2e-4-s3"].gpus == 0.5
    fault = only_fault(text.replace("gpus: 0.5", "gpuss: 0.5"))
    assert (fault.key, fault.nearest) == ("resources.by_model.tuned.gpuss", "gpus")


def test_a_gate_on_a_swept_model_brings_the_pattern_of_its_variants(folder: Path) -> None:
    fault = only_fault(GOOD + SWEEP + "gates: {it: {metric: refusal, model: tuned, at_least: 0.5}}\n")
    assert (fault.key, fault.nearest) == ("gates.it.model", "tuned-*")


def test_a_model_does_not_inherit_what_it_gives_itself(folder: Path) -> None:
    text = changed("training:", "  other: {like: tuned, adapter: null, compare_to: base}\ntraining:") + SWEEP
    suite = load(text).suite
    assert "other" in suite.models and suite.models["other"].like == "tuned-r8-lr1e-4-s1"
    other = "  other: {like: base, dtype: bfloat16, compare_to: base}\ntraining:"
    text = changed("training:", other) + "sweep: {base: {dtype: [float32, bfloat16]}}\n"
    fault = only_fault(text)
    assert (fault.key, fault.line) == ("models.other.compare_to", 12)
    assert fault.problem == "'base' is swept; name one of its variants, e.g. base-float32."
    pinned = load(text, "models.other.compare_to=base-bfloat16").suite.models
    assert (pinned["other"].like, pinned["other"].compare_to) == ("base-float32", "base-bfloat16")


def test_a_chain_of_models_shares_one_choice(folder: Path) -> None:
    text = changed("training:", "  merged: {like: tuned, compare_to: tuned, dtype: bfloat16}\ntraining:")
    suite = load(text + "sweep: {lora: {seeds: [1, 2]}}\n").suite
    assert list(suite.models)[3:] == ["merged-s1", "merged-s2"]
    merged = suite.models["merged-s2"]
    assert (merged.like, merged.compare_to) == ("tuned-s2", "tuned-s2")
    assert merged.adapter is not None and merged.adapter.trained_by == "lora-s2"


@pytest.mark.parametrize(
    ("sweep", "line", "key", "problem", "close"),
    [
        ("  lorra:\n    seeds: [1]", 18, "sweep.lorra", "no training step and no model 'lorra'", "lora"),
        ("  lora:\n    lora.rr: [1]", 19, "sweep.lora.lora.rr", "has no such key", "r"),
        ("  lora:\n    seedss: [1]", 19, "sweep.lora.seedss", "has no such key", "seeds"),
        ("  lora:\n    lora.r: 8", 19, "sweep.lora.lora.r", "must be a list of the values to try", None),
        ("  lora:\n    lora.r: []", 19, "sweep.lora.lora.r", "must be a list of the values to try", None),
        ("  lora:\n    lora.r: [8, 8]", 19, "sweep.lora.lora.r", "8 is in the list twice", None),
        (
            "  lora:\n    lora.r:\n    - 8\n    - x",
            21,
            "sweep.lora.lora.r.1",
            "must be a whole number; it is 'x'",
            None,
        ),
        ("  lora:\n    seeds: [1, a]", 19, "sweep.lora.seeds.1", "must be a whole number", None),
        ("  lora:\n    seeds: [-1]", 19, "sweep.lora.seeds.0", "must be at least 0; it is -1", None),
        ("  lora:\n    checkpoints: [0]", 19, "sweep.lora.checkpoints.0", "must be at least 1", None),
        ("  lora:\n    checkpoints: [9]", 19, "sweep.lora.checkpoints", "the training ends after 3 steps", None),
        ("  lora:\n    model: [base]", 19, "sweep.lora.model", "names another entry", None),
        ("  tuned:\n    seeds: [1]", 19, "sweep.tuned.seeds", "a model has no seeds", None),
        ("  base:\n    dtype: [float23]", 19, "sweep.base.dtype.0", "must be 'float32'", "float32"),
        ("  lora: [1]", 18, "sweep.lora", "must be a mapping", None),
        ("  lora:\n    lora.r: [1]\n    lora: {r: [2]}", 20, "sweep.lora.lora", "given twice", None),
    ],
)
def test_a_fault_names_line_and_key_of_the_sweep(
    folder: Path, sweep: str, line: int, key: str, problem: str, close: str | None
) -> None:
    fault = only_fault(f"{GOOD}sweep:\n{sweep}\n")
    assert (fault.file, fault.line, fault.key, fault.nearest) == ("suite.yaml", line, key, close)
    assert problem in fault.problem


def test_a_fault_of_a_swept_entry_is_told_once_at_its_own_place(folder: Path) -> None:
    fault = only_fault(changed("max_steps: 3", "max_stepps: 3, max_steps: 3") + SWEEP)
    assert (fault.line, fault.key, fault.nearest) == (16, "training.lora.trainer.max_stepps", "max_steps")


def test_too_many_combinations_are_one_sentence_with_the_arithmetic(folder: Path) -> None:
    ranks, seeds = list(range(1, 41)), list(range(1, 41))
    fault = only_fault(GOOD + f"sweep:\n  lora:\n    lora.r: {ranks}\n    seeds: {seeds}\n")
    assert fault.line == 20
    assert fault.problem == "40 x 40 = 1,600 variants of 'lora' are more than 1,000; sweep fewer values at once."


def test_names_that_are_too_long_or_taken_are_faults(folder: Path) -> None:
    long = "a" * 60
    text = GOOD.replace("  lora:", f"  {long}:").replace("trained_by: lora", f"trained_by: {long}")
    assert "more than 64 characters" in faults(text + f"sweep: {{{long}: {{seeds: [12345]}}}}\n")[0].problem
    taken = changed("training:", "  tuned-s1: {like: base}\ntraining:") + "sweep: {lora: {seeds: [1]}}\n"
    assert any("'tuned-s1' is given twice" in fault.problem for fault in faults(taken))


def test_labels_are_readable_and_may_be_part_of_a_name() -> None:
    r, rate, path = ("lora", "r"), ("trainer", "learning_rate"), ("path",)
    assert [label(r, value, 0) for value in (8, 64)] == ["r8", "r64"]
    assert [label(rate, value, 0) for value in (1e-4, 2.5e-4, 0.02, 1.0)] == ["lr1e-4", "lr2_5e-4", "lr0_02", "lr1"]
    assert [label(path, value, 0) for value in ("../models/A.b/", "org/name")] == ["a_b", "name"]
    assert label(("lora", "use_rslora"), True, 0) == "use_rslora_on"
    assert label(("lora", "target_modules"), ["q_proj"], 1) == "target_modules_2"
    assert label(path, "한국어", 2) == "path_3"


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["lora", "r", "seeds", "x", ""]), inner)
    ),
    max_leaves=6,
)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    value=ANYTHING, key=st.sampled_from(["sweep", "sweep.lora", "sweep.base.dtype", "models.tuned", "training.lora"])
)
def test_any_value_is_a_suite_or_a_list_of_faults(folder: Path, value: object, key: str) -> None:
    try:
        load(GOOD + SWEEP, f"{key}={json.dumps(value)}")
    except InvalidInput as error:
        assert error.faults


def test_validate_counts_the_variants_and_shows_faults(folder: Path) -> None:
    Path("suite.yaml").write_text(GOOD + SWEEP, encoding="utf-8")
    command = [sys.executable, "-m", "harness", "validate", "suite.yaml"]
    environment = {"PYTHONPATH": str(PROJECT), "PATH": "/usr/bin:/bin"}
    good = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert good.returncode == 0, good.stderr
    assert "13 models" in good.stdout and "12 variants" in good.stdout
    bad = subprocess.run([*command, "-o", "sweep.lora.lora.rr=[1]"], capture_output=True, text=True, env=environment)
    assert bad.returncode == 2 and "command line (-o sweep.lora.lora.rr)" in bad.stderr
