"""Reading suites: every fault is reported, at once, at its place, in words a person can act on."""

from __future__ import annotations

import json
import subprocess
import sys
import typing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.errors import Fault, InvalidInput
from harness.suite import Optimizer, Schedule, Section, Suite
from harness.suite_file import LoadedSuite, load_suite
from harness.suite_schema import reference_text, schema_text

PROJECT = Path(__file__).parent.parent

GOOD = """\
name: demo
prompts: [prompts.jsonl]
models:
  base:
    path: ./model
    prompt_format: alpaca_ko
  tuned:
    like: base
    adapter:
      trained_by: lora
    compare_to: base
training:
  lora:
    model: base
    data: {path: rows.jsonl}
    trainer: {max_steps: 3, learning_rate: 2e-4}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with everything the GOOD suite names, as the current folder."""
    monkeypatch.chdir(tmp_path)
    rows: list[dict[str, str | None]] = [
        {"id": "h1", "expected": "refuse", "pair_id": "p1"},
        {"id": "l1", "expected": "comply", "pair_id": "p1"},
        {"id": "g1", "expected": "comply", "pair_id": None},
    ]
    rest: dict[str, str | None] = {"text": "질문", "category": "demo", "source": "handwritten", "licence": "Apache-2.0"}
    Path("prompts.jsonl").write_text("".join(json.dumps(row | rest) + "\n" for row in rows), encoding="utf-8")
    Path("rows.jsonl").write_text('{"instruction": "질문", "output": "답"}\n', encoding="utf-8")
    Path("model").mkdir()
    Path("model/config.json").write_text("{}", encoding="utf-8")
    return tmp_path


def load(text: str, *overrides: str) -> LoadedSuite:
    Path("suite.yaml").write_text(text, encoding="utf-8")
    return load_suite(Path("suite.yaml"), overrides)


def faults(text: str, *overrides: str) -> list[Fault]:
    with pytest.raises(InvalidInput) as caught:
        load(text, *overrides)
    assert caught.value.exit_status != 0
    return caught.value.faults


def only_fault(text: str, *overrides: str) -> Fault:
    found = faults(text, *overrides)
    assert len(found) == 1, "\n".join(map(str, found))
    return found[0]


def changed(old: str, new: str) -> str:
    assert GOOD.count(old) == 1
    return GOOD.replace(old, new)


def test_a_good_suite_loads_with_prompts_and_inherited_values(folder: Path) -> None:
    loaded = load(GOOD)
    tuned = loaded.suite.models["tuned"]
    assert (tuned.path, tuned.prompt_format, tuned.compare_to) == ("./model", "alpaca_ko", "base")
    assert tuned.adapter is not None and loaded.suite.models["base"].adapter is None
    assert loaded.suite.training["lora"].trainer.learning_rate == 2e-4
    assert [prompt.id for prompt in loaded.prompts] == ["h1", "l1", "g1"]
    assert loaded.categories["demo"].ko == "demo"
    assert loaded.resolve("./model") == folder / "model"
    assert loaded.locate("model") == str(folder / "model")
    assert loaded.locate("organisation/model") == "organisation/model"


def test_values_are_inherited_along_a_chain_and_the_nearest_wins(folder: Path) -> None:
    text = changed("training:", "  third:\n    like: tuned\n    dtype: bfloat16\n    adapter: null\ntraining:")
    third = load(text, "models.tuned.device=cpu").suite.models["third"]
    assert (third.dtype, third.device, third.path, third.adapter) == ("bfloat16", "cpu", "./model", None)


def test_overrides_reach_the_models_that_inherit(folder: Path) -> None:
    loaded = load(GOOD, "models.base.dtype=bfloat16", "sampling.temperature=0.5", "sampling.repeats=2")
    assert {model.dtype for model in loaded.suite.models.values()} == {"bfloat16"}
    assert (loaded.suite.sampling.temperature, loaded.suite.sampling.repeats) == (0.5, 2)


def test_an_override_replaces_a_faulty_value(folder: Path) -> None:
    text = changed("path: ./model", "path: ./model\n    dtype: float23")
    assert load(text, "models.base.dtype=float32").suite.models["base"].dtype == "float32"


def test_a_path_on_the_command_line_is_looked_for_in_the_current_folder(folder: Path) -> None:
    Path("suites").mkdir()
    Path("suites/suite.yaml").write_text(GOOD.replace("prompts: [", "prompts: [../"), encoding="utf-8")
    Path("suites/rows.jsonl").write_text("{}\n", encoding="utf-8")
    loaded = load_suite(Path("suites/suite.yaml"), ["models.base.path=model"])
    assert loaded.locate(loaded.suite.models["base"].path) == str(folder / "model")


@pytest.mark.parametrize(
    ("override", "key", "problem", "nearest"),
    [
        ("models.base.dtpye=float32", "models.base.dtpye", "unknown key", "dtype"),
        ("models.bas.dtype=float32", "models.bas.dtype", "no 'models.bas'", "base"),
        ("modles.base.dtype=float32", "modles", "unknown key", "models"),
        ("models.base.dtype=float31", "models.base.dtype", "must be 'float32'", "float32"),
        ("models.base.dtype", "", "KEY=VALUE", None),
        ("=float32", "", "KEY=VALUE", None),
        ("prompts.0=x", "prompts.0", "override it whole", None),
        ("models.base.path=[a", "models.base.path", "not valid YAML", None),
    ],
)
def test_faulty_overrides_name_the_command_line(
    folder: Path, override: str, key: str, problem: str, nearest: str | None
) -> None:
    fault = only_fault(GOOD, override)
    assert fault.file.startswith("command line (-o ") and fault.line is None
    assert (fault.key, fault.nearest) == (key, nearest)
    assert problem in fault.problem


# Each row: text taken out of GOOD, what is put there, then line, key, part of the sentence and nearest name.
FAULTS: list[tuple[str, str, int, str, str, str | None]] = [
    ("name: demo", "nmae: demo\nname: demo", 1, "nmae", "unknown key", "name"),
    ("name: demo", "name: Demo", 1, "name", "lower-case", None),
    ("name: demo", "name: 3", 1, "name", "must be text; it is 3", None),
    ("name: demo", "description: x", 1, "name", "required key is missing", None),
    ("name: demo", "name: demo\nname: demo", 2, "name", "given twice (first on line 1)", None),
    ("[prompts.jsonl]", "prompts.jsonl", 2, "prompts", "must be a list; it is 'prompts.jsonl'", None),
    ("[prompts.jsonl]", "[promts.jsonl]", 2, "prompts.0", "there is no file promts.jsonl", "prompts.jsonl"),
    ("[prompts.jsonl]", "[prompts.jsonl, prompts.jsonl]", 2, "prompts.1", "named twice", None),
    ("path: ./model", "path: ./modle", 5, "models.base.path", "no folder modle", "model"),
    ("path: ./model", "path: .", 5, "models.base.path", "has no config.json", None),
    ("path: ./model", "path: a b", 5, "models.base.path", "hub name", None),
    ("path: ./model", "path: ./model\n    revision: main", 6, "models.base.revision", "no revision", None),
    ("path: ./model", "pth: ./model\n    path: ./model", 5, "models.base.pth", "unknown key", "path"),
    ("path: ./model", "path: ./model\n    script: x", 6, "models.base.script", "'scripted'", None),
    ("    path: ./model\n", "", 4, "models.base.path", "needs a local folder or a hub name", None),
    ("path: ./model", "path: ./model\n    dtype: no", 6, "models.base.dtype", "'bfloat16' or 'float16'", None),
    ("path: ./model", "path: ./model\n    trust_remote_code: yes", 6, "models.base.trust_remote_code",
     "must be true or false; it is 'yes'", None),
    ("path: ./model", "path: ./model\n    max_seq_length: 1.5", 6, "models.base.max_seq_length",
     "whole number; it is 1.5", None),
    ("path: ./model", "path: ./model\n    max_seq_length: 20", 6, "models.base.max_seq_length",
     "answer of 256 tokens (sampling.max_new_tokens)", None),
    ("like: base", "like: bass", 8, "models.tuned.like", "no model 'bass'", "base"),
    ("like: base", "like: tuned", 8, "models.tuned.like", "tuned -> tuned", None),
    ("trained_by: lora", "trained_by: lara", 10, "models.tuned.adapter.trained_by", "no training step", "lora"),
    ("trained_by: lora", "mode: merged", 9, "models.tuned.adapter", "neither is given", None),
    ("trained_by: lora", "trained_by: lora\n      path: ./model", 9, "models.tuned.adapter", "not both", None),
    ("trained_by: lora", "path: ./model", 10, "models.tuned.adapter.path", "no adapter_config.json", None),
    ("trained_by: lora", "trained_by: lora\n      revision: x", 11, "models.tuned.adapter.revision", "no rev", None),
    ("compare_to: base", "compare_to: bese", 11, "models.tuned.compare_to", "no model 'bese'", "base"),
    ("compare_to: base", "compare_to: tuned", 11, "models.tuned.compare_to", "its own baseline", None),
    ("    compare_to: base\n", "", 7, "models.tuned.compare_to", "baseline", None),
    ("compare_to: base", "prompt_format: plain\n    compare_to: base", 11, "models.tuned.prompt_format",
     "trains with ('alpaca_ko')", None),
    ("model: base", "model: bsae", 14, "training.lora.model", "no model 'bsae'", "base"),
    ("model: base", "model: tuned", 14, "training.lora.model", "has an adapter", None),
    ("    model: base\n", "", 13, "training.lora.model", "required key is missing", None),
    ("rows.jsonl", "row.jsonl", 15, "training.lora.data.path", "no file row.jsonl", "rows.jsonl"),
    ("rows.jsonl", "model/config.json", 0, "", "", None),
    ("rows.jsonl}", "rows.jsonl, hub: a/b}", 15, "training.lora.data", "not both", None),
    ("rows.jsonl}", "rows.jsonl, split: test}", 15, "training.lora.data.split", "hub data set", None),
    ("path: rows.jsonl", "limit: 1", 15, "training.lora.data", "neither is given", None),
    ("path: rows.jsonl", "hub: 'a b'", 15, "training.lora.data.hub", "not a hub name", None),
    ("max_steps: 3, ", "", 16, "training.lora.trainer", "neither is given", None),
    ("max_steps: 3", "max_steps: 3, num_train_epochs: 1", 16, "training.lora.trainer", "not both", None),
    ("max_steps: 3", "max_steps: 3, fp16: true, bf16: true", 16, "training.lora.trainer.bf16", "exclude", None),
    ("max_steps: 3", "max_steps: 0", 16, "training.lora.trainer.max_steps", "at least 1; it is 0", None),
    ("max_steps: 3", "max_steps: 3, optim: adamw_8bits", 16, "training.lora.trainer.optim", "must be", "adamw_8bit"),
    ("max_steps: 3", "max_steps: 3, output_dir: a/b", 16, "training.lora.trainer.output_dir", "plain file", None),
    ("2e-4", "1e999", 16, "training.lora.trainer.learning_rate", "finite number", None),
    ("model: base", "model: base\n    lora_alpha: 3", 15, "training.lora.lora_alpha", "belongs under 'lora'", None),
    ("model: base", "model: base\n    lora: {use_gradient_checkpointing: unslot}", 15,
     "training.lora.lora.use_gradient_checkpointing", "true or false or must be 'unsloth'", "unsloth"),
    ("model: base", "model: base\n    lora: {use_gradient_checkpointing: unsloth}", 15,
     "training.lora.lora.use_gradient_checkpointing", "needs the unsloth backend", None),
    ("model: base", "model: base\n    lora:", 15, "training.lora.lora", "must be a mapping", None),
    ("training:", "sampling: {repeats: 2}\ntraining:", 12, "sampling.repeats", "temperature", None),
    ("training:", "sampling: {top_p: 0.5}\ntraining:", 12, "sampling.top_p", "temperature", None),
    ("training:", "sampling: {batch_size: much}\ntraining:", 12, "sampling.batch_size",
     "must be a whole number or must be 'auto'; it is 'much'", None),
    ("training:", "performance: {throughput: {models: [tunde]}}\ntraining:", 12,
     "performance.throughput.models.0", "no model 'tunde'", "tuned"),
    ("training:", "performance: {precision: {model: bas, dtypes: [float32, bfloat16]}}\ntraining:", 12,
     "performance.precision.model", "no model 'bas'", "base"),
    ("training:", "performance: {precision: {model: base, dtypes: [float32, float32]}}\ntraining:", 12,
     "performance.precision.dtypes", "named twice", None),
    ("training:", "performance: {precision: {model: base, dtypes: [float32, floaty]}}\ntraining:", 12,
     "performance.precision.dtypes.1", "must be 'float32'", "float32"),
    ("training:", "performance: {throughput: {prompt_tokens: 2048}}\ntraining:", 12,
     "performance.throughput", "2080 tokens in and out", None),
    ("training:", "performance: {throughput: {new_tokens: [32, 2048]}}\ntraining:", 12,
     "performance.throughput", "2112 tokens in and out", None),
    ("training:", "performance: {throughput: {prompt_tokens: [64, 1]}}\ntraining:", 12,
     "performance.throughput.prompt_tokens", "must be at least 2", None),
    ("training:", "performance: {throughput: {points: [{batch: 1, prompt_tokens: 8, new_tokens: 8}]}}\ntraining:", 12,
     "performance.throughput.points.0.batch", "unknown key", "batch_size"),
    ("training:", "performance: {throughput: {points: [{batch_size: 1, new_tokens: 8}]}}\ntraining:", 12,
     "performance.throughput.points.0.prompt_tokens", "required key is missing", None),
    ("training:", "performance: {throughput: {prompt_tokens: [8], points: "
     "[{batch_size: 1, prompt_tokens: 8, new_tokens: 8}]}}\ntraining:", 12,
     "performance.throughput.prompt_tokens", "either this or points", None),
    ("training:", "performance: {precision: {model: base, dtypes: [bfloat16]}}\ntraining:", 12,
     "performance.precision.dtypes", "at least two precisions", None),
    ("training:", "performance: {precision: {model: base, points: [{dtype: bfloat16}, {dtype: bfloat16}]}}\n"
     "training:", 12, "performance.precision.points", "named twice", None),
    ("training:", "performance: {precision: {model: base, dtypes: [bfloat16, float16], quantizations: [4bits]}}\n"
     "training:", 12, "performance.precision.quantizations.0", "must be 'none', '4bit' or '8bit'", "4bit"),
    ("training:", "performance: {roofline: true}\ntraining:", 12,
     "performance.roofline", "nothing to show", None),
    ("training:", "taxonomy: taxonomy.yaml\ntraining:", 12, "taxonomy", "there is no file", None),
    ("training:", "grading: {guards: {g: {path: ./modl, labels: {a: refusal}}}}\ntraining:", 12,
     "grading.guards.g.path", "no folder modl", "model"),
    ("training:", "grading: {guards: {g: {path: ./model, labels: {a: refusal}, template: '$answer'}}}\ntraining:", 12,
     "grading.guards.g.template", "only a guard with kind: causal_lm", None),
    ("training:", "grading: {guards: {g: {path: ./model, labels: {a: refusal}, kind: causal_lm, reads: answer}}}\n"
     "training:", 12, "grading.guards.g.reads", "only a guard with kind: sequence_classifier", None),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "line", "key", "problem", "nearest"), FAULTS)
def test_each_fault_is_found_alone_with_its_place(
    folder: Path, old: str, new: str, line: int, key: str, problem: str, nearest: str | None
) -> None:
    if not key:  # a counter-check: this change is no fault
        load(changed(old, new))
        return
    found = faults(changed(old, new))
    wanted = [fault for fault in found if fault.key == key]
    assert wanted, "\n".join(map(str, found))
    assert (wanted[0].file, wanted[0].line, wanted[0].nearest) == ("suite.yaml", line, nearest)
    assert problem in wanted[0].problem
    others = [fault for fault in found if fault.key != key]
    assert all("throughput" in fault.key for fault in others), others


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("models.base.dtype=float16", "models.base.dtype"),
        ("models.base.quantization=4bit", "models.base.quantization"),
        ("models.base.attention=flash_attention_2", "models.base.attention"),
        ("models.base.backend=unsloth", "models.base.backend"),
        ("training.lora.dtype=float16", "training.lora.dtype"),
        ("training.lora.load_in_4bit=true", "training.lora.load_in_4bit"),
        ("training.lora.trainer.fp16=true", "training.lora.trainer.fp16"),
    ],
)
def test_what_a_cpu_cannot_do_is_a_fault_only_with_device_cpu(folder: Path, override: str, key: str) -> None:
    text = changed("path: ./model", "path: ./model\n    device: cpu")
    found = faults(text, override)
    assert key in [fault.key for fault in found]
    if override.endswith("float16"):
        assert "float16 arithmetic on a CPU is uselessly slow: use bfloat16 or float32" in str(found[0])
    load(GOOD, override, "models.base.dtype=bfloat16") if "models.base.dtype" not in override else load(GOOD, override)


def test_all_faults_come_at_once(folder: Path) -> None:
    text = """\
nmae: demo
prompts: [missing.jsonl, prompts.jsonl]
models:
  base: {path: ./nowhere, dtype: half, prompt_format: alpaca_ko}
  tuned: {like: base, adapter: {trained_by: lora}, compare_to: bose}
training:
  lora: {model: base, data: {path: none.csv}, trainer: {max_steps: many}}
sampling: {repeats: 3}
"""
    keys = [fault.key for fault in faults(text, "models.base.devcie=cpu")]
    assert sorted(keys) == [
        "models.base.devcie",
        "models.base.dtype",
        "models.base.path",
        "models.tuned.compare_to",
        "name",
        "nmae",
        "prompts.0",
        "sampling.repeats",
        "training.lora.data.path",
        "training.lora.trainer.max_steps",
    ]


def test_a_fault_reads_as_one_sentence(folder: Path) -> None:
    text = str(only_fault(changed("compare_to: base", "compare_to: bese")))
    assert text == "suite.yaml:11: models.tuned.compare_to: there is no model 'bese'. Did you mean 'base'?"


def test_a_cycle_of_likes_is_reported_and_ends(folder: Path) -> None:
    text = changed("path: ./model", "like: tuned")
    assert any("base -> tuned -> base" in fault.problem for fault in faults(text))


def test_scripted_models(folder: Path) -> None:
    text = "name: demo\nprompts: [prompts.jsonl]\nmodels:\n  base: {backend: scripted, script: script.jsonl}\n"
    assert "no file script.jsonl" in only_fault(text).problem
    script = Path("script.jsonl")
    script.write_text('{"prompt_id": "h1", "text": "답"}\n{"prompt_id": "l1"}\n', encoding="utf-8")
    fault = only_fault(text)
    assert (fault.file, fault.line, fault.key) == ("script.jsonl", 2, "text")
    script.write_text('{"prompt_id": "h1", "text": "답"}\n', encoding="utf-8")
    assert "no answer to prompt 'l1' and to 1 more" in only_fault(text).problem
    script.write_text("".join(f'{{"prompt_id": "{i}", "text": ""}}\n' for i in ("h1", "l1", "g1")), encoding="utf-8")
    assert load(text).suite.models["base"].script == "script.jsonl"
    assert only_fault(text, "models.base.script=null").key == "models.base.script"
    assert only_fault(text, "models.base.path=./model").key == "models.base.path"
    timed = text + "performance: {throughput: {models: [base]}}\n"
    assert "cannot be timed" in only_fault(timed).problem


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("name: [1, 2\nmodels: 3\n", 2, "not valid YAML"),
        ("name: 'x\n", 2, "not valid YAML"),
        ("", 1, "'key: value' lines"),
        ("- a\n", 1, "'key: value' lines"),
        ("a: 1\n---\nb: 2\n", 2, "not valid YAML"),
        ("name: \x00\n", None, "not valid YAML"),
    ],
)
def test_what_is_no_yaml_mapping_is_one_fault(folder: Path, text: str, line: int | None, problem: str) -> None:
    fault = only_fault(text)
    assert fault.line == line and problem in fault.problem


def test_odd_yaml_is_a_fault_and_never_a_crash(folder: Path) -> None:
    assert any("anchor" in fault.problem for fault in faults("name: &a [*a]\n"))
    assert any("tags" in fault.problem for fault in faults(changed("name: demo", "name: !!binary aGk=")))
    assert any("plain word" in fault.problem for fault in faults(changed("name: demo", "name: demo\n? [a]\n: b")))


@pytest.mark.parametrize(
    "value", ['"a\\0b"', '"\\ud800"', '"./\\x07"', "./" + "a" * 5000, "a" * 5000, "a/" * 3000, "''"]
)
@pytest.mark.parametrize("key", ["models.base.path", "taxonomy", "training.lora.data.path"])
def test_impossible_paths_are_faults(folder: Path, key: str, value: str) -> None:
    assert key in [fault.key for fault in faults(GOOD, f"{key}={value}")]


def test_missing_and_unreadable_suite_files(folder: Path) -> None:
    load(GOOD)
    with pytest.raises(InvalidInput, match="no such file. Did you mean 'suite.yaml'") as caught:
        load_suite(Path("siute.yaml"))
    assert len(caught.value.faults) == 1
    Path("latin.yaml").write_bytes("name: é".encode("latin-1"))
    with pytest.raises(InvalidInput, match="not UTF-8"):
        load_suite(Path("latin.yaml"))
    with pytest.raises(InvalidInput, match="model: this is a folder"):
        load_suite(Path("model"))


def test_work_of_a_wrong_type_is_one_fault(folder: Path) -> None:
    text = "name: demo\nprompts: prompts.jsonl\nmodels: {base: {path: ./model}}\n"
    assert [fault.key for fault in faults(text)] == ["prompts"]
    assert "asks for nothing" in faults(text.replace("prompts: prompts.jsonl\n", ""))[0].problem
    assert [fault.nearest for fault in faults(text.replace("prompts: ", "promts: "))] == ["prompts"]


def test_a_misspelt_key_is_one_fault_and_not_also_what_its_default_would_cause(folder: Path) -> None:
    text = "name: demo\nprompts: [prompts.jsonl]\nmodels: {base: {path: ./model, max_seq_length: 256}}\n"
    asked = f"{text}sampling: {{max_new_tokens: 64}}\n"
    assert [fault.nearest for fault in faults(asked.replace("_tokens", "_token"))] == ["max_new_tokens"]
    twice = faults(asked.replace("{max_new", "{max_new_token: 64, max_new").replace("s: 64}", "s: 256}"))
    assert [fault.key for fault in twice] == ["models.base.max_seq_length", "sampling.max_new_token"]


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["base", "tuned"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
model_keys = ["path", "like", "adapter", "adapter.path", "compare_to", "script", "revision"]
training_keys = ["model", "data", "data.path", "lora.target_modules", "trainer.max_steps"]
other_keys = ["name", "prompts", "taxonomy", "models", "training", "sampling", "sampling.batch_size", "performance"]
key_paths = st.sampled_from(
    [f"models.{name}{key}" for name in ("base", "tuned") for key in ("", *(f".{key}" for key in model_keys))]
    + [f"training.lora.{key}" for key in training_keys]
    + [*other_keys, "training.lora", "performance.throughput.models", "grading.judges"]
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.dictionaries(key_paths, values, max_size=3))
def test_any_value_anywhere_is_a_suite_or_a_list_of_faults(folder: Path, changes: dict[str, object]) -> None:
    overrides = [f"{key}={json.dumps(value)}" for key, value in changes.items()]
    try:
        load(GOOD, *overrides)
    except InvalidInput as error:
        assert error.faults and all(str(fault) for fault in error.faults)


def test_a_key_typed_where_its_variable_belongs_is_not_repeated(folder: Path) -> None:
    judge = "grading: {judges: {j: {endpoint: 'http://h/v1', model: m, api_key_env: sk-secret-1}}}\ntraining:"
    text = changed("training:", judge)
    assert "secret" not in str(InvalidInput(faults(text)))
    assert "secret" not in str(InvalidInput(faults(GOOD, "grading.judges={j: {api_key_env: sk-secret-1}}")))


def required_keys() -> list[str]:
    """Every key without a default, with a path to it."""
    found: list[str] = []

    def walk(section: type[Section], path: str) -> None:
        for key, field in section.model_fields.items():
            if field.is_required():
                found.append(f"{path}{key}")
            if typing.get_origin(field.annotation) is tuple:
                continue  # a list's items have numbers for keys, which the test below does not make
            for inner in (field.annotation, *typing.get_args(field.annotation)):
                if isinstance(inner, type) and issubclass(inner, Section):
                    walk(inner, f"{path}{key}." + ("x." if typing.get_origin(field.annotation) is dict else ""))

    walk(Suite, "")
    return found


@pytest.mark.parametrize("key", required_keys())
def test_every_required_key_is_reported_when_it_is_missing(folder: Path, key: str) -> None:
    models = {"base": {"path": "./model"}}
    document: dict[str, object] = {"name": "demo", "prompts": ["prompts.jsonl"], "models": models}
    values: typing.Any = document
    *outer, last = key.split(".")
    for part in outer:
        values = values.setdefault(part, {})
    values.pop(last, None)
    assert key in [fault.key for fault in faults(json.dumps(document))]


def test_optimizers_and_schedules_are_known_to_transformers() -> None:
    from transformers.trainer_utils import SchedulerType
    from transformers.training_args import OptimizerNames

    assert set(typing.get_args(Optimizer)) <= {name.value for name in OptimizerNames}
    assert set(typing.get_args(Schedule)) <= {name.value for name in SchedulerType}


def test_generated_files_are_current() -> None:
    hint = "run python -m harness.suite_schema"
    assert (PROJECT / "suites/suite.schema.json").read_text(encoding="utf-8") == schema_text(), hint
    assert (PROJECT / "docs/suite.md").read_text(encoding="utf-8") == reference_text(), hint


@pytest.mark.parametrize("suite", sorted((PROJECT / "suites").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_shipped_suites_are_valid_and_name_their_schema(suite: Path) -> None:
    loaded = load_suite(suite)
    assert loaded.suite.name == suite.stem
    assert suite.read_text(encoding="utf-8").startswith("# yaml-language-server: $schema=suite.schema.json\n")


def test_the_shipped_8b_suite_is_the_published_recipe() -> None:
    suite = load_suite(PROJECT / "suites/llama31_8b_ko.yaml").suite
    training = suite.training["safety_lora"]
    assert (suite.models["base"].path, suite.models["base"].backend) == ("unsloth/Meta-Llama-3.1-8B", "unsloth")
    assert (training.load_in_4bit, training.max_seq_length) == (True, 2048)
    lora, trainer = training.lora, training.trainer
    assert (lora.r, lora.lora_alpha, lora.lora_dropout, lora.bias, lora.random_state) == (16, 16, 0, "none", 3407)
    assert len(lora.target_modules) == 7 and lora.use_gradient_checkpointing == "unsloth"
    assert (trainer.per_device_train_batch_size, trainer.gradient_accumulation_steps) == (2, 4)
    assert (trainer.warmup_steps, trainer.max_steps, trainer.learning_rate) == (5, 60, 2e-4)
    assert (trainer.optim, trainer.weight_decay, trainer.lr_scheduler_type) == ("adamw_8bit", 0.01, "linear")
    assert (trainer.seed, trainer.packing) == (3407, False)


def test_reading_a_suite_loads_no_heavy_library() -> None:
    program = (
        "import sys; from pathlib import Path; from harness.suite_file import load_suite;"
        "load_suite(Path('suites/smoke.yaml'));"
        "print([name for name in ('torch', 'scipy', 'numpy', 'statsmodels', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
