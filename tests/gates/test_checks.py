"""Gates of a suite are checked whole before anything runs: file, line, key, and the nearest valid name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.errors import InvalidInput
from harness.gates.vocabulary import HOW_IT_WAS_RUN, MEASUREMENTS
from harness.report.measurement_kinds import KINDS, SILENT
from harness.suite_file import load_suite
from tests.gates.runs import write_suite

MODEL = """\
  llama: {path: ./llama}
  llama_tuned: {like: llama, adapter: {trained_by: lora}, compare_to: llama}
training:
  lora:
    model: llama
    data: {path: rows.jsonl, prompt_format: chat_template}
    trainer: {max_steps: 3}
performance:
  throughput: {models: [llama, llama_tuned], batch_sizes: [1, 8]}
  precision: {model: llama, dtypes: [float32, bfloat16]}
"""
ABILITY = """\
lm_eval:
  tasks: [kobest_hellaswag, "kmmlu_*", click, my_task]
  task_folders: [tasks]
  models: [llama, llama_tuned]
"""
"""Only where it is needed: looking through lm-eval's task files takes a moment."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_suite(tmp_path)
    (tmp_path / "llama").mkdir()
    (tmp_path / "llama/config.json").write_text("{}", encoding="utf-8")
    (tmp_path / "rows.jsonl").write_text("{}\n", encoding="utf-8")
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks/my_task.yaml").write_text("task: my_task\n", encoding="utf-8")
    return tmp_path


def faults(folder: Path, gate: str, baselines: tuple[str, ...] | None = None) -> list[str]:
    """Faults of a suite with one gate, as the command line would print them."""
    ability = ABILITY if "metric: ability" in gate else ""
    write_suite(folder, f"{MODEL}{ability}gates:\n  it: {gate}\n")
    try:
        load_suite(Path("suite.yaml"), baselines=baselines)
    except InvalidInput as found:
        return [str(fault) for fault in found.faults]
    return []


@pytest.mark.parametrize(
    "gate",
    [
        "{metric: refusal, model: tuned, bound: low, at_least: 0.8}",
        "{metric: over_refusal, model: tuned, bound: high, max_rise: 0.05}",
        "{metric: over_refusal, group: lookalike, category: fraud, model: 'tun*', max_rise: 0.05}",
        "{metric: corrected_refusal, model: '*', at_least: 0}",
        "{metric: truncated, model: tuned, at_most: 0.01}",
        "{metric: ability, task: kobest_hellaswag, model: llama_tuned, max_drop: 0.02}",
        "{metric: ability, task: kmmlu_law, task_metric: acc_norm, model: llama, at_least: 0.2}",
        "{metric: ability, task: click_lang_text, model: llama, at_least: 0.2}",
        "{metric: ability, task: my_task, task_filter: none, model: llama, at_least: 0.2}",
        "{metric: decode_tokens_per_second, conditions: {batch_size: 8}, model: llama_tuned, min_ratio: 0.9}",
        "{metric: decode_tokens_per_second, conditions: {study: precision, dtype: float32}, model: llama, at_least: 1}",
        "{metric: training_step_seconds, conditions: {dtype: bfloat16}, model: llama, at_most: 2}",
        "{metric: peak_process_rss_bytes, conditions: {batch_size: 1}, model: llama, at_most: 2e9}",
        "{metric: load_seconds, model: llama, at_most: 60}",
        "{metric: training_seconds, training: lora, baseline: main, max_ratio: 1.1, may_differ: [versions]}",
    ],
)
def test_what_a_gate_can_say(folder: Path, gate: str) -> None:
    assert faults(folder, gate, baselines=("main",)) == []


@pytest.mark.parametrize(
    ("gate", "key", "problem"),
    [
        ("{metric: refusl, model: tuned, at_least: 0.8}", "it.metric", "no metric 'refusl'. Did you mean 'refusal'?"),
        ("{metric: decode_token_per_second, model: llama, at_least: 1}", "it.metric", "'decode_tokens_per_second'?"),
        ("{metric: refusal, model: tuend, at_least: 0.8}", "it.model", "no model 'tuend'. Did you mean 'tuned'?"),
        ("{metric: refusal, model: 'x*', at_least: 0.8}", "it.model", "no model 'x*'."),
        ("{metric: refusal, at_least: 0.8}", "it", "needs the model"),
        ("{metric: refusal, model: tuned}", "it", "exactly one limit: at_least, at_most"),
        ("{metric: refusal, model: tuned, at_least: 0.8, max_drop: 0.1}", "it", "(at_least and max_drop)"),
        ("{metric: refusal, model: tuned, at_lest: 0.8}", "it.at_lest", "Did you mean 'at_least'?"),
        ("{metric: refusal, model: tuned, at_least: 80}", "it.at_least", "write 0.8 for 80 percent; it is 80."),
        ("{metric: refusal, model: tuned, at_least: .nan}", "it.at_least", "must be a number"),
        ("{metric: refusal, model: tuned, bound: lower, at_least: 0.8}", "it.bound", "'value', 'low' or 'high'"),
        ("{metric: refusal, model: base, max_drop: 0.1}", "it.max_drop", "'base' has no compare_to"),
        ("{metric: refusal, model: tuned, min_ratio: 0.9}", "it.min_ratio", "compared by its difference"),
        ("{metric: refusal, group: general, model: tuned, at_least: 0.5}", "it.group", "two metrics"),
        ("{metric: over_refusal, group: general, model: tuned, at_most: 0.5}", "it.group", "no general prompts"),
        ("{metric: refusal, category: fruad, model: tuned, at_least: 0.5}", "it.category", "Did you mean 'fraud'?"),
        ("{metric: refusal, task: kmmlu, model: tuned, at_least: 0.5}", "it.task", "has no task; leave this out"),
        ("{metric: corrected_refusal, model: tuned, max_drop: 0.5}", "it.max_drop", "only be judged by itself"),
        ("{metric: refusal, model: tuned, at_least: 0.5, baseline: main}", "it.baseline", "compares with nothing"),
        ("{metric: refusal, model: tuned, max_drop: 0.5, baseline: mian}", "it.baseline", "Did you mean 'main'?"),
        ("{metric: ability, model: llama, at_least: 0.5}", "it", "needs the name of a task or group"),
        ("{metric: ability, task: kobest_helaswag, model: llama, at_least: 0.5}", "it.task", "'kobest_hellaswag'?"),
        ("{metric: ability, task: kobest_boolq, model: llama, at_least: 0.5}", "it.task", "does not test"),
        ("{metric: ability, task: my_task, model: tuned, at_least: 0.5}", "it.model", "lm_eval does not test 'tuned'"),
        ("{metric: decode_tokens_per_second, model: tuned, at_least: 5}", "it.metric", "does not measure this"),
        ("{metric: decode_tokens_per_second, model: llama, at_least: 5}", "it", "(batch_size: 1 or 8)"),
        (
            "{metric: decode_tokens_per_second, model: llama, at_least: 5, conditions: {batch_size: 4}}",
            "it.conditions",
            "nothing is measured of 'llama' at batch_size: 4",
        ),
        (
            "{metric: decode_tokens_per_second, model: llama, at_least: 5, conditions: {batchsize: 8}}",
            "it.conditions.batchsize",
            "Did you mean 'batch_size'?",
        ),
        ("{metric: load_seconds, model: llama_tuned, max_rise: 5}", "it.max_rise", "compared by its quotient"),
        ("{metric: load_seconds, model: llama_tuned, max_ratio: 2, may_differ: [machine]}", "it.may_differ", "without"),
        (
            "{metric: peak_process_rss_bytes, model: llama, conditions: {batch_size: 1}, at_most: 5, bound: high}",
            "it.bound",
            "single value without an interval",
        ),
        ("{metric: training_seconds, model: llama, at_most: 5}", "it.model", "give `training`"),
        ("{metric: training_seconds, training: lroa, at_most: 5}", "it.training", "Did you mean 'lora'?"),
        ("{metric: training_seconds, training: lora, max_ratio: 1.1}", "it", "give its name, baseline"),
    ],
)
def test_what_is_wrong_is_named_at_its_place(folder: Path, gate: str, key: str, problem: str) -> None:
    found = faults(folder, gate, baselines=("main",))
    line = (folder / "suite.yaml").read_text(encoding="utf-8").splitlines().index(f"  it: {gate}") + 1
    assert any(one.startswith(f"suite.yaml:{line}: gates.{key}: ") and problem in one for one in found), found


def test_the_saved_runs_are_not_checked_where_they_are_not_known(folder: Path) -> None:
    assert faults(folder, "{metric: refusal, model: tuned, max_drop: 0.5, baseline: main}", baselines=None) == []


def test_a_suite_without_lm_eval_has_no_ability_to_judge(folder: Path) -> None:
    write_suite(folder, "gates:\n  it: {metric: ability, task: click, model: tuned, at_least: 0.5}\n")
    with pytest.raises(InvalidInput, match="it has no lm_eval"):
        load_suite(Path("suite.yaml"))


def test_a_faulty_section_makes_no_further_faults_in_gates(folder: Path) -> None:
    text = (folder / "suite.yaml").read_text(encoding="utf-8").replace("compare_to: base", "compare_to: 5")
    gates = (
        "lm_eval: 5\nperformance: {throughput: [1]}\ngates:\n"
        "  a: {metric: refusal, model: tuned, max_drop: 0}\n"
        "  b: {metric: ability, task: click, model: tuned, max_drop: 0}\n"
        "  c: {metric: decode_tokens_per_second, model: tuned, at_least: 1}\n"
        "  d: {metric: refusl, model: tuned, at_least: 1}\n"
    )
    (folder / "suite.yaml").write_text(text + gates, encoding="utf-8")
    with pytest.raises(InvalidInput) as found:
        load_suite(Path("suite.yaml"))
    assert [fault.key for fault in found.value.faults] == [
        "models.tuned.compare_to",
        "lm_eval",
        "performance.throughput",
        "gates.d.metric",
    ]


def test_an_override_reaches_into_a_gate(folder: Path) -> None:
    write_suite(folder, "gates:\n  it: {metric: refusal, model: tuned, at_least: 0.5}\n")
    assert load_suite(Path("suite.yaml"), ["gates.it.at_least=0.9"]).suite.gates["it"].at_least == 0.9
    assert load_suite(Path("suite.yaml"), ["gates={}"]).suite.gates == {}
    with pytest.raises(InvalidInput, match=r"no 'gates.itt'. Did you mean 'it'\?"):
        load_suite(Path("suite.yaml"), ["gates.itt.at_least=0.9"])


def test_every_measurement_that_is_made_can_be_judged() -> None:
    """Names in the workloads' source and on the page; the vocabulary of gates must follow them."""
    sources = (Path(__file__).parents[2] / "harness/workloads").glob("*.py")
    made = {name for path in sources for name in re.findall(r'\.one\(\s*"([a-z0-9_]+)"', path.read_text("utf-8"))}
    assert {"decode_tokens_per_second", "load_seconds", "training_step_seconds"} <= made
    assert (made | set(KINDS)) - set(MEASUREMENTS) - {"training_loss"} == set()
    assert SILENT <= HOW_IT_WAS_RUN
